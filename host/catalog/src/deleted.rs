//! Where QuantConnect keeps deleted projects.

/// What the names of deleted projects begin with: they stay in the list of projects.
pub const RECYCLE_BIN: &str = "Recycle Bin/";

/// Whether a project of this name is deleted.
#[must_use]
pub fn is_deleted_project(name: &str) -> bool {
    name.starts_with(RECYCLE_BIN)
}
