//! The one way to what is in a folder.
//!
//! Invariant: each path is resolved by the kernel from the descriptor of the granted folder, in one call that follows no
//! link, goes to no other mount and does not leave the folder. A name that was checked before is resolved again: what is
//! opened counts, not what was seen.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use crate::error::{FolderError, OpenError};

/// How a path is resolved.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
/// How often a path is resolved again while others rename folders on the way.
const ATTEMPTS: usize = 8;

/// Device and inode: what a file is, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Identity {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    /// That of what is at a path, links followed.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// What is at a path.
pub(crate) enum Found {
    /// A regular file that has no other name.
    File(Stat),
    /// A regular file with other names, which may be anywhere.
    HardLink(Stat),
    /// A folder.
    Folder,
    /// Something else, and why it is not used.
    Other(&'static str),
    /// Nothing.
    Nothing,
}

/// The descriptor of a granted folder.
#[derive(Debug)]
pub(crate) struct Root {
    descriptor: OwnedFd,
    path: PathBuf,
    identity: Identity,
}

impl Root {
    /// Opens the folder of a grant.
    pub(crate) fn open(name: &str, path: &Path) -> Result<Self, OpenError> {
        let (name, path) = (name.to_owned(), path.to_owned());
        if !path.is_absolute() {
            return Err(OpenError::Relative { name, path });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(CWD, &path, flags, Mode::empty(), resolve)
            .and_then(|descriptor| Ok((fstat(&descriptor)?, descriptor)));
        match opened {
            Ok((stat, descriptor)) => Ok(Self {
                descriptor,
                path,
                identity: Identity::of(&stat),
            }),
            // A seccomp profile that does not know it refuses it.
            Err(Errno::NOSYS | Errno::PERM) => Err(OpenError::Unsupported { name }),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                Err(OpenError::NotAFolder { name, path })
            }
            Err(error) => Err(OpenError::Unavailable {
                name,
                path,
                source: error.into(),
            }),
        }
    }

    pub(crate) const fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Checks that the folder is still where it was granted. What was removed or moved is not empty, but unknown.
    pub(crate) fn check_in_place(&self) -> Result<(), FolderError> {
        match Identity::at(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            _ => Err(FolderError::Unavailable(
                "the folder is not any more where it was when it was granted; the operator has to load the plugin again"
                    .to_owned(),
            )),
        }
    }

    /// Opens what is at a path; the empty one is the folder itself.
    pub(crate) fn open_beneath(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut opened = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            opened = openat2(&self.descriptor, path, flags, Mode::empty(), RESOLVE);
            if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        opened
    }

    /// Opens a folder, to read its names and to change it.
    pub(crate) fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the file at a path for reading, if it is a regular one without other names.
    pub(crate) fn open_file(&self, path: &[u8]) -> Result<Option<(File, Stat)>, Errno> {
        // Opening a device or a pipe can do something in itself, so it is looked at first.
        if !matches!(self.find(path)?, Found::File(_)) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match self.open_beneath(path, flags) {
            Ok(opened) => opened,
            Err(error) => return is_no_file(error).map_or(Err(error), |_| Ok(None)),
        };
        let stat = fstat(&opened)?;
        match found(&stat) {
            Found::File(stat) => Ok(Some((File::from(opened), stat))),
            _ => Ok(None),
        }
    }

    /// Looks at what is at a path, without opening it.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Found, Errno> {
        match self.open_beneath(path, OFlags::PATH) {
            Ok(descriptor) => Ok(found(&fstat(&descriptor)?)),
            Err(error) => is_no_file(error).ok_or(error),
        }
    }
}

/// What an error of `openat2` says about a path, if it is not a failure.
fn is_no_file(error: Errno) -> Option<Found> {
    Some(match error {
        Errno::NOENT => Found::Nothing,
        Errno::LOOP => Found::Other("a link is on the way"),
        Errno::XDEV => Found::Other("another file system is mounted on the way"),
        Errno::NOTDIR => Found::Other("a name on the way is not a folder"),
        // Only sockets and devices without a driver.
        Errno::NXIO | Errno::NODEV => Found::Other(NOT_REGULAR),
        _ => return None,
    })
}

const NOT_REGULAR: &str = "it is not a regular file";

fn found(stat: &Stat) -> Found {
    match FileType::from_raw_mode(stat.st_mode) {
        // One that was replaced since it was opened has no name any more.
        FileType::RegularFile if stat.st_nlink <= 1 => Found::File(*stat),
        FileType::RegularFile => Found::HardLink(*stat),
        FileType::Directory => Found::Folder,
        FileType::Symlink => Found::Other("it is a link"),
        _ => Found::Other(NOT_REGULAR),
    }
}
