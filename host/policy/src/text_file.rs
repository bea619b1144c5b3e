//! Reads a text file of the operator: a manifest, guardrails, the configuration.
//!
//! Invariant: reading ends, and takes no more memory than such a file may have, whatever is in its place, such
//! as a pipe without a writer or an endless device.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

/// Maximum bytes of a file.
const MAX_BYTES: u64 = 1 << 20;

/// The text that a manifest or a configuration was parsed from, and the owner of its file.
///
/// All origins compare equal: two manifests with the same content are the same manifest, whatever they were
/// parsed from.
#[derive(Clone, Default)]
pub struct Origin {
    /// The text of the file. It may contain secrets, so it is never shown or stored unredacted.
    pub text: Arc<str>,
    /// The uid of the file's owner; `None` if it was not read from a file.
    pub owner: Option<u32>,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("bytes", &self.text.len())
            .field("owner", &self.owner)
            .finish()
    }
}

/// Reads a regular file of at most 1 MiB as UTF-8. Links are followed.
///
/// # Errors
/// When it cannot be opened or read, is not a regular file, is larger, or is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    read_owned_text(path).map(|(text, _)| text)
}

/// Reads a file like [`read_text`], and returns the uid of its owner with the text.
///
/// # Errors
/// As [`read_text`].
pub fn read_owned_text(path: &Path) -> io::Result<(String, u32)> {
    // Opening a pipe would block until a writer opens it.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let kind = io::ErrorKind::InvalidInput;
        return Err(io::Error::new(kind, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    // One byte more shows that there is more. The size reported by the system may be outdated.
    file.take(MAX_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        let kind = io::ErrorKind::FileTooLarge;
        return Err(io::Error::new(kind, "it has more than 1 MiB"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((text, metadata.uid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    /// Reads in a thread, since the test checks that reading ends.
    fn read(path: &Path) -> Result<String, String> {
        let (sender, receiver) = mpsc::channel();
        let path = path.to_owned();
        std::thread::spawn(move || sender.send(read_text(&path)));
        let read = receiver.recv_timeout(Duration::from_secs(30));
        read.expect("reading it does not end")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_regular_file_is_read_and_reading_anything_else_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        symlink("file", at("link")).unwrap();
        assert_eq!(read(&at("link")), Ok("text".to_owned()));

        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, mode, 0).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for odd in ["pipe", "zero", "folder"] {
            assert_eq!(read(&at(odd)), Err("it is no regular file".to_owned()));
        }
        let _socket = UnixListener::bind(at("socket")).unwrap();
        assert!(read(&at("socket")).is_err());
        std::fs::write(at("binary"), [0xff]).unwrap();
        assert!(read(&at("binary")).unwrap_err().contains("utf-8"));
    }

    #[test]
    fn a_file_may_be_large_and_not_larger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1 << 20);
        // It is sparse, and reading all of it would take all memory.
        file.set_len(1 << 40).unwrap();
        assert_eq!(read(&path), Err("it has more than 1 MiB".to_owned()));
    }
}
