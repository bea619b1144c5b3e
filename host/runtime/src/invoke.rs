//! One invocation of an action: check the input, wait for admission, run, check the output.
//!
//! A queued invocation does not hold a plugin version; it resolves the serving one when it is
//! admitted, and its input is checked again against that version's schema.
//!
//! An input that takes long to check is checked aside, once it is admitted, so that the serving
//! threads are never blocked by it, and so is such an output; each plugin has one such check of an
//! input at a time, and one of an output. That of an output is charged to the plugin.
//!
//! Invariant: an answer comes from one version, with one code and one manifest. An input that does
//! not match the plugin's schema never reaches the plugin, and an output that is too large, is not
//! JSON or does not match the plugin's own schema never reaches the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qchost_catalog::aside;
use qchost_text::Redactor;
use qchost_traffic::CpuMeter;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use wasmtime::component::TypedFunc;

use crate::admission::{AdmissionStatus, InvocationAdmission, Rejection};
use crate::calls::{Ending, InvocationRequest};
use crate::contract::exports::qchost::agent::guest;
use crate::execution::{self, Allowance, StopReason};
use crate::instance::{Instance, Parts};
use crate::invoke_error::{ActionError, Failure, InvokeError, MAX_MESSAGE};
use crate::json;
use crate::plugin::Plugin;
use crate::plugin_log::InvocationLog;
use crate::quarantine::{Quarantine, QuarantineChange, RunResult};
use crate::schema::{Misfit, Schema, Work};
use crate::services::progress::{Progress, Reporter};
use crate::shared::Shared;
use crate::tenants::Tenant;
use crate::text;

/// Bytes that a guest may pass to the host at a time, unless its own memory limit is smaller or its
/// output limit larger: files are sent to QuantConnect this way.
const MAX_TRANSFER: u64 = 32 << 20;

/// `invoke` of the contract: takes an action and its input, returns an output or a failure.
type Invoke<'a> = TypedFunc<(&'a str, &'a str), (Result<String, guest::Failure>,)>;

/// An input in serialized form.
struct SerializedInput {
    text: String,
    /// The schema still to be checked, if that takes long.
    unchecked: Option<Arc<Schema>>,
    /// What the output is checked against.
    output: Arc<Schema>,
}

/// One invocation.
pub(crate) struct Invocation<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) action: &'a str,
    /// The alias that the action was invoked by.
    pub(crate) alias: Option<&'a str>,
    /// The uid of the person who asked for the invocation.
    pub(crate) person: Option<u32>,
    pub(crate) progress: Option<watch::Sender<Progress>>,
    /// Receives what it logs.
    pub(crate) log: Option<Arc<InvocationLog>>,
}

impl Invocation<'_> {
    /// Runs it on the serving version, or on the one that serves when it is admitted.
    pub(crate) async fn run(self, plugin: Arc<Plugin>, input: Value) -> Result<Value, InvokeError> {
        let begun = Instant::now();
        if let Some(quarantine) = plugin.record.refuses(begun) {
            return Err(quarantined(&plugin, quarantine));
        }
        let serialized = self.check(&plugin, &input)?;
        {
            let admission = plugin.tenant.invocations.try_admit();
            if let Some(admission) = admission.filter(|_| !plugin.lifetime.is_retired()) {
                return self
                    .run_now(&plugin, serialized, input, begun, &admission)
                    .await;
            }
        }
        // Not held while it waits.
        drop(serialized);
        Box::pin(self.wait_and_run(plugin, input, begun)).await
    }

    /// Waits for admission, then runs on the version that serves then.
    async fn wait_and_run(
        &self,
        plugin: Arc<Plugin>,
        input: Value,
        begun: Instant,
    ) -> Result<Value, InvokeError> {
        let tenant = Arc::clone(&plugin.tenant);
        let wait_timeout = plugin.manifest().limits.wall;
        // Waiting invocations do not keep code in memory.
        drop(plugin);
        let requested = tenant.invocations.request(self.shared.options.queue);
        let admission = match requested.map_err(|why| rejected(&tenant, why))? {
            AdmissionStatus::Admitted(admission) => admission,
            AdmissionStatus::Queued(mut queued) => {
                let admitted = tokio::time::timeout(wait_timeout, queued.admitted()).await;
                let busy = |_| Err(Rejection::Busy(tenant.invocations.counts().1));
                admitted
                    .unwrap_or_else(busy)
                    .map_err(|why| rejected(&tenant, why))?
            }
        };
        let serving = self.shared.plugin(&tenant.name);
        let serving = serving.ok_or_else(|| rejected(&tenant, Rejection::Closed))?;
        let serialized = self.check(&serving, &input)?;
        self.run_now(&serving, serialized, input, begun, &admission)
            .await
    }

    /// Runs it on this version.
    async fn run_now(
        &self,
        plugin: &Plugin,
        serialized: SerializedInput,
        input: Value,
        begun: Instant,
        _admission: &InvocationAdmission<'_>,
    ) -> Result<Value, InvokeError> {
        let trial = plugin
            .record
            .admit(Instant::now())
            .map_err(|quarantine| quarantined(plugin, quarantine))?;
        let _running = plugin.lifetime.run();
        let result = tokio::select! {
            biased;
            result = self.execute(plugin, serialized, input, begun) => result,
            () = plugin.lifetime.cancelled() => Err(self.cut_off_error()),
        };
        let result = result.map_err(|problem| self.failed(plugin, problem));
        let change = trial.ended(plugin.name(), run_result(&result), Instant::now());
        if let Some(change) = change {
            let reason = match change {
                QuarantineChange::Quarantined(reason) => Some(reason),
                QuarantineChange::Released => None,
            };
            let gate = &self.shared.gate;
            gate.changes
                .note_quarantine(plugin.name(), plugin.digest(), reason);
        }
        result
    }

    async fn execute(
        &self,
        plugin: &Plugin,
        serialized: SerializedInput,
        input: Value,
        begun: Instant,
    ) -> Result<Value, ActionError> {
        if let Some(schema) = serialized.unchecked {
            let semaphores = [&plugin.tenant.checking.inputs, &self.shared.checking.inputs];
            // The caller chose the input, so the plugin is not charged.
            let meter = CpuMeter::default();
            let checked = self
                .check_aside(plugin, schema, input, begun, semaphores, meter)
                .await?;
            checked.map_err(invalid)?;
        }
        let (input, schema) = (serialized.text, serialized.output);
        let limits = plugin.manifest().limits;
        let allowance = Allowance {
            memory: limits.memory,
            cpu: limits.cpu,
            wall: limits.wall,
            transfer: limits.output.max(MAX_TRANSFER.min(limits.memory)),
        };
        let instance = self.instance(plugin, allowance, begun);
        let calls = instance.calls.clone();
        let invocation = Arc::clone(calls.invocation());
        let mut ending = Ending::new(&calls);
        tracing::debug!(
            plugin = plugin.name(),
            action = self.action,
            invocation = &*invocation,
            "invoking"
        );
        let agent = &plugin.code.agent;
        let ended = execution::run(
            &self.shared.machine,
            &agent.pre,
            instance,
            allowance,
            async |instance, store| {
                let invoke: Invoke<'_> = instance.get_typed_func(&mut *store, agent.invoke)?;
                let (result,) = invoke.call_async(store, (self.action, &input)).await?;
                Ok(result)
            },
        )
        .await;
        ending.in_order = ended.is_ok();
        match ended {
            Ok(Ok(output)) => {
                let output = parsed(plugin, &output)?;
                self.checked(plugin, schema, output, begun, calls.spent())
                    .await
            }
            Ok(Err(failure)) => Err(ActionError::Failure(Failure::reported(
                failure,
                redactor(plugin),
            ))),
            Err(stopped) => {
                tracing::warn!(plugin = plugin.name(), action = self.action, invocation = &*invocation, %stopped, "stopped");
                Err(ActionError::Stopped(stopped))
            }
        }
    }

    /// The output, if it fits the action's schema. The check counts as processor time of the plugin, which has `spent` this
    /// much before.
    async fn checked(
        &self,
        plugin: &Plugin,
        schema: Arc<Schema>,
        output: Value,
        begun: Instant,
        spent: Duration,
    ) -> Result<Value, ActionError> {
        match schema.work(&output).map_err(unfit_output)? {
            Work::Little => {
                schema
                    .validate(&output, redactor(plugin))
                    .map_err(unfit_output)?;
                Ok(output)
            }
            Work::Much => {
                let semaphores = [
                    &plugin.tenant.checking.outputs,
                    &self.shared.checking.outputs,
                ];
                let meter = CpuMeter::default();
                let checked = self
                    .check_aside(plugin, schema, output, begun, semaphores, meter.clone())
                    .await?;
                let limit = plugin.manifest().limits.cpu;
                if spent.saturating_add(meter.spent()) > limit {
                    return Err(ActionError::Stopped(StopReason::Cpu { limit }));
                }
                checked.map_err(unfit_output)
            }
        }
    }

    /// Checks a value on a thread that may block, within the time of the invocation.
    async fn check_aside(
        &self,
        plugin: &Plugin,
        schema: Arc<Schema>,
        value: Value,
        begun: Instant,
        semaphores: [&Arc<Semaphore>; 2],
        meter: CpuMeter,
    ) -> Result<Result<Value, Misfit>, ActionError> {
        let checked =
            Box::pin(schema.validate_aside(value, semaphores, meter, redactor(plugin).clone()));
        let wall = plugin.manifest().limits.wall;
        let checked = tokio::time::timeout_at((begun + wall).into(), checked).await;
        // Its time was over while it did not run, which is not the plugin's fault.
        let late = StopReason::Wall {
            limit: wall,
            hung: false,
        };
        checked.map_err(|_| ActionError::Stopped(late))
    }

    /// Checks the input against the action's schema, unless that takes long, and serializes it for
    /// the plugin.
    fn check(&self, plugin: &Plugin, input: &Value) -> Result<SerializedInput, InvokeError> {
        let code = &plugin.code;
        let Some(schemas) = code.schemas.actions.get(self.action) else {
            let actions = code.description.actions.iter();
            return Err(InvokeError::UnknownAction {
                plugin: plugin.name().to_owned(),
                action: text::line(self.action, 100),
                actions: actions.map(|action| action.name.clone()).collect(),
            });
        };
        if json::is_deeper(input, json::MAX_DEPTH) {
            let message = format!("it is nested more than {} deep", json::MAX_DEPTH);
            return Err(self.failed(plugin, invalid((String::new(), message))));
        }
        let text = input.to_string();
        let limit = self.shared.options.input;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > limit {
            let message = format!("it has {} bytes; at most {limit} are allowed", text.len());
            return Err(self.failed(plugin, invalid((String::new(), message))));
        }
        let unfit = |misfit| self.failed(plugin, invalid(misfit));
        let schema = &schemas.input;
        let unchecked = match schema.work(input).map_err(unfit)? {
            Work::Little => {
                schema.validate(input, redactor(plugin)).map_err(unfit)?;
                None
            }
            Work::Much => Some(Arc::clone(schema)),
        };
        Ok(SerializedInput {
            text,
            unchecked,
            output: Arc::clone(&schemas.output),
        })
    }

    fn failed(&self, plugin: &Plugin, problem: ActionError) -> InvokeError {
        InvokeError::Action(format!("{}.{}", plugin.name(), self.action), problem)
    }

    fn instance(&self, plugin: &Plugin, allowance: Allowance, begun: Instant) -> Instance {
        let redactor = &self.shared.options.redactor;
        let progress = self.progress.clone();
        let progress = progress.map(|watcher| (watcher, redactor.clone()));
        Instance::new(Parts {
            version_context: Arc::clone(&plugin.version_context),
            invocation: identifier().into(),
            request: InvocationRequest {
                action: Some(self.action.into()),
                alias: self.alias.map(Into::into),
                person: self.person,
            },
            deadline: begun + allowance.wall,
            progress: Reporter(progress),
            log: self.log.clone(),
            memory: allowance.memory,
        })
    }

    /// Why it was cancelled: with its version, or with the host.
    fn cut_off_error(&self) -> ActionError {
        if self.shared.cancellation.is_cancelled() {
            ActionError::CutOff
        } else {
            ActionError::Replaced
        }
    }
}

/// The output of a plugin as a value.
fn parsed(plugin: &Plugin, output: &str) -> Result<Value, ActionError> {
    let size = u64::try_from(output.len()).unwrap_or(u64::MAX);
    let limit = plugin.manifest().limits.output;
    if size > limit {
        return Err(ActionError::OutputTooLarge { size, limit });
    }
    let max = usize::try_from(limit / json::VALUE_BYTES).unwrap_or(usize::MAX);
    let parsed = aside(output.len(), || json::parse(output, max));
    parsed.map_err(|error| {
        let message = text::clean_line(&error.to_string(), MAX_MESSAGE, redactor(plugin));
        ActionError::InvalidOutput(message)
    })
}

/// Redacts what an error repeats of the plugin's texts.
fn redactor(plugin: &Plugin) -> &Redactor {
    &plugin.version_context.redactor
}

fn invalid((path, message): Misfit) -> ActionError {
    ActionError::InvalidInput { path, message }
}

fn unfit_output((path, message): Misfit) -> ActionError {
    ActionError::UnfitOutput { path, message }
}

fn rejected(tenant: &Tenant, why: Rejection) -> InvokeError {
    let plugin = tenant.name.to_string();
    match why {
        Rejection::Busy(waiting) => InvokeError::Busy { plugin, waiting },
        Rejection::Closed => InvokeError::Unloaded { plugin },
        Rejection::Ended => InvokeError::ShuttingDown,
    }
}

fn quarantined(plugin: &Plugin, quarantine: Quarantine) -> InvokeError {
    InvokeError::Quarantined {
        plugin: plugin.name().to_owned(),
        retry_after: quarantine.remaining,
        reason: quarantine.reason,
    }
}

/// What a result says about the health of the plugin.
fn run_result(result: &Result<Value, InvokeError>) -> RunResult {
    let Err(error) = result else {
        return RunResult::Succeeded;
    };
    let InvokeError::Action(_, problem) = error else {
        return RunResult::Neither;
    };
    match problem {
        // A failure that the plugin itself reports is a regular answer.
        ActionError::Failure(_) => RunResult::Succeeded,
        ActionError::InvalidOutput(_)
        | ActionError::OutputTooLarge { .. }
        | ActionError::UnfitOutput { .. }
        | ActionError::Stopped(
            StopReason::Trap(_)
            | StopReason::OutOfMemory { .. }
            | StopReason::Cpu { .. }
            | StopReason::Wall { hung: true, .. }
            | StopReason::TooLarge { .. },
        ) => RunResult::Failed(error.to_string()),
        _ => RunResult::Neither,
    }
}

/// A unique id for an invocation, also across runs of the host.
fn identifier() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static STARTED: std::sync::LazyLock<u128> = std::sync::LazyLock::new(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis())
    });
    format!("{:x}-{}", *STARTED, COUNT.fetch_add(1, Ordering::Relaxed))
}
