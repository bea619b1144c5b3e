//! Requests of plugins that people decide.
//!
//! The host shows what it resolved itself: the project by name, the cost, the hash of the source that it compiled, how that
//! differs from what was approved before, and the contents of files and objects.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use qchost_gate::CallScope;
use qchost_ledger::{
    Approval, ApprovalFilter, ApprovalKind, ApprovalVote, PermitState, StandingPermit, Status,
    Subject,
};
use qchost_policy::{Dollars, Person, Right, Usd};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules::{Handler, Rules};
use crate::host::Host;
use crate::in_force;
use crate::reports::Reports;

const READ_BACK: &str = "qchost approvals list --all";

/// Lists the pending approvals, or all of them, one page at a time.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct ListApprovals {
    /// Include approvals that are decided, used or expired.
    #[arg(long)]
    pub all: bool,
    /// Only approvals requested later than this one.
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// Page size.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Shows one approval with the contents of its call.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct ShowApproval {
    /// The approval.
    pub id: String,
    /// Which page of a changed manifest, configuration or set of guardrails that is too long for one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub page: u32,
}

/// Approves a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    pub id: String,
    /// Set to permit several calls instead of one.
    pub standing: Option<StandingRequest>,
}

/// The scope of a standing permit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandingRequest {
    /// Maximum number of calls.
    pub uses: u32,
    /// Validity in milliseconds.
    pub for_ms: u64,
    /// Maximum total cost in 1/10000 dollar.
    pub max_cost: Option<u64>,
}

/// Revokes a permit, or the approval of a change.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The approval, or its permit.
    pub id: String,
}

/// Refuses a request.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    /// The approval.
    pub id: String,
    /// The reason; the plugin is told.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// A page of approvals.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApprovalsPage {
    pub approvals: Vec<ApprovalRow>,
    /// The number of approvals after these.
    pub more: u64,
}

/// An approval as people see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ApprovalRow {
    pub id: String,
    pub status: Status,
    pub kind: ApprovalKind,
    pub account: String,
    pub plugin: String,
    /// The digest of the component.
    pub digest: String,
    pub operation: String,
    /// The project's name.
    pub project: Option<String>,
    pub cost_usd: Dollars,
    /// The number of people who have to approve.
    pub needs: u8,
    pub requester: Option<String>,
    pub requested: Option<Timestamp>,
    /// When it can no longer be decided, or when its permit ends.
    pub expires: Option<Timestamp>,
    /// Why the host closed it, if it did.
    pub closed: Option<String>,
    pub decisions: Vec<DecisionRow>,
    /// The number of approvals that count.
    pub said_yes: usize,
    /// Who may not be one of two approvers, besides the requester.
    pub not_by: Vec<String>,
    pub permit: Option<PermitRow>,
    /// What was resolved when it was requested, as a document to read.
    pub view: Value,
    /// What the call would write, as a document to read; only if one approval is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Value>,
}

/// A person's decision.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DecisionRow {
    pub by: String,
    pub uid: u32,
    pub at: Option<Timestamp>,
    pub verdict: ApprovalVote,
    /// Empty for an approval.
    pub reason: String,
}

/// What is left of a permit.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PermitRow {
    pub id: String,
    /// Whether it covers any call of its operation and scope, or a single call only.
    pub standing: bool,
    pub uses_left: u32,
    pub money_left_usd: Option<Dollars>,
    pub expires: Option<Timestamp>,
    pub revoked_by: Option<String>,
}

impl Handler for ListApprovals {
    type Answer = ApprovalsPage;
    const RULES: Rules = Rules::reads(Right::ListApprovals);

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<ApprovalsPage> {
        let Self { all, after, limit } = self;
        if let Some(after) = &after {
            let found = host.gate.approvals.get(after).await?;
            found.with_context(|| format!("--after {after}: there is no such approval"))?;
        }
        let filter = ApprovalFilter { all, after, limit };
        let page = host.gate.approvals.list(filter).await?;
        let described = page.approvals.into_iter();
        Ok(ApprovalsPage {
            approvals: described.map(|approval| describe(host, approval)).collect(),
            more: page.more,
        })
    }
}

impl Handler for ShowApproval {
    type Answer = ApprovalRow;
    const RULES: Rules = Rules::reads(Right::ListApprovals);

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<ApprovalRow> {
        let Self { id, page } = self;
        let shown = host.gate.viewer.show(&id, page).await?;
        let (approval, contents) = shown.with_context(|| {
            format!("there is no approval `{id}`; list them: qchost approvals list --all")
        })?;
        Ok(ApprovalRow {
            contents: Some(contents),
            ..describe(host, approval)
        })
    }
}

impl Handler for Approve {
    type Answer = ApprovalRow;
    const RULES: Rules = Rules::acts(Right::Approve, READ_BACK);

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<ApprovalRow> {
        let now = Timestamp::now().as_millisecond();
        let standing = match self.standing {
            None => None,
            Some(standing) => Some(StandingPermit {
                uses: standing.uses,
                until_ms: now
                    .checked_add_unsigned(standing.for_ms)
                    .context("--for: too long")?,
                max_cost: standing.max_cost,
            }),
        };
        let approvals = &host.gate.approvals;
        let proposed = approvals.proposed(&self.id, Subject::Configuration).await?;
        if let Some(proposed) = proposed {
            let current = host.current();
            in_force::check_proposed(&proposed, &current.config, &current.guardrails)?;
        }
        let approval = approvals.approve(&self.id, person, standing).await?;
        // It may be a component that awaited it.
        if let Some(follower) = host.follower() {
            follower.look();
        }
        Ok(describe(host, approval))
    }
}

impl Handler for Revoke {
    type Answer = ApprovalRow;
    // The right to refuse includes the right to revoke.
    const RULES: Rules = Rules::acts(Right::Refuse, READ_BACK);

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<ApprovalRow> {
        let approval = host.gate.approvals.revoke(&self.id, person).await?;
        Ok(describe(host, approval))
    }
}

impl Handler for Refuse {
    type Answer = ApprovalRow;
    const RULES: Rules = Rules::acts(Right::Refuse, READ_BACK);

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<ApprovalRow> {
        let approval = host
            .gate
            .approvals
            .refuse(&self.id, person, &self.reason)
            .await?;
        Ok(describe(host, approval))
    }
}

fn instant(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

fn describe(host: &Host, approval: Approval) -> ApprovalRow {
    let decisions = approval.decisions.iter().map(|decision| DecisionRow {
        by: decision.name.clone(),
        uid: decision.uid,
        at: instant(decision.at),
        verdict: decision.verdict,
        reason: decision.reason.clone(),
    });
    let not_by = match approval.needs {
        0 | 1 => Vec::new(),
        _ => {
            let uids = approval.interested.iter();
            uids.map(|uid| host.name_of(*uid)).collect()
        }
    };
    ApprovalRow {
        status: approval.status,
        kind: approval.kind,
        project: CallScope::of(&approval).name,
        cost_usd: Dollars(Usd(approval.cost)),
        needs: approval.needs,
        requester: approval.requester.map(|uid| host.name_of(uid)),
        requested: instant(approval.requested),
        expires: instant(approval.ends()),
        decisions: decisions.collect(),
        said_yes: approval.yes().count(),
        not_by,
        permit: approval.permit.as_ref().map(permit),
        id: approval.id,
        account: approval.binding.account,
        plugin: approval.binding.plugin,
        digest: approval.binding.digest,
        operation: approval.binding.operation,
        closed: approval.closed,
        view: approval.view,
        contents: None,
    }
}

fn permit(permit: &PermitState) -> PermitRow {
    PermitRow {
        id: permit.id.clone(),
        standing: permit.standing,
        uses_left: permit.uses_left,
        money_left_usd: permit.cost_left.map(|left| Dollars(Usd(left))),
        expires: instant(permit.expires),
        revoked_by: permit.revoked_by.clone(),
    }
}
