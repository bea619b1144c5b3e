//! Why a call was not answered: the gate's own reasons, or the connection's.

use std::time::Duration;

use qchost_catalog::Failure;
use qchost_policy::Denial;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No grant allows it, or a guardrail forbids it. Nothing was sent.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// A budget has nothing left. Nothing was sent.
    #[error("{message}")]
    Exhausted {
        /// The grant whose budget is exhausted.
        grant: String,
        /// The budget: `per-day`, `cost-per-day`, `concurrent`.
        budget: &'static str,
        /// One sentence.
        message: String,
        /// Time until the budget is refilled, if it is refilled by time.
        resets_in: Option<Duration>,
    },
    /// Too many calls in too short a time. Nothing was sent.
    #[error("too many calls; try again in {:.3} s", .0.as_secs_f64())]
    RateLimited(Duration),
    /// A person has to approve it first. Nothing was sent.
    #[error("a person has to approve this first: qchost approvals show {id}")]
    ApprovalRequired {
        /// The approval.
        id: String,
    },
    /// A person refused it. Nothing was sent.
    #[error("approval {id} was refused: {reason}")]
    ApprovalRefused {
        /// The approval.
        id: String,
        /// The person's reason.
        reason: String,
    },
    /// An operator halted the account or the plugin. Nothing was sent.
    #[error("halted: {0}")]
    Halted(String),
    /// The connection gave no usable answer.
    #[error(transparent)]
    Failed(Failure),
}

/// Possible decisions in a record: `allowed`, or the name of a refusal.
pub const DECISIONS: [&str; 15] = [
    "allowed",
    "denied",
    "budget-exhausted",
    "rate-limited",
    "approval-required",
    "approval-refused",
    "halted",
    "invalid-argument",
    "not-found",
    "not-ready",
    "rejected",
    "unavailable",
    "timed-out",
    "unknown-outcome",
    "unexpected-response",
];

/// Possible outcomes in a record: the name of a failure, or one of these.
pub const OUTCOMES: [&str; 16] = [
    "answered",
    "failed",
    "abandoned",
    "reconciled: done",
    "reconciled: not done",
    "reconciled: accepted",
    "invalid-argument",
    "not-found",
    "not-ready",
    "rejected",
    "rate-limited",
    "unavailable",
    "timed-out",
    "unknown-outcome",
    "unexpected-response",
    "halted",
];

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Halted(reason) => Self::Halted(reason),
            failure => Self::Failed(failure),
        }
    }
}

impl Refusal {
    /// The approval that it refers to.
    pub(crate) fn approval(&self) -> Option<&str> {
        match self {
            Self::ApprovalRequired { id } | Self::ApprovalRefused { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Its name in the contract's error and in the audit.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Exhausted { .. } => "budget-exhausted",
            Self::RateLimited(_) => "rate-limited",
            Self::ApprovalRequired { .. } => "approval-required",
            Self::ApprovalRefused { .. } => "approval-refused",
            Self::Halted(_) => "halted",
            Self::Failed(failure) => failure.word(),
        }
    }
}
