//! The database file: opened, checked and migrated to the newest layout.
//!
//! Invariant: every connection returned here is to a valid file of ours, with the newest layout, in WAL mode, and each
//! COMMIT on it is durable when it returns. In a file that was restored from a backup, no approval of a person is valid.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::LedgerError;

/// The migrations from an empty file to the newest layout, each with the layout that it produces.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("migrations/0001_state.sql")),
    (2, include_str!("migrations/0002_ledger.sql")),
    (10, include_str!("migrations/0010_liquidations.sql")),
    (20, include_str!("migrations/0020_recorded.sql")),
    (30, include_str!("migrations/0030_in_force.sql")),
    (40, include_str!("migrations/0040_sources.sql")),
    (41, include_str!("migrations/0041_approvals.sql")),
    (50, include_str!("migrations/0050_kept_state.sql")),
    (60, include_str!("migrations/0060_attempts.sql")),
    (61, include_str!("migrations/0061_permit_attempts.sql")),
    (70, include_str!("migrations/0070_changes.sql")),
    (80, include_str!("migrations/0080_adoptions_confirmed.sql")),
    (90, include_str!("migrations/0090_taken_away.sql")),
    (95, include_str!("migrations/0095_deployed.sql")),
    (97, include_str!("migrations/0097_identities.sql")),
    (98, include_str!("migrations/0098_trials.sql")),
    (99, include_str!("migrations/0099_licensed_state.sql")),
];
/// The newest layout. It is the version of the whole data folder, and kept in no other file of it.
const NEWEST_LAYOUT: i64 = match MIGRATIONS {
    [.., (newest, _)] => *newest,
    [] => 0,
};
/// The application id that `0002_ledger.sql` sets in the file: "qchd".
const APPLICATION_ID: i64 = 1_902_340_196;
/// The beginning of every database of SQLite.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where SQLite keeps `user_version` and `application_id` in its header, big-endian.
const LAYOUT_OFFSET: usize = 60;
const MARK_OFFSET: usize = 68;
/// The bytes of the header up to the end of both.
const HEADER_BYTES: usize = 72;

/// How long to wait for another process that has locked the file, such as a short command.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for reads only: a host's own transactions take milliseconds.
const READ_BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Size of the statement cache; larger than the number of statements.
const MAX_STATEMENTS: usize = 128;
/// Size in bytes that the write-ahead log is truncated to after it had to grow during a long backup.
const LOG_LIMIT: i64 = 64 << 20;
/// Pages of the log that trigger a checkpoint.
const CHECKPOINT_PAGES: i64 = 4000;

/// Opens the file for writing, creating it if necessary, and migrates it.
///
/// A file from a backup is checked thoroughly before its first use, any other one quickly.
pub(crate) fn open(path: &Path) -> Result<Connection, LedgerError> {
    open_as(path, false)
}

/// Opens a file as one from a backup, whatever its mark.
pub(crate) fn open_restored(path: &Path) -> Result<Connection, LedgerError> {
    open_as(path, true)
}

fn open_as(path: &Path, restored: bool) -> Result<Connection, LedgerError> {
    check_header(path)?;
    let cannot_open = |why: String| LedgerError::Open(path.to_owned(), why);
    // SQLite would silently open a file without write permission for reading, and create a new one readable by
    // everyone.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => LedgerError::Full,
            _ => cannot_open(error.to_string()),
        })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| cannot_open(error.to_string()))?;
    prepare(&connection, path, restored).map_err(|error| match error {
        LedgerError::Failed(error) => match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => {
                LedgerError::Foreign(path.to_owned(), error.to_string())
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                LedgerError::Damaged(path.to_owned(), error.to_string())
            }
            _ => cannot_open(error.to_string()),
        },
        error => error,
    })?;
    Ok(connection)
}

/// A database in memory, of the newest layout.
pub(crate) fn in_memory() -> Result<Connection, LedgerError> {
    let connection = Connection::open_in_memory()?;
    connection.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
    migrate(&connection, Path::new(":memory:"))?;
    Ok(connection)
}

/// A second, read-only connection to a file that [`open`] has prepared.
pub(crate) fn reader(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
    Ok(connection)
}

/// A connection that reads a file which no host uses. It needs no disk space, unlike [`reader`], which needs some for
/// the index of the write-ahead log, and it leaves file and log unchanged. No other process can use the file
/// meanwhile.
pub(crate) fn inspector(path: &Path) -> Result<Connection, LedgerError> {
    check_header(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READ_BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before the first read, so that the index is kept in memory.
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    connection.pragma_update(None, "query_only", true)?;
    check_layout(&connection, path)?;
    Ok(connection)
}

/// Checks that a transaction can begin on a file that a host uses. Nothing is changed.
pub(crate) fn check_unlocked(path: &Path) -> Result<(), LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READ_BUSY_TIMEOUT)?;
    Ok(connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?)
}

fn prepare(connection: &Connection, path: &Path, restored: bool) -> Result<(), LedgerError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
    check_layout(connection, path)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let why = format!("its file system allows no write-ahead log, only `{mode}`");
        return Err(LedgerError::Open(path.to_owned(), why));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    migrate(connection, path)?;
    let marked: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'restored')",
        [],
        |row| row.get(0),
    )?;
    let restored = restored || marked;
    check_integrity(
        connection,
        path,
        if restored {
            "integrity_check"
        } else {
            "quick_check"
        },
    )?;
    if restored {
        withdraw_consent(connection)?;
    }
    Ok(())
}

/// Approvals and revocations since the backup was taken are unknown, so permits and approvals become void, and what is
/// in force and adopted has to be confirmed. Halts and refusals stay. The data folder is not treated as new, so that
/// nothing is adopted automatically.
fn withdraw_consent(connection: &Connection) -> Result<(), LedgerError> {
    // A call under way may release the last use of a permit.
    connection.execute_batch(
        "BEGIN IMMEDIATE;
         UPDATE permits SET revoked_ms = unixepoch() * 1000, revoked_by = 'the restore of a backup'
             WHERE revoked_ms IS NULL
               AND (uses_left > 0 OR id IN (SELECT permit FROM reservations WHERE permit IS NOT NULL));
         UPDATE approvals SET status = 'closed', closed = 'a backup was restored'
             WHERE status = 'pending' OR (status = 'approved' AND id NOT IN (SELECT approval FROM permits));
         DELETE FROM approval_contents WHERE approval IN (SELECT id FROM approvals WHERE status = 'closed');
         DELETE FROM approved_sources;
         UPDATE compiles SET source = NULL;
         UPDATE adoptions SET confirmed = 0;
         UPDATE in_force SET confirmed = 0;
         INSERT OR IGNORE INTO in_force (kind, name, digest, text, by, at_ms, confirmed)
             VALUES ('guardrails', '', '', '', '', 0, 0), ('configuration', '', '', '', '', 0, 0);
         INSERT OR IGNORE INTO meta VALUES ('adopted', '');
         DELETE FROM meta WHERE name = 'restored';
         COMMIT",
    )?;
    Ok(())
}

/// Rejects a newer layout by the header of the file alone: SQLite creates files beside it even to read it, and may write
/// the log of a host that was killed into it.
///
/// What is wrong with the file otherwise shows when it is opened.
pub(crate) fn check_header(path: &Path) -> Result<(), LedgerError> {
    let mut header = [0; HEADER_BYTES];
    // Opening a pipe would block.
    let is_database = path.is_file()
        && File::open(path)
            .and_then(|mut file| file.read_exact(&mut header))
            .is_ok()
        && header.starts_with(MAGIC);
    let number = |at: usize| {
        let bytes = header.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| i64::from(i32::from_be_bytes(*bytes)))
    };
    let (layout, mark) = (number(LAYOUT_OFFSET), number(MARK_OFFSET));
    if is_database && mark == APPLICATION_ID && layout > NEWEST_LAYOUT {
        return Err(newer(path, layout));
    }
    Ok(())
}

fn newer(path: &Path, found: i64) -> LedgerError {
    LedgerError::Newer {
        path: path.to_owned(),
        found,
        known: NEWEST_LAYOUT,
    }
}

/// The layout of the file, 0 for an empty one. Rejects files that are not ours or newer.
fn check_layout(connection: &Connection, path: &Path) -> Result<i64, LedgerError> {
    let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // The first layout had no application id, but this single table.
    let tables: String = connection.query_row(
        "SELECT coalesce(group_concat(name), '') FROM sqlite_schema WHERE type = 'table'",
        [],
        |row| row.get(0),
    )?;
    let mark: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    // Later layouts keep the application id.
    let ours = match layout {
        0 => tables.is_empty(),
        1 => tables == "state",
        _ => mark == APPLICATION_ID,
    };
    if !ours {
        let why = "it is a database of another program".to_owned();
        return Err(LedgerError::Foreign(path.to_owned(), why));
    }
    if layout > NEWEST_LAYOUT {
        return Err(newer(path, layout));
    }
    Ok(layout)
}

fn migrate(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let migrated = (|| {
        // Checked again inside of the transaction: another process may have been faster.
        let layout = check_layout(connection, path)?;
        for (_, step) in MIGRATIONS.iter().filter(|(leads_to, _)| *leads_to > layout) {
            connection.execute_batch(step)?;
        }
        connection.pragma_update(None, "user_version", NEWEST_LAYOUT)?;
        connection.execute_batch("COMMIT")?;
        Ok(())
    })();
    if migrated.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    migrated
}

/// `check`: SQLite's pragma, which answers with the single line `ok`.
pub(crate) fn check_integrity(
    connection: &Connection,
    path: &Path,
    check: &str,
) -> Result<(), LedgerError> {
    let found: String = connection.pragma_query_value(None, check, |row| row.get(0))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(LedgerError::Damaged(path.to_owned(), found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without these two settings, a COMMIT would not survive a power failure.
    #[test]
    fn a_commit_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("state.db")).unwrap();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(pragma("synchronous").unwrap(), 2, "FULL");
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    }
}
