//! The ledger itself: one file with all its operations.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blocks::Blocks;
use crate::connections::{self, Connections, Head};
use crate::error::LedgerError;
use crate::state::StateStore;

/// The ledger. Clones are the same ledger; the file is closed when the last one is dropped.
///
/// Changes of `async` calls are on disk when they return. A request is carried out even if the future is dropped.
/// Amounts are in 1/10000 dollar, times in milliseconds of Unix time.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    connections: Connections,
    blocks: Blocks,
    state: StateStore,
    /// `None` in memory.
    path: Option<PathBuf>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the file, creating it if necessary, migrates an older one to the newest layout and checks it; a file
    /// restored from a backup is checked thoroughly. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be written, is damaged, is not one of ours or is of a newer version.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Ok(Self::new(Connections::open(path)?, Some(path.to_owned())))
    }

    /// An in-memory ledger, for one process.
    ///
    /// # Errors
    /// When SQLite cannot be used.
    pub fn in_memory() -> Result<Self, LedgerError> {
        Ok(Self::new(Connections::in_memory()?, None))
    }

    fn new(connections: Connections, path: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            state: StateStore::new(connections.clone()),
            connections,
            blocks: Blocks::default(),
            path,
        }))
    }

    /// The key-value state of plugins.
    #[must_use]
    pub fn state(&self) -> &StateStore {
        &self.0.state
    }

    /// From now on each transaction with changes stores the audit's head too. `head` is called between a
    /// transaction's last change and its COMMIT: it must not wait, nor hold this ledger.
    pub fn set_head(&self, head: Head) {
        self.0.connections.set_head(head);
    }

    /// Stores the audit's head now, without another change.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn store_head(&self) -> Result<(), LedgerError> {
        let stored = self.0.connections.write(connections::touch);
        stored.await
    }

    /// Binds the file to a data folder, by the folder's id.
    ///
    /// # Errors
    /// When it is bound to another data folder, or the ledger cannot be used.
    pub async fn bind(&self, folder: &str) -> Result<(), LedgerError> {
        let id = folder.to_owned();
        let bind = move |it: &rusqlite::Connection| connections::bind(it, &id);
        let known = self.0.connections.write(bind).await?;
        if known == folder {
            return Ok(());
        }
        let path = self.path().unwrap_or(Path::new(":memory:")).to_owned();
        let why = "it belongs to a data folder with another host.key; bring both back from the same backup";
        Err(LedgerError::Foreign(path, why.to_owned()))
    }

    /// The audit's head stored in a file that no host uses; `None` if there is no such file. Changes nothing in it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recorded_head(path: &Path) -> Result<Option<String>, LedgerError> {
        if !path.exists() {
            return Ok(None);
        }
        let read = crate::file::reader(path).and_then(|it| connections::audit_head(&it));
        match read {
            // Can be read without disk space, so also on a full disk.
            Err(LedgerError::Full) => connections::audit_head(&crate::file::inspector(path)?),
            read => read,
        }
    }

    /// Checks that a file is not of a newer version. Opens no database, and changes nothing; a missing file is none.
    ///
    /// # Errors
    /// [`LedgerError::Newer`].
    pub fn check_version(path: &Path) -> Result<(), LedgerError> {
        crate::file::check_header(path)
    }

    /// Checks that the database of a running host accepts writes, and is not locked by a third process. Changes
    /// nothing. Blocks for seconds if it is locked.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] if it is locked, or another one when it cannot be opened.
    pub fn check_unlocked(path: &Path) -> Result<(), LedgerError> {
        crate::file::check_unlocked(path)
    }

    /// The audit's head as last stored.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn audit_head(&self) -> Result<Option<String>, LedgerError> {
        self.0.connections.read(connections::audit_head).await
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.0.connections
    }

    pub(crate) fn blocks(&self) -> &Blocks {
        &self.0.blocks
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}
