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

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::Access;
use qchost_ledger::ATTEMPTS_PER_CALL;
use qchost_policy::GrantLimits;
use qchost_traffic::{GrantKey, Moment, RateError, RateLimits};

use crate::ask::Ask;
use crate::gate::{Gate, Inner, now};
use crate::judge::Matched;
use crate::obligations::obligations;
use crate::refusal::Refusal;
use crate::trade::unusable;

/// How many of the host's reads one unit of a rate pays for. A call on a project without libraries needs fewer.
pub(crate) const READS_PER_UNIT: u32 = 10;

/// What one call has been charged so far.
#[derive(Default)]
pub(crate) struct Toll {
    /// Reads that the host made for the call.
    reads: AtomicU32,
    /// The rates that are charged: those that gave a unit, and once the call is admitted those of the matching grants.
    payers: Mutex<Vec<(GrantKey, RateLimits)>>,
    state: tokio::sync::Mutex<State>,
    /// Why a read was not sent.
    refused: Mutex<Option<Refusal>>,
}

#[derive(Default)]
enum State {
    /// Nothing has been read so far.
    #[default]
    Due,
    /// The rates of these grants were charged one unit.
    Paid(Vec<(GrantKey, RateLimits)>),
    /// The call was admitted.
    Settled,
}

impl Toll {
    /// How many reads the host made for the call.
    pub(crate) fn reads(&self) -> u32 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Sets the rates that further reads are charged to.
    pub(crate) fn set_payers(&self, payers: Vec<(GrantKey, RateLimits)>) {
        *self.payers.lock() = payers;
    }

    /// Stores why a read was not sent, since a failed read cannot carry it.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.refused.lock() = Some(refusal);
    }

    /// Takes why a read was not sent.
    pub(crate) fn take_refusal(&self) -> Option<Refusal> {
        let mut refused = self.refused.lock();
        refused.take()
    }

    /// Returns the units that were charged; no unit is charged for a read from here on.
    pub(crate) async fn settle(&self) -> Vec<(GrantKey, RateLimits)> {
        match std::mem::replace(&mut *self.state.lock().await, State::Settled) {
            State::Paid(paid) => paid,
            State::Due | State::Settled => Vec::new(),
        }
    }
}

/// The grants whose attempts of the day are used up, with their daily limit and when the day ends.
#[derive(Default)]
pub(crate) struct UsedUp(Mutex<HashMap<GrantKey, (u32, Instant)>>);

impl UsedUp {
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
fn covering(ask: &Ask) -> Vec<(GrantKey, String, GrantLimits)> {
    let mut authorities = ask.terms.authorities();
    let mut next = || -> Vec<usize> {
        authorities.next().map_or_else(Vec::new, |authority| {
            authority.covering(&ask.name, ask.access).collect()
        })
    };
    let matched = Matched {
        grants: next(),
        pending: next(),
    };
    let key = |grant: &str| GrantKey::new(ask.account(), &ask.caller.plugin, grant);
    obligations(ask, &matched)
        .map(|(grant, limits)| (key(&grant), grant.into_owned(), limits))
        .collect()
}

/// The rates of a grant; `None` if it has none.
pub(crate) fn rates_of(limits: &GrantLimits) -> Option<RateLimits> {
    (limits.per_second.is_some() || limits.per_minute.is_some()).then_some(RateLimits {
        per_second: limits.per_second,
        per_minute: limits.per_minute,
    })
}

/// Risk-reducing calls are not held up by failed attempts.
fn counts_attempts(ask: &Ask) -> bool {
    ask.access != Access::Reduce
}

impl Inner {
    /// Charges a call for one read, and counts it.
    pub(crate) async fn pay_read(&self, ask: &Ask) -> Result<(), Refusal> {
        self.pay_toll(ask).await?;
        let before = ask.toll.reads.fetch_add(1, Ordering::Relaxed);
        if before > 0 && before.is_multiple_of(READS_PER_UNIT) {
            let payers = ask.toll.payers.lock();
            for (key, limits) in payers.iter() {
                self.rates.charge(key, *limits, Moment::now());
            }
        }
        Ok(())
    }

    /// Charges the first read for a call.
    async fn pay_toll(&self, ask: &Ask) -> Result<(), Refusal> {
        let mut state = ask.toll.state.lock().await;
        if !matches!(*state, State::Due) {
            return Ok(());
        }
        let mut paid = Vec::new();
        let mut open = false;
        let mut refusal: Option<(Duration, Refusal)> = None;
        for (key, grant, limits) in covering(ask) {
            let tried = match limits.per_day {
                Some(per_day) if counts_attempts(ask) => self.used_up.wait(&key, per_day),
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
                ask.toll.set_payers(paid.clone());
                *state = State::Paid(paid);
                Ok(())
            }
        }
    }
}

impl Gate {
    /// Counts a call that was denied after the host read for it as an attempt of every grant that covers it.
    pub(crate) async fn count_attempt(&self, ask: &Ask) {
        if ask.toll.reads() == 0 || !counts_attempts(ask) {
            return;
        }
        let covering = covering(ask);
        let limited: Vec<(String, u32)> = covering
            .iter()
            .filter_map(|(_, grant, limits)| Some((grant.clone(), limits.per_day?)))
            .collect();
        if limited.is_empty() {
            return;
        }
        let ledger = &self.0.ledger;
        let (account, plugin) = (ask.account(), &*ask.caller.plugin);
        match ledger.count_attempts(account, plugin, limited, now()).await {
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
                        self.0.used_up.put(key.clone(), *most, wait);
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
