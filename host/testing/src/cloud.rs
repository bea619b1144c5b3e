//! A gate on a cloud in memory: projects by id, one answer to all other calls, and a record of
//! every call that reaches it.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use qchost_audit::{Audit, Disk, Files, Options as AuditOptions};
use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream, by_name};
use qchost_gate::{
    Gate, HaltReport, HaltScope, Options, Principal, Refusal, ResumeReport, Settings,
};
use qchost_ledger::Ledger;
use qchost_policy::{Guardrails, Manifest, Person, Role, Usd};
use qchost_secrets::{Profile, Profiles};
use qchost_traffic::AccountLimits;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const KEY: &[u8] = b"the key of the tests";
/// More calls than any test makes.
const ALL_CALLS: usize = 1_000_000;
/// How long a test waits for what has to happen.
const BOUND: Duration = Duration::from_secs(60);

/// A tool that no server of the cloud has.
pub const NOWHERE: &str = "create_backtests";

type Hook = Box<dyn Fn(&str, &Map<String, Value>) -> Option<Outcome> + Send + Sync>;

/// The cloud.
pub struct Cloud {
    pub projects: Mutex<BTreeMap<u32, String>>,
    sent: Mutex<Vec<(String, Map<String, Value>)>>,
    pub done: AtomicU32,
    /// Downloads that have begun; each takes a permit of `may_answer` before it ends.
    pub fetched: AtomicU32,
    next: AtomicU32,
    /// A call takes one before it is answered.
    pub may_answer: Semaphore,
    /// Answers instead of the cloud where it returns something.
    pub hook: Mutex<Option<Hook>>,
    /// The live deployments, by account and project.
    pub live: Mutex<BTreeMap<(String, u32), Live>>,
    /// Whether a tool on an account is never answered.
    pub hang: Mutex<Option<Hang>>,
    /// A tool that is not answered before [`Cloud::let_go`].
    pub held: Mutex<Option<&'static str>>,
    may_go_on: Semaphore,
    /// When which tool was called for which account and project.
    pub moments: Mutex<Vec<(Instant, String, String, u32)>>,
}

type Hang = Box<dyn Fn(&str, &str, u32) -> bool + Send + Sync>;

/// The live deployments of a project: `L-1`, whose portfolio is shown, and others.
pub struct Live {
    pub status: &'static str,
    pub holdings: Value,
    /// The statuses of `L-2` and so on.
    pub beside: Vec<&'static str>,
}

impl Live {
    pub fn holding() -> Self {
        Self {
            status: "Running",
            holdings: json!({ "SPY": { "q": 10, "v": 5000.5 }, "QQQ": { "q": 0 } }),
            beside: Vec::new(),
        }
    }

    /// Whether any of them runs.
    pub fn runs(&self) -> bool {
        self.status == "Running" || self.beside.contains(&"Running")
    }

    /// Ends one of them, the others first. Returns whether one ran.
    fn end(&mut self, status: &'static str) -> bool {
        let mut beside = self.beside.iter_mut();
        if let Some(other) = beside.find(|one| **one == "Running") {
            *other = status;
            return true;
        }
        let ran = self.status == "Running";
        if ran {
            self.status = status;
        }
        ran
    }
}

impl Cloud {
    pub fn new() -> Arc<Self> {
        let projects = [(1, "Lab/one"), (2, "Lab/two"), (9, "Prod/main")];
        Arc::new(Self {
            projects: Mutex::new(projects.map(|(id, name)| (id, name.to_owned())).into()),
            sent: Mutex::default(),
            done: AtomicU32::new(0),
            fetched: AtomicU32::new(0),
            next: AtomicU32::new(100),
            may_answer: Semaphore::new(ALL_CALLS),
            hook: Mutex::default(),
            live: Mutex::new([(("a".to_owned(), 1), Live::holding())].into()),
            hang: Mutex::default(),
            held: Mutex::default(),
            may_go_on: Semaphore::new(0),
            moments: Mutex::default(),
        })
    }

    /// Answers with this instead.
    pub fn hook(
        &self,
        hook: impl Fn(&str, &Map<String, Value>) -> Option<Outcome> + Send + Sync + 'static,
    ) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    /// The tools that were called, without the host's own reads of projects.
    pub fn sent(&self) -> Vec<String> {
        let sent = self.sent.lock();
        let tools = sent.iter().map(|(tool, _)| tool.clone());
        tools.filter(|tool| tool != "read_project").collect()
    }

    /// How often a tool was called.
    pub fn count(&self, tool: &str) -> usize {
        let sent = self.sent.lock();
        sent.iter().filter(|(one, _)| one == tool).count()
    }

    /// Waits until a tool was called.
    pub async fn until_called(&self, tool: &str) {
        until(tool, async || self.count(tool) > 0).await;
    }

    /// Answers no call until [`release`](Self::release).
    pub fn hold(&self) {
        self.may_answer.forget_permits(ALL_CALLS);
    }

    /// Answers the calls that wait, and all later ones.
    pub fn release(&self) {
        self.may_answer.add_permits(ALL_CALLS);
    }

    /// Answers one call of the tool that is held.
    pub fn let_go(&self) {
        self.may_go_on.add_permits(1);
    }

    /// Opens a gate in front of the cloud.
    pub async fn open(self: &Arc<Self>, options: Options) -> Gate {
        let handle = Handle(Arc::clone(self));
        Gate::open(Box::new(handle), options).await.unwrap()
    }

    /// Everything that was called, with its arguments.
    pub fn calls(&self) -> Vec<(String, Map<String, Value>)> {
        self.sent.lock().clone()
    }

    /// Answers about live deployments that there are.
    fn live(&self, account: &str, tool: &str, project: u32) -> Option<Outcome> {
        let mut all = self.live.lock();
        if tool == "list_live_algorithms" {
            let own = all
                .iter()
                .filter(|((of, id), _)| of == account && (project == 0 || project == *id));
            let mut listed: Vec<_> = own
                .flat_map(|((_, project), live)| {
                    let statuses = [live.status].into_iter().chain(live.beside.clone());
                    (1..).zip(statuses).map(move |(number, status)| {
                        json!({ "projectId": project, "deployId": format!("L-{number}"), "status": status, "name": format!("Lab/{project}") })
                    })
                })
                .collect();
            // As the answer that reads it: a project whose deployments no test tells has one on paper.
            if listed.is_empty() && project != 0 {
                listed
                    .push(json!({ "projectId": project, "deployId": "L-1", "status": "Running" }));
            }
            return Some(Ok(json!({ "success": true, "live": listed })));
        }
        let live = all.get_mut(&(account.to_owned(), project))?;
        Some(Ok(match tool {
            "read_live_portfolio" => {
                json!({ "success": true, "portfolio": { "holdings": live.holdings, "cash": {} } })
            }
            "read_live_algorithm" => {
                json!({ "success": true, "projectId": project, "deployId": "L-1", "status": live.status, "brokerage": "PaperBrokerage" })
            }
            "liquidate_live_algorithm" => {
                if !live.end("Liquidated") {
                    return Some(Err(Failure::Rejected(vec!["it does not run".to_owned()])));
                }
                if live.status == "Liquidated" {
                    live.holdings = json!([]);
                }
                json!({ "success": true })
            }
            "stop_live_algorithm" => {
                live.end("Stopped");
                json!({ "success": true })
            }
            _ => return None,
        }))
    }

    fn answer(&self, account: &str, tool: &str, arguments: &Map<String, Value>) -> Outcome {
        if let Some(hook) = &*self.hook.lock()
            && let Some(outcome) = hook(tool, arguments)
        {
            return outcome;
        }
        let id = |name: &str| {
            arguments
                .get(name)
                .and_then(Value::as_u64)
                .unwrap_or_default()
        };
        let project = u32::try_from(id("projectId")).unwrap();
        if let Some(outcome) = self.live(account, tool, project) {
            return outcome;
        }
        let mut projects = self.projects.lock();
        let one = |id: u32, name: &str| json!({ "projectId": id, "name": name, "created": "2020-01-01 00:00:00", "libraries": [] });
        let text = |name: &str| {
            arguments
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let fresh = || self.next.fetch_add(1, Ordering::Relaxed);
        Ok(match tool {
            "read_project" if project == 0 => {
                let all: Vec<_> = projects.iter().map(|(id, name)| one(*id, name)).collect();
                json!({ "success": true, "projects": all })
            }
            "read_project" => match projects.get(&project) {
                Some(name) => json!({ "success": true, "projects": [one(project, name)] }),
                None => return Err(Failure::NotFound("no such project".to_owned())),
            },
            "list_projects" => {
                let all: Vec<_> = projects.iter().map(|(id, name)| one(*id, name)).collect();
                json!({ "success": true, "projects": all })
            }
            "create_project" => {
                let id = fresh();
                projects.insert(id, text("name"));
                json!({ "success": true, "projects": [one(id, &text("name"))] })
            }
            "read_backtest" | "create_backtest" => {
                let backtest = match text("backtestId") {
                    id if id.is_empty() => format!("b{}", fresh()),
                    id => id,
                };
                json!({
                    "success": true,
                    "backtest": { "backtestId": backtest, "projectId": project, "name": text("backtestName") },
                })
            }
            "create_compile" | "read_compile" => {
                let compile = match text("compileId") {
                    id if id.is_empty() => format!("c{}", fresh()),
                    id => id,
                };
                // As `c1` of project 1 and so on: each project has its own.
                json!({ "success": true, "compileId": compile, "projectId": project, "state": "BuildSuccess" })
            }
            "read_file" => json!({
                "success": true,
                "files": [{ "name": "main.py", "content": "print(1)\n", "projectId": project }],
            }),
            "create_optimization" => json!({
                "success": true,
                "optimizations": [{ "optimizationId": format!("o{}", fresh()), "projectId": project }],
            }),
            "read_live_algorithm" => json!({
                "success": true, "projectId": project, "deployId": "L-1", "status": "Running", "brokerage": "PaperBrokerage",
            }),
            "create_live_algorithm" => json!({
                "success": true, "live": { "projectId": project, "deployId": format!("L-{}", fresh()) },
            }),
            _ => json!({ "success": true }),
        })
    }
}

/// What the gate is given of the cloud.
pub struct Handle(pub Arc<Cloud>);

impl Upstream for Handle {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            call.clearance.clear()?;
            if let Some(sends) = call.sends {
                sends.add();
            }
            let tool = call.target.tool().to_owned();
            self.0
                .sent
                .lock()
                .push((tool.clone(), call.arguments.clone()));
            let project = call.arguments.get("projectId").and_then(Value::as_u64);
            let project = project.and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
            let account = call.account.to_owned();
            let moment = (Instant::now(), account, tool.clone(), project);
            self.0.moments.lock().push(moment);
            let hangs = |hang: &Hang| hang(call.account, &tool, project);
            if self.0.hang.lock().as_ref().is_some_and(hangs) {
                tokio::time::sleep_until(call.deadline.into()).await;
                return Err(Failure::UnknownOutcome("no answer".to_owned()));
            }
            let is_held = *self.0.held.lock() == Some(tool.as_str());
            if is_held {
                self.0.may_go_on.acquire().await.unwrap().forget();
            }
            self.0.may_answer.acquire().await.unwrap().forget();
            self.0.may_answer.add_permits(1);
            // As long as a call takes, others run.
            tokio::task::yield_now().await;
            self.0.done.fetch_add(1, Ordering::Relaxed);
            self.0.answer(call.account, &tool, &call.arguments)
        })
    }

    fn has_tool(&self, _account: &str, tool: &str) -> Option<bool> {
        (tool == NOWHERE).then_some(false)
    }

    fn download<'a>(
        &'a self,
        _account: &'a str,
        _url: &'a str,
        _limit: u64,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async {
            self.0.fetched.fetch_add(1, Ordering::Relaxed);
            drop(self.0.may_answer.acquire().await.unwrap());
            Err(Failure::NotFound("nothing here".to_owned()))
        })
    }
}

/// A gate with one plugin, `lab`, on a folder of its own.
pub struct World {
    pub gate: Gate,
    pub cloud: Arc<Cloud>,
    pub principal: Principal,
    pub folder: TempDir,
}

/// The parameters that differ between tests.
pub struct Setup {
    pub manifest: String,
    pub guardrails: Guardrails,
    pub profiles: BTreeMap<String, Profile>,
    pub live_trading: bool,
    /// Whether all accounts may download objects.
    pub derived_data: bool,
    pub two_person: bool,
    pub production: bool,
    pub permit_ttl: Duration,
    pub limits: AccountLimits,
    pub files: Arc<dyn Files>,
    pub accounts: Vec<&'static str>,
    pub call_timeout: Duration,
    pub audit_share: u64,
}

impl Setup {
    /// A plugin with these grants, as TOML.
    pub fn grants(grants: &str) -> Self {
        Self {
            manifest: format!(
                "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\negress = \"licensed\"\n{grants}"
            ),
            guardrails: Guardrails::none(),
            profiles: BTreeMap::new(),
            live_trading: false,
            derived_data: true,
            two_person: false,
            production: false,
            permit_ttl: Duration::from_secs(3600),
            limits: AccountLimits::default(),
            files: Arc::new(Disk),
            accounts: vec!["a"],
            call_timeout: Duration::from_secs(10),
            audit_share: u64::MAX,
        }
    }

    pub async fn open(self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::new();
        let gate = self.open_in(folder.path(), &cloud).await;
        World {
            gate,
            cloud,
            principal: principal("lab"),
            folder,
        }
    }

    /// A gate on a folder that may have been used before.
    pub async fn open_in(&self, folder: &Path, cloud: &Arc<Cloud>) -> Gate {
        let gate = cloud.open(self.options(folder).await).await;
        gate.policies.install(parse(&self.manifest)).unwrap();
        gate
    }

    /// Closes a gate, and opens another one on its folder.
    pub async fn restart(&self, gate: Gate, folder: &Path, cloud: &Arc<Cloud>) -> Gate {
        gate.close().await;
        drop(gate);
        self.open_in(folder, cloud).await
    }

    pub async fn options(&self, folder: &Path) -> Options {
        let ledger = Ledger::open(&folder.join("state.db")).unwrap();
        let options = AuditOptions {
            folder: folder.join("audit"),
            key: KEY.to_vec().into(),
            segment_bytes: 1 << 20,
            keep: None,
            reserve_bytes: 64 << 10,
            anchor: None,
            files: Arc::clone(&self.files),
        };
        let head = ledger.audit_head().await.unwrap();
        let (audit, opening) = Audit::open(options, head.as_deref()).unwrap();
        Options {
            settings: self.settings(),
            ledger,
            audit,
            opening,
            key: b"another key of the tests".to_vec().into(),
            call_timeout: self.call_timeout,
            audit_share: self.audit_share,
            evidence: None,
        }
    }

    pub fn settings(&self) -> Settings {
        let base = crate::gate::settings();
        Settings {
            profiles: Profiles::new(self.profiles.clone(), base.secrets.clone()),
            guardrails: self.guardrails.clone(),
            accounts: self
                .accounts
                .iter()
                .map(|account| ((*account).to_owned(), self.limits))
                .collect(),
            derived_data: match self.derived_data {
                true => self
                    .accounts
                    .iter()
                    .map(|account| (*account).to_owned())
                    .collect(),
                false => BTreeSet::new(),
            },
            node_prices: [("O2-8".to_owned(), Usd(600))].into(),
            live_trading: self.live_trading,
            two_person: self.two_person,
            production: self.production,
            permit_ttl: self.permit_ttl,
            ..base
        }
    }
}

pub fn principal(plugin: &str) -> Principal {
    Principal::new(plugin, "sha256:0", "1")
}

pub fn parse(text: &str) -> Manifest {
    Manifest::parse(text, Path::new("lab.toml")).unwrap()
}

pub fn person(uid: u32, name: &str) -> Person {
    Person {
        uid,
        name: name.to_owned(),
        roles: [Role::Admin].into(),
    }
}

impl World {
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Value, Refusal> {
        call(&self.gate, &self.principal, name, arguments).await
    }

    /// Makes a call in a task of its own.
    pub fn start(
        &self,
        name: &'static str,
        arguments: Value,
    ) -> JoinHandle<Result<Value, Refusal>> {
        let (gate, principal) = (self.gate.clone(), self.principal.clone());
        tokio::spawn(async move { call(&gate, &principal, name, arguments).await })
    }

    pub async fn read_file(&self) -> Result<Value, Refusal> {
        let project = json!({ "projectId": 1 });
        self.call("files/read-file", project).await
    }

    pub async fn create_file(&self, name: &str) -> Result<Value, Refusal> {
        self.call("files/create-file", file(name)).await
    }

    /// The records of the audit, in order.
    pub async fn records(&self) -> Vec<Value> {
        self.gate.idle().await;
        records(self.folder.path())
    }

    /// The records of a kind.
    pub async fn records_of(&self, kind: &str) -> Vec<Value> {
        let mut records = self.records().await;
        records.retain(|record| record["kind"] == kind);
        records
    }
}

/// The arguments of `files/create-file`.
pub fn file(name: &str) -> Value {
    json!({ "projectId": 1, "name": name, "content": "x" })
}

/// The approval that a refused call needs.
pub fn required<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> String {
    match refused {
        Err(Refusal::ApprovalRequired { id }) => id,
        other => panic!("{other:?}"),
    }
}

pub async fn approve(gate: &Gate, id: &str, by: &Person) {
    gate.approvals.approve(id, by, None).await.unwrap();
}

pub async fn halt(gate: &Gate, scope: HaltScope) -> HaltReport {
    let halting = gate.halts.halt(&person(7, "ann"), scope, "a drill", false);
    halting.await.unwrap()
}

pub async fn resume(gate: &Gate, scope: HaltScope) -> ResumeReport {
    let ann = person(7, "ann");
    gate.halts.resume(&ann, scope).await.unwrap()
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn call(
    gate: &Gate,
    principal: &Principal,
    name: &str,
    arguments: Value,
) -> Result<Value, Refusal> {
    let Value::Object(arguments) = arguments else {
        panic!("not an object")
    };
    gate.call(principal, by_name(name).unwrap(), arguments)
        .await
}

/// The records of an audit's segments, in order.
pub fn records(folder: &Path) -> Vec<Value> {
    let (audit, key) = (folder.join("audit"), KEY.to_vec().into());
    let report = qchost_audit::verify(&Disk, &audit, &key, None).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let all = qchost_audit::Filter::default();
    qchost_audit::query(Arc::new(Disk), &audit, all)
        .unwrap()
        .map(|record| Value::Object(record.unwrap().fields))
        .collect()
}
