//! People's decisions about approvals, and what follows from them.
//!
//! Invariant: a decision is recorded durably before it is made; that it was not made after all is recorded as well.

use std::sync::Arc;

use qchost_audit::{Audit, AuditError};
use qchost_ledger::{
    Approval, ApprovalError, ApprovalFilter, ApprovalKind, ApprovalPage, Ledger, LedgerError,
    StandingPermit, Status, Subject,
};
use qchost_policy::{Person, Role};
use tokio_util::task::TaskTracker;

use crate::action::ApprovalStep;
use crate::adoption::Adoptions;
use crate::approval_requests::{ApprovalRequests, about, milliseconds};
use crate::approval_scope::{CallScope, ComponentScope};
use crate::body::{ApprovalBody, ApprovalDetail, RevokedApproval};
use crate::clock::now;
use crate::policy_store::PolicyStore;
use crate::proposal::Changed;

/// Why an approval was not decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The approval is not in a state that allows the decision.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// Changing the rules needs a stronger role than approving calls.
    #[error(
        "{0} may not decide about a change of the files: that needs the role admin in the configuration in force"
    )]
    NotAdmin(
        /// The name of the person.
        String,
    ),
    /// The host itself failed.
    #[error("the host failed in the middle of it; look at the approval before you try again")]
    Failed,
    /// It is unknown what code would run with real money.
    #[error(
        "what this deployment would run is not known, since its files are not kept any more, and real money is at stake: refuse it, and have the project compiled again"
    )]
    UnknownSource,
    /// The decision cannot be recorded, so it was not made.
    #[error("the decision cannot be recorded, so it was not made: {0}")]
    Audit(#[from] AuditError),
}

/// Decides about approvals.
pub struct Approvals {
    pub(crate) ledger: Ledger,
    pub(crate) audit: Audit,
    pub(crate) policies: Arc<PolicyStore>,
    pub(crate) requests: Arc<ApprovalRequests>,
    pub(crate) adoptions: Arc<Adoptions>,
    pub(crate) tasks: TaskTracker,
}

impl Approvals {
    /// A page of the approvals that are pending, or of all approvals.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn list(&self, filter: ApprovalFilter) -> Result<ApprovalPage, LedgerError> {
        self.ledger.approvals(filter, now()).await
    }

    /// The components that await approval, as pairs of plugin and approval id.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn waiting_components(&self) -> Result<Vec<(String, String)>, LedgerError> {
        self.ledger.waiting_components(now()).await
    }

    /// One approval.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn get(&self, id: &str) -> Result<Option<Approval>, LedgerError> {
        self.ledger.approval(id, now()).await
    }

    /// The text that a change of a subject would bring into force, as it was when it was asked for; `None` if the approval is
    /// for something else, or can no longer be decided.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn proposed(
        &self,
        id: &str,
        subject: Subject,
    ) -> Result<Option<String>, LedgerError> {
        let is_asked = |approval: &Approval| {
            approval.kind == ApprovalKind::Change
                && approval.status == Status::Pending
                && approval.binding.operation == subject.word()
        };
        if !self.get(id).await?.as_ref().is_some_and(is_asked) {
            return Ok(None);
        }
        let contents = self.ledger.approval_contents(id).await?;
        let changed = contents.map(|text| serde_json::from_str::<Changed>(&text));
        let changed = changed.transpose();
        let changed = changed.map_err(|error| LedgerError::Content {
            location: "approval_contents.arguments",
            why: error.to_string(),
        })?;
        Ok(changed.map(|changed| changed.now))
    }

    /// Revokes the permit that an approval gave, or the approval of a change that is not in force yet. `id` is
    /// that of the approval or of the permit.
    ///
    /// # Errors
    /// When there is nothing to revoke.
    pub async fn revoke(self: &Arc<Self>, id: &str, by: &Person) -> Result<Approval, DecideError> {
        let (approvals, id, by) = (Arc::clone(self), id.to_owned(), by.clone());
        let revoking = async move {
            let detail = ApprovalDetail::Revoke(RevokedApproval {
                approval: id.clone(),
            });
            approvals
                .record_decision(&by, ApprovalStep::Revoke, &id, detail)
                .await?;
            let revoked = approvals.ledger.revoke(&id, &by.name, now()).await;
            approvals
                .noted(&by, &id, ApprovalStep::Revoke, revoked)
                .await
        };
        self.to_its_end(revoking).await
    }

    /// Runs detached, so that cancelling the caller does not abort what comes with a decision, and announces the decision
    /// in any case: it may be in the ledger although a later step failed.
    async fn to_its_end(
        &self,
        decide: impl Future<Output = Result<Approval, DecideError>> + Send + 'static,
    ) -> Result<Approval, DecideError> {
        let requests = Arc::clone(&self.requests);
        let deciding = self.tasks.spawn(async move {
            let decided = decide.await;
            requests.decided.notify();
            decided
        });
        deciding.await.unwrap_or(Err(DecideError::Failed))
    }

    /// Approves a request: for the one call, or, with `standing`, for calls like it.
    ///
    /// # Errors
    /// When it is not pending, or this person may not decide it.
    pub async fn approve(
        self: &Arc<Self>,
        id: &str,
        by: &Person,
        standing: Option<StandingPermit>,
    ) -> Result<Approval, DecideError> {
        let (approvals, id, by) = (Arc::clone(self), id.to_owned(), by.clone());
        self.to_its_end(async move { approvals.decide_yes(&id, &by, standing).await })
            .await
    }

    async fn decide_yes(
        &self,
        id: &str,
        by: &Person,
        standing: Option<StandingPermit>,
    ) -> Result<Approval, DecideError> {
        self.check_source(id).await?;
        let detail = ApprovalDetail::Approve {
            approval: id.to_owned(),
            standing,
        };
        self.record_decision(by, ApprovalStep::Approve, id, detail)
            .await?;
        let approval = self.get(id).await.map_err(ApprovalError::Ledger)?;
        let changes = approval.is_some_and(|approval| approval.kind == ApprovalKind::Change);
        if changes && !by.roles.contains(&Role::Admin) {
            let error = DecideError::NotAdmin(by.name.clone());
            self.record_failure(by, ApprovalStep::Approve, id, &error)
                .await?;
            return Err(error);
        }
        let expires = now().saturating_add(milliseconds(self.policies.settings().permit_ttl));
        let ledger = &self.ledger;
        let approved = ledger
            .approve(id, by.uid, &by.name, standing, expires, now())
            .await;
        let approval = self.noted(by, id, ApprovalStep::Approve, approved).await?;
        if approval.status == Status::Approved {
            let permit = ledger.permit_of(id).await.map_err(ApprovalError::Ledger)?;
            if let Some(permit) = permit {
                let body = ApprovalBody {
                    permit: Some(permit.id),
                    detail: Some(ApprovalDetail::Permit {
                        cost_left: permit.cost_left,
                        expires: permit.expires,
                        uses_left: permit.uses_left,
                    }),
                    ..about(&approval)
                };
                self.record(by, ApprovalStep::Permit, body).await?;
            }
            self.follow_approval(&approval, by)
                .await
                .map_err(ApprovalError::Ledger)?;
        }
        Ok(approval)
    }

    /// Checks that the source which a deployment would run with real money can be shown; without that it cannot
    /// be approved.
    async fn check_source(&self, id: &str) -> Result<(), DecideError> {
        let ledger = &self.ledger;
        let approval = ledger.approval(id, now()).await;
        let approval = approval.map_err(ApprovalError::Ledger)?;
        let Some(approval) = approval else {
            return Ok(());
        };
        match &approval.source {
            Some(hash) if CallScope::of(&approval).live => {
                let source = ledger.source(hash).await.map_err(ApprovalError::Ledger)?;
                source.map(drop).ok_or(DecideError::UnknownSource)
            }
            _ => Ok(()),
        }
    }

    /// Records that a decision was not made; otherwise the record of the attempt would read as if it were.
    async fn noted(
        &self,
        by: &Person,
        id: &str,
        attempt: ApprovalStep,
        decided: Result<Approval, ApprovalError>,
    ) -> Result<Approval, DecideError> {
        if let Err(error) = &decided {
            self.record_failure(by, attempt, id, error).await?;
        }
        Ok(decided?)
    }

    async fn record_failure(
        &self,
        by: &Person,
        attempt: ApprovalStep,
        id: &str,
        error: &(impl ToString + Sync),
    ) -> Result<(), DecideError> {
        let detail = ApprovalDetail::Failed {
            approval: Some(id.to_owned()),
            attempt: attempt.word().to_owned(),
            reason: error.to_string(),
        };
        self.record_decision(by, ApprovalStep::NotDecided, id, detail)
            .await
    }

    /// Records a person's decision about an approval and what the approval is for.
    async fn record_decision(
        &self,
        by: &Person,
        what: ApprovalStep,
        id: &str,
        detail: ApprovalDetail,
    ) -> Result<(), DecideError> {
        let approval = self.ledger.approval(id, now()).await;
        let approval = approval.map_err(ApprovalError::Ledger)?;
        // An id that is not an approval of this host is recorded as it was given.
        let named = || ApprovalBody {
            approval: id.to_owned(),
            ..ApprovalBody::default()
        };
        let body = ApprovalBody {
            detail: Some(detail),
            ..approval.as_ref().map_or_else(named, about)
        };
        Ok(self.record(by, what, body).await?)
    }

    async fn record(
        &self,
        by: &Person,
        what: ApprovalStep,
        body: ApprovalBody,
    ) -> Result<(), AuditError> {
        let body = ApprovalBody {
            what: what.word().to_owned(),
            person: Some(by.uid),
            person_name: Some(by.name.clone()),
            ..body
        };
        self.audit.record(body.entry()).await.map(drop)
    }

    /// Applies what an approval implies: adopts a component, approves a source.
    async fn follow_approval(&self, approval: &Approval, by: &Person) -> Result<(), LedgerError> {
        let Approval {
            kind,
            binding,
            source,
            ..
        } = approval;
        match kind {
            // Comes into force at the next reload, if the files still ask for it.
            ApprovalKind::Change => Ok(()),
            ApprovalKind::Component => {
                let ComponentScope { imports } = ComponentScope::of(approval);
                self.adoptions
                    .adopt(
                        &binding.account,
                        &binding.plugin,
                        &binding.digest,
                        &imports,
                        &by.name,
                    )
                    .await
            }
            ApprovalKind::Call => match (source, CallScope::of(approval).project) {
                (Some(hash), Some(project)) => {
                    let ledger = &self.ledger;
                    ledger
                        .set_approved_source(&binding.account, project, hash)
                        .await
                }
                _ => Ok(()),
            },
        }
    }

    /// Refuses a request.
    ///
    /// # Errors
    /// When it is not pending.
    pub async fn refuse(
        self: &Arc<Self>,
        id: &str,
        by: &Person,
        reason: &str,
    ) -> Result<Approval, DecideError> {
        let (approvals, id, by) = (Arc::clone(self), id.to_owned(), by.clone());
        let reason = reason.to_owned();
        let refusing = async move {
            let detail = ApprovalDetail::Refuse {
                approval: Some(id.clone()),
                reason: reason.clone(),
            };
            approvals
                .record_decision(&by, ApprovalStep::Refuse, &id, detail)
                .await?;
            let ledger = &approvals.ledger;
            let refused = ledger.refuse(&id, by.uid, &by.name, &reason, now()).await;
            approvals
                .noted(&by, &id, ApprovalStep::Refuse, refused)
                .await
        };
        self.to_its_end(refusing).await
    }
}
