//! Which plugins' state may hold licensed data, since a manifest was in force that lets them read some. Of which account it was
//! does not matter: a plugin keeps its state when its manifest names another one.
//!
//! Invariant: that a state may hold some is forgotten only while the state is empty.

use rusqlite::Connection;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::statements::Statements as _;

impl Ledger {
    /// Stores that a plugin's state may hold licensed data from now on.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn mark_licensed_state(&self, plugin: &str) -> Result<(), LedgerError> {
        let sql = "INSERT OR IGNORE INTO licensed_state VALUES (?1)";
        let values = [plugin.to_owned()];
        self.connections().change(sql, values).await.map(drop)
    }

    /// Whether a plugin's state may hold licensed data. An empty one holds none, and is not marked any more.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn holds_licensed_state(&self, plugin: &str) -> Result<bool, LedgerError> {
        let plugin = plugin.to_owned();
        let look = move |it: &Connection| -> Result<bool, LedgerError> {
            let sql = "DELETE FROM licensed_state WHERE plugin = ?1 AND NOT EXISTS (
                SELECT 1 FROM state WHERE plugin = ?1 AND value IS NOT NULL)";
            it.change(sql, [&plugin])?;
            let sql = "SELECT EXISTS (SELECT 1 FROM licensed_state WHERE plugin = ?1)";
            Ok(it.value(sql, [&plugin])?)
        };
        self.connections().write(look).await
    }
}
