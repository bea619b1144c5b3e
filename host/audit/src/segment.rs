//! Segments: the files that hold the records, and reading them line by line.
//!
//! A segment is named by the sequence number of its first record, in twenty digits, so that names
//! sort like records. Reading keeps one line in memory at a time, and the length of a line is
//! limited.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::AuditError;
use crate::files::{File, Files, Mode};
use crate::record::Parsed;

/// Maximum bytes of a line. The audit's own longest is a `rotated` record.
pub(crate) const MAX_LINE: u64 = 8 * 1024 * 1024;

const EXTENSION: &str = ".jsonl";

/// The file name of the segment that begins with a record.
pub(crate) fn name(first: u64) -> String {
    format!("{first:020}{EXTENSION}")
}

pub(crate) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(name(first))
}

/// The segments of a folder, by the sequence number of their first record, in order.
pub(crate) fn list(files: &dyn Files, folder: &Path) -> io::Result<Vec<u64>> {
    let mut segments: Vec<u64> = files
        .list(folder)?
        .iter()
        .filter_map(|file| {
            let first = file.strip_suffix(EXTENSION)?.parse().ok()?;
            (*file == name(first)).then_some(first)
        })
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The segment with a record, if there is one.
pub(crate) fn holding(segments: &[u64], sequence: u64) -> Option<u64> {
    let after = segments.partition_point(|first| *first <= sequence);
    segments.get(after.checked_sub(1)?).copied()
}

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// With a newline.
    Whole,
    /// With the file.
    Torn,
    /// It was too long, and its text was dropped.
    Long,
}

/// The lines of a segment.
#[derive(Debug)]
pub(crate) struct Lines {
    reader: BufReader<FileReader>,
    text: Vec<u8>,
    /// Offset of the line in bytes.
    pub start: u64,
    /// Offset of its end, including the newline.
    pub end: u64,
    /// The line number, from 1.
    pub number: u64,
}

impl Lines {
    pub fn new(file: Box<dyn File>) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, FileReader { file, offset: 0 }),
            text: Vec::new(),
            start: 0,
            end: 0,
            number: 0,
        }
    }

    pub fn open(files: &dyn Files, folder: &Path, first: u64) -> io::Result<Self> {
        Ok(Self::new(files.open(&path(folder, first), Mode::Read)?))
    }

    /// Advances to the next line; `None` at the end of the file.
    pub fn advance(&mut self) -> io::Result<Option<LineEnd>> {
        self.text.clear();
        self.start = self.end;
        let read = (&mut self.reader)
            .take(MAX_LINE)
            .read_until(b'\n', &mut self.text)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.end += read as u64;
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
            return Ok(Some(LineEnd::Whole));
        }
        if (read as u64) < MAX_LINE {
            return Ok(Some(LineEnd::Torn));
        }
        self.text.clear();
        self.text.shrink_to_fit();
        loop {
            let buffer = self.reader.fill_buf()?;
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let skipped = newline.map_or(buffer.len(), |newline| newline + 1);
            self.reader.consume(skipped);
            self.end += skipped as u64;
            if newline.is_some() || skipped == 0 {
                return Ok(Some(LineEnd::Long));
            }
        }
    }

    /// The line's text without its newline.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

#[derive(Debug)]
struct FileReader {
    file: Box<dyn File>,
    offset: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The last complete record of a segment, without reading the rest. `None` if there is none.
pub(crate) fn last(
    files: &dyn Files,
    folder: &Path,
    first: u64,
) -> io::Result<Option<Result<Parsed, String>>> {
    let file = files.open(&path(folder, first), Mode::Read)?;
    let size = file.size()?;
    let mut window = 16 * 1024;
    loop {
        let start = size.saturating_sub(window);
        let mut bytes = Vec::new();
        FileReader {
            file: files.open(&path(folder, first), Mode::Read)?,
            offset: start,
        }
        .take(size - start)
        .read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let lines = bytes.get(..whole.unwrap_or_default()).unwrap_or_default();
        let begin = lines.iter().rposition(|byte| *byte == b'\n');
        let line = match begin {
            Some(begin) => lines.get(begin + 1..),
            None if start == 0 => Some(lines),
            None => None,
        };
        match line {
            Some([]) => return Ok(None),
            Some(line) => return Ok(Some(Parsed::read(line))),
            None if window > MAX_LINE => return Ok(Some(Err("it is too long".to_owned()))),
            None => window *= 2,
        }
    }
}

/// A record that was looked up: its hash and all its fields.
pub(crate) struct Record {
    pub hash: String,
    pub fields: Map<String, Value>,
}

/// Reads individual records, each segment once. Missing ones are omitted.
pub(crate) fn look_up(
    files: &dyn Files,
    folder: &Path,
    segments: &[u64],
    wanted: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, Record>, AuditError> {
    let mut of_segment: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for sequence in wanted {
        if let Some(first) = holding(segments, *sequence) {
            of_segment.entry(first).or_default().insert(*sequence);
        }
    }
    let mut found = BTreeMap::new();
    for (first, mut wanted) in of_segment {
        let read = |error| AuditError::files("read", &path(folder, first))(error);
        let mut lines = Lines::open(files, folder, first).map_err(read)?;
        while !wanted.is_empty() && lines.advance().map_err(read)?.is_some() {
            let Ok(record) = Parsed::read(lines.text()) else {
                continue;
            };
            if wanted.remove(&record.sequence)
                && record.intact()
                && let Ok(fields) = serde_json::from_slice(lines.text())
            {
                let hash = record.hash;
                found.insert(record.sequence, Record { hash, fields });
            }
        }
    }
    Ok(found)
}
