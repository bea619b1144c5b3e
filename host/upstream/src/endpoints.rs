//! The endpoints of one account, and which of them carries a call.
//!
//! Endpoints of one account lead to the same user and organisation. One is the reference, and each other one has to prove that
//! it is like it before it is used, and again after a login, which makes another [`Account`](crate::Account). The reference is the
//! first one, unless that does not answer before any has: then it is the next one that has what is remembered of the account,
//! and the first one has to prove itself when it is back. If a person logs in to the first one, it has to have that too. The
//! least loaded endpoint that works carries a call, of several in turn; one that failed is left alone for a while (see
//! [`Breaker`]), and then tried by a single read. Writes never try it.
//!
//! Invariants: an endpoint that has proved nothing carries nothing but reads of the host that check it. The first one proves
//! nothing where the configuration alone says whose it is. The reference does not change once it has answered. A call is never
//! refused because of a breaker: if no endpoint is known to work, the one that is due first carries it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::{Access, Failure, Target, Way};

use crate::breaker::{Breaker, Readiness};
use crate::connector::Connector;
use crate::fault::Problem;
use crate::health::{AccountHealth, AccountState, NotProven};
use crate::health_tracker::HealthTracker;
use crate::identity::Unlike;
use crate::options::AccountOptions;
use crate::pool::Pool;

/// How long a failed proof is not repeated.
const PROOF_INTERVAL: Duration = Duration::from_secs(30);
/// The same for one that could not be made, while the account has no endpoint that answers.
const UNREAD_INTERVAL: Duration = Duration::from_secs(5);

/// Why an account without its first endpoint has no other one.
const AWAITS_FIRST: &str = "endpoint 1 has to answer once before another one is used, since nothing is remembered of the account \
     that another one can be compared with";

/// Whether an endpoint is the account's.
enum Standing {
    /// It is the one with which the others are compared.
    Reference,
    Unknown,
    /// It is.
    Proven,
    /// It is not known to be, according to an attempt at this instant.
    Refused(Instant, Unproven),
}

/// Why an endpoint is not known to be the account's.
#[derive(Debug)]
pub(crate) enum Unproven {
    /// A read of the comparison failed at it.
    Unread(Failure),
    /// A read of the comparison failed at the reference.
    NoReference(Failure),
    /// The same, and nothing is remembered to compare it with.
    NoMemory,
    /// It has no project to compare.
    NoProject,
    /// It is another user's or organisation's, or it cannot be told.
    Other(String),
}

impl From<Unlike> for Unproven {
    fn from(why: Unlike) -> Self {
        match why {
            Unlike::NoProject => Self::NoProject,
            Unlike::Other(reason) => Self::Other(reason),
        }
    }
}

impl Unproven {
    /// Its kind, unless the cause is the endpoint's own failure.
    fn kind(&self) -> Option<NotProven> {
        match self {
            Self::Unread(_) => None,
            Self::NoReference(_) | Self::NoMemory => Some(NotProven::NoReference),
            Self::NoProject => Some(NotProven::NoProject),
            Self::Other(_) => Some(NotProven::Other),
        }
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(failure) | Self::NoReference(failure) => {
                write!(f, "it cannot be compared with the others: {failure}")
            }
            Self::NoMemory => f.write_str(AWAITS_FIRST),
            Self::NoProject => fmt::Display::fmt(&Unlike::NoProject, f),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// One way into an account: a server and its sessions.
pub(crate) struct Endpoint {
    pub(crate) pool: Arc<Pool>,
    /// What its calls have shown about it.
    tracker: HealthTracker,
    breaker: Breaker,
    standing: Mutex<Standing>,
    /// Calls under way.
    calls: AtomicUsize,
    /// Whether it has ever answered.
    has_answered: AtomicBool,
}

impl Endpoint {
    /// `label` names it in the log, and `name` its connection in messages.
    pub(crate) fn new(
        name: &str,
        label: &str,
        connector: Arc<dyn Connector>,
        options: AccountOptions,
    ) -> Self {
        Self {
            pool: Pool::new(name, connector, options),
            tracker: HealthTracker::new(label),
            breaker: Breaker::default(),
            standing: Mutex::new(Standing::Reference),
            calls: AtomicUsize::new(0),
            has_answered: AtomicBool::new(false),
        }
    }

    /// The outcome of a comparison with the reference.
    pub(crate) fn identified(&self, outcome: Result<(), Unproven>) {
        *self.standing.lock() = match outcome {
            Ok(()) => Standing::Proven,
            Err(why) => Standing::Refused(Instant::now(), why),
        };
    }

    /// Whether it may carry calls.
    fn is_proven(&self) -> bool {
        match &*self.standing.lock() {
            Standing::Reference | Standing::Proven => true,
            Standing::Unknown | Standing::Refused(..) => false,
        }
    }

    /// Whether a proof is to be attempted; one that could not be made, after this long.
    fn wants_proof(&self, unread_for: Duration) -> bool {
        match &*self.standing.lock() {
            Standing::Reference | Standing::Proven => false,
            Standing::Unknown => true,
            Standing::Refused(at, Unproven::NoProject | Unproven::Other(_)) => {
                at.elapsed() >= PROOF_INTERVAL
            }
            Standing::Refused(
                at,
                Unproven::Unread(_) | Unproven::NoReference(_) | Unproven::NoMemory,
            ) => at.elapsed() >= unread_for,
        }
    }

    /// It answered, with any answer.
    pub(crate) fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.tracker.answered();
        self.breaker.succeeded();
    }

    /// Whether it has ever answered.
    fn answers(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Whether the others are compared with it.
    pub(crate) fn is_reference(&self) -> bool {
        matches!(&*self.standing.lock(), Standing::Reference)
    }

    /// Whether it is known to be another user's or organisation's, or not to be comparable.
    pub(crate) fn is_other(&self) -> bool {
        matches!(
            &*self.standing.lock(),
            Standing::Refused(_, Unproven::Other(_))
        )
    }

    /// The failure of a call that it may not carry.
    fn refusal(&self) -> Failure {
        match &*self.standing.lock() {
            Standing::Refused(_, Unproven::Unread(failure)) => failure.clone(),
            Standing::Refused(_, why) => Failure::Unavailable(format!("nothing was sent: {why}")),
            Standing::Reference | Standing::Unknown | Standing::Proven => Failure::Unavailable(
                "nothing was sent: it is not known yet whose the account is".to_owned(),
            ),
        }
    }

    /// A call failed for a reason that lies with it.
    pub(crate) fn failed(&self, problem: Problem, cause: String, wait: Option<Duration>) {
        self.tracker.failed(problem, cause, wait);
        // Limits are the account's: another endpoint has the same.
        if problem != Problem::RateLimited {
            self.breaker.failed(Instant::now());
        }
    }

    /// It answered, and not usably: the call may be the reason, or something in front of the server.
    pub(crate) fn answered_garbage(&self) {
        self.tracker.answered();
        self.breaker.failed(Instant::now());
    }

    /// The failure of a call whose credentials are refused: at the remote server they are a login that ended.
    pub(crate) fn unauthorized(&self, reason: String) -> Failure {
        match self.pool.options().way {
            Way::Rest => Failure::Unavailable(reason),
            Way::Remote => Failure::Reauthorize(reason),
        }
    }

    /// The failure of a call without a session.
    pub(crate) fn down(&self, problem: Problem, reason: String) -> Failure {
        match problem {
            Problem::Unauthorized => self.unauthorized(reason),
            _ => Failure::Unavailable(reason),
        }
    }

    fn lacks(&self, target: &Target<'_>) -> bool {
        let goes = match target {
            Target::Known(operation) => operation.goes_by(self.pool.options().way),
            Target::Unknown(_) => true,
        };
        !goes || self.pool.has_tool(target.tool()) == Some(false)
    }

    fn health(&self, account: &str, begun: Instant) -> AccountHealth {
        let mut health = self.pool.health(account);
        health.seconds_since_news = begun.elapsed().as_secs_f64();
        if let Standing::Refused(at, why) = &*self.standing.lock()
            && !health.state.is_problem()
        {
            health.state = match why {
                Unproven::Unread(Failure::Reauthorize(_))
                | Unproven::NoProject
                | Unproven::Other(_) => AccountState::Unauthorized,
                Unproven::Unread(_) | Unproven::NoReference(_) | Unproven::NoMemory => {
                    AccountState::Unreachable
                }
            };
            health.seconds_since_news = at.elapsed().as_secs_f64();
            health.last_error = Some(why.to_string());
            health.not_proven = why.kind();
        }
        // A closed connection fails every call; an open one tells nothing about the server behind it.
        if health.state.is_problem() {
            return health;
        }
        let known = self.tracker.now();
        // An answer on a closed connection tells nothing about the next one.
        let closed = health.sessions == 0;
        if let Some(known) = known.filter(|known| known.problem.is_some() || !closed) {
            health.state = AccountState::of(known.problem);
            health.seconds_since_news = known.noted.elapsed().as_secs_f64();
            health.seconds_in_state = known.since.elapsed().as_secs_f64();
            health.last_error = known.cause.or(health.last_error);
        }
        health
    }
}

/// The endpoints of an account; at least one.
pub(crate) struct Endpoints {
    first: Endpoint,
    others: Vec<Endpoint>,
    /// Calls so far: equally loaded endpoints carry them in turn.
    turn: AtomicUsize,
}

/// The endpoint that carries a call, counted as its load meanwhile.
pub(crate) struct Picked<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// Its position.
    pub(crate) index: usize,
    /// Whether there is another one to go to if this one fails.
    pub(crate) has_other: bool,
}

impl<'a> Picked<'a> {
    fn new(index: usize, endpoint: &'a Endpoint, has_other: bool) -> Self {
        endpoint.calls.fetch_add(1, Ordering::Relaxed);
        Self {
            endpoint,
            index,
            has_other,
        }
    }
}

impl Drop for Picked<'_> {
    fn drop(&mut self) {
        self.endpoint.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoints {
    pub(crate) fn new(first: Endpoint) -> Self {
        Self {
            first,
            others: Vec::new(),
            turn: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add(&mut self, endpoint: Endpoint) {
        *endpoint.standing.lock() = Standing::Unknown;
        self.others.push(endpoint);
    }

    /// How long a proof that could not be made is not repeated for a call.
    pub(crate) fn proof_interval(&self) -> Duration {
        match self.is_settled() {
            true => PROOF_INTERVAL,
            false => UNREAD_INTERVAL,
        }
    }

    /// The positions of those for which a proof is to be attempted; one that could not be made, after this long.
    pub(crate) fn unproven(&self, unread_for: Duration) -> Vec<usize> {
        let all = self.iter().enumerate();
        all.filter(|(_, it)| it.wants_proof(unread_for))
            .map(|(index, _)| index)
            .collect()
    }

    pub(crate) fn first(&self) -> &Endpoint {
        &self.first
    }

    pub(crate) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Makes the first endpoint prove itself like the others: with what is remembered, until there is a reference.
    pub(crate) fn doubt_first(&self) {
        *self.first.standing.lock() = Standing::Unknown;
    }

    /// The position of the endpoint with which the others are compared, if there is one.
    pub(crate) fn reference(&self) -> Option<usize> {
        self.iter().position(Endpoint::is_reference)
    }

    /// Whether the reference has answered, so that it stays the reference.
    pub(crate) fn is_settled(&self) -> bool {
        let reference = self.iter().find(|it| it.is_reference());
        reference.is_some_and(|it| self.others.is_empty() || it.answers())
    }

    /// Makes another endpoint the reference, in place of one that never answered, for this reason.
    pub(crate) fn refer_to(&self, index: usize, failure: Failure) {
        let former = self.reference();
        // First, so that one of them may carry calls at any time.
        self.trust(index);
        if let Some(former) = former.filter(|former| *former != index) {
            let former = self.exactly(former).endpoint;
            former.identified(Err(Unproven::Unread(failure)));
        }
    }

    /// Makes an endpoint that is known to be the account's the reference.
    pub(crate) fn trust(&self, index: usize) {
        *self.exactly(index).endpoint.standing.lock() = Standing::Reference;
    }

    /// Why no endpoint may carry a call, if none may.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        match self.iter().any(Endpoint::is_proven) {
            true => None,
            false => Some(self.first.refusal()),
        }
    }

    /// What the account waits for, if its first endpoint has never answered and nothing is remembered of it.
    pub(crate) fn waits_for(&self) -> Option<&'static str> {
        let waits = |it: &Endpoint| {
            matches!(
                &*it.standing.lock(),
                Standing::Refused(_, Unproven::NoMemory)
            )
        };
        (!self.is_settled() && self.others.iter().any(waits)).then_some(AWAITS_FIRST)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The endpoint for a call that failed at these ones before.
    pub(crate) fn pick(&self, target: &Target<'_>, failed: &[usize]) -> Picked<'_> {
        if self.others.is_empty() {
            return Picked::new(0, &self.first, false);
        }
        let now = Instant::now();
        let may_carry = |it: &Endpoint| it.is_proven() && !it.lacks(target);
        let capable = || self.iter().enumerate().filter(move |(_, it)| may_carry(it));
        let untried = |index: &usize| !failed.contains(index);
        let works = |(index, it): &(usize, &Endpoint)| {
            untried(index) && it.breaker.readiness(now) == Readiness::Closed
        };
        let (turn, number) = (
            self.turn.fetch_add(1, Ordering::Relaxed),
            self.others.len().saturating_add(1),
        );
        let load = |(index, it): &(usize, &Endpoint)| {
            let waits = index.wrapping_add(number).wrapping_sub(turn % number) % number;
            (it.calls.load(Ordering::Relaxed), waits)
        };
        // One read tries an endpoint that failed, as long as another one would carry it if that fails.
        if target.access() == Access::Read && capable().any(|it| works(&it)) {
            let due = capable().find(|(index, it)| untried(index) && it.breaker.try_now(now));
            if let Some((index, endpoint)) = due {
                return Picked::new(index, endpoint, true);
            }
        }
        if let Some((index, endpoint)) = capable().filter(works).min_by_key(load) {
            let has_other = capable().any(|(other, _)| other != index && untried(&other));
            return Picked::new(index, endpoint, has_other);
        }
        // One without a session may take as long as its server is down.
        let has_no_session =
            |(_, it): &(usize, &Endpoint)| it.pool.has_tool(target.tool()).is_none();
        let due = |(_, it): &(usize, &Endpoint)| match it.breaker.readiness(now) {
            Readiness::Closed | Readiness::Due => now,
            Readiness::Open(until) => until,
        };
        let left = capable().filter(|(index, _)| untried(index));
        if let Some((index, endpoint)) =
            left.min_by_key(|it| (has_no_session(it), due(it), load(it)))
        {
            // If it fails too, those that failed before are waited for.
            let has_other = capable().count() > 1;
            return Picked::new(index, endpoint, has_other);
        }
        // All failed. The first one is for the error message.
        let last_failure = |index: usize| failed.iter().rposition(|it| *it == index);
        let next = capable().min_by_key(|it| (has_no_session(it), last_failure(it.0), load(it)));
        let proven = || self.iter().enumerate().find(|(_, it)| it.is_proven());
        let (index, endpoint) = next.or_else(proven).unwrap_or((0, &self.first));
        Picked::new(index, endpoint, false)
    }

    /// This one, whatever its state.
    pub(crate) fn exactly(&self, index: usize) -> Picked<'_> {
        let found = self.iter().nth(index).unwrap_or(&self.first);
        Picked::new(index, found, false)
    }

    /// Whether a server has a tool of this name, according to connected sessions.
    pub(crate) fn has_tool(&self, tool: &str) -> Option<bool> {
        let known = self.iter().filter_map(|it| it.pool.has_tool(tool));
        known.reduce(|one, other| one || other)
    }

    /// The health of the account: it is as well as the best of its endpoints.
    pub(crate) fn health(&self, account: &str, begun: Instant) -> AccountHealth {
        let each = |it: &Endpoint| it.health(account, begun);
        let mut best = each(&self.first);
        for endpoint in &self.others {
            let mut other = each(endpoint);
            if rank(other.state) < rank(best.state) {
                std::mem::swap(&mut best, &mut other);
            }
            best.restarts = best.restarts.saturating_add(other.restarts);
            best.sessions = best.sessions.saturating_add(other.sessions);
            best.calls = best.calls.saturating_add(other.calls);
        }
        if let Some(waits_for) = self.waits_for()
            && best.state.is_problem()
        {
            best.last_error = Some(match best.last_error {
                Some(error) => format!("{error}; {waits_for}"),
                None => waits_for.to_owned(),
            });
        }
        best
    }

    /// The health of each endpoint, in the order of the configuration.
    pub(crate) fn each_health(&self, account: &str, begun: Instant) -> Vec<AccountHealth> {
        self.iter().map(|it| it.health(account, begun)).collect()
    }
}

/// The better a state, the lower.
fn rank(state: AccountState) -> u8 {
    match state {
        AccountState::Connected => 0,
        AccountState::Connecting => 1,
        AccountState::Idle => 2,
        AccountState::RateLimited => 3,
        AccountState::Unreachable | AccountState::Clock | AccountState::Unauthorized => 4,
    }
}
