//! Closing positions: liquidates live deployments, and reads back that none runs and none holds positions.
//!
//! Several deployments of one project may run, and QuantConnect stops and liquidates by project without saying which one:
//! a project is liquidated until its list of deployments has none that runs, and an account is listed again until nothing
//! runs on it, since a deployment may have started meanwhile.
//!
//! Accounts and projects are liquidated concurrently, with a short deadline for each step, bypassing the queues and
//! limits of ordinary calls. What is still open afterwards is retried in the background, also after a restart, until it
//! is closed or the halt that asked for it ends. A deployment without a known project cannot be addressed: its account is
//! listed again until the list names its project or no longer has it.
//!
//! Invariant: a project counts as closed only when QuantConnect was read to say that all of its deployments have ended
//! and hold nothing. What cannot be read counts as open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use qchost_audit::{Audit, Entry, Kind};
use qchost_catalog::deployment::{LIQUIDATED, has_ended};
use qchost_catalog::host_calls::{
    LIQUIDATE_LIVE_ALGORITHM, LIST_LIVE_ALGORITHMS, READ_LIVE_PORTFOLIO, STOP_LIVE_ALGORITHM,
};
use qchost_catalog::{
    Access, Backoff, Call, Failure, Operation, Outcome, Target, Upstream, always,
};
use qchost_ledger::{Ledger, LedgerError};
use qchost_policy::Person;
use qchost_scope::Scope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;

use crate::body::{CallBody, Project};
use crate::call::CallIds;
use crate::clock::now;
use crate::halts::HaltScope;
use crate::policy_store::PolicyStore;
use crate::reads::HOST;

/// Divides the time-out of a plugin's call into steps: 120 s make steps of 5 s.
const STEPS_PER_CALL: u32 = 24;
/// Liquidations without effect before the project is stopped instead.
const MAX_ATTEMPTS: u32 = 2;
/// Liquidations, and stops, of one project at most, however many of its deployments run.
const MAX_SENDS: u32 = 32;
/// Listings of an account before what still runs there is reported as running.
const MAX_LISTINGS: u32 = 5;
/// Delay of the first background round, and the longest pause between rounds.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum characters of a text, and maximum number of positions, kept of what QuantConnect says.
const MAX_TEXT: usize = 300;
const MAX_POSITIONS: usize = 100;
/// Message for a deployment that cannot be addressed.
const NAMELESS: &str = "the list does not say of which project it is, so it cannot be stopped from here; the account is \
    listed again until it does";
/// Message for positions that no answer shows.
const UNSEEN: &str = "several deployments of the project ran, and QuantConnect shows the positions of one: another was \
    stopped without being liquidated";

/// A position in one symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    /// The symbol, as QuantConnect names it.
    pub symbol: String,
    /// The quantity as QuantConnect reports it.
    pub quantity: String,
    /// The value, if QuantConnect reports it.
    pub value: Option<String>,
}

/// The state of a project's live deployments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// The account.
    pub account: String,
    /// The project id; `None` if the account's deployments cannot be listed, or the list does not name it.
    pub project: Option<u32>,
    /// Its name, or what is known of it.
    pub name: String,
    /// The ids of its deployments that ran when the halt began or since.
    #[serde(default)]
    pub deployments: BTreeSet<String>,
    /// `liquidated` or `stopped`; otherwise `running` or `stopped` or `not known`, and whether positions are open.
    pub result: String,
    /// Whether it runs or holds positions, or may.
    pub open: bool,
    /// Its positions; `None` if unknown.
    pub positions: Option<Vec<Position>>,
    /// The last failure.
    pub message: Option<String>,
}

/// A liquidation that is not finished.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenLiquidation {
    /// What is known of it.
    #[serde(flatten)]
    pub state: Stopped,
    /// The halt that asked for it.
    pub scope: HaltScope,
    /// The name of the person who halted.
    pub by: String,
    /// Their user id.
    pub uid: u32,
    /// When it began. Unix time in milliseconds.
    pub since: i64,
    /// When it was last checked. Unix time in milliseconds.
    pub looked: i64,
}

/// Account and project id; 0 stands for the whole account.
type Key = (String, u32);

/// Liquidates what runs live.
pub struct Liquidator {
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) ledger: Ledger,
    pub(crate) audit: Audit,
    pub(crate) scope: Arc<Scope>,
    pub(crate) policies: Arc<PolicyStore>,
    pub(crate) ids: Arc<CallIds>,
    /// Time limit of a plugin's call.
    pub(crate) call_timeout: Duration,
    pub(crate) tasks: TaskTracker,
    pub(crate) unfinished: Unfinished,
}

/// The liquidations that are not finished.
#[derive(Default)]
pub(crate) struct Unfinished {
    open: Mutex<BTreeMap<Key, OpenLiquidation>>,
    /// Liquidations that were open when their halt ended: not continued, but checked by the next halt that liquidates,
    /// because no list shows a deployment that was stopped while holding positions.
    left: Mutex<BTreeMap<Key, OpenLiquidation>>,
    /// Whether a background task is running.
    working: Mutex<bool>,
}

impl Unfinished {
    /// Restores the liquidations of a former run.
    pub(crate) async fn restore(
        ledger: &Ledger,
        is_halted: impl Fn(&HaltScope) -> bool,
    ) -> Result<Self, LedgerError> {
        let (mut open, mut left) = (BTreeMap::new(), BTreeMap::new());
        for (account, project, entry) in ledger.liquidations().await? {
            match serde_json::from_value::<OpenLiquidation>(entry) {
                Ok(entry) if is_halted(&entry.scope) => {
                    open.insert((account, project), entry);
                }
                Ok(entry) if project != 0 => {
                    left.insert((account, project), entry);
                }
                _ => ledger.forget_liquidation(&account, project).await?,
            }
        }
        Ok(Self {
            open: Mutex::new(open),
            left: Mutex::new(left),
            working: Mutex::default(),
        })
    }
}

/// The state of a project's deployments at one instant. `None` means unknown.
#[derive(Debug, Default)]
struct State {
    /// How many of them run.
    running: Option<usize>,
    positions: Option<Vec<Position>>,
    failure: Option<String>,
}

impl State {
    fn is_closed(&self) -> bool {
        self.has_ended() && self.positions.as_ref().is_some_and(Vec::is_empty)
    }

    fn has_ended(&self) -> bool {
        self.running == Some(0)
    }

    /// Whether fewer run than did.
    fn is_below(&self, running: Option<usize>) -> bool {
        matches!((self.running, running), (Some(now), Some(before)) if now < before)
    }
}

/// The listed deployments of a project that have not ended.
#[derive(Debug, Clone)]
struct Running {
    project: Option<u32>,
    name: String,
    deployments: BTreeSet<String>,
}

impl Running {
    /// One whose project is not known.
    fn unnamed(name: impl Into<String>) -> Self {
        Self {
            project: None,
            name: name.into(),
            deployments: BTreeSet::new(),
        }
    }
}

/// Whether a row of the list of deployments says that it has not ended. No status is no evidence that it has.
fn runs(row: &Value) -> bool {
    !has_ended(row.get("status").and_then(Value::as_str))
}

/// The id of a deployment in the list; empty if it has none.
fn id_of(row: &Value) -> &str {
    row.get("deployId")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The project of a deployment in the list.
fn project_of(row: &Value) -> Option<u32> {
    let project = row.get("projectId").and_then(Value::as_u64);
    project.and_then(|project| u32::try_from(project).ok())
}

impl Liquidator {
    /// Time limit of one step: a call, or the wait for its effect.
    fn step(&self) -> Duration {
        self.call_timeout / STEPS_PER_CALL
    }

    /// The unfinished liquidations.
    #[must_use]
    pub fn list(&self) -> Vec<OpenLiquidation> {
        self.unfinished.open.lock().values().cloned().collect()
    }

    /// Liquidates what runs live on some accounts, and what is already open there. Returns the result of each.
    pub(crate) async fn close(
        self: &Arc<Self>,
        by: &Person,
        scope: &HaltScope,
        accounts: Vec<String>,
    ) -> Vec<Stopped> {
        let closed = accounts
            .into_iter()
            .map(|account| self.close_account(by, scope, account));
        let closed: Vec<Stopped> = join_all(closed).await.into_iter().flatten().collect();
        self.resume();
        closed
    }

    async fn close_account(&self, by: &Person, scope: &HaltScope, account: String) -> Vec<Stopped> {
        let entry = |running: Running, message: Option<String>| OpenLiquidation {
            state: Stopped {
                account: account.clone(),
                project: running.project,
                name: running.name,
                deployments: running.deployments,
                result: "running".to_owned(),
                open: true,
                positions: None,
                message,
            },
            scope: scope.clone(),
            by: by.name.clone(),
            uid: by.uid,
            since: now(),
            looked: now(),
        };
        let mut listed = self.running(&account).await;
        for _ in 1..MAX_ATTEMPTS {
            if listed.is_err() {
                listed = self.running(&account).await;
            }
        }
        let running = match listed {
            Ok(running) => running,
            Err(failure) => {
                let unknown = Running::unnamed("its deployments cannot be listed");
                let mut why = self.clean(&failure);
                if let Some(cause) = self.policies.settings().not_in_force(&account) {
                    why = format!("{cause}; {why}");
                }
                let mut entry = entry(unknown, Some(why));
                "not known".clone_into(&mut entry.state.result);
                self.keep_open(entry).await;
                return self.open_of(&account);
            }
        };
        let (named, nameless): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|one| one.project.is_some());
        // First, so that the account does not look closed in between.
        for running in named {
            self.keep_open(entry(running, None)).await;
        }
        // A single entry for all of them: without a project they cannot be told apart reliably.
        match nameless.len() {
            0 => self.settle_open(&account, 0).await,
            many => {
                let unknown = Running::unnamed(format!("{many} deployments without a project"));
                self.keep_open(entry(unknown, Some(NAMELESS.to_owned())))
                    .await;
            }
        }
        let nameless: Vec<Stopped> = nameless
            .into_iter()
            .map(|running| entry(running, Some(NAMELESS.to_owned())).state)
            .collect();
        let left: Vec<OpenLiquidation> = {
            let mut left = self.unfinished.left.lock();
            left.extract_if(.., |(of, _), _| *of == account)
                .map(|(_, entry)| entry)
                .collect()
        };
        for former in left {
            let running = Running {
                project: former.state.project,
                name: former.state.name.clone(),
                deployments: former.state.deployments,
            };
            let mut entry = entry(running, None);
            entry.state.result = former.state.result;
            let key = (account.clone(), entry.state.project.unwrap_or(0));
            let is_known = {
                let mut open = self.unfinished.open.lock();
                let known = open.get_mut(&key);
                known.is_some_and(|known| {
                    let former = entry.state.deployments.iter().cloned();
                    known.state.deployments.extend(former);
                    true
                })
            };
            if !is_known {
                self.keep_open(entry).await;
            }
        }
        let open: Vec<OpenLiquidation> = self
            .list()
            .into_iter()
            .filter(|one| one.state.account == account && one.state.project.is_some())
            .collect();
        let closed = join_all(open.into_iter().map(|one| self.close_one(one, true))).await;
        let mut stopped = self.list_again(&account, closed, &entry).await;
        stopped.extend(nameless);
        stopped
    }

    /// Lists the account again until nothing runs on it, and liquidates what has started meanwhile.
    async fn list_again(
        &self,
        account: &str,
        mut closed: Vec<Stopped>,
        entry: &(dyn Fn(Running, Option<String>) -> OpenLiquidation + Sync),
    ) -> Vec<Stopped> {
        for listing in 1..=MAX_LISTINGS {
            let running = match self.running(account).await {
                Ok(running) => running,
                Err(_) if listing < MAX_LISTINGS => continue,
                Err(failure) => {
                    // It is unknown whether anything else runs.
                    let unknown = Running::unnamed("its deployments cannot be listed again");
                    let mut entry = entry(unknown, Some(self.clean(&failure)));
                    "not known".clone_into(&mut entry.state.result);
                    closed.push(entry.state.clone());
                    self.keep_open(entry).await;
                    return closed;
                }
            };
            let (named, nameless): (Vec<_>, Vec<_>) =
                running.into_iter().partition(|one| one.project.is_some());
            // It has started meanwhile. Those that the first list had are open already.
            if !nameless.is_empty() && !self.is_open(account, 0) {
                let many = nameless.len();
                let unknown = Running::unnamed(format!("{many} deployments without a project"));
                self.keep_open(entry(unknown, Some(NAMELESS.to_owned())))
                    .await;
                let nameless = nameless.into_iter();
                closed.extend(nameless.map(|one| entry(one, Some(NAMELESS.to_owned())).state));
            }
            let known = |one: &Running| {
                closed
                    .iter()
                    .any(|known| known.open && known.project == one.project)
            };
            let missed: Vec<Running> = named.into_iter().filter(|one| !known(one)).collect();
            if missed.is_empty() {
                return closed;
            }
            let is_last = listing == MAX_LISTINGS;
            // The list may be behind what was read of the project.
            let was_closed = missed
                .iter()
                .any(|one| closed.iter().any(|it| it.project == one.project));
            if was_closed && !is_last {
                tokio::time::sleep(self.step() / 4).await;
            }
            let mut entries = Vec::new();
            for one in missed {
                let message = is_last.then(|| "it is listed as running".to_owned());
                let entry = entry(one, message);
                closed.retain(|it| it.project != entry.state.project);
                self.keep_open(entry.clone()).await;
                entries.push(entry);
            }
            if is_last {
                closed.extend(entries.into_iter().map(|entry| entry.state));
                return closed;
            }
            let started = entries.into_iter().map(|one| self.close_one(one, true));
            closed.extend(join_all(started).await);
        }
        closed
    }

    /// The open liquidations of an account.
    fn open_of(&self, account: &str) -> Vec<Stopped> {
        let open = self.list().into_iter();
        open.filter(|one| one.state.account == account)
            .map(|one| one.state)
            .collect()
    }

    /// Liquidates the deployments of one project, stops those that this does not end, and reads back what they hold.
    async fn close_one(&self, mut entry: OpenLiquidation, runs: bool) -> Stopped {
        let (account, project) = (entry.state.account.clone(), entry.state.project);
        let Some(project) = project else {
            return entry.state;
        };
        let mut seen = std::mem::take(&mut entry.state.deployments);
        let mut liquidated = false;
        let mut state = State {
            running: Some(seen.len().max(1)),
            ..State::default()
        };
        let mut refusal = None;
        // A running deployment is liquidated before it is inspected: it keeps trading during each read.
        if !runs || entry.state.result.starts_with("stopped") {
            state = self.read_state(&account, project, &mut seen).await;
        }
        let mut without_effect = 0;
        for _ in 0..MAX_SENDS {
            if state.is_closed() || without_effect == MAX_ATTEMPTS {
                break;
            }
            let before = state.running;
            let sent = self
                .reduce(entry.uid, &account, project, LIQUIDATE_LIVE_ALGORITHM)
                .await;
            match sent {
                Ok(_) => {
                    liquidated = true;
                    let enough = |state: &State| {
                        state.is_closed() || (!state.has_ended() && state.is_below(before))
                    };
                    state = self.look_until(&account, project, &mut seen, enough).await;
                }
                Err(failure) => {
                    // A call whose answer was lost may have taken effect.
                    refusal = Some(self.clean(&failure));
                    state = self.read_state(&account, project, &mut seen).await;
                    liquidated |= matches!(failure, Failure::UnknownOutcome(_));
                    if state.has_ended() {
                        break;
                    }
                }
            }
            // Each one ends one of several deployments.
            without_effect = if state.is_below(before) {
                0
            } else {
                without_effect + 1
            };
        }
        let mut without_effect = 0;
        for _ in 0..MAX_SENDS {
            if state.has_ended() || without_effect > 0 {
                break;
            }
            let before = state.running;
            let stopped = self
                .reduce(entry.uid, &account, project, STOP_LIVE_ALGORITHM)
                .await;
            match stopped {
                Ok(_) => {
                    let enough = |state: &State| {
                        if state.has_ended() {
                            state.positions.is_some()
                        } else {
                            state.is_below(before)
                        }
                    };
                    state = self.look_until(&account, project, &mut seen, enough).await;
                }
                Err(failure) => {
                    refusal = Some(self.clean(&failure));
                    state = self.read_state(&account, project, &mut seen).await;
                }
            }
            without_effect = u32::from(!state.is_below(before));
        }
        let closed = state.is_closed();
        let suffix = match &state.positions {
            Some(positions) if positions.is_empty() => "",
            Some(_) => ", positions open",
            None => ", positions not known",
        };
        entry.state = Stopped {
            deployments: seen,
            result: match state.running {
                Some(0) if closed && liquidated => "liquidated".to_owned(),
                Some(0) => format!("stopped{suffix}"),
                Some(_) => format!("running{suffix}"),
                None => format!("not known{suffix}"),
            },
            open: !closed,
            positions: state.positions,
            message: refusal.or(state.failure),
            ..entry.state
        };
        entry.looked = now();
        let stopped = entry.state.clone();
        if closed {
            self.settle_open(&account, project).await;
        } else if self.is_open(&account, project) {
            // Unless the halt ended in the meantime.
            self.keep_open(entry).await;
        }
        stopped
    }

    /// Polls until the state of a project's deployments is what is wanted, for at most one step: QuantConnect announces
    /// nothing.
    async fn look_until(
        &self,
        account: &str,
        project: u32,
        seen: &mut BTreeSet<String>,
        enough: impl Fn(&State) -> bool,
    ) -> State {
        let end = Instant::now() + self.step();
        loop {
            let state = self.read_state(account, project, seen).await;
            if enough(&state) || Instant::now() >= end {
                return state;
            }
            tokio::time::sleep(self.step() / 10).await;
        }
    }

    /// Reads how many deployments of a project run, and what they hold. Adds to `seen` those that run.
    async fn read_state(&self, account: &str, project: u32, seen: &mut BTreeSet<String>) -> State {
        let about = || Map::from_iter([("projectId".to_owned(), project.into())]);
        let (listed, portfolio) = tokio::join!(
            self.read_now(account, LIST_LIVE_ALGORITHMS, about()),
            self.read_now(account, READ_LIVE_PORTFOLIO, about()),
        );
        let mut state = State::default();
        match portfolio {
            Ok(body) => state.positions = positions(&body),
            Err(failure) => state.failure = Some(self.clean(&failure)),
        }
        let rows = match listed {
            Ok(body) => deployments(&body).map(<[Value]>::to_vec),
            Err(failure) => {
                state.failure = Some(self.clean(&failure));
                return state;
            }
        };
        let rows = rows.unwrap_or_default();
        let own: Vec<&Value> = rows
            .iter()
            .filter(|row| project_of(row) == Some(project))
            .collect();
        if own.is_empty() {
            let why = "the list of deployments does not have it";
            state.failure.get_or_insert_with(|| why.to_owned());
            return state;
        }
        let running = own.iter().filter(|row| runs(row));
        seen.extend(running.clone().map(|row| id_of(row).to_owned()));
        state.running = Some(running.count());
        // QuantConnect shows the positions of one deployment. Of the others, only one that was liquidated surely holds
        // nothing.
        let is_liquidated = |id: &String| {
            own.iter().any(|row| {
                let status = row.get("status").and_then(Value::as_str);
                id_of(row) == id && status == Some(LIQUIDATED)
            })
        };
        if seen.len() > 1
            && state.positions.as_ref().is_some_and(Vec::is_empty)
            && !seen.iter().all(is_liquidated)
        {
            state.positions = None;
            state.failure.get_or_insert_with(|| UNSEEN.to_owned());
        }
        state
    }

    /// How many deployments run live on an account.
    ///
    /// # Errors
    /// When the account cannot be asked.
    pub async fn running_on(&self, account: &str) -> Result<usize, Failure> {
        let running = self.running(account).await?;
        Ok(running.iter().map(|one| one.deployments.len()).sum())
    }

    /// What runs on an account, by project; a deployment whose project is not known on its own.
    async fn running(&self, account: &str) -> Result<Vec<Running>, Failure> {
        let answer = self
            .read_now(account, LIST_LIVE_ALGORITHMS, Map::new())
            .await?;
        let listed = deployments(&answer).ok_or_else(|| {
            Failure::UnexpectedResponse("the answer has no list of deployments".to_owned())
        })?;
        let mut running: Vec<Running> = Vec::new();
        for one in listed.iter().filter(|one| runs(one)) {
            let project = project_of(one);
            let id = id_of(one).to_owned();
            let mut of_it = running.iter_mut();
            if project.is_some()
                && let Some(known) = of_it.find(|other| other.project == project)
            {
                known.deployments.insert(id);
                continue;
            }
            let name = one.get("name").and_then(Value::as_str).map(short);
            let known = || self.scope.project_name_cached(account, project?);
            running.push(Running {
                project,
                name: name.or_else(known).unwrap_or_default(),
                deployments: BTreeSet::from([id]),
            });
        }
        Ok(running)
    }

    /// Makes one read of the host's own, bypassing the queues of ordinary calls.
    async fn read_now(
        &self,
        account: &str,
        operation: &'static Operation,
        mut arguments: Map<String, Value>,
    ) -> Outcome {
        operation.complete(&mut arguments);
        let answered = self.send_now(account, operation, arguments).await;
        answered.unwrap_or_else(|after| Err(Failure::TimedOut { after }))
    }

    /// Sends a call, bypassing the queues of ordinary calls. If it was not answered in time: how long it waited.
    async fn send_now(
        &self,
        account: &str,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Result<Outcome, Duration> {
        let step = self.step();
        let call = self.upstream.call(Call {
            account,
            target: Target::Known(operation),
            arguments,
            deadline: Instant::now() + step,
            clearance: always(),
            sends: None,
        });
        let answered = tokio::time::timeout(step * 2, call).await;
        answered.map_err(|_| step * 2)
    }

    /// Makes one risk-reducing call of the host's own and records it like any other. It is sent even if it cannot be
    /// recorded, because money may be at stake.
    async fn reduce(
        &self,
        uid: u32,
        account: &str,
        project: u32,
        operation: &'static Operation,
    ) -> Outcome {
        let call = format!("{HOST}-{project}-{}", self.ids.next());
        let record = |kind: Kind, outcome: Option<&str>| {
            let body = CallBody {
                call: call.clone(),
                account: account.to_owned(),
                plugin: HOST.to_owned(),
                person: Some(uid),
                operation: operation.name.to_owned(),
                access: Some(Access::Reduce.word().to_owned()),
                arguments: Some(json!({ "projectId": project })),
                project: Some(Some(Project {
                    id: project,
                    name: None,
                })),
                decision: Some("allowed".to_owned()),
                outcome: Some(outcome.map(str::to_owned)),
                ..CallBody::default()
            };
            let entry = Entry::new(kind, true, &body);
            async {
                // A disk that hangs must not keep money at risk.
                let recorded = tokio::time::timeout(self.step(), self.audit.record(entry)).await;
                let error = match recorded {
                    Ok(Ok(_)) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the audit does not answer".to_owned(),
                };
                tracing::error!(target: "gate", project, error, "a deployment is stopped without a record of it");
            }
        };
        record(Kind::Intent, None).await;
        let mut arguments = Map::new();
        arguments.insert("projectId".to_owned(), project.into());
        let answered = self.send_now(account, operation, arguments).await;
        let outcome = answered.unwrap_or_else(|after| {
            Err(Failure::UnknownOutcome(format!(
                "no answer within {} s",
                after.as_secs_f64()
            )))
        });
        let word = outcome.as_ref().map_or_else(Failure::word, |_| "answered");
        let kind = match outcome {
            Err(Failure::UnknownOutcome(_)) => Kind::Lost,
            _ => Kind::Outcome,
        };
        record(kind, Some(word)).await;
        outcome
    }

    /// The text of a failure for people, without secrets.
    fn clean(&self, failure: &Failure) -> String {
        let settings = self.policies.settings();
        short(&settings.secrets.redactor().clean(&failure.to_string()))
    }

    fn is_open(&self, account: &str, project: u32) -> bool {
        let key = (account.to_owned(), project);
        self.unfinished.open.lock().contains_key(&key)
    }

    async fn keep_open(&self, mut entry: OpenLiquidation) {
        let key = (
            entry.state.account.clone(),
            entry.state.project.unwrap_or(0),
        );
        let former = {
            let mut open = self.unfinished.open.lock();
            if let Some(former) = open.get(&key) {
                entry.since = former.since;
                // What ran before may still hold positions.
                let known = former.state.deployments.iter().cloned();
                entry.state.deployments.extend(known);
            }
            open.insert(key.clone(), entry.clone())
        };
        let is_new = former.is_none_or(|former| {
            former.state != entry.state || former.scope != entry.scope || former.uid != entry.uid
        });
        if is_new {
            let (account, project) = &key;
            let stored = serde_json::to_value(&entry).unwrap_or_default();
            let keeping = self.ledger.keep_liquidation(account, *project, &stored);
            forgiving(self.step(), keeping).await;
        }
    }

    /// Removes the entry of a closed liquidation.
    async fn settle_open(&self, account: &str, project: u32) {
        let key = (account.to_owned(), project);
        if self.unfinished.open.lock().remove(&key).is_some() {
            let forgetting = self.ledger.forget_liquidation(account, project);
            forgiving(self.step(), forgetting).await;
        }
    }

    /// Abandons the liquidations of a halt that has ended, and returns them. They stay known, so that the next halt that
    /// liquidates checks their positions.
    pub(crate) async fn give_up(&self, scope: &HaltScope) -> Vec<Stopped> {
        let open = self.list().into_iter();
        let ended: Vec<_> = open.filter(|one| one.scope == *scope).collect();
        for one in &ended {
            let Some(project) = one.state.project else {
                self.settle_open(&one.state.account, 0).await;
                continue;
            };
            let key = (one.state.account.clone(), project);
            if let Some(entry) = self.unfinished.open.lock().remove(&key) {
                self.unfinished.left.lock().insert(key, entry);
            }
        }
        ended.into_iter().map(|one| one.state).collect()
    }

    /// Continues with what a former run left open.
    pub(crate) fn resume(self: &Arc<Self>) {
        if !self.unfinished.open.lock().is_empty() {
            self.close_in_background();
        }
    }

    /// Continues with open liquidations in the background until none is left.
    fn close_in_background(self: &Arc<Self>) {
        if std::mem::replace(&mut *self.unfinished.working.lock(), true) {
            return;
        }
        let weak = Arc::downgrade(self);
        let backoff = Backoff::exact(RETRY_INTERVAL.min(self.step()), MAX_RETRY_INTERVAL);
        // Not among the tasks that the gate waits for when it closes; each of its rounds is.
        tokio::spawn(async move {
            for number in 1.. {
                tokio::time::sleep(backoff.delay(number)).await;
                let Some(own) = weak.upgrade() else { return };
                let round = Arc::clone(&own);
                // A failed round is followed by another one.
                drop(
                    own.tasks
                        .spawn(async move { round.close_again().await })
                        .await,
                );
                let open = own.unfinished.open.lock();
                let mut working = own.unfinished.working.lock();
                if open.is_empty() {
                    *working = false;
                    return;
                }
            }
        });
    }

    /// One background round.
    async fn close_again(&self) {
        let open = self.list();
        let accounts = open.iter().filter(|one| one.state.project.is_none());
        let accounts = accounts.map(|one| {
            let by = Person {
                uid: one.uid,
                name: one.by.clone(),
                roles: std::collections::BTreeSet::new(),
            };
            let (scope, account) = (one.scope.clone(), one.state.account.clone());
            async move { drop(self.close_account(&by, &scope, account).await) }
        });
        let again: Vec<_> = accounts.collect();
        let listed: Vec<&String> = open
            .iter()
            .filter(|one| one.state.project.is_none())
            .map(|one| &one.state.account)
            .collect();
        let one_by_one = open
            .iter()
            .filter(|one| !listed.contains(&&one.state.account))
            .map(|one| self.close_one(one.clone(), false));
        tokio::join!(join_all(again), join_all(one_by_one));
    }
}

/// Stores what it can: a failing ledger must not hold up a liquidation.
async fn forgiving(limit: Duration, work: impl Future<Output = Result<(), LedgerError>>) {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(target: "gate", %error, "a liquidation is not remembered beyond this process");
        }
        Err(_) => {
            tracing::warn!(target: "gate", "the database does not answer: a liquidation may not be remembered");
        }
    }
}

/// The rows of a list of deployments; `None` if it is none.
fn deployments(answer: &Value) -> Option<&[Value]> {
    let rows = answer.get("live")?.as_array()?;
    Some(rows)
}

/// The positions in a portfolio; `None` if it does not list any.
fn positions(body: &Value) -> Option<Vec<Position>> {
    let holdings = match body.get("portfolio")?.get("holdings")? {
        Value::Object(holdings) => holdings,
        // An empty map is sent as an empty list.
        Value::Array(items) if items.is_empty() => return Some(Vec::new()),
        _ => return None,
    };
    let amount = |holding: &Value, name: &str| match holding.get(name)? {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(short(text)),
        _ => None,
    };
    let is_zero = |quantity: &str| {
        quantity
            .parse::<f64>()
            .is_ok_and(|quantity| quantity == 0.0)
    };
    let positions = holdings.iter().map(|(symbol, holding)| Position {
        symbol: short(symbol),
        quantity: amount(holding, "q").unwrap_or_else(|| "not known".to_owned()),
        value: amount(holding, "v"),
    });
    Some(
        positions
            .filter(|one| !is_zero(&one.quantity))
            .take(MAX_POSITIONS)
            .collect(),
    )
}

fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_portfolio_does_not_say_is_not_known_and_never_nothing() {
        let held = |body: Value| positions(&body);
        assert_eq!(held(json!({})), None);
        assert_eq!(held(json!({ "portfolio": {} })), None);
        assert_eq!(held(json!({ "portfolio": { "holdings": null } })), None);
        assert_eq!(held(json!({ "portfolio": { "holdings": "none" } })), None);
        assert_eq!(
            held(json!({ "portfolio": { "holdings": [] } })),
            Some(Vec::new())
        );
        let holdings =
            json!({ "SPY": { "q": 0.0, "v": 0 }, "QQQ": { "q": -3, "v": -900.5 }, "IWM": {} });
        let found = held(json!({ "portfolio": { "holdings": holdings } })).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|one| {
                (
                    one.symbol.as_str(),
                    one.quantity.as_str(),
                    one.value.as_deref(),
                )
            })
            .collect();
        assert!(found.contains(&("QQQ", "-3", Some("-900.5"))), "{found:?}");
        assert!(found.contains(&("IWM", "not known", None)), "{found:?}");
        assert_eq!(found.len(), 2);
    }
}
