//! What the operator's files propose, and what becomes of it: in force, or waiting for a person.
//!
//! Invariant: a proposal holds no value that may be a secret, only keyed digests of such values.

use std::collections::BTreeSet;
use std::path::PathBuf;

use qchost_ledger::{CounterSuccessor, LedgerError, RequestError, Subject};
use qchost_policy::{Change, Manifest, Remembered};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::Waits;

/// A change proposed by the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What it concerns.
    pub subject: Subject,
    /// The plugin of a manifest; empty otherwise.
    pub name: String,
    /// The account of a manifest; empty otherwise.
    pub account: String,
    /// The text that is kept, without secrets.
    pub text: Value,
    /// Kept with the text, but not part of its identity.
    pub remembered: Remembered,
    /// The rights it adds; if there are any, it awaits approval.
    pub gains: Vec<String>,
    /// The changes, for the approver.
    pub changes: Vec<Change>,
    /// The files that it comes from.
    pub files: Vec<PathBuf>,
    /// The uids of the files' owners when they were read; the files may be gone by now.
    pub owners: BTreeSet<u32>,
    /// Which counters continue the counts of others.
    pub successors: Vec<CounterSuccessor>,
}

/// A change that awaits approval, while the former version stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingApproval {
    /// The approval it waits for.
    pub approval: String,
    /// What is denied until then: operations, people, guardrails that stay.
    pub gains: Vec<String>,
    /// Whether it was refused.
    pub refused: bool,
}

impl From<&PendingApproval> for Waits {
    fn from(pending: &PendingApproval) -> Self {
        Self {
            approval: Some(pending.approval.clone()),
            refused: pending.refused,
        }
    }
}

impl PendingApproval {
    /// What it waits for and what to do, as the end of a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let shown: Vec<_> = self.gains.iter().take(5).map(String::as_str).collect();
        let more = match self.gains.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (what, id) = (shown.join(", "), &self.approval);
        if self.refused {
            return format!(
                "{what}{more} stays denied: a person said no; see: qchost approvals show {id}"
            );
        }
        format!(
            "{what}{more} is denied until it is approved by an admin, or by two with `two-person`; see: qchost \
             approvals show {id}"
        )
    }
}

/// How much of a manifest comes into force.
#[derive(Debug)]
pub enum Admitted {
    /// All of it.
    Whole,
    /// What both this base and the manifest allow, until the rest is approved.
    Partly {
        /// The manifest in force: the one adopted last, or the parts of the new one that need no adoption.
        base: Box<Manifest>,
        /// The change that awaits approval.
        pending: PendingApproval,
    },
}

/// A text in force, as the ledger keeps it.
#[derive(Serialize, Deserialize)]
pub struct StoredText<T> {
    /// The text.
    pub text: T,
    /// What counters may have to continue.
    #[serde(default)]
    pub remembered: Remembered,
    /// The owners of its files when it came into force.
    #[serde(default)]
    pub owners: BTreeSet<u32>,
}

/// A component that may not serve before an operator has adopted it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the component of `{plugin}` changed and may trade, so it waits for an operator; see: qchost approvals show {approval}"
)]
pub struct Waiting {
    /// The plugin.
    pub plugin: String,
    /// The approval it waits for.
    pub approval: String,
}

/// Why a component was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It awaits an operator.
    #[error(transparent)]
    Waiting(#[from] Waiting),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Approval cannot be requested.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The plugin's state may hold licensed data, and the manifest has a way out for it.
    #[error("`{plugin}`: egress: {why}")]
    LicensedState {
        /// The plugin.
        plugin: String,
        /// What can carry it out, and what to do.
        why: String,
    },
}

/// What is kept of a changed file for its approvers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// All it gains, one line each, if the view does not show everything.
    pub gains: Vec<String>,
    /// All changes, if the view does not show everything.
    pub changes: Vec<String>,
    /// What is in force, without secrets.
    pub former: String,
    /// The text of the files, without secrets.
    pub now: String,
}
