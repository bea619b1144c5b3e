//! Disk space reserved for halts that the database does not accept: the disk is full, or another process holds the
//! database.
//!
//! It is a file next to the database whose blocks are allocated in advance, and then only overwritten.
//!
//! Invariant: the file holds two copies that are written alternately, each with a sequence number and a hash. So an
//! interrupted write leaves the copy before it, and a file without a valid copy is an error, never an empty list.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::halts::Halt;
use crate::ledger::Ledger;

/// The file's name, next to the database.
const NAME: &str = "halts.reserve";
/// Bytes of one copy.
const COPY_BYTES: usize = 32 << 10;
/// Both copies.
const BYTES: usize = 2 * COPY_BYTES;
const MAGIC: &[u8; 8] = b"qchalts1";
/// Magic, sequence, length and hash.
const HEADER_BYTES: usize = 8 + 8 + 4 + 32;

/// Why the reserve cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReserveError {
    /// The file cannot be created, read or written.
    #[error("cannot use the reserve for halts, {}: {}", .0.display(), .1)]
    Files(PathBuf, #[source] Arc<io::Error>),
    /// Neither copy is valid.
    #[error(
        "the reserve for halts, {}, is damaged, so halts that it held are not known; check the disk, and remove the file once you know what is to be halted",
        .0.display()
    )]
    Damaged(PathBuf),
    /// More halts than the reserve can hold.
    #[error("{0} halts do not fit into the reserve for halts")]
    Full(usize),
}

/// The reserve of a ledger.
#[derive(Debug)]
pub struct HaltReserve {
    path: PathBuf,
    /// `None` until there is space for it.
    file: Option<File>,
    /// Sequence number of the newest copy.
    sequence: u64,
}

impl Ledger {
    /// The reserve of this ledger, with the halts in it; `None` for a ledger in memory. Blocks on the disk.
    ///
    /// A disk without space for a new reserve is no error: [`HaltReserve::write`] tries again.
    ///
    /// # Errors
    /// When there is a reserve whose content cannot be determined.
    pub fn halt_reserve(&self) -> Result<Option<(HaltReserve, Vec<Halt>)>, ReserveError> {
        let folder = self.path().and_then(Path::parent);
        folder
            .map(|folder| HaltReserve::open(folder.join(NAME)))
            .transpose()
    }

    /// The folder of the database; `None` for a ledger in memory.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.path().and_then(Path::parent)
    }
}

/// The content of a copy.
enum Content {
    /// Never written.
    Nothing,
    Whole(u64, Vec<Halt>),
    Torn,
}

impl HaltReserve {
    /// A reserve without halts. If the disk has no space for it, it is allocated later.
    fn empty(path: PathBuf) -> Self {
        let mut new = Self {
            path,
            file: None,
            sequence: 0,
        };
        if let Err(error) = new.allocate() {
            tracing::warn!(%error, "halts have no reserve until the disk has room");
        }
        new
    }

    /// The halts in the reserve of a data folder that no host uses. Creates nothing.
    ///
    /// # Errors
    /// When there is a reserve whose content cannot be determined.
    pub fn read(folder: &Path) -> Result<Vec<Halt>, ReserveError> {
        let found = Self::find(&folder.join(NAME))?;
        Ok(found.map_or_else(Vec::new, |(_, _, halts)| halts))
    }

    fn open(path: PathBuf) -> Result<(Self, Vec<Halt>), ReserveError> {
        let Some((file, sequence, halts)) = Self::find(&path)? else {
            return Ok((Self::empty(path), Vec::new()));
        };
        let reserve = Self {
            path,
            file: Some(file),
            sequence,
        };
        Ok((reserve, halts))
    }

    /// The file, the sequence number of its newest copy and its halts; `None` if there is no complete file yet.
    fn find(path: &Path) -> Result<Option<(File, u64, Vec<Halt>)>, ReserveError> {
        let path = path.to_owned();
        let failed = |source| ReserveError::Files(path.clone(), Arc::new(source));
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            // Not one of ours, and opening it might block forever.
            Ok(found) if !found.is_file() => return Err(ReserveError::Damaged(path)),
            Ok(_) => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let mut bytes = vec![0; BYTES];
        let read = read_all(&file, &mut bytes).map_err(failed)?;
        if read < BYTES {
            // The process ended while it created the file.
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(ReserveError::Damaged(path));
            }
            return Ok(None);
        }
        let (first, second) = bytes.split_at(COPY_BYTES);
        let newest = match (copy(first), copy(second)) {
            (Content::Nothing, Content::Nothing) => Some((0, Vec::new())),
            (Content::Whole(one, _), Content::Whole(two, halts)) if two > one => Some((two, halts)),
            (Content::Whole(sequence, halts), _) | (_, Content::Whole(sequence, halts)) => {
                Some((sequence, halts))
            }
            _ => None,
        };
        match newest {
            Some((sequence, halts)) => Ok(Some((file, sequence, halts))),
            None => Err(ReserveError::Damaged(path)),
        }
    }

    /// Replaces the halts in the reserve. They are on disk when it returns.
    ///
    /// # Errors
    /// When they cannot be written: the reserve then holds either the former halts or these.
    pub fn write(&mut self, halts: &[Halt]) -> Result<(), ReserveError> {
        let text = serde_json::to_vec(halts).unwrap_or_default();
        let too_many = || ReserveError::Full(halts.len());
        if text.is_empty() || text.len() > COPY_BYTES - HEADER_BYTES {
            return Err(too_many());
        }
        let length = u32::try_from(text.len()).map_err(|_| too_many())?;
        let sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + text.len());
        bytes.extend(MAGIC);
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(hash(sequence, &text));
        bytes.extend(&text);
        let is_even = sequence.is_multiple_of(2);
        let at = if is_even { 0 } else { COPY_BYTES };
        if self.file.is_none() {
            self.allocate()?;
        }
        let written = self.file.as_ref().map_or_else(
            || Err(io::ErrorKind::NotFound.into()),
            |file| {
                file.write_all_at(&bytes, at as u64)
                    .and_then(|()| file.sync_data())
            },
        );
        let failed = |source| ReserveError::Files(self.path.clone(), Arc::new(source));
        written.map_err(failed)?;
        self.sequence = sequence;
        Ok(())
    }

    /// Creates the file, with all blocks allocated.
    fn allocate(&mut self) -> Result<(), ReserveError> {
        let make = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&self.path)?;
            // Written zeros allocate blocks; setting the length would not.
            file.write_all_at(&[0; BYTES], 0)?;
            file.sync_all()?;
            if let Some(folder) = self.path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(file)
        };
        match make() {
            Ok(file) => {
                self.file = Some(file);
                Ok(())
            }
            Err(source) => {
                // Best effort: an empty file would not be a reserve.
                std::fs::remove_file(&self.path).ok();
                Err(ReserveError::Files(self.path.clone(), Arc::new(source)))
            }
        }
    }
}

fn read_all(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn copy(bytes: &[u8]) -> Content {
    if bytes.iter().all(|byte| *byte == 0) {
        return Content::Nothing;
    }
    parse_whole(bytes).map_or(Content::Torn, |(sequence, halts)| {
        Content::Whole(sequence, halts)
    })
}

fn parse_whole(bytes: &[u8]) -> Option<(u64, Vec<Halt>)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (stored, rest) = rest.split_first_chunk::<32>()?;
    let sequence = u64::from_be_bytes(*sequence);
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let text = rest.get(..length)?;
    (hash(sequence, text) == *stored).then_some(())?;
    Some((sequence, serde_json::from_slice(text).ok()?))
}

fn hash(sequence: u64, text: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(sequence.to_be_bytes());
    hash.update(text);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halt(reason: &str) -> Halt {
        Halt {
            account: None,
            plugin: None,
            reason: reason.to_owned(),
            by: "ann".to_owned(),
            at: 1,
        }
    }

    fn reopen(path: &Path) -> Result<Vec<Halt>, ReserveError> {
        HaltReserve::open(path.to_owned()).map(|(_, halts)| halts)
    }

    #[test]
    fn the_reserve_holds_what_was_written_last_and_takes_no_more_room_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let (mut reserve, halts) = HaltReserve::open(path.clone()).unwrap();
        assert_eq!(halts, []);
        for count in [1, 3, 0, 2] {
            let halts: Vec<_> = (0..count).map(|at| halt(&format!("reason {at}"))).collect();
            reserve.write(&halts).unwrap();
            assert_eq!(reopen(&path).unwrap(), halts);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), BYTES as u64);
        }
        let error = reserve.write(&[halt(&"x".repeat(COPY_BYTES))]).unwrap_err();
        assert!(matches!(error, ReserveError::Full(1)), "{error}");
        assert_eq!(reopen(&path).unwrap().len(), 2, "what was there stays");
    }

    /// Whichever part of a write reaches the disk.
    #[test]
    fn a_write_that_is_cut_off_leaves_the_copy_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let (mut reserve, _) = HaltReserve::open(path.clone()).unwrap();
        reserve.write(&[halt("first")]).unwrap();
        let before = std::fs::read(&path).unwrap();
        reserve.write(&[halt("second")]).unwrap();
        let after = std::fs::read(&path).unwrap();
        for cut in 0..HEADER_BYTES + 120 {
            let mut torn = before.clone();
            torn[..cut].copy_from_slice(&after[..cut]);
            std::fs::write(&path, &torn).unwrap();
            let held = reopen(&path).unwrap();
            let expected = if torn == after { "second" } else { "first" };
            assert_eq!(held, [halt(expected)], "cut at {cut}");
        }
    }

    #[test]
    fn a_reserve_without_a_whole_copy_is_an_error_and_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let (mut reserve, _) = HaltReserve::open(path.clone()).unwrap();
        reserve.write(&[halt("first")]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[COPY_BYTES + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(reopen(&path), Err(ReserveError::Damaged { .. })));
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(reopen(&path), Err(ReserveError::Damaged { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(reopen(&path), Err(ReserveError::Damaged { .. })));
        // A file that was being created when the process ended held nothing.
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, [0; 100]).unwrap();
        assert_eq!(reopen(&path).unwrap(), []);
    }
}
