//! Memory: what one invocation may have, and what all of them together may have.
//!
//! Invariant: the host-wide sum is never above its limit, and every byte that an invocation was
//! charged is given back when it ends, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// Bytes that a table element takes in the host.
const ELEMENT: u64 = 16;

/// The memory of all guests together. Clones are the same budget.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Sum>);

#[derive(Debug)]
struct Sum {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self(Arc::new(Sum {
            used: AtomicU64::new(0),
            limit,
        }))
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        self.0
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok()
    }
}

/// What one invocation has, of its own limit and of the host's.
#[derive(Debug)]
pub(crate) struct Allocation {
    budget: Budget,
    limit: u64,
    used: u64,
    refused: Option<Refused>,
}

/// Whose limit a growth would have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The invocation's.
    Own,
    /// The host's.
    Host,
}

impl Allocation {
    pub(crate) fn new(budget: Budget, limit: u64) -> Self {
        Self {
            budget,
            limit,
            used: 0,
            refused: None,
        }
    }

    /// Whether it was ever refused memory: a trap after that is for want of it.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            self.refused = Some(Refused::Own);
            return false;
        }
        if !self.budget.take(bytes) {
            self.refused = Some(Refused::Host);
            return false;
        }
        self.used = used;
        true
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.used, Ordering::AcqRel);
    }
}

fn growth(current: usize, desired: usize) -> u64 {
    u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX)
}

impl ResourceLimiter for Allocation {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // What the module itself forbids fails without being charged.
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
        Ok(allowed && self.grow(growth(current, desired).saturating_mul(ELEMENT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_count_together_and_are_given_back() {
        let budget = Budget::new(1000);
        let mut one = Allocation::new(budget.clone(), 600);
        assert!(one.memory_growing(0, 400, None).unwrap());
        assert!(one.table_growing(0, 10, None).unwrap());
        assert!(!one.memory_growing(400, 500, None).unwrap());
        assert_eq!(one.refused(), Some(Refused::Own));

        let mut two = Allocation::new(budget.clone(), 600);
        assert!(!two.memory_growing(0, 500, None).unwrap());
        assert_eq!(two.refused(), Some(Refused::Host));
        drop(one);
        assert!(two.memory_growing(0, 500, None).unwrap());
        drop(two);
        assert_eq!(budget.0.used.load(Ordering::Acquire), 0);
    }
}
