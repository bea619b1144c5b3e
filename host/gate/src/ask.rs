//! A call as it was asked for, before anything is decided.

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
/// With what the name of an operator begins who calls a tool by hand; no plugin can be called so.
const OPERATOR: &str = "operator@";

/// Who calls: a plugin, by its name, its code and its invocation. Cheap to clone.
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
    /// What deciding about its calls has taken so far.
    pub effort: Effort,
    /// How fast lines about it go to the log.
    pub pace: Arc<Pace>,
}

impl Caller {
    /// Whether a person calls by hand, and no plugin.
    pub(crate) fn is_operator(&self) -> bool {
        self.plugin.starts_with(OPERATOR)
    }

    /// Whether one more line about it may go to the log. To be asked before each line that it can bring about as
    /// often as it likes.
    pub fn may_be_logged(&self) -> bool {
        self.pace.admits(&self.plugin, 1)
    }
}

/// Whether the intent of a write was handed to the audit, so that it may have been sent. Clones are of the same call.
#[derive(Debug, Clone, Default)]
pub struct Intended(Arc<AtomicBool>);

impl Intended {
    /// Whether the call may have been sent. To be asked when its answer is not waited for any more: what is not intended
    /// by then never is.
    #[must_use]
    pub fn get(&self) -> bool {
        // The gate marks and then looks whether somebody waits; the other way round here.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, is: bool) {
        self.0.store(is, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

/// A call that a plugin asked for.
pub(crate) struct Ask {
    /// Identifies the call in the audit and in the ledger; never given twice.
    pub call: String,
    pub caller: Caller,
    /// What it is decided by: the plugin's terms at the instant of the decision.
    pub terms: Arc<Terms>,
    /// Nothing for a tool that the catalog does not know.
    pub operation: Option<&'static Operation>,
    /// What it is called in grants: `backtests/create-backtest`, `raw/some_tool`.
    pub name: Cow<'static, str>,
    /// What the server calls it.
    pub tool: Cow<'static, str>,
    pub access: Access,
    /// Flat, under their JSON names, and without what the host fills in.
    pub arguments: Map<String, Value>,
    pub begun: Instant,
    /// Says to whoever waits whether it may have been sent.
    pub intended: Intended,
    /// What it has paid for the reads that the host makes to decide about it.
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
