//! What all connections of the control socket share: the host once it exists, and what holds before.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use qchost_gate::HaltScope;
use qchost_policy::{People, Person};
use qchost_secrets::Redactor;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::denials::Denials;
use super::limits::Limits;
use super::reserve::Reserve;
use crate::config::Config;
use crate::exit_status::{ErrorKind, Failed};
use crate::host::Host;

/// Minimum interval between warnings about exhausted file descriptors.
const CROWDED_LOG_INTERVAL: Duration = Duration::from_secs(1);

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
    early: Mutex<Option<Vec<EarlyHalt>>>,
    ending: AtomicBool,
    /// When exhausted file descriptors were last reported.
    crowded_logged_at: Mutex<Option<Instant>>,
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
pub(super) struct EarlyHalt {
    pub person: Person,
    pub scope: HaltScope,
    pub reason: String,
}

impl Shared {
    /// The state before the host exists.
    pub(super) fn new(config: &Config) -> Result<Self> {
        Ok(Self {
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
            crowded_logged_at: Mutex::default(),
        })
    }

    /// Tells all connections how the start ended.
    pub(super) fn open(&self, opened: Opened) {
        self.opened.send_replace(opened);
    }

    /// Takes the halts requested before there was a host. None is kept any more from then on.
    pub(super) fn take_early(&self) -> Vec<EarlyHalt> {
        let mut early = self.early.lock();
        early.take().unwrap_or_default()
    }

    /// The host shuts down.
    pub(super) fn set_ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Waits for the host.
    pub(super) async fn host(&self) -> Result<Arc<Host>> {
        let mut opened = self.opened.subscribe();
        let found = opened
            .wait_for(|it| !matches!(it, Opened::Opening))
            .await
            .map_err(|_| Failed::error(ErrorKind::UNAVAILABLE, "the host ends"))?
            .clone();
        match found {
            Opened::Host(host) => Ok(host),
            Opened::Failed(reason) => Err(Failed::error(
                ErrorKind::UNAVAILABLE,
                format!("the host could not start: {reason}"),
            )),
            Opened::Opening => Err(Failed::error(ErrorKind::UNAVAILABLE, "the host ends")),
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

    fn person(&self, uid: u32, condition: impl Fn(&Person) -> bool) -> bool {
        let person = |people: &People| people.by_uid(uid).is_some_and(&condition);
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
    pub(super) fn may_log_crowded(&self) -> bool {
        let mut logged_at = self.crowded_logged_at.lock();
        let may = logged_at.is_none_or(|at| at.elapsed() >= CROWDED_LOG_INTERVAL);
        if may {
            *logged_at = Some(Instant::now());
        }
        may
    }

    /// Keeps a halt for the host that is starting; `false` if there is one already.
    pub(super) fn halt_early(&self, halt: EarlyHalt) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_waits_for_a_host_that_does_not_start_is_told_that_it_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data: Some(folder.path().to_owned()),
            ..Config::default()
        };
        let shared = Shared::new(&config).unwrap();
        let waiting = shared.host();
        shared.open(Opened::Failed("the state is damaged".to_owned()));
        let error = waiting.await.err().unwrap();
        assert_eq!(ErrorKind::from_error(&error), ErrorKind::UNAVAILABLE);
        assert!(
            error.to_string().contains("the state is damaged"),
            "{error}"
        );
    }
}
