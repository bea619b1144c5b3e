//! State of each plugin: the adopted code, the projects it created, and marks of rate limiters.
//!
//! Invariant: a mark of a rate limiter never goes back.

use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;

use crate::error::LedgerError;
use crate::ledger::Ledger;

/// The code that an operator has adopted for a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Adoption {
    /// The component's hash, `sha256:…`.
    pub digest: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The person who adopted it.
    pub by: String,
    /// When it was adopted. Unix time in milliseconds.
    pub at: i64,
    /// Whether it was adopted in this data folder, rather than in the one that a restored backup
    /// came from.
    pub confirmed: bool,
}

/// When a rate limiter's bucket was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateMark {
    /// The account.
    pub account: String,
    /// The bucket's key, chosen by the rate limiter.
    pub key: String,
    /// The latest mark. Unix time in milliseconds.
    pub at_ms: i64,
}

impl Ledger {
    /// The code adopted last for a plugin.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn adopted(
        &self,
        account: &str,
        plugin: &str,
    ) -> Result<Option<Adoption>, LedgerError> {
        let key = [account.to_owned(), plugin.to_owned()];
        self.connections()
            .read(move |it| {
                let found: Option<(String, String, String, i64, bool)> = it
                    .prepare_cached(
                        "SELECT digest, imports, by, at_ms, confirmed FROM adoptions
                         WHERE account = ?1 AND plugin = ?2",
                    )?
                    .query_row(key, |row| {
                        Ok((
                            row.get(0)?,
                            row.get(1)?,
                            row.get(2)?,
                            row.get(3)?,
                            row.get(4)?,
                        ))
                    })
                    .optional()?;
                let Some((digest, imports, by, at, confirmed)) = found else {
                    return Ok(None);
                };
                let imports = serde_json::from_str(&imports).map_err(|error| unreadable(&error))?;
                Ok(Some(Adoption {
                    digest,
                    imports,
                    by,
                    at,
                    confirmed,
                }))
            })
            .await
    }

    /// Adopts code for a plugin, replacing what was adopted before.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn adopt(
        &self,
        account: &str,
        plugin: &str,
        adoption: Adoption,
    ) -> Result<(), LedgerError> {
        let (account, plugin) = (account.to_owned(), plugin.to_owned());
        self.connections()
            .write(move |it| {
                let imports =
                    serde_json::to_string(&adoption.imports).map_err(|error| unreadable(&error))?;
                it.prepare_cached(
                    "INSERT OR REPLACE INTO adoptions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    account,
                    plugin,
                    adoption.digest,
                    imports,
                    adoption.by,
                    adoption.at,
                    adoption.confirmed
                ])?;
                Ok(())
            })
            .await
    }

    /// Stores that a plugin created a project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn record_created(
        &self,
        account: &str,
        plugin: &str,
        project: u32,
    ) -> Result<(), LedgerError> {
        let (account, plugin) = (account.to_owned(), plugin.to_owned());
        self.connections()
            .write(move |it| {
                it.prepare_cached("INSERT OR REPLACE INTO created_projects VALUES (?1, ?2, ?3)")?
                    .execute(params![account, project, plugin])?;
                Ok(())
            })
            .await
    }

    /// The projects of an account that plugins created, with their creators.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn created(&self, account: &str) -> Result<Vec<(String, u32)>, LedgerError> {
        let account = account.to_owned();
        self.connections()
            .read(move |it| {
                let mut query = it.prepare_cached(
                    "SELECT plugin, project FROM created_projects WHERE account = ?1 ORDER BY project",
                )?;
                let rows = query.query_map([account], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Stores that a rate limiter's bucket was used; a mark never goes back.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn mark_rate(
        &self,
        account: &str,
        key: String,
        at_ms: i64,
    ) -> Result<(), LedgerError> {
        let account = account.to_owned();
        self.connections()
            .write(move |it| {
                it.prepare_cached(
                    "INSERT INTO rate_marks VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET at_ms = max(at_ms, ?3)",
                )?
                .execute(params![account, key, at_ms])?;
                Ok(())
            })
            .await
    }

    /// All marks of rate limiters.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn rate_marks(&self) -> Result<Vec<RateMark>, LedgerError> {
        self.connections()
            .read(|it| {
                let mut query = it.prepare_cached(
                    "SELECT account, key, at_ms FROM rate_marks ORDER BY account, key",
                )?;
                let rows = query.query_map([], |row| {
                    Ok(RateMark {
                        account: row.get(0)?,
                        key: row.get(1)?,
                        at_ms: row.get(2)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

fn unreadable(error: &serde_json::Error) -> LedgerError {
    LedgerError::Content {
        place: "adoptions.imports",
        why: error.to_string(),
    }
}
