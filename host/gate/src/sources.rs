//! The source behind a compile: what the host saw of it, and whether that is what runs.
//!
//! A source is the project's files, those of its libraries, and the settings that a deployment takes over. The host
//! reads it before and after the compile, and lets no write to it leave in between: a plugin that swaps two versions
//! between the reads has to wait. Changes made elsewhere show in the modification times that the cloud reports, and in
//! the cloud's signature of the compile. One case shows in neither: a change and its reversal within one second of
//! each other and of the file's former change.
//!
//! Invariant: a compile has the source that is shown for it, or it is treated as unknown code. Before real money is
//! used, and wherever the deployment was approved, the project is checked to be still what was compiled; what was
//! deployed is read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qchost_catalog::deployment::{Environment, environment_of_deployment, has_ended};
use qchost_catalog::host_calls::{
    LIST_LIVE_ALGORITHMS, READ_FILE, READ_LIVE_ALGORITHM, READ_PROJECT, STOP_LIVE_ALGORITHM,
};
use qchost_catalog::{
    Access, Call, Effect, Failure, OPERATIONS, Operation, Outcome, Target, always,
};
use qchost_ledger::{Ledger, NewCompile, SourceState};
use qchost_policy::EVIDENCE;
use qchost_scope::Reader as _;
use serde_json::{Map, Value, json};

use crate::body::StopsDeployment;
use crate::call::{CallIds, CallRequest};
use crate::call_log::CallLog;
use crate::clock::now;
use crate::decision::{CallDecision, is_live};
use crate::fingerprint::text_hash;
use crate::policy_store::PolicyStore;
use crate::reads::HostReader;
use crate::record::{self, AuditContext, CallRecord};
use crate::refusal::{Refusal, unusable};
use crate::source_locks::{Projects, SourceAccess, SourceLock, SourceLocks};

/// How long a call waits for a source that other calls use.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts to pin a project whose libraries change meanwhile.
const MAX_PIN_ATTEMPTS: usize = 3;
/// Maximum projects in one source: the project and its libraries.
const MAX_PROJECTS: usize = 50;
/// Maximum size of a source, in bytes of names and contents.
const MAX_SOURCE: usize = 8 << 20;
/// Attempts to stop a deployment, and the time limit of each in `STOP_TIMEOUT`.
const MAX_STOP_ATTEMPTS: usize = 3;
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Name of the settings among the files; no file of a project begins like that.
const SETTINGS: &str = "settings:";
/// Prefix of the names of library files.
const LIBRARY: &str = "library:";

/// Files as name and content, in order.
pub(crate) type Files = Vec<(String, String)>;

/// A project's source as the host read it at one instant.
#[derive(Debug, PartialEq)]
pub(crate) struct Source {
    /// The project and its libraries.
    projects: BTreeSet<u32>,
    /// The settings, the project's files, and those of its libraries.
    files: Files,
    /// Ids and modification times of the files, as the cloud reports them.
    stamps: Vec<Value>,
    /// How many of the files are the project's own: they come first, after the settings.
    own: usize,
}

/// What a call holds of sources while it is under way.
#[derive(Debug, Default)]
pub(crate) struct SourceGuard {
    /// Keeps other calls from changing it, or from relying on it.
    _lock: Option<SourceLock>,
    /// What was read before the call.
    pub before: Option<Source>,
}

/// How a call uses the sources of projects.
enum Use {
    Nothing,
    Changes(Projects),
    Compiles(u32),
    /// Deploys the compile of a project whose source has this hash.
    Deploys(u32, String),
}

/// What the answer to a compile says about the compiled source.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    signature: Option<String>,
    /// The names of the compiled files.
    files: Vec<String>,
}

impl Evidence {
    pub(crate) fn of(answer: &Value) -> Self {
        let signature = answer.get("signature").and_then(Value::as_str);
        let files = answer.get("signatureOrder").and_then(Value::as_array);
        let files = files.into_iter().flatten().filter_map(Value::as_str);
        Self {
            signature: signature.filter(|it| !it.is_empty()).map(str::to_owned),
            files: files.map(str::to_owned).collect(),
        }
    }
}

impl Source {
    /// A single hash over names and contents of all files, each prefixed with its length.
    pub(crate) fn hash(&self) -> String {
        hash(&self.files)
    }

    /// A digest of the contents of the project's own files, independent of their names.
    fn contents(&self) -> String {
        let own = self.files.iter().skip(1).take(self.own);
        let mut contents: Vec<_> = own.map(|(_, content)| text_hash(content)).collect();
        contents.sort();
        text_hash(&contents.concat())
    }

    /// A digest of the code, independent of the names of files, of notebooks and of settings; `None` if there is no code. A
    /// project that was copied has that of the original.
    fn code(&self) -> Option<String> {
        let files = self.files.iter().skip(1);
        let code = files.filter(|(name, content)| is_code(name) && !content.trim().is_empty());
        let mut contents: Vec<_> = code.map(|(_, content)| text_hash(content)).collect();
        contents.sort();
        (!contents.is_empty()).then(|| text_hash(&contents.concat()))
    }

    /// A compiled file that is missing here, ignoring folders.
    fn lacks<'a>(&self, evidence: &'a Evidence) -> Option<&'a str> {
        let names = self.files.iter().map(|(name, _)| file_name(name));
        let names: BTreeSet<_> = names.collect();
        let mut compiled = evidence.files.iter().map(String::as_str);
        compiled.find(|name| !names.contains(file_name(name)))
    }

    /// Why these deployed files are not this source; `None` if they are.
    fn differs(&self, deployed: &[Value]) -> Option<String> {
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, content) in &self.files {
            by_name.entry(file_name(name)).or_default().push(content);
        }
        let mut found = BTreeSet::new();
        for file in deployed {
            let text = |field: &str| file.get(field).and_then(Value::as_str);
            let (Some(name), Some(content)) = (text("name"), text("content")) else {
                return Some("a deployed file has no name or no content".to_owned());
            };
            let known = by_name.get(file_name(name));
            if !known.is_some_and(|contents| contents.contains(&content)) {
                return Some(format!("the deployed file {name:?} is another one"));
            }
            found.insert(file_name(name));
        }
        let own = self.files.iter().skip(1).take(self.own);
        let mut names = own.map(|(name, _)| file_name(name));
        names
            .find(|name| is_code(name) && !found.contains(name))
            .map(|name| format!("{name:?} is not deployed"))
    }
}

/// The id of a deployment in an answer about it.
fn id_of(one: &Value) -> Option<&str> {
    one.get("deployId").and_then(Value::as_str)
}

/// The id of the deployment that an answer says was made.
pub(crate) fn made(answer: &Value) -> Option<&str> {
    let live = answer.get("live").and_then(id_of);
    live.or_else(|| id_of(answer))
}

/// Guards the sources of projects for calls that change them or rely on them.
pub(crate) struct SourceGuards {
    pub locks: SourceLocks,
    pub reads: Arc<HostReader>,
    pub policies: Arc<PolicyStore>,
    pub ledger: Ledger,
    pub log: Arc<CallLog>,
    pub ids: Arc<CallIds>,
}

impl SourceGuards {
    /// Acquires what a call needs of sources before it is sent: locks what it relies on against changes and reads it,
    /// or waits until no call relies on what it changes.
    ///
    /// # Errors
    /// When other calls use the source for too long, or what would be deployed is not what was compiled.
    pub(crate) async fn guard(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<SourceGuard, Refusal> {
        match self.use_of(request, decision).await? {
            Use::Nothing => Ok(SourceGuard::default()),
            Use::Changes(projects) => {
                let lock = self.lock(request, SourceAccess::Change, projects).await?;
                Ok(SourceGuard {
                    _lock: Some(lock),
                    before: None,
                })
            }
            Use::Compiles(project) => Ok(match self.of(request, project).pin().await {
                Ok(guard) => guard,
                Err(failure) => {
                    tracing::warn!(target: "gate", project, %failure, "the source cannot be read: its compile will be of unknown code");
                    SourceGuard::default()
                }
            }),
            Use::Deploys(project, hash) => {
                let pinned = self.of(request, project).pin().await;
                let guard = pinned.map_err(Refusal::Failed)?;
                match &guard.before {
                    Some(source) if source.hash() == hash => Ok(guard),
                    _ => Err(Refusal::denied(
                        "the project's files, libraries or settings are not those that were compiled any \
                                 more, so nothing was deployed; compile the project again and deploy that",
                    )),
                }
            }
        }
    }

    /// The source of a project, for a call that is about it.
    pub(crate) fn of<'a>(&'a self, request: &'a CallRequest, project: u32) -> ProjectSource<'a> {
        ProjectSource {
            guards: self,
            request,
            project,
        }
    }

    /// Whether any plugin or person of the account may deploy, so that sources are worth reading.
    fn is_deployed_from(&self, account: &str) -> bool {
        self.policies.any(|manifest| {
            let mut deploying = OPERATIONS.iter().filter(|operation| operation.deploys());
            manifest.account == account
                && deploying.any(|operation| manifest.allows(operation.name, operation.access))
        })
    }

    /// Whether what is tried in the account's projects is counted, for a plugin or by a guardrail, so that it matters which
    /// projects have held the same source.
    fn counts_trials(&self, account: &str) -> bool {
        self.policies.settings().guardrails.ask_evidence()
            || self.policies.any(|manifest| {
                manifest.account == account && manifest.allows(EVIDENCE, Access::Read)
            })
    }

    async fn use_of(&self, request: &CallRequest, decision: &CallDecision) -> Result<Use, Refusal> {
        let Some(operation) = request.operation else {
            // It is unknown what an unknown tool changes.
            return Ok(match request.access {
                Access::Read => Use::Nothing,
                _ => Use::Changes(None),
            });
        };
        let Some((project, _)) = &decision.touched.project else {
            return Ok(Use::Nothing);
        };
        match operation.effect {
            Some(Effect::Compiles)
                if self.is_deployed_from(request.account())
                    || self.counts_trials(request.account()) =>
            {
                Ok(Use::Compiles(*project))
            }
            Some(Effect::Deploys) if decision.permit.is_some() || is_live(&decision.touched) => {
                let compile = request.text("compileId").unwrap_or_default();
                let source = compiled_source(&self.ledger, request.account(), compile).await?;
                // With real money, unknown code has been denied before.
                Ok(source.map_or(Use::Nothing, |hash| Use::Deploys(*project, hash)))
            }
            _ if operation.changes_source() => Ok(Use::Changes(Some([*project].into()))),
            _ => Ok(Use::Nothing),
        }
    }

    async fn lock(
        &self,
        request: &CallRequest,
        access: SourceAccess,
        projects: Projects,
    ) -> Result<SourceLock, Refusal> {
        let wait = self.locks.lock(&request.principal.plugin, access, projects);
        match tokio::time::timeout(SOURCE_TIMEOUT, wait).await {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(_)) => Err(Refusal::RateLimited(Duration::from_secs(1))),
            Err(_) => Err(Refusal::Failed(Failure::Unavailable(format!(
                "other calls change, compile or deploy this project, and were not done after {} s; nothing was sent, try \
                 again",
                SOURCE_TIMEOUT.as_secs()
            )))),
        }
    }
}

/// The source of one project, as one call uses it. The host's reads of it are charged to the call.
pub(crate) struct ProjectSource<'a> {
    guards: &'a SourceGuards,
    request: &'a CallRequest,
    project: u32,
}

impl ProjectSource<'_> {
    /// Locks the source against changes through this host, and reads it.
    async fn pin(&self) -> Result<SourceGuard, Failure> {
        let mut projects = BTreeSet::from([self.project]);
        for _ in 0..MAX_PIN_ATTEMPTS {
            let (access, wanted) = (SourceAccess::Pin, Some(projects.clone()));
            let lock = self.guards.lock(self.request, access, wanted);
            let lock = lock.await.map_err(|refusal| match refusal {
                Refusal::Failed(failure) => failure,
                other => Failure::Unavailable(other.to_string()),
            })?;
            let linked = self.linked().await?;
            if linked.keys().all(|one| projects.contains(one)) {
                let before = Some(self.read(&linked).await?);
                return Ok(SourceGuard {
                    _lock: Some(lock),
                    before,
                });
            }
            projects = linked.into_keys().collect();
        }
        Err(Failure::Unavailable(
            "the project's libraries do not stay the same".to_owned(),
        ))
    }

    /// Remembers the project of a compile and its source, if that is known: the source was read before, could not be
    /// changed through this host meanwhile, and is still the same.
    pub(crate) async fn remember_compile(
        &self,
        compile: &str,
        before: Option<&Source>,
        evidence: Evidence,
    ) {
        let project = self.project;
        let source = match before {
            Some(before) => match self.unchanged(before, &evidence).await {
                Ok(()) => Some(before),
                Err(why) => {
                    tracing::warn!(target: "gate", project, compile, why, "the compile is of unknown code");
                    None
                }
            },
            None => None,
        };
        let (account, plugin) = (self.request.account(), self.request.plugin());
        let ledger = &self.guards.ledger;
        if let Some(code) = source.and_then(Source::code)
            && let Err(error) = ledger.hold_source(account, project, &code).await
        {
            tracing::warn!(target: "gate", project, compile, %error, "which source the project holds is not remembered");
        }
        let remembered = match source {
            Some(source) => {
                let new = NewCompile {
                    account: account.to_owned(),
                    plugin: plugin.to_owned(),
                    compile: compile.to_owned(),
                    project,
                    source: source.hash(),
                    files: source.files.clone(),
                    signature: evidence.signature,
                    contents: source.contents(),
                    now: now(),
                };
                ledger.put_compile(new).await
            }
            None => ledger
                .record_compile(account, plugin, compile, project)
                .await
                .map(|()| SourceState::Known),
        };
        match remembered {
            Ok(SourceState::Known) => {}
            Ok(SourceState::OverQuota) => {
                tracing::warn!(target: "gate", plugin, project, compile, "the compile is of unknown code: the plugin's approvals that wait fill its quota of sources; decide about them: `qchost approvals list`");
            }
            Ok(SourceState::Contradicted) => {
                tracing::warn!(target: "gate", project, compile, "the compile is of unknown code, and so is a former one: QuantConnect gave both the same signature, though their files differ");
            }
            Err(error) => {
                tracing::warn!(target: "gate", project, compile, %error, "a compile is not remembered");
            }
        }
    }

    /// Checks that all evidence confirms that a compile was made from this source; returns why not otherwise.
    async fn unchanged(&self, before: &Source, evidence: &Evidence) -> Result<(), String> {
        let read = async { self.read(&self.linked().await?).await };
        let after = read.await.map_err(|failure| failure.to_string())?;
        if after != *before {
            return Err("the source changed while it was compiled".to_owned());
        }
        match before.lacks(evidence) {
            Some(name) => Err(format!(
                "QuantConnect compiled a file {name:?} that the project did not have before and after"
            )),
            None => Ok(()),
        }
    }

    /// A digest of the code of the project and its libraries, as they are now; `None` if there is none.
    pub(crate) async fn code(&self) -> Result<Option<String>, Failure> {
        let linked = self.linked().await?;
        Ok(self.read(&linked).await?.code())
    }

    /// The project and its libraries, transitively, each with its answer of `projects/read-project`.
    async fn linked(&self) -> Result<BTreeMap<u32, Value>, Failure> {
        let mut found = BTreeMap::new();
        let mut wanted = vec![self.project];
        while let Some(next) = wanted.pop() {
            if found.contains_key(&next) {
                continue;
            }
            if found.len() >= MAX_PROJECTS {
                return Err(Failure::Unavailable(format!(
                    "the project has more than {MAX_PROJECTS} libraries"
                )));
            }
            let answer = self.read_of(READ_PROJECT, next).await?;
            let listed = READ_PROJECT.select(answer);
            let is_it =
                |one: &&Value| one.get("projectId").and_then(Value::as_u64) == Some(next.into());
            let listed = listed.as_ref().and_then(Value::as_array);
            let one = listed.and_then(|all| all.iter().find(is_it));
            let one = one.ok_or_else(|| {
                Failure::UnexpectedResponse(format!("the answer is not about project {next}"))
            })?;
            wanted.extend(libraries(one)?);
            found.insert(next, one.clone());
        }
        Ok(found)
    }

    /// Reads the files of a project and of its libraries.
    async fn read(&self, linked: &BTreeMap<u32, Value>) -> Result<Source, Failure> {
        let project = self.project;
        let settings = linked.get(&project).map(settings).unwrap_or_default();
        let mut files = vec![(SETTINGS.to_owned(), settings)];
        let mut stamps = Vec::new();
        let mut left = MAX_SOURCE;
        let mut own = 0;
        let libraries = linked.iter().filter(|(library, _)| **library != project);
        let libraries = libraries.map(|(library, one)| {
            let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
            (*library, Some(format!("{LIBRARY}{library}:{name}/")))
        });
        let parts: Vec<_> = std::iter::once((project, None)).chain(libraries).collect();
        for (part, under) in parts {
            let read = self.read_files(part, under.as_deref(), &mut left);
            for (name, content, stamp) in read.await? {
                files.push((name, content));
                stamps.push(stamp);
                own += usize::from(part == project);
            }
        }
        Ok(Source {
            projects: linked.keys().copied().collect(),
            files,
            stamps,
            own,
        })
    }

    /// The files of one project in order, each as name, content and stamp. `left`: how many more bytes the source may have.
    async fn read_files(
        &self,
        project: u32,
        under: Option<&str>,
        left: &mut usize,
    ) -> Result<Vec<(String, String, Value)>, Failure> {
        let answer = self.read_of(READ_FILE, project).await?;
        let listed = READ_FILE.select(answer);
        let listed = listed
            .as_ref()
            .and_then(Value::as_array)
            .ok_or_else(|| Failure::UnexpectedResponse("the project has no files".to_owned()))?;
        let mut found = Vec::with_capacity(listed.len());
        for file in listed {
            let text = |field: &str| {
                file.get(field)
                    .and_then(Value::as_str)
                    .ok_or_else(|| Failure::UnexpectedResponse(format!("a file has no `{field}`")))
            };
            let (name, content) = (text("name")?, text("content")?);
            *left = left
                .checked_sub(name.len().saturating_add(content.len()))
                .ok_or_else(|| {
                    Failure::Unavailable(format!(
                        "the source has more than {} MiB",
                        MAX_SOURCE >> 20
                    ))
                })?;
            let name = match under {
                Some(under) => format!("{under}{name}"),
                // So that it cannot pass for one of ours.
                None if name.starts_with(SETTINGS) || name.starts_with(LIBRARY) => {
                    format!("./{name}")
                }
                None => name.to_owned(),
            };
            let stamp = json!([name, file.get("id"), file.get("modified")]);
            found.push((name, content.to_owned(), stamp));
        }
        found.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        Ok(found)
    }

    /// Makes one of the host's reads about a project.
    async fn read_of(&self, operation: &'static Operation, project: u32) -> Outcome {
        let arguments = Map::from_iter([("projectId".to_owned(), project.into())]);
        self.read_with(operation, arguments).await
    }

    async fn read_with(
        &self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Outcome {
        let reads = self.guards.reads.for_call(self.request);
        reads.read(operation, arguments).await
    }

    /// Reads a new deployment: the latest of its project, or by its id if another one is the latest by now. Some servers
    /// take no id.
    async fn read_made(&self, made: Option<&str>) -> Outcome {
        let latest = self.read_of(READ_LIVE_ALGORITHM, self.project).await?;
        let Some(made) = made.filter(|made| id_of(&latest) != Some(*made)) else {
            return Ok(latest);
        };
        let arguments = Map::from_iter([
            ("projectId".to_owned(), self.project.into()),
            ("deployId".to_owned(), made.into()),
        ]);
        // What is another one is told by its id.
        let named = self.read_with(READ_LIVE_ALGORITHM, arguments).await;
        named.or(Ok(latest))
    }

    /// With what a new deployment trades, as it says of itself.
    pub(crate) async fn environment(&self, answer: &Value) -> Environment {
        let said = environment_of_deployment(answer.get("live").unwrap_or(answer));
        let made = made(answer);
        if said != Environment::Unknown || made.is_none() {
            return said;
        }
        match self.read_made(made).await {
            Ok(read) if id_of(&read) == made => environment_of_deployment(&read),
            _ => Environment::Unknown,
        }
    }

    /// Reads a new deployment back. Returns why it does not run what was compiled; `None` if it does.
    pub(crate) async fn check_deployed(&self, before: &Source, answer: &Value) -> Option<String> {
        let files = |one: &Value| one.get("files").and_then(Value::as_array).cloned();
        let live = answer.get("live").unwrap_or(answer);
        let deployed = match files(live) {
            Some(files) => Some(files),
            None => {
                let made = made(answer);
                let read = self.read_made(made).await;
                // Reads are retried before they fail. Real money must not run on code that cannot be checked.
                let read = match read {
                    Ok(read) => read,
                    Err(failure) => return Some(format!("what it runs cannot be read: {failure}")),
                };
                // A server that does not know the argument answers about the newest one of the project.
                files(&read).filter(|_| made.is_some() && id_of(&read) == made)
            }
        };
        // An empty list is no evidence: there is no deployment without code.
        if let Some(deployed) = deployed.filter(|deployed| !deployed.is_empty())
            && let Some(why) = before.differs(&deployed)
        {
            return Some(why);
        }
        let evidence = Evidence::default();
        let unchanged = self.unchanged(before, &evidence).await;
        unchanged.err().map(|why| {
            format!("whether the project is what was compiled cannot be told after it was deployed: {why}")
        })
    }

    /// Stops a deployment because of a doubt, such as "it is not known to run what was compiled". Returns a message about
    /// it.
    ///
    /// QuantConnect stops by project and does not say which of several deployments it is: the project is stopped until
    /// this one does not run.
    pub(crate) async fn stop_deployment(&self, answer: &Value, doubt: &str, why: &str) -> String {
        let (plugin, project) = (self.request.plugin(), self.project);
        let mut failed = String::new();
        for _ in 0..MAX_STOP_ATTEMPTS {
            if let Err(failure) = self.stop_once(why).await {
                failed = failure.to_string();
                continue;
            }
            if let Some(doubtful) = self.may_run(answer).await {
                failed = doubtful;
                continue;
            }
            tracing::error!(target: "gate", plugin, project, doubt, why, "a deployment was stopped");
            return format!("the deployment was stopped, since {doubt}: {why}");
        }
        tracing::error!(target: "gate", plugin, project, doubt, why, failed, "a deployment should be stopped, and could not be");
        format!(
            "the deployment should be stopped, since {doubt} ({why}), and stopping it failed ({failed}): it may be trading; \
             an operator stops it with `qchost halt --liquidate`"
        )
    }

    /// Why the deployment that was made may run after a stop of its project; `None` if the list says that it does not. The
    /// stop may have ended another one, so a list that cannot be read proves nothing.
    async fn may_run(&self, answer: &Value) -> Option<String> {
        let listed = match self.read_of(LIST_LIVE_ALGORITHMS, self.project).await {
            Ok(listed) => listed,
            Err(failure) => {
                return Some(format!("whether it still runs cannot be read: {failure}"));
            }
        };
        let Some(rows) = listed.get("live").and_then(Value::as_array) else {
            return Some("no list says whether it still runs".to_owned());
        };
        let made = made(answer);
        // Where an id is missing, every deployment of the project counts.
        let counts = |row: &Value| match (made, id_of(row)) {
            (Some(made), Some(listed)) => listed == made,
            _ => {
                let project = row.get("projectId").and_then(Value::as_u64);
                project.is_none_or(|project| project == u64::from(self.project))
            }
        };
        let runs = rows
            .iter()
            .any(|row| counts(row) && !has_ended(row.get("status").and_then(Value::as_str)));
        runs.then(|| "it runs after a stop of its project".to_owned())
    }

    async fn stop_once(&self, why: &str) -> Outcome {
        let (guards, request, project) = (self.guards, self.request, self.project);
        let log = &guards.log;
        let operation = STOP_LIVE_ALGORITHM;
        let arguments = Map::from_iter([("projectId".to_owned(), project.into())]);
        let stop = request.followed_by(guards.ids.next(), operation, arguments);
        let record = async |mut record: CallRecord| {
            record.body.stops_deployment = Some(StopsDeployment {
                call: request.call.clone(),
                why: why.to_owned(),
            });
            if let Err(error) = log.audit.record(record.entry()).await {
                tracing::error!(target: "gate", project, %error, "a deployment is stopped without a record of it");
            }
        };
        let context = AuditContext::default();
        record(record::intent(&stop, &context, &log.fingerprints)).await;
        let call = Call {
            account: stop.account(),
            target: Target::Known(operation),
            arguments: stop.arguments.clone(),
            deadline: stop.started_at + STOP_TIMEOUT,
            clearance: always(),
            sends: None,
        };
        let outcome = guards.reads.upstream.call(call).await;
        record(record::outcome(&stop, &context, &outcome)).await;
        outcome
    }
}

/// The hash of the source of a compile; `None` if the host did not see it, or no longer has it.
pub(crate) async fn compiled_source(
    ledger: &Ledger,
    account: &str,
    compile: &str,
) -> Result<Option<String>, Refusal> {
    let source = ledger.compile_source(account, compile).await;
    Ok(source.map_err(unusable)?.map(|(hash, _)| hash))
}

/// The libraries of a project. A missing list is an error rather than an empty one.
fn libraries(project: &Value) -> Result<Vec<u32>, Failure> {
    let listed = project.get("libraries").and_then(Value::as_array);
    let listed = listed.ok_or_else(|| {
        Failure::UnexpectedResponse("the project's libraries are not listed".to_owned())
    })?;
    let id = |library: &Value| {
        let id = library.get("projectId").and_then(Value::as_u64);
        id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            Failure::UnexpectedResponse("a library of the project has no id".to_owned())
        })
    };
    listed.iter().map(id).collect()
}

/// The project's settings that a compile and its deployment take over.
fn settings(project: &Value) -> String {
    let get = |field: &str| project.get(field).cloned().unwrap_or_default();
    let libraries = project.get("libraries").and_then(Value::as_array);
    let mut libraries: Vec<_> = libraries
        .into_iter()
        .flatten()
        .map(|library| json!([library.get("projectId"), library.get("libraryName")]))
        .collect();
    libraries.sort_by_key(ToString::to_string);
    let mut settings = json!({
        "language": get("language"),
        "parameters": get("parameters"),
        "libraries": libraries,
        "lean-environment": get("leanEnvironment"),
        "encrypted": get("encrypted"),
    });
    // A version that follows the newest one changes by itself.
    if get("leanPinnedToMaster") != Value::Bool(true)
        && let Value::Object(fields) = &mut settings
    {
        fields.insert("lean-version".to_owned(), get("leanVersionId"));
    }
    settings.sort_all_objects();
    let mut text = serde_json::to_string_pretty(&settings).unwrap_or_default();
    text.push('\n');
    text
}

/// Whether a file is executed. Notebooks are not.
fn is_code(name: &str) -> bool {
    name.ends_with(".py") || name.ends_with(".cs")
}

/// The last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn hash(files: &Files) -> String {
    let mut text = String::new();
    for (name, content) in files {
        text.push_str(&format!("{}:{name}{}:{content}", name.len(), content.len()));
    }
    text_hash(&text)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;
    use qchost_ledger::Permit;
    use qchost_scope::Scope;

    use super::*;
    use crate::testing::{Stores, allowed};

    fn source(files: &[(&str, &str)]) -> Source {
        let files = files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()));
        let files: Files = std::iter::once((SETTINGS.to_owned(), String::new()))
            .chain(files)
            .collect();
        Source {
            projects: [1].into(),
            own: files
                .iter()
                .skip(1)
                .filter(|(name, _)| !name.starts_with(LIBRARY))
                .count(),
            files,
            stamps: Vec::new(),
        }
    }

    #[test]
    fn files_cannot_be_moved_into_one_another_under_the_same_hash() {
        let one = source(&[("a", "b"), ("c", "d")]);
        assert_ne!(one.hash(), source(&[("a", "b1:c1:d")]).hash());
    }

    #[test]
    fn a_file_that_was_compiled_and_not_read_is_noticed() {
        let read = source(&[("main.py", "1"), ("library:2:Lib/tools/x.py", "2")]);
        let lacks = |order: Value| {
            let evidence = Evidence::of(&json!({ "signature": "s", "signatureOrder": order }));
            read.lacks(&evidence).map(str::to_owned)
        };
        assert_eq!(lacks(json!(["main.py", "tools/x.py"])), None);
        assert_eq!(lacks(Value::Null), None);
        assert_eq!(
            lacks(json!(["main.py", "evil.py"])).as_deref(),
            Some("evil.py")
        );
    }

    #[test]
    fn what_is_deployed_is_told_from_what_was_compiled() {
        let compiled = source(&[
            ("main.py", "1"),
            ("research.ipynb", "{}"),
            ("library:2:Lib/tools/x.py", "2"),
        ]);
        let file = |name: &str, content: &str| json!({ "name": name, "content": content });
        for right in [
            vec![file("main.py", "1")],
            vec![
                file("main.py", "1"),
                file("x.py", "2"),
                file("research.ipynb", "{}"),
            ],
        ] {
            assert_eq!(compiled.differs(&right), None, "{right:?}");
        }
        for wrong in [
            vec![file("main.py", "2")],
            vec![file("main.py", "1"), file("x.py", "1")],
            vec![file("main.py", "1"), file("more.py", "1")],
            vec![file("x.py", "2")],
            vec![json!({ "name": "main.py" })],
        ] {
            assert!(compiled.differs(&wrong).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn a_project_that_does_not_list_its_libraries_is_not_known_to_have_none() {
        assert_eq!(libraries(&json!({ "libraries": [] })), Ok(vec![]));
        assert_eq!(
            libraries(&json!({ "libraries": [{ "projectId": 7 }] })),
            Ok(vec![7])
        );
        for unknown in [
            json!({}),
            json!({ "libraries": null }),
            json!({ "libraries": [{}] }),
        ] {
            assert!(libraries(&unknown).is_err(), "{unknown}");
        }
    }

    const GRANTS: &str = "[[grant]]\nname = \"one\"\nallow = [\"compile/*\", \"files/*\", \"live/create-live-algorithm\"]\n\
                          projects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";

    fn about_project(permit: Option<Permit>) -> CallDecision {
        let mut touched = Scope::new().service();
        touched.project = Some((1, "Lab/one".to_owned()));
        CallDecision {
            permit,
            ..allowed(touched)
        }
    }

    #[tokio::test]
    async fn what_is_compiled_is_read_before_and_not_changed_until_the_call_ends() {
        let stores = Stores::new(GRANTS).await;
        let (sources, decision) = (stores.sources(), about_project(None));
        let compile = stores.request("compile/create-compile", json!({ "projectId": 1 }));
        let compiling = sources.guard(&compile, &decision).await.unwrap();
        assert!(compiling.before.is_some());
        assert_eq!(stores.cloud.sent(), ["read_project", "read_file"]);
        let file = json!({ "projectId": 1, "name": "a.py", "content": "" });
        let change = stores.request("files/create-file", file);
        let mut changing = pin!(sources.guard(&change, &decision));
        assert!(changing.as_mut().now_or_never().is_none());
        drop(compiling);
        assert!(changing.await.unwrap().before.is_none());
    }

    #[tokio::test]
    async fn what_is_no_longer_what_was_compiled_is_not_deployed() {
        let stores = Stores::new(GRANTS).await;
        let sources = stores.sources();
        let compile = stores.request("compile/create-compile", json!({ "projectId": 1 }));
        let compiling = sources.guard(&compile, &about_project(None)).await.unwrap();
        let (before, evidence) = (compiling.before.as_ref(), Evidence::default());
        let source = sources.of(&compile, 1);
        source.remember_compile("c-1", before, evidence).await;
        drop(compiling);
        let deployment = json!({ "projectId": 1, "compileId": "c-1" });
        let deploy = stores.request("live/create-live-algorithm", deployment);
        let decision = about_project(Some(Permit {
            id: "pm-1".to_owned(),
            approval: "ap-1".to_owned(),
            standing: false,
            uses_left: 1,
            cost_left: None,
            expires: i64::MAX,
        }));
        let deploying = sources.guard(&deploy, &decision).await.unwrap();
        assert!(deploying.before.is_some());
        drop(deploying);
        "another".clone_into(&mut stores.cloud.file.lock());
        let refusal = sources.guard(&deploy, &decision).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
    }
}
