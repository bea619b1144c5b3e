//! The single function through which all of an agent's calls to QuantConnect go.
//!
//! It encodes the arguments as JSON, the [gate](qchost_gate::PluginCalls) decides and sends, and the answer becomes
//! a typed value, a failure the contract's one error type. The interfaces in
//! [`capabilities`](crate::capabilities) bind to this function and add nothing to it.
//!
//! Invariant: an answer that does not fit the contract is an error, and every row that is left out of one is counted.

use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use qchost_catalog::{CONTENT, Failure, FailureKind, Operation, aside, length};
use qchost_gate::{PluginCalls, Principal, Refusal, SentMarker};
use qchost_traffic::CpuMeter;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::adapter::{LeftOut, Misfit, decode_answer};
use crate::call_driver::CallDriver;
use crate::contract::quantconnect::api::types::{Denial, Error, Exhaustion, Readiness};
use crate::version_context::VersionContext;

/// Seconds an agent should wait if the server does not say.
const DEFAULT_RETRY_AFTER: f64 = 1.0;

/// The calls of one invocation. Clones are the same caller. The state shared with invocations on other
/// threads is referenced once, not once for each service.
#[derive(Debug, Clone)]
pub(crate) struct CallContext(Arc<Caller>, Option<SentMarker>);

/// What was invoked, and by whom. Nothing of it is known of a component that describes itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct InvocationRequest {
    pub(crate) action: Option<Arc<str>>,
    /// The alias that the action was invoked by.
    pub(crate) alias: Option<Arc<str>>,
    /// The uid of the person who asked for the invocation.
    pub(crate) person: Option<u32>,
}

/// Who calls whom.
#[derive(Debug)]
struct Caller {
    version_context: Arc<VersionContext>,
    /// Identifies the invocation.
    invocation: Arc<str>,
    request: InvocationRequest,
    /// The gate's representation of the caller, created on first use.
    principal: OnceLock<Principal>,
    waits: Mutex<Waits>,
    driver: CallDriver,
    /// Processor time of its guest and of the gate, once the guest has ended.
    spent: OnceLock<Duration>,
    /// Rows left out of answers since the agent last asked.
    left_out: AtomicU32,
}

/// External events that an invocation waits for: answers, decisions, exchanges.
#[derive(Debug, Default)]
struct Waits {
    open: usize,
    /// When the last wait ended.
    ended: Option<Instant>,
}

/// While it lives, the invocation is waiting for an external event.
#[derive(Debug)]
pub(crate) struct Wait(CallContext);

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.open = waits.open.saturating_sub(1);
        waits.ended = Some(Instant::now());
    }
}

impl CallContext {
    pub(crate) fn new(
        version_context: Arc<VersionContext>,
        invocation: Arc<str>,
        request: InvocationRequest,
    ) -> Self {
        let caller = Caller {
            version_context,
            invocation,
            request,
            principal: OnceLock::new(),
            waits: Mutex::default(),
            driver: CallDriver::default(),
            spent: OnceLock::new(),
            left_out: AtomicU32::new(0),
        };
        Self(Arc::new(caller), None)
    }

    /// The same caller, with a marker that tells whether its next call may have been sent.
    pub(crate) fn with_marker(&self, sent_marker: SentMarker) -> Self {
        Self(Arc::clone(&self.0), Some(sent_marker))
    }

    /// Notes that the invocation waits for an external event.
    pub(crate) fn wait(&self) -> Wait {
        self.waits().open += 1;
        Wait(self.clone())
    }

    /// Whether it waits for an external event, or did within the last `moment`.
    pub(crate) fn waited(&self, moment: Duration) -> bool {
        let waits = self.waits();
        waits.open > 0 || waits.ended.is_some_and(|ended| ended.elapsed() <= moment)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.waits.lock()
    }

    /// The caller as the gate knows it.
    pub(crate) fn principal(&self) -> &Principal {
        let Caller {
            version_context,
            invocation,
            request,
            principal,
            ..
        } = &*self.0;
        principal.get_or_init(|| Principal {
            plugin: Arc::clone(&version_context.plugin),
            digest: Arc::clone(&version_context.digest),
            invocation: Arc::clone(invocation),
            action: request.action.clone(),
            alias: request.alias.clone(),
            person: request.person,
            cpu: CpuMeter::default(),
            log_limiter: Arc::clone(&version_context.log_limiter),
        })
    }

    /// Processor time that the gate has spent on deciding its calls.
    pub(crate) fn gate_cpu(&self) -> Duration {
        let principal = self.0.principal.get();
        principal.map_or(Duration::ZERO, |principal| principal.cpu.spent())
    }

    /// Notes the processor time of the guest, which has ended, and of the gate.
    pub(crate) fn guest_ended(&self, spent: Duration) {
        // An invocation has one guest.
        self.0.spent.set(spent).unwrap_or_default();
    }

    /// Processor time of its guest and of the gate; none while the guest runs.
    pub(crate) fn spent(&self) -> Duration {
        self.0.spent.get().copied().unwrap_or_default()
    }

    /// Polls its calls beside the guest.
    pub(crate) fn driver(&self) -> &CallDriver {
        &self.0.driver
    }

    /// State shared with the other invocations of its version.
    pub(crate) fn version_context(&self) -> &VersionContext {
        &self.0.version_context
    }

    /// Identifies the invocation.
    pub(crate) fn invocation(&self) -> &Arc<str> {
        &self.0.invocation
    }

    /// Returns and resets the number of rows left out of answers.
    pub(crate) fn take_left_out(&self) -> u32 {
        self.0.left_out.swap(0, Ordering::Relaxed)
    }

    /// The gate, for services that are not operations of the catalog.
    pub(crate) fn gate(&self) -> Result<&Arc<dyn PluginCalls>, Error> {
        self.version_context().gate.as_ref().ok_or_else(|| {
            Error::Denied(Denial {
                reason: "a component that describes itself may call nothing".to_owned(),
                nearest_grant: None,
                remedy: None,
            })
        })
    }

    /// Hands a call of the gate over to the driver, and waits for its answer.
    pub(crate) async fn hand_over<T, C>(
        &self,
        call: impl FnOnce(Arc<dyn PluginCalls>, Principal) -> C,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        C: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let call = call(Arc::clone(self.gate()?), self.principal().clone());
        self.driver().call(call).await.map_err(refused)
    }

    /// Makes a call.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Result<T, Error> {
        self.call_and_trim(operation, arguments, |_| ()).await
    }

    /// Refuses a file that is larger than what the agent may output: it is in the agent's memory as a whole.
    fn check_file(&self, operation: &'static Operation, body: &Value) -> Result<(), Error> {
        if !operation.answers_file() {
            return Ok(());
        }
        let content = body.get(CONTENT).and_then(Value::as_str);
        let size = content.map_or(0, |text| u64::try_from(text.len()).unwrap_or(u64::MAX));
        match &self.version_context().manifest {
            Some(manifest) if size > manifest.limits.output => {
                Err(Error::UnexpectedResponse(format!(
                    "{}: the file has {size} bytes, more than the {} of `limits.output`; read it in pages",
                    operation.tool, manifest.limits.output
                )))
            }
            _ => Ok(()),
        }
    }

    /// Makes a call, and trims the answer before it is decoded at the agent's expense.
    pub(crate) async fn call_and_trim<T: DeserializeOwned>(
        &self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
        trim: impl FnOnce(&mut Value),
    ) -> Result<T, Error> {
        // Decoding the answer is not the agent's delay either.
        let _wait = self.wait();
        let sent_marker = self.1.clone().unwrap_or_default();
        let call = move |gate: Arc<dyn PluginCalls>, principal: Principal| async move {
            gate.call_marked(&principal, operation, arguments, sent_marker)
                .await
        };
        let mut body = self.hand_over(call).await?;
        self.check_file(operation, &body)?;
        trim(&mut body);
        let left_out = LeftOut::default();
        let answer = aside(length(&body), || decode_answer(operation, body, &left_out));
        let answer = answer.map_err(|misfit| {
            let principal = self.principal();
            if principal.may_be_logged() {
                tracing::warn!(plugin = &*principal.plugin, invocation = &*principal.invocation, tool = operation.tool, %misfit, "the answer does not fit the contract");
            }
            Error::UnexpectedResponse(format!("{}: {misfit}", operation.tool))
        })?;
        if let Some((rows, first)) = left_out.finish() {
            // Saturating would need a loop, and four thousand million rows do not occur.
            self.0.left_out.fetch_add(rows, Ordering::Relaxed);
            let principal = self.principal();
            if principal.may_be_logged() {
                tracing::warn!(plugin = &*principal.plugin, invocation = &*principal.invocation, tool = operation.tool, rows, %first, "rows of the answer cannot be read and were left out");
            }
        }
        Ok(answer)
    }
}

/// Tells the gate when the invocation ends, also when it is dropped and its client learns nothing of its
/// approvals.
#[derive(Debug)]
pub(crate) struct Ending {
    calls: CallContext,
    /// Whether it ended with an answer.
    pub(crate) in_order: bool,
}

impl Ending {
    pub(crate) fn new(calls: &CallContext) -> Self {
        Self {
            calls: calls.clone(),
            in_order: false,
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // An invocation without calls has no approvals.
        if let (Some(principal), Ok(gate)) = (self.calls.0.principal.get(), self.calls.gate()) {
            gate.invocation_ended(principal, self.in_order);
        }
    }
}

/// The error for arguments that cannot be sent.
pub(crate) fn invalid(operation: &'static Operation, misfit: &Misfit) -> Error {
    Error::InvalidArgument(format!("{}: {misfit}", operation.tool))
}

/// The contract's error for a refusal.
pub(crate) fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Denied(denial) => Error::Denied(Denial {
            reason: denial.reason,
            nearest_grant: denial.nearest_grant,
            remedy: denial.remedy,
        }),
        Refusal::Exhausted {
            grant,
            budget,
            message,
            resets_in,
        } => Error::BudgetExhausted(Exhaustion {
            grant,
            budget: budget.to_owned(),
            message,
            resets_in: resets_in.map(|wait| wait.as_secs_f64()),
        }),
        Refusal::RateLimited(wait) => Error::RateLimited(wait.as_secs_f64()),
        Refusal::ApprovalRequired { id } => Error::ApprovalRequired(id),
        Refusal::ApprovalRefused { id, reason } => {
            Error::ApprovalRefused(format!("approval {id}: {reason}"))
        }
        Refusal::Halted(reason) => Error::Halted(reason),
        Refusal::Failed(failure) => failed(failure),
    }
}

fn failed(failure: Failure) -> Error {
    match failure {
        Failure::InvalidArgument(text) => Error::InvalidArgument(text),
        Failure::NotFound(text) => Error::NotFound(text),
        Failure::NotReady { progress, message } => Error::NotReady(Readiness { progress, message }),
        Failure::Rejected(errors) => Error::Rejected(errors),
        Failure::RateLimited { retry_after } => {
            Error::RateLimited(retry_after.map_or(DEFAULT_RETRY_AFTER, |wait| wait.as_secs_f64()))
        }
        Failure::Unavailable(text) => Error::Unavailable(text),
        Failure::TimedOut { .. } => Error::TimedOut(failure.to_string()),
        Failure::UnknownOutcome(text) => Error::UnknownOutcome(text),
        Failure::UnexpectedResponse(text) => Error::UnexpectedResponse(text),
        Failure::Halted(reason) => Error::Halted(reason),
        Failure::Reauthorize(text) => Error::Reauthorize(text),
    }
}

/// The kind and the message of an error, for use outside of Wasm.
pub(crate) fn words(error: Error) -> (&'static str, String) {
    let (kind, text) = match error {
        // Only the gate refuses for these four reasons.
        Error::Denied(denial) => {
            let remedy = denial.remedy.map_or_else(String::new, |remedy| {
                format!("; to allow it, add to the manifest:\n{remedy}")
            });
            return ("denied", denial.reason + &remedy);
        }
        Error::BudgetExhausted(exhaustion) => return ("budget-exhausted", exhaustion.message),
        Error::ApprovalRequired(id) => {
            let message = format!("a person has to approve this first: qchost approvals show {id}");
            return ("approval-required", message);
        }
        Error::ApprovalRefused(reason) => return ("approval-refused", reason),
        Error::RateLimited(wait) => (FailureKind::RateLimited, format!("retry after {wait} s")),
        Error::Halted(reason) => (FailureKind::Halted, reason),
        Error::InvalidArgument(text) => (FailureKind::InvalidArgument, text),
        Error::NotFound(text) => (FailureKind::NotFound, text),
        Error::NotReady(readiness) => (FailureKind::NotReady, readiness.message),
        Error::Rejected(errors) => (FailureKind::Rejected, errors.join("; ")),
        Error::Unavailable(text) => (FailureKind::Unavailable, text),
        Error::TimedOut(text) => (FailureKind::TimedOut, text),
        Error::UnknownOutcome(text) => (FailureKind::UnknownOutcome, text),
        Error::UnexpectedResponse(text) => (FailureKind::UnexpectedResponse, text),
        Error::Reauthorize(text) => (FailureKind::Reauthorize, text),
    };
    (kind.into(), text)
}

impl CallContext {
    /// A caller for tests.
    #[cfg(test)]
    pub(crate) fn for_test(gate: impl PluginCalls + 'static, plugin: &str) -> Self {
        Self::new(
            VersionContext::for_test(Some(Arc::new(gate)), plugin),
            "test".into(),
            InvocationRequest::default(),
        )
    }

    /// A component that describes itself, for tests.
    #[cfg(test)]
    pub(crate) fn describing_for_test() -> Self {
        Self::new(
            VersionContext::for_test(None, "lab"),
            "describe".into(),
            InvocationRequest::default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waited_for_an_external_event_until_a_moment_after() {
        let gated = qchost_testing::Gated::new(qchost_testing::uncalled()).await;
        let calls = CallContext::for_test(gated.gate.clone(), "lab");
        let long = Duration::from_secs(60);
        assert!(!calls.waited(long), "it never did");
        let (one, other) = (calls.wait(), calls.clone().wait());
        drop(one);
        assert!(calls.waited(Duration::ZERO));
        drop(other);
        assert!(calls.waited(long));
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(!calls.waited(Duration::from_millis(1)));
    }

    #[test]
    fn a_file_is_as_large_as_the_output_at_most() {
        let export = qchost_catalog::operation("export_backtest_logs");
        let read = qchost_catalog::operation("read_file");
        let manifest = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n[limits]\noutput = \"64KiB\"";
        let manifest = qchost_policy::Manifest::parse(manifest, std::path::Path::new("lab.toml"));
        let mut context = Arc::into_inner(VersionContext::for_test(None, "lab")).unwrap();
        context.manifest = Some(Arc::new(manifest.unwrap()));
        let calls = CallContext::new(
            Arc::new(context),
            "test".into(),
            InvocationRequest::default(),
        );
        let body = |size: usize| serde_json::json!({ "mediaType": "text/plain", "content": "x".repeat(size) });
        calls.check_file(export, &body(64 << 10)).unwrap();
        let refused = calls.check_file(export, &body((64 << 10) + 1));
        let Err(Error::UnexpectedResponse(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(
            why.contains("65537 bytes") && why.contains("limits.output"),
            "{why}"
        );
        // What is no file is bounded elsewhere.
        calls.check_file(read, &body(1 << 20)).unwrap();
    }

    #[test]
    fn every_refusal_reaches_the_agent_as_the_error_of_the_same_name() {
        for refusal in [
            Refusal::Denied(qchost_policy::Denial {
                reason: "no".to_owned(),
                nearest_grant: None,
                remedy: None,
            }),
            Refusal::Exhausted {
                grant: "lab".to_owned(),
                budget: "per-day",
                message: "nothing is left".to_owned(),
                resets_in: Some(Duration::from_secs(60)),
            },
            Refusal::RateLimited(Duration::from_secs(1)),
            Refusal::ApprovalRequired {
                id: "ap-1".to_owned(),
            },
            Refusal::ApprovalRefused {
                id: "ap-1".to_owned(),
                reason: "no".to_owned(),
            },
            Refusal::Halted("a drill".to_owned()),
            Refusal::Failed(Failure::NotFound("project 7".to_owned())),
            Refusal::Failed(Failure::Halted("a drill".to_owned())),
            Refusal::Failed(Failure::Reauthorize("log in".to_owned())),
        ] {
            let word = refusal.word();
            assert_eq!(words(refused(refusal)).0, word);
        }
    }
}
