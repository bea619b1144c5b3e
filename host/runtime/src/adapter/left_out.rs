//! The rows of an answer that cannot be read.
//!
//! Invariant: a row that is not in the list that an agent gets is counted here.

use std::cell::{Cell, RefCell};

use super::misfit::Misfit;

/// Counts the rows that are left out of one answer.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    count: Cell<u32>,
    first: RefCell<Option<Misfit>>,
}

impl LeftOut {
    /// Leaves a row out.
    pub(super) fn add(&self, misfit: Misfit) {
        self.count.set(self.count.get().saturating_add(1));
        self.first.borrow_mut().get_or_insert(misfit);
    }

    /// How many were left out, and what is wrong with the first of them; its path is that within its list.
    pub(crate) fn finish(self) -> Option<(u32, Misfit)> {
        Some((self.count.get(), self.first.into_inner()?))
    }
}
