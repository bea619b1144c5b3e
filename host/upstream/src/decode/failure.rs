//! The failures that a server tells in a form for machines, and the cloud's own refusals.
//!
//! Invariant: a refusal keeps the cloud's words. It becomes something else than `Rejected` only by words that leave no
//! doubt ("is loading", "too many requests", "not found", "hash doesn't match") at the place where the cloud says them;
//! words within what it repeats of the call are no evidence. By words alone no write is said to be rate-limited, which
//! would have it sent again.

use std::time::Duration;

use qchost_catalog::{CredentialsRefusal, Failure, MAX_RETRY_AFTER};
use serde_json::{Map, Value};

use super::given::MASK;
use super::text::{loading_progress, says_loading, says_not_found, says_rate_limited};
use super::{Decoder, progress_value};
use crate::fault::{CLOCK, Fault, Trouble, UNAUTHORIZED};

/// How our server says that the clocks differ.
const CLOCKS_DIFFER: &str = "this machine's clock is ";

/// What stands in for words that are not there.
const NO_REASON: &str = "refused without a reason";

impl Decoder<'_> {
    /// `{"kind": "rate-limited", "retryAfter": 3}` and its likes, with the words of `errors`.
    pub(super) fn told_failure(&self, failure: &Map<String, Value>, errors: Vec<String>) -> Fault {
        let words = match errors.is_empty() {
            true => NO_REASON.to_owned(),
            false => self.redactor.line(&errors.join("; ")),
        };
        let kind = failure
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let failure = match kind {
            "unauthorized" => {
                let trouble = match self.told_trouble(&errors) {
                    Some(Trouble::Clock) => Trouble::Clock,
                    _ => Trouble::Unauthorized,
                };
                return self.refused_credentials(trouble, &errors);
            }
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
        };
        failure.into()
    }

    /// `success: false` and its `errors`.
    pub(super) fn refusal(&self, errors: Vec<String>) -> Fault {
        match self.told_trouble(&errors) {
            Some(trouble) => self.refused_credentials(trouble, &errors),
            None => self.refused_call(errors).into(),
        }
    }

    /// A refusal that is the account's.
    pub(super) fn refused_credentials(&self, trouble: Trouble, errors: &[String]) -> Fault {
        let words = self.redactor.line(&errors.join("; "));
        Fault {
            failure: Failure::Unavailable(match trouble {
                Trouble::Clock => format!("{CLOCK}: {words}"),
                _ => format!("{UNAUTHORIZED}: {words}"),
            }),
            trouble: Some(trouble),
        }
    }

    /// Whether the errors are about the credentials, all of them and nothing else, and whether about their time stamp.
    fn told_trouble(&self, errors: &[String]) -> Option<Trouble> {
        let mut trouble = None;
        let mut clocks_differ = false;
        for error in errors {
            let judged = self.judged(error);
            if judged.contains(MASK) {
                return None;
            }
            match CredentialsRefusal::parse(&judged) {
                Some(CredentialsRefusal::Clock) => trouble = Some(Trouble::Clock),
                Some(CredentialsRefusal::Credentials) => {
                    trouble = trouble.or(Some(Trouble::Unauthorized));
                }
                // Said beside a refusal, never alone.
                None if judged.starts_with(CLOCKS_DIFFER) => clocks_differ = true,
                None => return None,
            }
        }
        match clocks_differ {
            true => trouble.and(Some(Trouble::Clock)),
            false => trouble,
        }
    }

    fn refused_call(&self, errors: Vec<String>) -> Failure {
        let judged: Vec<String> = errors.iter().map(|error| self.judged(error)).collect();
        if self.may_be_loading() && judged.iter().any(|error| says_loading(error)) {
            let progress = judged.iter().find_map(|error| loading_progress(error));
            return self.not_ready(progress, errors);
        }
        if self.idempotent() && judged.iter().any(|error| says_rate_limited(error)) {
            return Failure::RateLimited { retry_after: None };
        }
        if errors.is_empty() {
            return Failure::Rejected(vec![NO_REASON.to_owned()]);
        }
        // Of several errors one may be about something else; of an unknown tool nothing is
        // known that could be missing.
        let missing = self.operation.is_some() && judged.iter().all(|error| says_not_found(error));
        let errors = self.redactor.words(errors);
        if missing {
            Failure::NotFound(errors.join("; "))
        } else {
            Failure::Rejected(errors)
        }
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    let wait = Duration::try_from_secs_f64(value.as_f64()?).ok()?;
    Some(wait.min(MAX_RETRY_AFTER))
}
