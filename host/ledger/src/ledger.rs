//! The ledger itself: one file, and all that is done with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::connections::{self, Connections, Head};
use crate::error::LedgerError;
use crate::leases::Leases;
use crate::state::StateStore;

/// The ledger. Clones are the same ledger; the file is closed when the last one is gone.
///
/// What its `async` calls change is on the disk when they return. What was asked for happens even if the future is
/// dropped. Amounts are in 1/10000 dollar, times in milliseconds of Unix time.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    connections: Connections,
    leases: Leases,
    state: StateStore,
    /// Nothing in memory.
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
    /// Opens the file, makes it if it is not there, brings an older one to the newest layout and checks it; one that
    /// was restored from a backup is checked thoroughly. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be written, is damaged, not ours or of a newer version.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Ok(Self::new(Connections::open(path)?, Some(path.to_owned())))
    }

    /// A ledger in memory, for one process: it forgets everything.
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
            leases: Leases::default(),
            path,
        }))
    }

    /// What plugins keep.
    #[must_use]
    pub fn state(&self) -> &StateStore {
        &self.0.state
    }

    /// From now on each transaction that changes something stores the audit's head too. `head` is called between a
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

    /// Ties the file to a data folder, by the folder's id; a file that is tied to another one is refused.
    ///
    /// # Errors
    /// When it is of another data folder, or the ledger cannot be used.
    pub async fn bind(&self, folder: &str) -> Result<(), LedgerError> {
        let id = folder.to_owned();
        let bind = move |it: &rusqlite::Connection| connections::bind(it, &id);
        let known = self.0.connections.write(bind).await?;
        if known == folder {
            return Ok(());
        }
        Err(LedgerError::Foreign {
            path: self.path().unwrap_or(Path::new(":memory:")).to_owned(),
            why: "it belongs to a data folder with another host.key; bring both back from the same backup"
                .to_owned(),
        })
    }

    /// The audit's head as it is stored in a file that no host uses; nothing where there is no such file. Nothing is
    /// changed in it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recorded_head(path: &Path) -> Result<Option<String>, LedgerError> {
        if !path.exists() {
            return Ok(None);
        }
        let read = crate::file::reader(path).and_then(|it| connections::audit_head(&it));
        match read {
            // What can be read without room is read on a full disk too.
            Err(LedgerError::Full) => connections::audit_head(&crate::file::inspector(path)?),
            read => read,
        }
    }

    /// Checks that the database of a host that runs takes writes, and is not locked by a third process. Nothing is
    /// changed. Blocks for seconds where it is.
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

    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}
