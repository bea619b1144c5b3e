//! Compiled components on disk: compiling takes a second for each megabyte, mapping takes none.
//!
//! A compiled component is native code that the host will run, so whoever can write an entry owns
//! the host. The folder is closed to others, and each entry begins with a MAC under a key that only
//! the host can read; the MAC covers the entry's name too, so that no entry passes for another.
//!
//! Invariant: no byte is mapped as code that was not written by this host: the MAC is checked over
//! the very bytes, in memory, that are then mapped. An entry that does not pass is compiled anew
//! and replaced; it is never an error.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// What an entry begins with, before its MAC. Changes with the layout of an entry.
const MAGIC: &[u8; 8] = b"qchost1\n";
/// Bytes of a MAC and of the key.
const LENGTH: usize = 32;
/// How many entries are kept; the oldest go first.
const ENTRIES: usize = 128;
/// The ending of an entry's name.
const ENDING: &str = "cwasm";

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder or the key cannot be used.
    #[error("{}: the cache of compiled components cannot be used: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is not as it should be.
    #[error("{}: {why}; delete it, and the host makes another", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; LENGTH],
    written: AtomicU64,
}

impl Cache {
    /// Opens the folder and reads the key; makes both if they are not there.
    pub(crate) fn open(folder: &Path, key: &Path) -> Result<Self, CacheError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { path, source }
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(failed(folder))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed(folder))?;
        if let Some(parent) = key.parent() {
            builder.create(parent).map_err(failed(parent))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            key: read_key(key)?,
            written: AtomicU64::new(0),
        })
    }

    /// The compiled form of a component, from the cache or compiled now. Blocks.
    ///
    /// # Errors
    /// When it does not compile. A cache that cannot be read or written is only logged.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        digest: &str,
        bytes: &[u8],
    ) -> wasmtime::Result<Component> {
        let name = entry_name(engine, digest);
        let path = self.folder.join(&name);
        match self.read(&path, &name) {
            Ok(Some(compiled)) => match deserialize(engine, &compiled) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(entry = name, %error, "a compiled component cannot be used; compiling it anew");
                }
            },
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(entry = name, %error, "a compiled component cannot be read; compiling it anew");
            }
        }
        let component = Component::from_binary(engine, bytes)?;
        match component.serialize() {
            Ok(compiled) => {
                if let Err(error) = self.write(&path, &name, &compiled) {
                    tracing::warn!(entry = name, %error, "a compiled component cannot be kept");
                }
            }
            Err(error) => tracing::warn!(entry = name, %error, "a component cannot be kept"),
        }
        Ok(component)
    }

    /// The verified bytes of an entry; nothing if there is none or it does not pass.
    fn read(&self, path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut entry = Vec::new();
        match File::open(path) {
            Ok(mut file) => file.read_to_end(&mut entry)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let start = MAGIC.len() + LENGTH;
        let passed = entry
            .strip_prefix(MAGIC.as_slice())
            .and_then(|rest| rest.split_at_checked(LENGTH))
            .is_some_and(|(mac, compiled)| {
                self.mac(name, compiled)
                    .is_ok_and(|expected| expected.verify_slice(mac).is_ok())
            });
        if !passed {
            tracing::warn!(
                entry = name,
                "a compiled component is torn or was tampered with; compiling it anew"
            );
            return Ok(None);
        }
        Ok(Some(entry.split_off(start)))
    }

    /// Writes an entry beside its place and moves it there, so that nobody reads half of one.
    fn write(&self, path: &Path, name: &str, compiled: &[u8]) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let draft = self
            .folder
            .join(format!(".{}-{number}.tmp", std::process::id()));
        let mac = self.mac(name, compiled)?.finalize().into_bytes();
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(MAGIC)?;
                file.write_all(&mac)?;
                file.write_all(compiled)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            // What is left of it is of no use; that it cannot be deleted changes nothing.
            drop(fs::remove_file(&draft));
        }
        written.and_then(|()| self.prune())
    }

    /// Deletes the oldest entries above the number that is kept.
    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                let modified = fs::metadata(&path)?.modified()?;
                entries.push((modified, path));
            }
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(ENTRIES);
        for (_, path) in entries.into_iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn mac(&self, name: &str, compiled: &[u8]) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(io::Error::other)?;
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(compiled);
        Ok(mac)
    }
}

/// Maps compiled code.
#[allow(unsafe_code)]
fn deserialize(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` runs what it is given as native code, so the bytes must come from
    // `serialize` of a compatible engine, unchanged. They do: the caller has checked the MAC over
    // these very bytes in memory (not over the file, which somebody could change after the check),
    // the key is readable by this host alone, the host signs nothing but what `serialize` returned,
    // and the name under the MAC holds the hash of the component and of the engine's version and
    // settings. wasmtime checks the latter once more by itself.
    unsafe { Component::deserialize(engine, compiled) }
}

/// What an entry is called: by the component and by everything that its compilation depended on.
fn entry_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = Fingerprint(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = digest.trim_start_matches("sha256:");
    format!("{digest}-{:016x}.{ENDING}", hasher.finish())
}

/// A hasher that does not change from one build of the host to the next.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.clone().finalize();
        hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}

/// Reads the host's key, or makes one.
fn read_key(path: &Path) -> Result<[u8; LENGTH], CacheError> {
    let failed = |source| CacheError::Io {
        path: path.to_owned(),
        source,
    };
    let bad = |why: String| CacheError::Key {
        path: path.to_owned(),
        why,
    };
    if !path.try_exists().map_err(failed)? {
        make_key(path).map_err(failed)?;
    }
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(bad(format!(
            "others can read the host's key (mode {:o})",
            mode & 0o777
        )));
    }
    let key = fs::read(path).map_err(failed)?;
    key.as_slice().try_into().map_err(|_| {
        bad(format!(
            "the host's key has {} bytes, not {LENGTH}",
            key.len()
        ))
    })
}

/// Makes a key. If two hosts do so at once, both use the one that was there first.
fn make_key(path: &Path) -> io::Result<()> {
    let mut key = [0; LENGTH];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(&key)?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    // A draft that stays is harmless: it is closed to others.
    drop(fs::remove_file(&draft));
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:00ff";

    fn bytes() -> Vec<u8> {
        wat::parse_str("(component)").unwrap()
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let files = fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn an_entry_is_used_and_a_bad_one_replaced() {
        let home = tempfile::tempdir().unwrap();
        let (folder, key) = (home.path().join("cache"), home.path().join("key"));
        let engine = Engine::default();
        let cache = Cache::open(&folder, &key).unwrap();
        cache.component(&engine, DIGEST, &bytes()).unwrap();
        let [entry] = entries(&folder).try_into().unwrap();
        let good = fs::read(&entry).unwrap();
        let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(cache.read(&entry, &name).unwrap().is_some());
        // Found without the source.
        cache.component(&engine, DIGEST, b"no component").unwrap();

        let mut bent = good.clone();
        *bent.last_mut().unwrap() ^= 1;
        let mut other_mac = good.clone();
        other_mac[MAGIC.len()] ^= 1;
        for bad in [
            &bent,
            &other_mac,
            &good[..good.len() / 2],
            b"",
            MAGIC.as_slice(),
        ] {
            fs::write(&entry, bad).unwrap();
            assert!(cache.read(&entry, &name).unwrap().is_none());
            cache.component(&engine, DIGEST, &bytes()).unwrap();
            assert!(
                cache.read(&entry, &name).unwrap().is_some(),
                "it was replaced"
            );
        }
        // An entry under another's name does not pass for it.
        assert!(cache.read(&entry, "other").unwrap().is_none());
        // Nor does one of another host.
        let other = Cache::open(&folder, &home.path().join("other-key")).unwrap();
        assert!(other.read(&entry, &name).unwrap().is_none());
    }

    #[test]
    fn folder_key_and_entries_are_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let (folder, key) = (home.path().join("cache"), home.path().join("keys/key"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let cache = Cache::open(&folder, &key).unwrap();
        cache
            .component(&Engine::default(), DIGEST, &bytes())
            .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&key), 0o600);
        assert_eq!(mode(&entries(&folder)[0]), 0o600);
        assert_eq!(Cache::open(&folder, &key).unwrap().key, cache.key);

        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Cache::open(&folder, &key).unwrap_err().to_string();
        assert!(error.contains("others can read"), "{error}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&key, b"short").unwrap();
        let error = Cache::open(&folder, &key).unwrap_err().to_string();
        assert!(error.contains("5 bytes"), "{error}");
    }

    #[test]
    fn the_oldest_entries_go() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("cache");
        let cache = Cache::open(&folder, &home.path().join("key")).unwrap();
        for number in 0..ENTRIES + 3 {
            let path = folder.join(format!("{number}.{ENDING}"));
            cache.write(&path, "entry", b"code").unwrap();
        }
        assert_eq!(entries(&folder).len(), ENTRIES);
        assert!(folder.join(format!("{}.{ENDING}", ENTRIES + 2)).exists());
    }
}
