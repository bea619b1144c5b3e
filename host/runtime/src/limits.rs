//! Memory limits: of one invocation, of all invocations of a plugin, and of all plugins.
//!
//! A plugin's sum is bounded by its manifest (its limit times its concurrency), and also by what it
//! leaves to others: it never has more than is free. So a plugin that takes all it can get leaves
//! half of the host's memory, a second one half of that, and the others keep running.
//!
//! Invariant: the host-wide sum is never above its limit, and every byte charged to an invocation
//! is returned when the invocation ends, and not before: growth that was allowed and that the
//! engine then failed to provide stays charged, since the engine reports it the same way as growth
//! that it never requested, and a guest could otherwise get a refund for memory that it keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// Maximum core instances of one component. Python's toolchain makes at least 14.
pub(crate) const MAX_CORE_INSTANCES: u32 = 64;
/// Maximum memories of one component. QuickJS has two.
pub(crate) const MAX_MEMORIES: u32 = 8;
/// Maximum tables of one component.
pub(crate) const MAX_TABLES: u32 = 32;
/// Bytes of a table element in the host.
pub(crate) const ELEMENT_BYTES: u64 = 16;

/// The memory of all guests together. Clones are the same budget.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self(Arc::new(BudgetState {
            used: AtomicU64::new(0),
            limit,
        }))
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    /// A new share of it for one plugin.
    pub(crate) fn share(&self) -> Share {
        Share(Arc::new(ShareState {
            used: AtomicU64::new(0),
            whole: self.clone(),
        }))
    }
}

/// The memory of all invocations of one plugin together. Clones are the same sum.
#[derive(Debug, Clone)]
pub(crate) struct Share(Arc<ShareState>);

#[derive(Debug)]
struct ShareState {
    used: AtomicU64,
    whole: Budget,
}

impl Share {
    fn take(&self, bytes: u64) -> bool {
        let ShareState { used, whole } = &*self.0;
        let own = used.fetch_add(bytes, Ordering::AcqRel);
        let own = own.saturating_add(bytes);
        let fits = |used: u64| {
            let sum = used.checked_add(bytes)?;
            let free = whole.0.limit.checked_sub(sum)?;
            (own <= free).then_some(sum)
        };
        let taken = whole
            .0
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok();
        if !taken {
            used.fetch_sub(bytes, Ordering::AcqRel);
        }
        taken
    }

    fn release(&self, bytes: u64) {
        let ShareState { used, whole } = &*self.0;
        whole.0.used.fetch_sub(bytes, Ordering::AcqRel);
        used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The memory of one invocation, within its own limit and the host's.
#[derive(Debug)]
pub(crate) struct Allocation {
    share: Share,
    limit: u64,
    used: u64,
    exceeded: Option<ExceededLimit>,
}

/// The limit that a growth would have exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExceededLimit {
    /// The invocation's.
    Own,
    /// The host's, or the part of it that is left to other plugins.
    Host,
}

impl Allocation {
    pub(crate) fn new(share: Share, limit: u64) -> Self {
        Self {
            share,
            limit,
            used: 0,
            exceeded: None,
        }
    }

    /// Whether it was ever refused memory: a trap after that is attributed to it.
    pub(crate) fn exceeded(&self) -> Option<ExceededLimit> {
        self.exceeded
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            self.exceeded = Some(ExceededLimit::Own);
            return false;
        }
        if !self.share.take(bytes) {
            self.exceeded = Some(ExceededLimit::Host);
            return false;
        }
        self.used = used;
        true
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.share.release(self.used);
    }
}

fn growth(current: usize, desired: usize) -> u64 {
    u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX)
}

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl ResourceLimiter for Allocation {
    // A pool rejects a component that exceeds these when it is loaded. Without a pool, it is rejected when it is instantiated.
    fn instances(&self) -> usize {
        count(MAX_CORE_INSTANCES)
    }

    fn memories(&self) -> usize {
        count(MAX_MEMORIES)
    }

    fn tables(&self) -> usize {
        count(MAX_TABLES)
    }

    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Growth beyond the module's own maximum fails without being charged.
        let allowed = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(allowed && self.grow(growth(current, desired)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(allowed && self.grow(growth(current, desired).saturating_mul(ELEMENT_BYTES)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_count_together_and_are_given_back() {
        let budget = Budget::new(2000);
        let mut one = Allocation::new(budget.share(), 600);
        assert!(one.memory_growing(0, 400, None).unwrap());
        assert!(one.table_growing(0, 10, None).unwrap());
        assert!(!one.memory_growing(400, 500, None).unwrap());
        assert_eq!(one.exceeded(), Some(ExceededLimit::Own));
        assert_eq!(budget.used(), 560);
        drop(one);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_greedy_plugin_leaves_half_of_what_it_found() {
        let budget = Budget::new(1024);
        let mut left = Vec::new();
        let mut greedy = Vec::new();
        for _ in 0..5 {
            let share = budget.share();
            // What one invocation may not have, several of the plugin may not have together.
            for _ in 0..2 {
                let mut one = Allocation::new(share.clone(), u64::MAX);
                while one.grow(1) {}
                assert_eq!(one.exceeded(), Some(ExceededLimit::Host));
                greedy.push(one);
            }
            left.push(1024 - budget.used());
        }
        assert_eq!(left, [512, 256, 128, 64, 32]);
        drop(greedy);
        assert_eq!(budget.used(), 0);
    }
}
