//! The gate itself: decides calls, sends them, and learns their outcome.
//!
//! Invariant: a call runs in a task of the gate's. Dropping the future of [`Gate::call`] ends a call that has not been
//! sent yet; for any other it only discards the plugin's answer.

use parking_lot::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use qchost_audit::{Audit, Entry, Opening};
use qchost_catalog::{Access, Failure, OPERATIONS, Operation, Upstream, by_name, by_tool};
use qchost_ledger::{Ledger, LedgerError, StateStore};
use qchost_policy::{Manifest, PolicyError};
use qchost_scope::{Child, Scope};
use qchost_traffic::{Concurrency, Lanes, Moment, Rates};
use serde_json::{Map, Value};
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::admission::Admitted;
use crate::aside::Aside;
use crate::ask::{Ask, Caller, Intended};
use crate::asking::Asking;
use crate::changes::{Asked, Change, Changes, Subject};
use crate::closing::Closing;
use crate::components::Components;
use crate::download;
use crate::halts::Halts;
use crate::in_force::HeldBack;
use crate::keeping::{self, Keeping};
use crate::kept::one_line;
use crate::pins::SourceLocks;
use crate::reconfigure::blocking;
use crate::record::{self, Fingerprints, Known};
use crate::refusal::Refusal;
use crate::refusals::{Counted, Noted, Refusals, SUMMARY_INTERVAL, Series, shown};
use crate::sending::Sending;
use crate::settings::Settings;
use crate::share::Shares;
use crate::terms::{Enforceable, InForce, Rules};
use crate::toll::{Toll, UsedUp};
use qchost_policy::{DOWNLOAD, RAW, WORKFLOW, is_tool_name};

/// How many approvals may have their contents produced at a time.
const LOOKS: usize = 2;

/// What the gate needs besides the upstream connection.
#[derive(Debug)]
pub struct Options {
    /// The initial settings that calls are decided by.
    pub settings: Settings,
    /// The durable state.
    pub ledger: Ledger,
    /// The record of what was done.
    pub audit: Audit,
    /// What the audit found when it was opened.
    pub opening: Opening,
    /// The key under which arguments are fingerprinted.
    pub key: Zeroizing<Vec<u8>>,
    /// Time limit of one call, independent of the plugin's own limits: a write must be given the time to be answered even
    /// when its plugin is gone.
    pub call_timeout: Duration,
    /// Maximum bytes of records that one plugin's calls may add to the audit per day.
    pub audit_share: u64,
}

/// Why the gate cannot be opened or reconfigured.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The audit cannot be written.
    #[error(transparent)]
    Audit(#[from] qchost_audit::AuditError),
    /// A manifest cannot be enforced together with the guardrails.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The data folder is not accessible.
    #[error("cannot look for the file `halt` in the data folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// An internal error.
    #[error("the host failed while it compiled the policies; nothing has changed")]
    Failed,
}

/// The gate. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub upstream: Box<dyn Upstream>,
    pub ledger: Ledger,
    pub audit: Audit,
    pub call_timeout: Duration,
    pub shares: Shares,
    pub terms: InForce,
    /// Held while the settings are changed.
    pub reconfiguring: tokio::sync::Mutex<()>,
    pub prints: Arc<Fingerprints>,
    /// Records changes of what is in force.
    pub changes: Arc<Changes>,
    pub scope: Scope,
    pub halts: Arc<Halts>,
    pub keeping: Keeping,
    pub closing: Closing,
    pub rates: Rates,
    pub used_up: UsedUp,
    pub concurrency: Concurrency,
    pub lanes: Lanes,
    /// Locks on project sources, for calls that change them or rely on them.
    pub sources: SourceLocks,
    pub aside: Aside,
    pub refusals: Refusals,
    /// Incremented with every decision about an approval.
    pub decided: watch::Sender<u64>,
    /// The approvals that running invocations have requested.
    pub asking: Asking,
    /// Limits how many approvals have their contents produced at a time.
    pub looks: tokio::sync::Semaphore,
    /// The components that were admitted.
    pub components: Components,
    /// The plugins whose manifests were removed in this run; the ledger may not have stored it yet.
    pub gone: Mutex<BTreeSet<String>>,
    /// Whether the data folder is new, so that the files found are adopted.
    pub adopting: AtomicBool,
    /// Held by each write from its reservation to its intent, and by a backup, so that no write is in only one of the two
    /// stores in a backup.
    pub writing: tokio::sync::RwLock<()>,
    /// Writes of former runs with unknown outcome.
    pub unsettled: Mutex<Vec<Map<String, Value>>>,
    sent: TaskTracker,
    /// Makes the ids of calls unique across runs.
    run: String,
    calls: AtomicU64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("in_flight", &self.0.sent.len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Writes the record of refusals that were only counted.
    fn write_counted(&self, counted: Option<Counted>) {
        if let Some(counted) = counted {
            let Counted {
                plugin,
                word,
                calls,
                ..
            } = &counted;
            tracing::warn!(target: "gate", plugin = %plugin, refused = word, calls, "more calls were refused than are written down one by one");
            self.audit.note(counted.entry());
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

impl Gate {
    /// Opens a gate in front of an upstream connection, and settles the calls of former runs as far as ledger and audit
    /// agree on them. No plugin has any authority yet.
    ///
    /// # Errors
    /// When ledger or audit cannot be used.
    pub async fn open(upstream: Box<dyn Upstream>, options: Options) -> Result<Self, GateError> {
        let Options {
            settings,
            ledger,
            audit,
            opening,
            key,
            call_timeout,
            audit_share,
        } = options;
        let head = audit.clone();
        ledger.set_head(Arc::new(move || Some(head.head())));
        let adopting = AtomicBool::new(!ledger.has_adopted().await?);
        let (halts, keeping, keeper) = keeping::restore(&ledger, &audit).await?;
        let closing = Closing::restore(&ledger, |scope| halts.is_set(scope)).await?;
        let rates = Rates::open(ledger.clone(), Moment::now()).await?;
        let scope = Scope::new();
        recall(&scope, &ledger, settings.accounts.keys()).await?;
        let lanes = Lanes::new(settings.accounts.clone());
        let (sent, prints) = (TaskTracker::new(), Arc::new(Fingerprints::new(key)));
        let changes = Arc::new(Changes::new(
            audit.clone(),
            ledger.clone(),
            Arc::clone(&prints),
            sent.clone(),
            ledger.recorded().await?,
            ledger.unrecorded().await?,
        ));
        let under = Arc::clone(&changes);
        let rules = blocking(move || Ok(Rules::new(settings, &under))).await?;
        let gate = Self(Arc::new(Inner {
            upstream,
            ledger,
            audit,
            call_timeout,
            shares: Shares::new(audit_share),
            terms: InForce::new(rules, Arc::clone(&changes)),
            changes,
            reconfiguring: tokio::sync::Mutex::default(),
            prints,
            scope,
            halts: Arc::new(halts),
            keeping,
            closing,
            rates,
            used_up: UsedUp::default(),
            concurrency: Concurrency::default(),
            lanes,
            sources: SourceLocks::default(),
            aside: Aside::default(),
            refusals: Refusals::default(),
            decided: watch::Sender::new(0),
            asking: Asking::default(),
            looks: tokio::sync::Semaphore::new(LOOKS),
            components: Components::default(),
            gone: Mutex::default(),
            adopting,
            writing: tokio::sync::RwLock::default(),
            unsettled: Mutex::new(opening.unsettled),
            sent,
            run: format!("{:x}", now()),
            calls: AtomicU64::new(0),
        }));
        if let Some(keeper) = keeper {
            keeper.start(&gate)?;
        }
        if !gate.liquidations().is_empty() {
            gate.close_in_background();
        }
        gate.settle_former_runs().await?;
        gate.close_former_orphans().await;
        crate::retention::start(&gate.0.changes);
        gate.warn_of_unsettled();
        Ok(gate)
    }

    /// Makes a manifest the only authority of its plugin, from the next call on. A manifest that is in force already, or
    /// that the plugin was restricted to, is not compiled again; any other is compiled on this thread, so callers that
    /// also serve calls [prepare](Self::prepare) it first.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails; the former manifest stays in force then.
    pub fn install(&self, manifest: Manifest) -> Result<(), PolicyError> {
        loop {
            let known = self.0.terms.known(&manifest);
            let changes = &self.0.changes;
            let new =
                known.or_else(|under| Enforceable::compile(manifest.clone(), under, changes))?;
            if self.enforce(&new) {
                return Ok(());
            }
        }
    }

    /// Compiles a manifest on a thread that may block, unless it is compiled already. It changes nothing;
    /// [`enforce`](Self::enforce) does.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails.
    pub async fn prepare(&self, manifest: Manifest) -> Result<Enforceable, GateError> {
        match self.0.terms.known(&manifest) {
            Ok(known) => Ok(known),
            Err(under) => {
                let changes = Arc::clone(&self.0.changes);
                blocking(move || Enforceable::compile(manifest, under, &changes)).await
            }
        }
    }

    /// Compiles a manifest of which a part awaits approval, with the base that applies until then.
    ///
    /// # Errors
    /// When one of them cannot be compiled together with the guardrails.
    pub async fn prepare_held(
        &self,
        base: &Manifest,
        manifest: &Manifest,
        held: &HeldBack,
    ) -> Result<Enforceable, GateError> {
        loop {
            let base = self.prepare_base(base, manifest).await?;
            let whole = self.prepare(manifest.clone()).await?;
            if let Some(new) = base.held_to(&whole, held) {
                return Ok(new);
            }
        }
    }

    async fn prepare_base(&self, base: &Manifest, of: &Manifest) -> Result<Enforceable, GateError> {
        match self.0.terms.known(base) {
            Ok(known) => Ok(known),
            Err(under) => {
                let (base, of) = (base.clone(), of.clone());
                let changes = Arc::clone(&self.0.changes);
                blocking(move || Enforceable::compile_base(base, &of, under, &changes)).await
            }
        }
    }

    /// Does without blocking what [`install`](Self::install) does. Returns `false` if the settings changed since `new`
    /// was prepared: nothing has changed then, and it has to be prepared again.
    #[must_use]
    pub fn enforce(&self, new: &Enforceable) -> bool {
        self.0.terms.install(new)
    }

    /// Restricts a plugin to what this manifest allows as well, until the next [`install`](Self::install). It is used for
    /// a changed manifest whose component does not serve yet: removals apply at once, additions do not. The obligations
    /// of both manifests apply. Installing a manifest lifts the restriction. Without an installed manifest this does
    /// nothing. Compiles on a thread that may block; once the future is dropped, nothing changes.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails; nothing has changed then.
    pub async fn restrict(&self, manifest: Manifest) -> Result<(), GateError> {
        while self.0.terms.of(&manifest.plugin).is_some() {
            let new = self.prepare(manifest.clone()).await?;
            if self.0.terms.restrict(&new) {
                break;
            }
        }
        Ok(())
    }

    /// Removes a plugin's authority, from the next call on. The same manifest counts as a new one when it reappears.
    pub fn remove(&self, plugin: &str) {
        self.0.terms.remove(plugin);
        self.gone().insert(plugin.to_owned());
        let (gate, plugin) = (self.clone(), plugin.to_owned());
        self.spawn(async move {
            if let Err(error) = gate.0.ledger.take_manifest_away(&plugin).await {
                tracing::error!(target: "gate", plugin, %error, "that its manifest was taken away is not stored");
            }
        });
    }

    /// Removes the manifests in force for which no file exists any more.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn remove_missing(&self, stands: impl Fn(&str) -> bool) -> Result<(), LedgerError> {
        for plugin in self.0.ledger.manifests_in_force().await? {
            if !stands(&plugin) {
                self.gone().insert(plugin.clone());
                self.0.ledger.take_manifest_away(&plugin).await?;
            }
        }
        Ok(())
    }

    /// The plugins whose manifests were removed in this run.
    pub(crate) fn gone(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.gone.lock()
    }

    /// The manifest of a plugin whose component serves.
    #[must_use]
    pub fn manifest(&self, plugin: &str) -> Option<Arc<Manifest>> {
        let terms = self.0.terms.of(plugin)?;
        Some(Arc::clone(terms.authority.manifest()))
    }

    /// Called once everything that the files ask for is loaded: what was in force when the last run ended, and is not
    /// now, is recorded as removed.
    pub fn loaded(&self) {
        let changes = &self.0.changes;
        changes.note(changes.of_former_runs());
        changes.store_soon();
    }

    /// Names a person as requester of the changes that are recorded while the guard lives.
    #[must_use]
    pub fn reload_asked_by(&self, uid: u32) -> Asked {
        self.0.changes.asked(uid)
    }

    /// Records that a component serves a plugin from now on.
    pub fn note_component(&self, manifest: &Manifest, digest: &str, owner: Option<u32>) {
        let change = Change {
            account: Some(manifest.account.clone()),
            file: Some(manifest.component.display().to_string()),
            owners: owner.into_iter().collect(),
            ..Change::of(Subject::Component)
        };
        let changes = &self.0.changes;
        changes.note(changes.of_component(change, &manifest.plugin, digest));
        changes.store_soon();
    }

    /// Records that a plugin is quarantined because it keeps failing, with the reason; or, without a reason, that the
    /// quarantine ended.
    pub fn note_quarantine(&self, plugin: &str, digest: &str, reason: Option<String>) {
        let reason = reason.map(|reason| one_line(&reason));
        let (before, after) = match reason {
            Some(_) => (None, Some(digest.to_owned())),
            None => (Some(digest.to_owned()), None),
        };
        let change = Change {
            plugin: Some(plugin.to_owned()),
            digest_before: before,
            digest_after: after,
            note: Some(reason.unwrap_or_else(|| "released: an invocation went well".to_owned())),
            ..Change::of(Subject::Quarantine)
        };
        let entry = Entry {
            // The plugin can cause it at will.
            essential: false,
            ..change.entry()
        };
        self.0.audit.note(entry);
    }

    pub(crate) fn settings(&self) -> Arc<Rules> {
        self.0.terms.settings()
    }

    /// The key-value state of plugins.
    #[must_use]
    pub fn state(&self) -> &StateStore {
        self.0.ledger.state()
    }

    /// The audit.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Waits until every call is refused or has an outcome that is recorded on disk.
    pub async fn idle(&self) {
        self.0.sent.close();
        self.0.sent.wait().await;
        self.0.sent.reopen();
        for counted in self.0.refusals.take_all() {
            self.0.write_counted(Some(counted));
        }
        if let Err(error) = self.0.audit.flush().await {
            tracing::error!(target: "gate", %error, "the audit is not on disk");
        }
    }

    /// Shuts the gate down: waits for calls that were sent, returns budget reserved ahead, and closes the audit. The host
    /// calls it last.
    pub async fn close(&self) {
        self.idle().await;
        if let Err(error) = self.0.ledger.close().await {
            tracing::error!(target: "gate", %error, "counted reads that were reserved ahead are lost");
        }
        self.0.audit.close().await;
    }

    /// Makes a call. `arguments` are flat, under their JSON names. Returns the whole response body.
    ///
    /// # Errors
    /// When it is not allowed, its budget is exhausted, it awaits approval or is halted (nothing was sent in these
    /// cases), or the connection gave no usable answer.
    pub async fn call(
        &self,
        caller: &Caller,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Result<Value, Refusal> {
        let intended = Intended::default();
        self.call_marked(caller, operation, arguments, intended)
            .await
    }

    /// Like [`call`](Self::call), and marks when the call may have been sent, for callers that stop waiting for the
    /// answer.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_marked(
        &self,
        caller: &Caller,
        operation: &'static Operation,
        arguments: Map<String, Value>,
        intended: Intended,
    ) -> Result<Value, Refusal> {
        let mut ask = self.ask(
            caller,
            Some(operation),
            Cow::Borrowed(operation.name),
            Cow::Borrowed(operation.tool),
            operation.access,
            arguments,
        )?;
        ask.intended = intended;
        self.pass(ask).await
    }

    /// Calls a tool by its name. A tool that the catalog knows is treated as that operation.
    ///
    /// # Errors
    /// As [`call`](Self::call). A tool that the catalog does not know counts as trade, so it must be granted by its exact
    /// name.
    pub async fn call_raw(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, Refusal> {
        if let Some(operation) = by_tool(tool) {
            return self.call(caller, operation, arguments).await;
        }
        if !is_tool_name(tool) {
            return Err(self.refuse_name(caller, tool, arguments)?);
        }
        let ask = self.ask(
            caller,
            None,
            Cow::Owned(format!("{RAW}/{tool}")),
            Cow::Owned(tool.to_owned()),
            Access::Trade,
            arguments,
        )?;
        // A denial would suggest lines that grant it, and granting would not help.
        if self.0.upstream.has_tool(ask.account(), tool) == Some(false) {
            let near = qchost_policy::nearest(tool, OPERATIONS.iter().map(|known| known.tool));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let refusal = Refusal::Failed(Failure::NotFound(format!(
                "no server of the account `{}` has a tool of this name{near}",
                ask.account()
            )));
            self.note_refusal(&ask, &Known::default(), &refusal);
            return Err(refusal);
        }
        self.pass(ask).await
    }

    /// Refuses a call with a name that no tool can have. The record and the error contain a shortened name.
    fn refuse_name(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<Refusal, Refusal> {
        let shown = shown(tool);
        let refusal = Refusal::Failed(Failure::InvalidArgument(format!(
            "`{shown}` is no tool's name: letters, digits, `_`, `-`, `.` and at most 128 of them"
        )));
        let ask = self.ask(
            caller,
            None,
            Cow::Owned(format!("{RAW}/{shown}")),
            Cow::Owned(shown),
            Access::Trade,
            arguments,
        )?;
        self.note_refusal(&ask, &Known::default(), &refusal);
        Ok(refusal)
    }

    /// Reads an object's bytes, at most `limit` of them: prepares the download, waits for it and fetches it. One
    /// decision, one record.
    ///
    /// # Errors
    /// As [`call`](Self::call); and when there is no such object, or it is larger than the limit.
    pub async fn download(
        &self,
        caller: &Caller,
        organization: &str,
        key: &str,
        limit: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let mut arguments = Map::new();
        arguments.insert("organizationId".to_owned(), organization.into());
        arguments.insert("key".to_owned(), key.into());
        let mut ask = self.ask(
            caller,
            None,
            Cow::Borrowed(DOWNLOAD),
            Cow::Borrowed(DOWNLOAD),
            Access::Read,
            arguments,
        )?;
        let Admitted {
            verdict, mut held, ..
        } = self.admit_call(&mut ask).await?;
        // Each of its steps waits for the rate limit by itself.
        held.ticket = None;
        let downloading = download::Download {
            gate: self.clone(),
            ask,
            verdict,
            _held: held,
            limit,
        };
        let result = self.spawn(downloading.run()).await;
        result.unwrap_or_else(|_| {
            let failed = "the host failed while it fetched the object";
            Err(Refusal::Failed(Failure::Unavailable(failed.to_owned())))
        })
    }

    /// Checks that the plugin may have the host run batches for it.
    ///
    /// # Errors
    /// When its manifest does not allow it.
    pub async fn check_workflow(&self, caller: &Caller) -> Result<(), Refusal> {
        let mut ask = self.ask(
            caller,
            None,
            Cow::Borrowed(WORKFLOW),
            Cow::Borrowed(WORKFLOW),
            Access::Read,
            Map::new(),
        )?;
        let verdict = self.admit_call(&mut ask).await?.verdict;
        let known = verdict.known(None);
        if let Err(refusal) = self.take_read(&ask, &verdict).await {
            self.note_refusal(&ask, &known, &refusal);
            return Err(refusal);
        }
        let entry = record::read(&ask, &known, &Ok(Value::Null), &self.0.prints);
        self.0.audit.note(entry);
        Ok(())
    }

    /// A call as requested, under the terms that its plugin has now.
    pub(crate) fn ask(
        &self,
        caller: &Caller,
        operation: Option<&'static Operation>,
        name: Cow<'static, str>,
        tool: Cow<'static, str>,
        access: Access,
        arguments: Map<String, Value>,
    ) -> Result<Ask, Refusal> {
        Ok(Ask {
            call: self.next_call(),
            caller: caller.clone(),
            terms: self.terms(caller)?,
            operation,
            name,
            tool,
            access,
            arguments,
            begun: Instant::now(),
            intended: Intended::default(),
            toll: Toll::default(),
        })
    }

    /// A unique id for a call.
    pub(crate) fn next_call(&self) -> String {
        let number = self.0.calls.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.0.run)
    }

    /// Decides a call and sends it, in a task of the gate's: the caller is a guest on a small stack, which would keep
    /// every page that deciding touches for as long as it waits. Downloads and batches are decided in the caller's task,
    /// since few of them run at a time.
    fn pass(&self, ask: Ask) -> impl Future<Output = Result<Value, Refusal>> + use<> {
        let (answer, waiter) = oneshot::channel();
        let intended = ask.intended.clone();
        self.0.sent.spawn(Sending::admit(self.clone(), ask, answer));
        async move {
            waiter.await.unwrap_or_else(|_| {
                Err(Refusal::Failed(if intended.get() {
                    Failure::UnknownOutcome("the host failed while it waited for the answer; read the state before you try again".to_owned())
                } else {
                    Failure::Unavailable("the host failed while it decided about the call; nothing was changed".to_owned())
                }))
            })
        }
    }

    /// Records a refusal, or adds it to a count if the plugin is refused often.
    pub(crate) fn note_refusal(&self, ask: &Ask, known: &Known<'_>, refusal: &Refusal) {
        let entry = || record::refused(ask, known, refusal, &self.0.prints);
        let series = Series::new(ask, refusal);
        match self
            .0
            .refusals
            .note(&series, entry, Instant::now(), Timestamp::now())
        {
            Noted::Whole(entry) => {
                if ask.caller.may_be_logged() {
                    tracing::warn!(
                        target: "gate", plugin = %ask.caller.plugin, invocation = %ask.caller.invocation,
                        operation = %ask.name, refused = refusal.word(), approval = refusal.approval(),
                    );
                }
                self.0.audit.note(entry);
            }
            Noted::FirstCounted => {
                let inner = Arc::downgrade(&self.0);
                tokio::spawn(async move {
                    tokio::time::sleep(SUMMARY_INTERVAL).await;
                    if let Some(inner) = inner.upgrade() {
                        inner.write_counted(inner.refusals.take(&series));
                    }
                });
            }
            Noted::Counted => {}
        }
    }

    /// Runs work of the host's own detached: cancelling the caller does not abort it.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.sent.spawn(work)
    }
}

/// Loads into a scope what the ledger remembers of accounts: the creators of projects, and the projects of compiles.
pub(crate) async fn recall(
    scope: &Scope,
    ledger: &Ledger,
    accounts: impl Iterator<Item = &String>,
) -> Result<(), LedgerError> {
    for account in accounts {
        for (plugin, project) in ledger.created(account).await? {
            scope.remember_created(account, &plugin, project);
        }
        for (compile, project) in ledger.compiles(account).await? {
            scope.remember_child(account, Child::Compile, &compile, project);
        }
    }
    Ok(())
}

/// The catalog's operation of this name, for those that the host itself calls.
pub(crate) fn known(name: &str) -> Result<&'static Operation, Failure> {
    by_name(name)
        .ok_or_else(|| Failure::Unavailable(format!("the catalog has no operation `{name}`")))
}
