//! Why the ledger cannot be used, and the remedy.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// Why the ledger could not be opened, read or written. The requested operation was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, created or written, for a reason of the system or SQLite.
    #[error(
        "cannot open the database {} for writing: {}; the file and its folder must exist and be writable by this user, on a local disk",
        .0.display(), .1
    )]
    Open(PathBuf, String),
    /// The file is not one of ours, but what is said here.
    #[error(
        "{} is not a database of qchost: {}; restore a backup with `qchost restore BACKUP --digest DIGEST`, or name another data folder",
        .0.display(), .1
    )]
    Foreign(PathBuf, String),
    /// The file is of a newer version of the host.
    #[error(
        "the database {} has layout {found}, and this version, {}, knows layouts up to {known}; nothing was changed: use the \
         version of qchost that wrote it, or a newer one, or bring the backup from before the upgrade back into another data \
         folder (qchost restore BACKUP --digest DIGEST)",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// The newest layout known here.
        known: i64,
    },
    /// The file is damaged, as SQLite's check found.
    #[error(
        "the database {} is damaged: {}; restore the newest backup with `qchost restore BACKUP --digest DIGEST`, and check the disk",
        .0.display(), .1
    )]
    Damaged(PathBuf, String),
    /// A value in the database is not one that this version writes.
    #[error(
        "the database holds something unreadable in {location}: {why}; restore the newest backup with `qchost restore BACKUP --digest DIGEST`"
    )]
    Content {
        /// The table, with the column if the value is in one: `in_force.text`.
        location: &'static str,
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
    /// The transaction of this request was rolled back because of this error of another request in it.
    #[error(
        "the database gave up a transaction and changed nothing ({0}); try again, and check the disk if it stays so"
    )]
    RolledBack(String),
    /// Another SQLite error.
    #[error("the database cannot be used: {0}")]
    Failed(Arc<rusqlite::Error>),
    /// The system cannot start a thread, for this cause.
    #[error(
        "the operating system gives no thread for the database: {0}; check the limits of the service"
    )]
    Thread(String),
    /// The thread that owns the database is gone.
    #[error("the database is closed; restart qchost")]
    Closed,
    /// A backup could not be made.
    #[error("cannot back up the database to {}: {why}; what was written of it was removed", path.display())]
    Backup {
        /// Its target.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// The system provides no random numbers.
    #[error("the operating system gives no random numbers for an identifier: {0}")]
    Random(#[from] getrandom::Error),
}

impl LedgerError {
    /// The error of a text in this table and column that is no JSON of the expected type.
    pub(crate) fn content(location: &'static str) -> impl Fn(serde_json::Error) -> Self + Copy {
        move |error| Self::Content {
            location,
            why: error.to_string(),
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        // The index of the write-ahead log needs space too, and SQLite has a separate code for it.
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

/// Lets `?` convert SQLite errors into an error type with a variant for [`LedgerError`].
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
