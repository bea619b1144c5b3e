//! Reads with a daily limit: counted in blocks, so that most of them do not wait for the disk.
//!
//! Invariant: a read is counted only against units that are already used up durably. So a crash may lose the rest of a
//! block, but never lets a read through twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::OwnedMutexGuard;

use crate::blocks::{Block, GrantBlock, Key};
use crate::counters::{Counter, Inherited as _, day_of, give_back};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::reservation::{BeginError, NewReservation};

/// Maximum units in a block, which bounds what a crash loses of one grant.
const MAX_BLOCK: i64 = 64;
/// A block is at most this fraction of what is left, so that the last units of a day are not lost to a crash or to
/// writes.
const MAX_PART: i64 = 8;

/// Prevents new blocks of the returned grants until it is dropped.
pub(crate) struct BlocksReturned {
    _transfers: Vec<OwnedMutexGuard<()>>,
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
        let blocks: Vec<(Key, u32, Arc<GrantBlock>)> = grants
            .into_iter()
            .map(|(grant, limit)| {
                let key = (account.to_owned(), plugin.to_owned(), grant.to_owned());
                (key.clone(), limit, self.blocks().of(key))
            })
            .collect();
        loop {
            let taken: Vec<(&GrantBlock, Block)> = blocks
                .iter()
                .map_while(|(_, limit, block)| Some((&**block, block.take(*limit, today)?)))
                .collect();
            let Some((key, limit, block)) = blocks.get(taken.len()) else {
                return Ok(());
            };
            for (block, former) in taken {
                block.return_unit(former);
            }
            self.reserve_block(key, *limit, block, now).await?;
        }
    }

    /// Returns the unused rest of every block. For a clean shutdown: later reads take new blocks.
    ///
    /// # Errors
    /// When the ledger cannot be used; the units count as used then.
    pub async fn close(&self) -> Result<(), LedgerError> {
        for (key, block) in self.blocks().all() {
            let _transfer = block.transfer.lock().await;
            self.return_rest(key, block.empty()).await?;
        }
        Ok(())
    }

    /// The unused reads of a grant's block, if it is of this day.
    pub(crate) fn unused_reads(&self, account: &str, plugin: &str, grant: &str, day: i64) -> i64 {
        let key = (account.to_owned(), plugin.to_owned(), grant.to_owned());
        let block = self.blocks().existing(&key).map(|block| block.current());
        block
            .filter(|block| block.day == day)
            .map_or(0, |block| block.left)
    }

    /// Returns the blocks of the grants that a call needs; `None` if nothing of them was left.
    pub(crate) async fn return_blocks(
        &self,
        begin: &NewReservation,
    ) -> Result<Option<BlocksReturned>, LedgerError> {
        let grants = begin.charges.iter().map(|it| it.grant.clone()).collect();
        self.return_blocks_of(&begin.account, &begin.plugin, grants)
            .await
    }

    /// The same for these grants of a plugin.
    pub(crate) async fn return_blocks_of(
        &self,
        account: &str,
        plugin: &str,
        grants: Vec<String>,
    ) -> Result<Option<BlocksReturned>, LedgerError> {
        let key = |grant| (account.to_owned(), plugin.to_owned(), grant);
        let mut keys: Vec<Key> = grants.into_iter().map(key).collect();
        // In a fixed order and each once, so that two calls cannot deadlock.
        keys.sort();
        keys.dedup();
        let mut transfers = Vec::new();
        let mut any = false;
        for key in keys {
            let Some(block) = self.blocks().existing(&key) else {
                continue;
            };
            transfers.push(Arc::clone(&block.transfer).lock_owned().await);
            let rest = block.empty();
            any |= rest.left > 0;
            self.return_rest(key, rest).await?;
        }
        Ok(any.then_some(BlocksReturned {
            _transfers: transfers,
        }))
    }

    async fn return_rest(&self, key: Key, rest: Block) -> Result<(), LedgerError> {
        if rest.left == 0 {
            return Ok(());
        }
        self.connections()
            .write(move |it| give_back(it, [&key.0, &key.1, &key.2], rest.day, rest.left, 0))
            .await
    }

    /// Uses up the units of the next block, unless another task just did.
    async fn reserve_block(
        &self,
        key: &Key,
        limit: u32,
        block: &GrantBlock,
        now: i64,
    ) -> Result<(), BeginError> {
        let _transfer = block.transfer.lock().await;
        if block.current().serves(limit, day_of(now)) {
            return Ok(());
        }
        // The rest of another day or another limit.
        self.return_rest(key.clone(), block.empty()).await?;
        let key = key.clone();
        let taken = self
            .connections()
            .write(move |it| take_block(it, &key, limit, now))
            .await?;
        block.replace(taken);
        Ok(())
    }
}

fn take_block(
    connection: &Connection,
    (account, plugin, grant): &Key,
    limit: u32,
    now: i64,
) -> Result<Block, BeginError> {
    let key = [account, plugin, grant.as_str()];
    let mut counter = Counter::load(connection, key, now)?;
    let left = i64::from(limit).saturating_sub(counter.count);
    if left <= 0 {
        return Err(counter.exhausted(grant, limit, now));
    }
    let block = (left / MAX_PART).clamp(1, MAX_BLOCK);
    counter.count = counter.count.saturating_add(block);
    counter.store(connection, key)?;
    Ok(Block {
        day: counter.day,
        left: block,
        limit,
    })
}
