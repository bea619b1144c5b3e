//! The host's key, and the keys derived from it.
//!
//! The key in `host.key` authenticates compiled components (the runtime uses it directly) and, through derived keys with
//! separate labels, the audit's chain, the hashes of arguments and backups. It belongs to the data: the audit cannot be
//! verified without it, and the database is linked to it.
//!
//! Invariants: only this user can read it, and a folder with data that depends on a key never gets another one.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretSlice;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::data_folder::DATABASE;

/// The folder of the audit in a data folder.
const RECORD: &str = "audit";
const KEY_BYTES: usize = 32;
const AUDIT: &str = "qchost audit 1";
const GATE: &str = "qchost gate 1";
const BACKUP: &str = "qchost backup 1";
const FOLDER: &str = "qchost data folder 1";

/// The host's key.
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

/// Where the key of a data folder is.
pub fn path(data: &Path) -> PathBuf {
    data.join("host.key")
}

/// Whether other users can open the key.
pub fn is_open_to_others(path: &Path) -> bool {
    let found = path.metadata();
    found.is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

/// Whether a data folder contains anything that depends on its key.
pub fn is_used(data: &Path) -> bool {
    let there = |name: &str| data.join(name).symlink_metadata().is_ok();
    there(DATABASE) || there(RECORD)
}

impl Key {
    /// Reads the key, or creates one for a new data folder.
    pub fn open(path: &Path) -> Result<Self> {
        let data = path.parent().unwrap_or(Path::new("."));
        if is_used(data) {
            return Self::read(path);
        }
        make(path).with_context(|| format!("cannot make the host's key {}", path.display()))?;
        Self::read(path)
    }

    /// Reads the key.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let shown = path.display();
            Error::new(error).context(match missing {
                true => format!(
                    "the host's key {shown} is missing, and no other one fits what is in the folder; bring it back from a \
                     backup: qchost restore BACKUP"
                ),
                false => format!("cannot read the host's key {shown}"),
            })
        })?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        ensure!(
            mode & 0o077 == 0,
            "others can read the host's key {0} (mode {mode:o}); run: chmod 600 {0}",
            path.display()
        );
        let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read(rest)? {
                0 => break,
                read => length += read,
            }
        }
        let key = bytes
            .get(..length)
            .and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok())
            .with_context(|| {
                format!(
                    "the host's key {} does not have {KEY_BYTES} bytes; bring it back from a backup",
                    path.display()
                )
            })?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// The key that the heads of the audit are signed with.
    pub fn audit(&self) -> Result<SecretSlice<u8>> {
        Ok(self.derive(AUDIT)?.to_vec().into())
    }

    /// The key that the gate hashes arguments with.
    pub fn gate(&self) -> Result<Zeroizing<Vec<u8>>> {
        self.derive(GATE)
    }

    /// The key that backups are signed with.
    pub fn backup(&self) -> Result<Zeroizing<Vec<u8>>> {
        self.derive(BACKUP)
    }

    /// The id of the data folder, a fingerprint of the key: it does not reveal the key, and is unique to it.
    pub fn folder_id(&self) -> Result<String> {
        Ok(hex::encode(&*self.derive(FOLDER)?))
    }

    fn derive(&self, label: &str) -> Result<Zeroizing<Vec<u8>>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).context("the host's key")?;
        mac.update(label.as_bytes());
        Ok(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
    }
}

/// Creates a key if there is none. The file is complete before it gets its name, and the name is assigned only once, so
/// all readers see the same key.
fn make(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *key).map_err(io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    draft.write_all(&*key)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => File::open(folder)?.sync_all(),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_made_where_something_is_tied_to_the_one_that_is_missing() {
        for name in [DATABASE, RECORD] {
            let folder = tempfile::tempdir().unwrap();
            let path = path(folder.path());
            std::fs::write(folder.path().join(name), "").unwrap();
            let error = Key::open(&path).map(drop).unwrap_err().to_string();
            assert!(
                error.contains("host.key is missing") && error.contains("qchost restore"),
                "{name}: {error}"
            );
            assert!(!path.exists(), "{name}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let first = Key::open(&path).unwrap();
        let again = Key::open(&path).unwrap();
        let derived = |key: &Key, label| key.derive(label).unwrap();
        assert_eq!(derived(&first, GATE), derived(&again, GATE));
        assert_ne!(derived(&first, GATE), derived(&first, AUDIT));
        assert_ne!(derived(&first, GATE)[..], first.0[..]);

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Key::open(&path).map(drop).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for length in [0, KEY_BYTES - 1, KEY_BYTES + 1, 1000] {
            std::fs::write(&path, vec![1; length]).unwrap();
            let error = Key::open(&path).map(drop).unwrap_err().to_string();
            assert!(error.contains("32 bytes"), "{length}: {error}");
        }
    }
}
