//! Requests for approval: stored in the ledger, recorded, and announced to the calls that wait for them.
//!
//! Invariant: a request that is open is stored and recorded once, however often it is made.

use std::sync::Arc;
use std::time::Duration;

use qchost_audit::Audit;
use qchost_ledger::{Approval, Ledger, NewApproval, RequestError};

use crate::action::ApprovalStep;
use crate::approval_scope::CallScope;
use crate::body::{ApprovalBody, ApprovalDetail, Project};
use crate::call::CallRequest;
use crate::change_signal::ChangeSignal;
use crate::clock::now;
use crate::policy_store::PolicyStore;

/// Requests approvals.
pub(crate) struct ApprovalRequests {
    ledger: Ledger,
    audit: Audit,
    policies: Arc<PolicyStore>,
    /// Announces every decision about an approval, and its closing.
    pub decided: ChangeSignal,
}

impl ApprovalRequests {
    pub(crate) fn new(ledger: Ledger, audit: Audit, policies: Arc<PolicyStore>) -> Self {
        Self {
            ledger,
            audit,
            policies,
            decided: ChangeSignal::default(),
        }
    }

    /// When a request that is made now expires. Unix time in milliseconds.
    pub(crate) fn expiry(&self) -> i64 {
        now().saturating_add(milliseconds(self.policies.settings().approval_ttl))
    }

    /// How many people have to approve a change of what is in force.
    pub(crate) fn approvers(&self) -> u8 {
        if self.policies.settings().two_person {
            2
        } else {
            1
        }
    }

    /// The approval that was requested before for the same, or a new one; `by` is the call that requests it.
    pub(crate) async fn request(
        &self,
        new: NewApproval,
        by: Option<&CallRequest>,
    ) -> Result<Approval, RequestError> {
        let requested = new.now;
        let approval = self.ledger.request_approval(new).await?;
        if approval.requested == requested {
            self.note_request(&approval, by);
        }
        Ok(approval)
    }

    /// Records that an approval was requested, and by which call.
    fn note_request(&self, approval: &Approval, request: Option<&CallRequest>) {
        let CallScope { project, name, .. } = CallScope::of(approval);
        let body = ApprovalBody {
            what: ApprovalStep::Request.word().to_owned(),
            project: project.map(|id| Project { id, name }),
            asked_by_call: request.map(|request| request.call.clone()),
            invocation: request.map(|request| request.principal.invocation.to_string()),
            person: request.and_then(|request| request.principal.person),
            ..about(approval)
        };
        self.audit.note(body.entry());
    }

    /// Records that an approval of a change was asked for, and what it changes.
    pub(crate) fn note_change_request(&self, approval: &Approval, changes: Vec<String>) {
        let body = ApprovalBody {
            what: ApprovalStep::Request.word().to_owned(),
            detail: Some(ApprovalDetail::Changes { changes }),
            ..about(approval)
        };
        self.audit.note(body.entry());
    }

    /// Records that the host closed approvals, and wakes the calls that wait for them.
    pub(crate) fn note_closed(&self, closed: Vec<String>, why: &str) {
        if closed.is_empty() {
            return;
        }
        for id in closed {
            tracing::info!(target: "gate", approval = id, why, "closed");
            let body = ApprovalBody {
                what: ApprovalStep::Close.word().to_owned(),
                approval: id.clone(),
                detail: Some(ApprovalDetail::Refuse {
                    approval: Some(id),
                    reason: why.to_owned(),
                }),
                ..ApprovalBody::default()
            };
            self.audit.note(body.entry());
        }
        self.decided.notify();
    }
}

/// The members that link the records of one approval.
pub(crate) fn about(approval: &Approval) -> ApprovalBody {
    let binding = &approval.binding;
    ApprovalBody {
        approval: approval.id.clone(),
        account: Some(binding.account.clone()),
        plugin: Some(binding.plugin.clone()),
        operation: Some(binding.operation.clone()),
        digest: Some(binding.digest.clone()),
        ..ApprovalBody::default()
    }
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
