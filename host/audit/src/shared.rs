//! What callers and the writer share.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast};

use crate::error::AuditError;
use crate::queue::Queue;

/// Lines that a follower may be behind before it loses some.
const MAX_BEHIND: usize = 4096;
/// Maximum KiB of records waiting for the disk; further callers wait before they can queue theirs.
const MAX_WAITING: usize = 32 * 1024;

/// State shared by callers and writer.
pub(crate) struct Shared {
    pub queue: Queue,
    /// Why nothing more is recorded, if so.
    pub poison: OnceLock<AuditError>,
    pub followers: broadcast::Sender<Arc<str>>,
    /// The newest durable signed head.
    head: Mutex<String>,
    /// In KiB, for records that wait for the disk.
    pub room: Arc<Semaphore>,
}

impl Shared {
    pub fn new() -> Self {
        let (followers, _) = broadcast::channel(MAX_BEHIND);
        Self {
            queue: Queue::default(),
            poison: OnceLock::new(),
            followers,
            head: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    pub fn head(&self) -> String {
        let head = self.head.lock();
        head.clone()
    }

    pub fn set_head(&self, head: String) {
        *self.head.lock() = head;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
