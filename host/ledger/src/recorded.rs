//! What the audit has recorded as in force, so that a start finds what changed while no host ran.

use std::collections::BTreeMap;

use rusqlite::params;

use crate::error::LedgerError;
use crate::ledger::Ledger;

impl Ledger {
    /// The digests of what was in force, by subject.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn recorded(&self) -> Result<BTreeMap<String, String>, LedgerError> {
        self.connections()
            .read(|it| {
                let mut query = it.prepare_cached("SELECT subject, digest FROM recorded")?;
                let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
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
                        Some(digest) => it
                            .prepare_cached("INSERT OR REPLACE INTO recorded VALUES (?1, ?2, ?3)")?
                            .execute(params![subject, digest, now])?,
                        None => it
                            .prepare_cached("DELETE FROM recorded WHERE subject = ?1")?
                            .execute([subject])?,
                    };
                }
                Ok(())
            })
            .await
    }
}
