//! Backups: the host's data and files as one consistent set in a folder.
//!
//! The gate copies the database, the audit and the texts that it names, in the order in which one may be ahead of the other
//! after a crash too. The host's files follow, and the key, since the audit cannot be verified without it; then the copy
//! is verified.
//!
//! Invariant: the list of files is written last. A folder without it is not a backup, whatever else it contains.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use qchost_gate::{AdminAction, AdminDetail};
use qchost_policy::{Person, Right};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{Handler, Rules};
use crate::backup::{ByHand, LIST, List, copy_host_files, copy_private, verify_audit};
use crate::config::Config;
use crate::data_folder::{make_private, private_folder};
use crate::host::Host;
use crate::keys::{self, BackupKey};
use crate::reports::Reports;

/// Makes a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The target; absolute.
    pub folder: PathBuf,
}

/// The result of a backup.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct BackupMade {
    pub folder: PathBuf,
    /// The number of files in it.
    pub files: usize,
    /// The number of records of the audit.
    pub records: u64,
    /// The key that it is signed with.
    pub key: String,
    /// The digest of the list, which covers everything in the backup.
    pub digest: String,
    /// What it leaves to the person who restores it.
    pub by_hand: ByHand,
}

impl Handler for Backup {
    type Answer = BackupMade;
    const RULES: Rules = Rules::acts(Right::Backup, "qchost audit query --limit 20");

    /// Backs up the host, and verifies the copy.
    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<BackupMade> {
        let folder = self.folder;
        ensure!(
            folder.is_absolute(),
            "{}: name the folder from the root on",
            folder.display()
        );
        empty_folder(&folder)?;
        let detail = AdminDetail::Backup {
            folder: folder.display().to_string(),
        };
        host.gate
            .note_admin(person, AdminAction::Backup, detail)
            .await?;
        host.gate.backups.backup(&folder).await?;
        let (data, config) = (host.data.clone(), host.current().config.clone());
        let finished = tokio::task::spawn_blocking(move || finish(&data, &config, folder));
        finished.await.context("the copy was cut off")?
    }
}

/// Adds files and key, verifies, and adds the list.
fn finish(data: &Path, config: &Config, to: PathBuf) -> Result<BackupMade> {
    let folder = to.as_path();
    let by_hand = copy_host_files(config, folder)?;
    copy_private(&keys::path(data), &keys::path(folder))?;
    let records = verify_audit(folder)?;
    let list = List::make(folder, by_hand, &BackupKey::open(data)?)?;
    let (text, digest) = list.to_text()?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(text.as_bytes())?;
    draft.as_file().sync_all()?;
    draft.persist(folder.join(LIST))?;
    File::open(folder)?.sync_all()?;
    Ok(BackupMade {
        files: list.files.len(),
        records,
        key: list.key,
        digest,
        by_hand: list.by_hand,
        folder: to,
    })
}

/// Creates a folder that only this user can read, or checks that an existing one is empty.
fn empty_folder(folder: &Path) -> Result<()> {
    make_private(folder)?;
    let first: Option<io::Result<PathBuf>> = fs::read_dir(folder)?
        .next()
        .map(|entry| entry.map(|entry| entry.path()));
    if let Some(found) = first.transpose()? {
        bail!(
            "{} is not empty: there is {}; name a folder of its own for each backup",
            folder.display(),
            found.display()
        );
    }
    private_folder(folder)
}
