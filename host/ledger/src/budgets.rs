//! Budgets: the daily use of each grant, and the open reservations.
//!
//! Invariant: a counter never exceeds its limit, and falls only when a reservation is released or a block of reads is
//! returned.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use crate::counters::{
    Attempts, Counter, Inherited as _, PER_DAY, amount, charge_attempt, day_of, give_back,
    max_attempts, stored, until_end,
};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::permits;
use crate::reservation::{BeginError, NewReservation, OpenReservation, Settlement, Usage};
use crate::statements::Statements as _;

/// Where the charges of a reservation are stored.
const CHARGES: &str = "reservations.charges";

impl Ledger {
    /// Reserves a call's charges and its permit, all or nothing, durably.
    ///
    /// The reservation is made even if the future is dropped, and then stays open.
    ///
    /// # Errors
    /// When a budget is used up, the permit is not valid, or the ledger cannot be used.
    pub async fn begin(&self, begin: NewReservation) -> Result<i64, BeginError> {
        let begin = Arc::new(begin);
        let attempt = Arc::clone(&begin);
        let outcome = self
            .connections()
            .write(move |it| reserve(it, &attempt))
            .await;
        if !matches!(&outcome, Err(BeginError::Exhausted { budget, .. }) if *budget == PER_DAY) {
            return outcome;
        }
        // A part of what is used may be the unused rest of a block of reads.
        let Some(returned) = self.return_blocks(&begin).await? else {
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
    pub async fn settle(&self, reservation: i64, how: Settlement) -> Result<(), LedgerError> {
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
                    let key = [&account, &plugin, grant.as_str()];
                    let mut attempts = Attempts::load(it, key, now)?;
                    attempts.count = attempts.count.saturating_add(1);
                    attempts.store(it, key)?;
                    if attempts.count >= max_attempts(*per_day) {
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
        let sql =
            "SELECT id, call, account, plugin, begun_ms, permit FROM reservations ORDER BY id";
        self.connections()
            .rows(sql, (), |row| {
                Ok(OpenReservation {
                    id: row.get(0)?,
                    call: row.get(1)?,
                    account: row.get(2)?,
                    plugin: row.get(3)?,
                    begun_ms: row.get(4)?,
                    permit: row.get(5)?,
                })
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
        let sql =
            "SELECT day, count, cost, grant_name, coalesce(date(day * 86400, 'unixepoch'), day)
            FROM counters AS c WHERE account = ?1 AND plugin = ?2 AND day >= ?3 AND day =
                (SELECT max(day) FROM counters AS l WHERE l.account = ?1 AND l.plugin = ?2
                 AND l.grant_name = c.grant_name)
            ORDER BY grant_name";
        let values = (account.to_owned(), plugin.to_owned(), day_of(now));
        let read = |row: &Row<'_>| row.try_into();
        let rows: Vec<(i64, i64, i64, String, String)> =
            self.connections().rows(sql, values, read).await?;
        let usage = |(number, count, cost, grant, day): (i64, i64, i64, String, String)| {
            let unread = self.unused_reads(account, plugin, &grant, number);
            let count = u32::try_from(count.saturating_sub(unread).max(0)).unwrap_or(u32::MAX);
            let cost = amount(cost);
            Usage {
                grant,
                day,
                count,
                cost,
            }
        };
        Ok(rows.into_iter().map(usage).collect())
    }
}

fn reserve(connection: &Connection, begin: &NewReservation) -> Result<i64, BeginError> {
    if let Some(permit) = &begin.permit {
        permits::spend(connection, permit, begin)?;
    }
    let mut taken = Vec::with_capacity(begin.charges.len());
    for charge in &begin.charges {
        let key = [&begin.account, &begin.plugin, charge.grant.as_str()];
        let mut counter = Counter::load(connection, key, begin.now)?;
        counter.charge(charge, begin.now)?;
        if let Some(per_day) = charge.per_day {
            charge_attempt(connection, begin, &charge.grant, per_day)?;
        }
        counter.store(connection, key)?;
        taken.push((&charge.grant, counter.day, stored(charge.cost)));
    }
    let taken = serde_json::to_string(&taken).map_err(LedgerError::content(CHARGES))?;
    let permit = begin.permit.as_ref();
    let sql =
        "INSERT INTO reservations (call, account, plugin, begun_ms, charges, permit, permit_cost)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![
        begin.call,
        begin.account,
        begin.plugin,
        begin.now,
        taken,
        permit.map(|permit| &permit.permit),
        permit.map_or(0, |permit| stored(permit.cost)),
    ];
    connection.change(sql, values)?;
    Ok(connection.last_insert_rowid())
}

fn end(connection: &Connection, reservation: i64, how: Settlement) -> Result<(), LedgerError> {
    type ReservationRow = (String, String, String, Option<String>, i64);
    let sql = "DELETE FROM reservations WHERE id = ?1
        RETURNING account, plugin, charges, permit, permit_cost";
    let ended: Option<ReservationRow> = connection.row(sql, [reservation], |row| row.try_into())?;
    let Some((account, plugin, charges, permit, permit_cost)) = ended else {
        return Ok(());
    };
    if how == Settlement::Commit {
        return Ok(());
    }
    let charges: Vec<(String, i64, i64)> =
        serde_json::from_str(&charges).map_err(LedgerError::content(CHARGES))?;
    for (grant, day, cost) in charges {
        give_back(connection, [&account, &plugin, &grant], day, 1, cost)?;
        if how == Settlement::Release {
            let sql = "UPDATE attempts SET count = max(0, count - 1)
                WHERE account = ?1 AND plugin = ?2 AND grant_name = ?3 AND day = ?4";
            connection.change(sql, params![account, plugin, grant, day])?;
        }
    }
    if let Some(permit) = permit {
        permits::return_use(connection, &permit, permit_cost, how == Settlement::Refused)?;
    }
    Ok(())
}
