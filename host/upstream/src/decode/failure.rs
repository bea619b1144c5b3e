//! Failures that a server reports in machine-readable form, and the cloud's own refusals.
//!
//! Invariant: a refusal keeps the cloud's text. It is classified as something other than `Rejected` only by unambiguous
//! phrases ("is loading", "too many requests", "not found", "hash doesn't match") at the position where the cloud uses
//! them; text that it repeats from the call is no evidence. A write is never classified as rate-limited by text alone,
//! since it would be retried.

use std::time::Duration;

use qchost_catalog::{CredentialsRefusal, Failure, FailureKind, MAX_RETRY_AFTER};
use serde_json::{Map, Value};

use super::masked::ARGUMENT_MASK;
use super::text::{loading_progress, says_loading, says_not_found, says_rate_limited};
use super::{Decoder, progress_value};
use crate::fault::{CLOCK, Fault, Problem, UNAUTHORIZED};

/// How our server reports that the clocks differ.
const CLOCKS_DIFFER: &str = "this machine's clock is ";

/// Used if there is no text.
const NO_REASON: &str = "refused without a reason";

impl Decoder<'_> {
    /// Decodes `{"kind": "rate-limited", "retryAfter": 3}` and the like, with the texts of `errors`.
    pub(super) fn reported_failure(
        &self,
        failure: &Map<String, Value>,
        errors: Vec<String>,
    ) -> Fault {
        let words = match errors.is_empty() {
            true => NO_REASON.to_owned(),
            false => self.redactor.line(&errors.join("; ")),
        };
        let kind = failure
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if kind == "unauthorized" {
            let problem = match self.reported_problem(&errors) {
                Some(Problem::Clock) => Problem::Clock,
                _ => Problem::Unauthorized,
            };
            return self.refused_credentials(problem, &errors);
        }
        let failure = match kind.parse() {
            Ok(FailureKind::InvalidArgument) => Failure::InvalidArgument(words),
            Ok(FailureKind::NotFound) => Failure::NotFound(words),
            Ok(FailureKind::NotReady) => Failure::NotReady {
                progress: progress_value(failure.get("progress")),
                message: words,
            },
            Ok(FailureKind::RateLimited) => Failure::RateLimited {
                retry_after: failure.get("retryAfter").and_then(seconds),
            },
            // Our server says so if it had no connection.
            Ok(FailureKind::Unavailable) if failure.get("sent") == Some(&Value::Bool(false)) => {
                return Fault::unsent(words);
            }
            // Our server reports this only if the request never reached the cloud or may be repeated.
            Ok(FailureKind::Unavailable) => Failure::Unavailable(words),
            Ok(FailureKind::TimedOut | FailureKind::UnknownOutcome) => self.lost(&words),
            Ok(FailureKind::UnexpectedResponse) => Failure::UnexpectedResponse(words),
            // A rejection has no kind, only the host halts, and who is authorised is decided by HTTP: a server that says so
            // proves nothing.
            Ok(FailureKind::Rejected | FailureKind::Halted | FailureKind::Reauthorize) | Err(_) => {
                self.unexpected("a known kind of failure", kind)
            }
        };
        failure.into()
    }

    /// Decodes `success: false` and its `errors`.
    pub(super) fn refusal(&self, errors: Vec<String>) -> Fault {
        match self.reported_problem(&errors) {
            Some(problem) => self.refused_credentials(problem, &errors),
            None => self.refused_call(errors).into(),
        }
    }

    /// A refusal caused by the account.
    pub(super) fn refused_credentials(&self, problem: Problem, errors: &[String]) -> Fault {
        let words = self.redactor.line(&errors.join("; "));
        Fault {
            failure: Failure::Unavailable(match problem {
                Problem::Clock => format!("{CLOCK}: {words}"),
                _ => format!("{UNAUTHORIZED}: {words}"),
            }),
            problem: Some(problem),
            is_unsent: false,
        }
    }

    /// Whether all errors are about the credentials, and whether about their time stamp.
    fn reported_problem(&self, errors: &[String]) -> Option<Problem> {
        let mut problem = None;
        let mut clocks_differ = false;
        for error in errors {
            let masked = self.masked(error);
            if masked.contains(ARGUMENT_MASK) {
                return None;
            }
            match CredentialsRefusal::parse(&masked) {
                Some(CredentialsRefusal::Clock) => problem = Some(Problem::Clock),
                Some(CredentialsRefusal::Credentials) => {
                    problem = problem.or(Some(Problem::Unauthorized));
                }
                // Reported beside a refusal, never alone.
                None if masked.starts_with(CLOCKS_DIFFER) => clocks_differ = true,
                None => return None,
            }
        }
        match clocks_differ {
            true => problem.and(Some(Problem::Clock)),
            false => problem,
        }
    }

    fn refused_call(&self, errors: Vec<String>) -> Failure {
        let masked: Vec<String> = errors.iter().map(|error| self.masked(error)).collect();
        if self.may_be_loading() && masked.iter().any(|error| says_loading(error)) {
            let progress = masked.iter().find_map(|error| loading_progress(error));
            return self.not_ready(progress, errors);
        }
        if self.idempotent() && masked.iter().any(|error| says_rate_limited(error)) {
            return Failure::RateLimited { retry_after: None };
        }
        if errors.is_empty() {
            return Failure::Rejected(vec![NO_REASON.to_owned()]);
        }
        // Of several errors one may be about something else; for an unknown tool it is unknown what could be missing.
        let missing = self.operation.is_some() && masked.iter().all(|error| says_not_found(error));
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
