//! Tenants: what belongs to a plugin's name, whichever version of it serves.
//!
//! Invariant: while anything of a name is loaded, runs, waits or is being loaded, there is one
//! tenant of it and no second one: what its versions use adds up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use qchost_gate::{HostPace, Pace};
use tokio::sync::Semaphore;

use crate::limits::{Budget, Share};
use crate::services::state::Throttle;
use crate::turns::{Lane, Turns};

/// What belongs to a name.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: Arc<str>,
    pub(crate) lane: Lane,
    /// The memory of all its invocations.
    pub(crate) memory: Share,
    /// The lines about all its invocations.
    pub(crate) pace: Arc<Pace>,
    /// What all its invocations have the store of its state do.
    pub(crate) state: Arc<Throttle>,
    /// Held by whoever loads a version, so that two do not cross.
    pub(crate) loading: tokio::sync::Mutex<()>,
    /// Held by the one of its inputs that is checked aside.
    pub(crate) checking: Arc<Semaphore>,
    unloads: AtomicU64,
}

impl Tenant {
    /// How often it was unloaded: what began to load before the last time must not serve.
    pub(crate) fn unloads(&self) -> u64 {
        self.unloads.load(Ordering::Acquire)
    }

    /// Refuses everybody, and what is being loaded.
    pub(crate) fn unload(&self) {
        self.unloads.fetch_add(1, Ordering::AcqRel);
        self.lane.close();
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Tenants {
    turns: Turns,
    budget: Budget,
    pace: HostPace,
    known: Mutex<HashMap<String, Weak<Tenant>>>,
}

impl Tenants {
    pub(crate) fn new(turns: Turns, budget: Budget) -> Self {
        Self {
            turns,
            budget,
            pace: HostPace::default(),
            known: Mutex::default(),
        }
    }

    /// The tenant of a name, if anything of it is there.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Tenant>> {
        self.known().get(name)?.upgrade()
    }

    /// The tenant of a name.
    pub(crate) fn of(&self, name: &str) -> Arc<Tenant> {
        let mut known = self.known();
        if let Some(tenant) = known.get(name).and_then(Weak::upgrade) {
            return tenant;
        }
        let tenant = Arc::new(Tenant {
            name: name.into(),
            lane: self.turns.lane(),
            memory: self.budget.share(),
            pace: Arc::new(self.pace.plugin()),
            state: Arc::default(),
            loading: tokio::sync::Mutex::default(),
            checking: Arc::new(Semaphore::new(1)),
            unloads: AtomicU64::new(0),
        });
        known.retain(|_, tenant| tenant.strong_count() > 0);
        known.insert(name.to_owned(), Arc::downgrade(&tenant));
        tenant
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let known = self.known();
        let alive = known.values().filter(|tenant| tenant.strong_count() > 0);
        alive.count()
    }

    /// Bytes of memory that all of them have together.
    pub(crate) fn memory(&self) -> u64 {
        self.budget.used()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Weak<Tenant>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
