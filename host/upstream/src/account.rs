//! The life of a call: answered by the cache, or sent, classified, and retried where that is safe.
//!
//! A call goes to the endpoint that [`Endpoints`] picks. What may be sent twice is sent to another one if that one fails; a
//! read also if it is not answered in time, as long as another endpoint is known to work. What was certainly not sent goes
//! to each other endpoint once, whatever it is.
//!
//! Invariants: a non-idempotent operation is retried only after a failure that proves that nothing was done.
//! Nothing is sent without clearance, and a withdrawal of the clearance ends each wait. No call outlives its deadline by
//! more than the time that a dying server's last words are waited for. Each attempt after the first one takes a place
//! where QuantConnect limits the operation. All calls of an account together retry no more than its [`RetryBudget`]
//! permits. No argument is logged.

mod endpoint_proof;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::host_calls::{LIST_PROJECTS, READ_ACCOUNT};
use qchost_catalog::{
    Access, Call, Clearance, Exception, Failure, Operation, Outcome, Remote, RemoteTool, Target,
    Way, aside,
};
use rmcp::model::CallToolResult;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::time::{sleep, sleep_until};
use tokio_util::task::TaskTracker;

use crate::cache::{Cache, Found, Lookup, Writes};
use crate::connector::Connector;
use crate::decode::Decoder;
use crate::endpoints::{Endpoint, Endpoints};
use crate::fault::{Delivery, Fault, Problem, UNAUTHORIZED};
use crate::figures::{AccountFigures, Answered, Counters};
use crate::health::AccountHealth;
use crate::identity::IdentityMemory;
use crate::options::AccountOptions;
use crate::pool::{NoSession, SessionGuard};
use crate::proof::Proof;
use crate::remote::{self, Pages};
use crate::retry_budget::RetryBudget;
use crate::shape::Input;
use crate::text::Redactor;

/// One account: the locations of its MCP servers and how they are used.
pub struct Account {
    name: String,
    pub(crate) endpoints: Endpoints,
    /// The calls under way.
    pub(crate) calls: TaskTracker,
    cache: Cache,
    counters: Arc<Counters>,
    retries: Arc<RetryBudget>,
    /// Held by the call that proves whose endpoints these are.
    proving: tokio::sync::Mutex<()>,
    /// Where it is kept whose the account is, if something is compared with that.
    memory: Option<Arc<dyn IdentityMemory>>,
    /// Whether what the reference says of itself was noted there.
    is_noted: AtomicBool,
    begun: Instant,
    /// Of a remote server beside one in front of the REST API: whether both are the same user's.
    pub(crate) proof: Proof,
}

/// The arguments of a call under the server's names.
type Arguments<'a> = Cow<'a, Map<String, Value>>;

/// What to do after a send.
enum Step {
    Done(Outcome),
    /// Its clearance refused.
    Withheld(Failure),
    /// Nothing was done; a new session may succeed.
    Reconnect(Failure),
    /// The server had no connection to QuantConnect: nothing was done, whatever the operation is.
    Unsent(Failure),
    /// A read failed, and would fail again at this endpoint.
    Elsewhere(Failure),
    /// Safe to retry after a wait: the server's own, or ours.
    Again(Failure, Option<Duration>),
}

impl Account {
    /// An account with its name in manifests. Connects on the first call.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        connector: Arc<dyn Connector>,
        options: AccountOptions,
    ) -> Self {
        let name = name.into();
        Self {
            endpoints: Endpoints::new(Endpoint::new(&name, &name, connector, options)),
            begun: Instant::now(),
            proof: Proof::default(),
            name,
            cache: Cache::new(options.cache_for, Writes::default()),
            counters: Arc::new(Counters::new()),
            retries: Arc::new(RetryBudget::new()),
            proving: tokio::sync::Mutex::new(()),
            memory: None,
            is_noted: AtomicBool::new(false),
            calls: TaskTracker::new(),
        }
    }

    /// Adds an endpoint: another server for the same user and organisation. How often a call is sent, and how long
    /// answers are kept, is as the first endpoint's options say.
    #[must_use]
    pub fn with_endpoint(mut self, connector: Arc<dyn Connector>, options: AccountOptions) -> Self {
        let number = self.endpoints.iter().count().saturating_add(1);
        let label = format!("{} (endpoint {number})", self.name);
        let endpoint = Endpoint::new(&self.name, &label, connector, options);
        self.endpoints.add(endpoint);
        self
    }

    /// Has it remembered whose the account is, so that another endpoint can take the first one's place when that is down at
    /// the start.
    #[must_use]
    pub fn with_memory(mut self, memory: Arc<dyn IdentityMemory>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// The same for an account whose first endpoint a person logs in to, and with nothing else to compare the login with: it has
    /// to be of the user that is remembered.
    #[must_use]
    pub fn with_login(self, memory: Arc<dyn IdentityMemory>) -> Self {
        self.endpoints.doubt_first();
        self.with_memory(memory)
    }

    /// Joins another connection of the same account, or the one that it replaces: what either still writes invalidates the
    /// caches of both, and figures and retries are counted together. Kept answers are not shared, since they may be
    /// another user's.
    #[must_use]
    pub(crate) fn joined(mut self, other: &Self) -> Self {
        let writes = other.cache.writes().clone();
        self.cache = Cache::new(self.endpoints.first().pool.options().cache_for, writes);
        self.counters = Arc::clone(&other.counters);
        self.retries = Arc::clone(&other.retries);
        self
    }

    /// What its calls came to.
    pub(crate) fn figures(&self) -> AccountFigures {
        self.counters.figures()
    }

    /// The health of each of its endpoints.
    pub(crate) fn each_health(&self) -> Vec<AccountHealth> {
        let each = self.endpoints.each_health(&self.name, self.begun);
        let each = each.into_iter().map(|it| self.proof.applied_to(it));
        each.collect()
    }

    /// Its health: what its calls have shown, and the state of its connections.
    pub(crate) fn health(&self) -> AccountHealth {
        let health = self.endpoints.health(&self.name, self.begun);
        self.proof.applied_to(health)
    }

    /// Whether no problem with its servers is known, of which user its login is aside.
    pub(crate) fn answers(&self) -> bool {
        let health = self.endpoints.health(&self.name, self.begun);
        !health.state.is_problem()
    }

    /// Makes a read at each endpoint to determine its health.
    pub(crate) async fn check(&self, deadline: Instant) {
        let checks =
            (0..self.endpoints.iter().count()).map(|index| self.check_one(index, deadline));
        let checks = futures::future::join_all(checks);
        // Side by side, so that an endpoint that does not answer leaves time to compare the others.
        futures::future::join(checks, self.prove_endpoints(deadline, Duration::ZERO)).await;
        self.note_reference(deadline).await;
    }

    async fn check_one(&self, index: usize, deadline: Instant) {
        let operation = match self.way() {
            Way::Rest => READ_ACCOUNT,
            Way::Remote => LIST_PROJECTS,
        };
        let outcome = self.probe(index, operation, deadline).await;
        if let Err(failure @ Failure::TimedOut { .. }) = outcome {
            let endpoint = self.endpoints.exactly(index).endpoint;
            endpoint.failed(Problem::Unreachable, failure.to_string(), None);
        }
    }

    /// Waits for its calls, and closes its connections. There must be no further calls.
    pub(crate) async fn retire(&self) {
        self.calls.close();
        self.calls.wait().await;
        for endpoint in self.endpoints.iter() {
            endpoint.pool.retire().await;
        }
        tracing::info!(account = self.name, "a former connection is closed");
    }

    /// Closes its connections at once; calls under way are lost.
    pub(crate) async fn close(&self) {
        for endpoint in self.endpoints.iter() {
            endpoint.pool.close().await;
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which of the account's connections it is.
    fn way(&self) -> Way {
        self.endpoints.first().pool.options().way
    }

    /// Whether a server of it has a tool of this name, which is found out by opening a session if none is open.
    pub(crate) async fn finds_tool(&self, tool: &str, call: &Call<'_>) -> Result<bool, Failure> {
        if let Some(known) = self.endpoints.has_tool(tool) {
            return Ok(known);
        }
        self.find_endpoints(call).await;
        let guard = self.session(call, Instant::now()).await?;
        Ok(guard.session.has_tool(tool))
    }

    /// Carries one call.
    #[tracing::instrument(
        name = "upstream_call", level = "debug", skip_all,
        fields(account = %self.name, tool = %call.target.tool()),
    )]
    pub(crate) async fn call(&self, call: &Call<'_>) -> Outcome {
        let started = Instant::now();
        // One of the first calls finds out which endpoints there are. Later, only reads wait for that.
        if call.target.access() == Access::Read || !self.endpoints.is_settled() {
            self.find_endpoints(call).await;
        }
        let (answered, outcome) = match self.cache.lookup(call) {
            Some(lookup) => self.look_up(lookup, call, started).await,
            None => (Answered::Sent, self.carry(call, started, None).await),
        };
        let outcome = outcome.map_err(|failure| match (failure, self.endpoints.waits_for()) {
            (Failure::Unavailable(reason), Some(waits_for)) => {
                Failure::Unavailable(format!("{reason}; {waits_for}"))
            }
            (failure, _) => failure,
        });
        self.counters
            .note_call(answered, &outcome, started.elapsed());
        match &outcome {
            Ok(value) => {
                if let Some((job, ended)) = self.cache.learn(call, value) {
                    self.counters.note_end(job, ended);
                }
                if matches!(answered, Answered::Sent) {
                    self.note_list(call, value).await;
                }
                tracing::debug!(ms = started.elapsed().as_millis(), ?answered, "answered");
            }
            Err(failure) => tracing::debug!(ms = started.elapsed().as_millis(), %failure, "failed"),
        }
        outcome
    }

    /// Answers a read from the cache, with the same read of another caller, or by sending it. The clearance decides in
    /// each case.
    async fn look_up(
        &self,
        lookup: Lookup,
        call: &Call<'_>,
        started: Instant,
    ) -> (Answered, Outcome) {
        let leads = AtomicBool::new(false);
        let is_barred = || call.clearance.clear().is_err();
        let send = self.carry(call, started, None);
        let reading = self.cache.read(lookup, &leads, is_barred, send);
        tokio::pin!(reading);
        let found = tokio::select! {
            biased;
            found = &mut reading => Ok(found),
            refusal = async { call.clearance.withdrawn().await } => Err(refusal),
            () = sleep_until(call.deadline.into()) => Err(timed_out(started)),
        };
        let found = match found {
            Ok(found) => found,
            // What it sent itself ends by its own rules.
            Err(_) if leads.load(Ordering::Relaxed) => reading.await,
            Err(failure) => return (Answered::Sent, Err(failure)),
        };
        let (answered, outcome, age) = match found {
            Found::Sent(outcome) => return (Answered::Sent, outcome),
            Found::Nothing => return (Answered::Sent, self.carry(call, started, None).await),
            Found::Kept(body, age) => (Answered::Kept, Ok(body), age),
            Found::Shared(outcome, age) => (Answered::Shared, outcome, age),
        };
        // Right before it is answered, as a send right before it is sent.
        if let Err(refusal) = call.clearance.clear() {
            return (answered, Err(refusal));
        }
        if let (Ok(_), Some(sends)) = (&outcome, call.sends) {
            sends.answered_by_cache(age);
        }
        (answered, outcome)
    }

    /// Sends a call in the form that belongs to its way. With `only`, no other endpoint carries it.
    pub(crate) async fn carry(
        &self,
        call: &Call<'_>,
        started: Instant,
        only: Option<usize>,
    ) -> Outcome {
        match self.way() {
            Way::Rest => self.send(call, started, only).await,
            Way::Remote => self.send_to_remote(call, started, only).await,
        }
    }

    /// Carries a call to the remote server, and returns the answer in the REST API's form.
    async fn send_to_remote(
        &self,
        call: &Call<'_>,
        started: Instant,
        only: Option<usize>,
    ) -> Outcome {
        let Target::Known(operation) = call.target else {
            return self.send(call, started, only).await;
        };
        let tool = match operation.remote {
            Remote::Tool(tool) => remote::chosen(tool, &call.arguments),
            Remote::Handshake => {
                let guard = self.session(call, started).await?;
                let version = Value::String(guard.session.info().version.clone());
                let body = [(operation.answer.to_owned(), version)];
                return Ok(Value::Object(Map::from_iter(body)));
            }
            Remote::Nothing(reason) => return Err(Failure::NotFound(reason.to_owned())),
            Remote::No => return Err(Failure::Unavailable(operation.lacks_way(call.account))),
        };
        let body = match tool.page {
            None => self.send(call, started, only).await?,
            Some(page) => self.read_pages(call, tool, page, started, only).await?,
        };
        remote::answer(operation, tool, body)
    }

    /// Reads all pages of an answer.
    async fn read_pages(
        &self,
        call: &Call<'_>,
        tool: &'static RemoteTool,
        page: &str,
        started: Instant,
        only: Option<usize>,
    ) -> Outcome {
        let mut pages = Pages::default();
        for number in 1..=remote::MAX_PAGES {
            let mut call = call.clone();
            call.arguments.insert(page.to_owned(), number.into());
            let body = self.send(&call, started, only).await?;
            let bytes = qchost_catalog::length(&body);
            if !aside(bytes, || pages.take(tool, body))? {
                return Ok(pages.body(tool));
            }
        }
        Err(Failure::UnexpectedResponse(format!(
            "the answer of {} has more than {} pages",
            tool.name,
            remote::MAX_PAGES
        )))
    }

    /// The name and the arguments of a call at the server.
    fn wire<'a>(&self, call: &'a Call<'_>) -> Result<(&'a str, Arguments<'a>), Failure> {
        let tool = match (self.way(), &call.target) {
            (Way::Remote, Target::Known(operation)) => match operation.remote {
                Remote::Tool(tool) => remote::chosen(tool, &call.arguments),
                Remote::No | Remote::Handshake | Remote::Nothing(_) => {
                    return Err(Failure::Unavailable(operation.lacks_way(call.account)));
                }
            },
            _ => return Ok((call.target.tool(), Cow::Borrowed(&call.arguments))),
        };
        let server = self.endpoints.first().pool.target();
        let arguments = remote::arguments(tool, &call.arguments, Some(&server))?;
        Ok((tool.name, Cow::Owned(arguments)))
    }

    /// A session of the endpoint that would carry the call.
    async fn session(&self, call: &Call<'_>, started: Instant) -> Result<SessionGuard, Failure> {
        let picked = self.endpoints.pick(&call.target, &[]);
        let endpoint = picked.endpoint;
        let guard = endpoint.pool.acquire(call.deadline, false);
        match while_cleared(call.clearance, guard).await? {
            Ok(guard) => Ok(guard),
            Err(NoSession::Down(problem, reason)) => {
                endpoint.failed(problem, reason.clone(), None);
                Err(endpoint.down(problem, format!("account `{}`: {reason}", self.name)))
            }
            Err(NoSession::Late) => Err(timed_out(started)),
        }
    }

    /// Why the server's tool does not take the call as this host knows the tool. Nothing was sent.
    fn misfit(
        &self,
        call: &Call<'_>,
        input: &Input,
        tool: &str,
        arguments: &Map<String, Value>,
    ) -> Option<Failure> {
        let Target::Known(operation) = call.target else {
            return None;
        };
        if self.way() == Way::Rest {
            let dropped = input.lacks(operation.newer, arguments)?;
            return Some(Failure::Unavailable(format!(
                "the server of `{}` does not know the argument `{dropped}` of `{tool}` and would drop it, so nothing was sent; \
                 an account with `connection = \"embedded\"` takes it",
                self.name
            )));
        }
        let misfit = input.misfit(arguments)?;
        let redactor = self.endpoints.first().pool.redactor();
        Some(Failure::Unavailable(format!(
            "the tool `{tool}` of `{}` is not as this host knows it, so nothing was sent: {}",
            self.name,
            redactor.line(&misfit)
        )))
    }

    /// Sends the call until it is answered. A write that may have taken effect is never reported as merely
    /// failed: a caller that gets a failure may rely on it that nothing was done.
    /// With `only`, no other endpoint carries it.
    pub(crate) async fn send(
        &self,
        call: &Call<'_>,
        started: Instant,
        only: Option<usize>,
    ) -> Outcome {
        if only.is_none()
            && let Some(refusal) = self.endpoints.refusal()
        {
            return Err(refusal);
        }
        let mut lost = None;
        let writing = self.cache.writes().begin(call);
        self.retries.note_call();
        let outcome = self.try_to_send(call, started, only, &mut lost).await;
        let is_unknown = lost.is_some() || matches!(outcome, Err(Failure::UnknownOutcome(_)));
        if let Some(writing) = writing.filter(|_| !is_unknown) {
            writing.settle();
        }
        match (outcome, lost) {
            (
                Err(
                    failure @ (Failure::Unavailable(_)
                    | Failure::TimedOut { .. }
                    | Failure::Reauthorize(_)
                    | Failure::RateLimited { .. }
                    | Failure::Halted(_)),
                ),
                Some(lost),
            ) => Err(Failure::UnknownOutcome(format!(
                "sent once ({lost}), and not again: {failure}"
            ))),
            (outcome, _) => outcome,
        }
    }

    /// `lost` describes a send that may have taken effect.
    async fn try_to_send(
        &self,
        call: &Call<'_>,
        started: Instant,
        only: Option<usize>,
        lost: &mut Option<String>,
    ) -> Outcome {
        let operation = match call.target {
            Target::Known(operation) => Some(operation),
            Target::Unknown(_) => None,
        };
        let options = *self.endpoints.first().pool.options();
        let changes = call.target.access() != Access::Read;
        let (tool, wired) = self.wire(call)?;
        let mut sent = 0;
        let mut failed: Vec<usize> = Vec::new();
        loop {
            let picked = match only {
                Some(index) => self.endpoints.exactly(index),
                None => self.endpoints.pick(&call.target, &failed),
            };
            let (endpoint, has_other) = (picked.endpoint, picked.has_other);
            // With another endpoint at hand, this one is not waited for as long as the caller would.
            let patience = Instant::now().checked_add(options.failover_after);
            let soon = patience.map_or(call.deadline, |end| end.min(call.deadline));
            let until = if has_other { soon } else { call.deadline };
            let guard = endpoint.pool.acquire(until, has_other);
            let guard = match while_cleared(call.clearance, guard).await {
                Ok(Ok(guard)) => guard,
                Err(refusal) => return Err(refusal),
                Ok(Err(no_session)) => {
                    let (problem, reason) = match no_session {
                        NoSession::Down(problem, reason) => (problem, reason),
                        NoSession::Late if !has_other => return Err(timed_out(started)),
                        // It is full, and works.
                        NoSession::Late if endpoint.pool.has_tool(tool).is_some() => {
                            failed.push(picked.index);
                            continue;
                        }
                        NoSession::Late => (Problem::Unreachable, "no session in time".to_owned()),
                    };
                    endpoint.failed(problem, reason.clone(), None);
                    // Nothing was sent: that is no retry.
                    if has_other {
                        failed.push(picked.index);
                        continue;
                    }
                    let reason = format!("account `{}`: {reason}", self.name);
                    return Err(endpoint.down(problem, reason));
                }
            };
            // The permit may have come at the last moment, or for a call that was too late already.
            if Instant::now() >= call.deadline {
                return Err(timed_out(started));
            }
            let Some(input) = guard.session.input(tool) else {
                if has_other {
                    failed.push(picked.index);
                    continue;
                }
                return Err(self.lacks(&call.target, guard.session.info().name.as_str()));
            };
            if let Some(failure) = self.misfit(call, input, tool, &wired) {
                if has_other {
                    failed.push(picked.index);
                    continue;
                }
                return Err(failure);
            }
            let redactor = redactor_for(endpoint, operation, &call.arguments);
            let decoder = Decoder {
                operation,
                redactor: &redactor,
                arguments: &call.arguments,
            };
            let arguments = input.apply(wired.clone().into_owned());
            // A write is waited for to the end: sent twice, it might be carried out twice.
            let until = if changes { call.deadline } else { until };
            let delivery = guard
                .session
                .call(tool, arguments, until, call.clearance)
                .await;
            drop(guard);
            sent += 1;
            if !matches!(delivery, Delivery::Withheld(_)) {
                if let Some(sends) = call.sends {
                    sends.add();
                }
                // Those at one endpoint are the host's own checks, which are no calls.
                if only.is_none() {
                    self.counters.note_send();
                }
            }
            if changes && matches!(delivery, Delivery::Late { sent: true }) {
                *lost = Some("not answered in time".to_owned());
            }
            let is_late = matches!(delivery, Delivery::Late { .. }) && until < call.deadline;
            let step = match is_late {
                true => {
                    let reason = "not answered in time".to_owned();
                    endpoint.failed(Problem::Unreachable, reason.clone(), None);
                    Step::Elsewhere(Failure::Unavailable(reason))
                }
                false => judge(endpoint, decoder, delivery, started),
            };
            let is_unsent = matches!(step, Step::Reconnect(_) | Step::Unsent(_));
            // A server may ask for a longer wait than ours, never for a shorter one.
            let ours = |wait: Option<Duration>| match has_other && wait.is_none() {
                true => Duration::ZERO,
                false => options.backoff.delay(sent),
            };
            let (failure, wait) = match step {
                Step::Done(outcome) => return outcome,
                Step::Withheld(refusal) => return Err(refusal),
                Step::Elsewhere(failure) if has_other => (failure, Duration::ZERO),
                Step::Elsewhere(failure) => return Err(failure),
                // The pool waits before it reconnects, longer each time.
                Step::Reconnect(failure) => (failure, Duration::ZERO),
                Step::Unsent(failure) => (failure, ours(None)),
                Step::Again(failure, wait) => {
                    // Of what may not be repeated, this failure says that nothing was done.
                    if changes && decoder.idempotent() && matches!(failure, Failure::Unavailable(_))
                    {
                        *lost = Some(failure.to_string());
                    }
                    let ours = ours(wait);
                    (failure, wait.map_or(ours, |wait| wait.max(ours)))
                }
            };
            failed.push(picked.index);
            drop(picked);
            // Nothing was sent, as without a session: each other endpoint is tried once, whatever the operation is.
            if is_unsent && has_other {
                if only.is_none() {
                    self.counters.note_retry();
                }
                continue;
            }
            // Which other endpoint is the account's may become known meanwhile.
            let awaits_other = is_unsent
                && only.is_none()
                && self.endpoints.has_others()
                && !self.endpoints.is_settled()
                && started.elapsed() < options.failover_after;
            if (sent >= options.attempts && !awaits_other) || !self.may_retry(call) {
                return Err(failure);
            }
            // The wait may be the server's, and so of any length.
            let next = Instant::now().checked_add(wait);
            if next.is_none_or(|next| next >= call.deadline) {
                return Err(failure);
            }
            tracing::debug!(%failure, ?wait, "to be sent again");
            while_cleared(call.clearance, sleep(wait)).await?;
            // Where QuantConnect limits the operation, this attempt counts too.
            if call.clearance.again().await.is_err() {
                return Err(failure);
            }
            if only.is_none() {
                self.counters.note_retry();
            }
        }
    }

    /// Whether the budget has a retry left. What makes the account safer does not depend on what others use up.
    fn may_retry(&self, call: &Call<'_>) -> bool {
        call.target.access() == Access::Reduce || self.retries.pay(Instant::now())
    }

    fn lacks(&self, target: &Target<'_>, server: &str) -> Failure {
        let message = format!(
            "the server `{server}` of account `{}` has no tool `{}`",
            self.name,
            target.tool()
        );
        match target {
            Target::Known(_) => Failure::Unavailable(format!("{message}; update the server")),
            Target::Unknown(_) => Failure::NotFound(message),
        }
    }
}

/// Redacts the connection's secrets and the settings of profiles among the arguments, also the short numbers among them,
/// since a server may quote its input.
fn redactor_for(
    endpoint: &Endpoint,
    operation: Option<&Operation>,
    arguments: &Map<String, Value>,
) -> Redactor {
    let mut sent = Vec::new();
    for exception in operation.map_or(&[][..], |operation| operation.exceptions) {
        if let Exception::Profile(field) | Exception::Profiles(field) | Exception::OfProfile(field) =
            exception
            && let Some(value) = arguments.get(*field)
        {
            collect_strings(value, &mut sent);
        }
    }
    endpoint.pool.redactor().with_sent(sent)
}

/// What to do after a delivery, and what it shows about the endpoint.
fn judge(endpoint: &Endpoint, decoder: Decoder<'_>, delivery: Delivery, started: Instant) -> Step {
    let line = |reason: &str| decoder.redactor.line(reason);
    let unreachable = |reason: &str| {
        endpoint.failed(Problem::Unreachable, line(reason), None);
    };
    match delivery {
        Delivery::Answer(result) => match aside(length(&result), || decoder.answer(result)) {
            Ok(answer) => {
                endpoint.answered();
                Step::Done(Ok(answer))
            }
            Err(fault) => judge_fault(endpoint, decoder, fault),
        },
        Delivery::Refused(error) => {
            judge_fault(endpoint, decoder, decoder.protocol_error(&error).into())
        }
        Delivery::RateLimited(retry_after) => judge_fault(
            endpoint,
            decoder,
            Failure::RateLimited { retry_after }.into(),
        ),
        Delivery::Withheld(refusal) => Step::Withheld(refusal),
        Delivery::NotSent(reason) => {
            unreachable(&reason);
            Step::Reconnect(Failure::Unavailable(line(&reason)))
        }
        Delivery::Lost(reason) => {
            unreachable(&reason);
            retry(decoder.lost(&line(&reason)))
        }
        Delivery::Barred(reason) => Step::Done(Err(Failure::Unavailable(line(&reason)))),
        Delivery::Unauthorized(reason) => {
            let failure = endpoint.unauthorized(format!("{UNAUTHORIZED}: {}", line(&reason)));
            let problem = Some(Problem::Unauthorized);
            let fault = Fault {
                failure,
                problem,
                is_unsent: false,
            };
            judge_fault(endpoint, decoder, fault)
        }
        Delivery::Forbidden(reason) => {
            let failure = Failure::Unavailable(format!("{UNAUTHORIZED}: {}", line(&reason)));
            let problem = Some(Problem::Forbidden);
            let fault = Fault {
                failure,
                problem,
                is_unsent: false,
            };
            judge_fault(endpoint, decoder, fault)
        }
        Delivery::Garbled(reason) => {
            unreachable(&reason);
            if decoder.is_read() {
                Step::Elsewhere(Failure::UnexpectedResponse(line(&reason)))
            } else if decoder.idempotent() {
                Step::Done(Err(Failure::UnexpectedResponse(line(&reason))))
            } else {
                Step::Done(Err(Failure::UnknownOutcome(line(&reason))))
            }
        }
        Delivery::Late { sent: true } if !decoder.idempotent() => {
            Step::Done(Err(Failure::UnknownOutcome(format!(
                "sent, but not answered within {:.1} s",
                started.elapsed().as_secs_f64()
            ))))
        }
        Delivery::Late { .. } => Step::Done(Err(timed_out(started))),
    }
}

/// What to do after a failure that the server reported.
fn judge_fault(
    endpoint: &Endpoint,
    decoder: Decoder<'_>,
    Fault {
        failure,
        problem,
        is_unsent,
    }: Fault,
) -> Step {
    let wait = match failure {
        Failure::RateLimited { retry_after } => {
            Some(retry_after.unwrap_or(endpoint.pool.options().backoff.max))
        }
        _ => None,
    };
    match problem {
        Some(problem) => endpoint.failed(problem, cause(&failure), wait),
        None if matches!(failure, Failure::UnexpectedResponse(_)) => endpoint.answered_garbage(),
        None => endpoint.answered(),
    }
    if is_unsent {
        return Step::Unsent(failure);
    }
    match (problem, &failure) {
        // Retrying with the same credentials would fail again.
        (Some(Problem::Unauthorized | Problem::Forbidden | Problem::Clock), _)
        | (_, Failure::UnexpectedResponse(_)) => match decoder.is_read() {
            true => Step::Elsewhere(failure),
            false => Step::Done(Err(failure)),
        },
        _ => retry(failure),
    }
}

/// The text of a failure.
fn cause(failure: &Failure) -> String {
    match failure {
        Failure::Unavailable(words) | Failure::Reauthorize(words) => words.clone(),
        failure => failure.to_string(),
    }
}

/// Bytes of an answer's texts.
fn length(result: &CallToolResult) -> usize {
    let texts = result.content.iter().filter_map(|block| block.as_text());
    texts.map(|block| block.text.len()).sum()
}

/// Of the decoder's failures, these two prove that a retry is safe.
fn retry(failure: Failure) -> Step {
    match failure {
        Failure::RateLimited { retry_after } => Step::Again(failure, retry_after),
        Failure::Unavailable(_) => Step::Again(failure, None),
        failure => Step::Done(Err(failure)),
    }
}

/// Waits for a future, unless the clearance is withdrawn meanwhile.
async fn while_cleared<T>(
    clearance: &dyn Clearance,
    what: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = what => Ok(done),
        // Lazy: most calls find an open session at once, and then nothing is watched.
        refusal = async { clearance.withdrawn().await } => Err(refusal),
    }
}

fn timed_out(started: Instant) -> Failure {
    Failure::TimedOut {
        after: started.elapsed(),
    }
}

fn collect_strings(value: &Value, into: &mut Vec<SecretString>) {
    match value {
        Value::String(text) => into.push(SecretString::from(text.as_str())),
        Value::Array(list) => list.iter().for_each(|value| collect_strings(value, into)),
        Value::Object(map) => map.values().for_each(|value| collect_strings(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use qchost_catalog::{BoxFuture, Sends, always, by_tool};
    use tokio::sync::watch;
    use tokio::time::Instant;

    use super::*;
    use crate::connector::{ConnectError, Connection};

    /// A server that is never reached.
    struct Never;

    impl Connector for Never {
        fn connect(&self) -> BoxFuture<'_, Result<Connection, ConnectError>> {
            Box::pin(pending())
        }

        fn describe(&self) -> String {
            "never".to_owned()
        }

        fn secrets(&self) -> Vec<SecretString> {
            Vec::new()
        }
    }

    fn call<'a>(tool: &str, sends: &'a Sends) -> Call<'a> {
        Call {
            account: "a",
            target: Target::Known(by_tool(tool).unwrap()),
            arguments: Map::from_iter([("projectId".to_owned(), 1.into())]),
            deadline: std::time::Instant::now() + Duration::from_secs(60),
            clearance: always(),
            sends: Some(sends),
        }
    }

    /// Such as the one to the remote server, and the one in front of the REST API.
    #[tokio::test]
    async fn what_one_connection_of_an_account_writes_is_forgotten_by_the_others() {
        let account = |name: &str| Account::new(name, Arc::new(Never), AccountOptions::default());
        let one = account("a.remote");
        let two = account("a").joined(&one);
        assert!(Arc::ptr_eq(&one.counters, &two.counters));
        assert!(Arc::ptr_eq(&one.retries, &two.retries));
        let sends = Sends::default();
        let read = async || {
            let leads = AtomicBool::new(false);
            let lookup = two.cache.lookup(&call("list_backtests", &sends)).unwrap();
            let send = ready(Ok(Value::Null));
            two.cache.read(lookup, &leads, || false, send).await
        };
        assert!(matches!(read().await, Found::Sent(_)));
        assert!(matches!(read().await, Found::Kept(..)));
        let write = call("update_backtest", &sends);
        let writing = one.cache.writes().begin(&write).unwrap();
        assert!(matches!(read().await, Found::Sent(_)), "it is under way");
        writing.settle();
        assert!(matches!(read().await, Found::Sent(_)), "it was answered");
        assert!(matches!(read().await, Found::Kept(..)));
    }

    /// Neither for a call that failed at the others, nor for one that none of them can carry.
    #[tokio::test]
    async fn an_endpoint_that_is_not_known_to_be_of_the_account_is_never_picked() {
        let options = AccountOptions::default();
        let account = Account::new("a", Arc::new(Never), options);
        let account = account.with_endpoint(Arc::new(Never), options);
        let picked = |tool: &str, failed: &[usize]| {
            let target = Target::Known(by_tool(tool).unwrap());
            account.endpoints.pick(&target, failed).index
        };
        for (reference, other) in [(0, 1), (1, 0)] {
            let down = Failure::Unavailable("down".to_owned());
            account.endpoints.refer_to(reference, down);
            for tool in ["create_backtest", "list_skills"] {
                assert_eq!(picked(tool, &[]), reference, "{tool}");
                assert_eq!(picked(tool, &[reference]), reference, "{tool}");
                assert_eq!(picked(tool, &[other]), reference, "{tool}");
            }
        }
    }

    struct Halting(watch::Sender<bool>);

    impl Clearance for Halting {
        fn clear(&self) -> Result<(), Failure> {
            unreachable!("a wait clears nothing")
        }

        fn withdrawn(&self) -> BoxFuture<'_, Failure> {
            Box::pin(async {
                let mut halted = self.0.subscribe();
                halted.wait_for(|halted| *halted).await.unwrap();
                Failure::Halted("closed".to_owned())
            })
        }
    }

    /// With paused time, the clock advances only if something waits for it.
    #[tokio::test(start_paused = true)]
    async fn a_withdrawal_ends_a_wait_without_a_tick_of_the_clock() {
        let clearance = Halting(watch::Sender::new(false));
        let begun = Instant::now();
        let waiting = while_cleared(&clearance, pending::<()>());
        let halting = async {
            while clearance.0.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
            clearance.0.send_replace(true);
        };
        let (outcome, ()) = tokio::join!(waiting, halting);
        assert_eq!(outcome, Err(Failure::Halted("closed".to_owned())));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_withdrawal_before_a_wait_ends_it_and_what_needs_no_wait_watches_nothing() {
        let clearance = Halting(watch::Sender::new(true));
        let outcome = while_cleared(&clearance, pending::<()>()).await;
        assert!(matches!(outcome, Err(Failure::Halted(_))), "{outcome:?}");
        assert_eq!(while_cleared(&clearance, ready(1)).await, Ok(1));
    }
}
