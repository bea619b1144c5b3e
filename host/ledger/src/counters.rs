//! Counters of calls, costs and attempts, one of each grant and day.
//!
//! Invariant: a counter never exceeds its limit. The effective day is the later of today and the last day of the counter:
//! a clock that goes back refills nothing.

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::LedgerError;
use crate::reservation::{Begin, BeginError, Charge};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Days that a counter is kept, up to its last one.
const COUNTER_TTL_DAYS: i64 = 31;

/// The budget of calls per day, in errors.
pub(crate) const PER_DAY: &str = "per-day";
const COST_PER_DAY: &str = "cost-per-day";
const ATTEMPTS_PER_DAY: &str = "attempts-per-day";

/// Attempts allowed per call of `per-day`, and per use of a permit: a call that the server refuses is returned to the
/// budget, but must not be retried without limit.
pub const ATTEMPTS_PER_CALL: u32 = 10;

pub(crate) fn max_attempts(per_day: u32) -> i64 {
    i64::from(per_day).saturating_mul(i64::from(ATTEMPTS_PER_CALL))
}

/// A counter that continues the counts of other counters of the same plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heir {
    /// The grant that continues them, by its name in counters.
    pub to: String,
    /// Whether their counts are added to its own. A new grant may already have counted calls that the others counted as
    /// well, while both manifests had to allow them: it gets the larger of both counts.
    pub adds: bool,
    /// The counters that it continues; all of the plugin's if unknown.
    pub of: Option<Vec<String>>,
    /// Its count is at least that of each of these.
    pub at_least: Vec<String>,
}

/// Milliseconds from `now`, a Unix time in milliseconds, until the end of a day; not below 0.
#[must_use]
pub fn until_end(day: i64, now: i64) -> i64 {
    let end = day.saturating_add(1).saturating_mul(DAY_MS);
    end.saturating_sub(now).max(0)
}

/// The attempts of a grant on its effective day.
pub(crate) struct Attempts {
    pub(crate) day: i64,
    pub(crate) count: i64,
}

impl Attempts {
    /// Passes attempts on like [`Counter::hand_over`] does calls.
    fn hand_over(
        connection: &Connection,
        of: [&str; 2],
        heirs: &[Heir],
        now: i64,
    ) -> Result<(), LedgerError> {
        let [account, plugin] = of;
        let load = |grant: &str| Self::load(connection, account, plugin, grant, now);
        let mut written = Vec::new();
        for heir in heirs {
            let mut own = load(&heir.to)?;
            let (mut taken, mut least) = (0_i64, 0_i64);
            for grant in heir.of.iter().flatten() {
                taken = taken.saturating_add(load(grant)?.count);
            }
            for grant in &heir.at_least {
                least = least.max(load(grant)?.count);
            }
            if heir.of.is_none() {
                taken = connection
                    .prepare_cached(
                        "SELECT coalesce(sum(count), 0) FROM attempts WHERE account = ?1 AND plugin = ?2 AND day >= ?3",
                    )?
                    .query_row(params![account, plugin, day_of(now)], |row| row.get(0))?;
            }
            own.count = if heir.adds && heir.of.is_some() {
                own.count.saturating_add(taken)
            } else {
                own.count.max(taken)
            };
            own.count = own.count.max(least);
            if own.count > 0 {
                written.push((&heir.to, own));
            }
        }
        for (grant, attempts) in written {
            attempts.store(connection, account, plugin, grant)?;
        }
        Ok(())
    }

    pub(crate) fn load(
        connection: &Connection,
        account: &str,
        plugin: &str,
        grant: &str,
        now: i64,
    ) -> Result<Self, LedgerError> {
        let last: Option<(i64, i64)> = connection
            .prepare_cached(
                "SELECT day, count FROM attempts WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3",
            )?
            .query_row(params![account, plugin, grant], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let today = day_of(now);
        let last = last.filter(|(day, _)| *day >= today);
        let (day, count) = last.unwrap_or((today, 0));
        Ok(Self { day, count })
    }

    pub(crate) fn store(
        &self,
        connection: &Connection,
        account: &str,
        plugin: &str,
        grant: &str,
    ) -> Result<(), LedgerError> {
        connection
            .prepare_cached(
                "INSERT INTO attempts (account, plugin, grant_name, day, count) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET day = ?4, count = ?5",
            )?
            .execute(params![account, plugin, grant, self.day, self.count])?;
        Ok(())
    }
}

/// A counter on its effective day.
#[derive(Clone, Copy)]
pub(crate) struct Counter {
    pub(crate) day: i64,
    pub(crate) count: i64,
    cost: i64,
}

impl Counter {
    pub(crate) fn load(
        connection: &Connection,
        account: &str,
        plugin: &str,
        grant: &str,
        now: i64,
    ) -> Result<Self, LedgerError> {
        let last: Option<(i64, i64, i64)> = connection
            .prepare_cached(
                "SELECT day, count, cost FROM counters
                 WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 ORDER BY day DESC LIMIT 1",
            )?
            .query_row(params![account, plugin, grant], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let today = day_of(now);
        if let Some((day, count, cost)) = last
            && day >= today
        {
            return Ok(Self { day, count, cost });
        }
        if last.is_some() {
            connection
                .prepare_cached(
                    "DELETE FROM counters
                     WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 AND day <= ?4",
                )?
                .execute(params![
                    account,
                    plugin,
                    grant,
                    today.saturating_sub(COUNTER_TTL_DAYS)
                ])?;
        }
        Ok(Self {
            day: today,
            count: 0,
            cost: 0,
        })
    }

    pub(crate) fn store(
        &self,
        connection: &Connection,
        account: &str,
        plugin: &str,
        grant: &str,
    ) -> Result<(), LedgerError> {
        connection
            .prepare_cached(
                "INSERT INTO counters (account, plugin, grant_name, day, count, cost) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET count = ?5, cost = ?6",
            )?
            .execute(params![account, plugin, grant, self.day, self.count, self.cost])?;
        Ok(())
    }

    /// Passes counts on to the counters that continue them. `of`: account and plugin.
    pub(crate) fn hand_over(
        connection: &Connection,
        of: [&str; 2],
        heirs: &[Heir],
        now: i64,
    ) -> Result<(), LedgerError> {
        let [account, plugin] = of;
        let load = |grant: &str| Self::load(connection, account, plugin, grant, now);
        // All are read before any is written: two grants may exchange their names.
        let mut written = Vec::new();
        for heir in heirs {
            let own = load(&heir.to)?;
            let mut taken = Self {
                count: 0,
                cost: 0,
                ..own
            };
            match &heir.of {
                Some(grants) => {
                    for grant in grants {
                        taken.add(&load(grant)?);
                    }
                }
                None => taken.raise(&Self::sum(connection, of, now)?),
            }
            if heir.adds && heir.of.is_some() {
                taken.add(&own);
            } else {
                taken.raise(&own);
            }
            for grant in &heir.at_least {
                taken.raise(&load(grant)?);
            }
            written.push((&heir.to, taken));
        }
        for (grant, counter) in written {
            counter.store(connection, account, plugin, grant)?;
        }
        Attempts::hand_over(connection, of, heirs, now)
    }

    /// The sum of all counters of a plugin on their latest day.
    fn sum(connection: &Connection, of: [&str; 2], now: i64) -> Result<Self, LedgerError> {
        let mut query = connection.prepare_cached(
            "SELECT day, sum(count), sum(cost) FROM counters WHERE account = ?1 AND plugin = ?2 AND day >= ?3
             GROUP BY day ORDER BY day DESC LIMIT 1",
        )?;
        let today = day_of(now);
        let last = query
            .query_row(params![of[0], of[1], today], |row| {
                Ok(Self {
                    day: row.get(0)?,
                    count: row.get(1)?,
                    cost: row.get(2)?,
                })
            })
            .optional()?;
        Ok(last.unwrap_or(Self {
            day: today,
            count: 0,
            cost: 0,
        }))
    }

    /// Adds another count; the later day of both is kept.
    fn add(&mut self, other: &Self) {
        self.turn_to(other.day);
        if other.day == self.day {
            self.count = self.count.saturating_add(other.count);
            self.cost = self.cost.saturating_add(other.cost);
        }
    }

    /// Raises the count to at least that of another one, on the later day of both.
    fn raise(&mut self, other: &Self) {
        self.turn_to(other.day);
        if other.day == self.day {
            self.count = self.count.max(other.count);
            self.cost = self.cost.max(other.cost);
        }
    }

    /// Moves on to a later day.
    fn turn_to(&mut self, day: i64) {
        if day > self.day {
            *self = Self {
                day,
                count: 0,
                cost: 0,
            };
        }
    }

    /// The error for a budget of this counter that is used up.
    pub(crate) fn exhausted(&self, grant: &str, limit: u32, now: i64) -> BeginError {
        self.refuse(
            grant,
            PER_DAY,
            limit.to_string(),
            self.count.to_string(),
            now,
        )
    }

    fn refuse(
        &self,
        grant: &str,
        budget: &'static str,
        limit: String,
        used: String,
        now: i64,
    ) -> BeginError {
        BeginError::Exhausted {
            grant: grant.to_owned(),
            budget,
            limit,
            used,
            resets_in_ms: until_end(self.day, now),
        }
    }

    pub(crate) fn charge(&mut self, charge: &Charge, now: i64) -> Result<(), BeginError> {
        let grant = &charge.grant;
        if let Some(limit) = charge.per_day
            && self.count >= i64::from(limit)
        {
            return Err(self.exhausted(grant, limit, now));
        }
        // Without a limit a sum is bounded by SQLite's integers.
        let limit = charge.cost_per_day.map_or(i64::MAX, stored);
        let cost = self.cost.checked_add(stored(charge.cost));
        let Some(cost) = cost.filter(|cost| charge.cost == 0 || *cost <= limit) else {
            let (limit, used) = (Dollars(limit).to_string(), Dollars(self.cost).to_string());
            return Err(self.refuse(grant, COST_PER_DAY, limit, used, now));
        };
        self.cost = cost;
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

/// Charges an attempt of a grant for a call that is about to be sent.
pub(crate) fn charge_attempt(
    connection: &Connection,
    begin: &Begin,
    grant: &str,
    per_day: u32,
) -> Result<(), BeginError> {
    let (account, plugin) = (&begin.account, &begin.plugin);
    let mut attempts = Attempts::load(connection, account, plugin, grant, begin.now)?;
    let limit = max_attempts(per_day);
    if attempts.count >= limit {
        return Err(BeginError::Exhausted {
            grant: grant.to_owned(),
            budget: ATTEMPTS_PER_DAY,
            limit: limit.to_string(),
            used: attempts.count.to_string(),
            resets_in_ms: until_end(attempts.day, begin.now),
        });
    }
    attempts.count = attempts.count.saturating_add(1);
    attempts.store(connection, account, plugin, grant)?;
    Ok(())
}

/// Returns a charge to the counter of the day it was charged on; a day that is no longer kept is ignored. `key`:
/// account, plugin, grant.
pub(crate) fn give_back(
    connection: &Connection,
    key: [&str; 3],
    day: i64,
    count: i64,
    cost: i64,
) -> Result<(), LedgerError> {
    let [account, plugin, grant] = key;
    connection
        .prepare_cached(
            "UPDATE counters SET count = max(0, count - ?5), cost = max(0, cost - ?6)
             WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 AND day = ?4",
        )?
        .execute(params![account, plugin, grant, day, count, cost])?;
    Ok(())
}

/// The day of a Unix time in milliseconds: days since 1970-01-01, UTC.
#[must_use]
pub fn day_of(now: i64) -> i64 {
    now.div_euclid(DAY_MS)
}

/// An amount as an SQLite integer, saturating.
pub(crate) fn stored(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// An amount from SQLite.
pub(crate) fn amount(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// An amount of 1/10000 dollar, as people read it.
pub(crate) struct Dollars(pub(crate) i64);

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}
