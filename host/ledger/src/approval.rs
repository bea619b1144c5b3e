//! What an approval is: what was asked for, who decided, and where it stands.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{LedgerError, from_sqlite};

/// What a permit is bound to: another value of any of these is another call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Binding {
    /// The account.
    pub account: String,
    /// Who calls.
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

/// What is to be approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalKind {
    /// A call. To approve it gives a permit.
    Call,
    /// A component that is to serve from now on. To approve it gives no permit: its status says it.
    Component,
    /// A changed manifest, configuration or set of guardrails that is to come into force. To approve it gives no
    /// permit; it is used up when the text comes into force.
    Change,
}

/// A request for an approval.
#[derive(Debug, Clone, PartialEq)]
pub struct NewApproval {
    /// What is to be approved.
    pub kind: ApprovalKind,
    /// What exactly.
    pub binding: Binding,
    /// What the person is shown, rendered by the host.
    pub view: Value,
    /// The call's arguments as JSON, where the view does not hold all of them.
    pub contents: Option<String>,
    /// Whether a running invocation asks for it, and who invoked the plugin was not told of it yet.
    pub untold: bool,
    /// How many persons must say yes: 1 or 2.
    pub needs: u8,
    /// The uid of who asked for the invocation, if a person did.
    pub requester: Option<u32>,
    /// The uids of others who may not be one of the two where two must say yes. Those who come with a later request
    /// for the same are added.
    pub interested: Vec<u32>,
    /// The same of those who asked for what it was found by, if it is not asked for already.
    pub askers: Vec<u32>,
    /// The scope that a standing permit would have.
    pub scope: Value,
    /// What it costs, in 1/10000 dollar: a permit for the one call covers no more.
    pub cost: u64,
    /// The hash of the source that it would run, where it deploys one that is known.
    pub source: Option<String>,
    /// Unix time in milliseconds.
    pub now: i64,
    /// Until when it can be decided, and a refusal holds. Unix time in milliseconds.
    pub expires: i64,
}

/// An approval that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Approval {
    /// Its id, `ap-` and ten characters.
    pub id: String,
    /// What is to be approved.
    pub kind: ApprovalKind,
    /// What exactly.
    pub binding: Binding,
    /// What the person is shown; null in lists.
    pub view: Value,
    /// How many persons must say yes.
    pub needs: u8,
    /// The uid of who asked for the invocation, if a person did.
    pub requester: Option<u32>,
    /// The scope that a standing permit would have.
    pub scope: Value,
    /// What it costs, in 1/10000 dollar.
    pub cost: u64,
    /// The hash of the source that it would run, where it deploys one that is known.
    pub source: Option<String>,
    /// When it was asked for. Unix time in milliseconds.
    pub requested: i64,
    /// Until when it can be decided, and a refusal holds. Unix time in milliseconds.
    pub expires: i64,
    /// Where it stands.
    pub status: Status,
    /// Why the host closed it, if it did.
    pub closed: Option<String>,
    /// Who decided what, in the order of time.
    pub decisions: Vec<DecisionBy>,
    /// The uids of those who may not be one of the two where two must say yes, besides the requester.
    pub interested: Vec<u32>,
    /// The permit that it gave.
    pub permit: Option<PermitState>,
}

impl Approval {
    /// Those who said yes and count: where two must say it, the yes of a person who has an interest in it by now does not.
    pub fn yes(&self) -> impl Iterator<Item = &DecisionBy> {
        let said = self.decisions.iter();
        said.filter(|one| one.verdict == Verdict::Approved && !self.is_void(one))
    }

    /// The first yes that does not count, since two must say it and that person has an interest in it by now.
    #[must_use]
    pub fn void(&self) -> Option<&DecisionBy> {
        let mut said = self.decisions.iter();
        said.find(|one| one.verdict == Verdict::Approved && self.is_void(one))
    }

    fn is_void(&self, decision: &DecisionBy) -> bool {
        self.needs >= 2 && self.interested.contains(&decision.uid)
    }

    /// When what it stands for ends: the permit, where it gave one, or else the time to decide.
    #[must_use]
    pub fn ends(&self) -> i64 {
        self.permit
            .as_ref()
            .map_or(self.expires, |permit| permit.expires)
    }
}

/// What is left of an approval's permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PermitState {
    /// Its id, `pm-…`.
    pub id: String,
    /// Whether it is for any call of its operation and scope, or for one call only.
    pub standing: bool,
    /// How often it may still be used.
    pub uses_left: u32,
    /// What its calls may still cost, in 1/10000 dollar; no limit if absent.
    pub cost_left: Option<u64>,
    /// Until when, Unix time in milliseconds.
    pub expires: i64,
    /// Who took it back, if it was.
    pub revoked_by: Option<String>,
}

/// Which approvals are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Those too that do not wait for a decision.
    pub all: bool,
    /// Those that were asked for later than this one.
    pub after: Option<String>,
    /// The most that are listed at once.
    pub limit: u32,
}

/// Approvals, oldest first and without their views.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalPage {
    /// The approvals.
    pub approvals: Vec<Approval>,
    /// How many more there are after these.
    pub more: u64,
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nobody, or not everybody who must, has decided.
    Pending,
    /// Approved, and its permit can be used.
    Approved,
    /// Refused.
    Refused,
    /// Not decided in time, or its permit has expired.
    Expired,
    /// Approved, and its permit is used up; of a change, that it came into force.
    Used,
    /// Approved, and a person took the permit, or the yes to a change, back.
    Revoked,
    /// Closed by the host before it was decided or used: what asked for it is gone.
    Closed,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
        })
    }
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecisionBy {
    /// The person's uid.
    pub uid: u32,
    /// The person's name.
    pub name: String,
    /// When. Unix time in milliseconds.
    pub at: i64,
    /// Yes or no.
    pub verdict: Verdict,
    /// Why; empty for a yes.
    pub reason: String,
    /// The standing permit that this person would give; a permit for the one call if absent.
    pub standing: Option<Standing>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Yes.
    Approved,
    /// No.
    Refused,
}

/// A permit for more than one call: any of the same account, plugin, digest, operation and scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// How many calls.
    pub uses: u32,
    /// Until when. Unix time in milliseconds.
    pub until_ms: i64,
    /// What all of them may cost together, in 1/10000 dollar; no limit if absent.
    pub max_cost: Option<u64>,
}

impl Standing {
    /// What two persons agree on: the smaller of each.
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

/// Why an approval could not be asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The plugin has too many that nobody decided.
    #[error(
        "{plugin} has {limit} approvals that wait for a decision, and may not ask for more: decide some with `qchost approvals`"
    )]
    TooManyPending {
        /// The plugin.
        plugin: String,
        /// How many it may have.
        limit: u32,
    },
    /// What the plugin wants approved is too much for its quota.
    #[error(
        "what {plugin} wants approved has {bytes} bytes, and with {waiting} bytes that wait for a decision that is more than {limit}: decide some with `qchost approvals`, or have it ask for less at once"
    )]
    TooLarge {
        /// The plugin.
        plugin: String,
        /// What this one has.
        bytes: u64,
        /// What waits already.
        waiting: u64,
        /// How much may wait.
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
    /// There is no such approval.
    #[error("there is no approval {0}; `qchost approvals list` shows those that wait")]
    Unknown(
        /// The id.
        String,
    ),
    /// It was decided already, or too late.
    #[error("this approval waits for no decision any more: it is {0}")]
    NotPending(
        /// Where it stands.
        Status,
    ),
    /// There is no permit, and no yes to a change, that could be taken back.
    #[error(
        "this approval gives nothing that could still be used, so there is nothing to revoke: it is {0}"
    )]
    NothingToRevoke(
        /// Where it stands.
        Status,
    ),
    /// Who asked for it may not be one of the two who say yes.
    #[error(
        "this approval needs two persons other than the one who asked for it, and that was you"
    )]
    Requester,
    /// Who owns what changed, or asked for it to be taken over, may not be one of the two who say yes.
    #[error(
        "this approval needs two persons other than the owners of the changed files and those who asked for the reload, and you are one of them"
    )]
    Interested,
    /// One person cannot be two.
    #[error("you have approved this already; it needs a second person")]
    SamePerson,
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

from_sqlite!(ApprovalError);
