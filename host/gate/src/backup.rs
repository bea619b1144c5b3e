//! Backup of ledger, audit and the texts that its records name, as one consistent set.
//!
//! Invariant: the ledger is copied before the audit. So every call in the copied ledger has its records in the copied audit,
//! and the head that the ledger holds lies on the copied chain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qchost_audit::{Audit, AuditError};
use qchost_ledger::{Ledger, LedgerError};
use tokio::sync::RwLock;

use crate::texts::Texts;

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The ledger cannot be copied.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The audit cannot be written or copied.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A file or folder cannot be written.
    #[error("cannot write the backup {}: {}", .0.display(), .1)]
    Write(PathBuf, #[source] std::io::Error),
}

/// Makes backups.
pub struct Backups {
    pub(crate) ledger: Ledger,
    pub(crate) audit: Audit,
    pub(crate) texts: Texts,
    /// Held by each write from its reservation to its intent.
    pub(crate) writing: Arc<RwLock<()>>,
}

impl Backups {
    /// Copies the ledger (`state.db`), the audit (`audit/`) and the redacted texts (`texts/`) into an existing empty
    /// folder while calls go on.
    ///
    /// # Errors
    /// When something cannot be read or written; the incomplete copy stays.
    pub async fn backup(&self, folder: &Path) -> Result<(), BackupError> {
        let head = {
            let _still = self.writing.write().await;
            self.ledger.backup_to(&folder.join("state.db")).await?;
            self.audit.mark().await?
        };
        self.audit.copy_to(&folder.join("audit"), &head).await?;
        // Last: every text that the copied records name was kept before they were made.
        let (texts, to) = (self.texts.clone(), folder.join("texts"));
        let copying = tokio::task::spawn_blocking(move || {
            let copied = texts.copy_to(&to);
            copied.map_err(|source| BackupError::Write(to, source))
        });
        let failed = |error| BackupError::Write(folder.to_owned(), std::io::Error::other(error));
        copying.await.map_err(failed)?
    }
}
