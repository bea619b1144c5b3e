//! Which running invocations have requested which approvals.
//!
//! The client that invoked a plugin learns of pending approvals when the invocation ends, and retries once they are
//! decided. The client of an invocation that is cut off never learns of them, so they are closed: no approver is asked
//! about a call that will not be retried.
//!
//! Invariant: an approval is closed only if no other invocation has requested it and no client was told of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use qchost_ledger::Ledger;
use tokio_util::task::TaskTracker;

use crate::approval_requests::ApprovalRequests;
use crate::call::Principal;
use crate::clock::now;

/// Reason for closing an approval whose invocation was cut off.
const INVOCATION_ABORTED: &str =
    "the invocation that asked for it was cut off before a decision was made";
/// Reason for closing an approval of a former run.
const HOST_STOPPED: &str = "the host ended while the invocation that asked for it was running";

/// The approvals that running invocations have requested.
pub(crate) struct InvocationApprovals {
    by_invocation: Mutex<HashMap<Arc<str>, BTreeSet<String>>>,
    ledger: Ledger,
    requests: Arc<ApprovalRequests>,
    tasks: TaskTracker,
}

impl InvocationApprovals {
    pub(crate) fn new(ledger: Ledger, requests: Arc<ApprovalRequests>, tasks: TaskTracker) -> Self {
        Self {
            by_invocation: Mutex::default(),
            ledger,
            requests,
            tasks,
        }
    }

    /// Notes that an invocation has requested an approval.
    pub(crate) fn note(&self, invocation: &Arc<str>, approval: &str) {
        let mut by_invocation = self.by_invocation.lock();
        let approvals = by_invocation.entry(Arc::clone(invocation)).or_default();
        approvals.insert(approval.to_owned());
    }

    /// Removes an invocation. Returns all its approvals, and those of them that no other invocation has requested.
    fn take(&self, invocation: &str) -> (Vec<String>, Vec<String>) {
        let mut by_invocation = self.by_invocation.lock();
        let Some(own) = by_invocation.remove(invocation) else {
            return Default::default();
        };
        let alone = own
            .iter()
            .filter(|one| !by_invocation.values().any(|other| other.contains(*one)));
        let alone = alone.cloned().collect();
        (own.into_iter().collect(), alone)
    }

    /// Called when an invocation ends: in order, so that its client learns of its pending approvals, or cut off.
    pub(crate) fn ended(self: &Arc<Self>, principal: &Principal, in_order: bool) {
        let (all, alone) = self.take(&principal.invocation);
        if all.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (own, plugin) = (Arc::clone(self), Arc::clone(&principal.plugin));
        self.tasks.spawn(async move {
            if in_order {
                if let Err(error) = own.ledger.mark_approvals_announced(all).await {
                    tracing::warn!(target: "gate", %plugin, %error, "approvals will be closed when the host starts again");
                }
            } else {
                own.close_orphans(Some(alone), INVOCATION_ABORTED).await;
            }
        });
    }

    /// Closes the approvals that invocations of former runs requested.
    pub(crate) async fn close_former(&self) {
        self.close_orphans(None, HOST_STOPPED).await;
    }

    async fn close_orphans(&self, ids: Option<Vec<String>>, why: &str) {
        let closed = match self.ledger.close_approvals(ids, why, now()).await {
            Ok(closed) => closed,
            Err(error) => {
                tracing::error!(target: "gate", %error, "approvals without a waiting invocation cannot be closed");
                return;
            }
        };
        self.requests.note_closed(closed, why);
    }
}
