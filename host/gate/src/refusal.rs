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
        /// The grant whose budget it is.
        grant: String,
        /// Which: `per-day`, `cost-per-day`, `concurrent`.
        budget: &'static str,
        /// One sentence.
        message: String,
        /// How long until there is some again, where time refills it.
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

/// What a record may say was decided: `allowed`, or the word of a refusal.
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

/// What a record may say became of what was sent: the word of a failure, or one of these.
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
    /// The approval that it is about.
    pub(crate) fn approval(&self) -> Option<&str> {
        match self {
            Self::ApprovalRequired { id } | Self::ApprovalRefused { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The word for it that the contract's error and the audit use.
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
