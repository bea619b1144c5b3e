//! How many calls of a grant are under way at a time.
//!
//! Invariant: a slot is taken until it is dropped, however the call ends, and calls that have no
//! limit are counted too: a limit that comes with a reload holds for what already runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::GrantKey;

/// The calls under way, by grant. Clones are the same count.
#[derive(Debug, Clone, Default)]
pub struct Concurrency(Arc<Mutex<HashMap<GrantKey, u32>>>);

/// A place among the calls of a grant; dropping it frees the place.
#[derive(Debug)]
#[must_use = "the place is free again as soon as this is dropped"]
pub struct Slot {
    counts: Concurrency,
    key: GrantKey,
}

impl Concurrency {
    /// A place, if fewer than `limit` calls of the grant are under way; `None` if not. The limit is
    /// the one of now: where it was lowered, what is above it ends by itself.
    pub fn try_acquire(&self, key: &GrantKey, limit: Option<u32>) -> Option<Slot> {
        let mut counts = self.counts();
        let running = counts.get(key).copied().unwrap_or_default();
        if limit.is_some_and(|limit| running >= limit) {
            return None;
        }
        counts.insert(key.clone(), running.saturating_add(1));
        Some(Slot {
            counts: self.clone(),
            key: key.clone(),
        })
    }

    /// How many calls of a grant are under way.
    #[must_use]
    pub fn running(&self, key: &GrantKey) -> u32 {
        self.counts().get(key).copied().unwrap_or_default()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<GrantKey, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.counts();
        if let Some(running) = counts.get_mut(&self.key) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
