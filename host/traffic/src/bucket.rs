//! A token bucket, using the generic cell rate algorithm of `governor`.
//!
//! The library represents a bucket's fill as one number, the instant at which it will be full again. Here the caller
//! keeps that number, so that a call can be tried against several buckets and charged to all of them or none, and so
//! that a bucket outlives a change of its limit: the used fraction stays used, whatever the new size is.
//!
//! Invariant: from a bucket of `burst` that refills one per `interval`, at most `burst + d / interval` are taken
//! within any time `d`.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

pub(crate) use governor::Quota;
use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};

/// When the bucket will be full, in nanoseconds from the caller's origin. Zero is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// A bucket that was empty at or before the origin and has been refilling since: it is full `missing` after the
    /// origin.
    pub(crate) fn full_after(missing: Duration) -> Self {
        Self {
            full_at: nanoseconds(missing),
        }
    }

    /// The bucket after `count` were taken at `now` (since the origin), or how long to wait until that is possible.
    pub(crate) fn take(
        self,
        quota: Quota,
        count: NonZeroU32,
        now: Duration,
    ) -> Result<Self, Duration> {
        let now = Nanos::from(nanoseconds(now));
        let limiter = Limiter::new(quota, Level(Cell::new(self)), Time::default());
        // The library counts from the limiter's creation, which is the origin here.
        limiter.clock().0.set(now);
        match limiter.check_n(count) {
            Ok(Ok(())) => Ok(limiter.into_state_store().0.get()),
            Ok(Err(until)) => Err(until.wait_time_from(now)),
            // More than the burst is never possible.
            Err(_) => Err(Duration::MAX),
        }
    }

    /// The bucket after `count` were taken at `now` (since the origin), even if it was empty: the deficit refills first.
    pub(crate) fn overdraw(self, quota: Quota, count: u32, now: Duration) -> Self {
        let taken = nanoseconds(quota.replenish_interval().saturating_mul(count));
        Self {
            full_at: self.full_at.max(nanoseconds(now)).saturating_add(taken),
        }
    }

    /// How long it refills until it is no longer overdrawn.
    pub(crate) fn deficit(self, quota: Quota, now: Duration) -> Duration {
        let missing = self.full_at.saturating_sub(nanoseconds(now));
        Duration::from_nanos(missing).saturating_sub(capacity(quota))
    }

    /// The bucket after an unused one was returned.
    pub(crate) fn refund(self, quota: Quota) -> Self {
        let one = nanoseconds(quota.replenish_interval());
        Self {
            full_at: self.full_at.saturating_sub(one),
        }
    }

    /// The bucket under another quota: the used fraction stays used.
    pub(crate) fn rescaled(self, from: Quota, to: Quota, now: Duration) -> Self {
        let now = nanoseconds(now);
        let used = u128::from(self.full_at.saturating_sub(now));
        let used = used * capacity(to).as_nanos() / capacity(from).as_nanos().max(1);
        Self {
            full_at: now.saturating_add(u64::try_from(used).unwrap_or(u64::MAX)),
        }
    }
}

/// How long an empty bucket takes to refill.
fn capacity(quota: Quota) -> Duration {
    let interval = quota.replenish_interval();
    interval.saturating_mul(quota.burst_size().get())
}

/// Saturates after 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

type Limiter = RateLimiter<NotKeyed, Level, Time, NoOpMiddleware<Nanos>>;

/// The state of one trial.
struct Level(Cell<Bucket>);

impl StateStore for Level {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (answer, full_at) = decide(Some(self.0.get().full_at.into()))?;
        self.0.set(Bucket {
            full_at: full_at.into(),
        });
        Ok(answer)
    }
}

/// The instant of one trial.
#[derive(Default)]
struct Time(Cell<Nanos>);

impl Clock for Time {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}
