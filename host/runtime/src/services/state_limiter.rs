//! Limits one plugin's use of the state store, over all its invocations. Requests above the limit wait.
//!
//! Invariant: one plugin never delays others for long: it has few concurrent requests at the store, whose writes share
//! transactions with reservations of all plugins, and the bytes it writes per second are limited.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_traffic::RateLimiter;
use tokio::sync::Semaphore;

/// Maximum concurrent requests.
const MAX_REQUESTS: usize = 4;
/// Bytes that may be written per second.
const MAX_BYTES_PER_SECOND: usize = 4 << 20;
/// Maximum microseconds' worth of bytes at once, after an equally long pause: the whole quota of a plugin.
const MAX_BURST: u32 = 4_000_000;

/// The limits of one plugin.
#[derive(Debug)]
pub(crate) struct StateLimiter {
    pub(crate) requests: Semaphore,
    /// Written bytes, in microseconds' worth.
    written: Mutex<RateLimiter>,
}

impl Default for StateLimiter {
    fn default() -> Self {
        let written = RateLimiter::new(Duration::from_micros(1), MAX_BURST);
        Self {
            requests: Semaphore::new(MAX_REQUESTS),
            written: Mutex::new(written),
        }
    }
}

impl StateLimiter {
    /// Until when a write of `bytes` bytes has to wait.
    pub(crate) fn until(&self, bytes: usize, now: Instant) -> Instant {
        // Fine enough that small writes cost next to nothing.
        let microseconds = bytes.saturating_mul(1_000_000) / MAX_BYTES_PER_SECOND;
        let microseconds = u32::try_from(microseconds).unwrap_or(u32::MAX);
        let mut written = self.written.lock();
        now + written.take_after(microseconds, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_writes_its_quota_at_once_and_then_so_much_a_second() {
        let (limiter, now) = (StateLimiter::default(), Instant::now());
        for _ in 0..=16 {
            assert_eq!(limiter.until(1 << 20, now), now);
        }
        assert_eq!(
            limiter.until(4 << 20, now),
            now + Duration::from_millis(250)
        );
        assert_eq!(limiter.until(0, now), now + Duration::from_millis(1250));
        let small = StateLimiter::default();
        assert!((0..100_000).all(|_| small.until(100, now) == now));
        let later = now + Duration::from_secs(3600);
        assert_eq!(limiter.until(16 << 20, later), later);
    }
}
