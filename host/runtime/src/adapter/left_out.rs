//! Rows of an answer that cannot be read.
//!
//! Invariant: every row that is missing from the list that an agent gets is counted here.

use std::cell::{Cell, RefCell};

use super::misfit::Misfit;

/// Counts the rows left out of one answer.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    count: Cell<u32>,
    first: RefCell<Option<Misfit>>,
}

impl LeftOut {
    /// Counts a row that is left out.
    pub(super) fn add(&self, misfit: Misfit) {
        self.count.set(self.count.get().saturating_add(1));
        self.first.borrow_mut().get_or_insert(misfit);
    }

    /// The number of rows left out, and the problem of the first one; its path is relative to its list.
    pub(crate) fn finish(self) -> Option<(u32, Misfit)> {
        Some((self.count.get(), self.first.into_inner()?))
    }
}
