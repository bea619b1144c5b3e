//! Stores halts in the reserve, in the audit and in the database, until each has them.
//!
//! A dedicated thread writes the reserve, and another one polls the file `halt`, so that both continue while every serving
//! thread is blocked, and the file is seen while the reserve's disk hangs.
//!
//! Invariant: a halt is in force before it is written anywhere, and until its end is written everywhere. Failed writes are
//! retried, and [`ActiveHalt`] reports meanwhile where a halt is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use qchost_audit::{Audit, AuditError, Disk, Files, Kind, Record, read_members};
use qchost_catalog::Backoff;
use qchost_ledger::{Halt, HaltReserve, Ledger, LedgerError};
use qchost_policy::Person;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};
use tokio_util::task::TaskTracker;

use crate::body::HaltBody;
use crate::clock::now;
use crate::error::GateError;
use crate::halt_file::HaltFile;
use crate::halts::{self, ActiveHalt, HaltScope, Halts};
use crate::liquidation::OpenLiquidation;
use crate::reads::HOST;

/// Polling interval of the file `halt`. Any process may create it, and nothing announces that: calls that wait learn of it
/// by this poll only.
const HALT_FILE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a halt waits to learn where it is stored before it is reported.
const KEEP_TIMEOUT: Duration = Duration::from_millis(500);
/// Time limit for reading the database back.
const READ_BACK_TIMEOUT: Duration = Duration::from_millis(300);
const BACKOFF: Backoff = Backoff::exact(Duration::from_millis(500), Duration::from_secs(30));

/// Requests a write of the reserve; answered once it is written.
type Request = oneshot::Sender<Result<(), String>>;

/// Why a halt or a resume failed.
#[derive(Debug, thiserror::Error)]
pub enum HaltError {
    /// An internal error.
    #[error("the host failed in the middle of it; look at `qchost halt --list`, and try again")]
    Failed,
    /// The file `halt` cannot be removed.
    #[error(
        "the halt stays: the file {} cannot be removed: {}; remove it, then: qchost resume",
        .0.display(), .1
    )]
    File(PathBuf, #[source] std::io::Error),
    /// The end of a halt cannot be stored.
    #[error("the halt stays, since its end cannot be stored: {0}")]
    Stays(LedgerError),
    /// The end of a halt cannot be written to the reserve.
    #[error("the halt stays, since its end cannot be stored: {0}")]
    Reserve(String),
    /// The end of a halt cannot be recorded.
    #[error("the halt stays, since its end cannot be recorded: {0}")]
    Unrecorded(AuditError),
}

/// The halts in force, and where they are stored.
pub struct HaltStore {
    pub(crate) halts: Arc<Halts>,
    ledger: Ledger,
    audit: Audit,
    tasks: TaskTracker,
    /// `None` if the state is in memory.
    reserve: Option<Sender<Request>>,
    /// Held while a halt, or its end, is written to the database.
    storing: Mutex<()>,
    /// Held while a halt is written to the audit. A resume takes it first.
    recording: Mutex<()>,
}

/// Writes the reserve, on a thread of its own.
struct ReserveWriter {
    requests: Receiver<Request>,
    reserve: Option<HaltReserve>,
}

/// The halts that are in force after a start, and their reserve.
type Restored = (Halts, Option<HaltReserve>);

/// The halts of former runs: those of the database, of the reserve, and those that only the audit has.
async fn restore(ledger: &Ledger, audit: &Audit, folder: &Path) -> Result<Restored, GateError> {
    let file = HaltFile::new(folder);
    let file = file.map_err(|source| GateError::Folder(folder.to_owned(), source))?;
    let halts = Halts::new(Some(file));
    let after = ledger.halts_recorded().await?.unwrap_or_default();
    let recorded = {
        let (files, folder) = (Arc::clone(audit.files()), audit.folder().to_owned());
        let read = move || qchost_audit::since(&files, &folder, Kind::Halt, after);
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|_| GateError::Failed)??
    };
    let (records, last) = recorded;
    for halt in standing(&records) {
        tracing::warn!(target: "gate", by = halt.by, reason = halt.reason, "a halt is taken from the audit unless the database has it");
        halts.restore(halt, |entry| entry.in_audit = true);
    }
    for halt in ledger.halts().await? {
        halts.restore(halt, |entry| entry.in_database = true);
    }
    let opened = {
        let ledger = ledger.clone();
        let opened = tokio::task::spawn_blocking(move || ledger.halt_reserve()).await;
        opened.map_err(|_| GateError::Failed)?
    };
    let reserve = match opened {
        Ok(Some((reserve, reserved))) => {
            let stored = ledger.halts().await?;
            for halt in reserved.into_iter().filter(|halt| !stored.contains(halt)) {
                halts.restore(halt, |entry| entry.in_reserve = true);
            }
            Some(reserve)
        }
        Ok(None) => None,
        Err(error) => {
            // Its content is unknown, so it may have been a halt of everything.
            tracing::error!(target: "gate", %error, "everything is halted");
            let halt = Halt {
                reason: error.to_string(),
                by: HOST.to_owned(),
                at: now(),
                ..Halt::default()
            };
            halts.restore(halt, |_| {});
            None
        }
    };
    halts.recorded(last);
    if let Some(last) = halts.settled().filter(|last| *last > after)
        && let Err(error) = ledger.set_halts_recorded(last).await
    {
        // The next start reads more of the audit.
        tracing::warn!(target: "gate", %error, "how far the halts of the audit were read is not remembered");
    }
    halts.look_at_file();
    Ok((halts, reserve))
}

/// Halts as stored in a data folder that no host uses.
#[derive(Debug)]
pub struct StoredHalts {
    /// The halts that a host would restore there.
    pub halts: Vec<ActiveHalt>,
    /// The unfinished liquidations that the next host continues.
    pub liquidations: Vec<OpenLiquidation>,
    /// What could not be read; halts stored there are missing.
    pub problems: Vec<String>,
}

/// Reads the halts of a data folder that no host uses from all sources of a start: database, reserve, audit and the file
/// `halt`. Changes nothing and needs no disk space. Blocks on the disk.
#[must_use]
pub fn stored_halts(folder: &Path, database: &Path, audit: &Path) -> StoredHalts {
    let mut problems = Vec::new();
    let file = HaltFile::new(folder);
    let file = file.map_err(|error| problems.push(format!("{}: {error}", folder.display())));
    let halts = Halts::new(file.ok());
    let stored = Ledger::stored_halts(database).unwrap_or_else(|error| {
        problems.push(error.to_string());
        qchost_ledger::StoredHalts::default()
    });
    if audit.is_dir() {
        let files = Arc::new(Disk) as Arc<dyn Files>;
        let after = stored.recorded.unwrap_or_default();
        match qchost_audit::since(&files, audit, Kind::Halt, after) {
            Ok((records, _)) => {
                for halt in standing(&records) {
                    halts.restore(halt, |entry| entry.in_audit = true);
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    for halt in &stored.halts {
        halts.restore(halt.clone(), |entry| entry.in_database = true);
    }
    match HaltReserve::read(folder) {
        Ok(reserved) => {
            for halt in reserved
                .into_iter()
                .filter(|halt| !stored.halts.contains(halt))
            {
                halts.restore(halt, |entry| entry.in_reserve = true);
            }
        }
        Err(error) => problems.push(format!(
            "{error}; a host that starts there halts everything"
        )),
    }
    halts.count_file();
    let open = stored.liquidations.into_iter();
    let open = open.filter_map(|(_, _, entry)| serde_json::from_value(entry).ok());
    StoredHalts {
        liquidations: open
            .filter(|one: &OpenLiquidation| halts.is_set(&one.scope))
            .collect(),
        halts: halts.list(),
        problems,
    }
}

/// The halts that are in force after these records.
fn standing(records: &[Record]) -> Vec<Halt> {
    let mut standing = BTreeMap::new();
    for record in records {
        let body: HaltBody = read_members(&record.fields);
        let scope = (body.account, body.plugin);
        match body.what.as_str() {
            HaltBody::RESUME => drop(standing.remove(&scope)),
            HaltBody::HALT => {
                let (account, plugin) = scope.clone();
                let halt = Halt {
                    account,
                    plugin,
                    reason: body.reason.unwrap_or_default(),
                    by: body.person_name.unwrap_or_else(|| HOST.to_owned()),
                    at: record.time().map_or_else(now, |at| at.as_millisecond()),
                };
                standing.insert(scope, halt);
            }
            _ => {}
        }
    }
    standing.into_values().collect()
}

impl ReserveWriter {
    fn run(mut self, halts: &Halts) {
        while let Ok(reply) = self.requests.recv() {
            let reserved = halts.for_reserve();
            let written = self.write(&reserved);
            if written.is_ok() {
                halts.reserved(&reserved);
            }
            // The requester may have stopped waiting.
            drop(reply.send(written));
        }
    }

    fn write(&mut self, reserved: &[(u64, Halt)]) -> Result<(), String> {
        let Some(reserve) = &mut self.reserve else {
            return Err("there is no reserve for halts".to_owned());
        };
        let halts: Vec<Halt> = reserved.iter().map(|(_, halt)| halt.clone()).collect();
        reserve.write(&halts).map_err(|error| error.to_string())
    }
}

/// Halts everything once the file `halt` is there, and has halts stored that no task is storing, until the store is gone.
fn poll_file(halts: &Halts, store: &Weak<HaltStore>, runtime: &Handle) {
    loop {
        std::thread::sleep(HALT_FILE_POLL_INTERVAL);
        if store.strong_count() == 0 {
            return;
        }
        halts.look_at_file();
        for generation in halts.untended() {
            let Some(store) = store.upgrade() else { return };
            let _entered = runtime.enter();
            store.tend(generation);
        }
    }
}

/// Starts a thread that no serving thread can delay.
fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), LedgerError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(work).map(drop);
    started.map_err(|error| LedgerError::Thread(error.to_string()))
}

impl HaltStore {
    /// Restores the halts of former runs, and starts the threads that write the reserve and poll the file `halt`; they end
    /// with the store.
    ///
    /// # Errors
    /// When ledger or audit cannot be used.
    pub(crate) async fn open(
        ledger: Ledger,
        audit: Audit,
        tasks: TaskTracker,
    ) -> Result<Arc<Self>, GateError> {
        let restored = match ledger.folder() {
            Some(folder) => Some(restore(&ledger, &audit, folder).await?),
            None => None,
        };
        let (sender, requests) = mpsc::channel();
        let is_kept = restored.is_some();
        let (halts, reserve) = restored.unwrap_or_else(|| (Halts::new(None), None));
        let store = Arc::new(Self {
            halts: Arc::new(halts),
            ledger,
            audit,
            tasks,
            reserve: is_kept.then_some(sender),
            storing: Mutex::default(),
            recording: Mutex::default(),
        });
        if is_kept {
            let writer = ReserveWriter { requests, reserve };
            let halts = Arc::clone(&store.halts);
            spawn_thread("qchost-halts", move || writer.run(&halts))?;
            let (halts, weak) = (Arc::clone(&store.halts), Arc::downgrade(&store));
            let runtime = Handle::current();
            spawn_thread("qchost-haltfile", move || {
                poll_file(&halts, &weak, &runtime)
            })?;
        }
        Ok(store)
    }

    /// Has a halt stored everywhere, and retries what fails.
    pub(crate) fn tend(self: &Arc<Self>, generation: u64) {
        let store = Arc::clone(self);
        self.tasks.spawn(async move {
            if store.keep(generation).await {
                return;
            }
            let weak = Arc::downgrade(&store);
            drop(store);
            // Not among the tasks that the gate waits for when it closes: either the reserve or the audit has the halt, or
            // no store accepts it.
            tokio::spawn(async move {
                for failures in 1.. {
                    tokio::time::sleep(BACKOFF.delay(failures)).await;
                    let Some(store) = weak.upgrade() else { return };
                    if store.keep(generation).await {
                        return;
                    }
                }
            });
        });
    }

    /// Stores a halt wherever it is missing. Returns whether nothing is left to do.
    async fn keep(&self, generation: u64) -> bool {
        let durably = async {
            // First, since it needs no space and waits for no other process.
            self.keep_in_reserve(generation).await;
            self.keep_in_database(generation).await;
        };
        tokio::join!(self.keep_in_audit(generation), durably);
        let halts = &self.halts;
        halts.note(generation, |entry| entry.tried = true);
        if let Some(last) = halts.settled()
            && let Err(error) = self.ledger.set_halts_recorded(last).await
        {
            tracing::warn!(target: "gate", %error, "how far the halts of the audit were read is not remembered");
        }
        halts
            .entry(generation)
            .is_none_or(|entry| entry.is_settled())
    }

    async fn keep_in_reserve(&self, generation: u64) {
        let halts = &self.halts;
        let wanted = |entry: &halts::Entry| !entry.in_database && !entry.in_reserve;
        if !halts.entry(generation).as_ref().is_some_and(wanted) {
            return;
        }
        let error = self.write_reserve().await.err();
        halts.note(generation, |entry| entry.reserve_error = error);
    }

    /// Writes the current halts to the reserve. Succeeds if there is no reserve.
    async fn write_reserve(&self) -> Result<(), String> {
        let Some(sender) = &self.reserve else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        let gone = || "the thread that writes the reserve is gone".to_owned();
        sender.send(reply).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn keep_in_audit(&self, generation: u64) {
        let halts = &self.halts;
        let _recording = self.recording.lock().await;
        let Some(body) = halts.entry(generation).and_then(|entry| entry.record) else {
            return;
        };
        let recorded = self.audit.record(body.entry()).await;
        if let Ok(sequence) = &recorded {
            halts.recorded(*sequence);
        }
        halts.note(generation, |entry| match recorded {
            Ok(_) => {
                entry.in_audit = true;
                entry.record = None;
                entry.audit_error = None;
            }
            Err(error) => entry.audit_error = Some(error.to_string()),
        });
    }

    async fn keep_in_database(&self, generation: u64) {
        let halts = &self.halts;
        let _storing = self.storing.lock().await;
        let Some(entry) = halts.entry(generation).filter(|entry| !entry.in_database) else {
            return;
        };
        let stored = self.ledger.halt(entry.halt).await;
        halts.note(generation, |entry| match &stored {
            Ok(()) => {
                entry.in_database = true;
                entry.database_error = None;
                entry.reserve_error = None;
            }
            Err(error) => entry.database_error = Some(error.to_string()),
        });
        if stored.is_ok() && entry.in_reserve {
            // It may stay in the reserve: ending the halt removes it there too.
            drop(self.write_reserve().await);
        }
    }

    /// Waits until a halt is stored everywhere, or every store was tried, or for a short time.
    pub(crate) async fn kept(&self, generation: u64) {
        let halts = &self.halts;
        let done = || {
            let entry = halts.entry(generation);
            let done = entry.is_none_or(|entry| entry.is_settled() || entry.tried);
            done.then_some(())
        };
        drop(tokio::time::timeout(KEEP_TIMEOUT, halts.until(done)).await);
    }

    /// The halts in force.
    #[must_use]
    pub fn list(&self) -> Vec<ActiveHalt> {
        self.halts.list()
    }

    /// The halts in force, each with where it is kept, verified by reading them back.
    pub async fn active_halts(&self) -> Vec<ActiveHalt> {
        let halts = &self.halts;
        halts.look_at_file();
        let said = halts.in_database();
        let read = tokio::time::timeout(READ_BACK_TIMEOUT, self.ledger.halts()).await;
        if let Ok(Ok(stored)) = read {
            halts.read_back(&said, &stored);
        }
        halts.list()
    }

    /// Ends the halt of exactly this scope in every store; for a halt of everything, removes the file `halt` first. Returns
    /// whether there was such a halt.
    pub(crate) async fn lift(
        self: &Arc<Self>,
        by: &Person,
        scope: &HaltScope,
    ) -> Result<bool, HaltError> {
        let halts = &self.halts;
        let _recording = self.recording.lock().await;
        let _storing = self.storing.lock().await;
        if *scope == HaltScope::default()
            && let Some(file) = halts.file()
        {
            // So that a halt by the file is recorded as a halt too.
            halts.look_at_file();
            let removed = file.remove();
            removed.map_err(|source| HaltError::File(file.path().to_owned(), source))?;
        }
        let Some(entry) = halts.begin_lifting(scope) else {
            return Ok(false);
        };
        let ended = self.end(by, scope, &entry).await;
        match ended {
            Ok(()) => {
                halts.lift(entry.generation);
                if let Some(last) = halts.settled() {
                    // On failure, the next start reads more of the audit.
                    drop(self.ledger.set_halts_recorded(last).await);
                }
                Ok(true)
            }
            Err(error) => {
                // It may have been removed from some stores already; it is written to them again.
                halts.note(entry.generation, |entry| {
                    entry.lifting = false;
                    entry.in_database = false;
                    entry.in_reserve = false;
                });
                self.tend(entry.generation);
                Err(error)
            }
        }
    }

    async fn end(
        &self,
        by: &Person,
        scope: &HaltScope,
        entry: &halts::Entry,
    ) -> Result<(), HaltError> {
        let ledger = &self.ledger;
        ledger
            .resume(scope.account.as_deref(), scope.plugin.as_deref())
            .await
            .map_err(HaltError::Stays)?;
        if let Err(error) = self.write_reserve().await
            && entry.in_reserve
        {
            return Err(HaltError::Reserve(error));
        }
        let body = HaltBody {
            what: HaltBody::RESUME.to_owned(),
            account: scope.account.clone(),
            plugin: scope.plugin.clone(),
            person: Some(by.uid),
            person_name: Some(by.name.clone()),
            ..HaltBody::default()
        };
        let sequence = self.audit.record(body.entry()).await;
        self.halts
            .recorded(sequence.map_err(HaltError::Unrecorded)?);
        Ok(())
    }
}
