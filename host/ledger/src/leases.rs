//! Leases: reads with a daily limit are counted in blocks, so that most of them do not wait for the disk.
//!
//! Invariant: a read is counted only against units that are already used up durably. So a crash may lose the rest of a
//! block, but never lets a read through twice.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::budgets::{Begin, BeginError, Counter, day_of, give_back};
use crate::error::LedgerError;
use crate::ledger::Ledger;

/// Maximum units in a block, which bounds what a crash loses of one grant.
const BLOCK: i64 = 64;
/// A block is at most this fraction of what is left, so that the last units of a day are not lost to a crash or to
/// writes.
const PART: i64 = 8;

/// Account, plugin and grant.
type Key = (String, String, String);

/// All leases, by counter.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<BTreeMap<Key, Arc<Slot>>>);

#[derive(Debug, Default)]
struct Slot {
    lease: Mutex<Lease>,
    /// Held while units move between the lease and the database.
    turn: Arc<Turn<()>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Lease {
    day: i64,
    left: i64,
    /// The daily limit when it was taken: another limit needs another lease.
    limit: u32,
}

impl Lease {
    fn serves(&self, limit: u32, today: i64) -> bool {
        self.left > 0 && self.limit == limit && self.day >= today
    }
}

impl Slot {
    /// Takes a unit, if there is one, and returns the lease it came from.
    fn take(&self, limit: u32, today: i64) -> Option<Lease> {
        let mut lease = self.lease.lock();
        if !lease.serves(limit, today) {
            return None;
        }
        lease.left -= 1;
        Some(*lease)
    }

    /// Undoes a [`take`](Self::take), unless the lease has changed since: then the unit counts as used.
    fn put_back(&self, taken: Lease) {
        let mut lease = self.lease.lock();
        if (lease.day, lease.limit) == (taken.day, taken.limit) {
            lease.left += 1;
        }
    }

    /// Empties it; the caller has to return its content.
    fn empty(&self) -> Lease {
        let mut lease = self.lease.lock();
        let held = *lease;
        lease.left = 0;
        held
    }

    fn held(&self) -> Lease {
        *self.lease.lock()
    }
}

impl Leases {
    fn slot(&self, key: Key) -> Arc<Slot> {
        let mut slots = self.0.lock();
        Arc::clone(slots.entry(key).or_default())
    }

    fn existing(&self, key: &Key) -> Option<Arc<Slot>> {
        let slots = self.0.lock();
        slots.get(key).cloned()
    }

    fn all(&self) -> Vec<(Key, Arc<Slot>)> {
        let slots = self.0.lock();
        slots
            .iter()
            .map(|(key, slot)| (key.clone(), Arc::clone(slot)))
            .collect()
    }
}

/// Prevents new leases until it is dropped.
pub(crate) struct Returned {
    _turns: Vec<OwnedMutexGuard<()>>,
}

impl Ledger {
    /// Counts one read for each grant: `grants` are names with their calls per day. All or nothing. It waits for the
    /// disk once per block of up to 64 reads; otherwise it is a few memory accesses.
    ///
    /// The rest of a block counts as used after a crash; [`close`](Self::close) returns it.
    ///
    /// # Errors
    /// [`BeginError::Exhausted`] when one of them is used up; or the ledger cannot be used.
    pub async fn count_reads(
        &self,
        account: &str,
        plugin: &str,
        grants: &[(&str, u32)],
        now: i64,
    ) -> Result<(), BeginError> {
        let today = day_of(now);
        // Each grant once, or a read could wait for a second unit that its own first one holds.
        let grants: BTreeMap<&str, u32> = grants.iter().copied().collect();
        let slots: Vec<(Key, u32, Arc<Slot>)> = grants
            .into_iter()
            .map(|(grant, limit)| {
                let key = (account.to_owned(), plugin.to_owned(), grant.to_owned());
                (key.clone(), limit, self.leases().slot(key))
            })
            .collect();
        loop {
            let taken: Vec<(&Slot, Lease)> = slots
                .iter()
                .map_while(|(_, limit, slot)| Some((&**slot, slot.take(*limit, today)?)))
                .collect();
            let Some((key, limit, slot)) = slots.get(taken.len()) else {
                return Ok(());
            };
            for (slot, lease) in taken {
                slot.put_back(lease);
            }
            self.lease(key, *limit, slot, now).await?;
        }
    }

    /// Returns unused leases. For a clean shutdown: later reads lease again.
    ///
    /// # Errors
    /// When the ledger cannot be used; the units count as used then.
    pub async fn close(&self) -> Result<(), LedgerError> {
        for (key, slot) in self.leases().all() {
            let _turn = slot.turn.lock().await;
            self.give_back(key, slot.empty()).await?;
        }
        Ok(())
    }

    /// Leased but unused units of the counter's day.
    pub(crate) fn leased(&self, account: &str, plugin: &str, grant: &str, day: i64) -> i64 {
        let key = (account.to_owned(), plugin.to_owned(), grant.to_owned());
        let held = self.leases().existing(&key).map(|slot| slot.held());
        held.filter(|lease| lease.day == day)
            .map_or(0, |lease| lease.left)
    }

    /// Returns the leases on the grants that a call needs; `None` if there are none.
    pub(crate) async fn return_leases(
        &self,
        begin: &Begin,
    ) -> Result<Option<Returned>, LedgerError> {
        let grants = begin.charges.iter().map(|it| it.grant.clone()).collect();
        self.return_leases_of(&begin.account, &begin.plugin, grants)
            .await
    }

    /// The same for these grants of a plugin.
    pub(crate) async fn return_leases_of(
        &self,
        account: &str,
        plugin: &str,
        grants: Vec<String>,
    ) -> Result<Option<Returned>, LedgerError> {
        let key = |grant| (account.to_owned(), plugin.to_owned(), grant);
        let mut keys: Vec<Key> = grants.into_iter().map(key).collect();
        // In a fixed order and each once, so that two calls cannot deadlock.
        keys.sort();
        keys.dedup();
        let mut turns = Vec::new();
        let mut any = false;
        for key in keys {
            let Some(slot) = self.leases().existing(&key) else {
                continue;
            };
            turns.push(Arc::clone(&slot.turn).lock_owned().await);
            let held = slot.empty();
            any |= held.left > 0;
            self.give_back(key, held).await?;
        }
        Ok(any.then_some(Returned { _turns: turns }))
    }

    async fn give_back(&self, key: Key, held: Lease) -> Result<(), LedgerError> {
        if held.left == 0 {
            return Ok(());
        }
        self.connections()
            .write(move |it| give_back(it, [&key.0, &key.1, &key.2], held.day, held.left, 0))
            .await
    }

    /// Leases the next block, unless another task just did.
    async fn lease(&self, key: &Key, limit: u32, slot: &Slot, now: i64) -> Result<(), BeginError> {
        let _turn = slot.turn.lock().await;
        if slot.held().serves(limit, day_of(now)) {
            return Ok(());
        }
        // The rest of another day or another limit.
        self.give_back(key.clone(), slot.empty()).await?;
        let key = key.clone();
        let taken = self
            .connections()
            .write(move |it| take_block(it, &key, limit, now))
            .await?;
        *slot.lease.lock() = taken;
        Ok(())
    }
}

fn take_block(
    connection: &Connection,
    (account, plugin, grant): &Key,
    limit: u32,
    now: i64,
) -> Result<Lease, BeginError> {
    let mut counter = Counter::load(connection, account, plugin, grant, now)?;
    let left = i64::from(limit).saturating_sub(counter.count);
    if left <= 0 {
        return Err(counter.exhausted(grant, limit, now));
    }
    let block = (left / PART).clamp(1, BLOCK);
    counter.count = counter.count.saturating_add(block);
    counter.store(connection, account, plugin, grant)?;
    Ok(Lease {
        day: counter.day,
        left: block,
        limit,
    })
}
