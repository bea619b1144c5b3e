//! What all plugins of a runtime share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use qchost_gate::Gate;
use tokio_util::sync::CancellationToken;

use crate::admission::InvocationLimiter;
use crate::cache::Cache;
use crate::engine::Machine;
use crate::limits::Budget;
use crate::linker::linker;
use crate::loader::Loader;
use crate::options::Options;
use crate::outgoing::connect::Connector;
use crate::plugin::Plugin;
use crate::schema::CheckLimits;
use crate::start_error::StartError;
use crate::tenants::Tenants;

/// Inputs of different plugins that are checked aside at a time, and as many outputs.
const MAX_CHECKS: usize = 2;

/// What all plugins share.
pub(crate) struct Shared {
    pub(crate) machine: Arc<Machine>,
    pub(crate) gate: Gate,
    pub(crate) options: Options,
    pub(crate) tenants: Tenants,
    pub(crate) invocations: InvocationLimiter,
    /// Cancels what still runs.
    pub(crate) cancellation: CancellationToken,
    pub(crate) loader: Arc<Loader>,
    pub(crate) connector: Connector,
    /// Limits inputs and outputs checked aside.
    pub(crate) checking: CheckLimits,
    /// Held while the serving version and its authority change together.
    pub(crate) changing: Mutex<()>,
    /// No new invocations begin.
    ended: AtomicBool,
    /// The loaded plugins by name, changed by the holder of `changing`.
    pub(crate) plugins: RwLock<BTreeMap<String, Arc<Plugin>>>,
}

impl Shared {
    pub(crate) fn new(gate: Gate, options: Options) -> Result<Self, StartError> {
        let cache = Cache::open(&options.cache, &options.key)?;
        let machine = Machine::new(options.invocations, options.baseline).map(Arc::new)?;
        let linker = linker(&machine.engine).map_err(StartError::Engine)?;
        let limit = usize::try_from(options.invocations).unwrap_or(usize::MAX);
        let invocations = InvocationLimiter::new(limit);
        let budget = Budget::new(options.memory);
        let loader = Loader::new(
            Arc::clone(&machine),
            linker,
            budget.clone(),
            cache,
            options.clone(),
        );
        Ok(Self {
            machine,
            gate,
            tenants: Tenants::new(invocations.clone(), budget),
            invocations,
            options,
            cancellation: CancellationToken::new(),
            loader: Arc::new(loader),
            connector: Connector::new(),
            checking: CheckLimits::new(MAX_CHECKS),
            changing: Mutex::default(),
            ended: AtomicBool::new(false),
            plugins: RwLock::default(),
        })
    }

    /// From now on, no new invocations begin.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.invocations.end();
    }

    /// Whether no new invocations begin.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A loaded plugin.
    pub(crate) fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.plugins.read().get(name).cloned()
    }
}
