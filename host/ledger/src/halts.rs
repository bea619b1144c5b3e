//! Halts: accounts and plugins whose writes are stopped until an operator resumes them.

use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::statements::Statements as _;
use crate::{file, liquidations};

/// A halt. Without an account it applies to all accounts, without a plugin to all plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Halt {
    /// The account; `None` for all.
    pub account: Option<String>,
    /// The plugin; `None` for all.
    pub plugin: Option<String>,
    /// The reason.
    pub reason: String,
    /// The person who halted.
    pub by: String,
    /// When it was set. Unix time in milliseconds.
    pub at: i64,
}

/// The halts in a database that no host uses.
#[derive(Debug, Clone, Default)]
pub struct StoredHalts {
    /// The halts in force, oldest first.
    pub halts: Vec<Halt>,
    /// The audit record up to which these are complete; see [`Ledger::halts_recorded`].
    pub recorded: Option<u64>,
    /// Their unfinished liquidations; see [`Ledger::liquidations`].
    pub liquidations: Vec<(String, u32, Value)>,
}

impl Ledger {
    /// Reads the halts from the file of a ledger that no host uses; empty if there is no such file. Changes nothing in it,
    /// and needs no disk space. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stored_halts(path: &Path) -> Result<StoredHalts, LedgerError> {
        if !path.exists() {
            return Ok(StoredHalts::default());
        }
        let it = file::inspector(path)?;
        let has = |table: &str| {
            it.query_row(
                "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
                [table],
                |row| row.get::<_, bool>(0),
            )
        };
        // An older layout lacks some tables, and a host that opens the file creates them empty.
        Ok(StoredHalts {
            halts: match has("halts")? {
                true => halts(&it)?,
                false => Vec::new(),
            },
            recorded: match has("meta")? {
                true => recorded(&it)?,
                false => None,
            },
            liquidations: match has("liquidations")? {
                true => liquidations::all(&it)?,
                false => Vec::new(),
            },
        })
    }

    /// Stores a halt. One of the same account and plugin is replaced.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn halt(&self, halt: Halt) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO halts VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = (
            halt.account.unwrap_or_default(),
            halt.plugin.unwrap_or_default(),
            halt.reason,
            halt.by,
            halt.at,
        );
        self.connections().change(sql, values).await.map(drop)
    }

    /// Ends the halt of exactly this account and plugin. Returns how many ended: 0 or 1.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn resume(
        &self,
        account: Option<&str>,
        plugin: Option<&str>,
    ) -> Result<usize, LedgerError> {
        let sql = "DELETE FROM halts WHERE account = ?1 AND plugin = ?2";
        let values = [
            account.unwrap_or_default().to_owned(),
            plugin.unwrap_or_default().to_owned(),
        ];
        self.connections().change(sql, values).await
    }

    /// The halts in force, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn halts(&self) -> Result<Vec<Halt>, LedgerError> {
        self.connections().read(|it| Ok(halts(it)?)).await
    }

    /// The audit record up to which the database has every halt and every end of one; `None` if that was never stored.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn halts_recorded(&self) -> Result<Option<u64>, LedgerError> {
        self.connections().read(|it| Ok(recorded(it)?)).await
    }

    /// Stores the audit record up to which the halts are complete.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn set_halts_recorded(&self, sequence: u64) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO meta VALUES ('halts-recorded', ?1)";
        self.connections()
            .change(sql, [sequence.to_string()])
            .await
            .map(drop)
    }
}

fn halts(it: &Connection) -> rusqlite::Result<Vec<Halt>> {
    let sql = "SELECT nullif(account, ''), nullif(plugin, ''), reason, by, at_ms FROM halts
        ORDER BY at_ms, account, plugin";
    it.rows(sql, [], |row| {
        Ok(Halt {
            account: row.get(0)?,
            plugin: row.get(1)?,
            reason: row.get(2)?,
            by: row.get(3)?,
            at: row.get(4)?,
        })
    })
}

fn recorded(it: &Connection) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT value FROM meta WHERE name = 'halts-recorded'";
    let found: Option<String> = it.row(sql, [], |row| row.get(0))?;
    // An unreadable value is ignored: the audit is read from its beginning then.
    Ok(found.and_then(|text| text.parse().ok()))
}
