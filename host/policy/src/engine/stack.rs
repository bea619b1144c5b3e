//! Stack space for recursion into a policy.
//!
//! Cedar parses, checks, evaluates, prints and frees an expression by recursion, and checks the remaining stack for some of
//! these only. Threads of the host have 2 MiB or less.
//!
//! Invariant: a policy that an operator wrote is used only inside of [`with_stack`], and freed there too, as a
//! [`StackSafe`].

use std::fmt;
use std::mem;
use std::ops::Deref;

/// Stack bytes for the deepest guardrail. `host/policy/tests/depth.rs` verifies this.
const MIN_STACK: usize = 96 << 20;
/// Stack bytes provided if less is left. Unused stack takes no memory.
const STACK: usize = 128 << 20;

/// Runs `work` with enough stack for policies of any depth within the bounds.
pub(crate) fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(MIN_STACK, STACK, work)
}

/// Depth from which a policy needs extra stack: below, what Cedar checks for and a thread has is enough.
const EXTRA_STACK_DEPTH: usize = 24;

/// A policy that is freed and printed with enough stack.
#[derive(Clone, Default)]
pub(crate) struct StackSafe<T: Default> {
    value: T,
    is_deep: bool,
}

impl<T: Default> StackSafe<T> {
    /// `depth` is an upper bound: the brackets and operators of its text.
    pub(crate) fn new(value: T, depth: usize) -> Self {
        Self::with(value, depth >= EXTRA_STACK_DEPTH)
    }

    pub(crate) fn with(value: T, is_deep: bool) -> Self {
        Self { value, is_deep }
    }

    /// Whether it may only be used [`with_stack`].
    pub(crate) fn is_deep(&self) -> bool {
        self.is_deep
    }
}

impl<T: Default> Deref for StackSafe<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Default> Drop for StackSafe<T> {
    fn drop(&mut self) {
        if self.is_deep {
            let value = mem::take(&mut self.value);
            with_stack(|| drop(value));
        }
    }
}

impl<T: Default + fmt::Debug> fmt::Debug for StackSafe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_stack(|| self.value.fmt(f))
    }
}
