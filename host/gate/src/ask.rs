//! A call as it was requested, before anything is decided.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Instant;

use qchost_catalog::{Access, Operation, Target};
use qchost_policy::Manifest;
use serde_json::{Map, Value};

use crate::effort::Effort;
use crate::pace::Pace;
use crate::settings::Settings;
use crate::terms::Terms;
use crate::toll::Toll;

/// What a request to another host than QuantConnect's is called in guardrails and records.
pub(crate) const HTTP: &str = "http/request";
/// Prefix of an operator's name who calls a tool directly; a plugin cannot have such a name.
const OPERATOR: &str = "operator@";

/// The caller: a plugin, by its name, its code and its invocation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The plugin's name, by which its manifest is found.
    pub plugin: Arc<str>,
    /// The hash of the component that runs: `sha256:…`.
    pub digest: Arc<str>,
    /// Identifies the invocation in logs and in the audit.
    pub invocation: Arc<str>,
    /// The user id of the person who asked for the invocation, if a person did.
    pub person: Option<u32>,
    /// Processor time spent on deciding its calls.
    pub effort: Effort,
    /// Rate limit of its log lines.
    pub pace: Arc<Pace>,
}

impl Caller {
    /// Whether the caller is a person rather than a plugin.
    pub(crate) fn is_operator(&self) -> bool {
        self.plugin.starts_with(OPERATOR)
    }

    /// Whether one more line about it may be logged. Check it before each line that the plugin can provoke at will.
    pub fn may_be_logged(&self) -> bool {
        self.pace.admits(&self.plugin, 1)
    }
}

/// Whether the intent of a write was handed to the audit, so that it may have been sent. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Intended(Arc<AtomicBool>);

impl Intended {
    /// Whether the call may have been sent. Check it after you stop waiting for the answer: a call without an intent by
    /// then is never sent.
    #[must_use]
    pub fn get(&self) -> bool {
        // The gate sets the mark, then checks whether the receiver still waits; this side does it in the opposite order.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, is: bool) {
        self.0.store(is, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

/// A call that a plugin requested.
pub(crate) struct Ask {
    /// Identifies the call in the audit and in the ledger; unique.
    pub call: String,
    pub caller: Caller,
    /// The plugin's terms at the instant of the decision.
    pub terms: Arc<Terms>,
    /// `None` for a tool that the catalog does not know.
    pub operation: Option<&'static Operation>,
    /// Its name in grants: `backtests/create-backtest`, `raw/some_tool`.
    pub name: Cow<'static, str>,
    /// Its name at the server.
    pub tool: Cow<'static, str>,
    pub access: Access,
    /// Flat, under their JSON names, and without what the host fills in.
    pub arguments: Map<String, Value>,
    pub begun: Instant,
    /// Tells the caller whether the call may have been sent.
    pub intended: Intended,
    /// What it was charged for the host's own reads that decide it.
    pub toll: Toll,
}

impl Ask {
    pub(crate) fn manifest(&self) -> &Manifest {
        self.terms.authority.manifest()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.terms.settings
    }

    pub(crate) fn account(&self) -> &str {
        &self.manifest().account
    }

    pub(crate) fn target(&self) -> Target<'_> {
        self.operation
            .map_or(Target::Unknown(&self.tool), Target::Known)
    }

    /// Whether a halt stops it: everything but reads and what makes the account safer.
    pub(crate) fn halted(&self) -> bool {
        stopped_by_halt(self.access)
    }

    /// Whether it is a request to another host than QuantConnect's.
    pub(crate) fn is_http(&self) -> bool {
        self.name == HTTP
    }
}

/// Whether a halt stops operations of this class.
pub(crate) fn stopped_by_halt(access: Access) -> bool {
    matches!(access, Access::Write | Access::Destroy | Access::Trade)
}
