//! What the invocations of one version of a plugin have in common.
//!
//! Invariant: it does not change. An invocation refers to it by one count, not by one for each of its
//! parts: a count that two threads change is a cache line that goes to and fro between them, and ten
//! of those were a tenth of a small invocation.

use std::sync::Arc;

use qchost_gate::{Gate, Pace};
use qchost_policy::Manifest;

use crate::limits::Share;
use crate::outgoing::Connector;
use crate::services::state::Throttle;

/// What the invocations of one version have in common.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// None for a component that describes itself: every capability is denied then.
    pub(crate) gate: Option<Gate>,
    /// Its name.
    pub(crate) plugin: Arc<str>,
    /// The hash of its component: `sha256:…`.
    pub(crate) digest: Arc<str>,
    /// None for a component that describes itself.
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// The memory of all invocations of the plugin.
    pub(crate) memory: Share,
    /// How fast lines about the plugin go to the log.
    pub(crate) pace: Arc<Pace>,
    /// How much the plugin has the store of its state do.
    pub(crate) state: Arc<Throttle>,
    pub(crate) connector: Connector,
    /// The most backtests of one batch at a time.
    pub(crate) parallel: u32,
}

#[cfg(test)]
impl Surroundings {
    /// Those of a plugin without a manifest.
    pub(crate) fn of_test(gate: Option<Gate>, plugin: &str) -> Arc<Self> {
        Arc::new(Self {
            gate,
            plugin: plugin.into(),
            digest: "sha256:0".into(),
            manifest: None,
            memory: crate::limits::Budget::new(0).share(),
            pace: Arc::default(),
            state: Arc::default(),
            connector: Connector::new(),
            parallel: 1,
        })
    }
}
