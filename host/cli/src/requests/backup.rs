//! Backups: the host's data as one consistent set in a folder.
//!
//! The gate copies the database, the audit and the texts that it names, in the order in which one may be ahead of the other
//! after a crash too. The key follows, since the audit cannot be verified without it, and then the copy is verified.
//!
//! Invariant: the list of files is written last. A folder without it is not a backup, whatever else it contains.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use qchost_audit::Disk;
use qchost_gate::AdminDetail;
use qchost_policy::{Person, Right};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::rules::{Handler, Rules};
use crate::data_folder::{make_private, private_folder};
use crate::host::Host;
use crate::keys::{self, Key};
use crate::reports::Reports;

/// The file that lists the content of a backup.
pub const LIST: &str = "backup.json";
/// The version of its format that this program reads and writes.
pub const VERSION: u32 = 2;

/// The content of a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The version of this format.
    pub version: u32,
    /// When it was taken.
    pub taken: jiff::Timestamp,
    /// The program version that made it.
    pub by: String,
    /// The SHA-256 of each file, by its path in the folder.
    pub files: BTreeMap<String, String>,
    /// The HMAC-SHA-256 of the list without this field, under a key derived from the host's. It detects damage, and changes
    /// by an attacker who cannot read the host's key, which is in the backup; all other changes are detected by the digest
    /// of this file, kept elsewhere.
    pub signature: String,
}

impl List {
    fn mac(&self, key: &Key) -> Result<Hmac<Sha256>> {
        let unsigned = json!({
            "version": self.version, "taken": self.taken, "by": self.by, "files": self.files,
        });
        let mac = Hmac::<Sha256>::new_from_slice(&key.backup()?).context("the host's key")?;
        Ok(mac.chain_update(unsigned.to_string()))
    }

    fn sign(&mut self, key: &Key) -> Result<()> {
        self.signature = hex::encode(self.mac(key)?.finalize().into_bytes());
        Ok(())
    }

    /// Whether the list was signed with this key. The key is in the backup, so a reader of the backup can sign as well.
    pub fn is_signed_by(&self, key: &Key) -> Result<bool> {
        Ok(match hex::decode(&self.signature) {
            Ok(bytes) => self.mac(key)?.verify_slice(&bytes).is_ok(),
            Err(_) => false,
        })
    }
}

/// Makes a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The target; absolute.
    pub folder: PathBuf,
}

/// The result of a backup.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BackupMade {
    pub folder: PathBuf,
    /// The number of files in it.
    pub files: usize,
    /// The number of records of the audit.
    pub records: u64,
    /// The fingerprint of the host's key.
    pub key: String,
    /// The digest of the list, which covers everything in the backup.
    pub digest: String,
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
        host.gate.note_admin(person, "backup", detail).await?;
        host.gate.backups.backup(&folder).await?;
        let key = keys::path(&host.data);
        let finished = tokio::task::spawn_blocking(move || finish(&key, folder));
        finished.await.context("the copy was cut off")?
    }
}

/// Adds the key, verifies, and adds the list.
fn finish(key: &Path, to: PathBuf) -> Result<BackupMade> {
    let folder = to.as_path();
    copy_private(key, &keys::path(folder))?;
    let records = verify(folder)?;
    let files = inventory(folder)?;
    let mut list = List {
        version: VERSION,
        taken: jiff::Timestamp::now(),
        by: env!("CARGO_PKG_VERSION").to_owned(),
        files,
        signature: String::new(),
    };
    let key = Key::read(&keys::path(folder))?;
    list.sign(&key)?;
    let text = serde_json::to_string_pretty(&list)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(text.as_bytes())?;
    draft.as_file().sync_all()?;
    draft.persist(folder.join(LIST))?;
    File::open(folder)?.sync_all()?;
    Ok(BackupMade {
        files: list.files.len(),
        records,
        key: key.folder_id()?,
        digest: digest(text.as_bytes()),
        folder: to,
    })
}

/// The SHA-256 of a text, as in a list and on the command line.
pub fn digest(text: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

/// Verifies the audit in a folder with the key there; returns its number of records.
pub fn verify(folder: &Path) -> Result<u64> {
    let key = Key::read(&keys::path(folder))?.audit()?;
    let audit = folder.join("audit");
    let report = qchost_audit::verify(&Disk, &audit, &key, None)?;
    if let Some(problem) = report.problems.first() {
        bail!("{}: the record is not whole: {problem}", audit.display());
    }
    ensure!(
        report.head.is_some(),
        "{}: no signed head says that the record is all there",
        audit.display()
    );
    Ok(report.records)
}

/// Every file of a folder with its hash, except the list.
pub fn inventory(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder)?;
            let name = name
                .to_str()
                .with_context(|| format!("{} has no name that is text", path.display()))?;
            if name != LIST {
                files.insert(name.to_owned(), hash(&path)?);
            }
        }
    }
    Ok(files)
}

fn hash(path: &Path) -> Result<String> {
    let mut file = open_regular(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut piece)?;
        match piece.get(..read) {
            Some([]) | None => break,
            Some(bytes) => hasher.update(bytes),
        }
    }
    Ok(format!("sha256:{}", hex::encode(hasher.finalize())))
}

/// Opens a regular file: a pipe would block, and a device may do anything.
pub fn open_regular(path: &Path) -> Result<File> {
    let doing = || format!("cannot read {}", path.display());
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .with_context(doing)?;
    ensure!(
        file.metadata().with_context(doing)?.is_file(),
        "{} is no regular file",
        path.display()
    );
    Ok(file)
}

/// Copies a file durably, readable for its owner only.
pub fn copy_private(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("cannot copy {} to {}", from.display(), to.display());
    let mut source = open_regular(from)?;
    let mut target = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(doing)?;
    io::copy(&mut source, &mut target).with_context(doing)?;
    target.sync_all().with_context(doing)
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
