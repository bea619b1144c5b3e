//! The writer: one thread that writes records to the segment, a group at a time.
//!
//! Invariant: a group is written and synced, then the head that signs it is written and synced, and
//! only then do its callers get their reply and the next group begins. So acknowledged records are
//! on disk, and a crash leaves at most one group past the head.
//!
//! When a step fails, the writer returns to the state before the group, and verifies that; if it
//! cannot, it refuses everything from then on ([`AuditError::Poisoned`]).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::anchor::Anchoring;
use crate::error::{AuditError, is_full};
use crate::files::{File, Files, Mode, write_all};
use crate::head::{Head, HeadFile, Signer};
use crate::opening::{Chain, OpenCalls, OpenedState};
use crate::own::{Gap, RecoveredBody, own};
use crate::queue::{Batch, Pending, answer, flushed};
use crate::record::{Draft, Kind, Parsed};
use crate::reserve::Reserve;
use crate::segment::{self, LineEnd, Lines};
use crate::shared::Shared;

/// With more open intents than this, a segment grows instead of carrying them over to the next.
const MAX_CARRIED: usize = 50_000;
/// Maximum wait for callers that are likely to return.
const GATHER_TIMEOUT: Duration = Duration::from_millis(2);
/// How often retention looks for old segments.
pub(crate) const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// Why a group was not recorded.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The disk rejected it. The state is that before the group.
    Refused(AuditError),
    /// The state is unknown.
    Unknown(String),
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct CurrentSegment {
    pub first: u64,
    pub file: Box<dyn File>,
    /// Its length up to its last record.
    pub size: u64,
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub files: Arc<dyn Files>,
    pub folder: PathBuf,
    pub signer: Signer,
    pub shared: Arc<Shared>,
    pub segment_bytes: u64,
    pub keep: Option<Duration>,
    pub head: Head,
    head_file: HeadFile,
    pub current: CurrentSegment,
    pub open: OpenCalls,
    reserve: Reserve,
    gap: Gap,
    anchoring: Option<Anchoring>,
    /// What retention removed and no record reports yet.
    pub removed: Option<Draft>,
    pub retention_due: Instant,
}

/// The parts of a writer besides the files that were found.
#[derive(Debug)]
pub(crate) struct Parts {
    pub files: Arc<dyn Files>,
    pub folder: PathBuf,
    pub signer: Signer,
    pub shared: Arc<Shared>,
    pub segment_bytes: u64,
    pub keep: Option<Duration>,
    pub reserve_bytes: u64,
    pub anchoring: Option<Anchoring>,
}

impl Writer {
    /// Continues where the last run ended: cuts off incomplete data, signs unsigned records, and
    /// records that.
    pub fn resume(parts: Parts, found: &OpenedState) -> Result<Self, AuditError> {
        let Parts {
            files,
            folder,
            signer,
            shared,
            segment_bytes,
            keep,
            reserve_bytes,
            anchoring,
        } = parts;
        let opening = |error| AuditError::files("open the audit segment in", &folder)(error);
        let path = segment::path(&folder, found.segment);
        let mode = if found.segments.contains(&found.segment) {
            Mode::Write
        } else {
            Mode::Create
        };
        let mut file = files.open(&path, mode).map_err(opening)?;
        if found.cut > 0 {
            file.cut(found.size).map_err(opening)?;
        }
        files.sync_folder(&folder).map_err(opening)?;
        let head_file = if found.torn_head.is_some() {
            HeadFile::create(&*files, &folder, &signer.sign(&found.head))
        } else {
            HeadFile::open(&*files, &folder, found.slot)
        };
        let mut reserve = Reserve::find(&*files, &folder, reserve_bytes);
        if let Err(error) = reserve.make(&*files) {
            tracing::warn!(%error, folder = %folder.display(), "no space for the audit's reserve: only halts and reductions are recorded until there is");
        }
        let mut writer = Self {
            head_file: head_file.map_err(AuditError::files("open the audit head in", &folder))?,
            head: found.head.clone(),
            current: CurrentSegment {
                first: found.segment,
                file,
                size: found.size,
            },
            open: found.open.clone(),
            gap: Gap::default(),
            reserve,
            removed: None,
            retention_due: Instant::now(),
            files,
            folder,
            signer,
            shared,
            segment_bytes,
            keep,
            anchoring,
        };
        let signed = writer.head.last.sequence;
        writer.head.last = found.last.clone();
        if found.recovered > 0 || found.cut > 0 || found.torn_head.is_some() {
            writer.mark_recovered(found, signed)?;
        }
        writer.publish();
        Ok(writer)
    }

    /// The record belongs to the group that it reports, so that a crash before the head signs them
    /// leaves a single group again.
    fn mark_recovered(&mut self, found: &OpenedState, signed: u64) -> Result<(), AuditError> {
        let body = RecoveredBody {
            head: signed,
            recovered: found.recovered,
            cut_bytes: found.cut,
            torn_head: found.torn_head.is_some(),
        };
        let draft = own(Kind::Recovered, &body);
        let drafts: Vec<&Draft> = draft.iter().collect();
        let first = self.write(&drafts, signed + 1);
        let result = match first {
            Err(Fault::Refused(AuditError::DiskFull { .. })) => {
                self.reserve.release(&*self.files);
                self.write(&drafts, signed + 1)
            }
            other => other,
        };
        result.map(drop).map_err(|fault| match fault {
            Fault::Refused(error) => error,
            Fault::Unknown(why) => self.poisoned(&why),
        })
    }

    /// Writes until the queue is closed.
    pub fn run(mut self) {
        let mut expected = 0;
        let mut gather = Duration::ZERO;
        loop {
            let batch = self.shared.queue.next(expected, gather);
            let last = batch.last;
            expected = batch.records.len();
            let begun = Instant::now();
            self.commit(batch);
            gather = (begun.elapsed() / 4).min(GATHER_TIMEOUT);
            if last {
                return;
            }
            if Instant::now() >= self.retention_due && self.shared.poison.get().is_none() {
                self.retain();
            }
        }
    }

    /// Records a batch, or tells all callers why not.
    fn commit(&mut self, batch: Batch) {
        self.gap
            .add(batch.dropped, 0, "more reads at once than the buffer holds");
        if let Some(error) = self.shared.poison.get() {
            answer(batch.records, &Err(error.clone()));
            flushed(batch.flushes, &Err(error.clone()));
            return;
        }
        let nothing = batch.notes.is_empty()
            && batch.records.is_empty()
            && self.gap.since.is_none()
            && self.removed.is_none();
        let outcome = if nothing {
            Ok(())
        } else {
            self.commit_all(batch.notes, batch.records)
        };
        flushed(batch.flushes, &outcome);
    }

    fn commit_all(&mut self, notes: Vec<Draft>, records: Vec<Pending>) -> Result<(), AuditError> {
        let error = match self.reserve.make(&*self.files) {
            Ok(()) => {
                let gap = self.gap.draft();
                let removed = self.removed.take();
                let drafts: Vec<&Draft> = (removed.iter())
                    .chain(&gap)
                    .chain(&notes)
                    .chain(records.iter().map(|pending| &pending.draft))
                    .collect();
                let group = self.head.last.sequence + 1;
                match self.write(&drafts, group) {
                    Ok(last) => {
                        self.gap = Gap::default();
                        let first = last + 1 - records.len() as u64;
                        for (sequence, pending) in (first..).zip(records) {
                            let _ = pending.reply.send(Ok(sequence));
                        }
                        return Ok(());
                    }
                    Err(Fault::Refused(error)) => {
                        self.removed = removed;
                        error
                    }
                    Err(Fault::Unknown(why)) => {
                        let error = self.poison(&why);
                        answer(records, &Err(error.clone()));
                        return Err(error);
                    }
                }
            }
            Err(error) => self.refusal(error),
        };
        let (essential, other): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|pending| pending.draft.essential);
        let (must, notes): (Vec<_>, Vec<_>) = notes.into_iter().partition(|draft| draft.essential);
        let why = match error {
            AuditError::DiskFull { .. } => "the disk was full",
            _ => "the disk failed",
        };
        self.gap.add(notes.len() as u64, other.len() as u64, why);
        answer(other, &Err(error.clone()));
        self.commit_essential(&must, essential);
        Err(error)
    }

    /// Records essential entries, in the space of the reserve.
    fn commit_essential(&mut self, notes: &[Draft], records: Vec<Pending>) {
        if notes.is_empty() && records.is_empty() {
            return;
        }
        self.reserve.release(&*self.files);
        let drafts: Vec<&Draft> = notes
            .iter()
            .chain(records.iter().map(|pending| &pending.draft))
            .collect();
        match self.write(&drafts, self.head.last.sequence + 1) {
            Ok(last) => {
                let first = last + 1 - records.len() as u64;
                for (sequence, pending) in (first..).zip(records) {
                    let _ = pending.reply.send(Ok(sequence));
                }
            }
            Err(Fault::Refused(error)) => {
                self.gap.add(
                    notes.len() as u64,
                    0,
                    "there was no space left in the reserve",
                );
                answer(records, &Err(error));
            }
            Err(Fault::Unknown(why)) => {
                let error = self.poison(&why);
                answer(records, &Err(error));
            }
        }
    }

    /// Makes a group and the head that signs it durable. Returns the last sequence number.
    fn write(&mut self, drafts: &[&Draft], group: u64) -> Result<u64, Fault> {
        let bytes: usize = drafts.iter().map(|draft| draft.bytes()).sum();
        let full = self.current.size + bytes as u64 > self.segment_bytes;
        // During recovery, a continued group stays in its segment.
        let whole = group == self.head.last.sequence + 1;
        if full && whole && self.current.size > 0 && self.open.0.len() <= MAX_CARRIED {
            self.rotate()?;
        }
        let carried = if self.current.size == 0 && self.head.last.sequence > 0 {
            own(Kind::Rotated, &self.open.body())
        } else {
            None
        };
        let mut lines = String::with_capacity(bytes);
        let mut last = self.head.last.clone();
        for draft in carried.iter().chain(drafts.iter().copied()) {
            last.sequence += 1;
            last.hash = draft.render(last.sequence, group, &last.hash, &mut lines);
        }
        self.append(&lines)?;
        let head = Head {
            last,
            segment: self.current.first,
            base: self.head.base.clone(),
        };
        self.sign(&head)?;
        let first = self.head.last.sequence + 1;
        for (sequence, draft) in (first..).zip(carried.iter().chain(drafts.iter().copied())) {
            self.open
                .see(draft.kind.word(), draft.call.as_deref(), sequence);
        }
        self.current.size += lines.len() as u64;
        self.head = head;
        self.publish();
        if self.shared.followers.receiver_count() > 0 {
            for line in lines.lines() {
                let _ = self.shared.followers.send(line.into());
            }
        }
        Ok(self.head.last.sequence)
    }

    /// Appends to the segment and syncs it.
    fn append(&mut self, lines: &str) -> Result<(), Fault> {
        let current = &mut self.current;
        let name = segment::name(current.first);
        match current.file.size() {
            Ok(size) if size == current.size => {}
            Ok(size) => {
                return Err(Fault::Unknown(format!(
                    "another program wrote to {name}: it has {size} bytes, and this host wrote {}",
                    current.size
                )));
            }
            Err(error) => return Err(Fault::Unknown(format!("{name} cannot be used: {error}"))),
        }
        if let Err(error) = write_all(&mut *current.file, lines.as_bytes(), current.size) {
            current.file.cut(current.size).map_err(|cut| {
                Fault::Unknown(format!(
                    "writing {name} failed ({error}), and so did undoing it ({cut})"
                ))
            })?;
            return Err(Fault::Refused(self.refusal(error)));
        }
        let Err(error) = current.file.sync() else {
            return Ok(());
        };
        // The system may now consider unwritten data as written. Return to what was durable before.
        self.repair().map_err(|repair| {
            Fault::Unknown(format!(
                "syncing {name} failed ({error}), and its records up to {} could not be read back ({repair})",
                self.head.last.sequence
            ))
        })?;
        Err(Fault::Refused(self.refusal(error)))
    }

    /// Opens the segment again, truncates it to its last durable record, and reads all of it back
    /// from the disk.
    fn repair(&mut self) -> Result<(), String> {
        let words = |error: io::Error| error.to_string();
        let path = segment::path(&self.folder, self.current.first);
        let mut file = self.files.open(&path, Mode::Write).map_err(words)?;
        file.cut(self.current.size).map_err(words)?;
        file.sync().map_err(words)?;
        file.forget().map_err(words)?;
        let mut lines =
            Lines::open(&*self.files, &self.folder, self.current.first).map_err(words)?;
        let mut chain = Chain {
            next: self.current.first,
            prev: None,
        };
        while let Some(ending) = lines.advance().map_err(words)? {
            if ending != LineEnd::Whole {
                return Err(format!("line {} has no end", lines.number));
            }
            let record = Parsed::read(lines.text());
            record
                .and_then(|record| chain.follow(&record))
                .map_err(|why| format!("line {}: {why}", lines.number))?;
        }
        let last = self.current.size == 0 || chain.prev.as_ref() == Some(&self.head.last.hash);
        if !last || lines.end != self.current.size {
            return Err("records are missing at the end".to_owned());
        }
        self.current.file = file;
        Ok(())
    }

    /// Makes a head durable.
    pub fn sign(&mut self, head: &Head) -> Result<(), Fault> {
        let text = self.signer.sign(head);
        let Err(error) = self.head_file.write(&text) else {
            return Ok(());
        };
        // It is unknown which head is on disk; a new file resolves that.
        let mut made = HeadFile::create(&*self.files, &self.folder, &text);
        if made.as_ref().is_err_and(is_full) {
            self.reserve.release(&*self.files);
            made = HeadFile::create(&*self.files, &self.folder, &text);
        }
        self.head_file = made.map_err(|again| {
            Fault::Unknown(format!(
                "writing the head failed ({error}), and so did making a new one ({again})"
            ))
        })?;
        Ok(())
    }

    /// Continues in a new segment.
    fn rotate(&mut self) -> Result<(), Fault> {
        // A truncation that undid a failed write must be durable before anything follows it in
        // another file.
        if let Err(error) = self.current.file.sync() {
            return Err(Fault::Unknown(format!(
                "syncing {} failed ({error})",
                segment::name(self.current.first)
            )));
        }
        let first = self.head.last.sequence + 1;
        let path = segment::path(&self.folder, first);
        let made = self
            .files
            .open(&path, Mode::Create)
            .and_then(|file| self.files.sync_folder(&self.folder).map(|()| file));
        match made {
            Ok(file) => {
                self.current = CurrentSegment {
                    first,
                    file,
                    size: 0,
                };
                self.retention_due = Instant::now();
                Ok(())
            }
            Err(error) => {
                // If an empty segment stays, it is continued after the next start.
                let _ = self.files.remove(&path);
                Err(Fault::Refused(self.refusal(error)))
            }
        }
    }

    fn refusal(&self, error: io::Error) -> AuditError {
        let source = Arc::new(error);
        let folder = self.folder.clone();
        if is_full(&source) {
            AuditError::DiskFull { folder, source }
        } else {
            AuditError::Write { folder, source }
        }
    }

    fn poisoned(&self, why: &str) -> AuditError {
        AuditError::Poisoned {
            folder: self.folder.clone(),
            why: why.into(),
        }
    }

    /// Refuses everything from now on.
    pub fn poison(&self, why: &str) -> AuditError {
        tracing::error!(folder = %self.folder.display(), why, "the audit refuses every further entry");
        let error = self.poisoned(why);
        self.shared.poison.get_or_init(|| error).clone()
    }

    /// Publishes the newest head.
    pub fn publish(&self) {
        let text = self.signer.sign(&self.head);
        if let Some(anchoring) = &self.anchoring {
            anchoring.offer(&text);
        }
        self.shared.set_head(text);
    }
}
