//! The runtime: state shared by all plugins, start, requests and shutdown.
//!
//! Invariant: an accepted invocation ends with an output or an error, whatever is loaded, unloaded or shut down
//! meanwhile.

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qchost_gate::Gate;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use wasmtime::component::Linker;

use crate::cache::{Cache, CacheError};
use crate::engine::Machine;
use crate::inspect::Inspection;
use crate::invoke::Invocation;
use crate::invoke_error::InvokeError;
use crate::limits::Budget;
use crate::load_error::LoadError;
use crate::loader::Loader;
use crate::options::Options;
use crate::outgoing::Connector;
use crate::plugin::Plugin;
use crate::quarantine::Quarantine;
use crate::services::progress::Progress;
use crate::tenants::Tenants;
use crate::turns::Turns;
use crate::{capabilities, outgoing, services, wasi};

/// Inputs of different plugins that are checked aside at a time.
const CHECKING: usize = 2;
/// Time limit for cancelled invocations to end. They end as soon as their caller polls them.
const GOING: Duration = Duration::from_secs(5);

/// Why a runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cache of compiled components.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Not enough address space for this many concurrent invocations.
    #[error(
        "this machine has no room for {invocations} invocations at a time ({why}); lower `engine.invocations`, or raise the limits on address space (`ulimit -v`) and on mappings (`vm.max_map_count`)"
    )]
    Room {
        /// The configured number.
        invocations: u32,
        /// The cause.
        why: String,
    },
    /// The engine does not support the processor.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(wasmtime::Error),
}

/// Runs plugins. Clones are the same runtime.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Shared>);

/// What all plugins share.
pub(crate) struct Shared {
    pub(crate) machine: Arc<Machine>,
    pub(crate) gate: Gate,
    pub(crate) options: Options,
    pub(crate) tenants: Tenants,
    /// Held while the serving version and its authority change together.
    pub(crate) changing: Mutex<()>,
    turns: Turns,
    /// No new invocations begin.
    ended: AtomicBool,
    /// Cancels what still runs.
    pub(crate) cut: CancellationToken,
    pub(crate) loader: Arc<Loader>,
    pub(crate) connector: Connector,
    /// Limits inputs checked aside.
    pub(crate) checking: Arc<Semaphore>,
    plugins: RwLock<BTreeMap<String, Arc<Plugin>>>,
}

impl Shared {
    /// Whether no new invocations begin.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A loaded plugin.
    pub(crate) fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        let plugins = self.plugins.read();
        plugins.get(name).cloned()
    }

    /// The loaded plugins, for the holder of `changing`.
    pub(crate) fn plugins_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<Plugin>>> {
        self.plugins.write()
    }
}

/// The state of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Invocations running on the serving version.
    pub running: usize,
    /// Invocations waiting to be admitted.
    pub waiting: usize,
    /// Invocations still running on former versions.
    pub draining: usize,
    /// Set if it keeps failing.
    pub quarantine: Option<Quarantine>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("running", &self.0.turns.taken())
            .field("tenants", &self.0.tenants.count())
            .field("codes", &self.0.loader.codes())
            .field("memory", &self.0.tenants.memory())
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts a runtime behind a gate.
    ///
    /// # Errors
    /// When the cache cannot be used or the engine does not start.
    pub fn new(gate: Gate, options: Options) -> Result<Self, StartError> {
        let cache = Cache::open(&options.cache, &options.key)?;
        let machine = Machine::new(options.invocations, options.baseline).map(Arc::new)?;
        let mut linker = Linker::new(&machine.engine);
        wasi::link(&mut linker)
            .and_then(|()| outgoing::link(&mut linker))
            .and_then(|()| services::link(&mut linker))
            .and_then(|()| capabilities::link(&mut linker))
            .map_err(StartError::Engine)?;
        let turns = Turns::new(usize::try_from(options.invocations).unwrap_or(usize::MAX));
        let budget = Budget::new(options.memory);
        let loader = Loader::new(
            Arc::clone(&machine),
            linker,
            budget.clone(),
            cache,
            options.clone(),
        );
        Ok(Self(Arc::new(Shared {
            machine,
            gate,
            tenants: Tenants::new(turns.clone(), budget),
            changing: Mutex::default(),
            turns,
            options,
            ended: AtomicBool::new(false),
            cut: CancellationToken::new(),
            loader: Arc::new(loader),
            connector: Connector::new(),
            checking: Arc::new(Semaphore::new(CHECKING)),
            plugins: RwLock::default(),
        })))
    }

    /// The loaded plugins, by name.
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.0.plugins.read().values().cloned().collect()
    }

    /// A loaded plugin.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.0.plugin(name)
    }

    /// Whether no new invocations begin any more.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.0.ended()
    }

    /// The file of the component being compiled.
    #[must_use]
    pub fn compiling(&self) -> Option<PathBuf> {
        self.0.loader.compiles()
    }

    /// The state of a plugin; `None` if it is not loaded.
    #[must_use]
    pub fn standing(&self, plugin: &str) -> Option<Standing> {
        let plugin = self.plugin(plugin)?;
        let (turns, waiting) = plugin.tenant().lane.counts();
        let running = plugin.life().running().min(turns);
        Some(Standing {
            running,
            waiting,
            draining: turns - running,
            quarantine: plugin.record().quarantine(Instant::now()),
        })
    }

    /// Invokes an action of a plugin, on behalf of the person with the uid `person` if one asked. Progress reports go
    /// to `progress`. Dropping the future cancels the invocation; calls that it sent continue in the gate.
    ///
    /// # Errors
    /// When there is no such plugin or action, the input does not match, too many invocations wait already, the plugin
    /// is in quarantine, fails or is stopped, or the output is invalid.
    pub async fn invoke(
        &self,
        plugin: &str,
        action: &str,
        input: Value,
        person: Option<u32>,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<Value, InvokeError> {
        if self.0.ended() {
            return Err(InvokeError::ShuttingDown);
        }
        let Some(plugin) = self.plugin(plugin) else {
            return Err(InvokeError::UnknownPlugin {
                plugin: plugin.to_owned(),
                loaded: self
                    .plugins()
                    .iter()
                    .map(|plugin| plugin.name().to_owned())
                    .collect(),
            });
        };
        let invocation = Invocation {
            shared: &self.0,
            action,
            person,
            progress,
        };
        invocation.run(plugin, input).await
    }

    /// Inspects a component without a manifest: what it is, imports, exports, says of itself, and what it would need.
    ///
    /// # Errors
    /// When the file cannot be read or is no component.
    pub async fn inspect(&self, component: &Path) -> Result<Inspection, LoadError> {
        self.0.loader.inspect(component).await
    }

    /// Shuts down: nothing new begins, running invocations are cancelled after `patience`. Returns how many were
    /// cancelled. Calls that they sent belong to the gate; wait for them with [`Gate::idle`]. Invocations whose future
    /// is no longer polled are not awaited.
    pub async fn shutdown(&self, patience: Duration) -> usize {
        self.0.ended.store(true, Ordering::Release);
        let turns = &self.0.turns;
        turns.end();
        if tokio::time::timeout(patience, turns.idle()).await.is_ok() {
            return 0;
        }
        let left = turns.taken();
        self.0.cut.cancel();
        if tokio::time::timeout(GOING, turns.idle()).await.is_err() {
            let stuck = turns.taken();
            tracing::error!(stuck, "invocations were cut off and have not ended");
        }
        left
    }
}
