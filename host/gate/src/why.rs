//! Why a call was decided as it was: joins its records with the texts that decided it at that time, the approvers, and
//! the outcome.
//!
//! Invariant: nothing is taken from what is in force now. A text is the one whose digest the record names, or it is
//! reported as missing.

use std::path::Path;
use std::sync::Arc;

use qchost_audit::{AuditError, Files, Filter, Kind, Record, query, read_members};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::ApprovalStep;
use crate::body::{ApprovalBody, ApprovalDetail, CallBody, Change, Project, Subject};
use crate::redacted_text::{grants_in, guardrails_in};
use crate::texts::Texts;

/// Everything known about a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Why {
    /// The call's id.
    pub call: String,
    /// When it was decided.
    pub time: Option<String>,
    /// `allowed`, or the name of the refusal.
    pub decision: Option<String>,
    /// Why it was refused, or how it failed.
    pub reason: Option<String>,
    /// The plugin that called.
    pub plugin: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The operation.
    pub operation: Option<String>,
    /// The class of the operation.
    pub access: Option<String>,
    /// The project, by id and name.
    pub project: Option<Project>,
    /// The arguments as they were recorded.
    pub arguments: Option<Value>,
    /// The invocation that made it.
    pub invocation: Option<String>,
    /// The action that was invoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The alias that it was invoked by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The user id of the person who asked for the invocation.
    pub person: Option<u32>,
    /// The manifest it was decided under.
    pub manifest: Option<TextWhy>,
    /// The changed manifest that had to allow it too, because it did not serve yet or awaited approval.
    pub manifest_pending: Option<TextWhy>,
    /// The grants that allowed it, as they were at the time; of both manifests if a changed one had to allow it too.
    pub grants: Vec<PartWhy>,
    /// The guardrails that were in force.
    pub guardrails: Option<TextWhy>,
    /// The guardrails that forbade it, as they were at the time.
    pub forbidden_by: Vec<PartWhy>,
    /// The configuration that was in force.
    pub configuration: Option<TextWhy>,
    /// The changed configuration that awaited approval and had to allow it too.
    #[serde(default)]
    pub configuration_pending: Option<TextWhy>,
    /// The component that called.
    pub component: Option<TextWhy>,
    /// The approval it needed.
    pub approval: Option<ApprovalWhy>,
    /// The permit it used.
    pub permit: Option<String>,
    /// The id of its reservation in the ledger.
    pub reservation: Option<i64>,
    /// How often it was sent.
    pub sends: Option<u32>,
    /// The age of its answer in milliseconds, if the account's cache gave it.
    pub cached_ms: Option<u64>,
    /// How it ended; `None` if unknown.
    pub outcome: Option<OutcomeWhy>,
    /// The sequence numbers of its records.
    pub records: Vec<u64>,
}

/// A text that was in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TextWhy {
    /// Its digest.
    pub digest: String,
    /// When it came into force, if recorded.
    pub since: Option<String>,
    /// The change that brought it into force.
    pub change: Option<Change>,
    /// The text; omitted for roles that may see differences only.
    pub text: Option<String>,
    /// Why the text is missing.
    pub missing: Option<String>,
}

/// A grant or a guardrail in such a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PartWhy {
    /// The name of the grant, or the id of the guardrail.
    pub name: String,
    /// The digest of the text it is in.
    pub digest: Option<String>,
    /// Its text; omitted for roles that may see differences only, and if it is missing.
    pub text: Option<String>,
}

/// An approval and the people involved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ApprovalWhy {
    /// Its id.
    pub id: String,
    /// Its records, oldest first.
    pub steps: Vec<StepWhy>,
}

/// One step of an approval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepWhy {
    /// `request`, `approve`, `refuse`, `permit` …
    pub what: String,
    /// When it happened.
    pub time: Option<String>,
    /// The user id of the person who did it; for a request, of the person who asked for the invocation.
    pub person: Option<u32>,
    /// The person's name.
    pub person_name: Option<String>,
    /// The call that asked for it.
    pub asked_by_call: Option<String>,
    /// The permit that it gave.
    pub permit: Option<String>,
    /// Further details.
    pub detail: Option<ApprovalDetail>,
}

/// How a call ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OutcomeWhy {
    /// `answered`, or the name of the failure.
    pub outcome: String,
    /// When it ended.
    pub time: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Latency in microseconds.
    pub latency_us: Option<u64>,
    /// The digest of the answer.
    pub response_hash: Option<String>,
}

/// Finds out why a call was decided as it was; `None` if it is not in the audit. With `texts`, the deciding texts are
/// included, otherwise only their differences. Reads the audit backwards: not for an async thread.
///
/// # Errors
/// When the audit cannot be read.
pub fn why(
    files: &Arc<dyn Files>,
    audit: &Path,
    call: &str,
    texts: bool,
) -> Result<Option<Why>, AuditError> {
    let newest = |filter: Filter| {
        let filter = Filter {
            newest_first: true,
            ..filter
        };
        query(Arc::clone(files), audit, filter)
    };
    let of_call = Filter {
        call: Some(call.to_owned()),
        ..Filter::default()
    };
    let mut why = Why {
        call: call.to_owned(),
        ..Why::default()
    };
    let mut decided = None;
    for record in newest(of_call)? {
        let record = record?;
        if record.call() != Some(call) {
            continue;
        }
        why.records.push(record.sequence());
        let body = || read_members::<CallBody>(&record.fields);
        match record.kind() {
            Some(Kind::Outcome | Kind::Lost) => why.take_outcome(&record, &body()),
            Some(kind @ (Kind::Read | Kind::Denied | Kind::Intent | Kind::Http)) => {
                let body = body();
                if matches!(kind, Kind::Read | Kind::Http) {
                    why.take_outcome(&record, &body);
                }
                why.take_decision(&record, &body);
                decided = Some((record.sequence(), body));
                break;
            }
            _ => {}
        }
    }
    let Some((until, decided)) = decided else {
        return Ok((!why.records.is_empty()).then_some(why));
    };
    why.records.reverse();
    let mut wanted = Wanted::of(&decided);
    let mut steps = Vec::new();
    for kind in [Kind::Approval, Kind::Change] {
        let filter = Filter {
            kind: Some(kind),
            ..Filter::default()
        };
        for record in newest(filter)? {
            if wanted.has_all(kind) {
                break;
            }
            let record = record?;
            match kind {
                Kind::Approval => steps.extend(wanted.take_step(&record)),
                _ if record.sequence() < until => wanted.take_change(&record),
                _ => {}
            }
        }
    }
    steps.reverse();
    why.approval = wanted.approval.clone().map(|id| ApprovalWhy { id, steps });
    let kept = Texts::beside(audit);
    for text in &mut wanted.texts {
        text.read(&kept, texts);
    }
    why.take_texts(wanted, decided, texts);
    Ok(Some(why))
}

impl Why {
    fn take_decision(&mut self, record: &Record, body: &CallBody) {
        let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        self.time = record.time_text().map(str::to_owned);
        self.decision.clone_from(&body.decision);
        self.plugin = said(&body.plugin);
        self.account = said(&body.account);
        self.operation = said(&body.operation);
        self.access.clone_from(&body.access);
        self.project = body.project().cloned();
        self.arguments.clone_from(&body.arguments);
        self.invocation.clone_from(&body.invocation);
        self.action.clone_from(&body.action);
        self.alias.clone_from(&body.alias);
        self.person = body.person;
        self.permit.clone_from(&body.permit);
        self.reservation = body.reservation;
        if record.kind() == Some(Kind::Denied) {
            self.reason.clone_from(&body.reason);
        }
    }

    fn take_outcome(&mut self, record: &Record, body: &CallBody) {
        // The result of `audit reconcile` comes after the loss, and is read first.
        if self.outcome.is_some() {
            return;
        }
        self.sends = body.sends;
        self.cached_ms = body.cached_ms;
        self.outcome = Some(OutcomeWhy {
            outcome: body.outcome().unwrap_or_default().to_owned(),
            time: record.time_text().map(str::to_owned),
            reason: body.reason.clone(),
            latency_us: body.latency_us,
            response_hash: body.response_hash.clone(),
        });
    }

    fn take_texts(&mut self, wanted: Wanted, decided: CallBody, texts: bool) {
        let find = |role: Role| wanted.texts.iter().find(|text| text.role == role);
        let text = |role: Role| find(role).and_then(|text| text.text.as_deref());
        let digest = |role: Role| find(role).map(|text| text.digest.clone());
        let parts = |role: Role, names: Vec<String>| {
            let grants = text(role).map(grants_in).unwrap_or_default();
            let part = |name: String| PartWhy {
                digest: digest(role),
                text: grants.get(&name).cloned().filter(|_| texts),
                name,
            };
            names.into_iter().map(part).collect::<Vec<_>>()
        };
        self.grants = if find(Role::Pending).is_some() {
            let serving = decided.grants_serving.unwrap_or_default();
            let mut grants = parts(Role::Manifest, serving);
            let pending = decided.grants_pending.unwrap_or_default();
            grants.extend(parts(Role::Pending, pending));
            grants
        } else {
            parts(Role::Manifest, decided.grants.unwrap_or_default())
        };
        let rules = text(Role::Guardrails).map(guardrails_in);
        let rules = rules.unwrap_or_default();
        let rule = |id: String| {
            let found = rules.get(id.as_str());
            PartWhy {
                digest: found.and(digest(Role::Guardrails)),
                text: found.map(|text| (*text).to_owned()).filter(|_| texts),
                name: id,
            }
        };
        self.forbidden_by = decided.policies.into_iter().map(rule).collect();
        let shown = |role: Role| find(role).map(|text| text.shown(texts));
        self.manifest = shown(Role::Manifest);
        self.manifest_pending = shown(Role::Pending);
        self.guardrails = shown(Role::Guardrails);
        self.configuration = shown(Role::Configuration);
        self.configuration_pending = shown(Role::PendingConfiguration);
        self.component = shown(Role::Component);
    }
}

/// The role of a text in the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Manifest,
    Pending,
    Guardrails,
    Configuration,
    PendingConfiguration,
    Component,
}

impl Role {
    const ALL: [Self; 6] = [
        Self::Manifest,
        Self::Pending,
        Self::Guardrails,
        Self::Configuration,
        Self::PendingConfiguration,
        Self::Component,
    ];

    /// The digest of the text that had this role in a decision.
    fn digest(self, decided: &CallBody) -> Option<&String> {
        let digest = match self {
            Self::Manifest => &decided.manifest,
            Self::Pending => &decided.manifest_pending,
            Self::Guardrails => &decided.guardrails,
            Self::Configuration => &decided.configuration,
            Self::PendingConfiguration => &decided.configuration_pending,
            Self::Component => &decided.digest,
        };
        digest.as_ref().filter(|digest| !digest.is_empty())
    }

    fn is_of(self, change: &Change) -> bool {
        match (self, &change.subject) {
            (Self::Manifest, Subject::Manifest) => !change.pending,
            (Self::Pending, Subject::Manifest) => change.pending,
            (Self::Guardrails, Subject::Guardrails) | (Self::Component, Subject::Component) => true,
            (
                Self::Configuration | Self::PendingConfiguration,
                Subject::Configuration | Subject::People | Subject::Profiles,
            ) => change.pending == (self == Self::PendingConfiguration),
            _ => false,
        }
    }

    fn is_of_a_plugin(self) -> bool {
        matches!(self, Self::Manifest | Self::Pending | Self::Component)
    }
}

/// A text to be found.
#[derive(Debug)]
struct Sought {
    role: Role,
    digest: String,
    change: Option<(Option<String>, Change)>,
    text: Option<String>,
    missing: Option<String>,
}

impl Sought {
    fn read(&mut self, kept: &Texts, shown: bool) {
        if self.role == Role::Component {
            return;
        }
        match kept.read(&self.digest) {
            Ok(Some(text)) => self.text = Some(text),
            Ok(None) => self.missing = Some("this text is not kept, or was removed".to_owned()),
            Err(error) => self.missing = Some(format!("this text cannot be read: {error}")),
        }
        if !shown && self.missing.is_none() {
            self.missing = Some(
                "operators, approvers and admins see texts; viewers see differences".to_owned(),
            );
        }
    }

    fn shown(&self, texts: bool) -> TextWhy {
        let change = self.change.as_ref();
        TextWhy {
            digest: self.digest.clone(),
            since: change.and_then(|(time, _)| time.clone()),
            change: change.map(|(_, change)| change.clone()),
            text: self.text.clone().filter(|_| texts),
            missing: self.missing.clone(),
        }
    }
}

/// What is still to be found in the rest of the audit.
struct Wanted {
    plugin: String,
    texts: Vec<Sought>,
    approval: Option<String>,
    asked: bool,
}

impl Wanted {
    fn of(decided: &CallBody) -> Self {
        let texts = Role::ALL.into_iter().filter_map(|role| {
            Some(Sought {
                role,
                digest: role.digest(decided)?.clone(),
                change: None,
                text: None,
                missing: None,
            })
        });
        Self {
            plugin: decided.plugin.clone(),
            texts: texts.collect(),
            approval: decided.approval.clone(),
            asked: false,
        }
    }

    fn has_all(&self, kind: Kind) -> bool {
        match kind {
            Kind::Approval => self.approval.is_none() || self.asked,
            _ => self.texts.iter().all(|text| text.change.is_some()),
        }
    }

    fn take_step(&mut self, record: &Record) -> Option<StepWhy> {
        let step: ApprovalBody = read_members(&record.fields);
        if Some(&step.approval) != self.approval.as_ref() {
            return None;
        }
        self.asked |= step.what == ApprovalStep::Request.word();
        Some(StepWhy {
            what: step.what,
            time: record.time_text().map(str::to_owned),
            person: step.person,
            person_name: step.person_name,
            asked_by_call: step.asked_by_call,
            permit: step.permit,
            detail: step.detail,
        })
    }

    fn take_change(&mut self, record: &Record) {
        let Ok(change) = Change::deserialize(&record.fields) else {
            return;
        };
        for text in &mut self.texts {
            let same = change.digest_after.as_ref() == Some(&text.digest);
            let its = !text.role.is_of_a_plugin() || change.plugin.as_ref() == Some(&self.plugin);
            if same && its && text.change.is_none() && text.role.is_of(&change) {
                let time = record.time_text().map(str::to_owned);
                text.change = Some((time, change.clone()));
            }
        }
    }
}
