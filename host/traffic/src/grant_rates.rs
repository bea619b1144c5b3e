//! Calls per second and per minute of a grant.
//!
//! A limit of `n` is a bucket of `n` that refills evenly: `n` calls may be made at once, and from then on one in each
//! `n`th part of the period. So a period that begins with a full bucket can see up to `2n - 1` calls, and any number of
//! consecutive periods at most one bucket more than the limit times that number.
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

/// Separates plugin and grant in a mark's key; no plugin name contains it.
const SEPARATOR: char = '/';

/// The current rates of a grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Calls per second; `None` is no limit.
    pub per_second: Option<u32>,
    /// Calls per minute; `None` is no limit.
    pub per_minute: Option<u32>,
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
        /// The period of the limit: `second` or `minute`.
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
    second: Bucket,
    minute: Bucket,
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
                second: left(SECOND),
                minute: left(MINUTE),
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
            if let Some(limit) = limits.per_second.and_then(NonZeroU32::new) {
                usage.second = usage.second.refund(Quota::per_second(limit));
            }
            if let Some(limit) = limits.per_minute.and_then(NonZeroU32::new) {
                usage.minute = usage.minute.refund(Quota::per_minute(limit));
            }
        }
    }

    /// Charges the rates of a grant for something done already, even if they are used up: later calls wait for it too.
    /// A restart forgets charges beyond an empty bucket.
    pub fn charge(&self, key: &GrantKey, limits: RateLimits, now: Moment) {
        let at = now.steady.saturating_duration_since(self.origin);
        if let Some(usage) = self.grants.lock().get_mut(key) {
            if let Some(limit) = limits.per_second.and_then(NonZeroU32::new) {
                usage.second = usage.second.overdraw(Quota::per_second(limit), 1, at);
            }
            if let Some(limit) = limits.per_minute.and_then(NonZeroU32::new) {
                usage.minute = usage.minute.overdraw(Quota::per_minute(limit), 1, at);
            }
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
        let (mut second, mut minute, mut marked) = Default::default();
        for (_, usage) in self.grants.lock().iter().filter(|(key, _)| is_of(key)) {
            second = usage.second.max(second);
            minute = usage.minute.max(minute);
            marked = usage.marked.max(marked);
        }
        if let Some(marked) = marked {
            let name = format!("{}{SEPARATOR}{}", to.plugin, to.grant);
            // Before it counts as marked.
            self.ledger.mark_rate(&to.account, name, marked).await?;
        }
        let mut grants = self.grants.lock();
        let successor = grants.entry(to.clone()).or_default();
        successor.second = successor.second.max(second);
        successor.minute = successor.minute.max(minute);
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
            let (mut second, mut minute) = grants
                .get(*key)
                .map_or_else(Default::default, |usage| (usage.second, usage.minute));
            let mut limited = false;
            for (bucket, limit, period, word) in [
                (&mut second, limits.per_second, SECOND, "second"),
                (&mut minute, limits.per_minute, MINUTE, "minute"),
            ] {
                let Some(limit) = limit else { continue };
                limited = true;
                let Err(wait) = take_one(bucket, limit, period, at) else {
                    continue;
                };
                if refusal.as_ref().is_none_or(|(longest, _)| wait > *longest) {
                    let refused = RateError::Exceeded {
                        plugin: key.plugin.clone(),
                        grant: key.grant.clone(),
                        limit,
                        period: word,
                        retry_after: wait,
                    };
                    refusal = Some((wait, refused));
                }
            }
            if limited {
                taken.push((*key, second, minute));
            }
        }
        if let Some((_, refused)) = refusal {
            return Err(refused);
        }
        let mut unmarked = Vec::new();
        for (key, second, minute) in taken {
            let usage = grants.entry(key.clone()).or_default();
            (usage.second, usage.minute) = (second, minute);
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

fn take_one(
    bucket: &mut Bucket,
    limit: u32,
    period: Duration,
    at: Duration,
) -> Result<(), Duration> {
    // A limit of zero always refuses; its bucket is unchanged.
    let limit = NonZeroU32::new(limit).ok_or(period)?;
    let quota = match period {
        SECOND => Quota::per_second(limit),
        _ => Quota::per_minute(limit),
    };
    *bucket = bucket.take(quota, NonZeroU32::MIN, at)?;
    Ok(())
}
