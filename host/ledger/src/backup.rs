//! Copies the database while it is in use, and restores a copy.
//!
//! Invariant: the copy is the database at one instant; a file with the final name is a complete copy.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::error::LedgerError;
use crate::file;
use crate::ledger::Ledger;

impl Ledger {
    /// Copies the database into a new file while it is in use. The copy is checked when it is first opened as a ledger.
    ///
    /// # Errors
    /// When the file exists, cannot be written, or the database cannot be read or is in memory.
    pub async fn backup_to(&self, target: &Path) -> Result<(), LedgerError> {
        let target = target.to_owned();
        let Some(source) = self.path().map(Path::to_owned) else {
            return Err(cannot(&target, &"it is in memory only"));
        };
        // A thread and a connection of its own: it takes as long as the disk does, and must not delay other requests.
        let (reply, answer) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("ledger-backup".to_owned())
            .spawn(move || {
                let copied = file::reader(&source).and_then(|it| copy(&it, &target));
                reply.send(copied).ok();
            })
            .map_err(|error| LedgerError::Thread(error.to_string()))?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }
}

impl Ledger {
    /// Checks the database of a backup thoroughly, migrates it to the newest layout, and invalidates the approvals in
    /// it, whatever its mark says. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be written, is damaged, is not one of ours or is of a newer version.
    pub fn restore(path: &Path) -> Result<(), LedgerError> {
        let closed = file::open_restored(path)?.close();
        Ok(closed.map_err(|(_, error)| error)?)
    }
}

fn copy(source: &Connection, target: &Path) -> Result<(), LedgerError> {
    if target.exists() {
        return Err(cannot(target, &"it exists already"));
    }
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let copied = write(source, &partial)
        .and_then(|()| fs::rename(&partial, target).map_err(|error| cannot(target, &error)))
        .and_then(|()| sync_folder(target));
    if copied.is_err() {
        // Best effort: it may not exist.
        fs::remove_file(&partial).ok();
    }
    copied
}

fn write(source: &Connection, partial: &Path) -> Result<(), LedgerError> {
    let failed = |error: rusqlite::Error| cannot(partial, &error);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(partial)
        .map_err(|error| cannot(partial, &error))?;
    let mut copy = Connection::open(partial).map_err(failed)?;
    // All pages in one step, which reads a single snapshot; with several steps, each write in between would restart the
    // backup.
    let step = Backup::new(source, &mut copy)
        .and_then(|backup| backup.step(-1))
        .map_err(failed)?;
    if step != StepResult::Done {
        return Err(cannot(
            partial,
            &"another process keeps the database locked; try again",
        ));
    }
    // A single file without a write-ahead log, marked to be checked when it is opened.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .map_err(failed)?;
    copy.execute("INSERT OR REPLACE INTO meta VALUES ('restored', '')", [])
        .map_err(failed)?;
    file::check_integrity(&copy, partial, "quick_check")?;
    copy.close().map_err(|(_, error)| failed(error))?;
    File::open(partial)
        .and_then(|file| file.sync_all())
        .map_err(|error| cannot(partial, &error))
}

/// Makes the new name durable.
fn sync_folder(target: &Path) -> Result<(), LedgerError> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| cannot(target, &error))
}

fn cannot(target: &Path, why: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::Backup {
        path: target.to_owned(),
        why: why.to_string(),
    }
}
