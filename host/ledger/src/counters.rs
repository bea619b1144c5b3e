//! Counters of calls, costs and attempts, one of each grant and day.
//!
//! Invariant: a counter never exceeds its limit. The effective day is the later of today and the last day of the counter:
//! a clock that goes back refills nothing.

use std::fmt;

use rusqlite::{Connection, Row, params};

use crate::error::LedgerError;
use crate::reservation::{BeginError, Charge, NewReservation};
use crate::statements::Statements as _;

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
pub struct CounterSuccessor {
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

/// Account, plugin and grant.
pub(crate) type GrantKey<'a> = [&'a str; 3];

/// A count of a grant that others can continue.
pub(crate) trait Inherited: Copy {
    /// The count on its effective day.
    fn load(connection: &Connection, key: GrantKey<'_>, now: i64) -> Result<Self, LedgerError>;

    /// The counts of all of a plugin's grants together. `of`: account and plugin.
    fn sum(connection: &Connection, of: [&str; 2], now: i64) -> Result<Self, LedgerError>;

    fn store(&self, connection: &Connection, key: GrantKey<'_>) -> Result<(), LedgerError>;

    /// Nothing, on the same day.
    fn zero(self) -> Self;

    /// Adds another count.
    fn add(&mut self, other: Self);

    /// Raises the count to at least that of another one.
    fn raise(&mut self, other: Self);
}

/// Passes counts and attempts on to the grants that continue them. `of`: account and plugin.
pub(crate) fn hand_over(
    connection: &Connection,
    of: [&str; 2],
    successors: &[CounterSuccessor],
    now: i64,
) -> Result<(), LedgerError> {
    hand_over_one::<Counter>(connection, of, successors, now)?;
    hand_over_one::<Attempts>(connection, of, successors, now)
}

fn hand_over_one<C: Inherited>(
    connection: &Connection,
    of: [&str; 2],
    successors: &[CounterSuccessor],
    now: i64,
) -> Result<(), LedgerError> {
    let [account, plugin] = of;
    let load = |grant: &str| C::load(connection, [account, plugin, grant], now);
    // All are read before any is written: two grants may exchange their names.
    let mut written = Vec::new();
    for successor in successors {
        let own = load(&successor.to)?;
        let mut taken = own.zero();
        match &successor.of {
            Some(grants) => {
                for grant in grants {
                    taken.add(load(grant)?);
                }
            }
            None => taken.raise(C::sum(connection, of, now)?),
        }
        if successor.adds && successor.of.is_some() {
            taken.add(own);
        } else {
            taken.raise(own);
        }
        for grant in &successor.at_least {
            taken.raise(load(grant)?);
        }
        written.push((&successor.to, taken));
    }
    for (grant, count) in written {
        count.store(connection, [account, plugin, grant])?;
    }
    Ok(())
}

/// The attempts of a grant on its effective day.
#[derive(Clone, Copy)]
pub(crate) struct Attempts {
    pub(crate) day: i64,
    pub(crate) count: i64,
}

impl Inherited for Attempts {
    fn load(connection: &Connection, key: GrantKey<'_>, now: i64) -> Result<Self, LedgerError> {
        let sql = "SELECT day, count FROM attempts WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3";
        let last: Option<(i64, i64)> = connection.row(sql, key, |row| row.try_into())?;
        let today = day_of(now);
        let last = last.filter(|(day, _)| *day >= today);
        let (day, count) = last.unwrap_or((today, 0));
        Ok(Self { day, count })
    }

    fn sum(connection: &Connection, of: [&str; 2], now: i64) -> Result<Self, LedgerError> {
        let [account, plugin] = of;
        let sql = "SELECT coalesce(sum(count), 0) FROM attempts WHERE account = ?1 AND plugin = ?2 AND day >= ?3";
        let day = day_of(now);
        let count = connection.value(sql, params![account, plugin, day])?;
        Ok(Self { day, count })
    }

    fn store(&self, connection: &Connection, key: GrantKey<'_>) -> Result<(), LedgerError> {
        let [account, plugin, grant] = key;
        if self.count > 0 {
            let sql = "INSERT INTO attempts (account, plugin, grant_name, day, count) VALUES (?1, ?2, ?3, ?4, ?5)
                ON CONFLICT DO UPDATE SET day = ?4, count = ?5";
            connection.change(sql, params![account, plugin, grant, self.day, self.count])?;
        }
        Ok(())
    }

    fn zero(self) -> Self {
        Self { count: 0, ..self }
    }

    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
    }

    fn raise(&mut self, other: Self) {
        self.count = self.count.max(other.count);
    }
}

/// A counter on its effective day.
#[derive(Clone, Copy)]
pub(crate) struct Counter {
    pub(crate) day: i64,
    pub(crate) count: i64,
    cost: i64,
}

impl Inherited for Counter {
    fn load(connection: &Connection, key: GrantKey<'_>, now: i64) -> Result<Self, LedgerError> {
        let [account, plugin, grant] = key;
        let sql = "SELECT day, count, cost FROM counters
            WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 ORDER BY day DESC LIMIT 1";
        let last = connection.row(sql, key, Self::read)?;
        let today = day_of(now);
        if let Some(last) = last
            && last.day >= today
        {
            return Ok(last);
        }
        if last.is_some() {
            let sql = "DELETE FROM counters
                WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 AND day <= ?4";
            let oldest = today.saturating_sub(COUNTER_TTL_DAYS);
            connection.change(sql, params![account, plugin, grant, oldest])?;
        }
        Ok(Self::none(today))
    }

    /// On their latest day.
    fn sum(connection: &Connection, of: [&str; 2], now: i64) -> Result<Self, LedgerError> {
        let [account, plugin] = of;
        let sql = "SELECT day, sum(count), sum(cost) FROM counters WHERE account = ?1 AND plugin = ?2 AND day >= ?3
            GROUP BY day ORDER BY day DESC LIMIT 1";
        let today = day_of(now);
        let last = connection.row(sql, params![account, plugin, today], Self::read)?;
        Ok(last.unwrap_or(Self::none(today)))
    }

    fn store(&self, connection: &Connection, key: GrantKey<'_>) -> Result<(), LedgerError> {
        let [account, plugin, grant] = key;
        let Self { day, count, cost } = self;
        let sql = "INSERT INTO counters (account, plugin, grant_name, day, count, cost) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
            ON CONFLICT DO UPDATE SET count = ?5, cost = ?6";
        connection.change(sql, params![account, plugin, grant, day, count, cost])?;
        Ok(())
    }

    fn zero(self) -> Self {
        Self::none(self.day)
    }

    /// The later day of both is kept.
    fn add(&mut self, other: Self) {
        self.advance_to(other.day);
        if other.day == self.day {
            self.count = self.count.saturating_add(other.count);
            self.cost = self.cost.saturating_add(other.cost);
        }
    }

    /// On the later day of both.
    fn raise(&mut self, other: Self) {
        self.advance_to(other.day);
        if other.day == self.day {
            self.count = self.count.max(other.count);
            self.cost = self.cost.max(other.cost);
        }
    }
}

impl Counter {
    fn none(day: i64) -> Self {
        Self {
            day,
            count: 0,
            cost: 0,
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            day: row.get(0)?,
            count: row.get(1)?,
            cost: row.get(2)?,
        })
    }

    /// Moves on to a later day.
    fn advance_to(&mut self, day: i64) {
        if day > self.day {
            *self = Self::none(day);
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
    begin: &NewReservation,
    grant: &str,
    per_day: u32,
) -> Result<(), BeginError> {
    let key = [&begin.account, &begin.plugin, grant];
    let mut attempts = Attempts::load(connection, key, begin.now)?;
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
    Ok(attempts.store(connection, key)?)
}

/// Returns a charge to the counter of the day it was charged on; a day that is no longer kept is ignored.
pub(crate) fn give_back(
    connection: &Connection,
    key: GrantKey<'_>,
    day: i64,
    count: i64,
    cost: i64,
) -> Result<(), LedgerError> {
    let [account, plugin, grant] = key;
    let sql = "UPDATE counters SET count = max(0, count - ?5), cost = max(0, cost - ?6)
        WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 AND day = ?4";
    connection.change(sql, params![account, plugin, grant, day, count, cost])?;
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
