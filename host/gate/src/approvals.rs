//! Approvals. A call that needs a person's approval is not stored for later: it creates a request, and once that
//! is approved, the plugin's next identical call finds a permit.
//!
//! Invariant: a permit is bound to what the approver was shown. Its binding covers the operation, the calling
//! code, the brokerage settings and the resolved arguments; a call that differs in any of them needs another
//! approval.

use std::collections::BTreeSet;
use std::time::Duration;

use qchost_audit::{Entry, Kind};
use qchost_catalog::Access;
use qchost_ledger::{
    Approval, ApprovalError, ApprovalFilter, ApprovalKind, ApprovalPage, Binding, LedgerError,
    NewApproval, Permit, RequestError, Standing, Status,
};
use qchost_policy::{Denial, Person, Role};
use qchost_scope::Touched;
use serde_json::{Map, Value, json};

use crate::ask::{Ask, Caller};
use crate::gate::{Gate, now};
use crate::judge::{Matched, wants_approval};
use crate::record::{redacted_object, text_hash};
use crate::refusal::Refusal;
use crate::trade::unusable;

/// How often to look for decisions made by another process.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Maximum bytes of a call's arguments in its view.
const MAX_VIEWED: usize = 16 << 10;

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
    Audit(#[from] qchost_audit::AuditError),
}

impl Gate {
    /// Finds the permit of a call that needs one; `None` if it needs none.
    pub(crate) async fn check_approval(
        &self,
        ask: &Ask,
        touched: &Touched,
        matched: &Matched,
    ) -> Result<Option<Permit>, Refusal> {
        let live = touched.facts.iter().any(|facts| facts.context.live);
        let two = takes_two(ask, live);
        if !two && !wants_approval(&ask.terms, matched) {
            return Ok(None);
        }
        let ledger = &self.0.ledger;
        let source = self.deployed_source(ask, touched).await?;
        let hash = source.as_ref().and_then(|source| source.hash.clone());
        let binding = self.binding(ask, touched, hash.as_deref(), two);
        let scope = standing_scope(touched, &binding, two);
        let cost = touched.cost.map_or(0, |cost| cost.0);
        let permit = ledger
            .find_permit(&binding, &scope, cost, now())
            .await
            .map_err(unusable)?;
        if let Some(permit) = permit {
            if two {
                self.check_deciders(ask, &permit).await?;
            }
            return Ok(Some(permit));
        }
        let asked = now();
        let requested = NewApproval {
            kind: ApprovalKind::Call,
            binding,
            view: self.view(ask, touched, source),
            contents: contents(&ask.arguments),
            untold: !ask.caller.is_operator(),
            needs: if two { 2 } else { 1 },
            requester: ask.caller.person,
            interested: Vec::new(),
            askers: Vec::new(),
            scope,
            cost,
            source: hash,
            now: asked,
            expires: self.approval_end(),
        };
        let approval = ledger
            .request_approval(requested)
            .await
            .map_err(not_asked)?;
        if approval.requested == asked {
            self.note_request(&approval, Some(ask));
        }
        Err(match approval.status {
            Status::Refused => Refusal::ApprovalRefused {
                id: approval.id.clone(),
                reason: reason(&approval),
            },
            _ => {
                if !ask.caller.is_operator() {
                    self.0.asking.note(&ask.caller.invocation, &approval.id);
                }
                Refusal::ApprovalRequired { id: approval.id }
            }
        })
    }

    /// Records that an approval of a change was asked for, and what it changes.
    pub(crate) fn note_change_request(&self, approval: &Approval, changes: Vec<String>) {
        let mut body = about(approval);
        body.insert("what".to_owned(), "request".into());
        body.insert("detail".to_owned(), json!({ "changes": changes }));
        self.0.audit.note(Entry {
            kind: Kind::Approval,
            essential: false,
            body,
        });
    }

    /// Records that an approval was requested, and by which call.
    pub(crate) fn note_request(&self, approval: &Approval, ask: Option<&Ask>) {
        let mut body = about(approval);
        body.insert("what".to_owned(), "request".into());
        let project = approval
            .view
            .get("project")
            .filter(|project| !project.is_null());
        if let Some(project) = project {
            body.insert("project".to_owned(), project.clone());
        }
        if let Some(ask) = ask {
            body.insert("asked-by-call".to_owned(), ask.call.as_str().into());
            body.insert("invocation".to_owned(), (*ask.caller.invocation).into());
            if let Some(person) = ask.caller.person {
                body.insert("person".to_owned(), person.into());
            }
        }
        self.0.audit.note(Entry {
            kind: Kind::Approval,
            essential: false,
            body,
        });
    }

    /// Checks that the approvers are not the person whose invocation would use the permit; the request may have
    /// been made by another invocation of a different person.
    async fn check_deciders(&self, ask: &Ask, permit: &Permit) -> Result<(), Refusal> {
        let ledger = &self.0.ledger;
        let approval = ledger
            .approval(&permit.approval, now())
            .await
            .map_err(unusable)?;
        let decisions = approval
            .map(|approval| approval.decisions)
            .unwrap_or_default();
        if decisions
            .iter()
            .any(|one| Some(one.uid) == ask.caller.person)
        {
            return Err(Refusal::Denied(Denial {
                reason: format!(
                    "this takes the yes of two people other than who asks, and who asks now gave one of them ({})",
                    permit.approval
                ),
                nearest_grant: None,
                remedy: None,
            }));
        }
        Ok(())
    }

    /// The source that a deployment would run, as far as the host knows it.
    async fn deployed_source(
        &self,
        ask: &Ask,
        touched: &Touched,
    ) -> Result<Option<DeployedSource>, Refusal> {
        let compile = ask.arguments.get("compileId").and_then(Value::as_str);
        match (compile, &touched.project) {
            (Some(compile), Some(_)) if ask.access == Access::Trade => Ok(Some(DeployedSource {
                compile: compile.to_owned(),
                hash: self.source_of(ask.account(), compile).await?,
            })),
            _ => Ok(None),
        }
    }

    fn binding(&self, ask: &Ask, touched: &Touched, source: Option<&str>, two: bool) -> Binding {
        let resolved = json!({
            "two people": two,
            "arguments": ask.arguments,
            "project": touched.project,
            "source": source,
        });
        let profiles = touched.facts.iter().flat_map(|facts| {
            let context = &facts.context;
            let brokerage = context.brokerage.as_ref().map(|one| one.profile.as_str());
            brokerage
                .into_iter()
                .chain(context.data_provider.as_deref())
        });
        let mut revisions: Vec<String> = profiles
            .map(|profile| {
                let revision = ask.settings().profiles.revision(profile);
                format!("{profile}={}", revision.unwrap_or_default())
            })
            .collect();
        revisions.sort();
        revisions.dedup();
        Binding {
            account: ask.account().to_owned(),
            plugin: ask.caller.plugin.to_string(),
            digest: ask.caller.digest.to_string(),
            operation: ask.name.to_string(),
            profile_revision: revisions.join(" "),
            arguments_hmac: self.0.prints.of("permit", &resolved),
        }
    }

    /// What the approver is shown; nothing in it is the plugin's own description of the call.
    fn view(&self, ask: &Ask, touched: &Touched, source: Option<DeployedSource>) -> Value {
        let mut view = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                view.insert(name.to_owned(), value);
            }
        };
        put("operation", json!(ask.name));
        put("class", json!(ask.access.word()));
        put("plugin", json!(&*ask.caller.plugin));
        put("digest", json!(&*ask.caller.digest));
        put("account", json!(ask.account()));
        let project = touched.project.as_ref();
        put(
            "project",
            json!(project.map(|(id, name)| json!({ "name": name, "id": id }))),
        );
        put("cost", json!(touched.cost.map(|cost| cost.to_string())));
        let brokerage = touched
            .facts
            .iter()
            .find_map(|facts| facts.context.brokerage.as_ref());
        put(
            "brokerage",
            json!(brokerage.map(|one| json!({ "profile": one.profile, "live": one.live }))),
        );
        let live = touched.facts.iter().any(|facts| facts.context.live);
        put("real money", json!(live));
        put("arguments", viewed(&ask.arguments));
        put(
            "source",
            source.map(DeployedSource::view).unwrap_or_default(),
        );
        Value::Object(view)
    }

    /// Waits until an approval that one of this plugin's calls needs is decided.
    ///
    /// # Errors
    /// When it was refused, has expired, or belongs to another plugin.
    pub async fn wait_approval(&self, caller: &Caller, id: &str) -> Result<(), Refusal> {
        let mut changes = self.0.decided.subscribe();
        let mut noted = false;
        loop {
            let approval = self.0.ledger.approval(id, now()).await.map_err(unusable)?;
            let own = approval
                .filter(|approval| approval.binding.plugin == *caller.plugin)
                .ok_or_else(|| {
                    Refusal::Failed(qchost_catalog::Failure::NotFound(format!(
                        "this plugin has no approval `{id}`"
                    )))
                })?;
            match own.status {
                Status::Approved | Status::Used => return Ok(()),
                Status::Refused | Status::Expired | Status::Revoked | Status::Closed => {
                    return Err(Refusal::ApprovalRefused {
                        id: id.to_owned(),
                        reason: reason(&own),
                    });
                }
                Status::Pending => {}
            }
            if !noted {
                noted = true;
                self.0.asking.note(&caller.invocation, &own.id);
                tracing::info!(
                    target: "gate", plugin = %caller.plugin, invocation = %caller.invocation, approval = own.id,
                    "waiting for approval; look at it with: qchost approvals show {}", own.id
                );
            }
            // Wakes at once for decisions of this process, and polls for expiry and for those of other
            // processes.
            drop(tokio::time::timeout(LOOK_AGAIN, changes.changed()).await);
        }
    }

    /// A page of the approvals that are pending, or of all approvals.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approvals(&self, filter: ApprovalFilter) -> Result<ApprovalPage, LedgerError> {
        self.0.ledger.approvals(filter, now()).await
    }

    /// The components that await approval, as pairs of plugin and approval id.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn waiting_components(&self) -> Result<Vec<(String, String)>, LedgerError> {
        self.0.ledger.waiting_components(now()).await
    }

    /// One approval.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>, LedgerError> {
        self.0.ledger.approval(id, now()).await
    }

    /// Revokes the permit that an approval gave, or the approval of a change that is not in force yet. `id` is
    /// that of the approval or of the permit.
    ///
    /// # Errors
    /// When there is nothing to revoke.
    pub async fn revoke(&self, id: &str, by: &Person) -> Result<Approval, DecideError> {
        let (gate, id, by) = (self.clone(), id.to_owned(), by.clone());
        // Detached, like a decision.
        let revoking = self.spawn(async move {
            let detail = json!({ "approval": id });
            gate.record_decision(&by, "revoke", &id, detail).await?;
            let revoked = gate.0.ledger.revoke(&id, &by.name, now()).await;
            let approval = gate.noted(&by, &id, "revoke", revoked).await?;
            gate.0
                .decided
                .send_modify(|count| *count = count.wrapping_add(1));
            Ok(approval)
        });
        revoking.await.unwrap_or(Err(DecideError::Failed))
    }

    /// Approves a request: for the one call, or, with `standing`, for calls like it.
    ///
    /// # Errors
    /// When it is not pending, or this person may not decide it.
    pub async fn approve(
        &self,
        id: &str,
        by: &Person,
        standing: Option<Standing>,
    ) -> Result<Approval, DecideError> {
        let (gate, id, by) = (self.clone(), id.to_owned(), by.clone());
        // Runs detached: cancelling the caller does not abort what comes with the decision.
        let deciding = self.spawn(async move { gate.decide_yes(&id, &by, standing).await });
        deciding.await.unwrap_or(Err(DecideError::Failed))
    }

    async fn decide_yes(
        &self,
        id: &str,
        by: &Person,
        standing: Option<Standing>,
    ) -> Result<Approval, DecideError> {
        self.check_source(id).await?;
        let detail = json!({ "approval": id, "standing": standing });
        self.record_decision(by, "approve", id, detail).await?;
        let asked = self.approval(id).await.map_err(ApprovalError::Ledger)?;
        let changes = asked.is_some_and(|asked| asked.kind == ApprovalKind::Change);
        if changes && !by.roles.contains(&Role::Admin) {
            let error = DecideError::NotAdmin(by.name.clone());
            let detail =
                json!({ "approval": id, "attempt": "approve", "reason": error.to_string() });
            self.record_decision(by, "not decided", id, detail).await?;
            return Err(error);
        }
        let expires = now().saturating_add(milliseconds(self.settings().permit_ttl));
        let ledger = &self.0.ledger;
        let approved = ledger
            .approve(id, by.uid, &by.name, standing, expires, now())
            .await;
        let approval = self.noted(by, id, "approve", approved).await?;
        if approval.status == Status::Approved {
            let permit = ledger.permit_of(id).await.map_err(ApprovalError::Ledger)?;
            if let Some(permit) = permit {
                let detail = json!({ "uses-left": permit.uses_left, "cost-left": permit.cost_left, "expires": permit.expires });
                let mut body = about(&approval);
                body.insert("permit".to_owned(), permit.id.into());
                body.insert("detail".to_owned(), detail);
                self.record_approval(by, "permit", body).await?;
            }
            self.follow_approval(&approval, by)
                .await
                .map_err(ApprovalError::Ledger)?;
        }
        self.0
            .decided
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(approval)
    }

    /// Checks that the source which a deployment would run with real money can be shown; without that it cannot
    /// be approved.
    async fn check_source(&self, id: &str) -> Result<(), DecideError> {
        let ledger = &self.0.ledger;
        let approval = ledger.approval(id, now()).await;
        let approval = approval.map_err(ApprovalError::Ledger)?;
        let Some(approval) = approval else {
            return Ok(());
        };
        let live = approval.scope.get("live").and_then(Value::as_bool) == Some(true);
        match &approval.source {
            Some(hash) if live => {
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
        attempt: &str,
        decided: Result<Approval, ApprovalError>,
    ) -> Result<Approval, DecideError> {
        if let Err(error) = &decided {
            let detail = json!({ "approval": id, "attempt": attempt, "reason": error.to_string() });
            self.record_decision(by, "not decided", id, detail).await?;
        }
        Ok(decided?)
    }

    /// Records a person's decision about an approval and what the approval is for.
    async fn record_decision(
        &self,
        by: &Person,
        what: &str,
        id: &str,
        detail: Value,
    ) -> Result<(), DecideError> {
        let approval = self.0.ledger.approval(id, now()).await;
        let approval = approval.map_err(ApprovalError::Ledger)?;
        // An id that is not an approval of this host is recorded as it was given.
        let named = || Map::from_iter([("approval".to_owned(), id.into())]);
        let mut body = approval.as_ref().map_or_else(named, about);
        body.insert("detail".to_owned(), detail);
        Ok(self.record_approval(by, what, body).await?)
    }

    /// Applies what an approval implies: adopts a component, approves a source.
    async fn follow_approval(&self, approval: &Approval, by: &Person) -> Result<(), LedgerError> {
        let Approval {
            kind,
            binding,
            scope,
            source,
            ..
        } = approval;
        match kind {
            // Comes into force at the next reload, if the files still ask for it.
            ApprovalKind::Change => Ok(()),
            ApprovalKind::Component => {
                let imports = scope.get("imports").and_then(Value::as_array);
                let imports: Vec<String> = imports
                    .into_iter()
                    .flatten()
                    .filter_map(|import| import.as_str().map(str::to_owned))
                    .collect();
                self.adopt(
                    &binding.account,
                    &binding.plugin,
                    &binding.digest,
                    &imports,
                    &by.name,
                )
                .await
            }
            ApprovalKind::Call => {
                let project = scope
                    .get("project")
                    .and_then(Value::as_u64)
                    .and_then(|id| u32::try_from(id).ok());
                match (source, project) {
                    (Some(hash), Some(project)) => {
                        let ledger = &self.0.ledger;
                        ledger
                            .set_approved_source(&binding.account, project, hash)
                            .await
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Refuses a request.
    ///
    /// # Errors
    /// When it is not pending.
    pub async fn refuse(
        &self,
        id: &str,
        by: &Person,
        reason: &str,
    ) -> Result<Approval, DecideError> {
        let detail = json!({ "approval": id, "reason": reason });
        self.record_decision(by, "refuse", id, detail).await?;
        let ledger = &self.0.ledger;
        let refused = ledger.refuse(id, by.uid, &by.name, reason, now()).await;
        let approval = self.noted(by, id, "refuse", refused).await?;
        self.0
            .decided
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(approval)
    }

    pub(crate) fn approval_end(&self) -> i64 {
        now().saturating_add(milliseconds(self.settings().approval_ttl))
    }
}

/// The fields that link the records of one approval.
fn about(approval: &Approval) -> Map<String, Value> {
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

/// Whether two people have to approve.
pub(crate) fn takes_two(ask: &Ask, live: bool) -> bool {
    ask.settings().two_person && ask.access == Access::Trade && live
}

/// The refusal of a plugin that has too many open requests.
pub(crate) fn not_asked(error: RequestError) -> Refusal {
    match error {
        RequestError::Ledger(error) => unusable(error),
        RequestError::TooManyPending { plugin, limit } => Refusal::Exhausted {
            message: format!(
                "`{plugin}` has {limit} approvals that wait for a person, and may not ask for more"
            ),
            grant: String::new(),
            budget: "approvals",
            resets_in: None,
        },
        error @ RequestError::TooLarge { .. } => Refusal::Exhausted {
            message: error.to_string(),
            grant: String::new(),
            budget: "approvals",
            resets_in: None,
        },
    }
}

/// What a deployment would run.
struct DeployedSource {
    compile: String,
    /// `None` if the host does not know what the compile was built from.
    hash: Option<String>,
}

impl DeployedSource {
    fn view(self) -> Value {
        match self.hash {
            Some(hash) => json!({ "compile": self.compile, "known": true, "hash": hash }),
            None => json!({
                "compile": self.compile,
                "known": false,
                "warning": "unknown code: the host did not see what this compile was made of, or does not have it any more",
            }),
        }
    }
}

/// Arguments as shown in a view: long texts, or all texts if there are too many, as digest and length.
fn viewed(arguments: &Map<String, Value>) -> Value {
    let redacted = redacted_object(arguments);
    let text = redacted.to_string();
    if text.len() <= MAX_VIEWED {
        return redacted;
    }
    json!({ "digest": text_hash(&text), "bytes": text.len() })
}

/// The complete arguments, if a view does not show all of them.
fn contents(arguments: &Map<String, Value>) -> Option<String> {
    let whole = Value::Object(arguments.clone());
    (viewed(arguments) != whole).then(|| whole.to_string())
}

/// What a standing permit is limited to besides the operation: the project and the kind of account. One given
/// for paper trading is not valid for a live brokerage, and one person's is not valid where two approvals are
/// required.
fn standing_scope(touched: &Touched, binding: &Binding, two: bool) -> Value {
    let mut brokerages = BTreeSet::new();
    let mut providers = BTreeSet::new();
    for facts in &touched.facts {
        let context = &facts.context;
        if let Some(brokerage) = &context.brokerage {
            brokerages.insert((brokerage.profile.as_str(), brokerage.live));
        }
        providers.extend(context.data_provider.as_deref());
    }
    let mut scope = json!({
        "two people": two,
        "live": touched.facts.iter().any(|facts| facts.context.live),
        "brokerages": brokerages,
        "data providers": providers,
    });
    let what = match &touched.project {
        Some((id, name)) => [("project", json!(id)), ("name", json!(name))],
        None => [
            ("project", Value::Null),
            ("arguments", json!(binding.arguments_hmac)),
        ],
    };
    if let Value::Object(fields) = &mut scope {
        fields.extend(what.map(|(name, value)| (name.to_owned(), value)));
    }
    scope
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Why an approval does not permit the call.
fn reason(approval: &Approval) -> String {
    let last = approval.decisions.last();
    match approval.status {
        Status::Expired => "no decision was made in time".to_owned(),
        Status::Revoked => "the permit was revoked".to_owned(),
        Status::Closed => approval.closed.clone().unwrap_or_default(),
        _ => last
            .map(|decision| decision.reason.clone())
            .unwrap_or_default(),
    }
}
