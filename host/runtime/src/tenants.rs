//! Tenants: the state of a plugin's name, across its versions.
//!
//! Invariant: while anything of a name is loaded, running, queued or being loaded, there is exactly
//! one tenant for it, so that the use of all its versions adds up.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use qchost_traffic::{HostLogLimiter, LogLimiter};

use crate::admission::{InvocationLimiter, PluginLimiter};
use crate::limits::{Budget, Share};
use crate::plugin_log::PluginLog;
use crate::schema::CheckLimits;
use crate::services::state_limiter::StateLimiter;

/// Maximum logs that are kept of plugins which are not loaded any more.
const MAX_LOGS: usize = 256;

/// The state of a name.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: Arc<str>,
    pub(crate) invocations: PluginLimiter,
    /// The memory of all its invocations.
    pub(crate) memory: Share,
    /// Rate limit of the log lines about all its invocations.
    pub(crate) log_limiter: Arc<LogLimiter>,
    /// The recent lines of all its invocations.
    pub(crate) log: Arc<PluginLog>,
    /// Limit on the use of the state store by all its invocations.
    pub(crate) state: Arc<StateLimiter>,
    /// Held while a version is loaded, so that loads are sequential.
    pub(crate) loading: tokio::sync::Mutex<()>,
    /// Limits the inputs of the plugin checked aside to one at a time, and so its outputs.
    pub(crate) checking: CheckLimits,
    unloads: AtomicU64,
}

impl Tenant {
    /// Number of unloads: a load that began before the last one must not serve.
    pub(crate) fn unloads(&self) -> u64 {
        self.unloads.load(Ordering::Acquire)
    }

    /// Refuses queued invocations and loads in progress.
    pub(crate) fn unload(&self) {
        self.unloads.fetch_add(1, Ordering::AcqRel);
        self.invocations.close();
    }
}

/// The tenants of all names.
#[derive(Debug)]
pub(crate) struct Tenants {
    invocations: InvocationLimiter,
    budget: Budget,
    log_limiter: HostLogLimiter,
    known: Mutex<HashMap<String, Weak<Tenant>>>,
    /// Recent lines by name. They outlast what logged them, so that they can be read after an unload.
    logs: Mutex<HashMap<String, Arc<PluginLog>>>,
}

impl Tenants {
    pub(crate) fn new(invocations: InvocationLimiter, budget: Budget) -> Self {
        Self {
            invocations,
            budget,
            log_limiter: HostLogLimiter::default(),
            known: Mutex::default(),
            logs: Mutex::default(),
        }
    }

    /// The tenant of a name, if it exists.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Tenant>> {
        self.known.lock().get(name)?.upgrade()
    }

    /// The tenant of a name; created if it does not exist.
    pub(crate) fn of(&self, name: &str) -> Arc<Tenant> {
        let mut known = self.known.lock();
        if let Some(tenant) = known.get(name).and_then(Weak::upgrade) {
            return tenant;
        }
        let tenant = Arc::new(Tenant {
            name: name.into(),
            invocations: self.invocations.plugin(),
            memory: self.budget.share(),
            log_limiter: Arc::new(self.log_limiter.plugin()),
            log: self.log_of(name),
            state: Arc::default(),
            loading: tokio::sync::Mutex::default(),
            checking: CheckLimits::new(1),
            unloads: AtomicU64::new(0),
        });
        known.retain(|_, tenant| tenant.strong_count() > 0);
        known.insert(name.to_owned(), Arc::downgrade(&tenant));
        tenant
    }

    /// The log of a name; created if it does not exist.
    fn log_of(&self, name: &str) -> Arc<PluginLog> {
        let mut logs = self.logs.lock();
        if logs.len() >= MAX_LOGS {
            // Of what is not loaded any more, nor being read.
            logs.retain(|_, log| Arc::strong_count(log) > 1);
        }
        Arc::clone(logs.entry(name.to_owned()).or_default())
    }

    /// The log of a name, if anything of that name was ever loaded.
    pub(crate) fn log(&self, name: &str) -> Option<Arc<PluginLog>> {
        self.logs.lock().get(name).cloned()
    }

    /// Tells the readers of all logs that no more lines come.
    pub(crate) fn close_logs(&self) {
        for log in self.logs.lock().values() {
            log.close();
        }
    }

    /// Number of tenants.
    pub(crate) fn count(&self) -> usize {
        let known = self.known.lock();
        let alive = known.values().filter(|tenant| tenant.strong_count() > 0);
        alive.count()
    }

    /// Bytes of memory of all tenants together.
    pub(crate) fn memory(&self) -> u64 {
        self.budget.used()
    }
}
