//! File descriptors reserved for requests that stop the host, when all others are in use.

use parking_lot::Mutex;
use std::fs::File;
use std::sync::Arc;

/// Number of reserved descriptors.
const RESERVED_DESCRIPTORS: usize = 16;

/// The reserve. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reserve(Arc<Mutex<Vec<File>>>);

/// A descriptor released for one connection; reserved again when this is dropped.
#[derive(Debug)]
pub(super) struct Spare(Reserve);

impl Reserve {
    /// Fills the reserve.
    pub(super) fn new() -> Self {
        let reserve = Self::default();
        reserve.fill();
        reserve
    }

    /// Reserves what is missing, as far as possible; returns whether the reserve is full.
    pub(super) fn fill(&self) -> bool {
        let mut reserved = self.0.lock();
        while reserved.len() < RESERVED_DESCRIPTORS {
            match File::open("/dev/null") {
                Ok(file) => reserved.push(file),
                Err(_) => return false,
            }
        }
        true
    }

    /// Releases one descriptor, for the connection that is accepted next.
    pub(super) fn release(&self) -> Option<Spare> {
        let mut reserved = self.0.lock();
        reserved.pop().map(|_| Spare(self.clone()))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // The connection was closed before, so a descriptor is free, unless another thread was quicker.
        self.0.fill();
    }
}
