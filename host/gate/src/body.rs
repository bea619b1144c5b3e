//! The bodies of audit records, one type for each subject: the gate writes them, and what reads the audit reads them as the
//! same types.
//!
//! Invariant: a body holds no more than was written. What is unknown is left out, except where a field says that it is
//! `null`. Records of other versions can be read too: members that are missing, unknown or of another form are left out,
//! and a record of an unknown kind keeps its members as they are.

use std::collections::BTreeSet;

use qchost_audit::{Entry, Kind, Record, read_members};
use qchost_ledger::StandingPermit;
use qchost_policy::{Person, Right};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use strum::{IntoEnumIterator as _, VariantArray as _};

use crate::action::{AdminAction, ApprovalStep, denial};

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Body {
    /// A call, or a request to another host or to a folder: its refusal, its intent, or how it ended.
    Call(Box<CallBody>),
    /// A step of an approval.
    Approval(ApprovalBody),
    /// A halt or its end.
    Halt(HaltBody),
    /// An administrative action.
    Admin(AdminBody),
    /// A change of what is in force.
    Change(Change),
    /// The members of any other record: the audit's own, and those of kinds that this version does not know.
    Other(Map<String, Value>),
}

impl Body {
    /// Reads the body of a record.
    #[must_use]
    pub fn read(record: &Record) -> Self {
        let members = &record.fields;
        match record.kind() {
            Some(
                Kind::Read | Kind::Denied | Kind::Intent | Kind::Outcome | Kind::Lost | Kind::Http,
            ) => Self::Call(read_members(members)),
            Some(Kind::Approval) => Self::Approval(read_members(members)),
            Some(Kind::Halt) => Self::Halt(read_members(members)),
            Some(Kind::Admin) => Self::Admin(read_members(members)),
            Some(Kind::Change) => Change::deserialize(members)
                .map_or_else(|_| Self::Other(members.clone()), Self::Change),
            Some(Kind::Recovered | Kind::Gap | Kind::Rotated | Kind::Retention) | None => {
                Self::Other(members.clone())
            }
        }
    }
}

/// A project, by its id, and by its name if that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Project {
    /// Its id.
    pub id: u32,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What is recorded of a call or of a request to another host. Each record of it has some of the members: who called what,
/// and, depending on its kind, how it was decided and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
pub struct CallBody {
    /// Its id, which all its records have.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin, the operator or the host.
    pub plugin: String,
    /// The digest of the component that called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The invocation that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// The action that was invoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The alias that it was invoked by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The user id of the person who asked for the invocation, or who made the host call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<u32>,
    /// The operation.
    pub operation: String,
    /// The class of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// The project; `null` if `audit reconcile` settled a call that has none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub project: Option<Option<Project>>,
    /// The permit that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit: Option<String>,
    /// The approval that gave the permit, or that it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// The id of its reservation in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// How often it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sends: Option<u32>,
    /// The age of its answer in milliseconds, if the account's cache gave it. Everything else is as if it had been sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_ms: Option<u64>,
    /// The digest of the manifest that decided it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The digest of the changed manifest that had to allow it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_pending: Option<String>,
    /// The digest of the guardrails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrails: Option<String>,
    /// The digest of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// The digest of the changed configuration that had to allow it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_pending: Option<String>,
    /// Its arguments, with digest and length in place of long texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// The keyed digest of its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments_hmac: Option<String>,
    /// `allowed`, or the name of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The number of reads that the host made to decide it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_reads: Option<u32>,
    /// The grants that allowed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// Those of them in the manifest that serves, if a changed one had to allow it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants_serving: Option<Vec<String>>,
    /// Those of them in the changed manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants_pending: Option<Vec<String>>,
    /// The guardrails that forbade it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Why it was refused, or how it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The refused calls that were counted, if this is the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
    /// `answered`, or the name of the failure; `null` in the intent of a call of the host's own.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub outcome: Option<Option<String>>,
    /// The digest of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_hash: Option<String>,
    /// Latency in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// The HTTP status of another host's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the body sent to another host, or of the file written to a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// Bytes of the body received from another host, or of the file read from a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// The deployment that the host stops by this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stops_deployment: Option<StopsDeployment>,
}

/// A member that can be `null` besides being left out.
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    member: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(member).map(Some)
}

/// Refused calls that are recorded by their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repeated {
    /// How many.
    pub calls: u64,
    /// When the first of them was refused.
    pub first: String,
    /// When the last of them was refused.
    pub last: String,
}

/// Why the host stops a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopsDeployment {
    /// The call that deployed it.
    pub call: String,
    /// The reason.
    pub why: String,
}

/// What is recorded of a step of an approval. A step of an id that is no approval of this host has no account, plugin,
/// operation and digest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
pub struct ApprovalBody {
    /// `request`, `approve`, `refuse`, `permit` …
    pub what: String,
    /// Its id.
    pub approval: String,
    /// The account of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The plugin that needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The operation that needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The digest of the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The project of the call that requests it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// The call that requests it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_by_call: Option<String>,
    /// The invocation that requests it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// The user id of the person who decides; for a request, of the person who asked for the invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<u32>,
    /// The name of the person who decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_name: Option<String>,
    /// The permit that it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit: Option<String>,
    /// Further details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<ApprovalDetail>,
}

impl CallBody {
    /// The project, if it is known.
    pub(crate) fn project(&self) -> Option<&Project> {
        self.project.as_ref()?.as_ref()
    }

    /// How it ended, if that is known.
    pub(crate) fn outcome(&self) -> Option<&str> {
        self.outcome.as_ref()?.as_deref()
    }
}

impl ApprovalBody {
    /// Its entry in the audit.
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(Kind::Approval, false, self)
    }
}

/// Details of a step of an approval, by the members that it has: a detail with the members of several of these is the
/// first of them. Further members, which another version may have written, are ignored where no other step is mistaken for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, rename_all_fields = "kebab-case")]
pub enum ApprovalDetail {
    /// Of one that was not decided.
    Failed {
        /// The approval.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approval: Option<String>,
        /// What was attempted: `approve`, `refuse`, `revoke`.
        attempt: String,
        /// Why it failed.
        reason: String,
    },
    /// Of one that is refused, or that the host closed.
    Refuse {
        /// The approval.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approval: Option<String>,
        /// The reason.
        reason: String,
    },
    /// Of one that is approved.
    Approve {
        /// The approval.
        approval: String,
        /// For calls like it, not just the one. Never left out, which tells this from a revocation.
        #[serde(deserialize_with = "Option::deserialize")]
        standing: Option<StandingPermit>,
    },
    /// Of an approval that is revoked.
    Revoke(RevokedApproval),
    /// Of the permit that it gave.
    Permit {
        /// The remaining cost of its calls, in 1/10000 dollar; no limit if absent.
        cost_left: Option<u64>,
        /// Its expiry. Unix time in milliseconds.
        expires: i64,
        /// The remaining number of uses.
        uses_left: u32,
    },
    /// Of a request to bring changes into force.
    Changes {
        /// The changes, one line each.
        changes: Vec<String>,
    },
    /// Of another version.
    Other(Value),
}

/// The detail of a revocation. It has no further members, since with them it could be that of any step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokedApproval {
    /// The approval, or the permit that is revoked.
    pub approval: String,
}

/// What is recorded of a halt or of its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
pub struct HaltBody {
    /// `halt` or `resume`.
    pub what: String,
    /// The account; `null` for all.
    pub account: Option<String>,
    /// The plugin; `null` for all.
    pub plugin: Option<String>,
    /// Why it is halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether positions are closed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liquidate: Option<bool>,
    /// The file that halts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The user id of the person, or of the owner of the file; `null` if that is unknown.
    pub person: Option<u32>,
    /// The name of the person, or of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_name: Option<String>,
}

impl HaltBody {
    /// What the record of a halt says that it is.
    pub(crate) const HALT: &str = "halt";
    /// What the record of a halt's end says that it is.
    pub(crate) const RESUME: &str = "resume";

    /// Its entry in the audit.
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(Kind::Halt, true, self)
    }
}

/// What is recorded of an administrative action, or of one that was denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct AdminBody {
    /// `reload`, `backup`, `denied` …
    pub what: String,
    /// Details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<AdminDetail>,
    /// The user id of the person; absent if the host did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<u32>,
    /// The person's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_name: Option<String>,
}

impl AdminBody {
    /// What is recorded of an action: of a person, or of the host itself.
    #[must_use]
    pub fn new(action: AdminAction, by: Option<&Person>, detail: AdminDetail) -> Self {
        Self {
            what: action.word().to_owned(),
            detail: Some(detail),
            person: by.map(|person| person.uid),
            person_name: by.map(|person| person.name.clone()),
        }
    }

    /// What is recorded of a denial: with the right that the person lacks, or of a user who is no person of the host.
    pub(crate) fn denial(right: Option<Right>, by: &Person, detail: AdminDetail) -> Self {
        Self {
            what: denial(right),
            ..Self::new(AdminAction::Denied, Some(by), detail)
        }
    }
}

/// Details of an administrative action, by the members that it has: a detail with the members of several of these is the
/// first of them. Further members, which another version may have written, are ignored where no other step is mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AdminDetail {
    /// Of the authorization of an account at its server.
    Account {
        /// The account.
        account: String,
        /// When the authorization ends. Never left out, which tells this from other details about accounts.
        #[serde(deserialize_with = "Option::deserialize")]
        ends: Option<String>,
        /// Why a person was not logged in, or how the account is not as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Why it was denied.
    Denied {
        /// What it was about, such as a plugin. Never left out, which tells this from a failure.
        #[serde(deserialize_with = "Option::deserialize")]
        about: Option<String>,
        /// The reason.
        reason: String,
    },
    /// Why it was not done.
    Failed {
        /// The reason.
        reason: String,
    },
    /// Of a backup.
    Backup {
        /// The folder that it is written to, as text.
        folder: String,
    },
    /// Of a reset of what the emulator of an account keeps.
    EmulatorReset {
        /// The account of the emulator.
        emulator: String,
    },
    /// Of denials that are recorded by their number.
    Denials {
        /// How many.
        count: u64,
        /// When the first of them was made.
        first: String,
        /// When the last of them was made.
        last: String,
        /// The first of them.
        sample: Sample,
    },
    /// Nothing more is known of it.
    Nothing {},
    /// Of another version.
    Other(Value),
}

/// The first of several denials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// What was denied.
    pub what: String,
    /// Details.
    pub detail: Box<AdminDetail>,
}

/// What a change concerns.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumIter, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Subject {
    /// The manifest of a plugin.
    Manifest,
    /// The guardrails.
    Guardrails,
    /// The configuration, without people and profiles.
    Configuration,
    /// The people and their roles.
    People,
    /// Brokerage and data-provider profiles.
    Profiles,
    /// The component that serves a plugin.
    Component,
    /// The component that is adopted to trade for a plugin.
    Adoption,
    /// Whether a plugin is quarantined.
    Quarantine,
    /// Of another version, as recorded.
    #[serde(untagged)]
    #[strum(transparent)]
    Other(String),
}

/// A change of what is in force, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// What it is of.
    #[serde(rename = "what")]
    pub subject: Subject,
    /// The plugin, if it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The account of the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The file or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The user ids of the owners of the files.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub owners: BTreeSet<u32>,
    /// The user ids of the people who asked for the reload that found it; empty if the host found it by itself.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asked_by: BTreeSet<u32>,
    /// Who approved it, if it needed approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The approval that brought it into force, or that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// The digest of the text that was in force before; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_before: Option<String>,
    /// The digest of the text that is in force now; `None` if it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_after: Option<String>,
    /// What was added, widened, changed and removed, one line each.
    #[serde(default)]
    pub difference: Vec<String>,
    /// Whether it was found at a start, so that it happened while no host ran.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_start: bool,
    /// Whether it concerns a changed manifest or configuration that so far only restricts, because its component does
    /// not serve yet or it awaits approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Additional remarks, such as that the new manifest only restricts until its component serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The words that records of this version have for what was done, besides those of denied rights.
#[must_use]
pub fn actions() -> Vec<String> {
    let steps = ApprovalStep::VARIANTS.iter().map(|step| step.word());
    let halts = [HaltBody::HALT, HaltBody::RESUME];
    let admin = AdminAction::VARIANTS.iter().map(|action| action.word());
    let changes = Subject::iter().filter(|subject| !matches!(subject, Subject::Other(_)));
    let words = steps.chain(halts).chain(admin).map(str::to_owned);
    words
        .chain(changes.map(|subject| subject.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_record_is_listed_once() {
        let listed = actions();
        for word in [
            "approve",
            "not decided",
            "request",
            "halt",
            "resume",
            "reload",
            "denied",
            "settings not changed",
            "emulator reset",
            "emulator reset (not done)",
            "recover people",
            "account-login",
            "account-logged-in",
            "account-login-failed",
            "account-logout",
            "account-identity-changed",
            "account-authorization-expiring",
            "account-authorization-ended",
            "manifest",
            "quarantine",
        ] {
            assert!(listed.iter().any(|known| known == word), "{word}");
        }
        let distinct: BTreeSet<_> = listed.iter().collect();
        assert_eq!(distinct.len(), listed.len(), "{listed:?}");
        assert!(!listed.iter().any(String::is_empty), "{listed:?}");
    }
}
