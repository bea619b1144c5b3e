//! The form of a backup: a folder with the host's data and its files, and a signed list of them.
//!
//! `list` is the list, `files` copies and compares, `host_files` are the configuration, manifests, guardrails and
//! components, and `target` is the folder that they are restored into.

mod files;
mod host_files;
mod list;
mod target;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use qchost_audit::Disk;

pub use files::{copy_listed, copy_private, digest, open_regular};
pub use host_files::{PLACES, check_pins, copy_host_files, incomplete_files};
pub use list::{ByHand, FILES, LIST, List, MAX_LIST_BYTES};
pub use target::Target;

use crate::keys::{self, Key};

/// Verifies the audit in a folder with the key there; returns its number of records.
pub fn verify_audit(folder: &Path) -> Result<u64> {
    let key = Key::read(&keys::path(folder))?.audit()?;
    let audit = folder.join("audit");
    let report = qchost_audit::verify(&Disk, &audit, &key, None)?;
    if let Some(problem) = report.problems.first() {
        bail!("{}: the record is not whole: {problem}", audit.display());
    }
    ensure!(
        report.head.is_some(),
        "{}: no signed head says that the record is all there",
        audit.display()
    );
    Ok(report.records)
}
