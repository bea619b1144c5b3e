//! Space kept back for what must be recorded when the disk is full.
//!
//! Invariant: entries that are not essential are written only while the reserve is there. So
//! once it was given up for an essential one, nothing else takes its space until it was made
//! again, and that succeeds only when the disk has room.

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
    /// The reserve of a folder, as it is there.
    pub fn find(files: &dyn Files, folder: &Path, bytes: u64) -> Self {
        let path = folder.join(RESERVE);
        let size = files.open(&path, Mode::Read).and_then(|file| file.size());
        Self {
            held: bytes == 0 || size.is_ok_and(|size| size == bytes),
            path,
            bytes,
        }
    }

    /// Sees to it that it is there.
    ///
    /// # Errors
    /// There is no space for it; then what was made of it is removed again.
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

    /// Gives its space up.
    pub fn release(&mut self, files: &dyn Files) {
        if self.bytes == 0 || !self.held {
            return;
        }
        self.held = false;
        // Emptied first: that frees the space even while somebody else has the file open.
        let emptied = files.open(&self.path, Mode::Create).map(drop);
        if let Err(error) = emptied.and_then(|()| files.remove(&self.path)) {
            tracing::error!(%error, path = %self.path.display(), "could not release the audit's reserve");
        }
    }
}
