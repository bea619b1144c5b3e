//! Why the gate cannot be opened or reconfigured.
//!
//! Invariant: after any of these, what was in force still is.

use std::path::PathBuf;

use qchost_ledger::LedgerError;
use qchost_policy::PolicyError;

/// Why the gate cannot be opened or reconfigured.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The audit cannot be written.
    #[error(transparent)]
    Audit(#[from] qchost_audit::AuditError),
    /// A manifest cannot be enforced together with the guardrails.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The data folder is not accessible.
    #[error("cannot look for the file `halt` in the data folder {}: {}", .0.display(), .1)]
    Folder(PathBuf, #[source] std::io::Error),
    /// An internal error.
    #[error("the host failed while it compiled the policies; nothing has changed")]
    Failed,
}
