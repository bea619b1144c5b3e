//! The report of an action: a list of checks, each of one call.
//!
//! Invariant: a failed check contains the actual result, and a call without a check is not reported.

use std::fmt::Debug;

use qchost_sdk::prelude::*;
use serde::Serialize;

/// Maximum characters of an answer in a failed check.
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

/// The report of these checks.
pub(crate) struct Checks {
    interface: &'static str,
    checks: Vec<Check>,
}

impl Checks {
    /// Runs the checks of an interface, which end when one of them returns `None`.
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

    /// Checks an answer; returns it if it is as expected.
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

    /// Checks that a call fails with the expected error.
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

/// The item is unknown to QuantConnect, or already to the host, which resolves what a call touches before it
/// decides.
pub(crate) fn not_found(error: &Error) -> bool {
    match error {
        Error::NotFound(words) => !words.is_empty(),
        Error::Denied(denial) => ["cannot be resolved", "is not there", "does not belong"]
            .iter()
            .any(|words| denial.reason.contains(words)),
        _ => false,
    }
}

/// QuantConnect refused, with a reason.
pub(crate) fn rejected(error: &Error) -> bool {
    matches!(error, Error::Rejected(errors) if errors.iter().any(|it| !it.is_empty()))
}

/// The arguments are invalid, according to the first server that checks them.
pub(crate) fn unfit(error: &Error) -> bool {
    matches!(error, Error::InvalidArgument(words) if !words.is_empty()) || rejected(error)
}
