//! A file under a hidden name, which becomes the written file by one rename.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

/// What the names of the host's own files begin with, in any case: a file system may not tell cases apart.
const PREFIX: &[u8] = b".qchost-";
/// How they end.
const SUFFIX: &[u8] = b".tmp";
/// Random bytes of a name.
const RANDOM: usize = 16;

/// Whether a name is kept for the host.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    let start = name.get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether a name is one that [`Temporary`] gives.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    let random = name.strip_prefix(PREFIX);
    let random = random.and_then(|rest| rest.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == RANDOM * 2 && random.iter().all(u8::is_ascii_hexdigit)
    })
}

/// A new file, removed when this is dropped unless it was renamed.
pub(crate) struct Temporary<'a> {
    folder: BorrowedFd<'a>,
    name: String,
    file: File,
    renamed: bool,
}

impl<'a> Temporary<'a> {
    /// Creates an empty one in a folder.
    pub(crate) fn create(folder: &'a impl AsFd) -> io::Result<Self> {
        let folder = folder.as_fd();
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!(".qchost-{}.tmp", hex::encode(random));
        // With `EXCL`, nothing that is there is opened, and no link is followed.
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, &name, flags, Mode::from_raw_mode(0o666))?;
        Ok(Self {
            folder,
            name,
            file: file.into(),
            renamed: false,
        })
    }

    /// Writes its content to disk, and gives it the rights of the file that it replaces.
    pub(crate) fn fill(&mut self, content: &[u8], mode: Option<Mode>) -> io::Result<()> {
        self.file.write_all(content)?;
        if let Some(mode) = mode {
            rustix::fs::fchmod(&self.file, mode)?;
        }
        self.file.sync_all()
    }

    /// Gives it the name of the written file, in its folder.
    pub(crate) fn rename(&mut self, name: &str, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(self.folder, &self.name, self.folder, name, flags)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // One that stays is left out of lists, and removed by a later write.
            let _ = unlinkat(self.folder, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_names_are_told_apart() {
        let own = format!(".qchost-{}.tmp", "0f".repeat(RANDOM));
        assert!(is_temporary(own.as_bytes()) && is_reserved(own.as_bytes()));
        for other in [".qchost-", ".qchost-notes.tmp", ".QCHOST-x"] {
            assert!(is_reserved(other.as_bytes()) && !is_temporary(other.as_bytes()));
        }
        assert!(!is_reserved(b"qchost-notes") && !is_reserved(b".qchos"));
    }
}
