//! Detects changes of a file without reading it, and reads files without mistaking an incomplete write
//! for the whole.
//!
//! Invariant: a text that is returned is one that the file had at a moment when it was not being
//! written, as far as its times and size tell.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qchost_policy::read_text;

/// Minimum age of a file before problems with it are reported, since it may still be written.
pub const MIN_FILE_AGE: Duration = Duration::from_millis(250);

/// The metadata of a file, through links. Different contents with the same fingerprint would require a clock
/// that was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFingerprint {
    device: u64,
    inode: u64,
    /// The uid of its owner.
    pub owner: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileFingerprint {
    /// The fingerprint of a file.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::new(&std::fs::metadata(path)?))
    }

    fn new(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            owner: found.uid(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether the file was modified just now.
    pub fn is_young(&self) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) =
            (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return false;
        };
        let changed = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        // A time in the future does not count as recent.
        SystemTime::now()
            .duration_since(changed)
            .is_ok_and(|age| age < MIN_FILE_AGE)
    }
}

/// Whether a path may be dangling for a moment only: its link, or the folder that lists it, was modified
/// just now.
pub fn is_briefly_dangling(path: &Path) -> bool {
    let link = path.symlink_metadata().ok();
    let folder = path.parent().and_then(|folder| folder.metadata().ok());
    let mut entries = link.iter().chain(&folder);
    entries.any(|found| FileFingerprint::new(found).is_young())
}

/// A text file, read.
#[derive(Debug)]
pub enum Text {
    /// All of it.
    Whole(FileFingerprint, String),
    /// It cannot be read.
    Unreadable(Option<FileFingerprint>, io::Error),
    /// It changed while it was read.
    BeingWritten,
}

/// Reads a text file. Blocks.
pub fn read(path: &Path) -> Text {
    let before = match FileFingerprint::of(path) {
        Ok(fingerprint) => fingerprint,
        Err(error) => return Text::Unreadable(None, error),
    };
    let text = read_text(path);
    if FileFingerprint::of(path).ok() != Some(before) {
        return Text::BeingWritten;
    }
    match text {
        Ok(text) => Text::Whole(before, text),
        Err(error) => Text::Unreadable(Some(before), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_at_the_same_path_has_another_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, "1").unwrap();
        let first = FileFingerprint::of(&path).unwrap();
        assert!(first.is_young());
        assert_eq!(FileFingerprint::of(&path).unwrap(), first);
        std::fs::write(&other, "2").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(FileFingerprint::of(&path).unwrap(), first);
        match read(&path) {
            Text::Whole(fingerprint, text) => {
                assert_eq!(
                    (fingerprint, text.as_str()),
                    (FileFingerprint::of(&path).unwrap(), "2")
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            read(&folder.path().join("none")),
            Text::Unreadable(None, _)
        ));
    }

    #[test]
    fn a_file_of_long_ago_is_settled() {
        let mut fingerprint = FileFingerprint::of(Path::new("/proc/self/exe")).unwrap();
        fingerprint.changed = (1, 0);
        assert!(!fingerprint.is_young());
        fingerprint.changed = (i64::MAX / 2, 0);
        assert!(!fingerprint.is_young());
    }
}
