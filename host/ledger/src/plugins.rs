//! State of each plugin: the adopted code, the projects it created, and marks of rate limiters.
//!
//! Invariant: a mark of a rate limiter never goes back.

use serde::Serialize;

use crate::error::LedgerError;
use crate::ledger::Ledger;

/// Where the imports of adopted code are stored.
const IMPORTS: &str = "adoptions.imports";

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
        let sql = "SELECT imports, digest, by, at_ms, confirmed FROM adoptions
            WHERE account = ?1 AND plugin = ?2";
        let values = [account.to_owned(), plugin.to_owned()];
        let found = self.connections().row(sql, values, |row| {
            let adoption = Adoption {
                digest: row.get(1)?,
                imports: Vec::new(),
                by: row.get(2)?,
                at: row.get(3)?,
                confirmed: row.get(4)?,
            };
            Ok((row.get::<_, String>(0)?, adoption))
        });
        let Some((imports, adoption)) = found.await? else {
            return Ok(None);
        };
        let imports = serde_json::from_str(&imports).map_err(LedgerError::content(IMPORTS))?;
        Ok(Some(Adoption {
            imports,
            ..adoption
        }))
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
        let imports = serde_json::to_string(&adoption.imports);
        let sql = "INSERT OR REPLACE INTO adoptions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let values = (
            account.to_owned(),
            plugin.to_owned(),
            adoption.digest,
            imports.map_err(LedgerError::content(IMPORTS))?,
            adoption.by,
            adoption.at,
            adoption.confirmed,
        );
        self.connections().change(sql, values).await.map(drop)
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
        let sql = "INSERT OR REPLACE INTO created_projects VALUES (?1, ?2, ?3)";
        let values = (account.to_owned(), project, plugin.to_owned());
        self.connections().change(sql, values).await.map(drop)
    }

    /// The projects of an account that plugins created, with their creators.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn created(&self, account: &str) -> Result<Vec<(String, u32)>, LedgerError> {
        let sql =
            "SELECT plugin, project FROM created_projects WHERE account = ?1 ORDER BY project";
        self.connections()
            .rows(sql, [account.to_owned()], |row| row.try_into())
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
        let sql = "INSERT INTO rate_marks VALUES (?1, ?2, ?3)
            ON CONFLICT DO UPDATE SET at_ms = max(at_ms, ?3)";
        let values = (account.to_owned(), key, at_ms);
        self.connections().change(sql, values).await.map(drop)
    }

    /// All marks of rate limiters.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn rate_marks(&self) -> Result<Vec<RateMark>, LedgerError> {
        let sql = "SELECT account, key, at_ms FROM rate_marks ORDER BY account, key";
        self.connections()
            .rows(sql, (), |row| {
                Ok(RateMark {
                    account: row.get(0)?,
                    key: row.get(1)?,
                    at_ms: row.get(2)?,
                })
            })
            .await
    }
}
