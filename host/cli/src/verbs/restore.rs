//! `qchost restore`: creates a data folder from a backup.
//!
//! Invariant: the data folder contains either all of the backup or nothing that a host would start with. The copy is
//! verified before it is moved into place; the audit, without which a host refuses the database, is moved last. No
//! approval in the backup is valid in the data folder: the copied database is changed accordingly here, whatever its mark
//! says.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use qchost_ledger::Ledger;
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::Expected;
use crate::config::Config;
use crate::control;
use crate::data_folder::{make_private, private_folder};
use crate::keys::{self, Key};
use crate::lock::Lock;
use crate::output::{Output, counted};
use crate::requests::{LIST, List, VERSION, copy_private, digest, inventory, open_regular, verify};

/// The copied files, in the order they are moved into place.
const PLACES: [&str; 4] = ["host.key", "state.db", TEXTS, "audit"];
/// The folder of redacted texts; a backup of an earlier version has none.
const TEXTS: &str = "texts";
/// Maximum bytes of a list: it has a line for each segment of the audit.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The only file that an empty data folder may contain.
const LOCK: &str = "host.lock";

/// What was restored.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Restored {
    /// The data folder.
    data: PathBuf,
    /// The number of records of the audit.
    records: u64,
    /// When the backup was taken.
    taken: Timestamp,
    /// The fingerprint of the host's key.
    key: String,
}

/// Restores a backup.
pub fn run(
    config: &Path,
    folder: &Path,
    expected: &Expected,
    data: Option<PathBuf>,
    output: Output,
) -> Result<()> {
    let data = match data {
        Some(data) => data,
        None => Config::load(config)?.data()?,
    };
    let list = read(folder, expected)?;
    private_folder(&data)?;
    must_be_empty(&data)?;
    let _lock = Lock::take(&data).map_err(|it| control::refused(&data, it))?;
    let draft = tempfile::Builder::new()
        .prefix("restoring-")
        .tempdir_in(&data)
        .with_context(|| format!("cannot write into {}", data.display()))?;
    for name in list.files.keys() {
        let to = draft.path().join(name);
        if let Some(parent) = to.parent() {
            make_private(parent)?;
        }
        copy_private(&folder.join(name), &to)?;
    }
    make_private(&draft.path().join(TEXTS))?;
    check_copy(&list, draft.path(), folder)?;
    let key = Key::read(&keys::path(draft.path()))?;
    let fingerprint = key.folder_id()?;
    ensure!(
        expected.key.as_ref().is_none_or(|it| *it == fingerprint),
        "{}: the backup has the key {fingerprint}, which is not the one that was asked for: it is of another host, or was \
         changed and signed with another key; nothing was restored",
        folder.display()
    );
    ensure!(
        list.is_signed_by(&key)?,
        "{}: it was changed since the backup was taken, or is of another host than the key; nothing was restored",
        folder.join(LIST).display()
    );
    let records = verify(draft.path())?;
    Ledger::restore(&draft.path().join("state.db"))
        .with_context(|| folder.join("state.db").display().to_string())?;
    for folder in ["audit", TEXTS, "."] {
        File::open(draft.path().join(folder))?.sync_all()?;
    }
    for name in PLACES {
        fs::rename(draft.path().join(name), data.join(name))?;
        File::open(&data)?.sync_all()?;
    }
    let restored = Restored {
        data,
        records,
        taken: list.taken,
        key: fingerprint,
    };
    output.result(&restored, |restored| {
        let unknown = match &expected.digest {
            Some(_) => "",
            None => {
                "\nnot checked: whether this is the backup that was taken; a reader of the key in it can change and sign \
                 it. `--digest` checks that"
            }
        };
        format!(
            "restored to {}: {}, as of {}\nkey: {}{unknown}\nhalts are as they were; permits \
             and approvals are void, and in production all that a person has to say yes to waits for a new yes: qchost \
             approvals list\nnext: qchost doctor, then: qchost run",
            restored.data.display(),
            counted(restored.records, "record"),
            restored.taken,
            restored.key
        )
    })
}

/// Reads the list of a backup.
fn read(folder: &Path, expected: &Expected) -> Result<List> {
    let path = folder.join(LIST);
    let mut text = String::new();
    open_regular(&path)
        .and_then(|file| Ok(file.take(MAX_LIST_BYTES).read_to_string(&mut text)?))
        .with_context(|| {
            format!(
                "{} is no backup, or one that was not finished: cannot read {LIST}",
                folder.display()
            )
        })?;
    let found = digest(text.as_bytes());
    ensure!(
        expected.digest.as_ref().is_none_or(|it| *it == found),
        "{}: its digest is {found}, which is not the one that was asked for: it is another backup, or was changed since \
         it was taken; nothing was restored",
        path.display()
    );
    let list: List = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    ensure!(
        list.version == VERSION,
        "{}: a backup of version {}; this qchost reads version {VERSION}: use the one that took it, {}",
        path.display(),
        list.version,
        list.by
    );
    for name in list.files.keys() {
        let first = name.split('/').next().unwrap_or_default();
        ensure!(
            PLACES.contains(&first) && name.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{}: `{name}` belongs to no backup",
            path.display()
        );
    }
    Ok(list)
}

/// Checks that the copy equals the backup.
fn check_copy(list: &List, copied: &Path, folder: &Path) -> Result<()> {
    let found = inventory(copied)?;
    for (name, hash) in &list.files {
        ensure!(
            found.get(name) == Some(hash),
            "{}: it was changed since the backup was taken; nothing was restored",
            folder.join(name).display()
        );
    }
    for name in PLACES {
        ensure!(
            copied.join(name).exists(),
            "{}: it is not in the backup; nothing was restored",
            folder.join(name).display()
        );
    }
    Ok(())
}

fn must_be_empty(data: &Path) -> Result<()> {
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name() != LOCK {
            bail!(
                "the data folder {} is not empty: there is {}; move what is there away, or name another one with --data",
                data.display(),
                entry.path().display()
            );
        }
    }
    Ok(())
}
