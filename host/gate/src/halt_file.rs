//! The file `halt` in the data folder: halts everything, for an operator who cannot run the binary.
//!
//! Invariant: only a name that is certainly absent counts as absent. A file of any kind halts, and so does a failed
//! look-up.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;

/// The file's name in the data folder.
pub const HALT_FILE: &str = "halt";

/// The file of one data folder.
#[derive(Debug)]
pub(crate) struct HaltFile {
    /// Held open, so that the host's own folder is checked whatever happens to its path.
    folder: OwnedFd,
    path: PathBuf,
}

/// The file is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    /// The user that owns it; `None` if that cannot be read.
    pub uid: Option<u32>,
}

impl HaltFile {
    /// The file of a folder that exists.
    pub fn new(folder: &Path) -> io::Result<Self> {
        // A relative path without a folder part.
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: folder.join(HALT_FILE),
            folder: openat(CWD, folder, flags, Mode::empty())?,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks for it with one system call that does not open the file, so a FIFO or a device cannot block it.
    pub fn find(&self) -> Option<Present> {
        match statat(&self.folder, HALT_FILE, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Some(Present {
                uid: Some(found.st_uid),
            }),
            Err(Errno::NOENT) => None,
            Err(_) => Some(Present { uid: None }),
        }
    }

    /// Removes it, whatever its type, including an empty folder. A missing file is no error.
    pub fn remove(&self) -> io::Result<()> {
        let unlinked = match unlinkat(&self.folder, HALT_FILE, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                unlinkat(&self.folder, HALT_FILE, AtFlags::REMOVEDIR)
            }
            other => other,
        };
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Creates the file in a data folder, so that its host halts everything. An existing file has the same effect.
///
/// # Errors
/// When it cannot be created.
pub fn make_halt_file(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(HALT_FILE);
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path);
    match made {
        Ok(file) => {
            file.sync_all()?;
            std::fs::File::open(folder)?.sync_all()?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Maker = (&'static str, fn(&Path));

    #[test]
    fn whatever_it_is_it_is_seen_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = HaltFile::new(folder.path()).unwrap();
        let path = folder.path().join(HALT_FILE);
        let makers: [Maker; 5] = [
            ("an empty file", |path| std::fs::write(path, "").unwrap()),
            ("a folder", |path| std::fs::create_dir(path).unwrap()),
            ("a link to nowhere", |path| {
                std::os::unix::fs::symlink("/nowhere", path).unwrap();
            }),
            ("a FIFO", |path| {
                rustix::fs::mknodat(
                    CWD,
                    path,
                    rustix::fs::FileType::Fifo,
                    Mode::RUSR | Mode::WUSR,
                    0,
                )
                .unwrap();
            }),
            ("a file that cannot be read", |path| {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::write(path, "").unwrap();
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
            }),
        ];
        for (what, make) in makers {
            assert_eq!(file.find(), None, "before {what}");
            make(&path);
            let owner = rustix::process::geteuid().as_raw();
            assert_eq!(file.find(), Some(Present { uid: Some(owner) }), "{what}");
            file.remove().unwrap();
        }
        assert_eq!(file.find(), None);
        file.remove().unwrap();
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = HaltFile::new(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("halt/evidence")).unwrap();
        file.remove().unwrap_err();
        assert!(file.find().is_some());
    }

    #[test]
    fn the_folder_that_is_looked_at_is_the_one_that_was_opened() {
        let parent = tempfile::tempdir().unwrap();
        let (here, moved) = (parent.path().join("data"), parent.path().join("moved"));
        std::fs::create_dir(&here).unwrap();
        let file = HaltFile::new(&here).unwrap();
        std::fs::rename(&here, &moved).unwrap();
        assert_eq!(file.find(), None);
        make_halt_file(&moved).unwrap();
        assert!(file.find().is_some());
    }

    #[test]
    fn making_it_twice_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = make_halt_file(folder.path()).unwrap();
        assert_eq!(make_halt_file(folder.path()).unwrap(), path);
        make_halt_file(&folder.path().join("nowhere")).unwrap_err();
    }
}
