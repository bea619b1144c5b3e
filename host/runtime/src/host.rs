//! The runtime: plugins by name, loaded, invoked, replaced and drained.
//!
//! Invariant: a load that fails changes nothing: the plugin that was there goes on with its own
//! manifest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use qchost_gate::{AdmitError, Gate};
use qchost_policy::Manifest;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::component::Linker;

use crate::cache::{Cache, CacheError};
use crate::component::Code;
use crate::engine::Machine;
use crate::imports::{self, Kind};
use crate::inspect::Inspection;
use crate::invoke::{Invocation, InvokeError};
use crate::limits::Budget;
use crate::loader::{LoadError, Loader};
use crate::options::Options;
use crate::outgoing::Connector;
use crate::plugin::Plugin;
use crate::services::progress::Progress;
use crate::{capabilities, outgoing, services, wasi};

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cache of compiled components.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// There is too little address space for so many invocations at a time.
    #[error(
        "this machine has no room for {invocations} invocations at a time ({why}); lower `engine.invocations`, or raise the limits on address space (`ulimit -v`) and on mappings (`vm.max_map_count`)"
    )]
    Room {
        /// How many.
        invocations: u32,
        /// What was refused.
        why: String,
    },
    /// The engine: a processor that it does not know.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(wasmtime::Error),
}

/// Runs plugins. Clones are the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

/// What all plugins share.
pub(crate) struct Shared {
    pub(crate) machine: Arc<Machine>,
    pub(crate) gate: Gate,
    pub(crate) options: Options,
    pub(crate) budget: Budget,
    /// One for each invocation that may run at a time, of whatever plugin.
    pub(crate) slots: Semaphore,
    /// Nothing new begins.
    pub(crate) ended: CancellationToken,
    /// What still runs is cut off.
    pub(crate) cut: CancellationToken,
    running: TaskTracker,
    loader: Arc<Loader>,
    pub(crate) connector: Connector,
    plugins: RwLock<BTreeMap<String, Arc<Plugin>>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("running", &self.0.running.len())
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
        let slots = usize::try_from(options.invocations).unwrap_or(Semaphore::MAX_PERMITS);
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
            budget,
            slots: Semaphore::new(slots.min(Semaphore::MAX_PERMITS)),
            options,
            ended: CancellationToken::new(),
            cut: CancellationToken::new(),
            running: TaskTracker::new(),
            loader: Arc::new(loader),
            connector: Connector::new(),
            plugins: RwLock::default(),
        })))
    }

    /// Loads a plugin, or replaces it. Its manifest becomes its authority.
    ///
    /// # Errors
    /// When the component cannot be read, is none, does not fit, or imports what the manifest does
    /// not grant; or when an operator has to adopt it first. What was loaded before under the name
    /// goes on then.
    pub async fn load(&self, manifest: Manifest) -> Result<Arc<Plugin>, LoadError> {
        if self.0.ended.is_cancelled() {
            return Err(LoadError::ShuttingDown);
        }
        let code = self
            .0
            .loader
            .code(&manifest.component, manifest.digest.as_deref())
            .await?;
        imports::check(&manifest, &code.imports)?;
        let name = manifest.plugin.clone();
        self.admit(&manifest, &code).await?;
        // Held from here on, so that two loads of one name do not mix their manifests.
        let mut plugins = self
            .0
            .plugins
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.0.gate.install(manifest.clone())?;
        let plugin = Arc::new(Plugin::new(Arc::new(manifest), code));
        let former = plugins.insert(name, Arc::clone(&plugin));
        drop(plugins);
        tracing::info!(
            plugin = plugin.name(),
            digest = plugin.digest(),
            actions = plugin.description().actions.len(),
            replaced = former.is_some(),
            "loaded"
        );
        Ok(plugin)
    }

    /// Asks whether a component may take the place of the one that serves.
    async fn admit(&self, manifest: &Manifest, code: &Code) -> Result<(), LoadError> {
        let serving = self.plugin(&manifest.plugin);
        let replaced = serving.as_ref().map(|plugin| plugin.digest());
        let imports: Vec<String> = code
            .imports
            .iter()
            .filter(|import| import.kind != Kind::Types)
            .map(|import| import.name.clone())
            .collect();
        let admitted = self
            .0
            .gate
            .admit(manifest, &code.digest, &imports, replaced)
            .await;
        admitted.map_err(|error| match error {
            AdmitError::Waiting(waiting) => LoadError::AwaitsOperator {
                plugin: waiting.plugin,
                digest: code.digest.to_string(),
                approval: waiting.approval,
            },
            error => LoadError::NotAdmitted(error),
        })
    }

    /// Takes a plugin and its authority away. Invocations of it that run have every further call
    /// denied. Returns whether there was one.
    pub fn unload(&self, plugin: &str) -> bool {
        let mut plugins = self
            .0
            .plugins
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.0.gate.remove(plugin);
        let removed = plugins.remove(plugin);
        drop(plugins);
        if removed.is_some() {
            tracing::info!(plugin, "unloaded");
        }
        removed.is_some()
    }

    /// The loaded plugins, by name.
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.0
            .plugins
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// A loaded plugin.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.0
            .plugins
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Has a plugin do something, for the person with the uid `person` if one asked. Reports of how
    /// far it is go to `progress`. When the future is
    /// dropped, the plugin is cut off; calls that it sent go on in the gate.
    ///
    /// # Errors
    /// When there is no such plugin or action, the input does not fit, the plugin fails or is
    /// stopped, or the output does not do.
    pub async fn invoke(
        &self,
        plugin: &str,
        action: &str,
        input: Value,
        person: Option<u32>,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<Value, InvokeError> {
        if self.0.ended.is_cancelled() {
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
            plugin: &plugin,
            action,
            person,
            progress,
        };
        self.0.running.track_future(invocation.run(input)).await
    }

    /// Looks at a component without a manifest: what it is, imports, exports, says of itself, and
    /// would need.
    ///
    /// # Errors
    /// When the file cannot be read or is no component.
    pub async fn inspect(&self, component: &Path) -> Result<Inspection, LoadError> {
        self.0.loader.inspect(component).await
    }

    /// Ends: nothing new begins, what runs has so much time, and is cut off then. Returns how many
    /// were cut off. Calls that they sent are the gate's; wait for them with [`Gate::idle`].
    pub async fn shutdown(&self, patience: Duration) -> usize {
        self.0.ended.cancel();
        self.0.running.close();
        if tokio::time::timeout(patience, self.0.running.wait())
            .await
            .is_ok()
        {
            return 0;
        }
        let left = self.0.running.len();
        self.0.cut.cancel();
        self.0.running.wait().await;
        left
    }
}
