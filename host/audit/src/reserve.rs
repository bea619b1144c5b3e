//! Disk space reserved for entries that must be recorded when the disk is full.
//!
//! Invariant: entries that are not essential are written only while the reserve exists. So once it
//! was released for an essential one, nothing else takes its space until it is created again, which
//! succeeds only when the disk has room.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::{Files, Mode};

const RESERVE: &str = "reserve";

#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// The reserve of a folder in its current state.
    pub fn find(files: &dyn Files, folder: &Path, bytes: u64) -> Self {
        let path = folder.join(RESERVE);
        let size = files.open(&path, Mode::Read).and_then(|file| file.size());
        Self {
            held: bytes == 0 || size.is_ok_and(|size| size == bytes),
            path,
            bytes,
        }
    }

    /// Makes sure that it exists.
    ///
    /// # Errors
    /// There is no space for it; a partial file is removed again.
    pub fn make(&mut self, files: &dyn Files) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        if let Err(error) = files.preallocate(&self.path, self.bytes) {
            let _ = files.remove(&self.path);
            return Err(error);
        }
        self.held = true;
        Ok(())
    }

    /// Releases its space.
    pub fn release(&mut self, files: &dyn Files) {
        if self.bytes == 0 || !self.held {
            return;
        }
        self.held = false;
        // Truncated first: that frees the space even if another process has the file open.
        let emptied = files.open(&self.path, Mode::Create).map(drop);
        if let Err(error) = emptied.and_then(|()| files.remove(&self.path)) {
            tracing::error!(%error, path = %self.path.display(), "could not release the audit's reserve");
        }
    }
}
