//! `qchost restore`: creates a data folder from a backup, and on request the folder of the host's files.
//!
//! Invariant: nothing is written before the list was checked against what is known of it elsewhere, and every file of the
//! backup against the list. The data folder contains either all of the backup or nothing that a host would start with: the
//! copy is verified before it is moved into place; the audit, without which a host refuses the database, is moved last, and
//! after it the configuration. No approval in the backup is valid in the data folder: the copied database is changed
//! accordingly here, whatever its mark says. What root restores belongs to the owner of the folder.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use qchost_ledger::Ledger;
use schemars::JsonSchema;
use serde::Serialize;
use tempfile::TempDir;

use crate::args::Expected;
use crate::backup::{
    self, ByHand, FILES, LIST, List, MAX_LIST_BYTES, Target, check_pins, copy_listed, copy_private,
    digest, open_regular, verify_audit,
};
use crate::config::Config;
use crate::control;
use crate::data_folder::{DATABASE, check_version, make_private, must_be_closed, private_folder};
use crate::exit_status::{ErrorKind, Failed};
use crate::lock::{Lock, Refused};
use crate::output::{Output, counted};
use crate::terminal;

/// The copied data, in the order they are moved into place.
const PLACES: [&str; 4] = ["host.key", DATABASE, TEXTS, "audit"];
/// The folder of redacted texts.
const TEXTS: &str = "texts";
/// The only file that an empty data folder may contain.
const LOCK: &str = "host.lock";

/// Where a backup is restored to.
pub struct Places {
    /// The data folder, if not the one of the configuration.
    pub data: Option<PathBuf>,
    /// The folder for the host's files, if they are to be restored.
    pub files: Option<PathBuf>,
}

/// What was restored.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Restored {
    /// The data folder.
    data: PathBuf,
    /// The number of records of the audit.
    records: u64,
    /// When the backup was taken.
    taken: Timestamp,
    /// The key that it is signed with.
    key: String,
    /// The folder with configuration, manifests, guardrails and components, if they were restored.
    files: Option<PathBuf>,
    /// What is left to a person.
    by_hand: ByHand,
}

/// Restores a backup.
pub fn run(
    config: &Path,
    folder: &Path,
    expected: &Expected,
    places: Places,
    output: Output,
) -> Result<()> {
    let Places { data, files } = places;
    let data = match data {
        Some(data) => data,
        None => Config::load(config)?.data()?,
    };
    if data.exists() {
        must_be_unused(&data)?;
        must_be_empty(&data)?;
    }
    if let Some(files) = &files {
        Target::check(files)?;
        must_be_free(files)?;
    }
    let list = read(folder, expected)?;
    list.check_files(folder)?;
    check_pins(&list, folder)?;
    check_version(folder)?;
    let data_target = Target::take(&data)?;
    must_be_closed(&data)?;
    let place = data_target.place().to_owned();
    private_folder(&place)?;
    let _lock = Lock::take(&place).map_err(|it| control::refused(&data, it))?;
    must_be_empty(&place)?;
    let draft = draft_in(&place)?;
    for file in &list.files {
        let (from, to) = (folder.join(&file.path), draft.path().join(&file.path));
        copy_listed(&from, &to, file.size)?;
    }
    make_private(&draft.path().join(TEXTS))?;
    // What was checked may have been replaced before it was copied.
    list.check_files(draft.path())
        .with_context(|| format!("the copy of {}", folder.display()))?;
    let records = verify_audit(draft.path())?;
    let draft_of_files = match &files {
        Some(files) => Some(copy_files(&list, draft.path(), files)?),
        None => None,
    };
    Ledger::restore(&draft.path().join(DATABASE))
        .with_context(|| folder.join(DATABASE).display().to_string())?;
    for folder in ["audit", TEXTS, "."] {
        File::open(draft.path().join(folder))?.sync_all()?;
    }
    data_target.give_content(draft.path())?;
    if let Some((from, target)) = &draft_of_files {
        target.give_content(from.path())?;
    }
    move_all(&PLACES, draft.path(), &place)?;
    // A draft is removed before another user can change the folder.
    drop(draft);
    data_target.finish(&[LOCK])?;
    if let Some((draft, target)) = draft_of_files {
        move_all(&backup::PLACES, draft.path(), target.place())?;
        drop(draft);
        target.finish(&[])?;
    }
    let restored = Restored {
        data,
        records,
        taken: list.taken,
        key: list.key,
        files,
        by_hand: list.by_hand,
    };
    output.result(&restored, |restored| shown(restored, folder, expected))
}

fn shown(restored: &Restored, folder: &Path, expected: &Expected) -> String {
    let unknown = match &expected.digest {
        Some(_) => "",
        None => {
            "\nnot checked: whether this is the newest backup of that key: `--digest` names one"
        }
    };
    let kept = folder.join(FILES);
    let (files, root) = match &restored.files {
        Some(files) => (
            format!(
                "configuration, manifests, guardrails and components are in {}",
                files.display()
            ),
            files,
        ),
        None => (
            format!(
                "configuration, manifests, guardrails and components were not restored: they are in {}",
                kept.display()
            ),
            &kept,
        ),
    };
    let mut by_hand = restored.by_hand.lines(root);
    by_hand.extend(elsewhere(restored));
    by_hand.push(
        "secrets are in no backup: put back what the configuration and the manifests name"
            .to_owned(),
    );
    let by_hand: String = by_hand
        .iter()
        .map(|line| format!("\nby hand: {}", terminal::line(line)))
        .collect();
    format!(
        "restored to {}: {}, as of {}\nkey: {}{unknown}\n{files}{by_hand}\nhalts are as they were; permits \
         and approvals are void, and in production all that a person has to say yes to waits for a new yes: qchost \
         approvals list\nnext: qchost doctor, then: qchost run",
        restored.data.display(),
        counted(restored.records, "record"),
        restored.taken,
        restored.key
    )
}

/// Says if the restored configuration names another data folder.
fn elsewhere(restored: &Restored) -> Option<String> {
    let config = Config::readable_parts(&restored.files.as_ref()?.join("qchost.toml"))?;
    let named = config.data().ok()?;
    (named.canonicalize().ok() != restored.data.canonicalize().ok()).then(|| {
        format!(
            "{}: it names {} as `data`, and the data is in {}",
            config.file.display(),
            named.display(),
            restored.data.display()
        )
    })
}

/// Reads the list of a backup, and compares it with what is known of it.
fn read(folder: &Path, expected: &Expected) -> Result<List> {
    let path = folder.join(LIST);
    let is_link = path.symlink_metadata().is_ok_and(|it| it.is_symlink());
    ensure!(!is_link, "{} is no regular file", path.display());
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
    let list = List::parse(&text).with_context(|| path.display().to_string())?;
    ensure!(
        expected.key.as_ref().is_none_or(|it| *it == list.key),
        "{}: it is signed with the key {}, which is not the one that was asked for: it is of another host, or was \
         changed and signed with another key; nothing was restored",
        path.display(),
        list.key
    );
    ensure!(
        list.is_signed()?,
        "{}: its signature is not of what it says: it was changed since the backup was taken; nothing was restored",
        path.display()
    );
    ensure!(
        expected.key.is_some() || expected.digest.is_some(),
        "{}: it is signed with the key {}, and anyone can make a key: if `qchost backup FOLDER` printed this one, add --key {1}, or \
         add the digest that it printed (--digest); nothing was restored",
        path.display(),
        list.key
    );
    Ok(list)
}

/// Copies the host's files from a checked copy into a draft next to their places.
fn copy_files(list: &List, from: &Path, files: &Path) -> Result<(TempDir, Target)> {
    let target = Target::take(files)?;
    let draft = draft_in(target.place())?;
    for file in &list.files {
        if let Ok(name) = Path::new(&file.path).strip_prefix(FILES) {
            copy_private(&from.join(&file.path), &draft.path().join(name))?;
        }
    }
    // Moving would replace what was made there meanwhile.
    must_be_free(files)?;
    Ok((draft, target))
}

fn draft_in(folder: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("restoring-")
        .tempdir_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))
}

/// Moves what there is of these names, in this order, each durably before the next.
fn move_all(names: &[&str], from: &Path, to: &Path) -> Result<()> {
    for name in names {
        if from.join(name).exists() {
            fs::rename(from.join(name), to.join(name))
                .with_context(|| format!("cannot move {} into place", to.join(name).display()))?;
            File::open(to)?.sync_all()?;
        }
    }
    Ok(())
}

/// Checks that nothing that is restored is in the folder for the host's files.
fn must_be_free(files: &Path) -> Result<()> {
    for name in backup::PLACES {
        let path = files.join(name);
        ensure!(
            path.symlink_metadata().is_err(),
            "there is {} already; move it away, or name another folder with --files; nothing was restored",
            path.display()
        );
    }
    Ok(())
}

/// Checks that no host has the data folder: what is in it is not to be moved away then.
fn must_be_unused(data: &Path) -> Result<()> {
    if !Lock::is_taken(data) {
        return Ok(());
    }
    let by = match Lock::take(data) {
        // It ended just now.
        Ok(_) => return Ok(()),
        Err(Refused::Failed(error)) => return Err(error),
        Err(Refused::Held(Some(process))) => {
            format!("the process {process} uses it; end that first: kill {process}")
        }
        Err(Refused::Held(None)) => {
            let lock = Lock::path(data);
            format!(
                "another process uses it; find out which, and end it: fuser --verbose {}",
                lock.display()
            )
        }
    };
    Err(Failed::error(
        ErrorKind::UNAVAILABLE,
        format!(
            "the data folder {} is in use, and nothing was restored: {by}",
            data.display()
        ),
    ))
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
