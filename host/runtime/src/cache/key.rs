//! The host's key: 32 bytes in a file that only this user can read.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::geteuid;

use super::{CacheError, KEY_LENGTH, OTHERS_MODE};

/// Reads the host's key, or creates it.
pub(super) fn read(path: &Path) -> Result<[u8; KEY_LENGTH], CacheError> {
    let failed = |source| CacheError::Io(path.to_owned(), source);
    let bad = |why: String| CacheError::Key(path.to_owned(), why);
    if !path.try_exists().map_err(failed)? {
        make(path).map_err(failed)?;
    }
    let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if found.uid() != geteuid().as_raw() {
        return Err(bad(format!(
            "the host's key belongs to the user with the uid {}",
            found.uid()
        )));
    }
    if found.mode() & OTHERS_MODE != 0 {
        return Err(bad(format!(
            "others can read the host's key (mode {:o})",
            found.mode() & 0o777
        )));
    }
    let mut key = Vec::new();
    file.take(u64::try_from(KEY_LENGTH + 1).unwrap_or(u64::MAX))
        .read_to_end(&mut key)
        .map_err(failed)?;
    key.as_slice().try_into().map_err(|_| {
        bad(format!(
            "the host's key has {} bytes, not {KEY_LENGTH}",
            found.len()
        ))
    })
}

/// Creates a key. If two hosts do so at once, both use the first one written.
fn make(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_LENGTH];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut draft = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(&key)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}
