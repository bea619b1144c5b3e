//! Secrets in files and environment variables.
//!
//! Invariant: permissions are checked on the open file that is read, not on a path that may refer
//! to another file a moment later.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::credentials::is_exposed;
use crate::error::SecretError;

/// Maximum bytes of a secret. A private key has a few thousand.
const MAX_SECRET: usize = 64 * 1024;

/// Reads a secret from a file that only this user can read. A trailing line break is not part of
/// it.
///
/// # Errors
/// When it cannot be read, other users can read it, or it contains no text of up to 64 KiB.
pub fn read_secret(path: &Path) -> Result<SecretString, SecretError> {
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SecretError::NoFile(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(SecretError::NoFile(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if is_exposed(path, mode) {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    // One byte more than allowed, so that the buffer neither grows, which would leave a copy in
    // memory, nor hides an excess.
    let mut bytes = Zeroizing::new(vec![0; MAX_SECRET + 1]);
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match (&file).read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let location = || path.display().to_string();
    if length > MAX_SECRET {
        return Err(SecretError::TooLong {
            location: location(),
            limit: MAX_SECRET,
        });
    }
    let text = std::str::from_utf8(bytes.get(..length).unwrap_or_default())
        .map_err(|_| SecretError::NoText(location()))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(SecretError::Empty(location()));
    }
    Ok(text.into())
}

/// Reads a secret on a thread that may block: it may be on a network.
pub(crate) async fn read_file(path: PathBuf) -> Result<SecretString, SecretError> {
    let shown = path.clone();
    match tokio::task::spawn_blocking(move || read_secret(&path)).await {
        Ok(read) => read,
        Err(stopped) => Err(SecretError::Read {
            path: shown,
            source: std::io::Error::other(stopped),
        }),
    }
}

/// Reads a secret from an environment variable.
pub(crate) fn read_variable(name: &str) -> Result<SecretString, SecretError> {
    let location = || format!("the environment variable {name}");
    match std::env::var(name).map(Zeroizing::new) {
        Ok(text) if text.is_empty() => Err(SecretError::Empty(location())),
        Ok(text) if text.len() > MAX_SECRET => Err(SecretError::TooLong {
            location: location(),
            limit: MAX_SECRET,
        }),
        Ok(text) => Ok(text.as_str().into()),
        Err(std::env::VarError::NotPresent) => Err(SecretError::Unset(name.to_owned())),
        Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::NoText(location())),
    }
}
