//! The gate: wires the stages that a call passes and the administration beside them.
//!
//! Invariant: dropping the future of [`Gate::call`] ends a call that has not been sent yet; for any other it only discards
//! the plugin's answer, and the call runs to its end in a task of the gate.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Either;
use parking_lot::Mutex;
use qchost_audit::{Audit, AuditError, Entry, Kind, Opening};
use qchost_catalog::{Access, BoxFuture, Failure, Operation, Upstream, by_tool};
use qchost_ledger::{Ledger, StateStore, TrialCounts};
use qchost_policy::{DOWNLOAD, EVIDENCE, Person, Right, WORKFLOW};
use qchost_scope::Scope;
use qchost_traffic::{AccountQueues, CpuMeter, GrantRates, Moment};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::action::AdminAction;
use crate::admission::{AdmittedCall, Admitter};
use crate::adoption::Adoptions;
use crate::approval_contents::ApprovalViewer;
use crate::approval_requests::ApprovalRequests;
use crate::approvals::Approvals;
use crate::approve::Approver;
use crate::audit_quota::AuditQuotas;
use crate::authorize::Authorizer;
use crate::backup::Backups;
use crate::body::{AdminBody, AdminDetail};
use crate::call::{CallIds, CallRequest, Callee, HTTP, Principal, SentMarker};
use crate::call_log::CallLog;
use crate::changes::Changes;
use crate::clock::now;
use crate::components::Components;
use crate::dispatch::{Dispatch, Dispatcher, Reply};
use crate::download::Downloader;
use crate::error::GateError;
use crate::evidence::{EvidenceSource, EvidenceStage, TrialCounter};
use crate::fingerprint::Fingerprints;
use crate::folders::{FolderAnswer, FolderCalls, FolderFailure, FolderRequest};
use crate::halt::HaltControl;
use crate::halt_store::HaltStore;
use crate::halts::HaltScope;
use crate::in_place::InPlace;
use crate::invocation_approvals::InvocationApprovals;
use crate::liquidation::{Liquidator, Unfinished};
use crate::long_reads::LongReads;
use crate::outgoing::{Outgoing, OutgoingRequests, RequestPermission};
use crate::paper::PaperEvidence;
use crate::plugin_calls::PluginCalls;
use crate::policy_store::{PolicyStore, blocking};
use crate::proposals::Proposals;
use crate::raw_tools;
use crate::read_limits::ReadLimits;
use crate::reads::HostReader;
use crate::reconcile::Reconciler;
use crate::reconfigure::{Reconfigurer, recall};
use crate::refusal::{Refusal, unusable};
use crate::report::{Explanation, Reporter};
use crate::reserve::Reserver;
use crate::resolve::Resolver;
use crate::retention;
use crate::settings::Settings;
use crate::source_locks::SourceLocks;
use crate::sources::SourceGuards;
use crate::throttle::Throttle;
use crate::trade::TradeRules;
use crate::unsettled::UnsettledWrites;

/// How long the ledger may take to be closed, beyond its own wait for other processes.
const LEDGER_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// Establishes facts about projects. Without it there are none, and what needs them is refused.
    pub evidence: Option<Arc<dyn EvidenceSource>>,
}

/// The gate. Clones are the same gate. The stages of a call are private; what configuration and people use is not.
#[derive(Clone)]
pub struct Gate {
    /// What is in force.
    pub policies: Arc<PolicyStore>,
    /// The record of what came into force.
    pub changes: Arc<Changes>,
    /// What the operator's files propose.
    pub proposals: Arc<Proposals>,
    /// The components that may serve, and those that may trade.
    pub adoptions: Arc<Adoptions>,
    /// Applies new settings.
    pub reconfigurer: Arc<Reconfigurer>,
    /// People's decisions about approvals.
    pub approvals: Arc<Approvals>,
    /// What approvers are shown.
    pub viewer: Arc<ApprovalViewer>,
    /// Halting and resuming.
    pub halts: Arc<HaltControl>,
    /// What runs live, and closing it.
    pub liquidator: Arc<Liquidator>,
    /// Writes with unknown outcome.
    pub reconciler: Arc<Reconciler>,
    /// What the grants of plugins allow.
    pub reporter: Arc<Reporter>,
    /// Copies of all that the gate keeps.
    pub backups: Arc<Backups>,
    /// The record of what was done.
    pub audit: Audit,

    ledger: Ledger,
    /// Calls under way, and the host's own work.
    tasks: TaskTracker,
    stages: Arc<Stages>,
    log: Arc<CallLog>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("in_flight", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

/// The stages of a call.
struct Stages {
    ids: Arc<CallIds>,
    authorizer: Arc<Authorizer>,
    admitter: Admitter,
    approver: Arc<Approver>,
    invocations: Arc<InvocationApprovals>,
    dispatcher: Arc<Dispatcher>,
    downloader: Arc<Downloader>,
    counter: Arc<TrialCounter>,
    reserver: Reserver,
    outgoing: Arc<OutgoingRequests>,
    folders: Arc<FolderCalls>,
}

impl Stages {
    /// Admits a call and sends it, unless its caller stops waiting before. The future is created on the small stack of a
    /// guest, so its large parts are allocated when it runs.
    async fn run(self: Arc<Self>, mut request: CallRequest, mut reply: Reply) {
        let cpu = request.principal.cpu.clone();
        let admitting = while_awaited(&mut reply, cpu, self.admitter.admit(&mut request));
        match Box::pin(admitting).await {
            None => {}
            Some(Ok(admission)) => {
                let dispatch = Box::new(Dispatch {
                    dispatcher: Arc::clone(&self.dispatcher),
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
        let upstream: Arc<dyn Upstream> = Arc::from(upstream);
        let Options {
            settings,
            ledger,
            audit,
            opening,
            key,
            call_timeout,
            audit_share,
            evidence,
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
        let paper = Arc::new(PaperEvidence::open(ledger.clone()).await?);
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
        let log = Arc::new(CallLog::new(audit.clone(), Arc::clone(&fingerprints)));
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
            policies: Arc::clone(&policies),
            ledger: ledger.clone(),
            log: Arc::clone(&log),
            ids: Arc::clone(&ids),
        });

        let evidence = Arc::new(EvidenceStage {
            source: evidence,
            guards: Arc::clone(&sources),
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
            paper: Arc::clone(&paper),
            adoptions: Arc::clone(&adoptions),
        });
        let throttle = Arc::new(Throttle::new(rates, Arc::clone(&queues)));
        let reserver = Reserver {
            ledger: ledger.clone(),
            log: Arc::clone(&log),
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

        let stages = Stages {
            admitter: Admitter {
                authorizer: Arc::clone(&authorizer),
                resolver: Resolver {
                    scope: Arc::clone(&scope),
                    reads: Arc::clone(&reads),
                    paper: Arc::clone(&paper),
                    long_reads: LongReads::default(),
                },
                evidence: Arc::clone(&evidence),
                trade: Arc::clone(&trade),
                approver: Arc::clone(&approver),
                throttle: Arc::clone(&throttle),
                sources: Arc::clone(&sources),
                limits,
                log: Arc::clone(&log),
            },
            dispatcher: Arc::new(Dispatcher {
                upstream,
                call_timeout,
                ledger: ledger.clone(),
                authorizer: Arc::clone(&authorizer),
                throttle: Arc::clone(&throttle),
                reserver: reserver.clone(),
                halts: Arc::clone(&halt_store.halts),
                scope: Arc::clone(&scope),
                reads: Arc::clone(&reads),
                sources,
                paper: Arc::clone(&paper),
                log: Arc::clone(&log),
                audit_quotas,
                unsettled: Arc::clone(&unsettled),
                writing: Arc::clone(&writing),
                tasks: tasks.clone(),
            }),
            downloader: Arc::new(Downloader {
                authorizer: Arc::clone(&authorizer),
                reserver: reserver.clone(),
                reads: Arc::clone(&reads),
                log: Arc::clone(&log),
                tasks: tasks.clone(),
            }),
            counter: Arc::new(TrialCounter {
                authorizer: Arc::clone(&authorizer),
                evidence,
                reserver: reserver.clone(),
                log: Arc::clone(&log),
                tasks: tasks.clone(),
            }),
            outgoing: Arc::new(OutgoingRequests {
                authorizer: Arc::clone(&authorizer),
                throttle,
                reserver: reserver.clone(),
                log: Arc::clone(&log),
                writing: Arc::clone(&writing),
                tasks: tasks.clone(),
            }),
            folders: Arc::new(FolderCalls {
                authorizer: Arc::clone(&authorizer),
                log: Arc::clone(&log),
                tasks: tasks.clone(),
            }),
            ids,
            authorizer: Arc::clone(&authorizer),
            reserver,
            approver,
            invocations,
        };
        let gate = Self {
            stages: Arc::new(stages),
            approvals: Arc::new(Approvals {
                ledger: ledger.clone(),
                audit: audit.clone(),
                policies: Arc::clone(&policies),
                requests,
                adoptions: Arc::clone(&adoptions),
                tasks: tasks.clone(),
            }),
            viewer: Arc::new(ApprovalViewer::new(ledger.clone(), Arc::clone(&reads))),
            halts: Arc::new(HaltControl {
                store: halt_store,
                liquidator: Arc::clone(&liquidator),
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
            reconciler: Arc::new(Reconciler {
                ledger: ledger.clone(),
                audit: audit.clone(),
                reads,
                unsettled,
            }),
            reporter: Arc::new(Reporter {
                ledger: ledger.clone(),
                authorizer,
                trade,
                paper,
                scope,
            }),
            backups: Arc::new(Backups {
                ledger: ledger.clone(),
                audit: audit.clone(),
                texts: changes.texts.clone(),
                writing,
            }),
            ledger,
            audit,
            policies,
            changes,
            tasks,
            log,
            proposals,
            adoptions,
            liquidator,
        };
        gate.liquidator.resume();
        gate.reconciler.settle_former_runs().await?;
        gate.stages.invocations.close_former().await;
        retention::start(&gate.changes);
        gate.stages.dispatcher.unsettled.warn();
        Ok(gate)
    }

    /// A call as requested, under the policy that its principal has now.
    fn request(
        &self,
        principal: &Principal,
        callee: Callee,
        arguments: Map<String, Value>,
    ) -> Result<CallRequest, Refusal> {
        let policy = self.stages.authorizer.policy_of(principal)?;
        let (call, principal) = (self.stages.ids.next(), principal.clone());
        Ok(CallRequest::new(call, principal, policy, callee, arguments))
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
        let sent_marker = SentMarker::default();
        self.call_marked(principal, operation, arguments, sent_marker)
            .await
    }

    /// Decides a call and sends it: a read in the caller's task, anything else in a task of the gate, which nothing of the
    /// caller can hold up between its intent and its outcome. Downloads and batches are decided in the caller's task.
    fn pass(&self, request: CallRequest) -> impl Future<Output = Result<Value, Refusal>> + use<> {
        let (reply, answer) = oneshot::channel();
        let sent_marker = request.sent_marker.clone();
        let is_read = request.access == Access::Read;
        let running = Arc::clone(&self.stages).run(request, reply);
        let answer = if is_read {
            Either::Left(InPlace::new(running, answer, &self.tasks))
        } else {
            self.tasks.spawn(running);
            Either::Right(answer.map(Result::ok))
        };
        async move {
            answer.await.unwrap_or_else(|| {
                Err(Refusal::Failed(if sent_marker.get() {
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
        sent_marker: SentMarker,
    ) -> BoxFuture<'a, Result<Value, Refusal>> {
        Box::pin(async move {
            let mut request = self.request(principal, operation.into(), arguments)?;
            request.sent_marker = sent_marker;
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
            let request = self.request(principal, raw_tools::callee(tool), arguments)?;
            raw_tools::check(&*self.stages.dispatcher.upstream, &self.log, &request, tool)?;
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
            let admitted = self.stages.admitter.admit(&mut request).await?;
            self.stages
                .downloader
                .download(request, admitted, limit)
                .await
        })
    }

    fn check_workflow<'a>(
        &'a self,
        principal: &'a Principal,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let callee = Callee::service(WORKFLOW, Access::Read);
            let mut request = self.request(principal, callee, Map::new())?;
            let decision = self.stages.admitter.admit(&mut request).await?.decision;
            self.stages.reserver.charge_batch(&request, &decision).await
        })
    }

    fn count_trials<'a>(
        &'a self,
        principal: &'a Principal,
        project: u32,
    ) -> BoxFuture<'a, Result<TrialCounts, Refusal>> {
        Box::pin(async move {
            let arguments = Map::from_iter([("projectId".to_owned(), project.into())]);
            let callee = Callee::service(EVIDENCE, Access::Read);
            let mut request = self.request(principal, callee, arguments)?;
            let admitted = self.stages.admitter.admit(&mut request).await?;
            self.stages.counter.count(request, admitted).await
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
                self.stages
                    .outgoing
                    .decide(Arc::new(request), outgoing)
                    .await
            };
            principal.cpu.charge(pin!(deciding)).await
        })
    }

    fn folder<'a>(
        &'a self,
        principal: &'a Principal,
        asked: FolderRequest,
    ) -> BoxFuture<'a, Result<FolderAnswer, FolderFailure>> {
        Box::pin(async move {
            let folders = &self.stages.folders;
            let deciding = async {
                let callee = Callee::service(asked.name(), asked.access());
                let request = self.request(principal, callee, asked.arguments())?;
                let folder = folders.decide(&request, &asked)?;
                Ok::<_, FolderFailure>((request, folder))
            };
            let (request, folder) = principal.cpu.charge(pin!(deciding)).await?;
            folders.make(request, folder, asked).await
        })
    }

    fn wait_approval<'a>(
        &'a self,
        principal: &'a Principal,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.stages.approver.wait(principal, id))
    }

    fn invocation_ended(&self, principal: &Principal, in_order: bool) {
        self.stages.invocations.ended(principal, in_order);
    }

    fn state(&self) -> &StateStore {
        self.ledger.state()
    }
}

/// Administration.
impl Gate {
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
        let digest = match self.policies.manifest(plugin) {
            Some(manifest) => match &manifest.digest {
                Some(pin) => Some(pin.clone()),
                None => {
                    let adopted = self.ledger.adopted(&manifest.account, plugin).await;
                    adopted.map_err(unusable)?.map(|adopted| adopted.digest)
                }
            },
            None => None,
        };
        // Without an adopted component the digest does not affect the decision.
        let digest = digest.as_deref().unwrap_or("sha256:");
        let principal = Principal::new(plugin, digest, "explain");
        let callee = Callee::named(operation).ok_or_else(|| {
            Refusal::Failed(Failure::NotFound(format!(
                "there is no operation `{operation}`"
            )))
        })?;
        let request = self.request(&principal, callee, arguments)?;
        self.reporter.explain(request, project_name).await
    }

    /// Records an administrative action of a person, durably.
    ///
    /// # Errors
    /// When it cannot be recorded; the action should not be taken then.
    pub async fn note_admin(
        &self,
        by: &Person,
        action: AdminAction,
        detail: AdminDetail,
    ) -> Result<(), AuditError> {
        self.note(&AdminBody::new(action, Some(by), detail)).await
    }

    /// Records that a person was denied something: a right, or, without one, everything, since the host does not know the user.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn note_denial(
        &self,
        by: &Person,
        right: Option<Right>,
        detail: AdminDetail,
    ) -> Result<(), AuditError> {
        self.note(&AdminBody::denial(right, by, detail)).await
    }

    /// Records what the host noticed by itself.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn note_host(
        &self,
        action: AdminAction,
        detail: AdminDetail,
    ) -> Result<(), AuditError> {
        self.note(&AdminBody::new(action, None, detail)).await
    }

    async fn note(&self, body: &AdminBody) -> Result<(), AuditError> {
        let entry = Entry::new(Kind::Admin, false, body);
        self.audit.record(entry).await.map(drop)
    }

    /// Waits until every call is refused or has an outcome that is recorded on disk.
    pub async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        self.log.write_counts();
        if let Err(error) = self.audit.flush().await {
            tracing::error!(target: "gate", %error, "the audit is not on disk");
        }
    }

    /// Shuts the gate down: waits for calls that were sent, no longer than one may take, returns budget reserved ahead, and
    /// closes the audit. The host calls it last.
    pub async fn close(&self) {
        let limit = self.stages.dispatcher.call_timeout;
        // A read that its caller neither polls nor drops does not end.
        if tokio::time::timeout(limit, self.idle()).await.is_err() {
            tracing::error!(target: "gate", "calls to QuantConnect are still without an answer");
            self.log.write_counts();
        }
        match tokio::time::timeout(LEDGER_CLOSE_TIMEOUT, self.ledger.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(target: "gate", %error, "counted reads that were reserved ahead are lost");
            }
            // Such a read may be the one that reserves others.
            Err(_) => {
                tracing::error!(target: "gate", "counted reads that were reserved ahead are lost, since one of them does not end");
            }
        }
        self.audit.close().await;
    }
}
