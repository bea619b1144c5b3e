//! Errors of the audit, with a remedy for the operator.
//!
//! One fault fails every caller of a group, so errors can be cloned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why something was not recorded, or why the audit does not open.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The entry can never be recorded, whatever the state of the disk.
    #[error("this entry cannot be recorded: {0}")]
    Unfit(String),
    /// No space: nothing of the group was recorded. Reads go on, and essential entries are still
    /// recorded in the reserve.
    #[error(
        "the disk of the audit folder {} is full, so writes and trades are refused: free some space there, and they go on by themselves ({source})",
        .folder.display()
    )]
    DiskFull {
        /// The audit's folder.
        folder: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// Writing or syncing failed; nothing of the group was recorded, and the audit goes on.
    #[error(
        "could not write to the audit folder {}: {source}; nothing was recorded, and the next entry is tried again: check that disk",
        .folder.display()
    )]
    Write {
        /// The audit's folder.
        folder: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The state of the files is unknown, so nothing more is recorded.
    #[error(
        "the audit in {} refuses every further entry, because {why}; check that disk, run `qchost audit verify`, then start the host again",
        .folder.display()
    )]
    Poisoned {
        /// The audit's folder.
        folder: PathBuf,
        /// The cause.
        why: Arc<str>,
    },
    /// The audit was closed.
    #[error("the audit is closed: the host is ending")]
    Closed,
    /// A file or folder cannot be used.
    #[error("could not {doing} {}: {source}", .path.display())]
    Files {
        /// The operation, such as `read`.
        doing: &'static str,
        /// Its target.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The key is too short to sign with.
    #[error("the audit's key has {bytes} bytes, and at least 16 are needed: make a new one")]
    ShortKey {
        /// Its length in bytes.
        bytes: usize,
    },
    /// There are records, but no head that identifies the last one.
    #[error(
        "{} has audit records and no signed head: restore the file `head` from a backup; if it is lost for good, move the folder away and start a new one",
        .folder.display()
    )]
    HeadMissing {
        /// The audit's folder.
        folder: PathBuf,
    },
    /// Neither copy of the head was signed with this key.
    #[error(
        "the audit head {} is not signed with this host's key ({why}): restore it from a backup, or the key that it was signed with",
        .path.display()
    )]
    HeadForged {
        /// The head's file.
        path: PathBuf,
        /// The problem.
        why: String,
    },
    /// Records are missing at the end.
    #[error(
        "the audit in {} was cut off: {witness} says that record {head} was made, and the last one there is {last}: restore the folder from a backup, or find out who removed records",
        .folder.display()
    )]
    TailCut {
        /// The audit's folder.
        folder: PathBuf,
        /// The source of the head: the head file or the database.
        witness: &'static str,
        /// The sequence of the head.
        head: u64,
        /// The sequence number of the last record found.
        last: u64,
    },
    /// A record differs from the one that was signed.
    #[error(
        "the audit was changed: {segment} line {line} (record {sequence}): {what}; run `qchost audit verify`, and restore the folder from a backup"
    )]
    Broken {
        /// The segment's file name.
        segment: String,
        /// The line, from 1.
        line: u64,
        /// The record's sequence.
        sequence: u64,
        /// The problem.
        what: String,
    },
    /// There are more records past the head than a crash can leave.
    #[error(
        "the audit in {} has records past its signed head ({head}) that no crash of the host leaves ({what}): they were added by another program, or the head is an old one; restore the folder from a backup",
        .folder.display()
    )]
    Unsigned {
        /// The audit's folder.
        folder: PathBuf,
        /// The sequence of the head.
        head: u64,
        /// What was found.
        what: String,
    },
    /// The head in the database does not belong to this audit.
    #[error(
        "the audit head in the database does not belong to the audit in {}: {why}; database and audit are not of one set: restore both from the same backup",
        .folder.display()
    )]
    Recorded {
        /// The audit's folder.
        folder: PathBuf,
        /// The mismatch.
        why: String,
    },
    /// An export could not be written.
    #[error("the export could not be written: {0}; what was written is not complete")]
    Export(Arc<io::Error>),
    /// The head given for comparison cannot be used.
    #[error("this is not a head of this audit: {0}")]
    Since(String),
}

impl AuditError {
    /// Converts a system error, given the operation and its target.
    pub(crate) fn files(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files {
            doing,
            path,
            source: Arc::new(source),
        }
    }
}

/// Whether an error means that there is no space, rather than a fault.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
