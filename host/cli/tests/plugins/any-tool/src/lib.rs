//! any-tool: a test agent. It calls the tools that its input lists, and reports the result of each.
//!
//! An action does not fail because of a call: the report contains the error.

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Calls to make, one after the other.
#[derive(Deserialize, JsonSchema)]
struct Calls {
    /// The calls.
    calls: Vec<Call>,
}

/// A call.
#[derive(Deserialize, JsonSchema)]
struct Call {
    /// The tool.
    tool: String,
    /// Its arguments.
    arguments: Value,
}

/// What came of a call.
#[derive(Serialize, JsonSchema)]
struct Report {
    /// `answered`, or the case of the contract's error.
    outcome: &'static str,
    /// The answer's body.
    answer: Option<Value>,
    /// What the error says.
    error: Option<String>,
}

/// Calls tools.
#[agent(name = "any-tool")]
mod agent {
    use super::*;

    /// Call tools, one after the other.
    #[action]
    fn call(calls: Calls) -> Result<Vec<Report>, Failure> {
        Ok(calls.calls.into_iter().map(report).collect())
    }
}

fn report(call: Call) -> Report {
    match raw::call_tool(&call.tool, &call.arguments.to_string()) {
        Ok(answer) => Report {
            outcome: "answered",
            answer: serde_json::from_str(&answer).ok(),
            error: None,
        },
        Err(error) => Report {
            outcome: case(&error),
            answer: None,
            error: Some(error.to_string()),
        },
    }
}

fn case(error: &Error) -> &'static str {
    match error {
        Error::Denied(_) => "denied",
        Error::BudgetExhausted(_) => "budget-exhausted",
        Error::RateLimited(_) => "rate-limited",
        Error::ApprovalRequired(_) => "approval-required",
        Error::ApprovalRefused(_) => "approval-refused",
        Error::Halted(_) => "halted",
        Error::InvalidArgument(_) => "invalid-argument",
        Error::NotFound(_) => "not-found",
        Error::NotReady(_) => "not-ready",
        Error::Rejected(_) => "rejected",
        Error::Unavailable(_) => "unavailable",
        Error::TimedOut(_) => "timed-out",
        Error::UnknownOutcome(_) => "unknown-outcome",
        Error::UnexpectedResponse(_) => "unexpected-response",
        Error::Reauthorize(_) => "reauthorize",
    }
}
