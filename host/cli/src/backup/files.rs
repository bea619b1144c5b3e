//! Files of a backup: copied durably, listed and hashed.
//!
//! Invariant: only regular files are read, and no link inside of a backup is followed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::data_folder::make_private;

/// The SHA-256 of a text, as in a list and on the command line.
pub fn digest(text: &[u8]) -> String {
    shown(Sha256::digest(text))
}

fn shown(hash: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", hex::encode(hash))
}

/// The names of all files below a folder. Anything but a regular file or a folder is refused, and so are more than `max` of
/// both together.
pub(super) fn names(folder: &Path, max: usize) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0_usize;
    while let Some(current) = folders.pop() {
        let failed = || format!("cannot read {}", current.display());
        for entry in fs::read_dir(&current).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            seen = seen.saturating_add(1);
            ensure!(
                seen <= max,
                "{}: there is much more in it than is listed; nothing was restored",
                folder.display()
            );
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            ensure!(kind.is_file(), "{} is no regular file", path.display());
            let name = path.strip_prefix(folder)?.to_str();
            let name =
                name.with_context(|| format!("{} has no name that is text", path.display()))?;
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Size and SHA-256 of a file. Of a longer one, not more than one byte beyond `limit` is read.
pub(super) fn measure(path: &Path, limit: u64) -> Result<(u64, String)> {
    let mut file = open_regular(path)?.take(limit.saturating_add(1));
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    let mut size = 0_u64;
    loop {
        let read = file
            .read(&mut piece)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match piece.get(..read) {
            Some([]) | None => break,
            Some(bytes) => hasher.update(bytes),
        }
        size = size.saturating_add(u64::try_from(read)?);
    }
    Ok((size, shown(hasher.finalize())))
}

/// Opens a regular file: a pipe would block, and a device may do anything.
pub fn open_regular(path: &Path) -> Result<File> {
    let doing = || format!("cannot read {}", path.display());
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .with_context(doing)?;
    ensure!(
        file.metadata().with_context(doing)?.is_file(),
        "{} is no regular file",
        path.display()
    );
    Ok(file)
}

/// Copies a file durably, readable for its owner only, into a folder that is created if necessary.
pub fn copy_private(from: &Path, to: &Path) -> Result<()> {
    copy_open(&mut open_regular(from)?, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// The same with a file of this size. Of one that grew meanwhile, not more than one byte beyond it is copied.
pub fn copy_listed(from: &Path, to: &Path, size: u64) -> Result<()> {
    let mut source = open_regular(from)?.take(size.saturating_add(1));
    copy_open(&mut source, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// The same with an open file.
pub(super) fn copy_open(from: &mut impl io::Read, to: &Path) -> Result<()> {
    let mut target = create(to)?;
    io::copy(from, &mut target)?;
    Ok(target.sync_all()?)
}

/// Writes a text like [`copy_private`].
pub(super) fn write_private(text: &str, to: &Path) -> Result<()> {
    let written = create(to).and_then(|mut target| {
        target.write_all(text.as_bytes())?;
        Ok(target.sync_all()?)
    });
    written.with_context(|| format!("cannot write {}", to.display()))
}

fn create(to: &Path) -> Result<File> {
    if let Some(folder) = to.parent() {
        make_private(folder)?;
    }
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    Ok(file?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grew_is_not_copied_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::write(&from, [7; 1000]).unwrap();
        for (size, copied) in [(3, 4), (999, 1000), (1000, 1000), (u64::MAX, 1000)] {
            let to = folder.path().join(size.to_string());
            copy_listed(&from, &to, size).unwrap();
            assert_eq!(fs::read(to).unwrap().len(), copied, "{size}");
        }
    }

    #[test]
    fn a_folder_with_more_than_was_asked_for_is_not_walked_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("audit")).unwrap();
        fs::write(folder.path().join("audit/one"), "").unwrap();
        fs::write(folder.path().join("two"), "").unwrap();
        assert_eq!(names(folder.path(), 3).unwrap().len(), 2);
        let error = names(folder.path(), 2).unwrap_err();
        assert!(error.to_string().contains("more in it"), "{error}");
    }
}
