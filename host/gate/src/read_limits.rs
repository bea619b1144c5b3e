//! Charges a call for the reads that the host makes at QuantConnect to decide it.
//!
//! Which grants match is known only after the host has read what the call touches, so the first such read takes a unit
//! of the rates of every grant that covers the operation and has one left. When the call is admitted, the units of
//! matching grants become the ones that it owes, and the others are returned; a refused call keeps them all charged. A
//! unit pays for [`READS_PER_UNIT`] reads. A call that needs more, such as a compile with many libraries, is not
//! stopped half-way: each further unit is charged when it is due, and the plugin's next calls wait for it. Where a
//! grant counts calls per day, a call that is denied after the host has read for it counts as an attempt.
//!
//! Invariant: nothing is read for a call unless some grant that covers it has a unit of its rates and attempts left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::Access;
use qchost_ledger::{ATTEMPTS_PER_CALL, Ledger};
use qchost_policy::GrantLimits;
use qchost_traffic::{GrantKey, GrantRates, Moment, RateError};

use crate::call::CallRequest;
use crate::clock::now;
use crate::decision::Matched;
use crate::obligations::{obligations, rates_of};
use crate::read_charges::FirstRead;
use crate::refusal::{Refusal, unusable};

/// How many of the host's reads one unit of a rate pays for. A call on a project without libraries needs fewer.
pub(crate) const READS_PER_UNIT: u32 = 10;

/// The grants whose attempts of the day are used up, with their daily limit and when the day ends.
#[derive(Default)]
pub(crate) struct UsedUpAttempts(Mutex<HashMap<GrantKey, (u32, Instant)>>);

impl UsedUpAttempts {
    /// Time until the grant may be tried again, if its attempts are used up.
    fn wait(&self, key: &GrantKey, per_day: u32) -> Option<Duration> {
        let mut all = self.0.lock();
        let (most, until) = *all.get(key)?;
        let wait = until.saturating_duration_since(Instant::now());
        if wait.is_zero() || most != per_day {
            all.remove(key);
            return None;
        }
        Some(wait)
    }

    fn put(&self, key: GrantKey, per_day: u32, wait: Duration) {
        let mut all = self.0.lock();
        all.insert(key, (per_day, Instant::now() + wait));
    }
}

/// The grants that cover the operation of a call, with their limits.
fn covering(request: &CallRequest) -> Vec<(GrantKey, String, GrantLimits)> {
    let mut authorities = request.policy.authorities();
    let mut next = || -> Vec<usize> {
        authorities.next().map_or_else(Vec::new, |authority| {
            authority.covering(&request.name, request.access).collect()
        })
    };
    let matched = Matched {
        grants: next(),
        pending: next(),
    };
    obligations(request, &matched)
        .map(|(grant, limits)| (request.grant_key(&grant), grant.into_owned(), limits))
        .collect()
}

/// Risk-reducing calls are not held up by failed attempts.
fn counts_attempts(request: &CallRequest) -> bool {
    request.access != Access::Reduce
}

/// Charges calls for the host's reads.
pub(crate) struct ReadLimits {
    rates: Arc<GrantRates>,
    ledger: Ledger,
    used_up: UsedUpAttempts,
}

impl ReadLimits {
    pub(crate) fn new(rates: Arc<GrantRates>, ledger: Ledger) -> Self {
        Self {
            rates,
            ledger,
            used_up: UsedUpAttempts::default(),
        }
    }

    /// Charges a call for one read, and counts it.
    pub(crate) async fn pay_read(&self, request: &CallRequest) -> Result<(), Refusal> {
        self.pay_first_read(request).await?;
        let before = request.read_charges.reads.fetch_add(1, Ordering::Relaxed);
        if before > 0 && before.is_multiple_of(READS_PER_UNIT) {
            let charged_grants = request.read_charges.charged_grants.lock();
            for (key, limits) in charged_grants.iter() {
                self.rates.charge(key, *limits, Moment::now());
            }
        }
        Ok(())
    }

    /// Charges the first read for a call.
    async fn pay_first_read(&self, request: &CallRequest) -> Result<(), Refusal> {
        let mut state = request.read_charges.first.lock().await;
        if !matches!(*state, FirstRead::Due) {
            return Ok(());
        }
        let mut paid = Vec::new();
        let mut open = false;
        let mut refusal: Option<(Duration, Refusal)> = None;
        for (key, grant, limits) in covering(request) {
            let tried = match limits.per_day {
                Some(per_day) if counts_attempts(request) => self.used_up.wait(&key, per_day),
                _ => None,
            };
            let refused = match (tried, rates_of(&limits)) {
                (Some(wait), _) => (wait, no_attempts(&grant, limits.per_day, wait)),
                (None, None) => {
                    open = true;
                    continue;
                }
                (None, Some(rates)) => {
                    match self.rates.check(&[(&key, rates)], Moment::now()).await {
                        Ok(()) => {
                            open = true;
                            paid.push((key, rates));
                            continue;
                        }
                        Err(RateError::Exceeded { retry_after, .. }) => {
                            (retry_after, Refusal::RateLimited(retry_after))
                        }
                        Err(RateError::Unmarked(error)) => return Err(unusable(error)),
                    }
                }
            };
            if refusal.as_ref().is_none_or(|(wait, _)| refused.0 < *wait) {
                refusal = Some(refused);
            }
        }
        match refusal {
            Some((_, refusal)) if !open => Err(refusal),
            _ => {
                *request.read_charges.charged_grants.lock() = paid.clone();
                *state = FirstRead::Paid(paid);
                Ok(())
            }
        }
    }

    /// Counts a call that was denied after the host read for it as an attempt of every grant that covers it.
    pub(crate) async fn count_attempt(&self, request: &CallRequest) {
        if request.read_charges.reads() == 0 || !counts_attempts(request) {
            return;
        }
        let covering = covering(request);
        let limited: Vec<(String, u32)> = covering
            .iter()
            .filter_map(|(_, grant, limits)| Some((grant.clone(), limits.per_day?)))
            .collect();
        if limited.is_empty() {
            return;
        }
        let (account, plugin) = (request.account(), request.plugin());
        match self
            .ledger
            .count_attempts(account, plugin, limited, now())
            .await
        {
            Ok(used_up) => {
                for (grant, ms) in used_up {
                    let found = covering.iter().find(|(_, name, _)| *name == grant);
                    if let Some((
                        key,
                        _,
                        GrantLimits {
                            per_day: Some(most),
                            ..
                        },
                    )) = found
                    {
                        let wait = Duration::from_millis(ms.unsigned_abs());
                        self.used_up.put(key.clone(), *most, wait);
                    }
                }
            }
            Err(error) => {
                tracing::error!(target: "gate", plugin, %error, "an attempt that was denied is not counted");
            }
        }
    }
}

fn no_attempts(grant: &str, per_day: Option<u32>, wait: Duration) -> Refusal {
    let most = u64::from(per_day.unwrap_or_default()) * u64::from(ATTEMPTS_PER_CALL);
    Refusal::Exhausted {
        message: format!(
            "the grant `{grant}` allows {most} attempts a day ({ATTEMPTS_PER_CALL} for each call of its per-day), and all \
             of them were made"
        ),
        grant: grant.to_owned(),
        budget: "attempts-per-day",
        resets_in: Some(wait),
    }
}
