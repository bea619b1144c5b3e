//! On-disk cache of compiled code and descriptions of components. Compiling takes a second per megabyte, reading takes
//! almost no time.
//!
//! Compiled code is native code that the host will run, so an attacker who can write an entry controls the host. The folder
//! is not accessible to other users, an entry counts only if it is a file owned by this user that no other user can access,
//! and each begins with a MAC under a key that only the host can read; the MAC covers the entry's name too, so that one
//! entry cannot pass for another.
//!
//! Invariant: only bytes written by this host are used: the MAC is verified over the very bytes in memory that are then
//! used. An entry that fails verification is rebuilt and replaced; it is never an error. An entry gets its name only when it
//! is complete; a draft left by a killed host has another name and is removed later.

mod entry;
mod key;

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::fs::OFlags;
use rustix::process::geteuid;
use sha2::Sha256;

use crate::content;

pub(crate) use entry::Entry;

/// Magic bytes before the MAC. Changes with the layout of an entry.
const MAGIC: [u8; 8] = *b"qchost1\n";
/// Length in bytes of a MAC and of the key.
const KEY_LENGTH: usize = 32;
/// Bytes kept on disk besides entries in use; the least recently used are removed first.
const MAX_BYTES: u64 = 4 << 30;
/// Name prefix of an entry being written.
const DRAFT_PREFIX: &str = ".draft-";
/// Age after which a draft counts as abandoned.
const DRAFT_TTL: Duration = Duration::from_secs(3600);
/// Permission bits of group and others, which must not be set.
const OTHERS_MODE: u32 = 0o077;

/// Why the cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder or the key cannot be used.
    #[error("{}: the cache of compiled components cannot be used: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
    /// The folder belongs to another user, with this uid.
    #[error("{}: the folder of compiled components belongs to the user with the uid {}, who could have this host run anything; set `cache` to a folder of this user's", .0.display(), .1)]
    Owner(PathBuf, u32),
    /// The key file is invalid or not private.
    #[error("{}: {}; delete it, and the host makes another", .0.display(), .1)]
    Key(PathBuf, String),
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_LENGTH],
    bytes: u64,
}

impl Cache {
    /// Opens the folder and reads the key; creates both if they are missing.
    pub(crate) fn open(folder: &Path, key: &Path) -> Result<Self, CacheError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io(path, source)
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(failed(folder))?;
        let found = fs::metadata(folder).map_err(failed(folder))?;
        if found.uid() != geteuid().as_raw() {
            return Err(CacheError::Owner(folder.to_owned(), found.uid()));
        }
        if found.mode() & OTHERS_MODE != 0 {
            let closed = Permissions::from_mode(0o700);
            fs::set_permissions(folder, closed).map_err(failed(folder))?;
        }
        if let Some(parent) = key.parent() {
            builder.create(parent).map_err(failed(parent))?;
        }
        let cache = Self {
            folder: folder.to_owned(),
            key: key::read(key)?,
            bytes: MAX_BYTES,
        };
        if let Err(error) = cache.remove_drafts() {
            tracing::warn!(%error, "what a host left half done in the cache cannot be removed");
        }
        Ok(cache)
    }

    /// The verified bytes of an entry; `None` if it is missing or fails verification. Blocks.
    pub(crate) fn read(&self, entry: &Entry) -> Option<Bytes> {
        match self.verified(entry) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(entry = entry.name(), %error, "an entry of the cache is not used; it is made again");
                None
            }
        }
    }

    fn verified(&self, entry: &Entry) -> io::Result<Bytes> {
        let refused = |why: &'static str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        // Links are not followed, and something that is not a file cannot block the host.
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(self.folder.join(entry.name()))?;
        let found = file.metadata()?;
        if !found.is_file() {
            return refused("it is no file");
        }
        if found.uid() != geteuid().as_raw() {
            return refused("it belongs to another user");
        }
        if found.mode() & OTHERS_MODE != 0 {
            return refused("others may read or write it");
        }
        let mut head = [0; MAGIC.len() + KEY_LENGTH];
        file.read_exact(&mut head)?;
        let (magic, mac) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return refused("it begins as no entry does");
        }
        let size = usize::try_from(found.len()).map_err(io::Error::other)?;
        // Bytes appended meanwhile are not awaited.
        let bytes = content::read(&file, size.saturating_sub(head.len()))?;
        if self.mac(entry, &bytes)?.verify_slice(mac).is_err() {
            return refused("it is torn or was tampered with");
        }
        // Marks it as used for `prune`. A file system that rejects this keeps entries in another order.
        drop(file.set_modified(SystemTime::now()));
        Ok(bytes)
    }

    /// Stores an entry. A failure is only logged. Blocks.
    ///
    /// It is not flushed to disk: an entry torn by a power failure fails verification.
    pub(crate) fn keep(&self, entry: &Entry, bytes: &[u8]) {
        if let Err(error) = self.write(entry, bytes) {
            tracing::warn!(entry = entry.name(), %error, "an entry of the cache cannot be kept");
        }
    }

    fn write(&self, entry: &Entry, bytes: &[u8]) -> io::Result<()> {
        let mac = self.mac(entry, bytes)?.finalize().into_bytes();
        let mut draft = tempfile::Builder::new()
            .prefix(DRAFT_PREFIX)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)?;
        draft.write_all(&MAGIC)?;
        draft.write_all(&mac)?;
        draft.write_all(bytes)?;
        draft.persist(self.folder.join(entry.name()))?;
        Ok(())
    }

    /// Removes the least recently used entries above the limit, except those of components for which `in_use` is true: a
    /// host with more components than fit would otherwise compile them again and again. Blocks.
    pub(crate) fn prune(&self, in_use: impl Fn(&str) -> bool) {
        if let Err(error) = self.remove_oldest(in_use) {
            tracing::warn!(%error, "the cache cannot be cleaned up");
        }
    }

    fn remove_oldest(&self, in_use: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in self.files()? {
            let (name, path, found) = file?;
            if Entry::digest_in(&name).is_some_and(|digest| !in_use(&digest)) {
                entries.push((found.modified()?, found.len(), path));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in entries {
            if total <= self.bytes {
                break;
            }
            fs::remove_file(path)?;
            total = total.saturating_sub(size);
        }
        Ok(())
    }

    fn remove_drafts(&self) -> io::Result<()> {
        let now = SystemTime::now();
        for file in self.files()? {
            let (name, path, found) = file?;
            let age = now.duration_since(found.modified()?).unwrap_or_default();
            if name.starts_with(DRAFT_PREFIX) && age > DRAFT_TTL {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The files of the folder, skipping those removed meanwhile.
    fn files(
        &self,
    ) -> io::Result<impl Iterator<Item = io::Result<(String, PathBuf, fs::Metadata)>>> {
        let files = fs::read_dir(&self.folder)?;
        Ok(files.filter_map(|file| {
            let named = |file: fs::DirEntry| {
                let name = file.file_name().to_string_lossy().into_owned();
                Ok((name, file.path(), file.metadata()?))
            };
            match file.and_then(named) {
                Ok((_, _, found)) if !found.is_file() => None,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(file),
            }
        }))
    }

    fn mac(&self, entry: &Entry, bytes: &[u8]) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(io::Error::other)?;
        mac.update(entry.name().as_bytes());
        mac.update(&[0]);
        mac.update(bytes);
        Ok(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> String {
        format!("sha256:{number:064x}")
    }

    fn entry(number: u64) -> Entry {
        Entry::description("test", &digest(number))
    }

    fn names(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn age(path: &Path, seconds: u64) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let then = SystemTime::now() - Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    }

    #[test]
    fn only_what_was_kept_is_read() {
        let home = tempfile::tempdir().unwrap();
        let (folder, key) = (home.path().join("cache"), home.path().join("key"));
        let cache = Cache::open(&folder, &key).unwrap();
        assert_eq!(cache.read(&entry(1)), None);
        cache.keep(&entry(1), b"content");
        let path = folder.join(entry(1).name());
        let good = fs::read(&path).unwrap();
        assert_eq!(*cache.read(&entry(1)).unwrap(), *b"content");

        let mut cases = vec![[&good[..], b"more"].concat(), MAGIC.to_vec(), Vec::new()];
        cases.extend((0..good.len()).map(|at| {
            let mut bent = good.clone();
            bent[at] ^= 1;
            bent
        }));
        cases.extend((0..good.len()).map(|length| good[..length].to_vec()));
        for bad in cases {
            fs::write(&path, &bad).unwrap();
            assert_eq!(cache.read(&entry(1)), None, "{bad:?}");
        }
        cache.keep(&entry(1), b"content");
        assert_eq!(
            *cache.read(&entry(1)).unwrap(),
            *b"content",
            "it was replaced"
        );

        // An entry renamed to another fails verification.
        fs::copy(&path, folder.join(entry(2).name())).unwrap();
        assert_eq!(cache.read(&entry(2)), None);
        // So does one of another host.
        let other = Cache::open(&folder, &home.path().join("other-key")).unwrap();
        assert_eq!(other.read(&entry(1)), None);
    }

    #[test]
    fn folder_key_and_entries_are_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let (folder, key) = (home.path().join("cache"), home.path().join("keys/key"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let cache = Cache::open(&folder, &key).unwrap();
        cache.keep(&entry(1), b"content");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&key), 0o600);
        assert_eq!(mode(&folder.join(entry(1).name())), 0o600);
        assert_eq!(Cache::open(&folder, &key).unwrap().key, cache.key);

        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        let error = Cache::open(&folder, &key).unwrap_err().to_string();
        assert!(error.contains("others can read"), "{error}");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        fs::write(&key, b"short").unwrap();
        let error = Cache::open(&folder, &key).unwrap_err().to_string();
        assert!(error.contains("5 bytes"), "{error}");
    }

    #[test]
    fn what_was_used_the_longest_time_ago_goes_and_what_is_in_use_stays() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("cache");
        let mut cache = Cache::open(&folder, &home.path().join("key")).unwrap();
        for number in 0..6 {
            cache.keep(&entry(number), &[0; 1000]);
            age(&folder.join(entry(number).name()), 600 - number);
        }
        let read = cache.read(&entry(1));
        assert!(read.is_some(), "from here on it is the newest");
        // Two of them fit, besides what is in use.
        cache.bytes = 2500;
        cache.prune(|other| *other == digest(0));
        let left: Vec<_> = [0, 1, 5]
            .map(|number| entry(number).name().to_owned())
            .into();
        assert_eq!(names(&folder), left);
        cache.bytes = 0;
        cache.prune(|_| true);
        assert_eq!(names(&folder), left, "all of it is in use");
    }

    #[test]
    fn what_a_killed_host_left_goes_and_what_is_being_written_stays() {
        let home = tempfile::tempdir().unwrap();
        let (folder, key) = (home.path().join("cache"), home.path().join("key"));
        let cache = Cache::open(&folder, &key).unwrap();
        cache.keep(&entry(1), b"content");
        let [old, young] = [".draft-old", ".draft-young"].map(|name| folder.join(name));
        fs::write(&old, b"qcho").unwrap();
        fs::write(&young, b"qcho").unwrap();
        age(&old, 2 * DRAFT_TTL.as_secs());
        age(&folder.join(entry(1).name()), 2 * DRAFT_TTL.as_secs());
        let cache = Cache::open(&folder, &key).unwrap();
        assert_eq!(names(&folder), [".draft-young", entry(1).name()]);
        assert_eq!(*cache.read(&entry(1)).unwrap(), *b"content");
    }
}
