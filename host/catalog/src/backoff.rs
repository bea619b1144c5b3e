//! Exponential back-off.
//!
//! The crate `backon` does not replace it: its jitter is added on top of the longest wait, and its state is an iterator,
//! where ours is a count of failures that outlives the loop that waits.
//!
//! Invariant: the wait grows from `initial` to `max` and never beyond; without jitter it depends
//! only on the number of failures.

use std::time::Duration;

/// An exponential back-off with jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// From 0 to 1: up to this fraction of a wait is subtracted at random, so that the clients of a
    /// server that comes back do not all return at once. 0 makes the waits predictable.
    pub jitter: f64,
}

impl Default for Backoff {
    /// From 250 ms to 30 s, up to half of it random.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(250),
            max: Duration::from_secs(30),
            jitter: 0.5,
        }
    }
}

impl Backoff {
    /// Without jitter.
    #[must_use]
    pub const fn exact(initial: Duration, max: Duration) -> Self {
        let jitter = 0.0;
        Self {
            initial,
            max,
            jitter,
        }
    }

    /// The wait after this many consecutive failures; zero after none.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        self.delay_at(failures, fastrand::f64())
    }

    /// The wait for a random number `sample` in 0..1.
    fn delay_at(&self, failures: u32, sample: f64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let full = self.initial.saturating_mul(factor).min(self.max);
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * sample.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let backoff = Backoff::exact(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..7)
            .map(|failures| backoff.delay(failures).as_millis())
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn jitter_only_shortens(failures in 1_u32.., sample in 0.0..1.0, jitter in -1.0..2.0) {
            let backoff = Backoff { jitter, ..Backoff::default() };
            let full = Backoff { jitter: 0.0, ..backoff }.delay(failures);
            prop_assert!(backoff.delay_at(failures, sample) <= full);
        }
    }
}
