//! Sources of compiles, so that a person who approves a deployment sees what changed since the last approval.
//!
//! Invariant: the newest and the approved sources are kept, and all together stay within a bound. A compile whose source
//! was dropped still has its hash.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::LedgerError;
use crate::ledger::Ledger;

/// The most that sources may take together, in bytes; approved ones are kept even so.
const MAX_BYTES: i64 = 64 << 20;
/// The most compiles that are remembered.
const MAX_COMPILES: i64 = 20_000;

impl Ledger {
    /// Remembers a compile and the files that went into it, as name and content. `source_hash` names the files: equal
    /// ones are kept once.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn put_compile(
        &self,
        account: &str,
        compile_id: &str,
        project: u32,
        source_hash: &str,
        files: &[(String, String)],
    ) -> Result<(), LedgerError> {
        let files = serde_json::to_string(files).map_err(|error| unreadable(&error))?;
        let (account, compile) = (account.to_owned(), compile_id.to_owned());
        let hash = source_hash.to_owned();
        self.connections()
            .write(move |it| {
                it.prepare_cached(
                    "INSERT OR REPLACE INTO compiles (account, compile, project, source) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![account, compile, project, hash])?;
                drop_compiles(it)?;
                let bytes = i64::try_from(files.len()).unwrap_or(i64::MAX);
                it.prepare_cached(
                    "INSERT INTO sources VALUES (?1, (SELECT coalesce(max(used), 0) + 1 FROM sources), ?2, ?3)
                     ON CONFLICT DO UPDATE SET used = excluded.used",
                )?
                .execute(params![hash, bytes, files])?;
                drop_old(it)
            })
            .await
    }

    /// Remembers which project a compile is of, where its source is not known.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn record_compile(
        &self,
        account: &str,
        compile_id: &str,
        project: u32,
    ) -> Result<(), LedgerError> {
        let (account, compile) = (account.to_owned(), compile_id.to_owned());
        self.connections()
            .write(move |it| {
                it.prepare_cached(
                    "INSERT OR IGNORE INTO compiles (account, compile, project) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![account, compile, project])?;
                drop_compiles(it)
            })
            .await
    }

    /// The compiles of an account with their projects, as far back as they are remembered.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn compiles(&self, account: &str) -> Result<Vec<(String, u32)>, LedgerError> {
        let account = account.to_owned();
        self.connections()
            .read(move |it| {
                let mut query = it.prepare_cached(
                    "SELECT compile, project FROM compiles WHERE account = ?1 ORDER BY id",
                )?;
                let rows = query.query_map([account], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The hash of a compile's source, if that is known, and its project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn compile_source(
        &self,
        account: &str,
        compile_id: &str,
    ) -> Result<Option<(String, u32)>, LedgerError> {
        let key = [account.to_owned(), compile_id.to_owned()];
        self.connections()
            .read(move |it| {
                Ok(it
                    .prepare_cached(
                        "SELECT source, project FROM compiles
                         WHERE account = ?1 AND compile = ?2 AND source IS NOT NULL",
                    )?
                    .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?)
            })
            .await
    }

    /// The files of a source as name and content, unless it was dropped.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn source(&self, hash: &str) -> Result<Option<Vec<(String, String)>>, LedgerError> {
        let hash = hash.to_owned();
        self.connections()
            .read(move |it| {
                it.prepare_cached("SELECT files FROM sources WHERE hash = ?1")?
                    .query_row([hash], |row| row.get::<_, String>(0))
                    .optional()?
                    .map(|files| serde_json::from_str(&files).map_err(|error| unreadable(&error)))
                    .transpose()
            })
            .await
    }

    /// The hash of the source that was last approved for a project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approved_source(
        &self,
        account: &str,
        project: u32,
    ) -> Result<Option<String>, LedgerError> {
        let account = account.to_owned();
        self.connections()
            .read(move |it| {
                Ok(it
                    .prepare_cached(
                        "SELECT source FROM approved_sources WHERE account = ?1 AND project = ?2",
                    )?
                    .query_row(params![account, project], |row| row.get(0))
                    .optional()?)
            })
            .await
    }

    /// Remembers which source was approved for a project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn set_approved_source(
        &self,
        account: &str,
        project: u32,
        hash: &str,
    ) -> Result<(), LedgerError> {
        let (account, hash) = (account.to_owned(), hash.to_owned());
        self.connections()
            .write(move |it| {
                it.prepare_cached("INSERT OR REPLACE INTO approved_sources VALUES (?1, ?2, ?3)")?
                    .execute(params![account, project, hash])?;
                Ok(())
            })
            .await
    }
}

/// Keeps the newest compiles.
fn drop_compiles(connection: &Connection) -> Result<(), LedgerError> {
    connection
        .prepare_cached("DELETE FROM compiles WHERE id <= (SELECT max(id) FROM compiles) - ?1")?
        .execute([MAX_COMPILES])?;
    Ok(())
}

/// Drops sources, those longest not used first, until the rest is within the bound.
fn drop_old(connection: &Connection) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "DELETE FROM sources WHERE used IN (
                 SELECT used FROM (SELECT used, sum(bytes) OVER (ORDER BY used DESC) AS total FROM sources)
                 WHERE total > ?1 AND used < (SELECT max(used) FROM sources)
             ) AND NOT EXISTS (SELECT 1 FROM approved_sources WHERE source = sources.hash)",
        )?
        .execute([MAX_BYTES])?;
    Ok(())
}

fn unreadable(error: &serde_json::Error) -> LedgerError {
    LedgerError::Content {
        place: "sources.files",
        why: error.to_string(),
    }
}
