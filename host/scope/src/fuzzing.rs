//! Entry point for the fuzz targets of `host/testing/targets`: the files of a patch.

use std::collections::BTreeSet;

use crate::error::ScopeError;
use crate::patch::Patch;

/// The files that a call with this patch is assumed to touch.
///
/// # Errors
/// When that cannot be determined; the call is refused then.
pub fn patched_files(patch: &str) -> Result<BTreeSet<String>, ScopeError> {
    Patch::new("patch", patch)?.files()
}
