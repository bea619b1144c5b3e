//! The interface of the audit for the rest of the host.
//!
//! Invariant: when [`Audit::record`] returns a sequence number, the record and the signed head that covers it are on
//! disk.

use parking_lot::Mutex;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretSlice;
use serde_json::{Map, Value};
use tokio::sync::{broadcast, oneshot};

use crate::anchor::{Anchor, Anchoring};
use crate::error::AuditError;
use crate::files::Files;
use crate::head::Signer;
use crate::opening;
use crate::queue::Pending;
use crate::record::{Draft, Entry, MAX_BODY};
use crate::shared::Shared;
use crate::writer::{Parts, Writer};

/// How an audit is kept.
pub struct Options {
    /// The folder; created if missing. Only one audit may use it at a time, which the host's lock ensures.
    pub folder: PathBuf,
    /// The host's key, at least 16 bytes. Heads are signed with it.
    pub key: SecretSlice<u8>,
    /// Approximate size of a segment in bytes before the next one is begun.
    pub segment_bytes: u64,
    /// Minimum retention of records; unlimited if `None`.
    pub keep: Option<Duration>,
    /// Bytes reserved for essential entries on a full disk.
    pub reserve_bytes: u64,
    /// Where else heads are written.
    pub anchor: Option<Anchor>,
    /// The files: [`Disk`](crate::Disk), except in tests.
    pub files: Arc<dyn Files>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("folder", &self.folder)
            .field("segment_bytes", &self.segment_bytes)
            .field("keep", &self.keep)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("anchor", &self.anchor)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What was found when an audit was opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Opening {
    /// Records that the last run left past its head: one group, now signed.
    pub recovered: u64,
    /// Bytes of an incomplete line that the last run left; they were cut off.
    pub cut: u64,
    /// The intents without an outcome, oldest first: their fields, with `seq` and `time`.
    pub unsettled: Vec<Map<String, Value>>,
}

/// An open audit. Clones are the same audit; dropping the last one writes pending entries and closes the files.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    files: Arc<dyn Files>,
    folder: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("folder", &self.0.folder)
            .finish_non_exhaustive()
    }
}

impl Audit {
    /// Opens the audit of a folder and repairs what a crash left. `recorded_head` is the head kept elsewhere, if there
    /// is one; it may be older than the folder's own and must lie on its chain.
    ///
    /// Reads files: not for an async thread.
    ///
    /// # Errors
    /// The folder cannot be used, or is in a state that a crash of the host cannot cause.
    pub fn open(
        options: Options,
        recorded_head: Option<&str>,
    ) -> Result<(Self, Opening), AuditError> {
        let Options {
            folder,
            key,
            segment_bytes,
            keep,
            reserve_bytes,
            anchor,
            files,
        } = options;
        let signer = Signer::new(&key)?;
        let found = opening::inspect(&*files, &folder, &signer, recorded_head)?;
        let starting = |error| AuditError::files("start a thread for", &folder)(error);
        let anchoring = anchor.map(Anchoring::start).transpose().map_err(starting)?;
        let shared = Arc::new(Shared::new());
        let writer = Writer::resume(
            Parts {
                files: Arc::clone(&files),
                folder: folder.clone(),
                signer,
                shared: Arc::clone(&shared),
                segment_bytes,
                keep,
                reserve_bytes,
                anchoring,
            },
            &found,
        )?;
        let opening = Opening {
            recovered: found.recovered,
            cut: found.cut,
            unsettled: found.unsettled(&*files, &folder)?,
        };
        let release = ReleaseWaiters(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("qchost-audit".to_owned())
            .spawn(move || {
                let _release = release;
                writer.run();
            })
            .map_err(starting)?;
        let audit = Self(Arc::new(Inner {
            shared,
            files,
            folder,
            thread: Mutex::new(Some(thread)),
        }));
        Ok((audit, opening))
    }

    /// Records an entry soon: with the next group, or within about a second. Never waits. An entry that is too long or
    /// nested too deeply is recorded without the members that make it so. Entries that do not fit into the buffer, or
    /// onto the disk, are counted, and the count is recorded.
    pub fn note(&self, entry: Entry) {
        let drafted = draft(&entry).or_else(|_| draft(&entry.shortened()));
        match drafted {
            Ok(draft) => self.0.shared.queue.note(draft),
            Err(error) => {
                tracing::warn!(%error, kind = entry.kind.word(), "a note was not recorded");
                self.0.shared.queue.drop_note();
            }
        }
    }

    /// Records an entry durably. Returns its sequence number. Dropping the future does not withdraw the entry.
    ///
    /// # Errors
    /// Why it was not recorded.
    pub async fn record(&self, entry: Entry) -> Result<u64, AuditError> {
        let shared = &self.0.shared;
        let draft = draft(&entry)?;
        if let Some(error) = shared.poison.get() {
            return Err(error.clone());
        }
        let share = u32::try_from(draft.bytes() / 1024 + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&shared.room)
            .acquire_many_owned(share)
            .await
            .map_err(|_| AuditError::Closed)?;
        let (pending, answer) = Pending::new(draft, room);
        shared.queue.record(pending)?;
        answer.await.map_err(|_| AuditError::Closed)?
    }

    /// Waits until everything noted and recorded before is durable.
    ///
    /// # Errors
    /// Some of it could not be written.
    pub async fn flush(&self) -> Result<(), AuditError> {
        let (flushed, answer) = oneshot::channel();
        self.0.shared.queue.flush(flushed)?;
        answer.await.map_err(|_| AuditError::Closed)?
    }

    /// The newest durable signed head.
    #[must_use]
    pub fn head(&self) -> String {
        self.0.shared.head()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The file system it uses.
    #[must_use]
    pub fn files(&self) -> &Arc<dyn Files> {
        &self.0.files
    }

    /// The lines from now on, each as soon as it is durable.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<str>> {
        self.0.shared.followers.subscribe()
    }

    /// Writes pending entries, and accepts no more.
    pub async fn close(&self) {
        // An error was logged, and the callers have received it.
        let _ = self.flush().await;
        let inner = Arc::clone(&self.0);
        let _ = tokio::task::spawn_blocking(move || inner.end()).await;
    }
}

impl Inner {
    fn end(&self) {
        self.shared.queue.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

/// However the writer thread ends, waiting callers are released.
struct ReleaseWaiters(Arc<Shared>);

impl Drop for ReleaseWaiters {
    fn drop(&mut self) {
        self.0.queue.abandon();
        self.0.room.close();
    }
}

fn draft(entry: &Entry) -> Result<Draft, AuditError> {
    let draft = Draft::new(entry, Timestamp::now())?;
    let bytes = draft.bytes();
    if bytes > MAX_BODY {
        return Err(AuditError::Unfit(format!(
            "it has {bytes} bytes, and at most {MAX_BODY} fit"
        )));
    }
    Ok(draft)
}
