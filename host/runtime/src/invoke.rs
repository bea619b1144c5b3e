//! One invocation of an action: wait for a turn, check the input, run, check the output.
//!
//! Invariant: an input that does not fit the plugin's schema never reaches the plugin, and an
//! output that is too large or is not JSON never reaches the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use qchost_gate::Caller;
use qchost_policy::Manifest;
use serde_json::Value;
use tokio::sync::{SemaphorePermit, watch};

use crate::calls;
use crate::contract::exports::qchost::agent::guest;
use crate::execution::{self, Allowance, Stopped};
use crate::host::Shared;
use crate::instance::{Instance, Parts};
use crate::limits::Allocation;
use crate::plugin::Plugin;
use crate::services::progress::{Progress, Reporter};
use crate::text;

/// Bytes that a guest may hand to the host at a time, if its output may not be larger: files go to
/// QuantConnect this way.
const TRANSFER: u64 = 32 << 20;
/// The longest message of a plugin's that is repeated, in bytes.
const MESSAGE: usize = 4096;

/// Why an invocation has no output.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvokeError {
    /// No such plugin is loaded.
    #[error("there is no plugin `{plugin}`; loaded are: {}", known(.loaded))]
    UnknownPlugin {
        /// What was asked for.
        plugin: String,
        /// What there is.
        loaded: Vec<String>,
    },
    /// The plugin has no such action.
    #[error("`{plugin}` has no action `{action}`; it has: {}", known(.actions))]
    UnknownAction {
        /// The plugin.
        plugin: String,
        /// What was asked for.
        action: String,
        /// What it has.
        actions: Vec<String>,
    },
    /// The input does not fit the action's schema. The plugin was not run.
    #[error("`{plugin}.{action}`: the input does not fit{}: {message}", at(.path))]
    InvalidInput {
        /// The plugin.
        plugin: String,
        /// The action.
        action: String,
        /// The place in the input, as a JSON pointer; empty for the whole.
        path: String,
        /// What is wrong there.
        message: String,
    },
    /// Too many invocations wait for their turn already.
    #[error("`{plugin}` has {waiting} invocations waiting; try again later")]
    Busy {
        /// The plugin.
        plugin: String,
        /// How many wait.
        waiting: usize,
    },
    /// The host shuts down.
    #[error("the host shuts down")]
    ShuttingDown,
    /// The host shut down before it was done.
    #[error(
        "`{plugin}.{action}`: it was cut off, since the host shuts down; calls that it had sent go on, so read the state before you try again"
    )]
    CutOff {
        /// The plugin.
        plugin: String,
        /// The action.
        action: String,
    },
    /// It was stopped.
    #[error("`{plugin}.{action}`: {stopped}")]
    Stopped {
        /// The plugin.
        plugin: String,
        /// The action.
        action: String,
        /// Why.
        stopped: Stopped,
    },
    /// Its output is larger than its manifest allows.
    #[error(
        "`{plugin}.{action}`: the output has {size} bytes, more than the {limit} of `limits.output`"
    )]
    OutputTooLarge {
        /// The plugin.
        plugin: String,
        /// The action.
        action: String,
        /// Its size, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Its output is not JSON.
    #[error("`{plugin}.{action}`: the output is not JSON: {why}")]
    InvalidOutput {
        /// The plugin.
        plugin: String,
        /// The action.
        action: String,
        /// Why.
        why: String,
    },
    /// The plugin itself says that it failed.
    #[error("`{plugin}.{action}`: {failure}")]
    Failure {
        /// The plugin.
        plugin: String,
        /// The action.
        action: String,
        /// Why.
        failure: Failure,
    },
}

/// Why an action failed, in the plugin's own word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The input is wrong.
    #[error("invalid input: {0}")]
    InvalidInput(String),
    /// It does not do that.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A call of QuantConnect failed.
    #[error("{kind}: {message}")]
    Capability {
        /// Which case of the contract's `error`: `denied`, `rejected` …
        kind: &'static str,
        /// What it says.
        message: String,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<guest::Failure> for Failure {
    fn from(failure: guest::Failure) -> Self {
        let bounded = |message: String| text::lines(&message, MESSAGE);
        match failure {
            guest::Failure::InvalidInput(message) => Self::InvalidInput(bounded(message)),
            guest::Failure::Unsupported(message) => Self::Unsupported(bounded(message)),
            guest::Failure::Failed(message) => Self::Failed(bounded(message)),
            guest::Failure::Capability(error) => {
                let (kind, message) = calls::words(error);
                Self::Capability {
                    kind,
                    message: bounded(message),
                }
            }
        }
    }
}

fn known(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

fn at(path: &str) -> String {
    match path {
        "" => String::new(),
        path => format!(" at `{path}`"),
    }
}

/// One invocation.
pub(crate) struct Invocation<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) plugin: &'a Plugin,
    pub(crate) action: &'a str,
    /// The uid of who asked for it.
    pub(crate) person: Option<u32>,
    pub(crate) progress: Option<watch::Sender<Progress>>,
}

impl Invocation<'_> {
    pub(crate) async fn run(self, input: Value) -> Result<Value, InvokeError> {
        let input = self.check(&input)?;
        let begun = Instant::now();
        // Limits and settings are those of the manifest as it stands now.
        let manifest = self
            .shared
            .gate
            .manifest(self.plugin.name())
            .unwrap_or_else(|| Arc::clone(self.plugin.manifest()));
        let limits = manifest.limits;
        let turn = self.turn(limits.wall.saturating_sub(begun.elapsed()));
        let _turn = tokio::select! {
            turn = turn => turn?,
            () = self.shared.ended.cancelled() => return Err(InvokeError::ShuttingDown),
        };
        let allowance = Allowance {
            memory: limits.memory,
            cpu: limits.cpu,
            wall: limits.wall,
            transfer: limits.output.max(TRANSFER),
        };
        let instance = self.instance(manifest, allowance);
        let invocation = Arc::clone(&instance.calls.caller().invocation);
        tracing::info!(
            plugin = self.plugin.name(),
            action = self.action,
            invocation = &*invocation,
            "invoking"
        );
        let (action, code) = (self.action.to_owned(), self.plugin.code());
        let running = execution::run(
            &self.shared.machine,
            &code.agent,
            instance,
            allowance,
            async |agent, store| {
                let guest = agent.qchost_agent_guest();
                guest.call_invoke(store, &action, &input).await
            },
        );
        let ended = tokio::select! {
            ended = running => ended,
            () = self.shared.cut.cancelled() => {
                return Err(InvokeError::CutOff {
                    plugin: self.plugin.name().to_owned(),
                    action: self.action.to_owned(),
                });
            }
        };
        match ended {
            Ok(Ok(output)) => self.output(output, limits.output),
            Ok(Err(failure)) => Err(InvokeError::Failure {
                plugin: self.plugin.name().to_owned(),
                action: self.action.to_owned(),
                failure: failure.into(),
            }),
            Err(stopped) => {
                tracing::warn!(plugin = self.plugin.name(), action = self.action, invocation = &*invocation, %stopped, "stopped");
                Err(InvokeError::Stopped {
                    plugin: self.plugin.name().to_owned(),
                    action: self.action.to_owned(),
                    stopped,
                })
            }
        }
    }

    /// Checks the input against the action's schema and writes it down for the plugin.
    fn check(&self, input: &Value) -> Result<String, InvokeError> {
        let code = self.plugin.code();
        let Some(schema) = code.inputs.get(self.action) else {
            let actions = code.description.actions.iter();
            return Err(InvokeError::UnknownAction {
                plugin: self.plugin.name().to_owned(),
                action: text::line(self.action, 100),
                actions: actions.map(|action| action.name.clone()).collect(),
            });
        };
        let invalid = |path: String, message: String| InvokeError::InvalidInput {
            plugin: self.plugin.name().to_owned(),
            action: self.action.to_owned(),
            path,
            message,
        };
        let text = input.to_string();
        let limit = self.shared.options.input;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > limit {
            let message = format!("it has {} bytes; at most {limit} are allowed", text.len());
            return Err(invalid(String::new(), message));
        }
        schema
            .check(input)
            .map_err(|(path, message)| invalid(path, message))?;
        Ok(text)
    }

    /// Waits for a turn: the plugin's own first, then the host's.
    async fn turn(
        &self,
        longest: std::time::Duration,
    ) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), InvokeError> {
        let busy = |waiting| InvokeError::Busy {
            plugin: self.plugin.name().to_owned(),
            waiting,
        };
        let place = self.plugin.queue(self.shared.options.queue).map_err(busy)?;
        let turns = async {
            let own = self.plugin.slots().acquire().await;
            let host = self.shared.slots.acquire().await;
            own.and_then(|own| host.map(|host| (own, host)))
        };
        match tokio::time::timeout(longest, turns).await {
            Ok(Ok(turns)) => Ok(turns),
            // Semaphores are closed when the host ends.
            Ok(Err(_)) => Err(InvokeError::ShuttingDown),
            Err(_) => Err(busy(place.waiting())),
        }
    }

    fn instance(&self, manifest: Arc<Manifest>, allowance: Allowance) -> Instance {
        Instance::new(Parts {
            gate: Some(self.shared.gate.clone()),
            caller: Caller {
                plugin: self.plugin.name().into(),
                digest: Arc::clone(&self.plugin.code().digest),
                invocation: identifier().into(),
                person: self.person,
            },
            manifest: Some(manifest),
            deadline: Instant::now() + allowance.wall,
            progress: Reporter(self.progress.clone()),
            memory: Allocation::new(self.shared.budget.clone(), allowance.memory),
            connector: self.shared.connector.clone(),
            parallel: self.shared.options.parallel,
        })
    }

    fn output(&self, output: String, limit: u64) -> Result<Value, InvokeError> {
        let size = u64::try_from(output.len()).unwrap_or(u64::MAX);
        if size > limit {
            return Err(InvokeError::OutputTooLarge {
                plugin: self.plugin.name().to_owned(),
                action: self.action.to_owned(),
                size,
                limit,
            });
        }
        serde_json::from_str(&output).map_err(|error| InvokeError::InvalidOutput {
            plugin: self.plugin.name().to_owned(),
            action: self.action.to_owned(),
            why: text::line(&error.to_string(), MESSAGE),
        })
    }
}

/// A name for an invocation that no other one has, not even of a host that ran before.
fn identifier() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static STARTED: std::sync::LazyLock<u128> = std::sync::LazyLock::new(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis())
    });
    format!("{:x}-{}", *STARTED, COUNT.fetch_add(1, Ordering::Relaxed))
}
