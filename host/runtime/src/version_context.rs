//! State shared by the invocations of one version of a plugin.
//!
//! Invariant: it is immutable. An invocation refers to it by a single reference count rather than
//! one for each of its parts: a count that two threads change is a cache line that bounces between
//! them, and ten of those were a tenth of a small invocation.

use std::sync::Arc;

use qchost_gate::PluginCalls;
use qchost_policy::Manifest;
use qchost_text::Redactor;
use qchost_traffic::LogLimiter;

use crate::limits::Share;
use crate::outgoing::connect::Connector;
use crate::plugin_log::PluginLog;
use crate::services::folders::GrantedFolders;
use crate::services::state_limiter::StateLimiter;

/// State shared by the invocations of one version.
#[derive(Debug)]
pub(crate) struct VersionContext {
    /// `None` for a component that describes itself: every capability is denied then.
    pub(crate) gate: Option<Arc<dyn PluginCalls>>,
    /// The plugin's name.
    pub(crate) plugin: Arc<str>,
    /// The hash of its component: `sha256:…`.
    pub(crate) digest: Arc<str>,
    /// `None` for a component that describes itself.
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// The memory of all the plugin's invocations.
    pub(crate) memory: Share,
    /// Rate limit of log lines about the plugin.
    pub(crate) log_limiter: Arc<LogLimiter>,
    /// The recent lines of the plugin.
    pub(crate) log: Arc<PluginLog>,
    /// Limit on the plugin's use of the state store.
    pub(crate) state: Arc<StateLimiter>,
    /// The folders that its manifest grants.
    pub(crate) folders: Arc<GrantedFolders>,
    pub(crate) connector: Connector,
    /// Knows the secrets that must not be in what it logs.
    pub(crate) redactor: Redactor,
    /// Maximum concurrent backtests of one batch.
    pub(crate) parallel: u32,
}

#[cfg(test)]
impl VersionContext {
    /// The context of a plugin without a manifest.
    pub(crate) fn for_test(gate: Option<Arc<dyn PluginCalls>>, plugin: &str) -> Arc<Self> {
        Arc::new(Self {
            gate,
            plugin: plugin.into(),
            digest: "sha256:0".into(),
            manifest: None,
            memory: crate::limits::Budget::new(0).share(),
            log_limiter: Arc::default(),
            log: Arc::default(),
            state: Arc::default(),
            folders: Arc::default(),
            connector: Connector::new(),
            redactor: Redactor::default(),
            parallel: 1,
        })
    }
}
