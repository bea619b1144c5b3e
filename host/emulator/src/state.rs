//! The emulated cloud: its settings and everything it remembers. All of it is in memory; a new
//! process starts empty.
//!
//! Invariant: the state is behind one lock that is never held over an await, so every request
//! sees and leaves a consistent whole. Identifiers are counted and hashed, not drawn, so the
//! same requests in the same order get the same identifiers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::answer::Refusal;
use crate::arguments::Arguments;
use crate::auth::{Credentials, hex};
use crate::backtests::Backtest;
use crate::compile::Compile;
use crate::connections::Connection;
use crate::engine::Engine;
use crate::faults::Faults;
use crate::live::Deployment;
use crate::nodes::Node;
use crate::object_store::ObjectStore;
use crate::optimizations::Optimization;
use crate::project::Project;
use crate::request_log::RequestLog;
use crate::timing::Timing;

/// The first project's identifier.
const FIRST_PROJECT: u32 = 20_000_001;

/// What the operator of the emulator decides.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) credentials: Credentials,
    pub(crate) organization_id: String,
    pub(crate) organization_name: String,
    /// QuantConnect Credit at the start.
    pub(crate) credit: f64,
    pub(crate) timing: Timing,
    /// In bytes.
    pub(crate) object_store_quota: usize,
    pub(crate) body_timeout: Duration,
}

/// The whole of it.
pub(crate) struct Cloud {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) log: RequestLog,
    /// Known once the listener is bound.
    pub(crate) base_url: OnceLock<String>,
    state: Mutex<State>,
}

impl Cloud {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        settings: Settings,
        nodes: Vec<Node>,
        log: RequestLog,
    ) -> Self {
        Self {
            engine,
            settings,
            faults: Faults::default(),
            log,
            base_url: OnceLock::new(),
            state: Mutex::new(State::new(nodes)),
        }
    }

    /// Locks the state. A thread that panicked while holding the lock does not take the
    /// emulator down with it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address under which clients reach the API, without a slash at its end.
    pub(crate) fn base_url(&self) -> &str {
        self.base_url.get().map_or("", String::as_str)
    }

    /// The name under which results are shown: they are a model's, not LEAN's.
    pub(crate) fn model_name(&self) -> String {
        format!("{}, not LEAN", self.engine.name())
    }

    /// Refuses a request that names an organisation other than the emulator's.
    pub(crate) fn check_organization(&self, organization_id: &str) -> Result<(), Refusal> {
        if organization_id == self.settings.organization_id {
            Ok(())
        } else {
            Err(Refusal::not_found("Organization", organization_id))
        }
    }

    /// The same for a field that may be left out.
    pub(crate) fn check_optional_organization(&self, arguments: &Arguments) -> Result<(), Refusal> {
        match arguments.optional_text("organizationId")? {
            Some(id) => self.check_organization(id),
            None => Ok(()),
        }
    }
}

/// Everything that requests change.
#[derive(Debug)]
pub(crate) struct State {
    count: u64,
    next_project: u32,
    pub(crate) projects: BTreeMap<u32, Project>,
    /// Oldest first.
    pub(crate) compiles: VecDeque<Compile>,
    /// Oldest first.
    pub(crate) backtests: Vec<Backtest>,
    /// Oldest first.
    pub(crate) optimizations: Vec<Optimization>,
    /// Oldest first.
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) objects: ObjectStore,
    /// By the brokerage's name.
    pub(crate) connections: BTreeMap<String, Connection>,
    /// QuantConnect Credit spent so far.
    pub(crate) spent: f64,
}

impl State {
    fn new(nodes: Vec<Node>) -> Self {
        Self {
            count: 0,
            next_project: FIRST_PROJECT,
            projects: BTreeMap::new(),
            compiles: VecDeque::new(),
            backtests: Vec::new(),
            optimizations: Vec::new(),
            deployments: Vec::new(),
            nodes,
            objects: ObjectStore::default(),
            connections: BTreeMap::new(),
            spent: 0.0,
        }
    }

    /// A number that was never given before.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// 32 hexadecimal digits that were never given before.
    pub(crate) fn next_id(&mut self) -> String {
        let number = self.next_number();
        digest_id(&format!("emulator/{number}"))
    }

    /// The next project's identifier.
    pub(crate) fn next_project_id(&mut self) -> u32 {
        let id = self.next_project;
        self.next_project = id.saturating_add(1);
        id
    }

    /// The project that the field `projectId` names.
    pub(crate) fn project(&self, arguments: &Arguments) -> Result<&Project, Refusal> {
        let id = arguments.integer("projectId")?;
        u32::try_from(id)
            .ok()
            .and_then(|key| self.projects.get(&key))
            .ok_or_else(|| Refusal::not_found("Project", id))
    }

    /// The same, to change it.
    pub(crate) fn project_mut(&mut self, arguments: &Arguments) -> Result<&mut Project, Refusal> {
        let id = self.project(arguments)?.id;
        self.projects
            .get_mut(&id)
            .ok_or_else(|| Refusal::not_found("Project", id))
    }
}

/// 32 hexadecimal digits that depend on `seed` alone.
pub(crate) fn digest_id(seed: &str) -> String {
    hex(&Sha256::digest(seed)).chars().take(32).collect()
}

/// An instant as the API writes it: UTC, to the second.
pub(crate) fn instant_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Unix seconds in the same form.
pub(crate) fn seconds_text(seconds: i64) -> String {
    instant_text(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}
