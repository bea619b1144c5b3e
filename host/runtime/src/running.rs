//! A count of what runs, changed by many threads at once.
//!
//! Each thread counts on a cache line of its own, and the lines are summed when the count is read: invocations are counted
//! far more often than anything reads how many there are.
//!
//! Invariant: the sum includes everything that began before it was read and ended after.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Cache lines of a count; threads beyond share them.
const LINES: usize = 16;

/// The count.
#[derive(Debug, Default)]
pub(crate) struct RunningCount([Line; LINES]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line(AtomicUsize);

/// Counts while it lives.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a AtomicUsize);

impl RunningCount {
    pub(crate) fn begin(&self) -> Running<'_> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let Self(lines @ [first, ..]) = self;
        let line = lines.get(THREAD.with(|thread| thread % LINES));
        let Line(count) = line.unwrap_or(first);
        count.fetch_add(1, Ordering::SeqCst);
        Running(count)
    }

    pub(crate) fn sum(&self) -> usize {
        let Self(lines) = self;
        lines
            .iter()
            .map(|Line(count)| count.load(Ordering::SeqCst))
            .sum()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_on_one_thread_may_end_on_another() {
        let count = RunningCount::default();
        let one = count.begin();
        std::thread::scope(|scope| {
            let two = scope.spawn(|| count.begin()).join().unwrap();
            assert_eq!(count.sum(), 2);
            drop((one, two));
        });
        assert_eq!(count.sum(), 0);
    }
}
