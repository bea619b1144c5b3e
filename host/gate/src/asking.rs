//! Which running invocations have requested which approvals.
//!
//! The client that invoked a plugin learns of pending approvals when the invocation ends, and retries once they are
//! decided. The client of an invocation that is cut off never learns of them, so they are closed: no approver is asked
//! about a call that will not be retried.
//!
//! Invariant: an approval is closed only if no other invocation has requested it and no client was told of it.

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use qchost_audit::{Entry, Kind};
use serde_json::{Value, json};

use crate::ask::Caller;
use crate::gate::{Gate, now};

/// Reason for closing an approval whose invocation was cut off.
const CUT_OFF: &str = "the invocation that asked for it was cut off before a decision was made";
/// Reason for closing an approval of a former run.
const HOST_ENDED: &str = "the host ended while the invocation that asked for it was running";

/// Requested approvals by invocation.
#[derive(Debug, Default)]
pub(crate) struct Asking(Mutex<HashMap<Arc<str>, BTreeSet<String>>>);

impl Asking {
    /// Notes that an invocation has requested an approval.
    pub(crate) fn note(&self, invocation: &Arc<str>, approval: &str) {
        let mut asking = self.0.lock();
        let approvals = asking.entry(Arc::clone(invocation)).or_default();
        approvals.insert(approval.to_owned());
    }

    /// Removes an invocation. Returns all its approvals, and those of them that no other invocation has requested.
    fn take(&self, invocation: &str) -> (Vec<String>, Vec<String>) {
        let mut asking = self.0.lock();
        let Some(own) = asking.remove(invocation) else {
            return Default::default();
        };
        let alone = own
            .iter()
            .filter(|one| !asking.values().any(|other| other.contains(*one)));
        let alone = alone.cloned().collect();
        (own.into_iter().collect(), alone)
    }
}

impl Gate {
    /// Called when an invocation ends: in order, so that its client learns of its pending approvals, or cut off.
    pub fn invocation_ended(&self, caller: &Caller, in_order: bool) {
        let (all, alone) = self.0.asking.take(&caller.invocation);
        if all.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (gate, plugin) = (self.clone(), Arc::clone(&caller.plugin));
        self.spawn(async move {
            if in_order {
                if let Err(error) = gate.0.ledger.told_of_approvals(all).await {
                    tracing::warn!(target: "gate", %plugin, %error, "approvals will be closed when the host starts again");
                }
            } else {
                gate.close_orphans(Some(alone), CUT_OFF).await;
            }
        });
    }

    /// Closes the approvals that invocations of former runs requested.
    pub(crate) async fn close_former_orphans(&self) {
        self.close_orphans(None, HOST_ENDED).await;
    }

    async fn close_orphans(&self, ids: Option<Vec<String>>, why: &str) {
        let closed = match self.0.ledger.close_approvals(ids, why, now()).await {
            Ok(closed) => closed,
            Err(error) => {
                tracing::error!(target: "gate", %error, "approvals without a waiting invocation cannot be closed");
                return;
            }
        };
        self.note_closed(closed, why);
    }

    /// Records that the host closed approvals, and wakes the calls that wait for them.
    pub(crate) fn note_closed(&self, closed: Vec<String>, why: &str) {
        if closed.is_empty() {
            return;
        }
        for id in closed {
            tracing::info!(target: "gate", approval = id, why, "closed");
            let body = json!({ "what": "close", "approval": id, "detail": { "approval": id, "reason": why } });
            if let Value::Object(body) = body {
                self.audit().note(Entry {
                    kind: Kind::Approval,
                    essential: false,
                    body,
                });
            }
        }
        self.0
            .decided
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}
