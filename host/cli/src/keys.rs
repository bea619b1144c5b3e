//! The host's key, and the keys derived from it.
//!
//! The key in `host.key` authenticates compiled components (the runtime uses it directly) and, through derived keys with
//! separate labels, the audit's chain and the hashes of arguments. It belongs to the data: the audit cannot be verified
//! without it, and the database is linked to it. The key in `backup.key` signs backups.
//!
//! Invariants: only this user can read it, and a folder with data that depends on a key never gets another one.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
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
const FOLDER: &str = "qchost data folder 1";
/// Precedes the public form of a key of backups.
const ED25519_KEY: &str = "ed25519:";

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
        let file = File::open(path).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let shown = path.display();
            Error::new(error).context(match missing {
                true => format!(
                    "the host's key {shown} is missing, and no other one fits what is in the folder; bring it back from a \
                     backup: qchost restore BACKUP --digest DIGEST"
                ),
                false => format!("cannot read the host's key {shown}"),
            })
        })?;
        let bytes = read_bytes(file, path, "the host's key", "bring it back from a backup")?;
        Ok(Self(bytes))
    }

    /// The key that the heads of the audit are signed with.
    pub fn audit(&self) -> Result<SecretSlice<u8>> {
        Ok(self.derive(AUDIT)?.to_vec().into())
    }

    /// The key that the gate hashes arguments with.
    pub fn gate(&self) -> Result<Zeroizing<Vec<u8>>> {
        self.derive(GATE)
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

/// The key pair that backups are signed with.
///
/// Unlike the host's key, which a restored audit needs, it is in no backup: who can read and change a backup cannot sign it.
pub struct BackupKey(Ed25519KeyPair);

impl BackupKey {
    /// Reads the key of a data folder, or creates one.
    pub fn open(data: &Path) -> Result<Self> {
        let path = data.join("backup.key");
        let failed = |what: &str| format!("cannot {what} the key of backups {}", path.display());
        make(&path).with_context(|| failed("make"))?;
        let file = File::open(&path).with_context(|| failed("read"))?;
        let remedy = "move it away: the next backup is signed with another one";
        let seed = read_bytes(file, &path, "the key of backups", remedy)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed);
        Ok(Self(
            pair.map_err(|error| anyhow!("{}: {error}", failed("use")))?,
        ))
    }

    /// Its public form, by which a person recognises it.
    pub fn public(&self) -> String {
        format!("{ED25519_KEY}{}", hex::encode(self.0.public_key()))
    }

    /// The signature of a message.
    pub fn sign(&self, message: &[u8]) -> Result<String> {
        let signature = self.0.try_sign(message);
        let signature = signature.map_err(|error| anyhow!("cannot sign the backup: {error}"))?;
        Ok(hex::encode(signature))
    }
}

/// Whether a message has this signature by the key of this public form.
pub fn is_signed(public: &str, message: &[u8], signature: &str) -> bool {
    let key = public.strip_prefix(ED25519_KEY).map(hex::decode);
    match (key, hex::decode(signature)) {
        (Some(Ok(key)), Ok(signature)) => UnparsedPublicKey::new(&ED25519, key)
            .verify(message, &signature)
            .is_ok(),
        _ => false,
    }
}

/// Reads a key that only this user can read. `remedy` is for a damaged one.
fn read_bytes(
    mut file: File,
    path: &Path,
    what: &str,
    remedy: &str,
) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mode = file.metadata()?.permissions().mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "others can read {what} {0} (mode {mode:o}); run: chmod 600 {0}",
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
                "{what} {} does not have {KEY_BYTES} bytes; {remedy}",
                path.display()
            )
        })?;
    Ok(Zeroizing::new(key))
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
    fn a_key_of_backups_is_made_once_and_vouches_for_what_it_signed() {
        let folder = tempfile::tempdir().unwrap();
        let key = BackupKey::open(folder.path()).unwrap();
        let public = key.public();
        assert_eq!(BackupKey::open(folder.path()).unwrap().public(), public);
        let signature = key.sign(b"a list").unwrap();
        assert!(is_signed(&public, b"a list", &signature));
        assert!(!is_signed(&public, b"another", &signature));
        let other = tempfile::tempdir().unwrap();
        let other = BackupKey::open(other.path()).unwrap();
        assert!(!is_signed(&other.public(), b"a list", &signature));
        let (public, signature) = (public.as_str(), signature.as_str());
        for (public, signature) in [
            ("", signature),
            ("ed25519:", signature),
            ("ed25519:00", signature),
            (public, ""),
            (public, "00"),
            (public, "no digits"),
        ] {
            assert!(!is_signed(public, b"a list", signature), "{public}");
        }
        let path = folder.path().join("backup.key");
        std::fs::write(&path, [1; 31]).unwrap();
        let error = BackupKey::open(folder.path()).map(drop).unwrap_err();
        assert!(
            error.to_string().contains("32 bytes; move it away"),
            "{error}"
        );
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
