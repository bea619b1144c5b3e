//! Sources of compiles, so that an approver of a deployment sees what changed since the last approval.
//!
//! Invariant: a known compile has its source here. A source is dropped only when no known compile, no approved project
//! and no approval that can still lead to a call refers to it. Each plugin fills its own quota: one plugin's compiles
//! never displace those of another. A compile becomes unknown because of another plugin's in one case: the server's
//! signatures of both are equal, but the host read different contents of the project, so that one of them is wrong.

use rusqlite::{Connection, Row, params};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::statements::Statements as _;

/// Maximum bytes of the sources of one plugin's compiles.
const MAX_BYTES: i64 = 64 << 20;
/// Maximum compiles stored for one plugin.
const MAX_COMPILES: i64 = 5_000;

/// Where the files of a source are stored.
const FILES: &str = "sources.files";

/// Whether a pending approval, or one with a valid permit, refers to the source `hash` at the instant `?1`.
const AWAITED: &str =
    "EXISTS (SELECT 1 FROM approvals AS a LEFT JOIN permits AS p ON p.approval = a.id
    WHERE a.source = hash AND ((a.status = 'pending' AND a.expires_ms > ?1)
        OR (a.status = 'approved' AND p.uses_left > 0 AND p.expires_ms > ?1)))";

/// A compile and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCompile {
    /// The account.
    pub account: String,
    /// The plugin that compiled: the source counts against its quota.
    pub plugin: String,
    /// The id assigned by the server.
    pub compile: String,
    /// The project.
    pub project: u32,
    /// Identifies the files: equal sources are stored once.
    pub source: String,
    /// The files as name and content.
    pub files: Vec<(String, String)>,
    /// The server's signature of what it compiled, if any.
    pub signature: Option<String>,
    /// A digest of the contents of the project's own files.
    pub contents: String,
    /// Unix time in milliseconds.
    pub now: i64,
}

/// The result of storing a compile with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// Its source is known.
    Known,
    /// Pending approvals fill the plugin's quota: its code is unknown.
    OverQuota,
    /// The server gave the same signature to a compile of the project with other contents. One of the two was not made
    /// from what the host read, so the code of both is unknown.
    Contradicted,
}

impl Ledger {
    /// Stores a compile with its source. If the plugin's quota is full, its oldest compiles become unknown.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn put_compile(&self, new: NewCompile) -> Result<SourceState, LedgerError> {
        let files = serde_json::to_string(&new.files).map_err(LedgerError::content(FILES))?;
        self.connections()
            .write(move |it| put(it, &new, &files))
            .await
    }

    /// Stores the project of a compile whose source is unknown.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn record_compile(
        &self,
        account: &str,
        plugin: &str,
        compile_id: &str,
        project: u32,
    ) -> Result<(), LedgerError> {
        let [account, plugin, compile] = [account, plugin, compile_id].map(str::to_owned);
        self.connections()
            .write(move |it| {
                let sql = "INSERT OR IGNORE INTO compiles (account, plugin, compile, project) VALUES (?1, ?2, ?3, ?4)";
                it.change(sql, params![account, plugin, compile, project])?;
                forget_old(it, &account, &plugin)
            })
            .await
    }

    /// The stored compiles of an account with their projects.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn compiles(&self, account: &str) -> Result<Vec<(String, u32)>, LedgerError> {
        let sql = "SELECT compile, project FROM compiles WHERE account = ?1 ORDER BY id";
        self.connections()
            .rows(sql, [account.to_owned()], |row| row.try_into())
            .await
    }

    /// The hash of a compile's source and its project, if the source is known and stored.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn compile_source(
        &self,
        account: &str,
        compile_id: &str,
    ) -> Result<Option<(String, u32)>, LedgerError> {
        let sql = "SELECT source, project FROM compiles
            WHERE account = ?1 AND compile = ?2
              AND EXISTS (SELECT 1 FROM sources WHERE hash = compiles.source)";
        let values = [account.to_owned(), compile_id.to_owned()];
        self.connections()
            .row(sql, values, |row| row.try_into())
            .await
    }

    /// The files of a source as name and content, unless it was dropped.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn source(&self, hash: &str) -> Result<Option<Vec<(String, String)>>, LedgerError> {
        let sql = "SELECT files FROM sources WHERE hash = ?1";
        let read = |row: &Row<'_>| row.get::<_, String>(0);
        let files = self.connections().row(sql, [hash.to_owned()], read).await?;
        files
            .map(|files| serde_json::from_str(&files).map_err(LedgerError::content(FILES)))
            .transpose()
    }

    /// The hash of the source last approved for a project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approved_source(
        &self,
        account: &str,
        project: u32,
    ) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT source FROM approved_sources WHERE account = ?1 AND project = ?2";
        self.connections()
            .row(sql, (account.to_owned(), project), |row| row.get(0))
            .await
    }

    /// Stores which source was approved for a project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn set_approved_source(
        &self,
        account: &str,
        project: u32,
        hash: &str,
    ) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO approved_sources VALUES (?1, ?2, ?3)";
        let values = (account.to_owned(), project, hash.to_owned());
        self.connections().change(sql, values).await.map(drop)
    }
}

fn put(connection: &Connection, new: &NewCompile, files: &str) -> Result<SourceState, LedgerError> {
    let outcome = if contradicts(connection, new)? {
        SourceState::Contradicted
    } else if make_room(connection, new, size(files))? {
        SourceState::Known
    } else {
        SourceState::OverQuota
    };
    let known = outcome == SourceState::Known;
    let sql = "INSERT OR REPLACE INTO compiles (account, plugin, compile, project, source, signature, contents)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![
        new.account,
        new.plugin,
        new.compile,
        new.project,
        known.then_some(&new.source),
        new.signature,
        new.contents
    ];
    connection.change(sql, values)?;
    forget_old(connection, &new.account, &new.plugin)?;
    if known {
        let sql = "INSERT INTO sources VALUES (?1, (SELECT coalesce(max(used), 0) + 1 FROM sources), ?2, ?3)
            ON CONFLICT DO UPDATE SET used = excluded.used";
        connection.change(sql, params![new.source, size(files), files])?;
    }
    drop_unnamed(connection, new.now)?;
    Ok(outcome)
}

/// Whether the server's signature says that this compile and a former one are the same, but the contents read differ. The
/// code of the former ones is then unknown too, whichever plugin compiled them: the evidence is about the project, and it
/// is unclear which reading is wrong.
fn contradicts(connection: &Connection, new: &NewCompile) -> Result<bool, LedgerError> {
    let Some(signature) = &new.signature else {
        return Ok(false);
    };
    let of = params![new.account, new.project, signature, new.contents];
    let sql = "SELECT EXISTS (SELECT 1 FROM compiles
        WHERE account = ?1 AND project = ?2 AND signature = ?3 AND contents <> ?4)";
    let contradicted = connection.value(sql, of)?;
    if contradicted {
        let sql = "UPDATE compiles SET source = NULL WHERE account = ?1 AND project = ?2 AND signature = ?3";
        connection.change(sql, params![new.account, new.project, signature])?;
    }
    Ok(contradicted)
}

/// Makes room for the source in the plugin's quota: its oldest compiles become unknown. Returns whether there is room.
fn make_room(connection: &Connection, new: &NewCompile, bytes: i64) -> Result<bool, LedgerError> {
    // The newest compile first, and each source once.
    let mut query = connection.prepare_cached(&format!(
        "SELECT hash, bytes, {AWAITED}
         FROM (SELECT source, max(id) AS newest FROM compiles
               WHERE account = ?2 AND plugin = ?3 AND source IS NOT NULL GROUP BY source) AS held
         JOIN sources ON hash = held.source ORDER BY newest DESC"
    ))?;
    let rows = query.query_map(params![new.now, new.account, new.plugin], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, bool>(2)?,
        ))
    })?;
    let stored: Vec<_> = rows.collect::<Result<_, _>>()?;
    let others = stored.iter().filter(|(source, ..)| *source != new.source);
    let fixed = others.clone().filter(|(.., awaited)| *awaited);
    let mut total = fixed.fold(bytes, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
    if total > MAX_BYTES {
        return Ok(false);
    }
    for (source, bytes, _) in others.filter(|(.., awaited)| !*awaited) {
        total = total.saturating_add(*bytes);
        if total > MAX_BYTES {
            let sql = "UPDATE compiles SET source = NULL WHERE account = ?1 AND plugin = ?2 AND source = ?3";
            connection.change(sql, params![new.account, new.plugin, source])?;
        }
    }
    Ok(true)
}

/// Keeps the newest compiles of a plugin.
fn forget_old(connection: &Connection, account: &str, plugin: &str) -> Result<(), LedgerError> {
    let sql = "DELETE FROM compiles WHERE account = ?1 AND plugin = ?2 AND id <=
        (SELECT id FROM compiles WHERE account = ?1 AND plugin = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)";
    connection.change(sql, params![account, plugin, MAX_COMPILES])?;
    Ok(())
}

/// Drops the sources that are no longer referenced.
fn drop_unnamed(connection: &Connection, now: i64) -> Result<(), LedgerError> {
    let sql = format!(
        "DELETE FROM sources WHERE NOT EXISTS (SELECT 1 FROM compiles WHERE source = hash)
             AND NOT EXISTS (SELECT 1 FROM approved_sources WHERE source = hash) AND NOT {AWAITED}"
    );
    connection.change(&sql, [now])?;
    Ok(())
}

fn size(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}
