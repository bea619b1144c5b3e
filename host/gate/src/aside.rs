//! Reading what plugins and servers wrote, where it may take a while: off the threads that serve.
//!
//! Invariant: of each plugin one text at a time is read aside, over all its invocations, and its invocation is charged
//! for it. A serving thread reads no text longer than [`AT_ONCE`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use qchost_catalog::Failure;
use tokio::sync::Semaphore;

use crate::ask::Caller;
use crate::gate::Gate;
use crate::refusal::Refusal;

/// Bytes that are read at once: that takes a millisecond at most, whatever stands in them.
const AT_ONCE: usize = 16 << 10;

/// The plugins that ever had something read aside. One entry per plugin seen.
#[derive(Default)]
pub(crate) struct Aside(Mutex<HashMap<Arc<str>, Arc<Semaphore>>>);

impl Aside {
    fn of(&self, plugin: &Arc<str>) -> Arc<Semaphore> {
        let mut plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = plugins.entry(Arc::clone(plugin));
        Arc::clone(limit.or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

impl Gate {
    /// Reads so many bytes that are the plugin's own or were caused by it: at once where they are few, and aside
    /// otherwise. What was begun runs to its end when the future is dropped, and holds the plugin's place until then,
    /// so `read` has to take a bounded time.
    ///
    /// # Errors
    /// When the host itself failed.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        caller: &Caller,
        bytes: usize,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        if bytes <= AT_ONCE {
            return Ok(read());
        }
        // It is never closed.
        let place = self.0.aside.of(&caller.plugin).acquire_owned().await;
        let effort = caller.effort.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            effort.charge_work(read)
        });
        reading.await.map_err(|_| {
            let failed = "the host failed while it read what was asked; nothing was sent";
            Refusal::Failed(Failure::Unavailable(failed.to_owned()))
        })
    }
}
