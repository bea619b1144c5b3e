//! Halts: what an operator stopped, where each halt is kept, and which calls were already past the point of no return.
//!
//! Invariant: a call departs under the same lock under which a halt is set. So each call either departed before the
//! halt, and the halt lists it, or its bytes never reach the transport. The file `halt` of the data folder is checked
//! under that lock too, before each departure.

use std::collections::HashMap;

use parking_lot::Mutex;
use qchost_catalog::Failure;
use qchost_ledger::Halt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::HaltBody;
use crate::call::CallRequest;
use crate::change_signal::ChangeSignal;
use crate::clock::now;
use crate::halt_file::HaltFile;

/// The scope of a halt. Without account and plugin: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HaltScope {
    /// One account.
    pub account: Option<String>,
    /// One plugin.
    pub plugin: Option<String>,
}

impl HaltScope {
    fn covers(&self, account: &str, plugin: &str) -> bool {
        covers(self.account.as_deref(), account) && covers(self.plugin.as_deref(), plugin)
    }
}

fn same_scope(halt: &Halt, scope: &HaltScope) -> bool {
    halt.account == scope.account && halt.plugin == scope.plugin
}

/// Where a halt is kept, from the most to the least durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HaltStorage {
    /// In the database.
    Database,
    /// In the reserve file, since the database does not accept it; storing it is retried.
    Reserve,
    /// In the audit only; the next start restores it from there.
    Audit,
    /// By the file `halt` only; each start reads it.
    File,
    /// In this process only: the halt ends with it.
    Memory,
}

/// A halt that is in force.
#[derive(Debug, Clone, Serialize)]
pub struct ActiveHalt {
    /// The halt.
    #[serde(flatten)]
    pub halt: Halt,
    /// Where it is kept.
    pub kept: HaltStorage,
    /// Whether the file `halt` is in the data folder and halts everything as well.
    pub file: bool,
    /// What failed when it was stored.
    pub trouble: Option<String>,
}

/// A halt in force, with its storage state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub halt: Halt,
    /// Distinguishes it from a later halt of the same scope.
    pub generation: u64,
    pub in_database: bool,
    pub in_reserve: bool,
    pub in_audit: bool,
    /// Its audit record, until it is written.
    pub record: Option<HaltBody>,
    /// Whether a task is storing it.
    pub tended: bool,
    /// Whether it is being ended; it stays in force until that is complete.
    pub lifting: bool,
    /// Whether storing it was attempted everywhere; the failures are kept here.
    pub tried: bool,
    pub database_error: Option<String>,
    pub reserve_error: Option<String>,
    pub audit_error: Option<String>,
}

impl Entry {
    fn kept(&self) -> HaltStorage {
        match self {
            Self {
                in_database: true, ..
            } => HaltStorage::Database,
            Self {
                in_reserve: true, ..
            } => HaltStorage::Reserve,
            Self { in_audit: true, .. } => HaltStorage::Audit,
            _ => HaltStorage::Memory,
        }
    }

    /// Whether both database and audit have it.
    pub fn is_settled(&self) -> bool {
        self.in_database && self.record.is_none()
    }

    fn trouble(&self) -> Option<String> {
        let errors = [&self.database_error, &self.reserve_error, &self.audit_error];
        let errors: Vec<&str> = errors.into_iter().flatten().map(String::as_str).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

fn covers(named: Option<&str>, actual: &str) -> bool {
    named.is_none_or(|named| named == actual)
}

/// A write that was past the point of no return when the halt was set, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Departed {
    /// The call's id in the audit.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin.
    pub plugin: String,
    /// The operation.
    pub operation: String,
    /// `answered`, the name of a failure, or `still under way`.
    pub ended: String,
}

/// The outcome of a departed call that has not ended.
const OUTCOME_PENDING: &str = "still under way";

#[derive(Default)]
struct State {
    halts: Vec<Entry>,
    generations: u64,
    /// Sequence number of the last audit record about halts.
    last_record: u64,
    departed: HashMap<String, Departed>,
    /// Outcomes of calls that halts wait for, with the number of halts that wait.
    endings: HashMap<String, (usize, String)>,
}

/// The halts of a host, and its writes under way.
pub(crate) struct Halts {
    state: Mutex<State>,
    /// `None` if the state is in memory.
    file: Option<HaltFile>,
    /// Announces that a halt came into force. Calls that wait watch only this: writes end all the time.
    came_into_force: ChangeSignal,
    /// Announces every change of halts, of where they are kept, and of writes under way.
    changed: ChangeSignal,
}

/// A write that may have departed; removed when dropped.
pub(crate) struct Departure<'a> {
    halts: &'a Halts,
    request: &'a CallRequest,
}

impl State {
    /// Puts a halt in force, replacing one of the same scope.
    fn put(&mut self, halt: Halt, record: Option<HaltBody>) -> &mut Entry {
        let scope = HaltScope {
            account: halt.account.clone(),
            plugin: halt.plugin.clone(),
        };
        self.generations += 1;
        let entry = Entry {
            halt,
            generation: self.generations,
            record,
            ..Entry::default()
        };
        let index = self
            .halts
            .iter()
            .position(|one| same_scope(&one.halt, &scope));
        match index.and_then(|index| self.halts.get_mut(index)) {
            Some(former) => *former = entry,
            None => self.halts.push(entry),
        }
        let index = index.unwrap_or(self.halts.len() - 1);
        #[expect(clippy::indexing_slicing, reason = "it was put there just now")]
        &mut self.halts[index]
    }

    /// Halts everything if the file is there, unless everything is halted already. Returns whether it did.
    fn see(&mut self, file: Option<&HaltFile>) -> bool {
        let Some(file) = file else { return false };
        let everything = HaltScope::default();
        let halted = |one: &Entry| same_scope(&one.halt, &everything) && !one.lifting;
        if self.halts.iter().any(halted) {
            return false;
        }
        let Some(present) = file.find() else {
            return false;
        };
        let by = match present.uid {
            Some(uid) => format!("file DATA/halt (uid {uid})"),
            None => "file DATA/halt".to_owned(),
        };
        let reason = "the file is in the data folder".to_owned();
        let record = HaltBody {
            what: HaltBody::HALT.to_owned(),
            account: None,
            plugin: None,
            reason: Some(reason.clone()),
            liquidate: Some(false),
            file: Some(file.path().display().to_string()),
            person: present.uid,
            person_name: Some(by.clone()),
        };
        let halt = Halt {
            reason,
            by,
            at: now(),
            ..Halt::default()
        };
        self.put(halt, Some(record));
        true
    }
}

impl Halts {
    pub(crate) fn new(file: Option<HaltFile>) -> Self {
        Self {
            state: Mutex::default(),
            file,
            came_into_force: ChangeSignal::default(),
            changed: ChangeSignal::default(),
        }
    }

    /// Puts a halt in force that was restored at start; `mark` notes where it is kept.
    pub(crate) fn restore(&self, halt: Halt, mark: impl FnOnce(&mut Entry)) {
        mark(self.state.lock().put(halt, None));
    }

    /// Why a write of this plugin may not be sent now; `None` if it may.
    pub(crate) fn reason(&self, account: &str, plugin: &str) -> Option<String> {
        let mut state = self.state.lock();
        let found = state.reason(self.file.as_ref(), account, plugin);
        drop(state);
        found.map(|(reason, by_file)| {
            if by_file {
                self.announce();
            }
            reason
        })
    }

    /// Accounts for the file in listings.
    pub(crate) fn count_file(&self) {
        self.state.lock().see(self.file.as_ref());
    }

    /// Halts everything if the file is there.
    pub(crate) fn look_at_file(&self) {
        if self.state.lock().see(self.file.as_ref()) {
            tracing::warn!(target: "gate", "the file `halt` is in the data folder: everything is halted until `qchost resume`");
            self.announce();
        }
    }

    /// The halt file; `None` if the state is in memory.
    pub(crate) fn file(&self) -> Option<&HaltFile> {
        self.file.as_ref()
    }

    /// The halts in force, each with where it is kept.
    pub(crate) fn list(&self) -> Vec<ActiveHalt> {
        let file = self.file.as_ref().is_some_and(|file| file.find().is_some());
        let state = self.state.lock();
        let standing = |entry: &Entry| {
            let file = file && same_scope(&entry.halt, &HaltScope::default());
            ActiveHalt {
                file,
                halt: entry.halt.clone(),
                kept: match entry.kept() {
                    HaltStorage::Memory if file => HaltStorage::File,
                    kept => kept,
                },
                trouble: entry.trouble(),
            }
        };
        state.halts.iter().map(standing).collect()
    }

    /// Sets a halt. Returns the calls in its scope that had departed, and the generation of the halt.
    pub(crate) fn halt(
        &self,
        halt: Halt,
        scope: &HaltScope,
        record: HaltBody,
    ) -> (u64, Vec<Departed>) {
        let (generation, departed) = {
            let mut state = self.state.lock();
            let entry = state.put(halt, Some(record));
            entry.tended = true;
            let generation = entry.generation;
            let departed: Vec<Departed> = state
                .departed
                .values()
                .filter(|one| scope.covers(&one.account, &one.plugin))
                .cloned()
                .collect();
            for one in &departed {
                let waiting = state.endings.entry(one.call.clone());
                waiting.or_insert_with(|| (0, one.ended.clone())).0 += 1;
            }
            (generation, departed)
        };
        self.announce();
        (generation, departed)
    }

    /// Generations of the halts that the database should have.
    pub(crate) fn in_database(&self) -> Vec<u64> {
        let state = self.state.lock();
        let stored = state.halts.iter().filter(|one| one.in_database);
        stored.map(|one| one.generation).collect()
    }

    /// Compares the halts that the database should have with those read from it.
    pub(crate) fn read_back(&self, said: &[u64], stored: &[Halt]) {
        let mut state = self.state.lock();
        for entry in &mut state.halts {
            let missing = said.contains(&entry.generation) && !stored.contains(&entry.halt);
            if missing && !entry.lifting {
                entry.in_database = false;
                entry.tended = false;
                entry.database_error = Some("the database does not have it any more".to_owned());
            }
        }
    }

    /// The halt of a generation, if it is in force and not being ended.
    pub(crate) fn entry(&self, generation: u64) -> Option<Entry> {
        let state = self.state.lock();
        let mut entries = state.halts.iter();
        let entry = entries.find(|one| one.generation == generation && !one.lifting);
        entry.cloned()
    }

    /// Updates the entry of a halt in force.
    pub(crate) fn note(&self, generation: u64, note: impl FnOnce(&mut Entry)) {
        let mut state = self.state.lock();
        let mut entries = state.halts.iter_mut();
        if let Some(entry) = entries.find(|one| one.generation == generation) {
            note(entry);
        }
        drop(state);
        self.changed.notify();
    }

    /// Notes the sequence number of a record about halts.
    pub(crate) fn recorded(&self, sequence: u64) {
        let mut state = self.state.lock();
        state.last_record = state.last_record.max(sequence);
    }

    /// Sequence number of the last record about halts, if the database reflects it and all before it.
    pub(crate) fn settled(&self) -> Option<u64> {
        let state = self.state.lock();
        state
            .halts
            .iter()
            .all(Entry::is_settled)
            .then_some(state.last_record)
            .filter(|last| *last > 0)
    }

    /// The halts to keep in the reserve: those that the database does not have, with their generations.
    pub(crate) fn for_reserve(&self) -> Vec<(u64, Halt)> {
        let state = self.state.lock();
        let halts = state.halts.iter();
        halts
            .filter(|one| !one.in_database && !one.lifting)
            .map(|one| (one.generation, one.halt.clone()))
            .collect()
    }

    /// Notes that the reserve holds exactly these.
    pub(crate) fn reserved(&self, reserved: &[(u64, Halt)]) {
        let mut state = self.state.lock();
        for entry in &mut state.halts {
            entry.in_reserve = reserved.iter().any(|(one, _)| *one == entry.generation);
        }
        drop(state);
        self.changed.notify();
    }

    /// The halts that are not stored everywhere and that no task is storing; marks them as being stored.
    pub(crate) fn untended(&self) -> Vec<u64> {
        let mut state = self.state.lock();
        let untended = state.halts.iter_mut();
        untended
            .filter(|one| !one.tended && !one.lifting && !one.is_settled())
            .map(|one| {
                one.tended = true;
                one.generation
            })
            .collect()
    }

    /// Whether there is a halt of exactly this scope.
    pub(crate) fn is_set(&self, scope: &HaltScope) -> bool {
        let state = self.state.lock();
        state.halts.iter().any(|one| same_scope(&one.halt, scope))
    }

    /// Begins to end the halt of exactly this scope. It stays in force meanwhile.
    pub(crate) fn begin_lifting(&self, scope: &HaltScope) -> Option<Entry> {
        let mut state = self.state.lock();
        let mut entries = state.halts.iter_mut();
        let entry = entries.find(|one| same_scope(&one.halt, scope))?;
        entry.lifting = true;
        Some(entry.clone())
    }

    /// Ends a halt. A newer halt of the same scope stays in force.
    pub(crate) fn lift(&self, generation: u64) {
        self.state
            .lock()
            .halts
            .retain(|one| one.generation != generation);
        self.changed.notify();
    }

    /// Announces a halt that came into force.
    fn announce(&self) {
        self.came_into_force.notify();
        self.changed.notify();
    }

    /// Waits until the evaluation finds something: now, or after a change of halts or of writes under way.
    pub(crate) async fn until<T>(&self, found: impl Fn() -> Option<T>) -> T {
        self.changed.until(found).await
    }

    /// Whether this write is still under way.
    pub(crate) fn is_under_way(&self, call: &str) -> bool {
        self.state.lock().departed.contains_key(call)
    }

    /// How a call ended that a halt waited for. Each halt that listed the call takes it once.
    pub(crate) fn ending(&self, call: &str) -> String {
        let mut state = self.state.lock();
        let Some((waiting, ending)) = state.endings.get_mut(call) else {
            return OUTCOME_PENDING.to_owned();
        };
        *waiting -= 1;
        let (left, ending) = (*waiting, ending.clone());
        if left == 0 {
            state.endings.remove(call);
        }
        ending
    }

    /// Waits until writes of this plugin are halted, and returns why.
    pub(crate) async fn halted(&self, account: &str, plugin: &str) -> String {
        self.came_into_force
            .until(|| self.reason(account, plugin))
            .await
    }

    /// Prepares the departure of a write.
    pub(crate) fn departure<'a>(&'a self, request: &'a CallRequest) -> Departure<'a> {
        Departure {
            halts: self,
            request,
        }
    }
}

impl Departure<'_> {
    /// Marks the call as departed, unless it is halted. Called right before each send.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        let (account, plugin) = (self.request.account(), self.request.plugin());
        let mut state = self.halts.state.lock();
        if let Some((reason, by_file)) = state.reason(self.halts.file.as_ref(), account, plugin) {
            drop(state);
            if by_file {
                self.halts.announce();
            }
            return Err(Failure::Halted(reason));
        }
        state
            .departed
            .entry(self.request.call.clone())
            .or_insert_with(|| Departed {
                call: self.request.call.clone(),
                account: account.to_owned(),
                plugin: plugin.to_owned(),
                operation: self.request.name.to_string(),
                ended: OUTCOME_PENDING.to_owned(),
            });
        Ok(())
    }

    /// Records how the call ended, for halts that wait for it.
    pub(crate) fn ended(&self, how: &str) {
        let mut state = self.halts.state.lock();
        if let Some(departed) = state.departed.get_mut(&self.request.call) {
            how.clone_into(&mut departed.ended);
        }
        if let Some((_, ending)) = state.endings.get_mut(&self.request.call) {
            how.clone_into(ending);
        }
    }
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        let was = self.halts.state.lock().departed.remove(&self.request.call);
        if was.is_some() {
            self.halts.changed.notify();
        }
    }
}

impl State {
    /// Why a write of this plugin may not be sent, and whether the halt file has just halted everything.
    fn reason(
        &mut self,
        file: Option<&HaltFile>,
        account: &str,
        plugin: &str,
    ) -> Option<(String, bool)> {
        let by_file = self.see(file);
        let entry = self.halts.iter().find(|one| {
            covers(one.halt.account.as_deref(), account)
                && covers(one.halt.plugin.as_deref(), plugin)
        })?;
        let halt = &entry.halt;
        let what = match (&halt.account, &halt.plugin) {
            (None, None) => "everything".to_owned(),
            (Some(account), None) => format!("account `{account}`"),
            (None, Some(plugin)) => format!("plugin `{plugin}`"),
            (Some(account), Some(plugin)) => format!("plugin `{plugin}` on account `{account}`"),
        };
        let reason = format!("{} halted {what}: {}", halt.by, halt.reason);
        Some((reason, by_file))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_file_ends_waits_once_it_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let halts = Halts::new(Some(HaltFile::new(folder.path()).unwrap()));
        let mut waiting = std::pin::pin!(halts.halted("a", "lab"));
        assert_eq!((&mut waiting).now_or_never(), None);
        crate::halt_file::make_halt_file(folder.path()).unwrap();
        // Neither the end of a write nor anything else that changes wakes it.
        halts.changed.notify();
        assert_eq!((&mut waiting).now_or_never(), None);
        halts.look_at_file();
        let reason = waiting.now_or_never().unwrap();
        assert!(reason.contains("file DATA/halt"), "{reason}");
    }
}
