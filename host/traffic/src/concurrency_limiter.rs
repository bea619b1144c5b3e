//! Limits the concurrent calls of a grant.
//!
//! Invariant: a guard is held until it is dropped, however the call ends. Calls without a limit are
//! counted too, so that a limit added by a reload includes running calls.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use crate::GrantKey;

/// The running calls, by grant. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct ConcurrencyLimiter(Arc<Mutex<HashMap<GrantKey, u32>>>);

/// One of the running calls of a grant; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the call counts as ended as soon as this is dropped"]
pub struct ConcurrencyGuard {
    counts: ConcurrencyLimiter,
    key: GrantKey,
}

impl ConcurrencyLimiter {
    /// Admits a call, if fewer than `limit` calls of the grant are running; `None` if not.
    /// `limit` is the current limit: if it was lowered, excess calls end by themselves.
    pub fn try_acquire(&self, key: &GrantKey, limit: Option<u32>) -> Option<ConcurrencyGuard> {
        let mut counts = self.0.lock();
        let running = counts.get(key).copied().unwrap_or_default();
        if limit.is_some_and(|limit| running >= limit) {
            return None;
        }
        counts.insert(key.clone(), running.saturating_add(1));
        Some(ConcurrencyGuard {
            counts: self.clone(),
            key: key.clone(),
        })
    }

    /// Number of running calls of a grant.
    #[must_use]
    pub fn running(&self, key: &GrantKey) -> u32 {
        self.0.lock().get(key).copied().unwrap_or_default()
    }
}

impl Drop for ConcurrencyGuard {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock();
        if let Some(running) = counts.get_mut(&self.key) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
