//! A rate limit in memory.
//!
//! Invariant: within any time `d`, at most `burst + d / interval` are taken by [`RateLimiter::try_take`].

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::bucket::{Bucket, Quota};

/// A limit on how often something happens. The owner has the lock and the clock.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use qchost_traffic::RateLimiter;
///
/// let mut limiter = RateLimiter::new(Duration::from_secs(1), 2);
/// let now = Instant::now();
/// assert!(limiter.try_take(2, now) && !limiter.try_take(1, now));
/// assert!(limiter.try_take(1, now + Duration::from_secs(1)));
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    quota: Quota,
    bucket: Bucket,
    /// The first time it was used.
    origin: Option<Instant>,
}

impl RateLimiter {
    /// Allows `burst` (at least one) at once, and one per `interval` from then on.
    #[must_use]
    pub fn new(interval: Duration, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        // An interval of zero is no limit.
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(NonZeroU32::MAX));
        Self {
            quota: quota.allow_burst(burst),
            bucket: Bucket::default(),
            origin: None,
        }
    }

    /// Takes `count`, if that many are left now.
    pub fn try_take(&mut self, count: u32, now: Instant) -> bool {
        let Some(count) = NonZeroU32::new(count) else {
            return true;
        };
        let now = self.since_origin(now);
        match self.bucket.take(self.quota, count, now) {
            Ok(bucket) => {
                self.bucket = bucket;
                true
            }
            Err(_) => false,
        }
    }

    /// Takes `count` in any case; returns how long to wait for those that were taken before.
    pub fn take_after(&mut self, count: u32, now: Instant) -> Duration {
        let now = self.since_origin(now);
        let wait = self.bucket.deficit(self.quota, now);
        self.bucket = self.bucket.overdraw(self.quota, count, now);
        wait
    }

    fn since_origin(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.origin.get_or_insert(now))
    }
}
