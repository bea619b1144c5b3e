//! Reading long texts of plugins and servers off the serving threads.
//!
//! Invariant: each plugin has at most one text read aside at a time, across all its invocations, and its invocation is
//! charged for the time. A serving thread reads no text longer than [`MAX_INLINE`].

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use qchost_catalog::Failure;
use tokio::sync::Semaphore;

use crate::call::Principal;
use crate::refusal::Refusal;

/// Texts up to this many bytes are read on the serving thread: that takes a millisecond at most, whatever they
/// contain.
const MAX_INLINE: usize = 16 << 10;

/// Runs long reads. Never pruned; one entry per plugin that had a text parsed off the serving threads.
#[derive(Default)]
pub(crate) struct LongReads(Mutex<HashMap<Arc<str>, Arc<Semaphore>>>);

impl LongReads {
    fn of(&self, plugin: &Arc<str>) -> Arc<Semaphore> {
        let mut plugins = self.0.lock();
        let limit = plugins.entry(Arc::clone(plugin));
        Arc::clone(limit.or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    /// Runs `read` over `bytes` bytes that the plugin wrote or caused: inline if they are few, otherwise on a thread
    /// that may block. The work is not cancelled when the future is dropped, and occupies the plugin's permit until it
    /// ends, so `read` has to take a bounded time.
    ///
    /// # Errors
    /// When the host itself failed.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        principal: &Principal,
        bytes: usize,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        if bytes <= MAX_INLINE {
            return Ok(read());
        }
        // The semaphore is never closed.
        let guard = self.of(&principal.plugin).acquire_owned().await;
        let cpu = principal.cpu.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            cpu.charge_work(read)
        });
        reading.await.map_err(|_| {
            let failed = "the host failed while it read what was asked; nothing was sent";
            Refusal::Failed(Failure::Unavailable(failed.to_owned()))
        })
    }
}
