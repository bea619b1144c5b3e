//! The sessions of one account: opened when needed, replaced when lost, shared by the calls.
//!
//! A call joins a pooled session (at most `calls_per_connection` share one) and then waits until it is open; it is opened
//! by a separate task, so that a caller that gives up does not undo the work for others that wait. The task retries with back-off while any call waits, and
//! stops otherwise: an idle account costs nothing.
//!
//! Invariant: a session is used by at most `calls_per_connection` calls, and there are never more than
//! `connections` of them in service.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout_at;

use crate::connector::{ConnectError, Connector};
use crate::fault::Problem;
use crate::health::{AccountHealth, AccountState};
use crate::options::AccountOptions;
use crate::session::Session;
use crate::text::Redactor;

/// How long a call waits for a server that could not be reached at the last attempt.
const DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call got no session.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// Connecting fails, and waiting would not help or did not.
    Down(Problem, String),
    /// The deadline passed without a known problem.
    Late,
}

pub(crate) struct Pool {
    /// The connection's name, for messages.
    name: String,
    connector: Arc<dyn Connector>,
    redactor: Redactor,
    options: AccountOptions,
    capacity: Arc<Semaphore>,
    sessions: Mutex<Vec<PooledSession>>,
    /// Notified whenever a pooled session changes.
    changed: watch::Sender<()>,
}

struct PooledSession {
    state: State,
    /// Calls that use its session or wait for it.
    calls: usize,
    /// Consecutive sessions that did not open or never answered.
    failures: u32,
    /// No attempt before this instant.
    pause: Option<Instant>,
    last_error: Option<(Problem, String)>,
    since: Instant,
    opened: u64,
}

enum State {
    Empty,
    Opening,
    Open(Arc<Session>),
    /// Retrying is useless without a change; it is retried once after the pause.
    Refused,
}

/// A session for one call; held while the call is under way.
pub(crate) struct SessionGuard {
    pub(crate) session: Arc<Session>,
    _load: SessionLoad,
}

/// A call that is counted to a pooled session.
struct SessionLoad {
    pool: Arc<Pool>,
    /// Position of the pooled session.
    index: usize,
    _permit: OwnedSemaphorePermit,
}

impl Drop for SessionLoad {
    fn drop(&mut self) {
        if let Some(pooled) = self.pool.sessions.lock().get_mut(self.index) {
            pooled.calls = pooled.calls.saturating_sub(1);
        }
    }
}

impl Pool {
    /// `name` is the connection's: what belongs elsewhere in the configuration is said with it.
    pub(crate) fn new(
        name: &str,
        connector: Arc<dyn Connector>,
        options: AccountOptions,
    ) -> Arc<Self> {
        let connections = options.connections.max(1);
        let options = AccountOptions {
            connections,
            calls_per_connection: options.calls_per_connection.max(1),
            attempts: options.attempts.max(1),
            ..options
        };
        let now = Instant::now();
        let sessions = std::iter::repeat_with(|| PooledSession {
            state: State::Empty,
            calls: 0,
            failures: 0,
            pause: None,
            last_error: None,
            since: now,
            opened: 0,
        });
        Arc::new(Self {
            name: name.to_owned(),
            redactor: match connector.redactor() {
                Some(shared) => Redactor::sharing(shared),
                None => Redactor::new(connector.secrets()),
            },
            connector,
            options,
            capacity: Arc::new(Semaphore::new(
                connections.saturating_mul(options.calls_per_connection),
            )),
            sessions: Mutex::new(sessions.take(connections).collect()),
            changed: watch::Sender::new(()),
        })
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    pub(crate) fn options(&self) -> &AccountOptions {
        &self.options
    }

    /// The target of the connection, for people.
    pub(crate) fn target(&self) -> String {
        self.connector.describe()
    }

    /// Returns a session for one call, waiting until the deadline; for a server that does not come back, no
    /// longer than [`DOWN_TIMEOUT`], and not at all if the call `has_other` servers to go to.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        deadline: Instant,
        has_other: bool,
    ) -> Result<SessionGuard, NoSession> {
        let permit = match timeout_at(deadline.into(), self.capacity.clone().acquire_owned()).await
        {
            Ok(Ok(permit)) => permit,
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => return Err(NoSession::Late),
        };
        let mut load = self.join_session(permit);
        // Subscribed before the first check, so that no change is missed in between.
        let mut changed = self.changed.subscribe();
        let give_up_at = Instant::now() + DOWN_TIMEOUT;
        loop {
            if let Some(session) = self.session_for(&mut load)? {
                return Ok(SessionGuard {
                    session,
                    _load: load,
                });
            }
            let last_error = || {
                let sessions = self.sessions.lock();
                sessions
                    .get(load.index)
                    .and_then(|pooled| pooled.last_error.clone())
            };
            let until = match last_error() {
                // The attempt goes on without this call.
                Some((problem, reason)) if has_other => {
                    return Err(NoSession::Down(problem, reason));
                }
                Some(_) => deadline.min(give_up_at),
                None => deadline,
            };
            if timeout_at(until.into(), changed.changed()).await.is_err() {
                return Err(match last_error() {
                    Some((problem, reason)) => NoSession::Down(problem, reason),
                    None => NoSession::Late,
                });
            }
        }
    }

    /// Takes all sessions out of service and waits until their servers are gone.
    pub(crate) async fn close(&self) {
        let sessions: Vec<_> = {
            let mut sessions = self.sessions.lock();
            sessions
                .iter_mut()
                .filter_map(PooledSession::take_session)
                .collect()
        };
        for session in sessions {
            session.close().await;
        }
    }

    /// Closes the pool permanently, once no call needs a session any more; waits for the end of a session that
    /// is just being opened.
    pub(crate) async fn retire(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            self.close().await;
            let opening = |pooled: &PooledSession| matches!(pooled.state, State::Opening);
            if !self.sessions.lock().iter().any(opening) {
                return;
            }
            // The sender lives as long as `self`.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether a server has a tool of this name, according to connected sessions.
    pub(crate) fn has_tool(&self, tool: &str) -> Option<bool> {
        let sessions = self.sessions.lock();
        let mut open = sessions
            .iter()
            .filter_map(PooledSession::session)
            .peekable();
        open.peek()?;
        Some(open.any(|session| session.has_tool(tool)))
    }

    pub(crate) fn health(&self, account: &str) -> AccountHealth {
        let mut sessions = self.sessions.lock();
        for pooled in sessions.iter_mut() {
            pooled.notice_loss(&self.options);
        }
        let open = || sessions.iter().filter_map(PooledSession::session);
        let error = sessions
            .iter()
            .find_map(|pooled| pooled.last_error.as_ref());
        let state = if open().next().is_some() {
            AccountState::Connected
        } else if let Some((problem, _)) = error {
            AccountState::of(Some(*problem))
        } else if sessions
            .iter()
            .any(|pooled| matches!(pooled.state, State::Opening))
        {
            AccountState::Connecting
        } else {
            AccountState::Idle
        };
        let since = sessions
            .iter()
            .filter(|pooled| pooled.session().is_some() == (state == AccountState::Connected))
            .map(|pooled| pooled.since)
            .min();
        AccountHealth {
            account: account.to_owned(),
            connection: self.connector.describe(),
            state,
            seconds_in_state: since.map_or(0.0, |since| since.elapsed().as_secs_f64()),
            seconds_since_news: 0.0,
            last_error: error.map(|(_, reason)| reason.clone()),
            not_proven: None,
            restarts: sessions
                .iter()
                .map(|pooled| pooled.opened.saturating_sub(1))
                .sum(),
            sessions: open().count(),
            calls: sessions.iter().map(|pooled| pooled.calls).sum(),
            server: open().next().map(|session| session.info().clone()),
        }
    }

    /// Counts a call to the first open session with room, otherwise to the first one with room.
    fn join_session(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> SessionLoad {
        let mut sessions = self.sessions.lock();
        let limit = self.options.calls_per_connection;
        let has_room = |pooled: &PooledSession| pooled.calls < limit;
        let index = sessions
            .iter()
            .position(|pooled| has_room(pooled) && pooled.session().is_some())
            .or_else(|| sessions.iter().position(has_room))
            // The semaphore has a permit for each call that there is room for.
            .unwrap_or_default();
        if let Some(pooled) = sessions.get_mut(index) {
            pooled.calls += 1;
        }
        SessionLoad {
            pool: self.clone(),
            index,
            _permit: permit,
        }
    }

    /// The session that the call is counted to, or another open one with room, if there is one. Otherwise makes sure that
    /// one is being opened.
    fn session_for(
        self: &Arc<Self>,
        load: &mut SessionLoad,
    ) -> Result<Option<Arc<Session>>, NoSession> {
        let mut sessions = self.sessions.lock();
        for pooled in sessions.iter_mut() {
            pooled.notice_loss(&self.options);
        }
        if let Some(session) = sessions.get(load.index).and_then(PooledSession::session) {
            return Ok(Some(session.clone()));
        }
        let limit = self.options.calls_per_connection;
        let other = sessions
            .iter()
            .position(|pooled| pooled.calls < limit && pooled.session().is_some());
        if let Some(index) = other {
            if let Some(pooled) = sessions.get_mut(load.index) {
                pooled.calls = pooled.calls.saturating_sub(1);
            }
            load.index = index;
            let pooled = sessions.get_mut(index);
            return Ok(pooled.and_then(|pooled| {
                pooled.calls += 1;
                pooled.session().cloned()
            }));
        }
        let Some(pooled) = sessions.get_mut(load.index) else {
            return Err(NoSession::Late);
        };
        match pooled.state {
            State::Opening | State::Open(_) => {}
            State::Refused if pooled.pause.is_some_and(|pause| pause > Instant::now()) => {
                let error = pooled.last_error.clone();
                let (problem, reason) = error.unwrap_or((Problem::Unreachable, String::new()));
                return Err(NoSession::Down(problem, reason));
            }
            State::Empty | State::Refused => {
                let connections = crate::threads::connections()
                    .map_err(|reason| NoSession::Down(Problem::Unreachable, reason))?;
                pooled.state = State::Opening;
                connections.spawn(self.clone().fill(load.index));
            }
        }
        Ok(None)
    }

    /// Opens a session, retrying while a call waits for it.
    async fn fill(self: Arc<Self>, index: usize) {
        loop {
            let pause = self
                .sessions
                .lock()
                .get(index)
                .and_then(|pooled| pooled.pause);
            if let Some(pause) = pause {
                tokio::time::sleep_until(pause.into()).await;
            }
            let opened = self.open().await;
            let done = match self.sessions.lock().get_mut(index) {
                Some(pooled) => pooled.settle(opened, &self.options),
                None => true,
            };
            self.changed.send_replace(());
            if done {
                return;
            }
        }
    }

    async fn open(&self) -> Result<Session, ConnectError> {
        let limit = self.options.connect_timeout;
        match tokio::time::timeout(
            limit,
            Session::open(
                &self.name,
                self.connector.as_ref(),
                &self.redactor,
                self.options.way,
            ),
        )
        .await
        {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::Transient(format!(
                "no MCP session within {} s",
                limit.as_secs_f64()
            ))),
        }
    }
}

impl PooledSession {
    fn session(&self) -> Option<&Arc<Session>> {
        match &self.state {
            State::Open(session) if session.is_alive() => Some(session),
            _ => None,
        }
    }

    fn take_session(&mut self) -> Option<Arc<Session>> {
        if !matches!(self.state, State::Open(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Empty) {
            State::Open(session) => Some(session),
            _ => None,
        }
    }

    /// Notices that the session is dead. One that never answered counts as a failure, or a server that
    /// dies at its first call would be restarted without pause.
    fn notice_loss(&mut self, options: &AccountOptions) {
        let State::Open(session) = &self.state else {
            return;
        };
        if session.is_alive() {
            return;
        }
        // A server that sends without limit would do so again, whatever it answered.
        let useful = session.has_answered() && !session.is_endless();
        let reason = session
            .end()
            .unwrap_or_else(|| "the session was lost".to_owned());
        self.last_error = Some((Problem::Unreachable, reason));
        self.state = State::Empty;
        self.since = Instant::now();
        if useful {
            self.failures = 0;
            self.pause = None;
        } else {
            self.count_failure(options);
        }
    }

    /// Handles the result of an attempt; `true` if there is to be no other.
    fn settle(&mut self, opened: Result<Session, ConnectError>, options: &AccountOptions) -> bool {
        match opened {
            Ok(session) => {
                self.state = State::Open(Arc::new(session));
                self.since = Instant::now();
                self.last_error = None;
                self.opened = self.opened.saturating_add(1);
                tracing::info!(opened = self.opened, "MCP session opened");
                true
            }
            Err(error) => {
                if self.last_error.is_none() {
                    self.since = Instant::now();
                }
                self.count_failure(options);
                tracing::warn!(%error, failures = self.failures, "no MCP session");
                let problem = match error {
                    ConnectError::Unauthorized(_) => Problem::Unauthorized,
                    ConnectError::Forbidden(_) => Problem::Forbidden,
                    ConnectError::Permanent(_) | ConnectError::Transient(_) => Problem::Unreachable,
                };
                let permanent = !matches!(error, ConnectError::Transient(_));
                self.last_error = Some((problem, error.to_string()));
                if permanent {
                    self.state = State::Refused;
                } else if self.calls == 0 {
                    self.state = State::Empty;
                }
                permanent || self.calls == 0
            }
        }
    }

    fn count_failure(&mut self, options: &AccountOptions) {
        self.failures = self.failures.saturating_add(1);
        let pause: Duration = options.backoff.delay(self.failures);
        self.pause = Some(Instant::now() + pause);
    }
}
