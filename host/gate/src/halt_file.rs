//! The file `halt` in the data folder: a halt of everything for an operator who has no binary at hand.
//!
//! Invariant: only a name that is certainly not there counts as absent. A file of any kind, and a look that fails, halts.

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
    /// Held open, so that the folder that is looked at is the host's own, whatever becomes of its path.
    folder: OwnedFd,
    path: PathBuf,
}

/// That the file is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    /// The user that owns it; nothing if that cannot be read.
    pub uid: Option<u32>,
}

impl HaltFile {
    /// The file of a folder that exists.
    pub fn new(folder: &Path) -> io::Result<Self> {
        // The folder of a relative path without one.
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

    /// Whether it is there. One system call, which does not open the file: a FIFO or a device cannot block it.
    pub fn look(&self) -> Option<Present> {
        match statat(&self.folder, HALT_FILE, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Some(Present {
                uid: Some(found.st_uid),
            }),
            Err(Errno::NOENT) => None,
            Err(_) => Some(Present { uid: None }),
        }
    }

    /// Removes it, whatever it is; an empty folder too. It is no error if it is not there.
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

/// Makes the file in a data folder, so that the host there halts everything. One that is there already does too.
///
/// # Errors
/// When it cannot be made.
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
            assert_eq!(file.look(), None, "before {what}");
            make(&path);
            let owner = rustix::process::geteuid().as_raw();
            assert_eq!(file.look(), Some(Present { uid: Some(owner) }), "{what}");
            file.remove().unwrap();
        }
        assert_eq!(file.look(), None);
        file.remove().unwrap();
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = HaltFile::new(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("halt/evidence")).unwrap();
        file.remove().unwrap_err();
        assert!(file.look().is_some());
    }

    #[test]
    fn the_folder_that_is_looked_at_is_the_one_that_was_opened() {
        let parent = tempfile::tempdir().unwrap();
        let (here, moved) = (parent.path().join("data"), parent.path().join("moved"));
        std::fs::create_dir(&here).unwrap();
        let file = HaltFile::new(&here).unwrap();
        std::fs::rename(&here, &moved).unwrap();
        assert_eq!(file.look(), None);
        make_halt_file(&moved).unwrap();
        assert!(file.look().is_some());
    }

    #[test]
    fn making_it_twice_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = make_halt_file(folder.path()).unwrap();
        assert_eq!(make_halt_file(folder.path()).unwrap(), path);
        make_halt_file(&folder.path().join("nowhere")).unwrap_err();
    }
}
