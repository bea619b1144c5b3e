//! Backup of ledger, audit and the texts that its records name, as one consistent set.
//!
//! Invariant: the ledger is copied before the audit. So every call in the copied ledger has its records in the copied audit,
//! and the head that the ledger holds lies on the copied chain.

use std::path::{Path, PathBuf};

use qchost_audit::AuditError;
use qchost_ledger::LedgerError;

use crate::gate::{Gate, Inner};

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The ledger cannot be copied.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The audit cannot be written or copied.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A file cannot be written.
    #[error("cannot write the backup {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Gate {
    /// Copies the ledger (`state.db`), the audit (`audit/`) and the kept texts (`texts/`) into an existing empty folder
    /// while calls go on.
    ///
    /// # Errors
    /// When something cannot be read or written; the incomplete copy stays.
    pub async fn backup(&self, folder: &Path) -> Result<(), BackupError> {
        let Inner { ledger, audit, .. } = &*self.0;
        let head = {
            let _still = self.0.writing.write().await;
            ledger.backup_to(&folder.join("state.db")).await?;
            audit.mark().await?
        };
        audit.copy_to(&folder.join("audit"), &head).await?;
        // Last: every text that the copied records name was kept before they were made.
        let (texts, to) = (self.0.changes.texts.clone(), folder.join("texts"));
        let copying = tokio::task::spawn_blocking(move || {
            let copied = texts.copy_to(&to);
            copied.map_err(|source| BackupError::Write { path: to, source })
        });
        let failed = |error: tokio::task::JoinError| BackupError::Write {
            path: folder.to_owned(),
            source: std::io::Error::other(error),
        };
        copying.await.map_err(failed)?
    }
}
