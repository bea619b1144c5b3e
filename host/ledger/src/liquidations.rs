//! Live deployments that a halt is liquidating: unfinished liquidations continue after a restart.

use rusqlite::Connection;
use serde_json::Value;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::statements::Statements as _;

impl Ledger {
    /// Stores an unfinished liquidation, replacing its former state. `project` is 0 for an account whose deployments
    /// cannot be listed.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn keep_liquidation(
        &self,
        account: &str,
        project: u32,
        entry: &Value,
    ) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO liquidations VALUES (?1, ?2, ?3)";
        let values = (account.to_owned(), project, entry.to_string());
        self.connections().change(sql, values).await.map(drop)
    }

    /// Removes one that is finished, or is not to continue.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn forget_liquidation(&self, account: &str, project: u32) -> Result<(), LedgerError> {
        let sql = "DELETE FROM liquidations WHERE account = ?1 AND project = ?2";
        self.connections()
            .change(sql, (account.to_owned(), project))
            .await
            .map(drop)
    }

    /// The unfinished liquidations, with account and project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn liquidations(&self) -> Result<Vec<(String, u32, Value)>, LedgerError> {
        self.connections().read(|it| Ok(all(it)?)).await
    }
}

pub(crate) fn all(it: &Connection) -> rusqlite::Result<Vec<(String, u32, Value)>> {
    let sql = "SELECT account, project, entry FROM liquidations ORDER BY account, project";
    it.rows(sql, [], |row| {
        let entry: String = row.get(2)?;
        // An unreadable entry is still an unfinished liquidation.
        let entry = serde_json::from_str(&entry).unwrap_or(Value::Null);
        Ok((row.get(0)?, row.get(1)?, entry))
    })
}
