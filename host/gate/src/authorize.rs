//! Authorisation: whether halts, grants and guardrails allow a call, and whether what was decided still holds.
//!
//! Invariant: nothing here reads at QuantConnect or sends. Every manifest that must agree has to allow all that a call
//! touches.

use std::collections::BTreeSet;
use std::sync::Arc;

use qchost_catalog::{Access, Failure};
use qchost_policy::{Approval, Authority, Denial, Facts, Manifest, Project, Resource};
use qchost_scope::check_project_id;
use serde_json::Value;

use crate::audit_quota::AuditQuotas;
use crate::call::{CallRequest, Principal};
use crate::decision::{CallDecision, Matched, Refused};
use crate::halts::Halts;
use crate::policy::EffectivePolicy;
use crate::policy_store::PolicyStore;
use crate::refusal::{Refusal, unresolved};
use crate::unsettled::UnsettledWrites;

/// Decides by what is in force.
pub(crate) struct Authorizer {
    pub policies: Arc<PolicyStore>,
    pub halts: Arc<Halts>,
    pub audit_quotas: Arc<AuditQuotas>,
    pub unsettled: Arc<UnsettledWrites>,
}

impl Authorizer {
    /// The policy that calls of a principal are decided by now.
    pub(crate) fn policy_of(&self, principal: &Principal) -> Result<Arc<EffectivePolicy>, Refusal> {
        self.policies.of(&principal.plugin).ok_or_else(|| {
            if principal.may_be_logged() {
                tracing::warn!(target: "gate", plugin = %principal.plugin, invocation = %principal.invocation, "denied: no manifest");
            }
            Refusal::denied(format!("`{}` has no manifest", principal.plugin))
        })
    }

    /// Runs the checks that need no read, cheapest first.
    pub(crate) fn check(&self, request: &CallRequest) -> Result<(), Refusal> {
        self.check_halt(request)?;
        self.audit_quotas.check(request)?;
        check_account(&request.policy, request)?;
        if let Some(operation) = request.operation {
            check_project_id(operation, &request.arguments).map_err(unresolved)?;
        }
        check_covered(request, &Facts::of(named(request)))?;
        check_download(&request.policy, request)?;
        self.unsettled.check(request)
    }

    /// Checks that no halt stops a call.
    pub(crate) fn check_halt(&self, request: &CallRequest) -> Result<(), Refusal> {
        if !request.halted() {
            return Ok(());
        }
        let plugin = request.plugin();
        match self.halts.reason(request.account(), plugin) {
            Some(reason) => Err(Refusal::Halted(reason)),
            None => Ok(()),
        }
    }

    /// Whether the policy that a call was decided by is still in force.
    pub(crate) fn is_current(&self, request: &CallRequest) -> bool {
        self.policies.hold(request.plugin(), &request.policy)
    }

    /// Decides again a call whose policy changed while it is under way, as far as this needs no waiting: whether it is
    /// still allowed on the same account, and without an approval that it does not already have.
    pub(crate) fn recheck(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<(), Refusal> {
        if self.is_current(request) {
            return Ok(());
        }
        let policy = self.policy_of(&request.principal)?;
        check_account(&policy, request)?;
        check_download(&policy, request)?;
        let matched = decide_all(&policy, request, &decision.touched.facts)
            .map_err(|refused| refused.public.unwrap_or(refused.internal))?;
        if policy.authority.manifest().account != request.account() {
            return Err(Refusal::denied("the manifest is for another account now"));
        }
        if decision.permit.is_none() && requires_approval(&policy, &matched) {
            return Err(Refusal::denied("a person has to approve it now; ask again"));
        }
        Ok(())
    }

    /// Waits until a policy in force no longer allows a call that waits.
    pub(crate) async fn revoked(&self, request: &CallRequest, decision: &CallDecision) -> Refusal {
        let refused = || self.recheck(request, decision).err();
        self.policies.until(refused).await
    }

    /// Waits until the policy that a call was decided by is no longer in force.
    pub(crate) async fn superseded(&self, request: &CallRequest) {
        let superseded = || (!self.is_current(request)).then_some(());
        self.policies.until(superseded).await;
    }

    /// Waits until a halt stops a call, and returns its reason; never for a call that halts do not stop.
    pub(crate) async fn halted(&self, request: &CallRequest) -> String {
        if !request.halted() {
            return std::future::pending().await;
        }
        self.halts.halted(request.account(), request.plugin()).await
    }

    /// Does something for a call that waits, as long as no halt stops it and its policy allows it; `None` if the policy
    /// changed so that it does not.
    pub(crate) async fn while_allowed<T>(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Option<T>, Refusal> {
        tokio::select! {
            biased;
            reason = self.halted(request) => Err(Refusal::Halted(reason)),
            done = work => done.map(Some),
            _ = self.revoked(request, decision) => Ok(None),
        }
    }
}

/// Checks that the account is in force for a call.
pub(crate) fn check_account(
    policy: &EffectivePolicy,
    request: &CallRequest,
) -> Result<(), Refusal> {
    let safe = matches!(request.access, Access::Read | Access::Reduce);
    match policy.settings.not_in_force(request.account()) {
        Some(why) if !(request.principal.is_operator() && safe) => {
            Err(Refusal::Failed(Failure::Unavailable(why)))
        }
        _ => Ok(()),
    }
}

/// Checks that the account may download objects. QuantConnect watches for attempts to take data out, so the host does
/// not try on behalf of an organisation that may not.
pub(crate) fn check_download(
    policy: &EffectivePolicy,
    request: &CallRequest,
) -> Result<(), Refusal> {
    let account = request.account();
    if !request.downloads() || policy.settings.derived_data.contains(account) {
        return Ok(());
    }
    Err(Refusal::denied(format!(
        "QuantConnect lets only organisations that signed its agreement on derived data download objects; if that of the account \
         `{account}` did, write `derived-data = true` under [account.{account}] in qchost.toml. Nothing was sent"
    )))
}

/// Checks that some grant covers the operation, in every manifest that must agree.
pub(crate) fn check_covered(request: &CallRequest, facts: &Facts) -> Result<(), Refusal> {
    let EffectivePolicy {
        authority, pending, ..
    } = &*request.policy;
    authority.check_covered(&request.name, request.access, facts)?;
    if let Some(pending) = pending {
        let covered = pending.check_covered(&request.name, request.access, facts);
        covered.map_err(|denial| already(pending, denial))?;
    }
    Ok(())
}

/// Decides about everything that a call touches; every manifest that must agree has to allow all of it.
pub(crate) fn decide_all(
    policy: &EffectivePolicy,
    request: &CallRequest,
    facts: &[Facts],
) -> Result<Matched, Box<Refused>> {
    decide_each(policy, request, facts, |decision| decision.allowed)
}

/// Checks that some grant of every manifest that must agree covers what is known of a call. Guardrails are not
/// evaluated: one of them may depend on what is not known yet.
pub(crate) fn check_granted(
    policy: &EffectivePolicy,
    request: &CallRequest,
    known: &[Facts],
) -> Result<(), Box<Refused>> {
    decide_each(policy, request, known, |decision| {
        !decision.grants.is_empty()
    })
    .map(drop)
}

fn decide_each(
    policy: &EffectivePolicy,
    request: &CallRequest,
    facts: &[Facts],
    passes: fn(&qchost_policy::Decision) -> bool,
) -> Result<Matched, Box<Refused>> {
    let grants = decide_by(&policy.authority, request, facts, passes)?;
    let Some(changed) = &policy.pending else {
        return Ok(Matched {
            grants,
            pending: Vec::new(),
        });
    };
    let account = policy.authority.manifest().account.as_str();
    if changed.manifest().account != account {
        let elsewhere = Denial {
            reason: format!("it is for another account than `{account}`"),
            ..plain(request)
        };
        return Err(Box::new(
            Refusal::Denied(already(changed, elsewhere)).into(),
        ));
    }
    let say = |refusal: Refusal| match refusal {
        Refusal::Denied(denial) => Refusal::Denied(already(changed, denial)),
        refusal => refusal,
    };
    let pending = decide_by(changed, request, facts, passes).map_err(|mut refused| {
        refused.internal = say(refused.internal);
        refused.public = refused.public.map(say);
        refused
    })?;
    Ok(Matched { grants, pending })
}

/// A denial by a changed manifest whose component does not serve yet.
fn already(changed: &Authority, denial: Denial) -> Denial {
    Denial {
        reason: format!(
            "what the changed manifest of `{}` does not grant is denied already: {}",
            changed.manifest().plugin,
            denial.reason
        ),
        ..denial
    }
}

/// The grants of one manifest that match, in order.
fn decide_by(
    authority: &Authority,
    request: &CallRequest,
    facts: &[Facts],
    passes: fn(&qchost_policy::Decision) -> bool,
) -> Result<Vec<usize>, Box<Refused>> {
    let mut grants = BTreeSet::new();
    if facts.is_empty() {
        return Err(Box::new(Refusal::Denied(plain(request)).into()));
    }
    // A person whose role permits it may reduce risk whatever the guardrails say.
    if request.principal.is_operator() && request.access == Access::Reduce {
        return Ok((0..authority.manifest().grants.len()).collect());
    }
    check_pin(authority.manifest(), request)
        .map_err(|denial| Refused::from(Refusal::Denied(denial)))?;
    for facts in facts {
        let decision = authority.decide(
            &request.principal.digest,
            &request.name,
            request.access,
            facts,
        );
        if !passes(&decision) {
            return Err(Box::new(Refused {
                internal: Refusal::Denied(decision.denial.unwrap_or_else(|| plain(request))),
                public: public_refusal(authority, request, facts, &decision.guardrails),
                guardrails: decision.guardrails,
                project: None,
            }));
        }
        grants.extend(decision.grants);
    }
    Ok(grants.into_iter().collect())
}

/// A manifest that pins a component gives its grants of trade to no other code, including the former code whose
/// invocations still run.
fn check_pin(manifest: &Manifest, request: &CallRequest) -> Result<(), Denial> {
    match &manifest.digest {
        Some(pin) if request.access == Access::Trade && **pin != *request.principal.digest => {
            Err(Denial {
                reason: format!(
                    "the manifest of `{}` pins the component {pin}, and {} may not trade under it",
                    manifest.plugin, request.principal.digest
                ),
                ..plain(request)
            })
        }
        _ => Ok(()),
    }
}

/// A denial without details.
fn plain(request: &CallRequest) -> Denial {
    Denial {
        reason: format!("`{}` is not allowed here", request.name),
        nearest_grant: None,
        remedy: None,
    }
}

/// What a plugin is told of a denial about a project that none of its grants for the operation covers: the same as for
/// a project that does not exist, so that it cannot enumerate names or ids.
fn public_refusal(
    authority: &Authority,
    request: &CallRequest,
    facts: &Facts,
    guardrails: &[String],
) -> Option<Refusal> {
    let Resource::Project(project @ Project { id: Some(_), .. }) = &facts.resource else {
        return None;
    };
    if !authority.sees(&request.name, request.access, project) {
        return Some(out_of_sight(authority, request));
    }
    // A guardrail may forbid it by the project's name.
    (!guardrails.is_empty()).then(|| {
        Refusal::Denied(Denial {
            reason: format!("the guardrail `{}` forbids it", guardrails.join("`, `")),
            ..plain(request)
        })
    })
}

/// The denial for a target that the plugin may not see or that does not exist, based on the call's own arguments only.
pub(crate) fn out_of_sight(authority: &Authority, request: &CallRequest) -> Refusal {
    Refusal::Denied(match named(request) {
        named @ Resource::Project(_) => {
            authority.uncovered(&request.name, request.access, &Facts::of(named))
        }
        _ => Denial {
            reason: format!(
                "`{}`: what it names is not there, or no grant of `{}` covers its project; nothing was sent",
                request.name, request.principal.plugin
            ),
            ..plain(request)
        },
    })
}

/// Whether approval is needed: the strictest of all matching grants decides.
pub(crate) fn requires_approval(policy: &EffectivePolicy, matched: &Matched) -> bool {
    let requires = |authority: &Authority, indexes: &[usize]| {
        let grants = &authority.manifest().grants;
        let mut matching = indexes.iter().filter_map(|index| grants.get(*index));
        matching.any(|grant| grant.approval == Approval::Operator)
    };
    let pending = policy.pending.as_ref();
    requires(&policy.authority, &matched.grants)
        || pending.is_some_and(|pending| requires(pending, &matched.pending))
}

/// What a call claims to be about; not used for decisions.
pub(crate) fn named(request: &CallRequest) -> Resource {
    let id = request.arguments.get("projectId").and_then(Value::as_u64);
    match id.and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Resource::Project(Project {
            id: Some(id),
            name: String::new(),
            created: false,
        }),
        None => Resource::Account,
    }
}

#[cfg(test)]
mod tests {
    use qchost_policy::DOWNLOAD;
    use serde_json::json;

    use super::*;
    use crate::halts::HaltScope;
    use crate::testing::{Stores, allowed};

    const GRANT: &str = "[[grant]]\nname = \"files\"\nallow = [\"files/*\", \"backtests/*\"]\n";
    const NARROWER: &str = "[[grant]]\nname = \"files\"\nallow = [\"backtests/*\"]\n";

    fn halt(stores: &Stores) {
        let halt = qchost_ledger::Halt {
            account: None,
            plugin: None,
            reason: "lunch".to_owned(),
            by: "ann".to_owned(),
            at: 0,
        };
        stores.halts.halt(
            halt,
            &HaltScope::default(),
            crate::body::HaltBody::default(),
        );
    }

    #[tokio::test]
    async fn what_no_grant_covers_is_denied_before_anything_is_read() {
        let stores = Stores::new(GRANT).await;
        let authorizer = stores.authorizer();
        let covered = stores.request("backtests/list-backtests", json!({ "projectId": 1 }));
        authorizer.check(&covered).unwrap();
        let other = stores.request("live/read-live-algorithm", json!({ "projectId": 1 }));
        let refusal = authorizer.check(&other).unwrap_err();
        assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
        assert!(stores.cloud.sent().is_empty());
    }

    #[tokio::test]
    async fn objects_are_downloaded_only_where_the_organisation_may() {
        let grants = "[[grant]]\nname = \"one\"\nallow = [\"object-store/*\"]\norganizations = [\"*\"]\nkeys = [\"*\"]\n";
        let calls = [
            (DOWNLOAD, json!({ "organizationId": "o", "key": "k" })),
            (
                "object-store/read-object-store-file-job-id",
                json!({ "organizationId": "o", "keys": ["k"] }),
            ),
            (
                "object-store/read-object-store-file-download-url",
                json!({ "organizationId": "o", "jobId": "j" }),
            ),
        ];
        let may = Stores::new(grants).await;
        let may_not = Stores::with(grants, |settings| settings.derived_data.clear()).await;
        for (name, arguments) in calls {
            let request = may.request(name, arguments.clone());
            may.authorizer().check(&request).unwrap();
            let request = may_not.request(name, arguments);
            let refusal = may_not.authorizer().check(&request).unwrap_err();
            assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
            let told = refusal.to_string();
            assert!(
                told.contains("`derived-data = true` under [account.a]"),
                "{told}"
            );
        }
        let listing = may_not.request(
            "object-store/list-object-store-files",
            json!({ "organizationId": "o", "path": "/" }),
        );
        may_not.authorizer().check(&listing).unwrap();
        assert!(may_not.cloud.sent().is_empty());
    }

    #[tokio::test]
    async fn a_halt_stops_writes_and_lets_reads_pass() {
        let stores = Stores::new(GRANT).await;
        let authorizer = stores.authorizer();
        let file = json!({ "projectId": 1, "name": "a.py" });
        let write = stores.request("files/create-file", file);
        authorizer.check(&write).unwrap();
        halt(&stores);
        let refusal = authorizer.check(&write).unwrap_err();
        assert!(matches!(refusal, Refusal::Halted(_)), "{refusal:?}");
        let read = stores.request("backtests/list-backtests", json!({ "projectId": 1 }));
        authorizer.check(&read).unwrap();
    }

    #[tokio::test]
    async fn a_call_that_waits_is_let_go_when_its_policy_allows_it_no_longer() {
        let stores = Stores::new(GRANT).await;
        let authorizer = stores.authorizer();
        let request = stores.request("files/read-file", json!({ "projectId": 1 }));
        let mut decision = allowed(qchost_scope::Scope::new().service());
        decision.touched.facts = vec![Facts::of(Resource::Account)];
        let waits = || {
            authorizer.while_allowed(&request, &decision, std::future::pending::<Result<(), _>>())
        };
        let done = authorizer.while_allowed(&request, &decision, async { Ok(7) });
        assert_eq!(done.await.unwrap(), Some(7));
        let (waited, ()) = tokio::join!(waits(), async { stores.install(NARROWER) });
        assert_eq!(waited.unwrap(), None);
        assert!(!authorizer.is_current(&request));
        let refusal = authorizer.recheck(&request, &decision).unwrap_err();
        assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
        let other = stores.request("backtests/list-backtests", json!({ "projectId": 1 }));
        authorizer.recheck(&other, &decision).unwrap();
    }
}
