//! The parts of a refusal that do not concern the call: credentials, and how long to wait.
//!
//! Invariant: a refusal concerns the credentials only if it begins with known words. Arguments of the call that a
//! refusal repeats are no evidence, so a caller that knows the arguments masks them first.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The longest wait that a server may request. A longer one is a mistake of the server or an attempt to stop the
/// host, and would outlast any caller.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Beginnings of QuantConnect's refusals of the credentials.
const CREDENTIALS: [&str; 4] = [
    "hash doesn't match",
    "hash does not match",
    "userid not valid",
    "user id not valid",
];

/// Beginnings of its refusals of their time stamp.
const CLOCK: [&str; 2] = ["invalid timestamp", "timestamp not valid"];

/// What is refused of the credentials of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsRefusal {
    /// The user id or the token.
    Credentials,
    /// The time stamp: this machine's clock differs from QuantConnect's.
    Clock,
}

impl CredentialsRefusal {
    /// Reads one of QuantConnect's `errors`; `None` if it is about something else.
    #[must_use]
    pub fn parse(error: &str) -> Option<Self> {
        let error = error.trim_start().to_ascii_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| begins(&error, phrase));
        match () {
            () if says(&CLOCK) => Some(Self::Clock),
            () if says(&CREDENTIALS) => Some(Self::Credentials),
            () => None,
        }
    }
}

/// Whether a text begins with a phrase that ends at a word boundary, unlike `hash doesn't match.py`.
#[must_use]
pub fn begins(text: &str, phrase: &str) -> bool {
    let Some(rest) = text.strip_prefix(phrase) else {
        return false;
    };
    let mut next = rest.chars();
    match next.next() {
        None => true,
        Some(c) if c.is_whitespace() => true,
        Some('.' | ',' | ':' | ';' | '!') => next.next().is_none_or(char::is_whitespace),
        Some(_) => false,
    }
}

/// Reads `Retry-After`: a number of seconds or an instant, at most [`MAX_RETRY_AFTER`].
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds mean a very long wait.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let then = SystemTime::from(Timestamp::from(&rfc2822::parse(value).ok()?));
        then.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn retry_after_takes_seconds_and_dates_and_is_never_more_than_a_day() {
        let wait = |value, now| retry_after(value, UNIX_EPOCH + Duration::from_secs(now));
        assert_eq!(wait(" 7 ", 0), Some(Duration::from_secs(7)));
        let date = "Tue, 14 Nov 2023 22:13:20 GMT"; // 1,700,000,000
        assert_eq!(wait(date, 1_699_999_990), Some(Duration::from_secs(10)));
        assert_eq!(wait(date, 1_700_000_990), Some(Duration::ZERO));
        for long in ["86401", "99999999999", "99999999999999999999999"] {
            assert_eq!(wait(long, 0), Some(MAX_RETRY_AFTER), "{long}");
        }
        assert_eq!(wait(date, 0), Some(MAX_RETRY_AFTER));
        for bad in ["", "soon", "-1", "1.5", "+1"] {
            assert_eq!(wait(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn only_what_begins_with_the_words_is_about_the_credentials() {
        use CredentialsRefusal::{Clock, Credentials};
        for (error, refusal) in [
            ("Hash doesn't match.", Some(Credentials)),
            ("UserID not valid", Some(Credentials)),
            ("Invalid timestamp, value received: 7", Some(Clock)),
            ("The file 'Hash doesn't match.' already exists", None),
            ("hash doesn't match.py already exists", None),
            ("hash.py already exists", None),
            ("Timestamp.py already exists", None),
            ("", None),
        ] {
            assert_eq!(CredentialsRefusal::parse(error), refusal, "{error}");
        }
    }
}
