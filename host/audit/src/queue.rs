//! The queue of the writer. Callers add entries without waiting for a disk; the writer takes one
//! batch at a time.
//!
//! Everything is bounded: notes by [`MAX_NOTES`], beyond which they are dropped and counted, and
//! records by the permits that their callers acquired before.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::AuditError;
use crate::record::Draft;

/// Maximum bytes of queued notes.
const MAX_NOTES: usize = 4 * 1024 * 1024;
/// The same limit for essential notes, so that others never take their room.
const MAX_ESSENTIAL_NOTES: usize = 4 * MAX_NOTES;
/// Maximum bytes of callers' records in one batch.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
const MAX_BATCH_RECORDS: usize = 1024;
/// How long a note waits for others.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the writer does maintenance when idle.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// A record whose caller waits until it is durable.
#[derive(Debug)]
pub(crate) struct Pending {
    pub draft: Draft,
    pub reply: oneshot::Sender<Result<u64, AuditError>>,
    /// The caller's share of the queue, released when this is dropped.
    _room: OwnedSemaphorePermit,
}

impl Pending {
    pub fn new(
        draft: Draft,
        room: OwnedSemaphorePermit,
    ) -> (Self, oneshot::Receiver<Result<u64, AuditError>>) {
        let (reply, answer) = oneshot::channel();
        let pending = Self {
            draft,
            reply,
            _room: room,
        };
        (pending, answer)
    }
}

pub(crate) type Flushed = oneshot::Sender<Result<(), AuditError>>;

/// One batch for the writer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub notes: Vec<Draft>,
    pub records: Vec<Pending>,
    pub flushes: Vec<Flushed>,
    /// Number of notes dropped for lack of room.
    pub dropped: u64,
    /// Nothing will follow.
    pub last: bool,
}

#[derive(Debug, Default)]
struct QueueState {
    notes: Vec<Draft>,
    notes_bytes: usize,
    oldest_note: Option<Instant>,
    dropped: u64,
    records: VecDeque<Pending>,
    flushes: Vec<Flushed>,
    closed: bool,
    /// Number of records the writer waits for.
    wanted: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<QueueState>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.waiting.lock()
    }

    /// Adds a note, or counts it as dropped. Essential notes have room reserved.
    pub fn note(&self, draft: Draft) {
        let mut waiting = self.lock();
        let bytes = draft.bytes();
        let limit = if draft.essential {
            MAX_ESSENTIAL_NOTES
        } else {
            MAX_NOTES
        };
        let full = waiting.notes_bytes + bytes > limit;
        if waiting.closed || full {
            waiting.dropped += 1;
            return;
        }
        waiting.notes.push(draft);
        waiting.notes_bytes += bytes;
        if waiting.oldest_note.is_none() {
            waiting.oldest_note = Some(Instant::now());
            self.changed.notify_one();
        } else if waiting.notes_bytes > MAX_NOTES / 2 {
            self.changed.notify_one();
        }
    }

    /// Counts a note that could not be serialized.
    pub fn drop_note(&self) {
        self.lock().dropped += 1;
    }

    /// Adds a record.
    pub fn record(&self, pending: Pending) -> Result<(), AuditError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(AuditError::Closed);
        }
        waiting.records.push_back(pending);
        if waiting.records.len() >= waiting.wanted {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Requests a reply when everything added before is durable.
    pub fn flush(&self, flushed: Flushed) -> Result<(), AuditError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(AuditError::Closed);
        }
        waiting.flushes.push(flushed);
        self.changed.notify_one();
        Ok(())
    }

    /// Accepts no more entries.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Ends permanently: waiting callers learn that their entries were not recorded.
    pub fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.records.clear();
        waiting.flushes.clear();
    }

    /// Waits briefly for something to write. If the last batch had many records, the same callers
    /// are likely to return at once: it waits for `expected` of them, up to `gather`, so that they
    /// share one sync instead of alternating in two halves.
    pub fn next(&self, expected: usize, gather: Duration) -> Batch {
        let mut waiting = self.lock();
        let idle = Instant::now() + IDLE_INTERVAL;
        loop {
            let now = Instant::now();
            let due = waiting
                .oldest_note
                .map_or(idle, |oldest| oldest + NOTE_INTERVAL);
            let urgent = waiting.closed
                || !waiting.records.is_empty()
                || !waiting.flushes.is_empty()
                || waiting.notes_bytes > MAX_NOTES / 2;
            if urgent || now >= due || now >= idle {
                break;
            }
            let left = due.min(idle) - now;
            waiting.wanted = 1;
            self.changed.wait_for(&mut waiting, left);
        }
        let until = Instant::now() + gather;
        let expected = expected.min(MAX_BATCH_RECORDS);
        while !waiting.closed && !waiting.records.is_empty() && waiting.records.len() < expected {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting.wanted = expected;
            self.changed.wait_for(&mut waiting, left);
        }
        waiting.take()
    }
}

impl QueueState {
    fn take(&mut self) -> Batch {
        let mut batch = Batch {
            notes: std::mem::take(&mut self.notes),
            dropped: std::mem::take(&mut self.dropped),
            ..Batch::default()
        };
        self.notes_bytes = 0;
        self.oldest_note = None;
        let mut bytes = 0;
        while bytes < MAX_BATCH_BYTES && batch.records.len() < MAX_BATCH_RECORDS {
            let Some(pending) = self.records.pop_front() else {
                break;
            };
            bytes += pending.draft.bytes();
            batch.records.push(pending);
        }
        // A flush covers the records that were added before it, so it waits for all of them.
        if self.records.is_empty() {
            batch.flushes = std::mem::take(&mut self.flushes);
            batch.last = self.closed;
        }
        batch
    }
}

/// Replies to the callers of records with a common result.
pub(crate) fn answer(records: Vec<Pending>, result: &Result<u64, AuditError>) {
    for pending in records {
        let _ = pending.reply.send(result.clone());
    }
}

/// Replies to the callers of a flush.
pub(crate) fn flushed(flushes: Vec<Flushed>, result: &Result<(), AuditError>) {
    for flush in flushes {
        let _ = flush.send(result.clone());
    }
}
