//! Requests for approval: stored in the ledger, recorded, and announced to the calls that wait for them.

use std::sync::Arc;
use std::time::Duration;

use qchost_audit::{Audit, Entry, Kind};
use qchost_ledger::{Approval, Ledger, NewApproval, RequestError};
use serde_json::{Map, Value, json};

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
        let mut body = about(approval);
        body.insert("what".to_owned(), "request".into());
        let project = approval
            .view
            .get("project")
            .filter(|project| !project.is_null());
        if let Some(project) = project {
            body.insert("project".to_owned(), project.clone());
        }
        if let Some(request) = request {
            body.insert("asked-by-call".to_owned(), request.call.as_str().into());
            body.insert(
                "invocation".to_owned(),
                (*request.principal.invocation).into(),
            );
            if let Some(person) = request.principal.person {
                body.insert("person".to_owned(), person.into());
            }
        }
        self.audit.note(Entry {
            kind: Kind::Approval,
            essential: false,
            body,
        });
    }

    /// Records that an approval of a change was asked for, and what it changes.
    pub(crate) fn note_change_request(&self, approval: &Approval, changes: Vec<String>) {
        let mut body = about(approval);
        body.insert("what".to_owned(), "request".into());
        body.insert("detail".to_owned(), json!({ "changes": changes }));
        self.audit.note(Entry {
            kind: Kind::Approval,
            essential: false,
            body,
        });
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
                self.audit.note(Entry {
                    kind: Kind::Approval,
                    essential: false,
                    body,
                });
            }
        }
        self.decided.notify();
    }
}

/// The fields that link the records of one approval.
pub(crate) fn about(approval: &Approval) -> Map<String, Value> {
    let binding = &approval.binding;
    let fields = [
        ("approval", &approval.id),
        ("account", &binding.account),
        ("plugin", &binding.plugin),
        ("operation", &binding.operation),
        ("digest", &binding.digest),
    ];
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.to_owned(), value.as_str().into()))
        .collect()
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
