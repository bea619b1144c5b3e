//! Approvals: a call that needs a person's yes gets none of it stored for later; it gets a request,
//! and once that is approved, the plugin's next call like it finds a permit.
//!
//! Invariant: a permit is bound to what the person was shown. The operation, the code that calls,
//! the brokerage's settings and the resolved arguments are in its binding; change one of them, and
//! it is another call, which needs another yes.

use std::collections::BTreeSet;
use std::time::Duration;

use qchost_catalog::Access;
use qchost_ledger::{
    Approval, ApprovalError, ApprovalKind, Binding, LedgerError, NewApproval, Permit, RequestError,
    Standing, Status,
};
use qchost_policy::{Denial, Person};
use qchost_scope::Touched;
use serde_json::{Map, Value, json};

use crate::ask::{Ask, Caller};
use crate::gate::{Gate, now};
use crate::judge::{Matched, wants_approval};
use crate::record::redacted_object;
use crate::refusal::Refusal;
use crate::trade::unusable;

/// How often a decision is looked for that another process may have made.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why an approval was not decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The ledger's reason.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// The host itself failed.
    #[error("the host failed in the middle of it; look at the approval before you try again")]
    Failed,
    /// It cannot be recorded, so it was not done.
    #[error("the decision cannot be recorded, so it was not made: {0}")]
    Audit(#[from] qchost_audit::AuditError),
}

impl Gate {
    /// Finds the permit of a call that needs one; nothing where none is needed.
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
        let binding = self.binding(ask, touched, source.as_ref(), two);
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
        let requested = NewApproval {
            kind: ApprovalKind::Call,
            binding,
            view: self.view(ask, touched, source),
            needs: if two { 2 } else { 1 },
            requester: ask.caller.person,
            scope,
            cost,
            now: now(),
            expires: self.approval_end(),
        };
        let approval = ledger
            .request_approval(requested)
            .await
            .map_err(not_asked)?;
        Err(match approval.status {
            Status::Refused => Refusal::ApprovalRefused {
                id: approval.id.clone(),
                reason: reason(&approval),
            },
            _ => Refusal::ApprovalRequired { id: approval.id },
        })
    }

    /// Whether it was others who said yes than the person whose invocation would use it: whoever asked
    /// first may have been somebody else.
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

    /// What the compile of a deployment is made of, as a person is shown it.
    async fn deployed_source(
        &self,
        ask: &Ask,
        touched: &Touched,
    ) -> Result<Option<Value>, Refusal> {
        let compile = ask.arguments.get("compileId").and_then(Value::as_str);
        match (compile, &touched.project) {
            (Some(compile), Some((project, _))) if ask.access == Access::Trade => {
                let view = self.source_view(ask.account(), *project, compile).await?;
                Ok(Some(view))
            }
            _ => Ok(None),
        }
    }

    fn binding(&self, ask: &Ask, touched: &Touched, source: Option<&Value>, two: bool) -> Binding {
        let resolved = json!({
            "two people": two,
            "arguments": ask.arguments,
            "project": touched.project,
            "source": source.and_then(|source| source.get("hash")),
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

    /// What a person is shown; none of it is the plugin's own words about the call.
    fn view(&self, ask: &Ask, touched: &Touched, source: Option<Value>) -> Value {
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
        put("arguments", redacted_object(&ask.arguments));
        put("source", json!(source));
        Value::Object(view)
    }

    /// Waits until a person decided about an approval that one of this plugin's calls needs.
    ///
    /// # Errors
    /// When it was refused, has expired, or is none of this plugin's.
    pub async fn wait_approval(&self, caller: &Caller, id: &str) -> Result<(), Refusal> {
        let mut changes = self.0.decided.subscribe();
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
                Status::Refused => {
                    return Err(Refusal::ApprovalRefused {
                        id: id.to_owned(),
                        reason: reason(&own),
                    });
                }
                Status::Expired => {
                    return Err(Refusal::ApprovalRefused {
                        id: id.to_owned(),
                        reason: "nobody decided in time".to_owned(),
                    });
                }
                Status::Pending => {}
            }
            // Told at once of what this process decides, and looks again for what expires.
            drop(tokio::time::timeout(LOOK_AGAIN, changes.changed()).await);
        }
    }

    /// The approvals that wait for a person, or all of them.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approvals(&self, all: bool) -> Result<Vec<Approval>, LedgerError> {
        self.0.ledger.approvals(all, now()).await
    }

    /// One approval.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>, LedgerError> {
        self.0.ledger.approval(id, now()).await
    }

    /// A person's yes: for the one call, or, with `standing`, for calls like it.
    ///
    /// # Errors
    /// When it does not wait, or this person may not be the one who decides.
    pub async fn approve(
        &self,
        id: &str,
        by: &Person,
        standing: Option<Standing>,
    ) -> Result<Approval, DecideError> {
        let (gate, id, by) = (self.clone(), id.to_owned(), by.clone());
        // Whoever asked may leave: what comes with the decision is done all the same.
        let deciding = self.spawn(async move { gate.decide_yes(&id, &by, standing).await });
        deciding.await.unwrap_or(Err(DecideError::Failed))
    }

    async fn decide_yes(
        &self,
        id: &str,
        by: &Person,
        standing: Option<Standing>,
    ) -> Result<Approval, DecideError> {
        let detail = json!({ "approval": id, "standing": standing });
        self.record_approval(by, "approve", detail).await?;
        let expires = now().saturating_add(milliseconds(self.settings().permit_ttl));
        let ledger = &self.0.ledger;
        let approved = ledger
            .approve(id, by.uid, &by.name, standing, expires, now())
            .await;
        let approval = self.noted(by, id, approved).await?;
        if approval.status == Status::Approved {
            self.follow_approval(&approval, by)
                .await
                .map_err(ApprovalError::Ledger)?;
        }
        self.0
            .decided
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(approval)
    }

    /// Records that a decision was not taken: the record of the attempt alone would read as if it were.
    async fn noted(
        &self,
        by: &Person,
        id: &str,
        decided: Result<Approval, ApprovalError>,
    ) -> Result<Approval, DecideError> {
        if let Err(error) = &decided {
            let detail = json!({ "approval": id, "reason": error.to_string() });
            self.record_approval(by, "not decided", detail).await?;
        }
        Ok(decided?)
    }

    /// What an approval brings with it: an adopted component, an approved source.
    async fn follow_approval(&self, approval: &Approval, by: &Person) -> Result<(), LedgerError> {
        let Approval {
            kind,
            binding,
            scope,
            view,
            ..
        } = approval;
        match kind {
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
                let hash = view.pointer("/source/hash").and_then(Value::as_str);
                let project = scope
                    .get("project")
                    .and_then(Value::as_u64)
                    .and_then(|id| u32::try_from(id).ok());
                match (hash, project) {
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

    /// A person's no.
    ///
    /// # Errors
    /// When it does not wait.
    pub async fn refuse(
        &self,
        id: &str,
        by: &Person,
        reason: &str,
    ) -> Result<Approval, DecideError> {
        let detail = json!({ "approval": id, "reason": reason });
        self.record_approval(by, "refuse", detail).await?;
        let ledger = &self.0.ledger;
        let refused = ledger.refuse(id, by.uid, &by.name, reason, now()).await;
        let approval = self.noted(by, id, refused).await?;
        self.0
            .decided
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(approval)
    }

    pub(crate) fn approval_end(&self) -> i64 {
        now().saturating_add(milliseconds(self.settings().approval_ttl))
    }
}

/// Whether two people have to say yes.
pub(crate) fn takes_two(ask: &Ask, live: bool) -> bool {
    ask.settings().two_person && ask.access == Access::Trade && live
}

/// A plugin that asked for too much is told to wait for what it asked for.
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
    }
}

/// What a standing permit is for besides the operation: the project, and whose money. One that was
/// given for paper is none for a live brokerage, and one person's is none where it takes two.
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

fn reason(approval: &Approval) -> String {
    let last = approval.decisions.last();
    last.map(|decision| decision.reason.clone())
        .unwrap_or_default()
}
