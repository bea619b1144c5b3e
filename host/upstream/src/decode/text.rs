//! Errors that come as plain text: how QuantConnect's own server, and others built like it,
//! report what went wrong between them and the REST API.
//!
//! The forms are those of FastMCP (`Error executing tool NAME: …`), of the validation library
//! behind it, and of its HTTP client, whose time-outs have no words at all.
//!
//! Invariant: text that is not recognised never becomes a failure that is retried, and for an
//! operation that must not be sent twice it becomes `UnknownOutcome`.

use qchost_catalog::Failure;

use super::{Decoder, names_unknown_tool};
use crate::fault::Fault;

/// How the words of an HTTP client introduce a status.
const STATUS_MARKS: [&str; 4] = [
    "client error '",
    "server error '",
    "redirect response '",
    "http ",
];

/// The request never left, or nobody was there to take it.
const NOT_SENT: [&str; 6] = [
    "all connection attempts failed",
    "connection refused",
    "name or service not known",
    "name resolution",
    "no address associated with hostname",
    "nodename nor servname provided",
];

/// The request may have been carried out.
const LOST: [&str; 7] = [
    "timed out",
    "timeout",
    "server disconnected",
    "connection reset",
    "peer closed connection",
    "broken pipe",
    "connection closed",
];

impl Decoder<'_> {
    /// What an error means that has no JSON body.
    pub(super) fn error_text(&self, text: &str) -> Fault {
        let message = without_inputs(message(text));
        let shown = self.redactor.line(&message);
        let lower = message.to_ascii_lowercase();
        let says = |marks: &[&str]| marks.iter().any(|mark| lower.contains(mark));
        if names_unknown_tool(&lower) {
            return Failure::UnexpectedResponse(format!(
                "the server lacks a tool it listed: {shown}"
            ))
            .into();
        }
        if lower.contains("validation error") {
            return if is_about_arguments(&message) {
                Failure::InvalidArgument(shown).into()
            } else {
                Failure::UnexpectedResponse(shown).into()
            };
        }
        match http_status(&lower) {
            Some(429) => return Failure::RateLimited { retry_after: None }.into(),
            Some(500..) => return self.lost(&shown).into(),
            Some(401) => return self.refusal(vec![message]),
            Some(400..) => return Failure::Rejected(vec![shown]).into(),
            Some(300..) => return Failure::UnexpectedResponse(shown).into(),
            _ => {}
        }
        if says(&NOT_SENT) {
            let words = format!("the server cannot reach QuantConnect: {shown}");
            return Failure::Unavailable(words).into();
        }
        if lower.trim().is_empty() {
            return self
                .lost("the server's own request to QuantConnect failed without a word, as its time-outs do")
                .into();
        }
        if says(&LOST) {
            return self.lost(&shown).into();
        }
        // The words of a JSON parser: QuantConnect answered, but not in JSON.
        if lower.contains("expecting value: line") {
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

/// The words after `Error executing tool NAME:`, which says nothing new.
fn message(text: &str) -> &str {
    text.trim()
        .strip_prefix("Error executing tool ")
        .and_then(|rest| rest.split_once(':'))
        .map_or(text.trim(), |(_, message)| message.trim())
}

/// The same without the inputs that a validation error quotes: they are the call's arguments,
/// and an argument may be a password.
fn without_inputs(message: &str) -> String {
    message
        .lines()
        .filter(|line| !line.trim_start().starts_with("For further information"))
        .map(|line| line.split(" [type=").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The arguments of a tool `f` are validated as a model `fArguments`; anything else that fails
/// to validate is the answer.
fn is_about_arguments(message: &str) -> bool {
    message.starts_with("Input validation error")
        || message
            .lines()
            .next()
            .is_some_and(|first| first.trim_end().ends_with("Arguments"))
}

pub(super) fn http_status(lower: &str) -> Option<u16> {
    STATUS_MARKS.iter().find_map(|mark| {
        let (_, rest) = lower.split_once(mark)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (digits.len() == 3).then(|| digits.parse().ok())?
    })
}

/// "Chart is loading. Progress: 0.5"
pub(super) fn says_loading(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["is loading", "are loading", "still loading"]
        .iter()
        .any(|words| error.contains(words))
}

/// The number after "Progress:", as a part of 1.
pub(super) fn loading_progress(error: &str) -> Option<f64> {
    let lower = error.to_ascii_lowercase();
    let (_, rest) = lower.split_once("progress")?;
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

pub(super) fn says_rate_limited(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["too many requests", "rate limit"]
        .iter()
        .any(|words| error.contains(words))
}
