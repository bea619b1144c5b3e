//! Dispatch of an admitted call: reserved, recorded, sent, its outcome recorded and its answer checked.
//!
//! Invariant: the caller may go away at any time. Until a read is sent, or a write's intent is handed to the audit, that
//! ends the call and releases its reservation; from then on the call runs to completion here, and its outcome is recorded.
//! Nothing is sent or retried under a policy that is no longer in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qchost_audit::Entry;
use qchost_catalog::deployment::{Environment, environment_of_deployment};
use qchost_catalog::{
    Access, BoxFuture, Call, Clearance, Failure, Job, Operation, Outcome, Sends, Upstream, aside,
    length,
};
use qchost_ledger::{Ledger, Settlement, Trial};
use qchost_scope::{Learned, Scope};
use serde_json::Value;
use tokio::sync::{RwLock, oneshot};
use tokio_util::task::TaskTracker;

use crate::admission::AdmittedCall;
use crate::answer::without_secrets;
use crate::audit_quota::AuditQuotas;
use crate::authorize::{Authorizer, decide_all};
use crate::call::CallRequest;
use crate::call_log::CallLog;
use crate::decision::is_live;
use crate::halts::{Departure, Halts};
use crate::paper::PaperEvidence;
use crate::reads::HostReader;
use crate::record::{self, AuditContext};
use crate::refusal::{Refusal, export_refused, unrecorded, unresolved};
use crate::reserve::Reserver;
use crate::sources::{Evidence, SourceGuards, made};
use crate::throttle::Throttle;
use crate::unsettled::UnsettledWrites;

/// Why a deployment is stopped whose code is another one than what was compiled, or may be.
const UNKNOWN_SOURCE: &str = "it is not known to run what was compiled";
/// Why a deployment is stopped that nothing allowed to trade with real money.
const REAL_MONEY: &str = "it says that it trades with real money";
/// Why a deployment is stopped of which nothing says that it trades without real money.
const NOT_PROVEN: &str = "it does not say that it trades without real money";

/// Where the caller waits for the answer.
pub(crate) type Reply = oneshot::Sender<Result<Value, Refusal>>;

/// Sends calls.
pub(crate) struct Dispatcher {
    pub upstream: Arc<dyn Upstream>,
    /// Time limit of one call.
    pub call_timeout: Duration,
    pub ledger: Ledger,
    pub authorizer: Arc<Authorizer>,
    pub throttle: Arc<Throttle>,
    pub reserver: Reserver,
    pub halts: Arc<Halts>,
    pub scope: Arc<Scope>,
    pub reads: Arc<HostReader>,
    pub sources: Arc<SourceGuards>,
    pub paper: Arc<PaperEvidence>,
    pub log: Arc<CallLog>,
    pub audit_quotas: Arc<AuditQuotas>,
    pub unsettled: Arc<UnsettledWrites>,
    /// Held by each write from its reservation to its intent, and by a backup, so that no write is in only one of the two
    /// stores in a backup.
    pub writing: Arc<RwLock<()>>,
    pub tasks: TaskTracker,
}

/// A call that was admitted, on its way.
pub(crate) struct Dispatch {
    pub dispatcher: Arc<Dispatcher>,
    pub request: CallRequest,
    pub admission: AdmittedCall,
}

impl Dispatch {
    /// Sends the call and replies to its caller. Returns the reply channel if it was *not* sent because its policy
    /// changed: from there on it is a new call, which has to be admitted again.
    pub(crate) async fn send_once(&mut self, reply: Reply) -> Option<Reply> {
        if self.request.access == Access::Read {
            self.send_read(reply).await
        } else {
            Box::pin(self.send_write(reply)).await
        }
    }

    /// Sends a read and records it. A read changes nothing, so a single record after its end is enough, and it need not be
    /// on disk yet. Returns the reply channel if the read was not sent.
    async fn send_read(&mut self, reply: Reply) -> Option<Reply> {
        let AdmittedCall {
            decision, is_retry, ..
        } = &self.admission;
        let reserver = &self.dispatcher.reserver;
        if !is_retry && let Err(refusal) = reserver.charge_read(&self.request, decision).await {
            drop(reply.send(Err(refusal)));
            return None;
        }
        let sends = Sends::default();
        let sent = self.send(None, &sends).await;
        let Some(outcome) = sent else {
            // Its answer was lost, and its policy changed before it was sent again.
            if sends.count() > 0 {
                self.record_read(&sends, &Err(superseded(sends.count())));
            }
            return Some(reply);
        };
        drop(self.admission.guards.account_admission.take());
        self.record_read(&sends, &outcome);
        if let Some(age) = sends.cached() {
            self.admission.decision.touched.answered_earlier(age);
        }
        let dispatcher = &self.dispatcher;
        let result = match outcome {
            Ok(body) => match self.checked(body).await {
                Ok((body, learned)) => {
                    let live = Vec::from_iter(learned.live_deployment);
                    let paper = &self.dispatcher.paper;
                    paper.note_live(self.request.account(), &live).await;
                    Ok(body)
                }
                Err(refusal) => Err(refusal),
            },
            Err(failure @ (Failure::NotFound(_) | Failure::Rejected(_))) => {
                let touched = &self.admission.decision.touched;
                let refused = dispatcher.scope.refused(self.request.account(), touched);
                let denied = export_refused(&failure).filter(|_| self.request.downloads());
                Err(refused
                    .map(unresolved)
                    .or(denied)
                    .unwrap_or_else(|| failure.into()))
            }
            Err(failure) => Err(failure.into()),
        };
        self.reply(reply, result);
        None
    }

    /// Sends any other call, after its budget is reserved and its intent recorded. Returns the reply channel if it was not
    /// sent.
    async fn send_write(&mut self, reply: Reply) -> Option<Reply> {
        let dispatcher = Arc::clone(&self.dispatcher);
        let decision = &self.admission.decision;
        let writing = dispatcher.writing.read().await;
        let reservation = match dispatcher.reserver.reserve(&self.request, decision).await {
            Ok(reservation) => reservation,
            Err(refusal) => {
                drop(reply.send(Err(refusal)));
                return None;
            }
        };
        let context = AuditContext::of(decision, reservation);
        self.request.sent_marker.set(true);
        // The caller stopped waiting, and no intent is recorded yet.
        if reply.is_closed() {
            self.withdraw(reservation).await;
            return None;
        }
        let intent = record::intent(&self.request, &context, &dispatcher.log.fingerprints);
        let entry = intent.entry();
        dispatcher.audit_quotas.count(self.request.plugin(), &entry);
        if let Err(error) = dispatcher.log.audit.record(entry).await {
            self.withdraw(reservation).await;
            let refusal = unrecorded(&error);
            dispatcher
                .log
                .note_refusal(&self.request, &context, &refusal);
            drop(reply.send(Err(refusal)));
            return None;
        }
        drop(writing);
        // Lets the ledger detect if an older copy of the audit is put in place. Risk-reducing calls wait for no disk but
        // the audit's reserve.
        let ledger = dispatcher.ledger.clone();
        let call = self.request.call.clone();
        dispatcher.tasks.spawn(async move {
            if let Err(error) = ledger.store_head().await {
                tracing::warn!(target: "gate", call, %error, "the head of the audit is not in the ledger");
            }
        });
        let departure = dispatcher.halts.departure(&self.request);
        let sends = Sends::default();
        let halted_with = self.request.halted().then_some(&departure);
        let sent = self.send(halted_with, &sends).await;
        let sends = sends.count();
        let context = AuditContext {
            sends: Some(sends),
            ..context
        };
        let Some(outcome) = sent else {
            departure.ended(SUPERSEDED);
            self.withdraw(reservation).await;
            let record = record::outcome(&self.request, &context, &Err(superseded(sends)));
            self.record_outcome(record.entry()).await;
            return Some(reply);
        };
        drop(self.admission.guards.account_admission.take());
        departure.ended(outcome.as_ref().map_or_else(Failure::word, |_| "answered"));
        drop(departure);
        let done = is_done(&outcome);
        let lost = matches!(outcome, Err(Failure::UnknownOutcome(_)));
        if !done {
            // Before the reply, so that a caller that retries at once finds its budget restored, except for the attempt.
            let how = if is_answered(&outcome) {
                Settlement::Refused
            } else {
                Settlement::Release
            };
            dispatcher
                .reserver
                .settle(&self.request.call, reservation, how)
                .await;
        }
        if lost {
            dispatcher.unsettled.keep(intent.body);
        }
        let mut record = record::outcome(&self.request, &context, &outcome);
        let stopped = match self.check_environment(&outcome).await {
            Some(stopped) => Some(stopped),
            None => self.check_deployment(&outcome).await,
        };
        let result = match (outcome, stopped) {
            (_, Some(stopped)) => {
                let refusal = Refusal::Failed(Failure::UnexpectedResponse(stopped));
                record.body.reason = Some(refusal.to_string());
                Err(refusal)
            }
            (Ok(body), None) => {
                let evidence = Evidence::of(&body);
                match self.checked(body).await {
                    Ok((body, learned)) => {
                        self.keep(learned, evidence).await;
                        Ok(body)
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            (Err(failure), None) => Err(failure.into()),
        };
        let entry = record.entry();
        dispatcher.audit_quotas.count(self.request.plugin(), &entry);
        self.reply(reply, result);
        if done {
            dispatcher
                .reserver
                .settle(&self.request.call, reservation, Settlement::Commit)
                .await;
        }
        self.record_outcome(entry).await;
        None
    }

    fn record_read(&self, sends: &Sends, outcome: &Outcome) {
        let dispatcher = &self.dispatcher;
        let context = AuditContext {
            sends: Some(sends.count()),
            cached: sends.cached(),
            ..AuditContext::of(&self.admission.decision, None)
        };
        let log = &dispatcher.log;
        let record = record::read(&self.request, &context, outcome, &log.fingerprints);
        let entry = record.entry();
        dispatcher.audit_quotas.count(self.request.plugin(), &entry);
        log.audit.note(entry);
    }

    /// Gives back what was reserved for a write that is not sent.
    async fn withdraw(&self, reservation: Option<i64>) {
        self.request.sent_marker.set(false);
        let reserver = &self.dispatcher.reserver;
        reserver
            .settle(&self.request.call, reservation, Settlement::Release)
            .await;
    }

    async fn record_outcome(&self, entry: Entry) {
        if let Err(error) = self.dispatcher.log.audit.record(entry).await {
            tracing::error!(target: "gate", call = self.request.call, %error, "the outcome of a write is not recorded; `qchost audit reconcile` finds it");
        }
    }

    /// Sends the call, if no halt stops its departure and its policy is still in force at that instant. Fills in what the
    /// host keeps from plugins at the last moment, and removes it from the answer. Returns `None` if it was not sent
    /// because its policy had changed. A call that was sent before with unknown effect is not retried then; its outcome is
    /// unknown.
    ///
    /// `departure` is that of a call that halts stop. `sends` is told how it was answered.
    async fn send(&self, departure: Option<&Departure<'_>>, sends: &Sends) -> Option<Outcome> {
        let (dispatcher, request, settings) =
            (&self.dispatcher, &self.request, self.request.settings());
        let mut arguments = request.arguments.clone();
        if let Some(operation) = request.operation {
            operation.complete(&mut arguments);
            let filled = settings.profiles.fill(operation, &mut arguments).await;
            if let Err(failure) = filled {
                return Some(Err(failure));
            }
        }
        let clearance = SendClearance {
            authorizer: &dispatcher.authorizer,
            throttle: &dispatcher.throttle,
            request,
            departure,
            is_superseded: AtomicBool::new(false),
        };
        let call = Call {
            account: request.account(),
            target: request.target(),
            arguments,
            deadline: request.started_at + dispatcher.call_timeout,
            clearance: &clearance,
            sends: Some(sends),
        };
        let redactor = settings.secrets.redactor();
        match dispatcher.upstream.call(call).await {
            Ok(mut body) => {
                aside(length(&body), || redactor.clean_value(&mut body));
                Some(Ok(body))
            }
            Err(Failure::Unavailable(_)) if clearance.is_superseded.load(Ordering::Relaxed) => None,
            Err(failure) => Some(Err(
                failure.map_text(|text| redactor.clean(&text).into_owned())
            )),
        }
    }

    /// Withholds the parts of an answer that are out of scope.
    async fn checked(&self, body: Value) -> Result<(Value, Learned), Refusal> {
        let Some(operation) = self.request.operation else {
            return Ok((body, Learned::default()));
        };
        let allowed = |facts: &qchost_policy::Facts| {
            decide_all(
                &self.request.policy,
                &self.request,
                std::slice::from_ref(facts),
            )
            .is_ok()
        };
        let reads = self.dispatcher.reads.for_call(&self.request);
        let (account, plugin) = (self.request.account(), self.request.plugin());
        let touched = &self.admission.decision.touched;
        let (body, learned) = self
            .dispatcher
            .scope
            .answer(&reads, account, plugin, operation, touched, body, &allowed)
            .await
            .map_err(unresolved)?;
        Ok((without_secrets(operation, body), learned))
    }

    /// Reads a deployment back, if what it runs was checked before, and stops it if it runs something else. Returns a
    /// message about that.
    async fn check_deployment(&self, outcome: &Outcome) -> Option<String> {
        let before = self.admission.source.before.as_ref()?;
        let (project, _) = self.admission.decision.touched.project.as_ref()?;
        // If the answer was lost, it is unknown whether the deployment exists: stopping might hit another one.
        let answer = outcome.as_ref().ok()?;
        if self.request.access != Access::Trade {
            return None;
        }
        let source = self.dispatcher.sources.of(&self.request, *project);
        let why = source.check_deployed(before, answer).await?;
        Some(source.stop_deployment(answer, UNKNOWN_SOURCE, &why).await)
    }

    /// Remembers the profile of a deployment, and stops the deployment if its profile counted as a paper one and it does
    /// not say that it trades without real money. Returns a message about that.
    ///
    /// QuantConnect's own paper brokerage has no accounts, so its deployments have nothing to say: one by a profile of it
    /// is stopped only if the answer that makes it says real money.
    async fn check_environment(&self, outcome: &Outcome) -> Option<String> {
        let answer = outcome.as_ref().ok()?;
        if !self.request.operation.is_some_and(Operation::deploys) {
            return None;
        }
        let (paper, account) = (&self.dispatcher.paper, self.request.account());
        let (profile, deployment) = (self.request.text("brokerage")?, made(answer));
        if let Some(deployment) = deployment {
            paper.made(account, deployment, profile).await;
        }
        let touched = &self.admission.decision.touched;
        let profiles = &self.request.settings().profiles;
        if is_live(touched) {
            return None;
        }
        let (project, _) = touched.project.as_ref()?;
        let source = self.dispatcher.sources.of(&self.request, *project);
        let is_own = profiles.is_paper_brokerage(profile);
        let said = match is_own {
            true => environment_of_deployment(answer.get("live").unwrap_or(answer)),
            false => source.environment(answer).await,
        };
        let doubt = match said {
            Environment::Paper => return None,
            Environment::Unknown if is_own => return None,
            Environment::Unknown => NOT_PROVEN,
            Environment::Live => REAL_MONEY,
        };
        // Not by what the ledger remembers: it may have failed just now.
        let deployment = deployment.unwrap_or("without an id");
        paper.note(account, deployment, profile.to_owned()).await;
        let why = format!("the profile `{profile}` counted as a paper one");
        Some(source.stop_deployment(answer, doubt, &why).await)
    }

    /// Stores what was learned from an answer.
    async fn keep(&self, learned: Learned, evidence: Evidence) {
        let (account, plugin) = (self.request.account(), self.request.plugin());
        if let Some(project) = learned.created {
            let dispatcher = &self.dispatcher;
            dispatcher.scope.remember_created(account, plugin, project);
            let ledger = &dispatcher.ledger;
            if let Err(error) = ledger.record_created(account, plugin, project).await {
                tracing::warn!(target: "gate", plugin, project, %error, "who created a project is not remembered");
            }
        }
        if let Some((project, job, id)) = learned.started {
            let trial = match job {
                Job::Backtest => Trial::backtest(id),
                Job::Optimization => {
                    // As many as there can be, until it has ended; what cannot be told is above every limit.
                    let most = self.admission.decision.touched.combinations;
                    let most = most.and_then(|most| u32::try_from(most).ok());
                    Trial::optimization(id, most.unwrap_or(u32::MAX), false)
                }
            };
            let ledger = &self.dispatcher.ledger;
            if let Err(error) = ledger.record_trials(account, project, vec![trial]).await {
                tracing::warn!(target: "gate", plugin, project, %error, "a trial is not remembered, and counts only while QuantConnect lists it");
            }
        }
        if let Some((project, compile)) = learned.compile {
            let before = self.admission.source.before.as_ref();
            let source = self.dispatcher.sources.of(&self.request, project);
            source.remember_compile(&compile, before, evidence).await;
        }
    }

    /// Replies to the caller.
    fn reply(&mut self, reply: Reply, result: Result<Value, Refusal>) {
        self.log(&result, reply.is_closed());
        self.admission.guards.concurrency.clear();
        drop(reply.send(result));
    }

    fn log(&self, result: &Result<Value, Refusal>, alone: bool) {
        let CallRequest {
            principal,
            tool,
            access,
            started_at,
            ..
        } = &self.request;
        let outcome = result.as_ref().map_or_else(Refusal::word, |_| "answered");
        let (plugin, invocation) = (&*principal.plugin, &*principal.invocation);
        let (ms, awaited) = (started_at.elapsed().as_millis(), !alone);
        if *access == Access::Read {
            tracing::debug!(target: "gate", plugin, invocation, %tool, access = access.word(), awaited, ms, outcome);
        } else {
            tracing::info!(target: "gate", plugin, invocation, %tool, access = access.word(), awaited, ms, outcome);
        }
    }
}

/// Clears a call while its policy is in force and no halt stops it.
struct SendClearance<'a> {
    authorizer: &'a Authorizer,
    throttle: &'a Throttle,
    request: &'a CallRequest,
    /// That of a call that halts stop.
    departure: Option<&'a Departure<'a>>,
    /// Whether it refused because the policy changed.
    is_superseded: AtomicBool,
}

impl SendClearance<'_> {
    fn supersede(&self) -> Failure {
        self.is_superseded.store(true, Ordering::Relaxed);
        superseded(0)
    }
}

impl Clearance for SendClearance<'_> {
    fn clear(&self) -> Result<(), Failure> {
        if !self.authorizer.is_current(self.request) {
            return Err(self.supersede());
        }
        self.departure.map_or(Ok(()), Departure::clear)
    }

    fn withdrawn(&self) -> BoxFuture<'_, Failure> {
        Box::pin(async {
            tokio::select! {
                biased;
                () = self.authorizer.superseded(self.request) => self.supersede(),
                reason = self.authorizer.halted(self.request) => Failure::Halted(reason),
            }
        })
    }

    fn again(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.throttle.charge_attempt(self.request))
    }
}

/// Whether something was done, or may have been.
fn is_done(outcome: &Outcome) -> bool {
    match outcome {
        Ok(_) | Err(Failure::UnknownOutcome(_) | Failure::UnexpectedResponse(_)) => true,
        Err(
            Failure::InvalidArgument(_)
            | Failure::NotFound(_)
            | Failure::NotReady { .. }
            | Failure::Rejected(_)
            | Failure::RateLimited { .. }
            | Failure::Unavailable(_)
            | Failure::Reauthorize(_)
            | Failure::TimedOut { .. }
            | Failure::Halted(_),
        ) => false,
    }
}

/// Whether QuantConnect rejected the call, so that nothing was done.
fn is_answered(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(Failure::InvalidArgument(_)
            | Failure::NotFound(_)
            | Failure::NotReady { .. }
            | Failure::Rejected(_))
    )
}

/// The outcome of a call that is decided again.
const SUPERSEDED: &str = "superseded";

/// The failure of a call whose policy changed before it was sent, or sent again.
fn superseded(sends: u32) -> Failure {
    let sent = match sends {
        0 => "nothing was sent",
        _ => "nothing came of what was sent before",
    };
    Failure::Unavailable(format!(
        "what the plugin may do changed before the call was sent, so it is decided again; {sent}"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt as _;
    use qchost_scope::Scope;
    use serde_json::json;

    use super::*;
    use crate::body::HaltBody;
    use crate::halts::HaltScope;
    use crate::policy::EffectiveSettings;
    use crate::policy_store::PolicyStore;
    use crate::testing::{Cloud, Stores, admitted_call, manifest, settings};

    const GRANT: &str =
        "[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\nlimits = { per-day = 1 }\n";

    fn dispatcher(stores: &Stores) -> Arc<Dispatcher> {
        dispatcher_to(stores, Arc::<Cloud>::clone(&stores.cloud))
    }

    fn dispatcher_to(stores: &Stores, upstream: Arc<dyn Upstream>) -> Arc<Dispatcher> {
        Arc::new(Dispatcher {
            upstream,
            call_timeout: Duration::from_secs(10),
            ledger: stores.ledger.clone(),
            authorizer: stores.authorizer(),
            throttle: stores.throttle(),
            reserver: stores.reserver(),
            halts: Arc::clone(&stores.halts),
            scope: Arc::default(),
            reads: stores.reads(),
            sources: stores.sources(),
            paper: stores.paper(),
            log: stores.log(),
            audit_quotas: Arc::new(AuditQuotas::new(u64::MAX)),
            unsettled: stores.unsettled(),
            writing: Arc::default(),
            tasks: stores.tasks.clone(),
        })
    }

    /// A write that was admitted.
    fn write(stores: &Stores, dispatcher: &Arc<Dispatcher>) -> Dispatch {
        let file = json!({ "projectId": 1, "name": "a.py", "content": "" });
        admitted(dispatcher, stores.request("files/create-file", file))
    }

    fn admitted(dispatcher: &Arc<Dispatcher>, request: CallRequest) -> Dispatch {
        Dispatch {
            dispatcher: Arc::clone(dispatcher),
            request,
            admission: admitted_call(Scope::new().service()),
        }
    }

    type Withdrawal = fn(&PolicyStore, &Halts);

    /// A connection without a session: a call waits there until its clearance is withdrawn, which is between its decision
    /// and the wait, or during the wait.
    struct NoSession {
        policies: Arc<PolicyStore>,
        halts: Arc<Halts>,
        withdraw: Withdrawal,
        during_wait: bool,
    }

    impl Upstream for NoSession {
        fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
            Box::pin(async move {
                call.clearance.clear()?;
                if !self.during_wait {
                    (self.withdraw)(&self.policies, &self.halts);
                }
                let mut withdrawn = call.clearance.withdrawn();
                if self.during_wait {
                    assert_eq!((&mut withdrawn).now_or_never(), None);
                    (self.withdraw)(&self.policies, &self.halts);
                }
                Err(withdrawn.now_or_never().expect("a withdrawal was missed"))
            })
        }

        fn download<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
            _: u64,
            _: Instant,
        ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
            Box::pin(std::future::pending())
        }
    }

    fn halt(halts: &Halts, scope: HaltScope) {
        let halt = qchost_ledger::Halt {
            account: scope.account.clone(),
            plugin: scope.plugin.clone(),
            reason: "x".to_owned(),
            by: "ann".to_owned(),
            at: 0,
        };
        halts.halt(halt, &scope, HaltBody::default());
    }

    fn halt_plugin(plugin: &str) -> HaltScope {
        HaltScope {
            account: None,
            plugin: Some(plugin.to_owned()),
        }
    }

    #[tokio::test]
    async fn a_write_is_recorded_sent_and_its_outcome_recorded() {
        let stores = Stores::new(GRANT).await;
        let dispatcher = dispatcher(&stores);
        let (reply, answer) = oneshot::channel();
        assert!(write(&stores, &dispatcher).send_once(reply).await.is_none());
        answer.await.unwrap().unwrap();
        assert_eq!(stores.cloud.sent(), ["create_file"]);
        assert_eq!(stores.kinds().await, ["intent", "outcome"]);
        // Its budget is used up.
        let (reply, answer) = oneshot::channel();
        assert!(write(&stores, &dispatcher).send_once(reply).await.is_none());
        let refusal = answer.await.unwrap().unwrap_err();
        assert!(matches!(refusal, Refusal::Exhausted { .. }), "{refusal:?}");
        assert_eq!(stores.cloud.sent(), ["create_file"]);
        assert_eq!(stores.kinds().await, ["intent", "outcome", "denied"]);
    }

    #[tokio::test]
    async fn a_write_whose_policy_changed_is_not_sent_and_gives_its_budget_back() {
        let stores = Stores::new(GRANT).await;
        let dispatcher = dispatcher(&stores);
        let mut former = write(&stores, &dispatcher);
        stores.install(&GRANT.replace("one", "two"));
        let (reply, _answer) = oneshot::channel();
        assert!(former.send_once(reply).await.is_some());
        assert!(stores.cloud.sent().is_empty());
        let used = stores.ledger.usage("a", "lab", crate::clock::now()).await;
        assert!(used.unwrap().iter().all(|used| used.count == 0));
    }

    #[tokio::test]
    async fn a_halt_and_a_change_of_the_policy_end_the_wait_for_a_session_at_once() {
        let halts: [Withdrawal; 3] = [
            |_, halts| halt(halts, HaltScope::default()),
            |_, halts| halt(halts, halt_plugin("lab")),
            |_, halts| {
                halt(halts, halt_plugin("other"));
                halt(halts, halt_plugin("lab"));
            },
        ];
        let changes: [Withdrawal; 3] = [
            |policies, _| policies.remove("lab"),
            |policies, _| policies.install(manifest("")).unwrap(),
            |policies, _| {
                let former = policies.settings();
                let new = EffectiveSettings {
                    settings: settings(),
                    guardrails_text: Arc::clone(&former.guardrails_text),
                    configuration_text: Arc::clone(&former.configuration_text),
                    configuration_pending: None,
                };
                let noted = policies.differences(&new);
                let prepared = policies.prepare_settings(Arc::new(new)).unwrap();
                policies.commit(prepared, noted).unwrap();
            },
        ];
        let halts = halts.map(|withdraw| (withdraw, true));
        let changes = changes.map(|withdraw| (withdraw, false));
        for (withdraw, halted) in halts.into_iter().chain(changes) {
            for during_wait in [false, true] {
                let stores = Stores::new(GRANT).await;
                let connection = NoSession {
                    policies: Arc::clone(&stores.policies),
                    halts: Arc::clone(&stores.halts),
                    withdraw,
                    during_wait,
                };
                let dispatcher = dispatcher_to(&stores, Arc::new(connection));
                let (reply, answer) = oneshot::channel();
                let unsent = write(&stores, &dispatcher).send_once(reply).await;
                assert_eq!(unsent.is_none(), halted);
                drop(unsent);
                match answer.await {
                    Ok(answer) => assert!(matches!(answer, Err(Refusal::Halted(_))), "{answer:?}"),
                    // It is decided again.
                    Err(_) => assert!(!halted),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_read_waits_on_under_a_halt_until_its_policy_changes() {
        let stores = Stores::new(GRANT).await;
        let connection = NoSession {
            policies: Arc::clone(&stores.policies),
            halts: Arc::clone(&stores.halts),
            withdraw: |policies, _| policies.remove("lab"),
            during_wait: true,
        };
        halt(&stores.halts, HaltScope::default());
        let dispatcher = dispatcher_to(&stores, Arc::new(connection));
        let read = stores.request("files/read-file", json!({ "projectId": 1 }));
        let (reply, _answer) = oneshot::channel();
        assert!(admitted(&dispatcher, read).send_once(reply).await.is_some());
    }

    /// A connection whose cache gives every answer.
    struct Kept;

    impl Upstream for Kept {
        fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
            Box::pin(async move {
                call.clearance.clear()?;
                let age = Duration::from_millis(1_500);
                call.sends.unwrap().answered_by_cache(age);
                Ok(json!({ "success": true, "files": [] }))
            })
        }

        fn download<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
            _: u64,
            _: Instant,
        ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_kept_answer_is_charged_and_recorded_with_its_age() {
        let stores = Stores::new(GRANT).await;
        let dispatcher = dispatcher_to(&stores, Arc::new(Kept));
        let read = || {
            let file = json!({ "projectId": 1, "name": "a.py" });
            admitted(&dispatcher, stores.request("files/read-file", file))
        };
        let (reply, answer) = oneshot::channel();
        assert!(read().send_once(reply).await.is_none());
        answer.await.unwrap().unwrap();
        let records = stores.records().await;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["kind"], "read");
        assert_eq!(records[0]["sends"], 0);
        assert_eq!(records[0]["cached-ms"], 1_500);
        let (reply, answer) = oneshot::channel();
        assert!(read().send_once(reply).await.is_none());
        let refusal = answer.await.unwrap().unwrap_err();
        assert!(matches!(refusal, Refusal::Exhausted { .. }), "{refusal:?}");
    }

    #[tokio::test]
    async fn a_write_whose_caller_went_away_is_neither_recorded_nor_sent() {
        let stores = Stores::new(GRANT).await;
        let dispatcher = dispatcher(&stores);
        let (reply, answer) = oneshot::channel();
        drop(answer);
        assert!(write(&stores, &dispatcher).send_once(reply).await.is_none());
        assert!(stores.cloud.sent().is_empty());
        assert!(stores.kinds().await.is_empty());
    }
}
