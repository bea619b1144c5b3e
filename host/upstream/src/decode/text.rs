//! Errors sent as plain text: how QuantConnect's own server, and similar ones, report errors between them and the REST
//! API.
//!
//! The forms are those of FastMCP (`Error executing tool NAME: …`), of its validation library, and of its HTTP client,
//! whose time-outs have no text at all.
//!
//! Invariants: a form is recognised by words at a fixed position, as the start or the whole of the text, after everything
//! that repeats the call's arguments was masked ([`super::given`]). Unrecognised text never becomes a failure that is
//! retried, and for a non-idempotent operation it becomes `UnknownOutcome`.

use qchost_catalog::{Failure, begins};

use super::masked::ARGUMENT_MASK;
use super::{Decoder, names_unknown_tool};
use crate::fault::{Fault, Problem};

/// How the official server's HTTP client introduces a status: `Client error '404 Not Found' for url 'https://…'`.
const STATUS_MARKS: [&str; 3] = ["client error '", "server error '", "redirect response '"];

/// The request was not sent, or not accepted: the whole text, except for an error number.
const NOT_SENT: [&str; 7] = [
    "all connection attempts failed",
    "connection refused",
    "name or service not known",
    "temporary failure in name resolution",
    "no address associated with hostname",
    "nodename nor servname provided, or not known",
    "nodename nor servname provided",
];

/// Beginnings of QuantConnect's text for too many requests.
const RATE_LIMITED: [&str; 4] = [
    "too many requests",
    "rate limit exceeded",
    "rate limit reached",
    "rate limited",
];

/// Endings of its text for something that does not exist.
const NOT_FOUND: [&str; 3] = ["not found", "does not exist", "do not exist"];

/// Maximum words of the subject that is loading, with its verb.
const MAX_SUBJECT: usize = 5;

/// Beginnings of errors after which the request may have been carried out.
const MAYBE_SENT: [&str; 11] = [
    "the read operation timed out",
    "the write operation timed out",
    "the handshake operation timed out",
    "timed out",
    "timeout",
    "server disconnected",
    "connection reset",
    "connection reset by peer",
    "peer closed connection",
    "broken pipe",
    "connection closed",
];

impl Decoder<'_> {
    /// Classifies an error without a JSON body.
    pub(super) fn error_text(&self, text: &str) -> Fault {
        let message = without_inputs(message(text));
        let shown = self.redactor.line(&message);
        let masked = self.masked(&message);
        if names_unknown_tool(&masked) {
            return Failure::UnexpectedResponse(format!(
                "the server lacks a tool it listed: {shown}"
            ))
            .into();
        }
        match Validation::parse(&masked) {
            Some(Validation::OfArguments) => return Failure::InvalidArgument(shown).into(),
            Some(Validation::OfAnswer) => return Failure::UnexpectedResponse(shown).into(),
            None => {}
        }
        match http_status(&masked) {
            Some(429) => return Failure::RateLimited { retry_after: None }.into(),
            Some(500..) => return self.lost(&shown).into(),
            Some(401) => return self.refused_credentials(Problem::Unauthorized, &[message]),
            Some(400..) => return Failure::Rejected(vec![shown]).into(),
            Some(300..) => return Failure::UnexpectedResponse(shown).into(),
            _ => {}
        }
        let cause = without_number(&masked);
        if NOT_SENT.contains(&cause.trim_end_matches('.')) {
            let words = format!("the server cannot reach QuantConnect: {shown}");
            return Failure::Unavailable(words).into();
        }
        if message.trim().is_empty() {
            return self
                .lost("the server's own request to QuantConnect failed without a word, as its time-outs do")
                .into();
        }
        if MAYBE_SENT.iter().any(|phrase| begins(cause, phrase)) {
            return self.lost(&shown).into();
        }
        // The message of a JSON parser: QuantConnect answered, but not in JSON.
        if masked.starts_with("expecting value: line ") {
            return Failure::UnexpectedResponse(format!(
                "QuantConnect's answer is no JSON: {shown}"
            ))
            .into();
        }
        match self.refusal(vec![message]) {
            Fault {
                failure: Failure::Rejected(_),
                ..
            } if !self.idempotent() => Failure::UnknownOutcome(shown).into(),
            fault => fault,
        }
    }
}

/// What failed to validate.
enum Validation {
    OfArguments,
    OfAnswer,
}

impl Validation {
    /// The arguments of a tool `f` are validated as a model `fArguments`; any other validation failure concerns the
    /// answer. `masked` is in lower case.
    fn parse(masked: &str) -> Option<Self> {
        let first = masked.lines().next()?.trim_end();
        let count = first.trim_start_matches(|c: char| c.is_ascii_digit());
        let of_model = [" validation error for ", " validation errors for "];
        let is_of_model = count.len() < first.len()
            && of_model.iter().any(|phrase| count.starts_with(phrase))
            || of_model
                .iter()
                .any(|phrase| first.starts_with(phrase.trim_start()));
        match () {
            () if begins(first, "input validation error") => Some(Self::OfArguments),
            () if is_of_model && first.ends_with("arguments") => Some(Self::OfArguments),
            () if is_of_model || begins(first, "output validation error") => Some(Self::OfAnswer),
            () => None,
        }
    }
}

/// The text after `Error executing tool NAME:`, which is redundant.
fn message(text: &str) -> &str {
    text.trim()
        .strip_prefix("Error executing tool ")
        .and_then(|rest| rest.split_once(':'))
        .map_or(text.trim(), |(_, message)| message.trim())
}

/// The same without the inputs that a validation error quotes: they are the call's arguments, and an argument may be a
/// password.
fn without_inputs(message: &str) -> String {
    message
        .lines()
        .filter(|line| !line.trim_start().starts_with("For further information"))
        .map(|line| line.split(" [type=").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A message without its leading error number of the operating system: `[Errno 111] Connection refused`.
fn without_number(masked: &str) -> &str {
    masked
        .strip_prefix("[errno ")
        .and_then(|rest| rest.split_once("] "))
        .filter(|(number, _)| number.parse::<i32>().is_ok())
        .map_or(masked, |(_, cause)| cause)
}

/// The status that the server's HTTP client raised: the whole first line has its form.
fn http_status(masked: &str) -> Option<u16> {
    let first = masked.lines().next()?.trim_end();
    let framed = STATUS_MARKS
        .iter()
        .find_map(|mark| first.strip_prefix(mark))?;
    let (status, url) = framed.split_once("' for url '")?;
    if !url.ends_with('\'') {
        return None;
    }
    let digits = status.split(' ').next()?;
    let is_status = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_status.then(|| digits.parse().ok())?
}

/// "Chart is loading. Progress: 0.5": there is no other text, except for the progress.
pub(super) fn says_loading(masked: &str) -> bool {
    let end = masked.find(['.', ',', ':', ';', '!', '…', '(']);
    let (first, rest) = masked
        .split_at_checked(end.unwrap_or(masked.len()))
        .unwrap_or((masked, ""));
    let mut words = first.split_whitespace().rev();
    if words.next() != Some("loading") {
        return false;
    }
    let mut words: Vec<&str> = words.collect();
    let still = words.first() == Some(&"still");
    if still {
        words.remove(0);
    }
    let is_said_of = matches!(words.first(), Some(&("is" | "are")));
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_alphabetic());
    let rest = rest.trim_start_matches(|c: char| !c.is_alphanumeric() && c != ARGUMENT_MASK);
    (is_said_of || (still && words.is_empty()))
        && words.len() <= MAX_SUBJECT
        && words.iter().all(is_word)
        && (rest.is_empty() || rest.starts_with("progress") || rest.starts_with("please"))
}

/// The number after "Progress:", as a fraction of 1.
pub(super) fn loading_progress(masked: &str) -> Option<f64> {
    let (_, rest) = masked.split_once("progress")?;
    let rest = rest.trim_start_matches([':', ' ', '=']);
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, after) = rest.split_at_checked(end)?;
    let number: f64 = number.trim_end_matches('.').parse().ok()?;
    let progress = if after.starts_with('%') {
        number / 100.0
    } else {
        number
    };
    (0.0..=1.0).contains(&progress).then_some(progress)
}

/// "Too many requests, slow down"
pub(super) fn says_rate_limited(masked: &str) -> bool {
    !masked.contains(ARGUMENT_MASK) && RATE_LIMITED.iter().any(|phrase| begins(masked, phrase))
}

/// "Backtest not found", "File not found: main.py", "The file main.py does not exist.": the end of its first clause.
pub(super) fn says_not_found(masked: &str) -> bool {
    let masked = masked.replace("doesn't", "does not");
    let end = [": ", ". ", "; "]
        .iter()
        .filter_map(|mark| masked.find(mark))
        .min();
    let clause = masked
        .get(..end.unwrap_or(masked.len()))
        .unwrap_or_default();
    // A clause that ends inside of a quoted name is no evidence.
    let is_whole = ['\'', '"', '`']
        .iter()
        .all(|quote| clause.matches(*quote).count().is_multiple_of(2));
    let clause = clause.trim_end_matches(['.', '!', ',', ' ']);
    is_whole
        && NOT_FOUND.iter().any(|phrase| {
            let rest = clause.strip_suffix(phrase);
            rest.is_some_and(|rest| rest.ends_with(' '))
        })
}
