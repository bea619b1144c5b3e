//! A bounded walk through a folder.

use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Stat, unlinkat};
use rustix::io::Errno;

use crate::beneath::{Found, Root};
use crate::error::FolderError;
use crate::path::{FilePath, shown};
use crate::temporary::is_temporary;

/// Maximum entries that are walked: files, folders and everything else.
pub const MAX_ENTRIES: u32 = 100_000;
/// Maximum bytes of their paths together.
const MAX_NAMES_BYTES: usize = 32 << 20;
/// Maximum depth of folders.
const MAX_WALK_DEPTH: usize = 64;
/// Maximum time.
const WALK_TIMEOUT: Duration = Duration::from_secs(10);
/// After what time a file that a write has left behind is removed. A write takes far less.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

/// What a folder holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes of its regular files, those with other names included.
    pub(crate) bytes: u64,
    /// Everything that is not a folder.
    pub(crate) files: u32,
    /// Everything.
    pub(crate) entries: u32,
}

/// Counts what a folder holds, and removes what writes have left behind that did not end.
pub(crate) fn usage(root: &Root, now: Duration) -> Result<Usage, FolderError> {
    let mut usage = Usage::default();
    walk(root, "", |entry| {
        usage.entries += 1;
        match entry.found {
            Found::Folder => return Ok(()),
            Found::File(stat) if is_stale(entry.name, stat, now) => {
                if remove(root, entry.path, entry.name) {
                    return Ok(());
                }
                usage.bytes = usage.bytes.saturating_add(size(stat));
            }
            Found::File(stat) | Found::HardLink(stat) => {
                usage.bytes = usage.bytes.saturating_add(size(stat));
            }
            Found::Other(_) | Found::Nothing => {}
        }
        usage.files += 1;
        Ok(())
    })?;
    Ok(usage)
}

/// The regular files below a folder, in no order; without those that a plugin cannot name.
pub(crate) fn files(
    root: &Root,
    folder: &str,
    mut file: impl FnMut(&str, &Stat) -> Result<(), FolderError>,
) -> Result<(), FolderError> {
    walk(root, folder, |entry| {
        let (Found::File(stat), Ok(path)) = (entry.found, std::str::from_utf8(entry.path)) else {
            return Ok(());
        };
        match FilePath::parse(path) {
            Ok(path) => file(path.as_str(), stat),
            Err(_) => Ok(()),
        }
    })
}

/// The size of a file.
pub(crate) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// When a file was changed last, since 1970.
pub(crate) fn modified(stat: &Stat) -> Duration {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    u64::try_from(stat.st_mtime).map_or(Duration::ZERO, |seconds| {
        Duration::new(seconds, nanoseconds.min(999_999_999))
    })
}

fn is_stale(name: &[u8], stat: &Stat, now: Duration) -> bool {
    is_temporary(name) && now.saturating_sub(modified(stat)) > STALE_AFTER
}

fn remove(root: &Root, path: &[u8], name: &[u8]) -> bool {
    let folder = path.strip_suffix(name).unwrap_or_default();
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    let folder = root.open_folder(folder);
    folder.is_ok_and(|folder| unlinkat(folder, name, AtFlags::empty()).is_ok())
}

struct Entry<'a> {
    path: &'a [u8],
    name: &'a [u8],
    found: &'a Found,
}

fn walk(
    root: &Root,
    start: &str,
    mut visit: impl FnMut(Entry<'_>) -> Result<(), FolderError>,
) -> Result<(), FolderError> {
    let deadline = Instant::now() + WALK_TIMEOUT;
    let (mut entries, mut bytes) = (0, 0);
    let mut folders = vec![start.as_bytes().to_vec()];
    while let Some(folder) = folders.pop() {
        let depth = folder.split(|byte| *byte == b'/').count();
        let Some(names) = names(root, &folder)? else {
            continue;
        };
        for name in names {
            let name = name.map_err(|error| unreadable(&folder, error))?;
            let kind = name.file_type();
            let name = name.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = match folder.is_empty() {
                true => name.to_vec(),
                false => [&folder, &b"/"[..], name].concat(),
            };
            entries += 1;
            bytes += path.len();
            if entries > MAX_ENTRIES || bytes > MAX_NAMES_BYTES || depth > MAX_WALK_DEPTH {
                return Err(FolderError::QuotaExceeded(format!(
                    "there is more below {} than the host looks at: {MAX_ENTRIES} files and folders, 64 folders deep; \
                     delete some, or list a part by a longer prefix",
                    described(start.as_bytes())
                )));
            }
            if Instant::now() > deadline {
                return Err(FolderError::Unavailable(format!(
                    "looking at what is below {} took longer than {} s",
                    described(start.as_bytes()),
                    WALK_TIMEOUT.as_secs()
                )));
            }
            let found = match kind {
                FileType::RegularFile | FileType::Directory | FileType::Unknown => {
                    root.find(&path).map_err(|error| unreadable(&path, error))?
                }
                _ => Found::Other(""),
            };
            if matches!(found, Found::Nothing) {
                // It was removed since its name was read.
                continue;
            }
            visit(Entry {
                path: &path,
                name,
                found: &found,
            })?;
            if matches!(found, Found::Folder) {
                folders.push(path);
            }
        }
    }
    Ok(())
}

/// The names in a folder; `None` if there is no folder.
fn names(root: &Root, folder: &[u8]) -> Result<Option<Dir>, FolderError> {
    let opened = match root.open_folder(folder) {
        Ok(opened) => opened,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(None),
        Err(error) => return Err(unreadable(folder, error)),
    };
    Dir::new(opened)
        .map(Some)
        .map_err(|error| unreadable(folder, error))
}

/// What cannot be read is unknown, and not empty.
fn unreadable(path: &[u8], error: Errno) -> FolderError {
    FolderError::Unavailable(format!("{} cannot be read: {error}", described(path)))
}

fn described(path: &[u8]) -> String {
    match path {
        [] => "the folder".to_owned(),
        _ => shown(&String::from_utf8_lossy(path)),
    }
}
