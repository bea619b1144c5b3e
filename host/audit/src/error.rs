//! What can go wrong with the audit, said so that an operator knows what to do.
//!
//! One fault fails every caller of a group, so errors can be cloned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why something was not recorded, or why the audit does not open.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The entry can never be recorded, however the disk is.
    #[error("this entry cannot be recorded: {0}")]
    Unfit(String),
    /// No space: nothing of the group was recorded. Reads go on, and what is essential is still
    /// recorded in the reserve.
    #[error(
        "the disk of the audit folder {} is full, so writes and trades are refused: free some space there, and they go on by themselves ({source})",
        .folder.display()
    )]
    DiskFull {
        /// The audit's folder.
        folder: PathBuf,
        /// What the system said.
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
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The files are in a state that is not known, so nothing more is recorded.
    #[error(
        "the audit in {} refuses every further entry, because {why}; check that disk, run `qchost audit verify`, then start the host again",
        .folder.display()
    )]
    Poisoned {
        /// The audit's folder.
        folder: PathBuf,
        /// What happened.
        why: Arc<str>,
    },
    /// The audit was closed.
    #[error("the audit is closed: the host is ending")]
    Closed,
    /// A file or folder cannot be used at all.
    #[error("could not {doing} {}: {source}", .path.display())]
    Files {
        /// What was being done, such as `read`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The key is too short to sign with.
    #[error("the audit's key has {bytes} bytes, and at least 16 are needed: make a new one")]
    ShortKey {
        /// How many it has.
        bytes: usize,
    },
    /// There are records, and no head that says which is the last.
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
        /// What is wrong with it.
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
        /// Who says so: the head file or the database.
        witness: &'static str,
        /// The sequence of the head.
        head: u64,
        /// The sequence of the last record that is there.
        last: u64,
    },
    /// A record is not the one that was signed.
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
        /// What is wrong.
        what: String,
    },
    /// There are more records past the head than a crash can leave.
    #[error(
        "the audit in {} has records past its signed head ({head}) that no crash of the host leaves ({what}): somebody added them, or the head is an old one; restore the folder from a backup",
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
    /// The head that the database keeps does not belong to this audit.
    #[error(
        "the audit head in the database does not belong to the audit in {}: {why}; database and audit are not of one set: restore both from the same backup",
        .folder.display()
    )]
    Recorded {
        /// The audit's folder.
        folder: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// An export could not be written.
    #[error("the export could not be written: {0}; what was written is not complete")]
    Export(Arc<io::Error>),
    /// A head that was given to compare with cannot be used.
    #[error("this is not a head of this audit: {0}")]
    Since(String),
}

impl AuditError {
    /// An error of the system's, with what was being done to what.
    pub(crate) fn files(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files {
            doing,
            path,
            source: Arc::new(source),
        }
    }
}

/// Whether an error says that there is no room, and not that something is broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
