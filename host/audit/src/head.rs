//! The head: a signed text that identifies the last record and the beginning of the chain.
//!
//! `qchost-head-1:SEQUENCE:HASH:SEGMENT:BASE:BASEHASH:MAC`. SEGMENT is the sequence number of the
//! first record of the last segment. BASE and BASEHASH are sequence number and hash of the last
//! record that retention removed (0 and zeros if none was): the kept chain begins right after it.
//! MAC is HMAC-SHA256 with the host's key over everything before it.
//!
//! Invariant: the head's file has two slots in different pages that are written alternately, each
//! synced before the next: whatever a crash does to one, the other is intact.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

use crate::error::AuditError;
use crate::files::{File, Files, Mode, write_all};
use crate::record::GENESIS;

/// The name of the head's file.
pub(crate) const HEAD: &str = "head";
/// The name of a new head file while it is being written.
pub(crate) const NEW_HEAD: &str = "head.new";

const PREFIX: &str = "qchost-head-1";
/// Bytes of a slot: a page, so that a write to one slot never touches the other.
const SLOT_BYTES: u64 = 4096;
/// Bytes of a slot that are written.
const WRITTEN_BYTES: usize = 512;
const MIN_KEY: usize = 16;

/// A record, by its sequence and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub sequence: u64,
    pub hash: String,
}

impl Point {
    /// Before the first record.
    pub fn origin() -> Self {
        Self {
            sequence: 0,
            hash: GENESIS.to_owned(),
        }
    }
}

/// The content of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last record.
    pub last: Point,
    /// The sequence number of the first record in its segment.
    pub segment: u64,
    /// The last record that retention removed.
    pub base: Point,
}

impl Head {
    /// The head of an audit without records.
    pub fn origin() -> Self {
        Self {
            last: Point::origin(),
            segment: 1,
            base: Point::origin(),
        }
    }

    fn age(&self) -> (u64, u64) {
        (self.last.sequence, self.base.sequence)
    }
}

/// Signs heads and checks them.
#[derive(Clone)]
pub(crate) struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub fn new(key: &SecretSlice<u8>) -> Result<Self, AuditError> {
        let key = key.expose_secret();
        let short = AuditError::ShortKey { bytes: key.len() };
        if key.len() < MIN_KEY {
            return Err(short);
        }
        Hmac::new_from_slice(key).map(Self).map_err(|_| short)
    }

    pub fn sign(&self, head: &Head) -> String {
        let mut text = format!(
            "{PREFIX}:{}:{}:{}:{}:{}",
            head.last.sequence, head.last.hash, head.segment, head.base.sequence, head.base.hash
        );
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        let mac = hex::encode(mac.finalize().into_bytes());
        // Writing to a string cannot fail.
        let _ = write!(text, ":{mac}");
        text
    }

    /// The content of a head, if it was signed with this key; otherwise why it is invalid.
    pub fn open(&self, text: &str) -> Result<Head, String> {
        let text = text.trim();
        let fields: Vec<&str> = text.split(':').collect();
        let &[PREFIX, sequence, hash, segment, base, base_hash, mac] = fields.as_slice() else {
            return Err(format!("it does not read {PREFIX}:…"));
        };
        let signed = text
            .strip_suffix(mac)
            .and_then(|text| text.strip_suffix(':'))
            .unwrap_or_default();
        let mut check = self.0.clone();
        check.update(signed.as_bytes());
        check
            .verify_slice(&unhex(mac))
            .map_err(|_| "its signature is not by this key".to_owned())?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
        Ok(Head {
            last: Point {
                sequence: number(sequence)?,
                hash: hash.to_owned(),
            },
            segment: number(segment)?,
            base: Point {
                sequence: number(base)?,
                hash: base_hash.to_owned(),
            },
        })
    }
}

/// Decodes hexadecimal; empty if invalid, which then matches no signature.
fn unhex(text: &str) -> Vec<u8> {
    // Upper-case digits would be a second form of the same signature.
    let bytes = hex::decode(text).ok();
    bytes
        .filter(|bytes| hex::encode(bytes) == text)
        .unwrap_or_default()
}

/// The content of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeadCopy {
    /// A head that was signed with the key.
    Signed(Head),
    /// Anything else.
    Forged(String),
}

/// Reads both slots. `None` if there is no file.
pub(crate) fn read_slots(
    files: &dyn Files,
    folder: &Path,
    signer: &Signer,
) -> io::Result<Option<[HeadCopy; 2]>> {
    let file = match files.open(&folder.join(HEAD), Mode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut slots = [const { HeadCopy::Forged(String::new()) }; 2];
    for (offset, slot) in [0, SLOT_BYTES].into_iter().zip(&mut slots) {
        let mut bytes = [b' '; WRITTEN_BYTES];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        *slot = match std::str::from_utf8(&bytes).map(str::trim) {
            Ok("") => HeadCopy::Forged("it is empty".to_owned()),
            Ok(text) => signer
                .open(text)
                .map_or_else(HeadCopy::Forged, HeadCopy::Signed),
            Err(_) => HeadCopy::Forged("it is not text".to_owned()),
        };
    }
    Ok(Some(slots))
}

/// The newer head of the two, and the index of its slot.
pub(crate) fn newest(slots: &[HeadCopy; 2]) -> Option<(usize, &Head)> {
    slots
        .iter()
        .enumerate()
        .filter_map(|(index, slot)| match slot {
            HeadCopy::Signed(head) => Some((index, head)),
            HeadCopy::Forged(_) => None,
        })
        .max_by_key(|(_, head)| head.age())
}

/// The head's file, open for writing.
#[derive(Debug)]
pub(crate) struct HeadFile {
    file: Box<dyn File>,
    /// The slot to write next: not the one with the newest head.
    next: usize,
}

impl HeadFile {
    /// Opens it; `newest` is the slot that must not be overwritten. Makes what was read of it
    /// durable: a killed host may have written it without syncing.
    pub fn open(files: &dyn Files, folder: &Path, newest: usize) -> io::Result<Self> {
        let mut file = files.open(&folder.join(HEAD), Mode::Write)?;
        file.sync()?;
        Ok(Self {
            file,
            next: 1 - newest.min(1),
        })
    }

    /// Creates a new file with this head in both slots and replaces the old one. Durable when it
    /// returns.
    pub fn create(files: &dyn Files, folder: &Path, text: &str) -> io::Result<Self> {
        let path = folder.join(NEW_HEAD);
        let mut file = files.open(&path, Mode::Create)?;
        let slot = padded(text, usize::try_from(SLOT_BYTES).unwrap_or(WRITTEN_BYTES));
        write_all(&mut *file, &slot, 0)?;
        write_all(&mut *file, &slot, SLOT_BYTES)?;
        file.sync()?;
        files.rename(&path, &folder.join(HEAD))?;
        files.sync_folder(folder)?;
        Ok(Self { file, next: 1 })
    }

    /// Overwrites the older head. Durable when it returns; after an error it is unknown which one
    /// is there, and the file must be created again.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        let offset = if self.next == 0 { 0 } else { SLOT_BYTES };
        write_all(&mut *self.file, &padded(text, WRITTEN_BYTES), offset)?;
        self.file.sync()?;
        self.next = 1 - self.next;
        Ok(())
    }
}

fn padded(text: &str, bytes: usize) -> Vec<u8> {
    let mut slot = text.as_bytes().to_vec();
    slot.resize(bytes.saturating_sub(1), b' ');
    slot.push(b'\n');
    slot
}
