//! Whose each account is, so that an endpoint can be compared with it while no other one answers, and a login with the one
//! before.
//!
//! Invariant: what a connection said last is kept until a person logs it out.

use std::path::Path;

use crate::error::LedgerError;
use crate::file;
use crate::ledger::Ledger;
use crate::statements::Statements as _;

/// Whose an account is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptIdentity {
    /// The connection of the account.
    pub connection: String,
    /// What it said, as the caller writes it.
    pub identity: String,
}

impl KeptIdentity {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            connection: row.get(0)?,
            identity: row.get(1)?,
        })
    }
}

const ALL: &str = "SELECT connection, identity FROM identities ORDER BY connection";

impl Ledger {
    /// Reads the identities from the file of a ledger, also while a host uses it; none if there is no such file. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stored_identities(path: &Path) -> Result<Vec<KeptIdentity>, LedgerError> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        file::check_header(path)?;
        let it = file::reader(path)?;
        // An older layout lacks the table, and a host that opens the file creates it empty.
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'identities')";
        match it.value::<bool>(sql, ())? {
            true => Ok(it.rows(ALL, (), KeptIdentity::read)?),
            false => Ok(Vec::new()),
        }
    }

    /// The identities that are kept, by connection.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn identities(&self) -> Result<Vec<KeptIdentity>, LedgerError> {
        self.connections().rows(ALL, (), KeptIdentity::read).await
    }

    /// Keeps whose an account is, in place of what was kept of the connection.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn keep_identity(&self, kept: KeptIdentity) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO identities VALUES (?1, ?2)";
        let values = (kept.connection, kept.identity);
        self.connections().change(sql, values).await.map(drop)
    }

    /// Forgets whose an account is.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn forget_identity(&self, connection: &str) -> Result<(), LedgerError> {
        let sql = "DELETE FROM identities WHERE connection = ?1";
        let values = [connection.to_owned()];
        self.connections().change(sql, values).await.map(drop)
    }
}
