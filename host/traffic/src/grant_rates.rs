//! Calls per second and per minute of a grant, and calls per half hour of an operation that QuantConnect limits.
//!
//! A limit of `n` is a bucket of `n` that refills evenly: `n` calls may be made at once, and from then on one in each
//! `n`th part of the period. So a period that begins with a full bucket can see up to `2n - 1` calls, and any number of
//! consecutive periods at most one bucket more than the limit times that number. A limit that QuantConnect sets is kept
//! exactly: the bucket is half of it and the other half refills, so no half hour sees more.
//!
//! The buckets are in memory, and only the fact that a bucket was used is durable: before the first call in each second
//! of the clock, a mark is stored that names the end of that second. After a restart a marked bucket begins empty as of
//! its mark. That takes at most one small transaction per second and grant, where the exact fill would take one per
//! call, and it errs on the side of the limit.
//!
//! Invariants: no call is let through in a second that is not durably marked. While the host runs, time is the
//! monotonic clock's, and across runs a mark in the future counts as of now: setting the clock back refills nothing. A
//! refusal takes nothing from any bucket. Later charges ([`GrantRates::charge`]) delay the next call and never let one
//! through.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qchost_ledger::{Ledger, LedgerError};

use crate::GrantKey;
use crate::bucket::{Bucket, Quota};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HALF_HOUR: Duration = Duration::from_secs(30 * 60);

/// Separates plugin and grant in a mark's key; no plugin name contains it.
const SEPARATOR: char = '/';

/// The current rates of a grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Calls per second; `None` is no limit.
    pub per_second: Option<u32>,
    /// Calls per minute; `None` is no limit.
    pub per_minute: Option<u32>,
    /// Calls in any half hour, half of them at once; `None` is no limit.
    pub per_half_hour: Option<u32>,
}

impl RateLimits {
    /// The rates, by the period in messages, each with its quota.
    fn quotas(self) -> [(&'static str, Duration, Option<Limit>); 3] {
        let limit = |most: Option<u32>, quota: fn(NonZeroU32) -> Quota| {
            most.map(|most| Limit {
                most,
                // A limit of zero has no quota: it always refuses.
                quota: NonZeroU32::new(most).map(quota),
            })
        };
        [
            ("second", SECOND, limit(self.per_second, Quota::per_second)),
            ("minute", MINUTE, limit(self.per_minute, Quota::per_minute)),
            (
                "half hour",
                HALF_HOUR,
                limit(self.per_half_hour, per_half_hour),
            ),
        ]
    }
}

/// A rate.
#[derive(Clone, Copy)]
struct Limit {
    most: u32,
    quota: Option<Quota>,
}

/// What is taken at once and what refills within half an hour are the limit together.
fn per_half_hour(limit: NonZeroU32) -> Quota {
    let burst = limit.get().div_ceil(2);
    let refilled = (limit.get() - burst).max(1);
    let spread = Quota::with_period(HALF_HOUR / refilled);
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    // A half hour has a period for every number of calls.
    spread
        .unwrap_or(Quota::per_hour(NonZeroU32::MIN))
        .allow_burst(burst)
}

/// An instant on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Milliseconds since 1970 by the machine's clock, which may be set; used for marks.
    pub unix_ms: i64,
    /// The monotonic clock; used for refilling.
    pub steady: Instant,
}

impl Moment {
    /// This instant. A clock before 1970 counts as 1970.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            steady: Instant::now(),
        }
    }
}

/// Why a call is refused now.
#[derive(Debug, thiserror::Error)]
pub enum RateError {
    /// The grant's calls for this second or minute are used up; nothing was charged.
    #[error(
        "grant `{grant}` of plugin `{plugin}` allows {limit} per {period}; retry after {} s",
        .retry_after.as_secs_f64()
    )]
    Exceeded {
        /// The plugin.
        plugin: Arc<str>,
        /// The grant.
        grant: Arc<str>,
        /// The limit.
        limit: u32,
        /// The period of the limit: `second`, `minute` or `half hour`.
        period: &'static str,
        /// Time until a call may pass, if no other one is made first.
        retry_after: Duration,
    },
    /// The use of the rate could not be stored, so the call must not be made.
    #[error("cannot store that a rate is used: {0}")]
    Unmarked(#[from] LedgerError),
}

/// The rates of all grants.
#[derive(Debug)]
pub struct GrantRates {
    ledger: Ledger,
    origin: Instant,
    grants: Mutex<HashMap<GrantKey, Usage>>,
}

/// Held by the call that stores a grant's mark; other calls of that second wait for it.
type Marking = tokio::sync::Mutex<()>;

/// How much of a grant's rates is used.
#[derive(Debug, Default)]
struct Usage {
    /// The buckets of [`RateLimits::quotas`].
    buckets: [Bucket; 3],
    /// The instant up to which use is marked durably, in milliseconds since 1970.
    marked: Option<i64>,
    marking: Arc<Marking>,
}

impl GrantRates {
    /// Restores the rates of the last run.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the marks cannot be read.
    pub async fn open(ledger: Ledger, now: Moment) -> Result<Self, LedgerError> {
        let mut grants = HashMap::new();
        for mark in ledger.rate_marks().await? {
            let Some((plugin, grant)) = mark.key.split_once(SEPARATOR) else {
                continue;
            };
            let gone = u64::try_from(now.unix_ms.saturating_sub(mark.at_ms)).unwrap_or_default();
            let gone = Duration::from_millis(gone);
            let left = |period: Duration| Bucket::full_after(period.saturating_sub(gone));
            let usage = Usage {
                buckets: [SECOND, MINUTE, HALF_HOUR].map(left),
                marked: Some(mark.at_ms),
                marking: Arc::default(),
            };
            grants.insert(GrantKey::new(&mark.account, plugin, grant), usage);
        }
        Ok(Self {
            ledger,
            origin: now.steady,
            grants: Mutex::new(grants),
        })
    }

    /// Charges one call to the rates of all these grants, or to none of them. Each grant is given once, with its
    /// current limits.
    ///
    /// # Errors
    ///
    /// [`RateError::Exceeded`] for the rate with the longest wait; [`RateError::Unmarked`] if the ledger fails.
    pub async fn check(
        &self,
        wanted: &[(&GrantKey, RateLimits)],
        now: Moment,
    ) -> Result<(), RateError> {
        for (key, marking) in self.take(wanted, now)? {
            self.mark(&key, &marking, now.unix_ms).await?;
        }
        Ok(())
    }

    /// Returns one charged call that was not made to the rates of a grant.
    pub fn refund(&self, key: &GrantKey, limits: RateLimits) {
        if let Some(usage) = self.grants.lock().get_mut(key) {
            usage.change(limits, Bucket::refund);
        }
    }

    /// Charges the rates of a grant for something done already, even if they are used up: later calls wait for it too.
    /// A restart forgets charges beyond an empty bucket.
    pub fn charge(&self, key: &GrantKey, limits: RateLimits, now: Moment) {
        let at = now.steady.saturating_duration_since(self.origin);
        if let Some(usage) = self.grants.lock().get_mut(key) {
            usage.change(limits, |bucket, quota| bucket.overdraw(quota, 1, at));
        }
    }

    /// Makes a grant start with the used rates of other grants: of those, or of all grants of its plugin.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it cannot be stored; nothing has changed then.
    pub async fn hand_over(
        &self,
        to: &GrantKey,
        of: Option<&[GrantKey]>,
    ) -> Result<(), LedgerError> {
        let is_of = |key: &GrantKey| match of {
            Some(of) => of.contains(key),
            None => key.account == to.account && key.plugin == to.plugin,
        };
        let (mut buckets, mut marked) = <([Bucket; 3], Option<i64>)>::default();
        for (_, usage) in self.grants.lock().iter().filter(|(key, _)| is_of(key)) {
            buckets = emptiest(buckets, usage.buckets);
            marked = usage.marked.max(marked);
        }
        if let Some(marked) = marked {
            let name = format!("{}{SEPARATOR}{}", to.plugin, to.grant);
            // Before it counts as marked.
            self.ledger.mark_rate(&to.account, name, marked).await?;
        }
        let mut grants = self.grants.lock();
        let successor = grants.entry(to.clone()).or_default();
        successor.buckets = emptiest(successor.buckets, buckets);
        successor.marked = successor.marked.max(marked);
        Ok(())
    }

    /// Charges the buckets, and returns which grants have to be marked before the call is made.
    fn take(
        &self,
        wanted: &[(&GrantKey, RateLimits)],
        now: Moment,
    ) -> Result<Vec<(GrantKey, Arc<Marking>)>, RateError> {
        let at = now.steady.saturating_duration_since(self.origin);
        let mut grants = self.grants.lock();
        let mut taken = Vec::new();
        let mut refusal: Option<(Duration, RateError)> = None;
        for (key, limits) in wanted {
            let mut buckets = grants
                .get(*key)
                .map_or_else(Default::default, |usage| usage.buckets);
            let mut limited = false;
            for (bucket, (word, period, limit)) in buckets.iter_mut().zip(limits.quotas()) {
                let Some(limit) = limit else { continue };
                limited = true;
                let Err(wait) = take_one(bucket, limit.quota, period, at) else {
                    continue;
                };
                if refusal.as_ref().is_none_or(|(longest, _)| wait > *longest) {
                    let refused = RateError::Exceeded {
                        plugin: key.plugin.clone(),
                        grant: key.grant.clone(),
                        limit: limit.most,
                        period: word,
                        retry_after: wait,
                    };
                    refusal = Some((wait, refused));
                }
            }
            if limited {
                taken.push((*key, buckets));
            }
        }
        if let Some((_, refused)) = refusal {
            return Err(refused);
        }
        let mut unmarked = Vec::new();
        for (key, buckets) in taken {
            let usage = grants.entry(key.clone()).or_default();
            usage.buckets = buckets;
            if usage.marked.is_none_or(|marked| marked <= now.unix_ms) {
                unmarked.push((key.clone(), usage.marking.clone()));
            }
        }
        Ok(unmarked)
    }

    async fn mark(&self, key: &GrantKey, marking: &Marking, now: i64) -> Result<(), LedgerError> {
        let _marking = marking.lock().await;
        let marked = self.grants.lock().get(key).and_then(|usage| usage.marked);
        if marked.is_some_and(|marked| marked > now) {
            return Ok(());
        }
        let end = now
            .div_euclid(1_000)
            .saturating_add(1)
            .saturating_mul(1_000);
        let name = format!("{}{SEPARATOR}{}", key.plugin, key.grant);
        self.ledger.mark_rate(&key.account, name, end).await?;
        if let Some(usage) = self.grants.lock().get_mut(key) {
            usage.marked = Some(end);
        }
        Ok(())
    }
}

impl Usage {
    /// Changes the bucket of each rate that there is.
    fn change(&mut self, limits: RateLimits, change: impl Fn(Bucket, Quota) -> Bucket) {
        for (bucket, (.., limit)) in self.buckets.iter_mut().zip(limits.quotas()) {
            if let Some(quota) = limit.and_then(|limit| limit.quota) {
                *bucket = change(*bucket, quota);
            }
        }
    }
}

/// Of each two buckets the one that more was taken from.
fn emptiest(one: [Bucket; 3], other: [Bucket; 3]) -> [Bucket; 3] {
    let [second, minute, half_hour] = one;
    let [other_second, other_minute, other_half_hour] = other;
    [
        second.max(other_second),
        minute.max(other_minute),
        half_hour.max(other_half_hour),
    ]
}

fn take_one(
    bucket: &mut Bucket,
    quota: Option<Quota>,
    period: Duration,
    at: Duration,
) -> Result<(), Duration> {
    *bucket = bucket.take(quota.ok_or(period)?, NonZeroU32::MIN, at)?;
    Ok(())
}
