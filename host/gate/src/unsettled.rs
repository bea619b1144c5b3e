//! Writes whose answer was lost: remembered until it is known whether they took effect.
//!
//! Invariant: a non-idempotent write is not repeated as long as the outcome of the same one is unknown.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use qchost_catalog::Access;
use serde_json::{Map, Value};

use crate::call::CallRequest;
use crate::fingerprint::Fingerprints;
use crate::refusal::Refusal;

/// Maximum number of writes that a start warns of individually.
const MAX_WARNED: usize = 20;

/// The record of a write's intent.
pub(crate) type Intent = Map<String, Value>;

/// A text of an intent; empty if it has none of this name.
pub(crate) fn text<'a>(intent: &'a Intent, name: &str) -> &'a str {
    intent.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The writes with an unknown outcome, of this run and of former ones.
pub(crate) struct UnsettledWrites {
    intents: Mutex<Vec<Intent>>,
    fingerprints: Arc<Fingerprints>,
}

impl UnsettledWrites {
    pub(crate) fn new(intents: Vec<Intent>, fingerprints: Arc<Fingerprints>) -> Self {
        Self {
            intents: Mutex::new(intents),
            fingerprints,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Intent>> {
        self.intents.lock()
    }

    pub(crate) fn list(&self) -> Vec<Intent> {
        self.lock().clone()
    }

    /// Remembers a write whose answer was lost.
    pub(crate) fn keep(&self, mut intent: Intent) {
        intent.insert("time".to_owned(), Timestamp::now().to_string().into());
        self.lock().push(intent);
    }

    /// Forgets a write that was settled.
    pub(crate) fn remove(&self, call: &str) {
        self.lock().retain(|one| text(one, "call") != call);
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
        let intents = self.lock();
        let mut same = intents
            .iter()
            .filter(|one| {
                text(one, "operation") == request.name && text(one, "account") == request.account()
            })
            .peekable();
        if same.peek().is_none() {
            return Ok(());
        }
        let print = self.fingerprints.of_arguments(&request.arguments);
        let Some(intent) = same.find(|one| text(one, "arguments-hmac") == print) else {
            return Ok(());
        };
        Err(Refusal::denied(format!(
            "the same call was sent at {} ({call}), and whether it took effect is unknown; an operator looks with: \
             qchost audit reconcile, and lets it be sent again with: qchost audit reconcile --accept {call}",
            text(intent, "time"),
            call = text(intent, "call"),
        )))
    }

    /// Warns at start of the writes of former runs without an outcome.
    pub(crate) fn warn(&self) {
        let intents = self.lock();
        for intent in intents.iter().take(MAX_WARNED) {
            tracing::warn!(
                target: "gate", call = text(intent, "call"), plugin = text(intent, "plugin"), account = text(intent, "account"),
                operation = text(intent, "operation"), sent = text(intent, "time"),
                "the outcome of a write of a former run is unknown, and it is not sent again before it is known; see: qchost audit reconcile",
            );
        }
        if intents.len() > MAX_WARNED {
            let more = intents.len() - MAX_WARNED;
            tracing::warn!(target: "gate", more, "there are more such writes");
        }
    }
}
