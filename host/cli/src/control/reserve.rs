//! File descriptors that are kept for those who stop the host, when every other one is taken.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

/// How many.
const RESERVED: usize = 16;

/// The reserve. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reserve(Arc<Mutex<Vec<File>>>);

/// A descriptor that was given out for one connection; it comes back when this is dropped.
#[derive(Debug)]
pub(super) struct Spare(Reserve);

impl Reserve {
    /// Fills the reserve.
    pub(super) fn new() -> Self {
        let reserve = Self::default();
        reserve.fill();
        reserve
    }

    /// Opens what is missing, as far as there is room; whether it is all there.
    pub(super) fn fill(&self) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() < RESERVED {
            match File::open("/dev/null") {
                Ok(file) => kept.push(file),
                Err(_) => return false,
            }
        }
        true
    }

    /// Lets one descriptor go, for a connection that is accepted next.
    pub(super) fn give(&self) -> Option<Spare> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop().map(|_| Spare(self.clone()))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // The connection was closed before, so there is room for it again, unless another thread was quicker.
        self.0.fill();
    }
}
