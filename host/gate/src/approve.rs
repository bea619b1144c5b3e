//! Approval of a call: finding a permit, requesting one, and waiting for it.
//!
//! A call that needs a person's approval is not stored for later: it creates a request, and once that is approved, the
//! plugin's next identical call finds a permit.
//!
//! Invariant: a permit is bound to what the approver was shown. Its binding covers the operation, the calling
//! code, the brokerage settings and the resolved arguments; a call that differs in any of them needs another
//! approval.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use qchost_catalog::{Access, Failure, Operation};
use qchost_ledger::{Approval, ApprovalKind, Binding, Ledger, NewApproval, Permit, Status};
use qchost_scope::Touched;
use serde_json::{Map, Value, json};

use crate::approval_requests::ApprovalRequests;
use crate::approval_scope::CallScope;
use crate::authorize::requires_approval;
use crate::call::{CallRequest, Principal};
use crate::clock::now;
use crate::decision::{Matched, is_live};
use crate::fingerprint::{Fingerprints, text_hash};
use crate::invocation_approvals::InvocationApprovals;
use crate::record::redacted_object;
use crate::refusal::{Refusal, not_asked, unusable};
use crate::sources::compiled_source;

/// After this time, a wait compares the wall clock with the expiry again: the clock may have been set meanwhile, and
/// nothing announces that.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum bytes of a call's arguments in its view.
const MAX_VIEWED: usize = 16 << 10;

/// Finds permits, and requests them.
pub(crate) struct Approver {
    pub ledger: Ledger,
    pub fingerprints: Arc<Fingerprints>,
    pub requests: Arc<ApprovalRequests>,
    pub invocations: Arc<InvocationApprovals>,
}

impl Approver {
    /// Finds the permit of a call that needs one; `None` if it needs none.
    pub(crate) async fn check(
        &self,
        request: &CallRequest,
        touched: &Touched,
        matched: &Matched,
    ) -> Result<Option<Permit>, Refusal> {
        let two = takes_two(request, is_live(touched));
        if !two && !requires_approval(&request.policy, matched) {
            return Ok(None);
        }
        let source = self.deployed_source(request, touched).await?;
        let hash = source.as_ref().and_then(|source| source.hash.clone());
        let binding = self.binding(request, touched, hash.as_deref(), two);
        let scope = json!(standing_scope(touched, &binding, two));
        let cost = touched.cost.map_or(0, |cost| cost.0);
        let permit = self
            .ledger
            .find_permit(&binding, &scope, cost, now())
            .await
            .map_err(unusable)?;
        // What a standing permit still pays for is not known to be enough for an unknown cost.
        let is_enough = |permit: &Permit| {
            let pays = permit.standing && permit.cost_left.is_some();
            let unknown = touched.cost.is_none() && request.operation.is_some_and(Operation::costs);
            !(pays && unknown)
        };
        if let Some(permit) = permit.filter(is_enough) {
            if two {
                self.check_deciders(request, &permit).await?;
            }
            return Ok(Some(permit));
        }
        let requested = NewApproval {
            kind: ApprovalKind::Call,
            binding,
            view: Self::view(request, touched, source),
            contents: contents(&request.arguments),
            unannounced: !request.principal.is_operator(),
            needs: if two { 2 } else { 1 },
            requester: request.principal.person,
            interested: Vec::new(),
            reload_requesters: Vec::new(),
            scope,
            cost,
            source: hash,
            now: now(),
            expires: self.requests.expiry(),
        };
        let approval = self.requests.request(requested, Some(request)).await;
        let approval = approval.map_err(not_asked)?;
        Err(match approval.status {
            Status::Refused => Refusal::ApprovalRefused {
                id: approval.id.clone(),
                reason: reason(&approval),
            },
            _ => {
                if !request.principal.is_operator() {
                    self.invocations
                        .note(&request.principal.invocation, &approval.id);
                }
                Refusal::ApprovalRequired { id: approval.id }
            }
        })
    }

    /// Checks that the approvers are not the person whose invocation would use the permit; the request may have
    /// been made by another invocation of a different person.
    async fn check_deciders(&self, request: &CallRequest, permit: &Permit) -> Result<(), Refusal> {
        let approval = self
            .ledger
            .approval(&permit.approval, now())
            .await
            .map_err(unusable)?;
        let decisions = approval
            .map(|approval| approval.decisions)
            .unwrap_or_default();
        if decisions
            .iter()
            .any(|one| Some(one.uid) == request.principal.person)
        {
            return Err(Refusal::denied(format!(
                "this takes the yes of two people other than who asks, and who asks now gave one of them ({})",
                permit.approval
            )));
        }
        Ok(())
    }

    /// The source that a deployment would run, as far as the host knows it.
    async fn deployed_source(
        &self,
        request: &CallRequest,
        touched: &Touched,
    ) -> Result<Option<DeployedSource>, Refusal> {
        match (request.text("compileId"), &touched.project) {
            (Some(compile), Some(_)) if request.access == Access::Trade => {
                Ok(Some(DeployedSource {
                    compile: compile.to_owned(),
                    hash: compiled_source(&self.ledger, request.account(), compile).await?,
                }))
            }
            _ => Ok(None),
        }
    }

    fn binding(
        &self,
        request: &CallRequest,
        touched: &Touched,
        source: Option<&str>,
        two: bool,
    ) -> Binding {
        let resolved = json!({
            "two people": two,
            "live": is_live(touched),
            "arguments": request.arguments,
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
                let revision = request.settings().profiles.revision(profile);
                format!("{profile}={}", revision.unwrap_or_default())
            })
            .collect();
        revisions.sort();
        revisions.dedup();
        Binding {
            account: request.account().to_owned(),
            plugin: request.plugin().to_owned(),
            digest: request.principal.digest.to_string(),
            operation: request.name.to_string(),
            profile_revision: revisions.join(" "),
            arguments_hmac: self.fingerprints.of("permit", &resolved),
        }
    }

    /// What the approver is shown; nothing in it is the plugin's own description of the call.
    fn view(request: &CallRequest, touched: &Touched, source: Option<DeployedSource>) -> Value {
        let mut view = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                view.insert(name.to_owned(), value);
            }
        };
        put("operation", json!(request.name));
        put("class", json!(request.access.word()));
        put("plugin", json!(request.plugin()));
        put("digest", json!(&*request.principal.digest));
        put("account", json!(request.account()));
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
        put("real-money", json!(is_live(touched)));
        put("arguments", viewed(&request.arguments));
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
    pub(crate) async fn wait(&self, principal: &Principal, id: &str) -> Result<(), Refusal> {
        // Before the first look at the ledger, so that no decision is missed in between.
        let mut decisions = self.requests.decided.subscribe();
        let mut noted = false;
        loop {
            let approval = self.ledger.approval(id, now()).await.map_err(unusable)?;
            let own = approval
                .filter(|approval| approval.binding.plugin == *principal.plugin)
                .ok_or_else(|| {
                    Refusal::Failed(Failure::NotFound(format!(
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
                self.invocations.note(&principal.invocation, &own.id);
                tracing::info!(
                    target: "gate", plugin = %principal.plugin, invocation = %principal.invocation, approval = own.id,
                    "waiting for approval; see: qchost approvals show {}", own.id
                );
            }
            // Each decision is made by this process, which holds the lock of the data folder, and is announced.
            let left = own.expires.saturating_sub(now());
            let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
            let left = left.min(EXPIRY_CHECK_INTERVAL);
            drop(tokio::time::timeout(left, decisions.changed()).await);
        }
    }
}

/// Whether two people have to approve.
pub(crate) fn takes_two(request: &CallRequest, live: bool) -> bool {
    request.settings().two_person && request.access == Access::Trade && live
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

/// The scope of a standing permit for a call.
fn standing_scope(touched: &Touched, binding: &Binding, two: bool) -> CallScope {
    let mut scope = CallScope {
        two_people: two,
        live: is_live(touched),
        ..CallScope::default()
    };
    for facts in &touched.facts {
        let context = &facts.context;
        if let Some(brokerage) = &context.brokerage {
            let profile = brokerage.profile.clone();
            scope.brokerages.insert((profile, brokerage.live));
        }
        scope.data_providers.extend(context.data_provider.clone());
    }
    match &touched.project {
        Some((id, name)) => {
            scope.project = Some(*id);
            scope.name = Some(name.clone());
        }
        None => scope.arguments = Some(binding.arguments_hmac.clone()),
    }
    scope
}

/// Why an approval does not permit the call.
fn reason(approval: &Approval) -> String {
    let last = approval.decisions.last();
    match approval.status {
        Status::Expired => "no decision was made in time".to_owned(),
        Status::Revoked => "the permit was revoked".to_owned(),
        Status::Closed => approval.closed.clone().unwrap_or_default(),
        _ => {
            let said = last.map_or("", |decision| decision.reason.as_str());
            match Timestamp::from_second(approval.expires / 1000) {
                Ok(until) => format!(
                    "{said} (stands for the same call until {until}; a later call, or one with other arguments, asks again)"
                ),
                Err(_) => format!(
                    "{said} (stands for the same call; one with other arguments asks again)"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use qchost_scope::Scope;

    use super::*;
    use crate::testing::Stores;

    const ASKS: &str =
        "[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\napproval = \"operator\"\n";
    const FREE: &str = "[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\n";

    async fn check(stores: &Stores) -> Result<Option<Permit>, Refusal> {
        let file = json!({ "projectId": 1, "name": "a.py" });
        let request = stores.request("files/create-file", file);
        let matched = Matched {
            grants: vec![0],
            pending: Vec::new(),
        };
        stores
            .approver()
            .check(&request, &Scope::new().service(), &matched)
            .await
    }

    async fn requested(stores: &Stores, expires: i64) -> String {
        let request = stores.request("files/create-file", json!({ "projectId": 1 }));
        let new = NewApproval {
            kind: ApprovalKind::Call,
            binding: stores
                .approver()
                .binding(&request, &Scope::new().service(), None, false),
            view: json!({}),
            contents: None,
            unannounced: false,
            needs: 1,
            requester: None,
            interested: Vec::new(),
            reload_requesters: Vec::new(),
            scope: json!({}),
            cost: 0,
            source: None,
            now: now(),
            expires,
        };
        stores.ledger.request_approval(new).await.unwrap().id
    }

    #[tokio::test]
    async fn a_wait_is_woken_by_the_announcement_of_a_decision() {
        let stores = Stores::new(ASKS).await;
        let id = requested(&stores, i64::MAX).await;
        let approver = stores.approver();
        let principal = stores
            .request("files/read-file", json!({ "projectId": 1 }))
            .principal;
        let deciding = async {
            // The wait has begun by then; if not, it finds the decision at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let ledger = &stores.ledger;
            ledger.refuse(&id, 7, "ann", "no", now()).await.unwrap();
            approver.requests.decided.notify();
        };
        // A wait that missed it would look again much later.
        let limit = EXPIRY_CHECK_INTERVAL / 2;
        let waiting = tokio::time::timeout(limit, approver.wait(&principal, &id));
        let (waited, ()) = tokio::join!(waiting, deciding);
        let refusal = waited.unwrap().unwrap_err();
        assert!(
            matches!(&refusal, Refusal::ApprovalRefused { reason, .. } if reason.starts_with("no (")),
            "{refusal:?}"
        );
    }

    #[tokio::test]
    async fn a_wait_ends_when_its_approval_expires() {
        let stores = Stores::new(ASKS).await;
        let id = requested(&stores, now().saturating_add(200)).await;
        let principal = stores
            .request("files/read-file", json!({ "projectId": 1 }))
            .principal;
        let limit = EXPIRY_CHECK_INTERVAL / 2;
        let approver = stores.approver();
        let waited = tokio::time::timeout(limit, approver.wait(&principal, &id)).await;
        let refusal = waited.unwrap().unwrap_err();
        let late = "no decision was made in time";
        assert!(
            matches!(&refusal, Refusal::ApprovalRefused { reason, .. } if reason == late),
            "{refusal:?}"
        );
    }

    #[tokio::test]
    async fn a_call_whose_grant_wants_it_is_requested_once_and_finds_its_permit_afterwards() {
        let stores = Stores::new(ASKS).await;
        let Err(Refusal::ApprovalRequired { id }) = check(&stores).await else {
            panic!("no approval is required");
        };
        let again = check(&stores).await.unwrap_err();
        assert_eq!(again, Refusal::ApprovalRequired { id: id.clone() });
        let records = stores.records().await;
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(records[0]["what"], "request");
        let expires = now() + 60_000;
        let approved = stores
            .ledger
            .approve(&id, 7, "ann", None, expires, now())
            .await;
        approved.unwrap();
        let permit = check(&stores).await.unwrap().unwrap();
        assert_eq!(permit.approval, id);
    }

    #[tokio::test]
    async fn a_call_whose_grant_does_not_want_it_requests_nothing() {
        let stores = Stores::new(FREE).await;
        assert!(check(&stores).await.unwrap().is_none());
        assert!(stores.records().await.is_empty());
    }
}
