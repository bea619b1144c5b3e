//! A call as it was requested, before anything is decided, and the principal that requests it.
//!
//! Invariant: a tool that the catalog does not know counts as trade.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Instant;

use qchost_catalog::{Access, Operation, Target, by_name, by_tool};
use qchost_policy::{DOWNLOAD, EVIDENCE, Manifest, RAW, WORKFLOW};
use qchost_traffic::{CpuMeter, GrantKey, LogLimiter, Priority};
use serde_json::{Map, Value};

use crate::policy::EffectivePolicy;
use crate::read_charges::ReadCharges;
use crate::settings::Settings;

/// What a request to another host than QuantConnect's is called in guardrails and records.
pub(crate) const HTTP: &str = "http/request";
/// Prefix of an operator's name who calls a tool directly; a plugin cannot have such a name.
const OPERATOR: &str = "operator@";

/// Who makes calls: a plugin, by its name, its code and its invocation, or an operator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The plugin's name, by which its manifest is found.
    pub plugin: Arc<str>,
    /// The hash of the component that runs: `sha256:…`.
    pub digest: Arc<str>,
    /// Identifies the invocation in logs and in the audit.
    pub invocation: Arc<str>,
    /// The action that was invoked, if it is an invocation.
    pub action: Option<Arc<str>>,
    /// The alias that it was invoked by, if it was.
    pub alias: Option<Arc<str>>,
    /// The user id of the person who asked for the invocation, if a person did.
    pub person: Option<u32>,
    /// Processor time spent on deciding its calls.
    pub cpu: CpuMeter,
    /// Rate limit of its log lines.
    pub log_limiter: Arc<LogLimiter>,
}

impl Principal {
    /// One that no person asked for, with a meter and a limit of its own.
    #[must_use]
    pub fn new(plugin: &str, digest: &str, invocation: &str) -> Self {
        Self {
            plugin: plugin.into(),
            digest: digest.into(),
            invocation: invocation.into(),
            action: None,
            alias: None,
            person: None,
            cpu: CpuMeter::default(),
            log_limiter: Arc::default(),
        }
    }

    /// Whether it is a person rather than a plugin.
    pub(crate) fn is_operator(&self) -> bool {
        self.plugin.starts_with(OPERATOR)
    }

    /// Whether one more line about it may be logged. Check it before each line that the plugin can provoke at will.
    pub fn may_be_logged(&self) -> bool {
        self.log_limiter.admits(&self.plugin, 1)
    }
}

/// Whether the intent of a write was handed to the audit, so that it may have been sent. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct SentMarker(Arc<AtomicBool>);

impl SentMarker {
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

/// What is called.
pub(crate) struct Callee {
    operation: Option<&'static Operation>,
    name: Cow<'static, str>,
    tool: Cow<'static, str>,
    access: Access,
}

impl From<&'static Operation> for Callee {
    fn from(operation: &'static Operation) -> Self {
        Self {
            operation: Some(operation),
            name: Cow::Borrowed(operation.name),
            tool: Cow::Borrowed(operation.tool),
            access: operation.access,
        }
    }
}

impl Callee {
    /// What the host does itself: a download, the running of a batch, counting trials, a request to another host.
    pub(crate) fn service(name: &'static str, access: Access) -> Self {
        Self {
            operation: None,
            name: Cow::Borrowed(name),
            tool: Cow::Borrowed(name),
            access,
        }
    }

    /// A tool that the catalog does not know: what it does is unknown, so it counts as trade.
    pub(crate) fn unknown_tool(tool: String) -> Self {
        Self {
            operation: None,
            name: Cow::Owned(format!("{RAW}/{tool}")),
            tool: Cow::Owned(tool),
            access: Access::Trade,
        }
    }

    /// What a person names: an operation, a tool, a service, or `raw/` and a tool.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if let Some(operation) = by_name(name).or_else(|| by_tool(name)) {
            return Some(operation.into());
        }
        match name {
            DOWNLOAD => Some(Self::service(DOWNLOAD, Access::Read)),
            WORKFLOW => Some(Self::service(WORKFLOW, Access::Read)),
            EVIDENCE => Some(Self::service(EVIDENCE, Access::Read)),
            other => {
                let tool = other.strip_prefix(RAW)?.strip_prefix('/')?;
                Some(Self::unknown_tool(tool.to_owned()))
            }
        }
    }
}

/// A call that a principal requested.
pub(crate) struct CallRequest {
    /// Identifies the call in the audit and in the ledger; unique.
    pub call: String,
    pub principal: Principal,
    /// The policy of the principal at the instant of the decision.
    pub policy: Arc<EffectivePolicy>,
    /// `None` for a tool that the catalog does not know.
    pub operation: Option<&'static Operation>,
    /// Its name in grants: `backtests/create-backtest`, `raw/some_tool`.
    pub name: Cow<'static, str>,
    /// Its name at the server.
    pub tool: Cow<'static, str>,
    pub access: Access,
    /// Flat, under their JSON names, and without what the host fills in.
    pub arguments: Map<String, Value>,
    pub started_at: Instant,
    /// Tells the caller whether the call may have been sent.
    pub sent_marker: SentMarker,
    /// What it was charged for the host's own reads that decide it.
    pub read_charges: ReadCharges,
}

impl CallRequest {
    /// A text among its arguments.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get(name).and_then(Value::as_str)
    }

    pub(crate) fn new(
        call: String,
        principal: Principal,
        policy: Arc<EffectivePolicy>,
        callee: Callee,
        arguments: Map<String, Value>,
    ) -> Self {
        let Callee {
            operation,
            name,
            tool,
            access,
        } = callee;
        Self {
            call,
            principal,
            policy,
            operation,
            name,
            tool,
            access,
            arguments,
            started_at: Instant::now(),
            sent_marker: SentMarker::default(),
            read_charges: ReadCharges::default(),
        }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.policy.authority.manifest()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.policy.settings
    }

    pub(crate) fn account(&self) -> &str {
        &self.manifest().account
    }

    pub(crate) fn plugin(&self) -> &str {
        &self.principal.plugin
    }

    /// The key of a grant's counters.
    pub(crate) fn grant_key(&self, grant: &str) -> GrantKey {
        GrantKey::new(self.account(), self.plugin(), grant)
    }

    pub(crate) fn target(&self) -> Target<'_> {
        self.operation
            .map_or(Target::Unknown(&self.tool), Target::Known)
    }

    /// Whether a halt stops it: everything but reads and what makes the account safer.
    pub(crate) fn halted(&self) -> bool {
        stopped_by_halt(self.access)
    }

    /// Risk-reducing calls have priority in the account's queue.
    pub(crate) fn priority(&self) -> Priority {
        match self.access {
            Access::Reduce => Priority::Safety,
            _ => Priority::Normal,
        }
    }

    /// A call of the host's own on behalf of this one, with arguments that the host chose.
    pub(crate) fn followed_by(
        &self,
        call: String,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Self {
        let (principal, policy) = (self.principal.clone(), Arc::clone(&self.policy));
        Self::new(call, principal, policy, operation.into(), arguments)
    }

    /// Whether it downloads objects, or is a step of a download.
    pub(crate) fn downloads(&self) -> bool {
        self.name == DOWNLOAD || self.operation.is_some_and(Operation::downloads)
    }

    /// Whether it is a request to another host than QuantConnect's.
    pub(crate) fn is_http(&self) -> bool {
        self.name == HTTP
    }
}

/// Makes the ids of calls: unique across runs.
pub(crate) struct CallIds {
    run: String,
    next: AtomicU64,
}

impl CallIds {
    /// `started`: when this run began, in milliseconds since 1970.
    pub(crate) fn new(started: i64) -> Self {
        Self {
            run: format!("{started:x}"),
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.run)
    }
}

/// Whether a halt stops operations of this class.
pub(crate) fn stopped_by_halt(access: Access) -> bool {
    matches!(access, Access::Write | Access::Destroy | Access::Trade)
}
