//! The gate: wires the stages that a call passes and the administration beside them.
//!
//! Invariant: dropping the future of [`Gate::call`] ends a call that has not been sent yet; for any other it only discards
//! the plugin's answer, and the call runs to its end in a task of the gate.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Either;
use parking_lot::Mutex;
use qchost_audit::{Audit, AuditError, Entry, Kind, Opening};
use qchost_catalog::{Access, BoxFuture, Failure, OPERATIONS, Operation, Upstream, by_tool};
use qchost_ledger::{
    Approval, ApprovalFilter, ApprovalPage, InForce, Ledger, LedgerError, StandingPermit,
    StateStore,
};
use qchost_policy::{DOWNLOAD, Manifest, Person, PolicyError, WORKFLOW, is_tool_name};
use qchost_scope::Scope;
use qchost_traffic::{AccountQueues, CpuMeter, GrantRates, Moment};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::admission::{AdmittedCall, Admitter};
use crate::adoption::Adoptions;
use crate::approval_contents::ApprovalViewer;
use crate::approval_requests::ApprovalRequests;
use crate::approvals::{Approvals, DecideError};
use crate::approve::Approver;
use crate::aside::LongReads;
use crate::audit_quota::AuditQuotas;
use crate::authorize::Authorizer;
use crate::backup::{BackupError, Backups};
use crate::body::{AdminBody, AdminDetail, Change, Subject};
use crate::call::{CallIds, CallRequest, Callee, HTTP, Principal, SentMarker};
use crate::changes::{Changes, RequesterGuard};
use crate::clock::now;
use crate::components::Components;
use crate::dispatch::{Dispatch, Dispatcher, Reply};
use crate::download::{Download, Downloader};
use crate::error::GateError;
use crate::fingerprint::Fingerprints;
use crate::halt::{HaltControl, HaltReport, ResumeReport};
use crate::halt_store::{HaltError, HaltStore};
use crate::halts::{ActiveHalt, HaltScope};
use crate::in_place::InPlace;
use crate::invocation_approvals::InvocationApprovals;
use crate::kept::one_line;
use crate::liquidation::{Liquidator, OpenLiquidation, Unfinished};
use crate::outgoing::{Outgoing, OutgoingRequests, RequestPermission};
use crate::plugin_calls::PluginCalls;
use crate::policy_store::{CompiledPolicy, PolicyStore, blocking};
use crate::proposal::{AdmitError, Admitted, PendingApproval, Proposal};
use crate::proposals::Proposals;
use crate::read_limits::ReadLimits;
use crate::reads::HostReader;
use crate::reconcile::{ReconcileError, Reconciled, Reconciler};
use crate::reconfigure::{Reconfigurer, recall};
use crate::record::{self, AuditContext};
use crate::refusal::{Refusal, unusable};
use crate::refusal_log::{RefusalLog, shown};
use crate::report::{Explanation, GrantsReport, Reporter};
use crate::reserve::Reserver;
use crate::resolve::Resolver;
use crate::retention;
use crate::settings::Settings;
use crate::source_locks::SourceLocks;
use crate::sources::SourceGuards;
use crate::throttle::Throttle;
use crate::trade::TradeRules;
use crate::unsettled::UnsettledWrites;

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

/// The gate. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Stages>);

/// All that a gate consists of.
struct Stages {
    upstream: Arc<dyn Upstream>,
    ledger: Ledger,
    audit: Audit,
    fingerprints: Arc<Fingerprints>,
    policies: Arc<PolicyStore>,
    changes: Arc<Changes>,
    ids: Arc<CallIds>,
    /// Calls under way, and the host's own work.
    tasks: TaskTracker,

    authorizer: Arc<Authorizer>,
    admitter: Admitter,
    approver: Arc<Approver>,
    reserver: Reserver,
    dispatcher: Arc<Dispatcher>,
    downloader: Arc<Downloader>,
    outgoing: Arc<OutgoingRequests>,
    refusals: Arc<RefusalLog>,

    proposals: Arc<Proposals>,
    adoptions: Arc<Adoptions>,
    approvals: Arc<Approvals>,
    viewer: ApprovalViewer,
    invocations: Arc<InvocationApprovals>,
    halts: Arc<HaltControl>,
    reconfigurer: Arc<Reconfigurer>,
    reconciler: Reconciler,
    reporter: Reporter,
    backups: Backups,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("in_flight", &self.0.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Stages {
    async fn open(upstream: Arc<dyn Upstream>, options: Options) -> Result<Self, GateError> {
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
        let tasks = TaskTracker::new();
        let ids = Arc::new(CallIds::new(now()));
        let fingerprints = Arc::new(Fingerprints::new(key));
        let writing = Arc::default();
        let rates = Arc::new(GrantRates::open(ledger.clone(), Moment::now()).await?);
        let queues = Arc::new(AccountQueues::new(settings.accounts.clone()));
        let scope = Arc::new(Scope::new());
        recall(&scope, &ledger, settings.accounts.keys()).await?;
        let halt_store = HaltStore::open(ledger.clone(), audit.clone(), tasks.clone()).await?;

        let changes = Arc::new(Changes::new(
            audit.clone(),
            ledger.clone(),
            Arc::clone(&fingerprints),
            tasks.clone(),
            ledger.recorded().await?,
            ledger.unrecorded().await?,
        ));
        let keeper = Arc::clone(&changes);
        let settings = blocking(move || Ok(keeper.keep_settings(settings))).await?;
        let policies = Arc::new(PolicyStore::new(settings, Arc::clone(&changes)));

        let unsettled = Arc::new(UnsettledWrites::new(
            &opening.unsettled,
            Arc::clone(&fingerprints),
        ));
        let audit_quotas = Arc::new(AuditQuotas::new(audit_share));
        let authorizer = Arc::new(Authorizer {
            policies: Arc::clone(&policies),
            halts: Arc::clone(&halt_store.halts),
            audit_quotas: Arc::clone(&audit_quotas),
            unsettled: Arc::clone(&unsettled),
        });
        let refusals = Arc::new(RefusalLog::new(audit.clone(), Arc::clone(&fingerprints)));
        let limits = Arc::new(ReadLimits::new(Arc::clone(&rates), ledger.clone()));
        let reads = Arc::new(HostReader {
            upstream: Arc::clone(&upstream),
            queues: Arc::clone(&queues),
            limits: Arc::clone(&limits),
            call_timeout,
        });
        let sources = Arc::new(SourceGuards {
            locks: SourceLocks::default(),
            reads: Arc::clone(&reads),
            upstream: Arc::clone(&upstream),
            policies: Arc::clone(&policies),
            ledger: ledger.clone(),
            audit: audit.clone(),
            fingerprints: Arc::clone(&fingerprints),
            ids: Arc::clone(&ids),
        });

        let requests = Arc::new(ApprovalRequests::new(
            ledger.clone(),
            audit.clone(),
            Arc::clone(&policies),
        ));
        let invocations = Arc::new(InvocationApprovals::new(
            ledger.clone(),
            Arc::clone(&requests),
            tasks.clone(),
        ));
        let approver = Arc::new(Approver {
            ledger: ledger.clone(),
            fingerprints: Arc::clone(&fingerprints),
            requests: Arc::clone(&requests),
            invocations: Arc::clone(&invocations),
        });
        let proposals = Arc::new(Proposals {
            ledger: ledger.clone(),
            policies: Arc::clone(&policies),
            changes: Arc::clone(&changes),
            fingerprints: Arc::clone(&fingerprints),
            rates: Arc::clone(&rates),
            requests: Arc::clone(&requests),
            gone: Mutex::default(),
            adopting: AtomicBool::new(!ledger.has_adopted().await?),
            tasks: tasks.clone(),
        });
        let adoptions = Arc::new(Adoptions {
            ledger: ledger.clone(),
            policies: Arc::clone(&policies),
            changes: Arc::clone(&changes),
            fingerprints: Arc::clone(&fingerprints),
            components: Components::default(),
            requests: Arc::clone(&requests),
            proposals: Arc::clone(&proposals),
        });
        let trade = Arc::new(TradeRules {
            ledger: ledger.clone(),
            adoptions: Arc::clone(&adoptions),
        });
        let throttle = Arc::new(Throttle::new(rates, Arc::clone(&queues)));
        let reserver = Reserver {
            ledger: ledger.clone(),
        };

        let is_halted = |scope: &HaltScope| halt_store.halts.is_set(scope);
        let liquidator = Arc::new(Liquidator {
            upstream: Arc::clone(&upstream),
            audit: audit.clone(),
            scope: Arc::clone(&scope),
            policies: Arc::clone(&policies),
            ids: Arc::clone(&ids),
            call_timeout,
            tasks: tasks.clone(),
            unfinished: Unfinished::restore(&ledger, is_halted).await?,
            ledger: ledger.clone(),
        });

        Ok(Self {
            admitter: Admitter {
                authorizer: Arc::clone(&authorizer),
                resolver: Resolver {
                    scope: Arc::clone(&scope),
                    reads: Arc::clone(&reads),
                    long_reads: LongReads::default(),
                },
                trade: Arc::clone(&trade),
                approver: Arc::clone(&approver),
                throttle: Arc::clone(&throttle),
                sources: Arc::clone(&sources),
                limits,
                refusals: Arc::clone(&refusals),
            },
            dispatcher: Arc::new(Dispatcher {
                upstream: Arc::clone(&upstream),
                call_timeout,
                ledger: ledger.clone(),
                audit: audit.clone(),
                fingerprints: Arc::clone(&fingerprints),
                authorizer: Arc::clone(&authorizer),
                reserver: reserver.clone(),
                halts: Arc::clone(&halt_store.halts),
                scope: Arc::clone(&scope),
                reads: Arc::clone(&reads),
                sources,
                refusals: Arc::clone(&refusals),
                audit_quotas,
                unsettled: Arc::clone(&unsettled),
                writing: Arc::clone(&writing),
                tasks: tasks.clone(),
            }),
            downloader: Arc::new(Downloader {
                upstream: Arc::clone(&upstream),
                call_timeout,
                audit: audit.clone(),
                fingerprints: Arc::clone(&fingerprints),
                authorizer: Arc::clone(&authorizer),
                reserver: reserver.clone(),
                reads: Arc::clone(&reads),
                refusals: Arc::clone(&refusals),
            }),
            outgoing: Arc::new(OutgoingRequests {
                audit: audit.clone(),
                fingerprints: Arc::clone(&fingerprints),
                authorizer: Arc::clone(&authorizer),
                throttle,
                reserver: reserver.clone(),
                refusals: Arc::clone(&refusals),
                writing: Arc::clone(&writing),
                tasks: tasks.clone(),
            }),
            approvals: Arc::new(Approvals {
                ledger: ledger.clone(),
                audit: audit.clone(),
                policies: Arc::clone(&policies),
                requests,
                adoptions: Arc::clone(&adoptions),
                tasks: tasks.clone(),
            }),
            viewer: ApprovalViewer::new(ledger.clone(), Arc::clone(&reads)),
            halts: Arc::new(HaltControl {
                store: halt_store,
                liquidator,
                policies: Arc::clone(&policies),
                tasks: tasks.clone(),
            }),
            reconfigurer: Arc::new(Reconfigurer {
                ledger: ledger.clone(),
                audit: audit.clone(),
                policies: Arc::clone(&policies),
                changes: Arc::clone(&changes),
                scope: Arc::clone(&scope),
                queues,
                tasks: tasks.clone(),
                changing: tokio::sync::Mutex::default(),
            }),
            reconciler: Reconciler {
                ledger: ledger.clone(),
                audit: audit.clone(),
                reads,
                unsettled,
            },
            reporter: Reporter {
                ledger: ledger.clone(),
                authorizer: Arc::clone(&authorizer),
                trade,
                scope,
            },
            backups: Backups {
                ledger: ledger.clone(),
                audit: audit.clone(),
                texts: changes.texts.clone(),
                writing,
            },
            upstream,
            ledger,
            audit,
            fingerprints,
            policies,
            changes,
            ids,
            tasks,
            authorizer,
            approver,
            reserver,
            refusals,
            proposals,
            adoptions,
            invocations,
        })
    }

    /// Admits a call and sends it, unless its caller stops waiting before. The future is created on the small stack of a
    /// guest, so its large parts are allocated when it runs.
    async fn run(self: Arc<Self>, mut request: CallRequest, mut reply: Reply) {
        let cpu = request.principal.cpu.clone();
        let admitting = while_awaited(&mut reply, cpu, self.admitter.admit(&mut request));
        match Box::pin(admitting).await {
            None => {}
            Some(Ok(admission)) => {
                let dispatch = Box::new(Dispatch {
                    with: Arc::clone(&self.dispatcher),
                    request,
                    admission,
                });
                Box::pin(self.dispatch(dispatch, reply)).await;
            }
            Some(Err(refusal)) => drop(reply.send(Err(refusal))),
        }
    }

    /// Sends an admitted call. If its policy changed before it was sent, it is admitted again as a new call.
    async fn dispatch(&self, mut dispatch: Box<Dispatch>, mut reply: Reply) {
        loop {
            reply = match dispatch.send_once(reply).await {
                Some(reply) if !reply.is_closed() => reply,
                _ => return,
            };
            dispatch.request.call = self.ids.next();
            let cpu = dispatch.request.principal.cpu.clone();
            let again = self
                .admitter
                .readmit(&mut dispatch.request, dispatch.admission);
            match Box::pin(while_awaited(&mut reply, cpu, again)).await {
                None => return,
                Some(Ok(admission)) => dispatch.admission = admission,
                Some(Err(refusal)) => return drop(reply.send(Err(refusal))),
            }
        }
    }
}

/// Admits a call, charged to its caller, or returns `None` if the caller has stopped waiting. That is checked first, since
/// an admitted read is sent.
async fn while_awaited(
    reply: &mut Reply,
    cpu: CpuMeter,
    admission: impl Future<Output = Result<AdmittedCall, Refusal>>,
) -> Option<Result<AdmittedCall, Refusal>> {
    let admission = pin!(admission);
    tokio::select! {
        biased;
        () = reply.closed() => None,
        admitted = cpu.charge(admission) => Some(admitted),
    }
}

/// Calls of plugins and operators.
impl Gate {
    /// Opens a gate in front of an upstream connection, and settles the calls of former runs as far as ledger and audit
    /// agree on them. No plugin has any authority yet.
    ///
    /// # Errors
    /// When ledger or audit cannot be used.
    pub async fn open(upstream: Box<dyn Upstream>, options: Options) -> Result<Self, GateError> {
        let stages = Stages::open(Arc::from(upstream), options).await?;
        stages.halts.liquidator.resume();
        stages.reconciler.settle_former_runs().await?;
        stages.invocations.close_former().await;
        retention::start(&stages.changes);
        stages.dispatcher.unsettled.warn();
        Ok(Self(Arc::new(stages)))
    }

    /// A call as requested, under the policy that its principal has now.
    fn request(
        &self,
        principal: &Principal,
        callee: Callee,
        arguments: Map<String, Value>,
    ) -> Result<CallRequest, Refusal> {
        let policy = self.0.authorizer.policy_of(principal)?;
        let call = self.0.ids.next();
        Ok(CallRequest::new(
            call,
            principal.clone(),
            policy,
            callee,
            arguments,
        ))
    }

    /// Makes a call, like [`call_marked`](PluginCalls::call_marked).
    ///
    /// # Errors
    /// As [`call_marked`](PluginCalls::call_marked).
    pub async fn call(
        &self,
        principal: &Principal,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Result<Value, Refusal> {
        let intended = SentMarker::default();
        self.call_marked(principal, operation, arguments, intended)
            .await
    }

    /// Decides a call and sends it: a read in the caller's task, anything else in a task of the gate, which nothing of the
    /// caller can hold up between its intent and its outcome. Downloads and batches are decided in the caller's task.
    fn pass(&self, request: CallRequest) -> impl Future<Output = Result<Value, Refusal>> + use<> {
        let (reply, answer) = oneshot::channel();
        let intended = request.intended.clone();
        let is_read = request.access == Access::Read;
        let tasks = &self.0.tasks;
        let running = Arc::clone(&self.0).run(request, reply);
        let answer = if is_read {
            Either::Left(InPlace::new(running, answer, tasks))
        } else {
            tasks.spawn(running);
            Either::Right(answer.map(Result::ok))
        };
        async move {
            answer.await.unwrap_or_else(|| {
                Err(Refusal::Failed(if intended.get() {
                    Failure::UnknownOutcome("the host failed while it waited for the answer; read the state before you try again".to_owned())
                } else {
                    Failure::Unavailable("the host failed while it decided about the call; nothing was changed".to_owned())
                }))
            })
        }
    }
}

impl PluginCalls for Gate {
    fn call_marked<'a>(
        &'a self,
        principal: &'a Principal,
        operation: &'static Operation,
        arguments: Map<String, Value>,
        intended: SentMarker,
    ) -> BoxFuture<'a, Result<Value, Refusal>> {
        Box::pin(async move {
            let mut request = self.request(principal, operation.into(), arguments)?;
            request.intended = intended;
            self.pass(request).await
        })
    }

    fn call_raw<'a>(
        &'a self,
        principal: &'a Principal,
        tool: &'a str,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, Refusal>> {
        Box::pin(async move {
            if let Some(operation) = by_tool(tool) {
                return self.call(principal, operation, arguments).await;
            }
            let refuse = |request: &CallRequest, failure: Failure| {
                let refusal = Refusal::Failed(failure);
                let context = AuditContext::default();
                self.0.refusals.note(request, &context, &refusal);
                refusal
            };
            if !is_tool_name(tool) {
                // The record and the error contain a shortened name.
                let shown = shown(tool);
                let failure = Failure::InvalidArgument(format!(
                    "`{shown}` is no tool's name: letters, digits, `_`, `-`, `.` and at most 128 of them"
                ));
                let request = self.request(principal, Callee::unknown_tool(shown), arguments)?;
                return Err(refuse(&request, failure));
            }
            let callee = Callee::unknown_tool(tool.to_owned());
            let request = self.request(principal, callee, arguments)?;
            // A denial would suggest lines that grant it, and granting would not help.
            if self.0.upstream.has_tool(request.account(), tool) == Some(false) {
                let near = qchost_policy::nearest(tool, OPERATIONS.iter().map(|known| known.tool));
                let near =
                    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let failure = Failure::NotFound(format!(
                    "no server of the account `{}` has a tool of this name{near}",
                    request.account()
                ));
                return Err(refuse(&request, failure));
            }
            self.pass(request).await
        })
    }

    fn download<'a>(
        &'a self,
        principal: &'a Principal,
        organization: &'a str,
        key: &'a str,
        limit: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, Refusal>> {
        Box::pin(async move {
            let arguments = Map::from_iter([
                ("organizationId".to_owned(), organization.into()),
                ("key".to_owned(), key.into()),
            ]);
            let callee = Callee::service(DOWNLOAD, Access::Read);
            let mut request = self.request(principal, callee, arguments)?;
            let AdmittedCall {
                decision,
                mut guards,
                ..
            } = self.0.admitter.admit(&mut request).await?;
            // Each of its steps waits for the rate limit by itself.
            guards.account_admission = None;
            let download = Download {
                with: Arc::clone(&self.0.downloader),
                request,
                decision,
                _guards: guards,
                limit,
            };
            let result = self.0.tasks.spawn(download.run()).await;
            result.unwrap_or_else(|_| {
                let failed = "the host failed while it fetched the object";
                Err(Refusal::Failed(Failure::Unavailable(failed.to_owned())))
            })
        })
    }

    fn check_workflow<'a>(
        &'a self,
        principal: &'a Principal,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let callee = Callee::service(WORKFLOW, Access::Read);
            let mut request = self.request(principal, callee, Map::new())?;
            let decision = self.0.admitter.admit(&mut request).await?.decision;
            let context = AuditContext::of(&decision, None);
            if let Err(refusal) = self.0.reserver.charge_read(&request, &decision).await {
                self.0.refusals.note(&request, &context, &refusal);
                return Err(refusal);
            }
            let record = record::read(&request, &context, &Ok(Value::Null), &self.0.fingerprints);
            self.0.audit.note(record.entry());
            Ok(())
        })
    }

    fn outgoing<'a>(
        &'a self,
        principal: &'a Principal,
        outgoing: Outgoing,
    ) -> BoxFuture<'a, Result<RequestPermission, Refusal>> {
        Box::pin(async move {
            let deciding = async {
                let callee = Callee::service(HTTP, outgoing.access());
                let request = self.request(principal, callee, outgoing.arguments())?;
                self.0.outgoing.decide(Arc::new(request), outgoing).await
            };
            principal.cpu.charge(pin!(deciding)).await
        })
    }

    fn wait_approval<'a>(
        &'a self,
        principal: &'a Principal,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.0.approver.wait(principal, id))
    }

    fn invocation_ended(&self, principal: &Principal, in_order: bool) {
        self.0.invocations.ended(principal, in_order);
    }

    fn state(&self) -> &StateStore {
        self.0.ledger.state()
    }
}

/// What is in force.
impl Gate {
    /// Makes a manifest the only authority of its plugin, from the next call on. A manifest that is in force already, or
    /// that the plugin was restricted to, is not compiled again; any other is compiled on this thread, so callers that
    /// also serve calls [prepare](Self::prepare) it first.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails; the former manifest stays in force then.
    pub fn install(&self, manifest: Manifest) -> Result<(), PolicyError> {
        self.0.policies.install(manifest)
    }

    /// Compiles a manifest on a thread that may block, unless it is compiled already. It changes nothing;
    /// [`enforce`](Self::enforce) does.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails.
    pub async fn prepare(&self, manifest: Manifest) -> Result<CompiledPolicy, GateError> {
        self.0.policies.prepare(manifest).await
    }

    /// Compiles a manifest of which a part awaits approval, with the base that applies until then.
    ///
    /// # Errors
    /// When one of them cannot be compiled together with the guardrails.
    pub async fn prepare_pending(
        &self,
        base: &Manifest,
        manifest: &Manifest,
        held: &PendingApproval,
    ) -> Result<CompiledPolicy, GateError> {
        self.0.policies.prepare_pending(base, manifest, held).await
    }

    /// Does without blocking what [`install`](Self::install) does. Returns `false` if the settings changed since `new`
    /// was prepared: nothing has changed then, and it has to be prepared again.
    #[must_use]
    pub fn enforce(&self, new: &CompiledPolicy) -> bool {
        self.0.policies.enforce(new)
    }

    /// Restricts a plugin to what this manifest allows as well, until the next [`install`](Self::install). It is used for
    /// a changed manifest whose component does not serve yet: removals apply at once, additions do not. The obligations
    /// of both manifests apply. Installing a manifest lifts the restriction. Without an installed manifest this does
    /// nothing. Compiles on a thread that may block; once the future is dropped, nothing changes.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails; nothing has changed then.
    pub async fn restrict(&self, manifest: Manifest) -> Result<(), GateError> {
        self.0.policies.restrict(manifest).await
    }

    /// Removes a plugin's authority, from the next call on. The same manifest counts as a new one when it reappears.
    pub fn remove(&self, plugin: &str) {
        self.0.proposals.remove(plugin);
    }

    /// Removes the manifests in force for which no file exists any more.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn remove_missing(&self, stands: impl Fn(&str) -> bool) -> Result<(), LedgerError> {
        self.0.proposals.remove_missing(stands).await
    }

    /// Whether there is an account of this name, in force or dormant.
    #[must_use]
    pub fn has_account(&self, account: &str) -> bool {
        self.0.policies.settings().has_account(account)
    }

    /// The manifest of a plugin whose component serves.
    #[must_use]
    pub fn manifest(&self, plugin: &str) -> Option<Arc<Manifest>> {
        let policy = self.0.policies.of(plugin)?;
        Some(Arc::clone(policy.authority.manifest()))
    }

    /// Whether a component may serve with this manifest. `replaces` is the digest of the serving component. Its imports are
    /// remembered for as long as a clone of its `digest` exists.
    ///
    /// The first component of a plugin that may trade is adopted as the operator installed it. From then on, a component
    /// with another digest, or with new imports, or any component after a backup was restored, does not get the trade grants
    /// automatically: in production it waits, and the old one keeps serving; if none serves, it serves, and its trades
    /// request the approval. In development it is adopted with a warning.
    ///
    /// A manifest that gains rights that await approval is admitted with what was in force before.
    ///
    /// # Errors
    /// When it has to wait, or the ledger cannot be used.
    pub async fn admit(
        &self,
        manifest: &Manifest,
        digest: &Arc<str>,
        imports: &[String],
        replaces: Option<&str>,
    ) -> Result<Admitted, AdmitError> {
        self.0
            .adoptions
            .admit(manifest, digest, imports, replaces)
            .await
    }

    /// Whether the data folder is new, so that everything found is adopted. [`end_adopting`](Self::end_adopting) ends this.
    #[must_use]
    pub fn is_adopting(&self) -> bool {
        self.0.proposals.is_adopting()
    }

    /// From now on, also after restarts, nothing is adopted because the data folder is new.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn end_adopting(&self) -> Result<(), LedgerError> {
        self.0.proposals.end_adopting().await
    }

    /// What is in force of a subject, if it is known.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn in_force(
        &self,
        subject: qchost_ledger::Subject,
        name: &str,
    ) -> Result<Option<InForce>, LedgerError> {
        self.0.proposals.in_force(subject, name).await
    }

    /// Brings a proposal into force, or returns what it waits for.
    ///
    /// An approval covers the change from what is in force to what the files say. If anything else comes into force, or the
    /// files are reverted, it is void.
    ///
    /// # Errors
    /// When approval cannot be requested, or the ledger cannot be used. Nothing came into force then.
    pub async fn propose(&self, proposal: Proposal) -> Result<Option<PendingApproval>, AdmitError> {
        self.0.proposals.propose(proposal).await
    }

    /// The operations that the manifest in force allows a plugin and that are nevertheless denied or limited more, because a
    /// changed manifest that is not in force yet says so. `digest` is that of the serving code.
    #[must_use]
    pub fn denied(&self, plugin: &str, digest: &str) -> BTreeSet<String> {
        self.0.proposals.denied(plugin, digest)
    }

    /// The part of a plugin's manifest that awaits approval, if any.
    #[must_use]
    pub fn pending_approval(&self, plugin: &str) -> Option<PendingApproval> {
        self.0.proposals.pending_approval(plugin)
    }

    /// Applies new settings. They hold from the next decision on, also for calls that wait or are about
    /// to be retried: those are decided again.
    ///
    /// # Errors
    /// When a manifest cannot be enforced under the new guardrails, or ledger or audit cannot be used.
    /// Nothing has changed then.
    pub async fn reconfigure(&self, settings: Settings) -> Result<(), GateError> {
        self.0.reconfigurer.reconfigure(settings).await
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
    pub fn reload_asked_by(&self, uid: u32) -> RequesterGuard {
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
}

/// Administration.
impl Gate {
    /// A page of the approvals that are pending, or of all approvals.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approvals(&self, filter: ApprovalFilter) -> Result<ApprovalPage, LedgerError> {
        self.0.approvals.list(filter).await
    }

    /// The components that await approval, as pairs of plugin and approval id.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn waiting_components(&self) -> Result<Vec<(String, String)>, LedgerError> {
        self.0.approvals.waiting_components().await
    }

    /// One approval.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>, LedgerError> {
        self.0.approvals.get(id).await
    }

    /// An approval, with the contents of its call. A changed file can be seen completely, one page at a time; pages
    /// count from 1.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn show_approval(
        &self,
        id: &str,
        page: u32,
    ) -> Result<Option<(Approval, Value)>, LedgerError> {
        self.0.viewer.show(id, page).await
    }

    /// Approves a request: for the one call, or, with `standing`, for calls like it.
    ///
    /// # Errors
    /// When it is not pending, or this person may not decide it.
    pub async fn approve(
        &self,
        id: &str,
        by: &Person,
        standing: Option<StandingPermit>,
    ) -> Result<Approval, DecideError> {
        self.0.approvals.approve(id, by, standing).await
    }

    /// Refuses a request.
    ///
    /// # Errors
    /// When it is not pending.
    pub async fn refuse(
        &self,
        id: &str,
        by: &Person,
        reason: &str,
    ) -> Result<Approval, DecideError> {
        self.0.approvals.refuse(id, by, reason).await
    }

    /// Revokes the permit that an approval gave, or the approval of a change that is not in force yet. `id` is
    /// that of the approval or of the permit.
    ///
    /// # Errors
    /// When there is nothing to revoke.
    pub async fn revoke(&self, id: &str, by: &Person) -> Result<Approval, DecideError> {
        self.0.approvals.revoke(id, by).await
    }

    /// Stops every write, destroy and trade of a scope at once; reads and risk-reducing calls go on. With `liquidate`,
    /// liquidates the live deployments of the scope's accounts. The halt is in force when this function returns, before
    /// the future is polled. The future resolves when the calls that had departed have ended, or after 30 seconds;
    /// dropping it undoes nothing.
    ///
    /// # Errors
    /// On an internal error. All other problems are in the report.
    pub fn halt(
        &self,
        by: &Person,
        scope: HaltScope,
        reason: &str,
        liquidate: bool,
    ) -> impl Future<Output = Result<HaltReport, HaltError>> + Send + use<> {
        self.0.halts.halt(by, scope, reason, liquidate)
    }

    /// Ends halts: those of exactly this scope.
    ///
    /// # Errors
    /// When the end of the halt cannot be recorded or stored, or the file `halt` cannot be removed: it stays in force
    /// then.
    pub async fn resume(&self, by: &Person, scope: HaltScope) -> Result<ResumeReport, HaltError> {
        self.0.halts.resume(by, scope).await
    }

    /// The halts in force.
    #[must_use]
    pub fn halts(&self) -> Vec<ActiveHalt> {
        self.0.halts.store.halts.list()
    }

    /// The halts in force, each with where it is kept, verified by reading them back.
    pub async fn active_halts(&self) -> Vec<ActiveHalt> {
        self.0.halts.store.active_halts().await
    }

    /// The unfinished liquidations.
    #[must_use]
    pub fn liquidations(&self) -> Vec<OpenLiquidation> {
        self.0.halts.liquidator.list()
    }

    /// How many deployments run live on an account.
    ///
    /// # Errors
    /// When the account cannot be asked.
    pub async fn running_on(&self, account: &str) -> Result<usize, Failure> {
        self.0.halts.liquidator.running_on(account).await
    }

    /// Reads QuantConnect to learn how the writes with unknown outcome ended, and records what is learned. Those in
    /// `accepted` may be sent again whatever became of them; a person takes responsibility for that.
    ///
    /// # Errors
    /// When it cannot be recorded, or a call in `accepted` has no unknown outcome.
    pub async fn reconcile(
        &self,
        by: &Person,
        accepted: &[String],
    ) -> Result<Vec<Reconciled>, ReconcileError> {
        self.0.reconciler.reconcile(by, accepted).await
    }

    /// The grants of a plugin, with today's use; `None` if it has no manifest.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn grants(&self, plugin: &str) -> Result<Option<GrantsReport>, LedgerError> {
        self.0.reporter.grants(plugin).await
    }

    /// What would be decided about a plugin's call. Nothing is sent: a project's name is known only if the host has
    /// read it recently, or if it is given here.
    ///
    /// # Errors
    /// When there is no such operation, or the plugin has no manifest.
    pub async fn explain(
        &self,
        plugin: &str,
        operation: &str,
        arguments: Map<String, Value>,
        project_name: Option<String>,
    ) -> Result<Explanation, Refusal> {
        let digest = match self.manifest(plugin) {
            Some(manifest) => match &manifest.digest {
                Some(pin) => Some(pin.clone()),
                None => {
                    let adopted = self.0.ledger.adopted(&manifest.account, plugin).await;
                    adopted.map_err(unusable)?.map(|adopted| adopted.digest)
                }
            },
            None => None,
        };
        let principal = Principal {
            plugin: plugin.into(),
            // Without an adopted component the digest does not affect the decision.
            digest: digest.map_or("sha256:".into(), |digest| digest.into()),
            invocation: "explain".into(),
            person: None,
            cpu: CpuMeter::default(),
            log_limiter: Arc::default(),
        };
        let callee = Callee::named(operation).ok_or_else(|| {
            Refusal::Failed(Failure::NotFound(format!(
                "there is no operation `{operation}`"
            )))
        })?;
        let request = self.request(&principal, callee, arguments)?;
        self.0.reporter.explain(request, project_name).await
    }

    /// Copies the ledger (`state.db`), the audit (`audit/`) and the kept texts (`texts/`) into an existing empty folder
    /// while calls go on.
    ///
    /// # Errors
    /// When something cannot be read or written; the incomplete copy stays.
    pub async fn backup(&self, folder: &Path) -> Result<(), BackupError> {
        self.0.backups.backup(folder).await
    }

    /// Records an administrative action of a person, durably.
    ///
    /// # Errors
    /// When it cannot be recorded; the action should not be taken then.
    pub async fn note_admin(
        &self,
        by: &Person,
        what: &str,
        detail: AdminDetail,
    ) -> Result<(), AuditError> {
        let body = AdminBody {
            what: what.to_owned(),
            detail: Some(detail),
            person: Some(by.uid),
            person_name: Some(by.name.clone()),
        };
        let entry = Entry::new(Kind::Admin, false, &body);
        self.0.audit.record(entry).await.map(drop)
    }

    /// The audit.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Waits until every call is refused or has an outcome that is recorded on disk.
    pub async fn idle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.tasks.reopen();
        self.0.refusals.write_counts();
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
}
