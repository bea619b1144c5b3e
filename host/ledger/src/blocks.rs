//! Blocks of reads: units of a grant's daily limit that are used up in the database, and that reads take from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

/// Account, plugin and grant.
pub(crate) type Key = (String, String, String);

/// The block of each grant.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<BTreeMap<Key, Arc<GrantBlock>>>);

/// The current block of one grant.
#[derive(Debug, Default)]
pub(crate) struct GrantBlock {
    block: Mutex<Block>,
    /// Held while units move between the block and the database.
    pub(crate) transfer: Arc<AsyncMutex<()>>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) day: i64,
    /// Unused reads.
    pub(crate) left: i64,
    /// The daily limit when it was taken: another limit needs another block.
    pub(crate) limit: u32,
}

impl Block {
    pub(crate) fn serves(&self, limit: u32, today: i64) -> bool {
        self.left > 0 && self.limit == limit && self.day >= today
    }
}

impl GrantBlock {
    /// Takes a unit, if there is one, and returns the block it came from.
    pub(crate) fn take(&self, limit: u32, today: i64) -> Option<Block> {
        let mut block = self.block.lock();
        if !block.serves(limit, today) {
            return None;
        }
        block.left -= 1;
        Some(*block)
    }

    /// Undoes a [`take`](Self::take), unless the block has changed since: then the unit counts as used.
    pub(crate) fn return_unit(&self, taken: Block) {
        let mut block = self.block.lock();
        if (block.day, block.limit) == (taken.day, taken.limit) {
            block.left += 1;
        }
    }

    /// Empties it; the caller has to return its content.
    pub(crate) fn empty(&self) -> Block {
        let mut block = self.block.lock();
        let former = *block;
        block.left = 0;
        former
    }

    pub(crate) fn replace(&self, block: Block) {
        *self.block.lock() = block;
    }

    pub(crate) fn current(&self) -> Block {
        *self.block.lock()
    }
}

impl Blocks {
    /// The block of a grant, empty at first.
    pub(crate) fn of(&self, key: Key) -> Arc<GrantBlock> {
        let mut blocks = self.0.lock();
        Arc::clone(blocks.entry(key).or_default())
    }

    pub(crate) fn existing(&self, key: &Key) -> Option<Arc<GrantBlock>> {
        let blocks = self.0.lock();
        blocks.get(key).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(Key, Arc<GrantBlock>)> {
        let blocks = self.0.lock();
        blocks
            .iter()
            .map(|(key, block)| (key.clone(), Arc::clone(block)))
            .collect()
    }
}
