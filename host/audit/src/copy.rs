//! A copy of an audit in use: everything up to one signed head, and nothing beyond.
//!
//! Invariant: the head is taken before the segments are read. So each record that it covers is in
//! the copy, and the copy opens like an audit that was closed at that head.

use std::path::Path;

use crate::audit::Audit;
use crate::error::AuditError;
use crate::files::{File, Files, Mode, write_all};
use crate::head::HeadFile;
use crate::segment;

impl Audit {
    /// Makes durable what was noted and recorded before, and returns the signed head that covers it.
    ///
    /// # Errors
    /// When some of it cannot be written.
    pub async fn mark(&self) -> Result<String, AuditError> {
        self.flush().await?;
        Ok(self.head())
    }

    /// Copies what a head of this audit covers into a folder, which it creates.
    ///
    /// # Errors
    /// When something cannot be read or written, or `head` is not a valid head.
    pub async fn copy_to(&self, folder: &Path, head: &str) -> Result<(), AuditError> {
        let (audit, folder, head) = (self.clone(), folder.to_owned(), head.to_owned());
        let copying = tokio::task::spawn_blocking(move || {
            copy(&**audit.files(), audit.folder(), &folder, &head)
        });
        copying.await.unwrap_or(Err(AuditError::Closed))
    }
}

fn copy(files: &dyn Files, from: &Path, to: &Path, head: &str) -> Result<(), AuditError> {
    let field = |at: usize| head.split(':').nth(at).and_then(|text| text.parse().ok());
    let (Some(last), Some(newest)) = (field(1), field(3)) else {
        return Err(AuditError::Since(
            "the audit's own head cannot be read".to_owned(),
        ));
    };
    files
        .create_folder(to)
        .map_err(AuditError::files("make the folder", to))?;
    let segments =
        segment::list(files, from).map_err(AuditError::files("read the audit folder", from))?;
    for first in segments.into_iter().filter(|first| *first <= newest) {
        copy_segment(files, from, to, first, last)?;
    }
    let created = HeadFile::create(files, to, head);
    created.map_err(AuditError::files("write the head in", to))?;
    files
        .sync_folder(to)
        .map_err(AuditError::files("sync the folder", to))
}

/// Copies the records of a segment up to a sequence.
fn copy_segment(
    files: &dyn Files,
    from: &Path,
    to: &Path,
    first: u64,
    last: u64,
) -> Result<(), AuditError> {
    let (source, target) = (segment::path(from, first), segment::path(to, first));
    let reading = |error| AuditError::files("read", &source)(error);
    let writing = |error| AuditError::files("write", &target)(error);
    let mut lines = segment::Lines::open(files, from, first).map_err(reading)?;
    let mut copy: Box<dyn File> = files.open(&target, Mode::Create).map_err(writing)?;
    // Sequence numbers have no gaps, so the line number identifies the record. Before the first
    // record the head is at 0, and there is nothing to copy.
    let count = last.saturating_add(1).saturating_sub(first);
    while lines.number < count && lines.advance().map_err(reading)? == Some(segment::LineEnd::Whole)
    {
        let mut line = lines.text().to_vec();
        line.push(b'\n');
        write_all(&mut *copy, &line, lines.start).map_err(writing)?;
    }
    copy.sync().map_err(writing)
}
