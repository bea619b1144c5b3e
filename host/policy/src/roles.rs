//! The roles of people, and what people do at the control socket.
//!
//! Invariant: a verb has one action in Cedar, and its word is the end of that.

/// The group of all people's actions.
pub(crate) const GROUP: &str = "person";

/// An action of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
}

impl Right {
    /// All verbs.
    pub const ALL: [Self; 15] = [
        Self::Status,
        Self::Grants,
        Self::ListApprovals,
        Self::ReadAudit,
        Self::Invoke,
        Self::Call,
        Self::Reduce,
        Self::Explain,
        Self::Halt,
        Self::Resume,
        Self::Approve,
        Self::Refuse,
        Self::Reconcile,
        Self::Reload,
        Self::Backup,
    ];

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
        match self {
            Self::Status => "person/status",
            Self::Grants => "person/grants",
            Self::ListApprovals => "person/list-approvals",
            Self::ReadAudit => "person/read-audit",
            Self::Invoke => "person/invoke",
            Self::Call => "person/call",
            Self::Reduce => "person/reduce",
            Self::Explain => "person/explain",
            Self::Halt => "person/halt",
            Self::Resume => "person/resume",
            Self::Approve => "person/approve",
            Self::Refuse => "person/refuse",
            Self::Reconcile => "person/reconcile",
            Self::Reload => "person/reload",
            Self::Backup => "person/backup",
        }
    }
}

/// The role of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// Its name in `qchost.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}
