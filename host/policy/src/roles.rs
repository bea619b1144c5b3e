//! The roles of people, and what people do at the control socket.
//!
//! Invariant: a right has one action in Cedar, and its word is the end of that.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// The group of all people's actions.
pub(crate) const GROUP: &str = "person";

/// An action of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case", prefix = "person/")]
pub enum Right {
    /// See the host's status.
    Status,
    /// See the grants of a plugin and their use.
    Grants,
    /// See approvals, pending and decided.
    ListApprovals,
    /// Read and verify the audit.
    ReadAudit,
    /// Invoke an action of a plugin.
    Invoke,
    /// Call a tool directly.
    Call,
    /// Call a risk-reducing tool directly: it stops, liquidates or aborts.
    Reduce,
    /// Ask how a call would be decided.
    Explain,
    /// Halt a plugin, an account or everything.
    Halt,
    /// End a halt.
    Resume,
    /// Approve a call or a component.
    Approve,
    /// Refuse it.
    Refuse,
    /// Settle calls with unknown outcome.
    Reconcile,
    /// Have the host read its files again.
    Reload,
    /// Copy the database, the audit and the key.
    Backup,
    /// Log an account in to its server, or out.
    Authorize,
}

impl Right {
    /// All rights.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Whether only the role decides about it, so that no guardrail can deny it.
    #[must_use]
    pub fn is_always_allowed(self) -> bool {
        matches!(
            self,
            Self::Status | Self::Halt | Self::Refuse | Self::Reduce
        )
    }

    /// Its name in messages and audit records.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.action().trim_start_matches("person/")
    }

    /// The action in Cedar.
    pub(crate) fn action(self) -> &'static str {
        self.into()
    }
}

/// The role of a person.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    IntoStaticStr,
    VariantArray,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Role {
    /// May see everything that is not secret.
    Viewer,
    /// May run and stop things, and see what a viewer sees.
    Operator,
    /// May approve and refuse, and see what a viewer sees.
    Approver,
    /// May do everything.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Its name in `qchost.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}
