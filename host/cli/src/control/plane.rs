//! The control plane: a thread and a runtime of its own that serve the control socket from the moment the host has the data
//! folder, before anything else is opened.
//!
//! Invariants: a halt needs no thread, runtime or file descriptor that other work can exhaust. Until the state is open, a
//! halt is kept here, and is in force before anything can be sent. After a shutdown request, the process ends in bounded
//! time, however busy its other threads are.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use qchost_gate::HaltScope;
use qchost_policy::{People, Person};
use qchost_secrets::Redactor;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::denials::Denials;
use super::limits::Limits;
use super::reserve::Reserve;
use super::server;
use crate::config::Config;
use crate::host::Host;
use crate::signals;

/// Threads for blocking work: reading the audit, and large requests. Separate from those of the plugins.
const BLOCKING_THREADS: usize = 128;
/// Minimum interval between warnings about exhausted file descriptors.
const SAY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a process may run on after a second shutdown request.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Serves the control socket while it exists.
pub struct Plane {
    shared: Arc<Shared>,
    end: CancellationToken,
    /// Resolves when the thread ends.
    served: Option<oneshot::Receiver<Result<()>>>,
}

/// State shared by all connections.
pub(super) struct Shared {
    /// The runtime of the plugins.
    pub main: Handle,
    pub limits: Limits,
    pub reserve: Reserve,
    pub denials: Denials,
    /// The configuration that the host was started with.
    pub configuration: PathBuf,
    pub data: PathBuf,
    /// The people in the file. Until the state is open, they keep others out, and may halt.
    pub people: People,
    redactor: Redactor,
    opened: watch::Sender<Opened>,
    /// Halts requested before there was a host; `None` once there is one.
    early: Mutex<Option<Vec<Early>>>,
    ending: AtomicBool,
    /// When exhausted file descriptors were last reported.
    said_crowded: Mutex<Option<Instant>>,
}

/// The state of the host's start.
#[derive(Clone)]
pub(super) enum Opened {
    /// The state is being opened.
    Opening,
    Host(Arc<Host>),
    /// The start failed.
    Failed(String),
}

/// A halt requested before there was a host.
pub(super) struct Early {
    pub person: Person,
    pub scope: HaltScope,
    pub reason: String,
}

impl Plane {
    /// Starts serving. `limit` is how long the host may take to shut down; after that the process exits.
    pub fn start(config: &Config, listener: UnixListener, limit: Duration) -> Result<Self> {
        let listener = listener.into_std()?;
        let shared = Arc::new(Shared {
            main: Handle::current(),
            limits: Limits::new(),
            reserve: Reserve::new(),
            denials: Denials::default(),
            configuration: config.path.clone(),
            data: config.data()?,
            people: People::new(config.persons(), &config.guardrails()?)?,
            redactor: config.secrets()?.redactor().clone(),
            opened: watch::Sender::new(Opened::Opening),
            early: Mutex::new(Some(Vec::new())),
            ending: AtomicBool::new(false),
            said_crowded: Mutex::default(),
        });
        let end = CancellationToken::new();
        let (ended, served) = oneshot::channel();
        let (shares, until) = (Arc::clone(&shared), end.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("qchost-reading")
            .build()
            .context("the runtime of the control socket does not start")?;
        thread::Builder::new()
            .name("qchost-control".to_owned())
            .spawn(move || {
                let serving = async {
                    let listener = UnixListener::from_std(listener)?;
                    let ending = tokio::spawn(end_in_time(Arc::clone(&shares), limit));
                    let served = server::serve(listener, shares, until).await;
                    ending.abort();
                    served
                };
                let served = runtime.block_on(serving);
                runtime.shutdown_background();
                // The host has ended already, and does not wait for it.
                drop(ended.send(served));
            })
            .context("the thread of the control socket does not start")?;
        Ok(Self {
            shared,
            end,
            served: Some(served),
        })
    }

    /// The host exists: it carries out what was requested meanwhile. Early halts are in force already.
    pub fn open(&self, host: &Arc<Host>) {
        let mut early = self.shared.early.lock();
        for Early {
            person,
            scope,
            reason,
        } in early.take().unwrap_or_default()
        {
            // In force at once; stored while the host continues to start.
            let halting = host.gate.halt(&person, scope, &reason, false);
            tokio::spawn(async move {
                match halting.await {
                    Ok(report) => {
                        for problem in report.problems {
                            tracing::error!(target: "host", "halted, but {problem}");
                        }
                    }
                    Err(error) => tracing::error!(target: "host", "{error}"),
                }
            });
        }
        let host = Arc::clone(host);
        self.shared.opened.send_replace(Opened::Host(host));
    }

    /// The start failed, for this reason.
    pub fn failed(&self, reason: String) {
        self.shared.opened.send_replace(Opened::Failed(reason));
    }

    /// The host shuts down.
    pub fn ending(&self) {
        self.shared.ending.store(true, Ordering::Release);
    }

    /// Waits until the socket is no longer served, which should not happen before [`Self::close`].
    pub async fn served(&mut self) -> Result<()> {
        match &mut self.served {
            Some(served) => {
                let result = served.await;
                self.served = None;
                result.context("the thread of the control socket failed")?
            }
            None => bail!("the control socket is served no longer"),
        }
    }

    /// Replies to the connected clients, and ends.
    pub async fn close(mut self) -> Result<()> {
        self.end.cancel();
        self.served().await
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Shared {
    /// Waits for the host.
    pub(super) async fn host(&self) -> Result<Arc<Host>> {
        let mut opened = self.opened.subscribe();
        let found = opened
            .wait_for(|it| !matches!(it, Opened::Opening))
            .await
            .context("the host ends")?
            .clone();
        match found {
            Opened::Host(host) => Ok(host),
            Opened::Failed(reason) => bail!("the host could not start: {reason}"),
            Opened::Opening => bail!("the host ends"),
        }
    }

    /// The host, if it exists.
    pub(super) fn opened(&self) -> Option<Arc<Host>> {
        match &*self.opened.borrow() {
            Opened::Host(host) => Some(Arc::clone(host)),
            _ => None,
        }
    }

    /// What the host is doing, unless it just serves.
    pub(super) fn stage(&self) -> Option<String> {
        if self.ending.load(Ordering::Acquire) {
            return Some(
                "ending: what runs has a while to end, and nothing new is begun".to_owned(),
            );
        }
        match self.opened() {
            Some(host) => host.stage(),
            None => Some("starting: opening the state".to_owned()),
        }
    }

    /// The host's configuration.
    pub(super) fn configuration(&self) -> PathBuf {
        match self.opened() {
            Some(host) => host.current().config.path.clone(),
            None => self.configuration.clone(),
        }
    }

    /// Whether a user has a role, as far as that is known now.
    pub(super) fn knows(&self, uid: u32) -> bool {
        self.person(uid, |_| true)
    }

    /// Whether a user's role may halt the host, as far as that is known now.
    pub(super) fn operates(&self, uid: u32) -> bool {
        self.person(uid, Person::operates)
    }

    fn person(&self, uid: u32, is_so: impl Fn(&Person) -> bool) -> bool {
        let person = |people: &People| people.by_uid(uid).is_some_and(&is_so);
        match self.opened() {
            Some(host) => person(&host.current().people),
            None => person(&self.people),
        }
    }

    /// Redacts secrets from what leaves the process.
    pub(super) fn redactor(&self) -> Redactor {
        match self.opened() {
            Some(host) => host.redactor().clone(),
            None => self.redactor.clone(),
        }
    }

    /// Whether to report exhausted file descriptors again.
    pub(super) fn may_say_crowded(&self) -> bool {
        let said = self.said_crowded.lock();
        let mut said = said;
        let may = said.is_none_or(|at| at.elapsed() >= SAY_INTERVAL);
        if may {
            *said = Some(Instant::now());
        }
        may
    }

    /// Keeps a halt for the host that is starting; `false` if there is one already.
    pub(super) fn halt_early(&self, halt: Early) -> bool {
        let mut early = self.early.lock();
        match early.as_mut() {
            Some(early) => {
                early.push(halt);
                true
            }
            None => false,
        }
    }
}

/// Exits a process that does not shut down in time: with all other threads busy it would not even notice the request.
async fn end_in_time(shared: Arc<Shared>, limit: Duration) {
    signals::ended().await;
    let again = signals::ended();
    shared.ending.store(true, Ordering::Release);
    tokio::select! {
        () = tokio::time::sleep(limit) => {}
        () = async {
            again.await;
            tokio::time::sleep(AT_ONCE).await;
        } => {}
    }
    tracing::error!(target: "host", "the host did not shut down in time: calls that were sent may be done or not");
    crate::logging::close();
    #[expect(
        clippy::exit,
        reason = "the threads that would return from `main` are the ones that do not end"
    )]
    std::process::exit(1);
}
