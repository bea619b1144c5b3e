//! Key-value state of plugins: bytes under keys, separate for each plugin.
//!
//! Invariant: a completed write is on disk, and a version of a key is never reused, even after the key was deleted.

use rusqlite::{Connection, params};

use crate::connections::Connections;
use crate::error::{LedgerError, from_sqlite};
use crate::statements::Statements as _;

/// Maximum length of a key in bytes.
pub const MAX_KEY: usize = 256;
/// Maximum size of a value in bytes.
pub const MAX_VALUE: usize = 1 << 20;
/// Maximum bytes of one plugin's keys and values together.
pub const MAX_TOTAL: i64 = 16 << 20;
/// Maximum keys returned by one listing.
pub const MAX_LISTED: u32 = 1000;

/// The index is named so that deleted keys are never visited, whatever the planner estimates.
const LIST_KEYS: &str = "SELECT key FROM state INDEXED BY state_kept
     WHERE plugin = ?1 AND key >= ?2 AND key < ?3 AND value IS NOT NULL ORDER BY key LIMIT ?4";

/// The first text that sorts after every key with this prefix.
fn behind(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // There is no character after the last one, and U+E000 follows U+D7FF.
        let mut following = (last..=char::MAX).skip(1);
        if let Some(next) = following.next() {
            text.push(next);
            return text;
        }
    }
    // Longer than any key, so it sorts after all of them.
    char::MAX.to_string().repeat(MAX_KEY / 4 + 1)
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another writer changed the key first; its version now is this, or none if it does not exist.
    #[error("the key was changed by another writer{}", .0.map(|v| format!("; it is at version {v} now")).unwrap_or_default())]
    Conflict(Option<u32>),
    /// It would exceed the quota.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The key is empty or too long.
    #[error("a key has 1 to {MAX_KEY} bytes, this one has {0}")]
    InvalidKey(usize),
    /// The store cannot be used.
    #[error(transparent)]
    Unavailable(#[from] LedgerError),
}

from_sqlite!(StateError);

/// The store. All its calls block on the disk.
#[derive(Debug)]
pub struct StateStore(Connections);

/// A value with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Vec<u8>,
    /// Its version.
    pub version: u32,
}

impl StateStore {
    pub(crate) fn new(connections: Connections) -> Self {
        Self(connections)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When the key is invalid or the store cannot be used.
    pub fn get(&self, plugin: &str, key: &str) -> Result<Option<Entry>, StateError> {
        check_key(key)?;
        let row = [plugin.to_owned(), key.to_owned()];
        self.0.read_blocking(move |it| {
            let sql = "SELECT value, version FROM state
                WHERE plugin = ?1 AND key = ?2 AND value IS NOT NULL";
            let found: Option<(Vec<u8>, u32)> = it.row(sql, row, |row| row.try_into())?;
            Ok(found.map(|(value, version)| Entry { value, version }))
        })
    }

    /// Writes a key unconditionally.
    ///
    /// # Errors
    /// When it would exceed the quota, the key is invalid or the store cannot be used.
    pub fn set(&self, plugin: &str, key: &str, value: &[u8]) -> Result<u32, StateError> {
        self.write(plugin, key, Some(value), None)
    }

    /// Writes a key only if it has the expected version.
    ///
    /// # Errors
    /// [`StateError::Conflict`] if it has another version; otherwise as [`set`](Self::set).
    pub fn compare_and_swap(
        &self,
        plugin: &str,
        key: &str,
        expected: Option<u32>,
        value: &[u8],
    ) -> Result<u32, StateError> {
        self.write(plugin, key, Some(value), Some(expected))
    }

    /// Deletes a key. Its version is kept, so that it is not reused.
    ///
    /// # Errors
    /// When the key is invalid or the store cannot be used.
    pub fn delete(&self, plugin: &str, key: &str) -> Result<(), StateError> {
        self.write(plugin, key, None, None).map(drop)
    }

    /// Lists the keys with a prefix, in order, at most 1,000 of them. The time depends on the result only, not on other or
    /// deleted keys.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub fn list_keys(&self, plugin: &str, prefix: &str) -> Result<Vec<String>, StateError> {
        if prefix.len() > MAX_KEY {
            return Ok(Vec::new());
        }
        let (plugin, prefix) = (plugin.to_owned(), prefix.to_owned());
        self.0.read_blocking(move |it| {
            let range = params![plugin, prefix, behind(&prefix), MAX_LISTED];
            Ok(it.rows(LIST_KEYS, range, |row| row.get(0))?)
        })
    }

    fn write(
        &self,
        plugin: &str,
        key: &str,
        value: Option<&[u8]>,
        expected: Option<Option<u32>>,
    ) -> Result<u32, StateError> {
        check_key(key)?;
        let size = value.map_or(0, <[u8]>::len);
        if size > MAX_VALUE {
            return Err(StateError::QuotaExceeded(format!(
                "a value has at most {MAX_VALUE} bytes, this one has {size}"
            )));
        }
        let (plugin, key) = (plugin.to_owned(), key.to_owned());
        let value = value.map(<[u8]>::to_vec);
        self.0
            .write_blocking(move |it| put(it, &plugin, &key, value.as_deref(), expected))
    }
}

fn put(
    connection: &Connection,
    plugin: &str,
    key: &str,
    value: Option<&[u8]>,
    expected: Option<Option<u32>>,
) -> Result<u32, StateError> {
    let sql = "SELECT version, length(value) FROM state WHERE plugin = ?1 AND key = ?2";
    let former: Option<(u32, Option<i64>)> =
        connection.row(sql, [plugin, key], |row| row.try_into())?;
    let current = former.and_then(|(version, length)| length.map(|_| version));
    if let Some(expected) = expected
        && expected != current
    {
        return Err(StateError::Conflict(current));
    }
    if value.is_none() && current.is_none() {
        return Ok(0);
    }
    let version = former.map_or(1, |(version, _)| version.saturating_add(1));
    let sql = "INSERT INTO state (plugin, key, version, value) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (plugin, key) DO UPDATE SET version = ?3, value = ?4";
    connection.change(sql, params![plugin, key, version, value])?;
    // Names of deleted keys count too: otherwise they would grow without limit.
    let before = former.map_or(0, |(_, length)| {
        size(key.len()).saturating_add(length.unwrap_or(0))
    });
    let after = size(key.len()).saturating_add(value.map_or(0, |value| size(value.len())));
    let sql = "INSERT INTO state_totals VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET bytes = bytes + ?2 RETURNING bytes";
    let total: i64 = connection.value(sql, params![plugin, after.saturating_sub(before)])?;
    if value.is_some() && total > MAX_TOTAL {
        return Err(StateError::QuotaExceeded(format!(
            "a plugin keeps at most {MAX_TOTAL} bytes, this would make it {total}"
        )));
    }
    Ok(version)
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn check_key(key: &str) -> Result<(), StateError> {
    if (1..=MAX_KEY).contains(&key.len()) {
        Ok(())
    } else {
        Err(StateError::InvalidKey(key.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ledger;

    #[test]
    fn a_version_is_never_given_twice() {
        let ledger = Ledger::in_memory().unwrap();
        let store = ledger.state();
        assert_eq!(store.set("a", "k", b"1").unwrap(), 1);
        assert_eq!(store.compare_and_swap("a", "k", Some(1), b"2").unwrap(), 2);
        assert!(matches!(
            store.compare_and_swap("a", "k", Some(1), b"3"),
            Err(StateError::Conflict(Some(2)))
        ));
        store.delete("a", "k").unwrap();
        store.delete("a", "k").unwrap();
        assert_eq!(store.get("a", "k").unwrap(), None);
        assert!(matches!(
            store.compare_and_swap("a", "k", Some(2), b"3"),
            Err(StateError::Conflict(None))
        ));
        assert_eq!(store.compare_and_swap("a", "k", None, b"4").unwrap(), 4);
        assert_eq!(
            store.get("a", "k").unwrap(),
            Some(Entry {
                value: b"4".to_vec(),
                version: 4
            })
        );
    }

    #[test]
    fn plugins_do_not_see_each_other() {
        let ledger = Ledger::in_memory().unwrap();
        let store = ledger.state();
        store.set("a", "one/1", b"x").unwrap();
        store.set("a", "one%2", b"x").unwrap();
        store.set("a", "two", b"x").unwrap();
        assert_eq!(store.get("b", "two").unwrap(), None);
        assert_eq!(store.list_keys("a", "one").unwrap(), ["one%2", "one/1"]);
        assert_eq!(store.list_keys("b", "").unwrap(), Vec::<String>::new());
    }

    /// Virtual machine steps of a listing when there are `others` other keys, existing or deleted.
    fn steps(others: u32, prefix: &str) -> i32 {
        let ledger = Ledger::in_memory().unwrap();
        let prefix = prefix.to_owned();
        ledger
            .state()
            .0
            .write_blocking(move |it| -> Result<i32, StateError> {
                it.execute_batch("INSERT INTO state VALUES ('lab', 'run/5', 1, x'00')")?;
                it.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                     INSERT INTO state SELECT 'lab', 'run/old/' || i, 1, NULL FROM n
                     UNION ALL SELECT 'lab', 'z/' || i, 1, x'00' FROM n",
                    [others],
                )?;
                let mut query = it.prepare(LIST_KEYS)?;
                let range = params!["lab", prefix, behind(&prefix), MAX_LISTED];
                let keys: Vec<String> = query
                    .query_map(range, |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                assert_eq!(keys, ["run/5"]);
                Ok(query.get_status(rusqlite::StatementStatus::VmStep))
            })
            .unwrap()
    }

    #[test]
    fn to_list_keys_takes_no_longer_for_what_was_deleted_or_is_elsewhere() {
        let few = steps(10, "run/");
        for others in [1_000, 2_000, 4_000] {
            assert_eq!(steps(others, "run/"), few, "{others}");
        }
    }

    #[test]
    fn a_listing_ends_where_its_prefix_does() {
        let ledger = Ledger::in_memory().unwrap();
        let store = ledger.state();
        let keys = [
            "a",
            "a\u{d7ff}",
            "a\u{e000}",
            "a\u{10ffff}",
            "a\u{10ffff}b",
            "b",
            "\u{10ffff}",
            "\u{10ffff}\u{10ffff}",
        ];
        for key in keys {
            store.set("lab", key, b"x").unwrap();
        }
        for prefix in keys.into_iter().chain(["", "ab", "\u{10fffe}"]) {
            let expected: Vec<_> = keys
                .into_iter()
                .filter(|key| key.starts_with(prefix))
                .collect();
            assert_eq!(
                store.list_keys("lab", prefix).unwrap(),
                expected,
                "{prefix:?}"
            );
        }
        assert!(
            store
                .list_keys("lab", &"a".repeat(MAX_KEY + 1))
                .unwrap()
                .is_empty()
        );
        let longest = char::MAX.to_string().repeat(MAX_KEY / 4);
        store.set("lab", &longest, b"x").unwrap();
        assert!(store.list_keys("lab", "").unwrap().contains(&longest));
    }

    #[test]
    fn quotas_hold() {
        let ledger = Ledger::in_memory().unwrap();
        let store = ledger.state();
        assert!(matches!(
            store.set("a", "", b""),
            Err(StateError::InvalidKey(0))
        ));
        assert!(matches!(
            store.set("a", &"k".repeat(257), b""),
            Err(StateError::InvalidKey(257))
        ));
        let large = vec![0; MAX_VALUE];
        assert!(matches!(
            store.set("a", "k", &vec![0; MAX_VALUE + 1]),
            Err(StateError::QuotaExceeded(_))
        ));
        for i in 0..15 {
            store.set("a", &i.to_string(), &large).unwrap();
        }
        assert!(matches!(
            store.set("a", "last", &large),
            Err(StateError::QuotaExceeded(_))
        ));
        assert_eq!(store.get("a", "last").unwrap(), None);
        store.set("b", "k", &large).unwrap();
    }
}
