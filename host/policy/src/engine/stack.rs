//! Room on the stack for what goes down into a policy.
//!
//! Cedar parses, checks, evaluates, prints and frees an expression by recursion, and checks the room for some of that only.
//! Threads of the host have 2 MiB or less.
//!
//! Invariant: a policy that an operator wrote is touched inside of [`with_room`], and freed there too, as a [`Deep`].

use std::fmt;
use std::mem;
use std::ops::Deref;

/// How much of a stack the deepest guardrail may take, in bytes. `host/policy/tests/depth.rs` holds them against each other.
const NEEDED: usize = 96 << 20;
/// How much is given where less is left. What is not used takes no memory.
const GIVEN: usize = 128 << 20;

/// Does something with policies of any depth that the bounds let in.
pub(crate) fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(NEEDED, GIVEN, work)
}

/// The depth from which on a policy is given room: below, what Cedar asks for and a thread has is enough.
const DEEP: usize = 24;

/// A policy that is freed and printed where there is room for it.
#[derive(Clone, Default)]
pub(crate) struct Deep<T: Default> {
    value: T,
    is_deep: bool,
}

impl<T: Default> Deep<T> {
    /// What is at most so deep: the brackets and operators of its text.
    pub(crate) fn new(value: T, depth: usize) -> Self {
        Self::with(value, depth >= DEEP)
    }

    pub(crate) fn with(value: T, is_deep: bool) -> Self {
        Self { value, is_deep }
    }

    /// Whether it is to be touched [`with_room`] only.
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
