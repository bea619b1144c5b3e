//! A bounded cache per account: the least recently used entry is evicted for a new one.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;

/// Entries by account and key. Accounts are configured by the operator, so there are few.
pub(crate) struct PerAccount<K: Hash + Eq, V> {
    limit: NonZeroUsize,
    accounts: Mutex<HashMap<String, LruCache<K, V>>>,
}

impl<K: Hash + Eq, V> PerAccount<K, V> {
    /// Keeps at limit `limit` entries for each account.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN),
            accounts: Mutex::default(),
        }
    }

    /// Accesses the entries of an account. `work` must not block.
    pub(crate) fn with<R>(&self, account: &str, work: impl FnOnce(&mut LruCache<K, V>) -> R) -> R {
        let mut accounts = self.accounts.lock();
        if let Some(entries) = accounts.get_mut(account) {
            return work(entries);
        }
        // It grows on demand: limit accounts have few entries.
        let mut entries = LruCache::unbounded();
        entries.resize(self.limit);
        work(accounts.entry(account.to_owned()).or_insert(entries))
    }
}
