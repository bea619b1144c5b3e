//! What an action found out: a list of checks, each of one call.
//!
//! Invariant: a check that failed says what came instead, and a call without a check is not
//! reported.

use std::fmt::Debug;

use qchost_sdk::prelude::*;
use serde::Serialize;

/// Characters of an answer that a failed check shows.
const SHOWN: usize = 600;

/// One check.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Check {
    /// The operation that was called, such as `backtests/create-backtest`.
    operation: String,
    /// What should have come.
    name: String,
    /// Whether it came.
    ok: bool,
    /// What came instead; empty if it came.
    detail: String,
}

/// What an action found out.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// The checks, in the order of the calls.
    checks: Vec<Check>,
}

/// Makes a report of checks.
pub(crate) struct Checks {
    interface: &'static str,
    checks: Vec<Check>,
}

impl Checks {
    /// Runs the checks of an interface. They end early when one of them returns nothing.
    pub(crate) fn of(interface: &'static str, run: impl FnOnce(&mut Self) -> Option<()>) -> Report {
        let mut checks = Self {
            interface,
            checks: Vec::new(),
        };
        if run(&mut checks).is_none() {
            checks.add(
                "",
                "the checks went through to the last",
                false,
                "an earlier check failed".into(),
            );
        }
        Report {
            checks: checks.checks,
        }
    }

    /// Checks an answer. It is returned if it fits.
    pub(crate) fn answer<T: Debug, E: Debug>(
        &mut self,
        function: &str,
        name: &str,
        result: Result<T, E>,
        fits: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let ok = result.as_ref().is_ok_and(fits);
        let detail = if ok { String::new() } else { shown(&result) };
        self.add(function, name, ok, detail);
        result.ok().filter(|_| ok)
    }

    /// Checks that a call is refused, and how.
    pub(crate) fn refusal<T: Debug, E: Debug>(
        &mut self,
        function: &str,
        name: &str,
        result: Result<T, E>,
        fits: impl FnOnce(&E) -> bool,
    ) {
        let ok = result.as_ref().is_err_and(fits);
        let detail = if ok { String::new() } else { shown(&result) };
        self.add(function, name, ok, detail);
    }

    fn add(&mut self, function: &str, name: &str, ok: bool, detail: String) {
        self.checks.push(Check {
            operation: format!("{}/{function}", self.interface),
            name: name.to_owned(),
            ok,
            detail,
        });
    }
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?}").chars().take(SHOWN).collect()
}

/// The thing is not known: to QuantConnect, or already to the host, which asks what a call is about before
/// it lets it through.
pub(crate) fn not_found(error: &Error) -> bool {
    match error {
        Error::NotFound(words) => !words.is_empty(),
        Error::Denied(denial) => ["cannot be resolved", "is not there", "does not belong"]
            .iter()
            .any(|words| denial.reason.contains(words)),
        _ => false,
    }
}

/// QuantConnect said no, with a reason.
pub(crate) fn rejected(error: &Error) -> bool {
    matches!(error, Error::Rejected(errors) if errors.iter().any(|it| !it.is_empty()))
}

/// The arguments do not fit, as the server that checks them first says.
pub(crate) fn unfit(error: &Error) -> bool {
    matches!(error, Error::InvalidArgument(words) if !words.is_empty()) || rejected(error)
}
