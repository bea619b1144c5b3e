//! Budgets: the daily use of each grant, and the open reservations.
//!
//! Invariant: a counter never exceeds its limit, and falls only when a reservation is released or a lease returned. The
//! effective day is the later of today and the last day of the counter: a clock that goes back refills nothing.

use std::fmt;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

use crate::error::{LedgerError, from_sqlite};
use crate::ledger::Ledger;
use crate::permits::{self, PermitUse};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Days that a counter is kept, up to its last one.
const DAYS_KEPT: i64 = 31;

/// What a call reserves before it may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Identifies the call, here and in the audit.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin that calls.
    pub plugin: String,
    /// Unix time in milliseconds.
    pub now: i64,
    /// Its charges to each matching grant.
    pub charges: Vec<Charge>,
    /// The permit it uses, if it needs one.
    pub permit: Option<PermitUse>,
}

/// A call's charge to a grant's budgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The grant's name.
    pub grant: String,
    /// Maximum calls per day (UTC).
    pub per_day: Option<u32>,
    /// The call's cost, in 1/10000 dollar.
    pub cost: u64,
    /// Maximum total cost per day, in 1/10000 dollar.
    pub cost_per_day: Option<u64>,
}

/// Why a call may not begin. Nothing was charged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BeginError {
    /// A grant's budget is used up.
    #[error(
        "grant `{grant}`: `{budget}` allows {limit} in a day and {used} of it is used; it is full again in {} min",
        .resets_in_ms.saturating_add(59_999) / 60_000
    )]
    Exhausted {
        /// The grant's name.
        grant: String,
        /// `per-day`, `cost-per-day` or `attempts-per-day`.
        budget: &'static str,
        /// The limit: a number, or dollars.
        limit: String,
        /// The amount used.
        used: String,
        /// Time until the end of the effective day, in milliseconds.
        resets_in_ms: i64,
    },
    /// The permit is no longer valid.
    #[error("permit {permit} {why}; ask for another approval")]
    PermitGone {
        /// The permit's id.
        permit: String,
        /// The reason, as the end of a sentence.
        why: String,
    },
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

from_sqlite!(BeginError);

/// How a reservation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// The call was sent: its charges stay.
    Commit,
    /// Nothing was done: count, cost, attempt and permit are returned.
    Release,
    /// The server refused it: count, cost and the permit's use are returned, the attempts stay.
    Refused,
}

/// A reservation that was neither committed nor released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenReservation {
    /// Its id; never reused.
    pub id: i64,
    /// The call it was made for.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin that called.
    pub plugin: String,
    /// When it was made. Unix time in milliseconds.
    pub begun_ms: i64,
    /// The permit it uses.
    pub permit: Option<String>,
}

/// The use of a grant on its effective day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// The grant's name.
    pub grant: String,
    /// The day, `2026-01-31`.
    pub day: String,
    /// Number of calls.
    pub count: u32,
    /// Cost, in 1/10000 dollar.
    pub cost: u64,
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

impl Ledger {
    /// Reserves a call's charges and its permit, all or nothing, durably.
    ///
    /// The reservation is made even if the future is dropped, and then stays open.
    ///
    /// # Errors
    /// When a budget is used up, the permit is not valid, or the ledger cannot be used.
    pub async fn begin(&self, begin: Begin) -> Result<i64, BeginError> {
        let begin = Arc::new(begin);
        let attempt = Arc::clone(&begin);
        let outcome = self
            .connections()
            .write(move |it| reserve(it, &attempt))
            .await;
        if !matches!(&outcome, Err(BeginError::Exhausted { budget, .. }) if *budget == PER_DAY) {
            return outcome;
        }
        // A part of what is used may only be leased for reads.
        let Some(returned) = self.return_leases(&begin).await? else {
            return outcome;
        };
        let outcome = self
            .connections()
            .write(move |it| reserve(it, &begin))
            .await;
        drop(returned);
        outcome
    }

    /// Ends a reservation. One that has ended already is left unchanged.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn settle(&self, reservation: i64, how: Settle) -> Result<(), LedgerError> {
        self.connections()
            .write(move |it| end(it, reservation, how))
            .await
    }

    /// Counts an attempt for each grant: `grants` are names with their calls per day. Returns the grants whose attempts
    /// are used up now, with the milliseconds until the end of their day.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn count_attempts(
        &self,
        account: &str,
        plugin: &str,
        grants: Vec<(String, u32)>,
        now: i64,
    ) -> Result<Vec<(String, i64)>, LedgerError> {
        let (account, plugin) = (account.to_owned(), plugin.to_owned());
        self.connections()
            .write(move |it| {
                let mut used_up = Vec::new();
                for (grant, per_day) in &grants {
                    let mut attempts = Attempts::load(it, &account, &plugin, grant, now)?;
                    attempts.count = attempts.count.saturating_add(1);
                    attempts.store(it, &account, &plugin, grant)?;
                    if attempts.count >= most_attempts(*per_day) {
                        used_up.push((grant.clone(), until_end(attempts.day, now)));
                    }
                }
                Ok(used_up)
            })
            .await
    }

    /// The open reservations, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn open_reservations(&self) -> Result<Vec<OpenReservation>, LedgerError> {
        self.connections()
            .read(|it| {
                let mut query = it.prepare_cached(
                    "SELECT id, call, account, plugin, begun_ms, permit FROM reservations ORDER BY id",
                )?;
                let rows = query.query_map([], |row| {
                    Ok(OpenReservation {
                        id: row.get(0)?,
                        call: row.get(1)?,
                        account: row.get(2)?,
                        plugin: row.get(3)?,
                        begun_ms: row.get(4)?,
                        permit: row.get(5)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// What a plugin has used of its grants on their effective day. Unused grants are omitted.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn usage(
        &self,
        account: &str,
        plugin: &str,
        now: i64,
    ) -> Result<Vec<Usage>, LedgerError> {
        let names = (account.to_owned(), plugin.to_owned());
        let rows: Vec<(i64, Usage, i64)> = self
            .connections()
            .read(move |it| {
                let mut query = it.prepare_cached(
                    "SELECT day, count, grant_name, coalesce(date(day * 86400, 'unixepoch'), day), cost
                     FROM counters AS c WHERE account = ?1 AND plugin = ?2 AND day >= ?3 AND day =
                         (SELECT max(day) FROM counters AS l WHERE l.account = ?1 AND l.plugin = ?2
                          AND l.grant_name = c.grant_name)
                     ORDER BY grant_name",
                )?;
                let rows = query.query_map(params![names.0, names.1, day_of(now)], |row| {
                    let usage = Usage {
                        grant: row.get(2)?,
                        day: row.get(3)?,
                        count: 0,
                        cost: amount(row.get(4)?),
                    };
                    Ok((row.get(0)?, usage, row.get(1)?))
                })?;
                Ok::<_, LedgerError>(rows.collect::<Result<_, _>>()?)
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|(day, usage, count)| {
                let leased = self.leased(account, plugin, &usage.grant, day);
                let count = u32::try_from(count.saturating_sub(leased).max(0)).unwrap_or(u32::MAX);
                Usage { count, ..usage }
            })
            .collect())
    }
}

const PER_DAY: &str = "per-day";
const COST_PER_DAY: &str = "cost-per-day";
const ATTEMPTS_PER_DAY: &str = "attempts-per-day";

/// Attempts allowed per call of `per-day`, and per use of a permit: a call that the server refuses is returned to the
/// budget, but must not be retried without limit.
pub const ATTEMPTS_PER_CALL: u32 = 10;

fn most_attempts(per_day: u32) -> i64 {
    i64::from(per_day).saturating_mul(i64::from(ATTEMPTS_PER_CALL))
}

/// Milliseconds from `now`, a Unix time in milliseconds, until the end of a day; not below 0.
#[must_use]
pub fn until_end(day: i64, now: i64) -> i64 {
    let end = day.saturating_add(1).saturating_mul(DAY_MS);
    end.saturating_sub(now).max(0)
}

/// The attempts of a grant on its effective day.
struct Attempts {
    day: i64,
    count: i64,
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

    fn load(
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

    fn store(
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

/// Charges an attempt of a grant for a call that is about to be sent.
fn attempt(
    connection: &Connection,
    begin: &Begin,
    grant: &str,
    per_day: u32,
) -> Result<(), BeginError> {
    let (account, plugin) = (&begin.account, &begin.plugin);
    let mut attempts = Attempts::load(connection, account, plugin, grant, begin.now)?;
    let most = most_attempts(per_day);
    if attempts.count >= most {
        return Err(BeginError::Exhausted {
            grant: grant.to_owned(),
            budget: ATTEMPTS_PER_DAY,
            limit: most.to_string(),
            used: attempts.count.to_string(),
            resets_in_ms: until_end(attempts.day, begin.now),
        });
    }
    attempts.count = attempts.count.saturating_add(1);
    attempts.store(connection, account, plugin, grant)?;
    Ok(())
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
                    today.saturating_sub(DAYS_KEPT)
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

    fn charge(&mut self, charge: &Charge, now: i64) -> Result<(), BeginError> {
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

fn reserve(connection: &Connection, begin: &Begin) -> Result<i64, BeginError> {
    if let Some(permit) = &begin.permit {
        permits::spend(connection, permit, begin)?;
    }
    let mut taken = Vec::with_capacity(begin.charges.len());
    for charge in &begin.charges {
        let (account, plugin, grant) = (&begin.account, &begin.plugin, &charge.grant);
        let mut counter = Counter::load(connection, account, plugin, grant, begin.now)?;
        counter.charge(charge, begin.now)?;
        if let Some(per_day) = charge.per_day {
            attempt(connection, begin, grant, per_day)?;
        }
        counter.store(connection, account, plugin, grant)?;
        taken.push((grant, counter.day, stored(charge.cost)));
    }
    let taken = serde_json::to_string(&taken).map_err(unreadable)?;
    let permit = begin.permit.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO reservations (call, account, plugin, begun_ms, charges, permit, permit_cost)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            begin.call,
            begin.account,
            begin.plugin,
            begin.now,
            taken,
            permit.map(|permit| &permit.permit),
            permit.map_or(0, |permit| stored(permit.cost)),
        ])?;
    Ok(connection.last_insert_rowid())
}

fn end(connection: &Connection, reservation: i64, how: Settle) -> Result<(), LedgerError> {
    type Row = (String, String, String, Option<String>, i64);
    let ended: Option<Row> = connection
        .prepare_cached(
            "DELETE FROM reservations WHERE id = ?1
             RETURNING account, plugin, charges, permit, permit_cost",
        )?
        .query_row([reservation], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })
        .optional()?;
    let Some((account, plugin, charges, permit, permit_cost)) = ended else {
        return Ok(());
    };
    if how == Settle::Commit {
        return Ok(());
    }
    let charges: Vec<(String, i64, i64)> = serde_json::from_str(&charges).map_err(unreadable)?;
    for (grant, day, cost) in charges {
        give_back(connection, [&account, &plugin, &grant], day, 1, cost)?;
        if how == Settle::Release {
            connection
                .prepare_cached(
                    "UPDATE attempts SET count = max(0, count - 1)
                     WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 AND day = ?4",
                )?
                .execute(params![account, plugin, grant, day])?;
        }
    }
    if let Some(permit) = permit {
        permits::give_back(connection, &permit, permit_cost, how == Settle::Refused)?;
    }
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

fn unreadable(error: serde_json::Error) -> LedgerError {
    LedgerError::Content {
        place: "reservations.charges",
        why: error.to_string(),
    }
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
