//! Stores halts in the reserve, in the audit and in the database, until each has them.
//!
//! A dedicated thread writes the reserve and polls the file `halt`, so that both continue while every serving thread is
//! blocked.
//!
//! Invariant: a halt is in force before it is written anywhere, and until its end is written everywhere. Failed writes are
//! retried, and [`StandingHalt`] reports meanwhile where a halt is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use qchost_audit::{Audit, Disk, Entry, Files, Kind, Record};
use qchost_ledger::{Halt, HaltReserve, Ledger, LedgerError};
use qchost_policy::Person;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

use crate::closing::OpenLiquidation;
use crate::gate::{Gate, GateError, Inner};
use crate::halt_file::HaltFile;
use crate::halts::{HaltScope, Halts, StandingHalt};
use crate::liquidation::{HaltError, admin_body};

/// Polling interval of the file `halt` while nothing is sent.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a halt waits to learn where it is stored before it is reported.
const KEEP_TIMEOUT: Duration = Duration::from_millis(500);
/// Time limit for reading the database back.
const READ_BACK_TIMEOUT: Duration = Duration::from_millis(300);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// The host itself as a person in records.
const HOST: &str = "qchost";

/// Requests a write of the reserve; answered once it is written.
type Request = oneshot::Sender<Result<(), String>>;

/// Access to the stores of halts.
pub(crate) struct Keeping {
    /// `None` if the state is in memory.
    reserve: Option<Sender<Request>>,
    /// Held while a halt, or its end, is written to the database.
    storing: Mutex<()>,
    /// Held while a halt is written to the audit. A resume takes it first.
    recording: Mutex<()>,
}

/// The part that starts once the gate exists.
pub(crate) struct Keeper {
    requests: Receiver<Request>,
    reserve: Option<HaltReserve>,
}

/// The halts of former runs: those of the database, of the reserve, and those that only the audit has.
pub(crate) async fn restore(
    ledger: &Ledger,
    audit: &Audit,
) -> Result<(Halts, Keeping, Option<Keeper>), GateError> {
    let mut keeping = Keeping {
        reserve: None,
        storing: Mutex::default(),
        recording: Mutex::default(),
    };
    let Some(folder) = ledger.folder() else {
        return Ok((Halts::new(None), keeping, None));
    };
    let file = HaltFile::new(folder).map_err(|source| GateError::Folder {
        path: folder.to_owned(),
        source,
    })?;
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
        Ok(Some((reserve, held))) => {
            let stored = ledger.halts().await?;
            for halt in held.into_iter().filter(|halt| !stored.contains(halt)) {
                halts.restore(halt, |entry| entry.in_reserve = true);
            }
            Some(reserve)
        }
        Ok(None) => None,
        Err(error) => {
            // Its content is unknown, so it may have been a halt of everything.
            tracing::error!(target: "gate", %error, "everything is halted");
            let halt = Halt {
                account: None,
                plugin: None,
                reason: error.to_string(),
                by: HOST.to_owned(),
                at: crate::gate::now(),
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
    let (sender, requests) = mpsc::channel();
    keeping.reserve = Some(sender);
    Ok((halts, keeping, Some(Keeper { requests, reserve })))
}

/// Halts as stored in a data folder that no host uses.
#[derive(Debug)]
pub struct StoredHalts {
    /// The halts that a host would restore there.
    pub halts: Vec<StandingHalt>,
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
        Ok(held) => {
            for halt in held.into_iter().filter(|halt| !stored.halts.contains(halt)) {
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
        let text = |name: &str| record.text(name).map(str::to_owned);
        let scope = (text("account"), text("plugin"));
        match record.text("what") {
            Some("resume") => drop(standing.remove(&scope)),
            Some("halt") => {
                let (account, plugin) = scope.clone();
                let halt = Halt {
                    account,
                    plugin,
                    reason: text("reason").unwrap_or_default(),
                    by: text("person-name").unwrap_or_else(|| HOST.to_owned()),
                    at: record
                        .time()
                        .map_or_else(crate::gate::now, |at| at.as_millisecond()),
                };
                standing.insert(scope, halt);
            }
            _ => {}
        }
    }
    standing.into_values().collect()
}

impl Keeper {
    /// Starts the thread, which ends with the gate.
    pub(crate) fn start(self, gate: &Gate) -> Result<(), LedgerError> {
        let halts = Arc::clone(&gate.0.halts);
        let (weak, runtime) = (Arc::downgrade(&gate.0), Handle::current());
        let thread = std::thread::Builder::new().name("qchost-halts".to_owned());
        let started = thread.spawn(move || self.run(&halts, &weak, &runtime));
        started
            .map(drop)
            .map_err(|error| LedgerError::Thread(error.to_string()))
    }

    fn run(mut self, halts: &Halts, gate: &Weak<Inner>, runtime: &Handle) {
        loop {
            match self.requests.recv_timeout(LOOK_INTERVAL) {
                Ok(reply) => {
                    let held = halts.for_reserve();
                    let written = self.write(&held);
                    if written.is_ok() {
                        halts.reserved(&held);
                    }
                    // The requester may have stopped waiting.
                    drop(reply.send(written));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            halts.look_at_file();
            for generation in halts.untended() {
                let Some(inner) = gate.upgrade() else { return };
                let _entered = runtime.enter();
                Gate(inner).tend(generation);
            }
        }
    }

    fn write(&mut self, held: &[(u64, Halt)]) -> Result<(), String> {
        let Some(reserve) = &mut self.reserve else {
            return Err("there is no reserve for halts".to_owned());
        };
        let halts: Vec<Halt> = held.iter().map(|(_, halt)| halt.clone()).collect();
        reserve.write(&halts).map_err(|error| error.to_string())
    }
}

impl Gate {
    /// Has a halt stored everywhere, and retries what fails.
    pub(crate) fn tend(&self, generation: u64) {
        let gate = self.clone();
        self.spawn(async move {
            if gate.keep(generation).await {
                return;
            }
            let weak = Arc::downgrade(&gate.0);
            drop(gate);
            // Not among the tasks that the gate waits for when it closes: either the reserve or the audit has the halt, or
            // no store accepts it.
            tokio::spawn(async move {
                let mut pause = FIRST_RETRY;
                loop {
                    tokio::time::sleep(pause).await;
                    let Some(inner) = weak.upgrade() else { return };
                    if Self(inner).keep(generation).await {
                        return;
                    }
                    pause = (pause * 2).min(LONGEST_RETRY);
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
        let halts = &self.0.halts;
        halts.note(generation, |entry| entry.tried = true);
        if let Some(last) = halts.settled()
            && let Err(error) = self.0.ledger.set_halts_recorded(last).await
        {
            tracing::warn!(target: "gate", %error, "how far the halts of the audit were read is not remembered");
        }
        halts
            .entry(generation)
            .is_none_or(|entry| entry.is_settled())
    }

    async fn keep_in_reserve(&self, generation: u64) {
        let halts = &self.0.halts;
        let wanted = |entry: &crate::halts::Entry| !entry.in_database && !entry.in_reserve;
        if !halts.entry(generation).as_ref().is_some_and(wanted) {
            return;
        }
        let error = self.write_reserve().await.err();
        halts.note(generation, |entry| entry.reserve_error = error);
    }

    /// Writes the current halts to the reserve. Succeeds if there is no reserve.
    async fn write_reserve(&self) -> Result<(), String> {
        let Some(sender) = &self.0.keeping.reserve else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        let gone = || "the thread that writes the reserve is gone".to_owned();
        sender.send(reply).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn keep_in_audit(&self, generation: u64) {
        let halts = &self.0.halts;
        let _recording = self.0.keeping.recording.lock().await;
        let Some(body) = halts.entry(generation).and_then(|entry| entry.record) else {
            return;
        };
        let entry = Entry {
            kind: Kind::Halt,
            essential: true,
            body,
        };
        let recorded = self.0.audit.record(entry).await;
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
        let halts = &self.0.halts;
        let _storing = self.0.keeping.storing.lock().await;
        let Some(entry) = halts.entry(generation).filter(|entry| !entry.in_database) else {
            return;
        };
        let stored = self.0.ledger.halt(entry.halt).await;
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
        let halts = &self.0.halts;
        let mut changes = halts.changes();
        let done = async {
            while halts
                .entry(generation)
                .is_some_and(|entry| !entry.is_settled() && !entry.tried)
            {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        drop(tokio::time::timeout(KEEP_TIMEOUT, done).await);
    }

    /// The halts in force, each with where it is kept, verified by reading them back.
    pub async fn standing_halts(&self) -> Vec<StandingHalt> {
        let halts = &self.0.halts;
        halts.look_at_file();
        let said = halts.in_database();
        let read = tokio::time::timeout(READ_BACK_TIMEOUT, self.0.ledger.halts()).await;
        if let Ok(Ok(stored)) = read {
            halts.read_back(&said, &stored);
        }
        halts.list()
    }

    /// Ends the halt of exactly this scope in every store; for a halt of everything, removes the file `halt` first. Returns
    /// whether there was such a halt.
    pub(crate) async fn lift(&self, by: &Person, scope: &HaltScope) -> Result<bool, HaltError> {
        let halts = &self.0.halts;
        let _recording = self.0.keeping.recording.lock().await;
        let _storing = self.0.keeping.storing.lock().await;
        if *scope == HaltScope::default()
            && let Some(file) = halts.file()
        {
            // So that a halt by the file is recorded as a halt too.
            halts.look_at_file();
            file.remove().map_err(|source| HaltError::File {
                path: file.path().to_owned(),
                source,
            })?;
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
                    drop(self.0.ledger.set_halts_recorded(last).await);
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
        entry: &crate::halts::Entry,
    ) -> Result<(), HaltError> {
        let ledger = &self.0.ledger;
        ledger
            .resume(scope.account.as_deref(), scope.plugin.as_deref())
            .await
            .map_err(HaltError::Stays)?;
        if let Err(error) = self.write_reserve().await
            && entry.in_reserve
        {
            return Err(HaltError::Reserve(error));
        }
        let body = json!({ "what": "resume", "account": scope.account, "plugin": scope.plugin });
        let record = Entry {
            kind: Kind::Halt,
            essential: true,
            body: admin_body(by, body),
        };
        let sequence = self.0.audit.record(record).await;
        self.0
            .halts
            .recorded(sequence.map_err(HaltError::Unrecorded)?);
        Ok(())
    }
}
