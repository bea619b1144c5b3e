//! Why a folder cannot be granted, and why a plugin's request to one is refused.

use std::io;
use std::path::PathBuf;

/// Why a request is refused: the cases of the contract's `folder-error`, each with a sentence for the plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// The manifest grants no folder of this name.
    #[error("{0}")]
    NotGranted(String),
    /// The path is not of the form that is taken.
    #[error("{0}")]
    InvalidPath(String),
    /// There is no regular file at the path.
    #[error("{0}")]
    NotFound(String),
    /// The folder is granted for reading only.
    #[error("{0}")]
    ReadOnly(String),
    /// The path does not have what was expected, or something that is not a regular file is in the way.
    #[error("{0}")]
    Conflict(String),
    /// The change would exceed a quota, or there is more than may be listed or read at once.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The file system does not allow it.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a granted folder cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel cannot confine access to it.
    #[error(
        "the folder `{name}` cannot be granted: this system has no `openat2`, by which the host keeps plugins in their folders; \
         it needs Linux 5.6 or newer, and a container whose seccomp profile allows it"
    )]
    Unsupported {
        /// Name of the grant.
        name: String,
    },
    /// The path is relative.
    #[error("the folder `{name}` has the path {}, which is relative; write one that begins with `/`", path.display())]
    Relative {
        /// Name of the grant.
        name: String,
        /// Its path.
        path: PathBuf,
    },
    /// There is no folder at the path.
    #[error(
        "the folder `{name}` cannot be opened: {} is not a folder, or a link to one; create it, or name the folder itself",
        path.display()
    )]
    NotAFolder {
        /// Name of the grant.
        name: String,
        /// Its path.
        path: PathBuf,
    },
    /// The folder cannot be opened.
    #[error("the folder `{name}` cannot be opened: {}: {source}", path.display())]
    Unavailable {
        /// Name of the grant.
        name: String,
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It would give access to something that is never granted.
    #[error(
        "the folder `{name}` cannot be granted: {} {relation} {what} ({}); grant a folder that is apart from it",
        path.display(), place.display()
    )]
    Forbidden {
        /// Name of the grant.
        name: String,
        /// Its path.
        path: PathBuf,
        /// `is`, `contains` or `lies in`.
        relation: &'static str,
        /// What is at the place.
        what: &'static str,
        /// The place.
        place: PathBuf,
    },
}
