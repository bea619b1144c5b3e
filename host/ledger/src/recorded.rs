//! What the audit has recorded as in force, so that a start finds what changed while no host ran.

use std::collections::BTreeMap;

use rusqlite::params;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::statements::Statements as _;

impl Ledger {
    /// The digests of what was in force, by subject.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn recorded(&self) -> Result<BTreeMap<String, String>, LedgerError> {
        let sql = "SELECT subject, digest FROM recorded";
        self.connections().rows(sql, (), |row| row.try_into()).await
    }

    /// Stores what is in force now; `None` stands for what is no longer in force.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn set_recorded(
        &self,
        digests: BTreeMap<String, Option<String>>,
        now: i64,
    ) -> Result<(), LedgerError> {
        self.connections()
            .write(move |it| {
                for (subject, digest) in digests {
                    match digest {
                        Some(digest) => it.change(
                            "INSERT OR REPLACE INTO recorded VALUES (?1, ?2, ?3)",
                            params![subject, digest, now],
                        )?,
                        None => it.change("DELETE FROM recorded WHERE subject = ?1", [subject])?,
                    };
                }
                Ok(())
            })
            .await
    }
}
