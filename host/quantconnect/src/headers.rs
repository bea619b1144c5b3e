//! What the headers of an answer tell: the rate limit, how long to wait, and how far this machine's clock is off.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The rate limit in the headers of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in a period (`X-RateLimit-Limit` or `RateLimit-Limit`).
    pub limit: Option<u64>,
    /// Requests left in this period (`X-RateLimit-Remaining` or `RateLimit-Remaining`).
    pub remaining: Option<u64>,
    /// How long the server asks to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl RateLimit {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let number = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse().ok())
        };
        Self {
            limit: number(["x-ratelimit-limit", "ratelimit-limit"]),
            remaining: number(["x-ratelimit-remaining", "ratelimit-remaining"]),
            retry_after: retry_after(headers, SystemTime::now()),
        }
    }
}

/// `Retry-After`, limited to the host's maximum wait.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    qchost_catalog::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// The server's clock minus ours, in seconds.
pub(crate) fn skew(headers: &HeaderMap, now: SystemTime) -> Option<f64> {
    let server = http_date(headers.get(DATE)?.to_str().ok()?)?;
    // `Date` is truncated to the second: adding half a second removes the bias.
    Some(server + 0.5 - unix_seconds(now)?)
}

fn http_date(text: &str) -> Option<f64> {
    let zoned = rfc2822::parse(text).ok()?;
    Some(Timestamp::from(&zoned).as_duration().as_secs_f64())
}

fn unix_seconds(time: SystemTime) -> Option<f64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn at(unix: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(unix)
    }

    #[test]
    fn the_skew_is_the_servers_clock_minus_ours() {
        let headers = headers(DATE, "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(skew(&headers, at(1_700_000_600)), Some(-599.5));
        assert_eq!(skew(&headers, at(1_699_999_400)), Some(600.5));
        assert_eq!(skew(&HeaderMap::new(), at(0)), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_ignored(value in "[ -~]{0,40}") {
            let _ = retry_after(&headers(RETRY_AFTER, &value), at(1_700_000_000));
            let _ = skew(&headers(DATE, &value), at(1_700_000_000));
        }
    }
}
