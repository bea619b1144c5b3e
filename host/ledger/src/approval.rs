//! The types of approvals: what was requested, who decided, and the current status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{EnumString, IntoStaticStr};

use crate::error::{LedgerError, from_sqlite};

/// What a permit is bound to: a call that differs in any of these needs another permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Binding {
    /// The account.
    pub account: String,
    /// The plugin that calls.
    pub plugin: String,
    /// The hash of its component, `sha256:…`.
    pub digest: String,
    /// The operation, `live/create-live-algorithm`.
    pub operation: String,
    /// The revision of the brokerage profile it uses; empty if none.
    pub profile_revision: String,
    /// HMAC of the canonical, resolved arguments.
    pub arguments_hmac: String,
}

/// The kind of an approval.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ApprovalKind {
    /// A call. Approving it creates a permit.
    Call,
    /// A component that is to serve from now on. Approving it creates no permit; its status is the result.
    Component,
    /// A changed manifest, configuration or set of guardrails that is to come into force. Approving it creates no permit;
    /// it is used up when the text comes into force.
    Change,
}

/// A request for an approval.
#[derive(Debug, Clone, PartialEq)]
pub struct NewApproval {
    /// The kind.
    pub kind: ApprovalKind,
    /// The exact subject.
    pub binding: Binding,
    /// What the approver is shown, rendered by the host.
    pub view: Value,
    /// The call's arguments as JSON, if the view does not contain all of them.
    pub contents: Option<String>,
    /// Whether a running invocation requests it, and its client was not told of it yet.
    pub unannounced: bool,
    /// The number of approvals needed: 1 or 2.
    pub needs: u8,
    /// The uid of the person who asked for the invocation, if any.
    pub requester: Option<u32>,
    /// The uids of others who may not be one of two approvers. Those of later requests for the same are added.
    pub interested: Vec<u32>,
    /// The same for people who asked for the reload that found it, unless it was requested before.
    pub reload_requesters: Vec<u32>,
    /// The scope of a standing permit for it.
    pub scope: Value,
    /// Its cost, in 1/10000 dollar; a permit for the single call covers no more.
    pub cost: u64,
    /// The hash of the source that it would run, if it deploys a known one.
    pub source: Option<String>,
    /// Unix time in milliseconds.
    pub now: i64,
    /// The deadline for a decision, and the end of a refusal. Unix time in milliseconds.
    pub expires: i64,
}

/// A requested approval.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Approval {
    /// Its id, `ap-` and ten characters.
    pub id: String,
    /// The kind.
    pub kind: ApprovalKind,
    /// The exact subject.
    pub binding: Binding,
    /// What the approver is shown; null in lists.
    pub view: Value,
    /// The number of approvals needed.
    pub needs: u8,
    /// The uid of the person who asked for the invocation, if any.
    pub requester: Option<u32>,
    /// The scope of a standing permit for it.
    pub scope: Value,
    /// Its cost, in 1/10000 dollar.
    pub cost: u64,
    /// The hash of the source that it would run, if it deploys a known one.
    pub source: Option<String>,
    /// When it was requested. Unix time in milliseconds.
    pub requested: i64,
    /// The deadline for a decision, and the end of a refusal. Unix time in milliseconds.
    pub expires: i64,
    /// The status.
    pub status: Status,
    /// Why the host closed it, if it did.
    pub closed: Option<String>,
    /// The decisions in order of time.
    pub decisions: Vec<DecisionBy>,
    /// The uids of those who may not be one of two approvers, besides the requester.
    pub interested: Vec<u32>,
    /// The permit it created.
    pub permit: Option<PermitState>,
}

impl Approval {
    /// The approvals that count: if two are needed, that of a person who is involved by now does not.
    pub fn yes(&self) -> impl Iterator<Item = &DecisionBy> {
        let decisions = self.decisions.iter();
        decisions.filter(|one| one.verdict == ApprovalVote::Approved && !self.is_void(one))
    }

    /// The first approval that does not count because two are needed and its person is involved by now.
    #[must_use]
    pub fn void(&self) -> Option<&DecisionBy> {
        let mut decisions = self.decisions.iter();
        decisions.find(|one| one.verdict == ApprovalVote::Approved && self.is_void(one))
    }

    fn is_void(&self, decision: &DecisionBy) -> bool {
        self.needs >= 2 && self.interested.contains(&decision.uid)
    }

    /// When its effect ends: the expiry of the permit, if there is one, otherwise the deadline.
    #[must_use]
    pub fn ends(&self) -> i64 {
        self.permit
            .as_ref()
            .map_or(self.expires, |permit| permit.expires)
    }
}

/// The state of an approval's permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PermitState {
    /// Its id, `pm-…`.
    pub id: String,
    /// Whether it covers any call of its operation and scope, or a single call only.
    pub standing: bool,
    /// The remaining number of uses.
    pub uses_left: u32,
    /// The remaining cost of its calls, in 1/10000 dollar; no limit if absent.
    pub cost_left: Option<u64>,
    /// Its expiry. Unix time in milliseconds.
    pub expires: i64,
    /// The person who revoked it, if it was revoked.
    pub revoked_by: Option<String>,
}

/// Filter and paging of a list of approvals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Whether to include approvals that are not pending.
    pub all: bool,
    /// Only approvals requested later than this one.
    pub after: Option<String>,
    /// Page size.
    pub limit: u32,
}

/// Approvals, oldest first and without their views.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalPage {
    /// The approvals.
    pub approvals: Vec<Approval>,
    /// The number of approvals after these.
    pub more: u64,
}

/// The status of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Status {
    /// Not enough people have decided yet.
    Pending,
    /// Approved, and its permit is valid.
    Approved,
    /// Refused.
    Refused,
    /// Not decided in time, or its permit has expired.
    Expired,
    /// Approved, and its permit is used up; for a change: it came into force.
    Used,
    /// Approved, and a person revoked the permit, or the approval of the change.
    Revoked,
    /// Closed by the host before it was decided or used, because it is no longer needed.
    Closed,
}

/// A person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecisionBy {
    /// The person's uid.
    pub uid: u32,
    /// The person's name.
    pub name: String,
    /// When it was made. Unix time in milliseconds.
    pub at: i64,
    /// The verdict.
    pub verdict: ApprovalVote,
    /// The reason; empty for an approval.
    pub reason: String,
    /// The standing permit that this person grants; a permit for the single call if absent.
    pub standing: Option<StandingPermit>,
}

/// The verdict of a decision.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ApprovalVote {
    /// Approved.
    Approved,
    /// Refused.
    Refused,
}

/// A permit for more than one call: any of the same account, plugin, digest, operation and scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StandingPermit {
    /// Maximum number of calls.
    pub uses: u32,
    /// Its expiry. Unix time in milliseconds.
    pub until_ms: i64,
    /// Maximum total cost, in 1/10000 dollar; no limit if absent.
    pub max_cost: Option<u64>,
}

impl StandingPermit {
    /// The terms that two people agree on: the smaller of each.
    pub(crate) fn narrowest(self, other: Self) -> Self {
        Self {
            uses: self.uses.min(other.uses),
            until_ms: self.until_ms.min(other.until_ms),
            max_cost: match (self.max_cost, other.max_cost) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
        }
    }
}

/// Why an approval could not be requested.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The plugin has too many pending ones.
    #[error(
        "{plugin} has {limit} approvals that wait for a decision, and may not ask for more: decide some of `qchost approvals list`"
    )]
    TooManyPending {
        /// The plugin.
        plugin: String,
        /// The maximum number.
        limit: u32,
    },
    /// The requested data exceeds the plugin's quota.
    #[error(
        "what {plugin} wants approved has {bytes} bytes, and with {waiting} bytes that wait for a decision that is more than {limit}: decide some of `qchost approvals list`, or have it ask for less at once"
    )]
    TooLarge {
        /// The plugin.
        plugin: String,
        /// The size of this request in bytes.
        bytes: u64,
        /// The size of the pending requests in bytes.
        waiting: u64,
        /// The quota in bytes.
        limit: u64,
    },
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

from_sqlite!(RequestError);

/// Why a decision could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApprovalError {
    /// There is no approval with this id.
    #[error("there is no approval {0}; `qchost approvals list` shows those that wait")]
    Unknown(String),
    /// It was decided already, or the deadline has passed: its status.
    #[error("this approval waits for no decision any more: it is {0}")]
    NotPending(Status),
    /// There is no permit, and no approval of a change, that could be revoked: the approval's status.
    #[error(
        "this approval gives nothing that could still be used, so there is nothing to revoke: it is {0}"
    )]
    NothingToRevoke(Status),
    /// The person who requested it may not be one of two approvers.
    #[error(
        "this approval needs two persons other than the one who asked for it, and that was you"
    )]
    Requester,
    /// An owner of the changed file, or a person who asked for the reload, may not be one of two approvers.
    #[error(
        "this approval needs two persons other than the owners of the changed files and those who asked for the reload, and you are one of them"
    )]
    Interested,
    /// One person cannot approve twice.
    #[error("you have approved this already; it needs a second person")]
    SamePerson,
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

from_sqlite!(ApprovalError);
