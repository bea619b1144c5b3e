//! The rules of a request, which apply before it is read, and what every request type has.

use std::sync::Arc;

use anyhow::Result;
use qchost_policy::{Person, Right};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::host::Host;
use crate::reports::Reports;

/// Maximum size of a request without arguments of tools or plugins, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// Maximum size of a request with arguments of a tool or input of a plugin, in bytes.
pub const MAX_ARGUMENT_BYTES: u64 = 32 << 20;

/// A request type: its answer, its rules, and what carries it out.
pub trait Handler: Serialize + DeserializeOwned + Send + Sync {
    /// The answer, in the form that `--json` prints.
    type Answer: Serialize + DeserializeOwned + Send;

    const RULES: Rules;

    /// The plugin or account it concerns, which decides whether a person may make it.
    fn about(&self) -> Option<&str> {
        None
    }

    /// Prepares a host that was opened for this request only.
    fn prepare(
        &self,
        _host: &Arc<Host>,
        _config: &Config,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Carries it out. The caller has checked that the person may make it.
    fn handle(
        self,
        host: &Host,
        person: &Person,
        reports: &Reports,
    ) -> impl Future<Output = Result<Self::Answer>> + Send;
}

/// Classes of requests with separate limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Halts, resumes, and asks for the status.
    Control,
    /// Invokes and calls.
    Invocation,
    /// Reads the audit.
    Read,
    /// Everything else.
    Other,
}

/// What is known of a kind of request before the request itself is read.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The right that it needs.
    pub right: Right,
    /// The class it is counted in.
    pub class: Class,
    /// Maximum size in bytes.
    pub max_bytes: u64,
    /// Whether it concerns the accounts of one configuration, and must not be carried out with those of another.
    pub is_for_accounts: bool,
    /// The command that shows whether it took effect; `None` if it has no effects, so that it can be given up at any time.
    pub read_back: Option<&'static str>,
    /// Whether it may have to wait until plugins are loaded.
    pub waits_for_plugins: bool,
    /// Whether its effect outlasts the host.
    pub outlasts: bool,
    /// Whether a host that is opened for it only does without what a halt does not need.
    pub opens_to_halt: bool,
}

impl Rules {
    /// Of a request without effects.
    pub const fn reads(right: Right) -> Self {
        Self {
            right,
            class: Class::Other,
            max_bytes: MAX_BYTES,
            is_for_accounts: false,
            read_back: None,
            waits_for_plugins: false,
            outlasts: false,
            opens_to_halt: false,
        }
    }

    /// Of a request with effects, and the command that shows them.
    pub const fn acts(right: Right, read_back: &'static str) -> Self {
        Self {
            read_back: Some(read_back),
            ..Self::reads(right)
        }
    }
}
