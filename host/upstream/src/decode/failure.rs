//! The failures that a server tells in a form for machines, and the cloud's own refusals.
//!
//! Invariant: a refusal keeps the cloud's words. It becomes something else than `Rejected` only
//! by words that leave no doubt: "is loading", "too many requests", "not found", "hash doesn't match".

use std::time::Duration;

use qchost_catalog::Failure;
use serde_json::{Map, Value};

use super::text::{http_status, loading_progress, says_loading, says_rate_limited};
use super::{Decoder, progress_value};
use crate::fault::{CLOCK, Fault, Trouble, UNAUTHORIZED};

/// How QuantConnect begins when it refuses the credentials.
const CREDENTIALS_REFUSED: [&str; 2] = ["hash doesn't match", "userid not valid"];

/// How QuantConnect begins when it refuses their time stamp, and how our server says that the clocks differ.
const CLOCK_REFUSED: [&str; 2] = ["invalid timestamp", "this machine's clock is "];

/// What stands in for words that are not there.
const NO_REASON: &str = "refused without a reason";

impl Decoder<'_> {
    /// `{"kind": "rate-limited", "retryAfter": 3}` and its likes, with the words of `errors`.
    pub(super) fn told_failure(
        &self,
        failure: &Map<String, Value>,
        errors: Vec<String>,
    ) -> Failure {
        let words = match errors.is_empty() {
            true => NO_REASON.to_owned(),
            false => self.redactor.line(&errors.join("; ")),
        };
        let kind = failure
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match kind {
            "invalid-argument" => Failure::InvalidArgument(words),
            "not-found" => Failure::NotFound(words),
            "not-ready" => Failure::NotReady {
                progress: progress_value(failure.get("progress")),
                message: words,
            },
            "rate-limited" => Failure::RateLimited {
                retry_after: failure.get("retryAfter").and_then(seconds),
            },
            // Ours says this only if the request never reached the cloud or may be repeated.
            "unavailable" => Failure::Unavailable(words),
            "timed-out" | "unknown-outcome" => self.lost(&words),
            "unexpected-response" => Failure::UnexpectedResponse(words),
            other => self.unexpected("a known kind of failure", other),
        }
    }

    /// `success: false` and its `errors`.
    pub(super) fn refusal(&self, errors: Vec<String>) -> Fault {
        if let Some(trouble) = refused_credentials(&errors) {
            let words = self.redactor.line(&errors.join("; "));
            let failure = Failure::Unavailable(match trouble {
                Trouble::Clock => format!("{CLOCK}: {words}"),
                _ => format!("{UNAUTHORIZED}: {words}"),
            });
            return Fault {
                failure,
                trouble: Some(trouble),
            };
        }
        self.refused_call(errors).into()
    }

    fn refused_call(&self, errors: Vec<String>) -> Failure {
        if self.may_be_loading() && errors.iter().any(|error| says_loading(error)) {
            let progress = errors.iter().find_map(|error| loading_progress(error));
            return self.not_ready(progress, errors);
        }
        if errors.iter().any(|error| says_rate_limited(error)) {
            return Failure::RateLimited { retry_after: None };
        }
        if errors.is_empty() {
            return Failure::Rejected(vec![NO_REASON.to_owned()]);
        }
        // Of several errors one may be about something else; of an unknown tool nothing is
        // known that could be missing.
        let missing = self.operation.is_some() && errors.iter().all(|error| says_not_found(error));
        let errors = self.redactor.words(errors);
        if missing {
            Failure::NotFound(errors.join("; "))
        } else {
            Failure::Rejected(errors)
        }
    }
}

/// Whether the errors are about the credentials, and whether about their time stamp.
fn refused_credentials(errors: &[String]) -> Option<Trouble> {
    let lower: Vec<String> = errors
        .iter()
        .map(|error| error.trim_start().to_ascii_lowercase())
        .collect();
    let says = |begin: &[&str]| {
        let begins = |error: &String| begin.iter().any(|words| error.starts_with(words));
        lower.iter().any(begins)
    };
    let unauthorized =
        says(&CREDENTIALS_REFUSED) || lower.iter().any(|error| http_status(error) == Some(401));
    match (says(&CLOCK_REFUSED), unauthorized) {
        (true, _) => Some(Trouble::Clock),
        (false, true) => Some(Trouble::Unauthorized),
        (false, false) => None,
    }
}

fn says_not_found(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["not found", "does not exist", "doesn't exist"]
        .iter()
        .any(|words| error.contains(words))
}

fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()?).ok()
}
