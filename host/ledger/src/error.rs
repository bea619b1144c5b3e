//! Why the ledger cannot be used, and what to do about it.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// Why the ledger could not be opened, read or written. Whatever was asked for was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, made or written.
    #[error(
        "cannot open the database {} for writing: {why}; the file and its folder must exist and be writable by this user, on a local disk",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        why: String,
    },
    /// The file is none of ours.
    #[error(
        "{} is not a database of qchost: {why}; restore a backup with `qchost restore`, or name another data folder",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// The file is of a newer version of the host.
    #[error(
        "the database {} has layout {found}, this version knows layouts up to {known}; use the version of qchost that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// The newest layout known here.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "the database {} is damaged: {why}; restore the newest backup with `qchost restore`, and check the disk",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite's check found.
        why: String,
    },
    /// A value in the database is not what this version writes there.
    #[error(
        "the database holds something unreadable in {place}: {why}; restore the newest backup with `qchost restore`"
    )]
    Content {
        /// Table and column.
        place: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The disk is full.
    #[error(
        "the disk that holds the database is full; nothing was changed: make room and try again"
    )]
    Full,
    /// Another process has the file locked.
    #[error(
        "another process has locked the database, and nothing was changed: find out which (fuser --verbose state.db, in the data \
         folder), end it, and try again"
    )]
    Locked,
    /// The transaction that held this request was given up, because of another request in it.
    #[error(
        "the database gave up a transaction and changed nothing ({0}); try again, and check the disk if it stays so"
    )]
    RolledBack(
        /// What the other request met.
        String,
    ),
    /// SQLite met another error.
    #[error("the database cannot be used: {0}")]
    Failed(
        /// SQLite's error.
        Arc<rusqlite::Error>,
    ),
    /// The system gives no thread.
    #[error(
        "the operating system gives no thread for the database: {0}; check the limits of the service"
    )]
    Thread(
        /// What the system said.
        String,
    ),
    /// The thread that owns the database is gone.
    #[error("the database is closed; restart qchost")]
    Closed,
    /// A backup could not be made.
    #[error("cannot back up the database to {}: {why}; what was written of it was removed", path.display())]
    Backup {
        /// Where it should have gone.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system gives no random numbers.
    #[error("the operating system gives no random numbers for an identifier: {0}")]
    Random(#[from] getrandom::Error),
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        // The index of the write-ahead log needs room too, and SQLite has a code of its own for it.
        let index = error
            .sqlite_error()
            .is_some_and(|it| it.extended_code == SQLITE_IOERR_SHMSIZE);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy) => Self::Locked,
            _ if index => Self::Full,
            _ => Self::Failed(Arc::new(error)),
        }
    }
}

/// Lets `?` turn SQLite's errors into an error that has a variant for [`LedgerError`].
macro_rules! from_sqlite {
    ($error:ty) => {
        impl From<rusqlite::Error> for $error {
            fn from(error: rusqlite::Error) -> Self {
                $crate::error::LedgerError::from(error).into()
            }
        }
    };
}
pub(crate) use from_sqlite;
