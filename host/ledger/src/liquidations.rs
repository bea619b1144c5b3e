//! Live deployments that a halt is liquidating: unfinished liquidations continue after a restart.

use rusqlite::{Connection, params};
use serde_json::Value;

use crate::error::LedgerError;
use crate::ledger::Ledger;

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
        let (account, entry) = (account.to_owned(), entry.to_string());
        self.connections()
            .write(move |it| {
                it.prepare_cached("INSERT OR REPLACE INTO liquidations VALUES (?1, ?2, ?3)")?
                    .execute(params![account, project, entry])?;
                Ok(())
            })
            .await
    }

    /// Removes one that is finished, or is not to continue.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn forget_liquidation(&self, account: &str, project: u32) -> Result<(), LedgerError> {
        let account = account.to_owned();
        self.connections()
            .write(move |it| {
                it.prepare_cached("DELETE FROM liquidations WHERE account = ?1 AND project = ?2")?
                    .execute(params![account, project])?;
                Ok(())
            })
            .await
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
    let mut query = it.prepare_cached(
        "SELECT account, project, entry FROM liquidations ORDER BY account, project",
    )?;
    let rows = query.query_map([], |row| {
        let entry: String = row.get(2)?;
        // An unreadable entry is still an unfinished liquidation.
        let entry = serde_json::from_str(&entry).unwrap_or(Value::Null);
        Ok((row.get(0)?, row.get(1)?, entry))
    })?;
    rows.collect()
}
