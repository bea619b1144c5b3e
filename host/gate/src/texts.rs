//! The texts that decided calls, stored by digest: `DATA/texts/sha256-…`.
//!
//! Invariant: a file gets its final name only when it is complete and on disk, is readable by the host's user only,
//! and its content has the digest in its name. Texts are redacted before they get here ([`RedactedText`]).

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::fingerprint::text_hash;
use crate::redacted_text::RedactedText;

/// The folder's name in a data folder.
const FOLDER: &str = "texts";
/// Precedes the digest in the name of a draft.
const DRAFT: &str = ".new-";
/// How long a text stays without a record that names it: the record may be about to be written.
const UNNAMED_TTL: Duration = Duration::from_secs(3600);

/// The folder of redacted texts. Clones use the same folder.
#[derive(Debug, Clone)]
pub struct Texts {
    folder: PathBuf,
    /// Held while a text is stored and while old ones are dropped, so that a text that has just been reused is not
    /// dropped.
    changing: Arc<Mutex<()>>,
}

impl Texts {
    /// The texts of the data folder that contains an audit's folder.
    #[must_use]
    pub fn beside(audit: &Path) -> Self {
        Self {
            folder: audit.with_file_name(FOLDER),
            changing: Arc::default(),
        }
    }

    /// The folder; created with the first text.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stores a text durably. Blocks.
    pub(crate) fn keep(&self, text: &RedactedText) -> io::Result<()> {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let Some(path) = self.path(&text.digest) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let _changing = self.changing.lock();
        if let Ok(Some(_)) = self.read(&text.digest) {
            // Reused: its grace period starts again.
            return File::open(&path)?.set_modified(SystemTime::now());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = self
            .folder
            .join(format!("{DRAFT}{}-{number}", std::process::id()));
        let written = (|| {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(text.text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            File::open(&self.folder)?.sync_all()
        })();
        if written.is_err() {
            drop(std::fs::remove_file(&draft));
        }
        written
    }

    /// Reads a text by its digest, `sha256:…`; `None` if it is not kept. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or its content does not have the digest.
    pub fn read(&self, digest: &str) -> io::Result<Option<String>> {
        let Some(path) = self.path(digest) else {
            return Ok(None);
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if text_hash(&text) != digest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} was changed after it was kept", path.display()),
            ));
        }
        Ok(Some(text))
    }

    /// Drops the texts whose digests are not among these, and drafts left by a crash. Returns how many. Blocks.
    pub(crate) fn retain(&self, named: &HashSet<String>) -> io::Result<usize> {
        let _changing = self.changing.lock();
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut dropped = 0;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let digest = name.replacen("sha256-", "sha256:", 1);
            let ours = name.starts_with(DRAFT) || self.path(&digest).is_some();
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if ours && age >= UNNAMED_TTL && !named.contains(&digest) {
                std::fs::remove_file(entry.path())?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    /// Copies all texts into a folder that it creates. Blocks.
    pub(crate) fn copy_to(&self, to: &Path) -> io::Result<()> {
        let _changing = self.changing.lock();
        DirBuilder::new().mode(0o700).create(to)?;
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(DRAFT) {
                continue;
            }
            let text = std::fs::read(self.folder.join(&name))?;
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(to.join(&name))?;
            file.write_all(&text)?;
            file.sync_all()?;
        }
        File::open(to)?.sync_all()
    }

    fn path(&self, digest: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        let valid = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| self.folder.join(format!("sha256-{hex}")))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::redacted_text::Form;

    fn kept(text: &str) -> RedactedText {
        RedactedText::plain(Form::Manifest, text)
    }

    #[test]
    fn a_text_is_kept_for_the_hosts_user_alone_and_read_back_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::beside(&folder.path().join("audit"));
        let one = kept("one");
        assert_eq!(texts.read(&one.digest).unwrap(), None);
        texts.keep(&one).unwrap();
        texts.keep(&one).unwrap();
        assert_eq!(texts.read(&one.digest).unwrap().as_deref(), Some("one"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(texts.folder()), 0o700);
        let files: Vec<_> = std::fs::read_dir(texts.folder()).unwrap().collect();
        assert_eq!(files.len(), 1);
        let path = files[0].as_ref().unwrap().path();
        assert_eq!(mode(&path), 0o600);
        for odd in ["", "sha256:", "sha256:../../x", "one"] {
            assert_eq!(texts.read(odd).unwrap(), None, "{odd}");
        }
        std::fs::write(&path, "another").unwrap();
        assert!(texts.read(&one.digest).is_err());
    }

    #[test]
    fn only_what_is_old_and_named_by_no_record_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::beside(&folder.path().join("audit"));
        assert_eq!(texts.retain(&HashSet::new()).unwrap(), 0);
        let (named, unnamed, young) = (kept("named"), kept("unnamed"), kept("young"));
        for text in [&named, &unnamed, &young] {
            texts.keep(text).unwrap();
        }
        for text in [&named, &unnamed] {
            let file = File::open(texts.path(&text.digest).unwrap()).unwrap();
            file.set_modified(SystemTime::now() - UNNAMED_TTL).unwrap();
        }
        let named_digests = HashSet::from([named.digest.to_string()]);
        assert_eq!(texts.retain(&named_digests).unwrap(), 1);
        assert!(texts.read(&named.digest).unwrap().is_some());
        assert!(texts.read(&young.digest).unwrap().is_some());
        assert_eq!(texts.read(&unnamed.digest).unwrap(), None);
    }
}
