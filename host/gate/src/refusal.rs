//! Why a call was not answered: the gate's own reasons, or the connection's.
//!
//! Invariant: a kind of refusal has one name, in the contract's error and in the audit ([`Refusal::word`]).

use std::iter;
use std::time::Duration;

use jiff::Timestamp;
use qchost_audit::AuditError;
use qchost_catalog::{Failure, FailureKind};
use qchost_ledger::{BeginError, LedgerError, RequestError};
use qchost_policy::Denial;
use qchost_scope::ScopeError;
use strum::{
    EnumDiscriminants, EnumIter, EnumString, IntoEnumIterator as _, IntoStaticStr,
    VariantNames as _,
};

use crate::clock::now;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(RefusalKind),
    derive(EnumIter, EnumString, IntoStaticStr),
    strum(serialize_all = "kebab-case"),
    doc = "The kind of a [`Refusal`]. Its name in kebab-case is the word in the contract's error and in the audit; it is parsed \
           with `str::parse`."
)]
pub enum Refusal {
    /// No grant allows it, or a guardrail forbids it, and nothing was sent; or its answer is withheld because it is about
    /// something else.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// A budget has nothing left. Nothing was sent.
    #[error("{message}")]
    #[strum_discriminants(strum(serialize = "budget-exhausted"))]
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

/// What QuantConnect tells an organisation that has not signed the agreement on derived data.
const NO_EXPORT: &str = "does not have derivative export enabled";

/// The denial for a download that QuantConnect refused to the organisation, although the account says that it may; `None`
/// for any other failure. No other call of the plugin would fare better.
pub(crate) fn export_refused(failure: &Failure) -> Option<Refusal> {
    let Failure::Rejected(errors) = failure else {
        return None;
    };
    let says_so = errors.iter().any(|error| error.contains(NO_EXPORT));
    says_so.then(|| {
        Refusal::denied(
            "QuantConnect refuses downloads of objects to this organisation, which has not signed its agreement on derived data; \
             take `derived-data = true` out of the account in qchost.toml",
        )
    })
}

/// The outcomes in a record besides the kinds of failures.
const OTHER_OUTCOMES: [&str; 6] = [
    "answered",
    "failed",
    "abandoned",
    "reconciled: done",
    "reconciled: not done",
    "reconciled: accepted",
];

/// Possible decisions in a record: `allowed`, or the name of a refusal.
#[must_use]
pub fn decisions() -> Vec<&'static str> {
    let own = RefusalKind::iter().filter(|kind| *kind != RefusalKind::Failed);
    let mut words: Vec<&str> = iter::once("allowed").chain(own.map(Into::into)).collect();
    // Some kinds of failures are refusals of the gate too.
    let failures = FailureKind::VARIANTS.iter();
    let failures: Vec<&str> = failures
        .filter(|word| !words.contains(word))
        .copied()
        .collect();
    words.extend(failures);
    words
}

/// Possible outcomes in a record: the name of a failure, or one of the others.
#[must_use]
pub fn outcomes() -> Vec<&'static str> {
    [&OTHER_OUTCOMES, FailureKind::VARIANTS].concat()
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Halted(reason) => Self::Halted(reason),
            failure => Self::Failed(failure),
        }
    }
}

impl Refusal {
    /// A denial that no line of a manifest would lift.
    pub(crate) fn denied(reason: impl Into<String>) -> Self {
        Self::Denied(Denial {
            reason: reason.into(),
            nearest_grant: None,
            remedy: None,
        })
    }

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
            Self::Failed(failure) => failure.word(),
            own => RefusalKind::from(own).into(),
        }
    }
}

/// The ledger cannot be used, so calls that need it are not sent.
pub(crate) fn unusable(error: LedgerError) -> Refusal {
    Refusal::Failed(Failure::Unavailable(format!(
        "the host cannot use its ledger, so nothing was sent: {error}"
    )))
}

/// A call that cannot be recorded is not sent.
pub(crate) fn unrecorded(error: &AuditError) -> Refusal {
    Refusal::Failed(Failure::Unavailable(format!(
        "the host cannot write its audit, so nothing was sent: {error}"
    )))
}

/// A budget that cannot be charged, or a permit that cannot be used.
pub(crate) fn exhausted(error: BeginError) -> Refusal {
    match error {
        BeginError::Exhausted {
            grant,
            budget,
            limit,
            used,
            resets_in_ms,
        } => Refusal::Exhausted {
            message: format!(
                "the grant `{grant}` allows {limit} ({budget}) and {used} are used{}",
                refill(resets_in_ms)
            ),
            grant,
            budget,
            resets_in: u64::try_from(resets_in_ms).ok().map(Duration::from_millis),
        },
        BeginError::PermitGone { permit, why } => {
            Refusal::denied(format!("the permit {permit} cannot be used: {why}"))
        }
        BeginError::Ledger(error) => unusable(error),
    }
}

/// When a budget is refilled, as the end of a sentence. Budgets are of a day, which ends at a whole minute.
fn refill(resets_in_ms: i64) -> String {
    const MINUTE_MS: i64 = 60_000;
    let at = now().saturating_add(resets_in_ms);
    let minute = at.saturating_add(MINUTE_MS / 2) / MINUTE_MS;
    match Timestamp::from_second(minute.saturating_mul(60)) {
        Ok(at) => format!("; it is refilled at {at}"),
        Err(_) => String::new(),
    }
}

/// What a call touches cannot be told, so it is not sent.
pub(crate) fn unresolved(error: ScopeError) -> Refusal {
    match error {
        ScopeError::Invalid(message) => Refusal::Failed(Failure::InvalidArgument(message)),
        ScopeError::Denied(reason) => Refusal::denied(reason),
        ScopeError::Failed(failure) => failure.into(),
    }
}

/// The refusal of a plugin that has too many open requests.
pub(crate) fn not_asked(error: RequestError) -> Refusal {
    let message = match error {
        RequestError::Ledger(error) => return unusable(error),
        RequestError::TooManyPending { plugin, limit } => format!(
            "`{plugin}` has {limit} approvals that wait for a person, and may not ask for more"
        ),
        error @ RequestError::TooLarge { .. } => error.to_string(),
    };
    Refusal::Exhausted {
        message,
        grant: String::new(),
        budget: "approvals",
        resets_in: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_decisions_and_outcomes_are_those_of_the_record() {
        for words in [decisions(), outcomes()] {
            let different: std::collections::BTreeSet<_> = words.iter().collect();
            assert_eq!(different.len(), words.len(), "{words:?}");
            for refusal in [
                Refusal::Halted(String::new()),
                Refusal::Failed(Failure::Rejected(Vec::new())),
            ] {
                assert!(words.contains(&refusal.word()), "{refusal:?}");
            }
        }
        let exhausted = Refusal::Exhausted {
            grant: String::new(),
            budget: "per-day",
            message: String::new(),
            resets_in: None,
        };
        assert_eq!(exhausted.word(), "budget-exhausted");
        assert!(decisions().contains(&exhausted.word()));
        assert!(!decisions().contains(&"failed"));
    }
}
