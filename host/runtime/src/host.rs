//! The runtime: start, loading, invocations and shutdown.
//!
//! Invariant: an accepted invocation ends with an output or an error, whatever is loaded, unloaded or shut down
//! meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_gate::Gate;
use qchost_policy::Manifest;
use serde_json::Value;
use tokio::sync::watch;

use crate::inspect::Inspection;
use crate::invoke::Invocation;
use crate::invoke_error::InvokeError;
use crate::load_error::LoadError;
use crate::options::Options;
use crate::plugin::Plugin;
use crate::plugin_log::{InvocationLog, LogReader};
use crate::quarantine::Quarantine;
use crate::services::progress::Progress;
use crate::shared::Shared;
use crate::start_error::StartError;
use crate::swap;

/// Time limit for cancelled invocations to end. They end as soon as their caller polls them.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs plugins. Clones are the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

/// What is invoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The plugin.
    pub plugin: String,
    /// Its action.
    pub action: String,
    /// The alias that the action is invoked by, if it is. It is in the records of the invocation.
    pub alias: Option<String>,
}

impl Target {
    /// An action by its own name.
    #[must_use]
    pub fn new(plugin: &str, action: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            action: action.to_owned(),
            alias: None,
        }
    }
}

/// The state of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginState {
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
            .field("running", &self.0.invocations.running())
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
        Ok(Self(Arc::new(Shared::new(gate, options)?)))
    }

    /// Loads or replaces a plugin. Its manifest becomes its authority. Loads of one name are sequential,
    /// those of different names concurrent. If neither component nor manifest changed, the serving version
    /// stays.
    ///
    /// # Errors
    /// When the component cannot be read, is invalid, does not match the contract, changes its own name, or
    /// imports what the manifest does not grant; when an operator has to adopt it first; or when it is
    /// unloaded meanwhile. The version loaded before under the name stays in these cases, and may do what
    /// both manifests allow.
    pub async fn load(&self, manifest: Manifest) -> Result<Arc<Plugin>, LoadError> {
        swap::load(&self.0, manifest).await
    }

    /// Removes a plugin and its authority. Queued invocations are refused; running ones have every further
    /// call denied, and are cancelled when the drain time is over. Returns whether the plugin was loaded.
    pub fn unload(&self, plugin: &str) -> bool {
        swap::unload(&self.0, plugin)
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

    /// Waits until the engine has advanced once, which makes every running guest yield. Never returns if the engine
    /// hangs.
    pub async fn advanced(&self) {
        self.0.machine.advanced().await;
    }

    /// The files of the components being compiled.
    #[must_use]
    pub fn compiling(&self) -> Vec<PathBuf> {
        self.0.loader.compiles()
    }

    /// The state of a plugin; `None` if it is not loaded.
    #[must_use]
    pub fn standing(&self, plugin: &str) -> Option<PluginState> {
        let plugin = self.plugin(plugin)?;
        let (admitted, waiting) = plugin.tenant.invocations.counts();
        let running = plugin.lifetime.running().min(admitted);
        Some(PluginState {
            running,
            waiting,
            draining: admitted - running,
            quarantine: plugin.record.quarantine(Instant::now()),
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
        let target = Target::new(plugin, action);
        self.invoke_target(&target, input, person, progress, None)
            .await
    }

    /// The action that an alias is a name of, by the manifests that serve.
    #[must_use]
    pub fn alias(&self, name: &str) -> Option<Target> {
        let plugins = self.0.plugins.read();
        plugins.values().find_map(|plugin| {
            let mut aliases = plugin.manifest().aliases.iter();
            let alias = aliases.find(|alias| alias.name == name)?;
            Some(Target {
                alias: Some(alias.name.clone()),
                ..Target::new(plugin.name(), &alias.action)
            })
        })
    }

    /// Like [`Runtime::invoke`]; what the plugin logs meanwhile goes to `log` as well, all of it, as far as it is read.
    ///
    /// # Errors
    /// As [`Runtime::invoke`].
    pub async fn invoke_target(
        &self,
        target: &Target,
        input: Value,
        person: Option<u32>,
        progress: Option<watch::Sender<Progress>>,
        log: Option<Arc<InvocationLog>>,
    ) -> Result<Value, InvokeError> {
        if self.0.ended() {
            return Err(InvokeError::ShuttingDown);
        }
        let Target {
            plugin: name,
            action,
            alias,
        } = target;
        let Some(plugin) = self.plugin(name) else {
            return Err(InvokeError::UnknownPlugin {
                plugin: name.clone(),
                loaded: self.0.plugins.read().keys().cloned().collect(),
            });
        };
        let invocation = Invocation {
            shared: &self.0,
            action,
            alias: alias.as_deref(),
            person,
            progress,
            log,
        };
        invocation.run(plugin, input).await
    }

    /// The last lines that a plugin logged, at most `lines`, and those that follow; `None` if no plugin of that name was
    /// loaded.
    #[must_use]
    pub fn log(&self, plugin: &str, lines: usize) -> Option<LogReader> {
        Some(self.0.tenants.log(plugin)?.reader(lines))
    }

    /// Inspects a component without a manifest: what it is, imports, exports, says of itself, and what it would need.
    ///
    /// # Errors
    /// When the file cannot be read or is no component.
    pub async fn inspect(&self, component: &Path) -> Result<Inspection, LoadError> {
        let inspected = self.0.loader.inspect(component).await;
        inspected.map_err(|problem| problem.at(component))
    }

    /// Shuts down: nothing new begins, running invocations are cancelled after `drain`. Returns how many were
    /// cancelled. Calls that they sent belong to the gate; wait for them with [`Gate::idle`]. Invocations whose future
    /// is no longer polled are not awaited.
    pub async fn shutdown(&self, drain: Duration) -> usize {
        self.0.end();
        let left = self.drain(drain).await;
        self.0.tenants.close_logs();
        left
    }

    /// Waits until nothing runs; after `drain`, what still does is cancelled. Returns how many were.
    async fn drain(&self, drain: Duration) -> usize {
        let invocations = &self.0.invocations;
        if tokio::time::timeout(drain, invocations.idle())
            .await
            .is_ok()
        {
            return 0;
        }
        let left = invocations.running();
        self.0.cancellation.cancel();
        if tokio::time::timeout(CANCEL_TIMEOUT, invocations.idle())
            .await
            .is_err()
        {
            let stuck = invocations.running();
            tracing::error!(stuck, "invocations were cut off and have not ended");
        }
        left
    }
}
