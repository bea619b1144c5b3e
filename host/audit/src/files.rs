//! File access of the audit: [`Files`] is the abstraction, [`Disk`] the real implementation.
//!
//! The abstraction allows tests to use a drive that loses power, fills up or fails to sync. It has
//! only what the audit needs, and each operation states what is durable when it returns: nothing,
//! unless it says so.

use std::fmt;
use std::fs::{DirBuilder, File as StdFile, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To read; it must exist.
    Read,
    /// To read and write; it must exist.
    Write,
    /// To read and write; created if missing, truncated otherwise.
    Create,
}

/// Where the audit keeps its files.
pub trait Files: Send + Sync + fmt::Debug {
    /// Creates a folder and its parents, accessible to the owner only. Durable when it returns.
    ///
    /// # Errors
    /// Any system error.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Opens a file.
    ///
    /// # Errors
    /// Any system error.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>>;
    /// Renames a file, replacing an existing one.
    ///
    /// # Errors
    /// Any system error.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Any system error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Any system error.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// The names in a folder, in any order. Names that are not UTF-8 are omitted.
    ///
    /// # Errors
    /// Any system error.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Creates a file of `bytes` bytes with allocated disk space.
    ///
    /// # Errors
    /// Any system error, including a lack of space; a partial file may then be left.
    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()>;
}

/// An open file.
pub trait File: Send + fmt::Debug {
    /// Reads at an offset; 0 at the end of the file.
    ///
    /// # Errors
    /// Any system error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset, possibly only a part.
    ///
    /// # Errors
    /// Any system error.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// The length in bytes.
    ///
    /// # Errors
    /// Any system error.
    fn size(&self) -> io::Result<u64>;
    /// Truncates the file.
    ///
    /// # Errors
    /// Any system error.
    fn cut(&mut self, size: u64) -> io::Result<()>;
    /// Makes content and length durable (`fdatasync`).
    ///
    /// # Errors
    /// Any system error. What was written since the last success is then in an unknown state, and a
    /// later success proves nothing about it.
    fn sync(&mut self) -> io::Result<()>;
    /// Drops cached content of the file, so that the next read comes from the disk.
    ///
    /// # Errors
    /// Any system error.
    fn forget(&mut self) -> io::Result<()>;
}

/// Writes all bytes.
///
/// # Errors
/// The first error; a part may have been written.
pub(crate) fn write_all(file: &mut dyn File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An empty file that only its owner can read.
fn create(path: &Path) -> io::Result<StdFile> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        match folder.parent() {
            Some(above) if !above.as_os_str().is_empty() => self.sync_folder(above),
            _ => Ok(()),
        }
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        Ok(Box::new(match mode {
            Mode::Read => StdFile::open(path)?,
            Mode::Write => OpenOptions::new().read(true).write(true).open(path)?,
            Mode::Create => create(path)?,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        StdFile::open(folder)?.sync_all()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut file = create(path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => file.sync_data(),
            // Not supported by every file system: otherwise zeros are written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = [0; 64 * 1024];
                let mut offset = 0;
                while offset < bytes {
                    let part = usize::try_from(bytes - offset).unwrap_or(zeros.len());
                    let part = zeros.get(..part.min(zeros.len())).unwrap_or(&zeros);
                    write_all(&mut file, part, offset)?;
                    offset += part.len() as u64;
                }
                file.sync_data()
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl File for StdFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn cut(&mut self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&*self, 0, None, Advice::DontNeed)?)
    }
}
