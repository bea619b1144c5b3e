//! Stack space for recursion into a policy.
//!
//! Cedar parses, checks, evaluates, prints and frees an expression by recursion, and checks the remaining stack for some of
//! these only. Threads of the host have 2 MiB or less.
//!
//! Invariant: a policy that an operator wrote is used only inside of [`with_room`], and freed there too, as a [`Deep`].

use std::fmt;
use std::mem;
use std::ops::Deref;

/// Stack bytes for the deepest guardrail. `host/policy/tests/depth.rs` verifies this.
const MIN_STACK: usize = 96 << 20;
/// Stack bytes provided if less is left. Unused stack takes no memory.
const STACK: usize = 128 << 20;

/// Runs `work` with enough stack for policies of any depth within the bounds.
pub(crate) fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(MIN_STACK, STACK, work)
}

/// Depth from which a policy needs extra stack: below, what Cedar checks for and a thread has is enough.
const DEEP_FROM: usize = 24;

/// A policy that is freed and printed with enough stack.
#[derive(Clone, Default)]
pub(crate) struct Deep<T: Default> {
    value: T,
    is_deep: bool,
}

impl<T: Default> Deep<T> {
    /// `depth` is an upper bound: the brackets and operators of its text.
    pub(crate) fn new(value: T, depth: usize) -> Self {
        Self::with(value, depth >= DEEP_FROM)
    }

    pub(crate) fn with(value: T, is_deep: bool) -> Self {
        Self { value, is_deep }
    }

    /// Whether it may only be used [`with_room`].
    pub(crate) fn is_deep(&self) -> bool {
        self.is_deep
    }
}

impl<T: Default> Deref for Deep<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Default> Drop for Deep<T> {
    fn drop(&mut self) {
        if self.is_deep {
            let value = mem::take(&mut self.value);
            with_room(|| drop(value));
        }
    }
}

impl<T: Default + fmt::Debug> fmt::Debug for Deep<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_room(|| self.value.fmt(f))
    }
}
