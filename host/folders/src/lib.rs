//! Folders of the host's machine that are granted to plugins: confined access to regular files.
//!
//! [`Folder`] is one of them. [`Places`] are the folders and files that no granted folder may be, contain or lie in.
//!
//! Invariant: nothing outside of a granted folder is read or changed through it, whatever a plugin asks for and whatever
//! other programs do in the folder meanwhile. Every object is reached by `openat2` from the folder's own descriptor
//! (`beneath.rs`), never by joining paths.

mod beneath;
mod error;
mod folder;
mod path;
mod places;
mod temporary;
mod walk;

pub use error::{FolderError, OpenError};
pub use folder::{Expectation, File, Folder, Folders, Grant, MAX_FILE_BYTES};
pub use path::{MAX_DEPTH, MAX_PATH_BYTES};
pub use places::{Place, Places, Rule, SharedPlaces, machine_places};
pub use walk::MAX_ENTRIES;
