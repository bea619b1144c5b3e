//! Writes whose answer was lost: remembered until it is known whether they took effect.
//!
//! Invariant: a non-idempotent write is not repeated as long as the outcome of the same one is unknown.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use qchost_audit::read_members;
use qchost_catalog::Access;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::body::CallBody;
use crate::call::CallRequest;
use crate::fingerprint::Fingerprints;
use crate::refusal::Refusal;

/// Maximum number of writes that a start warns of individually.
const MAX_WARNED: usize = 20;

/// The record of a write's intent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Intent {
    /// When it was recorded.
    pub time: String,
    #[serde(flatten)]
    pub body: CallBody,
}

/// The writes with an unknown outcome, of this run and of former ones.
pub(crate) struct UnsettledWrites {
    intents: Mutex<Vec<Intent>>,
    fingerprints: Arc<Fingerprints>,
}

impl UnsettledWrites {
    /// `records`: the members of the intents of former runs.
    pub(crate) fn new(records: &[Map<String, Value>], fingerprints: Arc<Fingerprints>) -> Self {
        Self {
            intents: Mutex::new(records.iter().map(read_members).collect()),
            fingerprints,
        }
    }

    pub(crate) fn list(&self) -> Vec<Intent> {
        self.intents.lock().clone()
    }

    /// Remembers a write whose answer was lost.
    pub(crate) fn keep(&self, body: CallBody) {
        let time = Timestamp::now().to_string();
        self.intents.lock().push(Intent { time, body });
    }

    /// Forgets a write that was settled.
    pub(crate) fn remove(&self, call: &str) {
        self.intents.lock().retain(|one| one.body.call != call);
    }

    /// Refuses to repeat what may have been done: a non-idempotent write with the arguments of one whose outcome is
    /// unknown.
    pub(crate) fn check(&self, request: &CallRequest) -> Result<(), Refusal> {
        // A second compile only leaves a second job.
        let repeats = request
            .operation
            .is_none_or(|operation| !operation.idempotent && !operation.compiles());
        if !repeats || !matches!(request.access, Access::Write | Access::Trade) {
            return Ok(());
        }
        let intents = self.intents.lock();
        let mut same = intents
            .iter()
            .map(|one| (&one.time, &one.body))
            .filter(|(_, body)| body.operation == request.name && body.account == request.account())
            .peekable();
        if same.peek().is_none() {
            return Ok(());
        }
        let print = self.fingerprints.of_arguments(&request.arguments);
        let is_same = |body: &CallBody| body.arguments_hmac.as_ref() == Some(&print);
        let Some((time, CallBody { call, .. })) = same.find(|(_, body)| is_same(body)) else {
            return Ok(());
        };
        Err(Refusal::denied(format!(
            "the same call was sent at {time} ({call}), and whether it took effect is unknown; an operator looks with: \
             qchost audit reconcile, and lets it be sent again with: qchost audit reconcile --accept {call}",
        )))
    }

    /// Warns at start of the writes of former runs without an outcome.
    pub(crate) fn warn(&self) {
        let intents = self.intents.lock();
        for Intent { time, body } in intents.iter().take(MAX_WARNED) {
            tracing::warn!(
                target: "gate", call = body.call, plugin = body.plugin, account = body.account, operation = body.operation,
                sent = time,
                "the outcome of a write of a former run is unknown, and it is not sent again before it is known; see: qchost audit reconcile",
            );
        }
        if intents.len() > MAX_WARNED {
            let more = intents.len() - MAX_WARNED;
            tracing::warn!(target: "gate", more, "there are more such writes");
        }
    }
}
