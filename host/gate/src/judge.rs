//! The decision about a call: halt, grants and guardrails, the rules of trade, approval.
//!
//! Invariant: nothing here sends the call. Reads needed for the decision (a project's name, a cost) are made only if
//! some grant covers the operation, so a call that no grant covers causes no traffic.

use std::collections::BTreeSet;
use std::time::Instant;

use qchost_catalog::{
    Access, BoxFuture, Call, Clearance, Failure, Operation, Outcome, Selector, Target, always,
};
use qchost_ledger::Permit;
use qchost_policy::{
    Approval, Authority, DOWNLOAD, Decision, Denial, Facts, Manifest, Project, Resource, WORKFLOW,
};
use qchost_scope::{Configured, Reader, Resolved, ScopeError, Touched, check_project_id};
use qchost_traffic::Priority;
use serde_json::{Map, Value};

use crate::ask::Ask;
use crate::gate::{Gate, Inner};
use crate::record::Known;
use crate::refusal::Refusal;
use crate::terms::Terms;

/// The outcome of a decision that allows a call.
pub(crate) struct Verdict {
    pub touched: Touched,
    /// All grants that matched; the obligations of each apply.
    pub matched: Matched,
    /// The permit of the approval, if one is needed.
    pub permit: Option<Permit>,
}

impl Verdict {
    pub(crate) fn known<'a>(&'a self, reservation: Option<i64>) -> Known<'a> {
        Known {
            project: self.touched.project.as_ref(),
            matched: Some(&self.matched),
            guardrails: &[],
            permit: self.permit.as_ref().map(|permit| permit.id.as_str()),
            approval: self.permit.as_ref().map(|permit| permit.approval.as_str()),
            reservation,
            sends: None,
        }
    }
}

/// A refusal, with what was known at that point.
pub(crate) struct Refused {
    pub refusal: Refusal,
    /// What the plugin is told instead, if the refusal names something that it may not see.
    pub told: Option<Refusal>,
    pub guardrails: Vec<String>,
    pub project: Option<(u32, String)>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            told: None,
            guardrails: Vec::new(),
            project: None,
        }
    }
}

impl From<Box<Refused>> for Refused {
    fn from(refused: Box<Refused>) -> Self {
        *refused
    }
}

/// The host's own reads, made for a call and in its plugin's queue.
pub(crate) struct HostReads<'a> {
    pub inner: &'a Inner,
    pub account: &'a str,
    pub plugin: &'a str,
    pub priority: Priority,
    pub deadline: Instant,
    /// Whether they may still be sent.
    pub clearance: Clearance<'a>,
    /// The call they are charged to, if a plugin's call causes them.
    pub cause: Option<&'a Ask>,
}

impl Reader for HostReads<'_> {
    fn read<'a>(
        &'a self,
        operation: &'static Operation,
        mut arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            if let Some(ask) = self.cause {
                self.inner.pay_read(ask).await.map_err(|refusal| {
                    ask.toll.refuse(refusal);
                    Failure::RateLimited { retry_after: None }
                })?;
            }
            operation.complete(&mut arguments);
            let lanes = &self.inner.lanes;
            let turn = lanes.enter(self.account, self.plugin, self.priority);
            let ticket = tokio::select! {
                biased;
                ticket = turn => ticket,
                refusal = self.refused() => return Err(refusal),
            };
            let _ticket = ticket.map_err(|busy| Failure::RateLimited {
                retry_after: Some(busy.retry_after),
            })?;
            let call = Call {
                account: self.account,
                target: Target::Known(operation),
                arguments,
                deadline: self.deadline,
                clearance: self.clearance,
                sends: None,
            };
            self.inner.upstream.call(call).await
        })
    }
}

impl HostReads<'_> {
    /// Waits until a change of the terms forbids them.
    async fn refused(&self) -> Failure {
        let mut changes = self.inner.terms.changes();
        loop {
            if let Err(refusal) = (self.clearance)() {
                return refusal;
            }
            // The sender lives as long as `self`.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Gate {
    /// Decides a call.
    pub(crate) async fn judge(&self, ask: &Ask) -> Result<Verdict, Refused> {
        if ask.halted()
            && let Some(reason) = self.0.halts.reason(ask.account(), &ask.caller.plugin)
        {
            return Err(Refusal::Halted(reason).into());
        }
        self.0.shares.check(ask)?;
        check_account(&ask.terms, ask)?;
        if let Some(operation) = ask.operation {
            check_project_id(operation, &ask.arguments).map_err(unresolved)?;
        }
        let facts = Facts::of(named(ask));
        check_covered(ask, &facts)?;
        self.check_unsettled(ask)?;
        let touched = match self.touched(ask).await {
            Ok(touched) => touched,
            Err(refused) => return Err(self.unresolved_call(ask, refused)),
        };
        let with_project = |refused: Refused| with_project(refused, &touched);
        let matched = decide_all(&ask.terms, ask, &touched.facts)
            .map_err(|refused| with_project(*refused))?;
        self.check_trade(ask, &touched)
            .await
            .map_err(Refused::from)
            .map_err(with_project)?;
        let permit = self
            .check_approval(ask, &touched, &matched)
            .await
            .map_err(Refused::from)
            .map_err(with_project)?;
        Ok(Verdict {
            touched,
            matched,
            permit,
        })
    }

    /// The refusal of a call whose targets cannot be resolved.
    fn unresolved_call(&self, ask: &Ask, refused: Refused) -> Refused {
        if let Some(unpaid) = ask.toll.take_refusal() {
            return unpaid.into();
        }
        // Nothing is hidden from an operator, nor from a plugin that is granted every project.
        let mut authorities = ask.terms.authorities();
        if ask.caller.is_operator()
            || authorities.all(|authority| authority.sees_all(&ask.name, ask.access))
        {
            return not_there(refused);
        }
        let told = match (&refused.refusal, named(ask)) {
            (Refusal::Denied(_), Resource::Project(Project { id: Some(id), .. })) => {
                let scope = &self.0.scope;
                let known = scope.known_project(ask.account(), &ask.caller.plugin, id);
                let authority = &ask.terms.authority;
                let sees = |project| authority.sees(&ask.name, ask.access, &project);
                (!known.is_some_and(sees)).then(|| out_of_sight(authority, ask))
            }
            (Refusal::Denied(_), _) if names_child(ask) => {
                Some(out_of_sight(&ask.terms.authority, ask))
            }
            _ => None,
        };
        Refused {
            told: told.or(refused.told),
            ..refused
        }
    }

    /// What a call touches. Long texts of the plugin are read only if some grant covers the rest of the call.
    async fn touched(&self, ask: &Ask) -> Result<Touched, Refused> {
        let resolved = self.resolved(ask).await?;
        let Some(bytes) = resolved.unread() else {
            return Ok(resolved.read().map_err(unresolved)?);
        };
        check_granted(&ask.terms, ask, &resolved.known().facts)
            .map_err(|refused| with_project(*refused, resolved.known()))?;
        let project = resolved.known().project.clone();
        let read = self
            .aside(&ask.caller, bytes, move || resolved.read())
            .await?;
        read.map_err(|error| Refused {
            project,
            ..unresolved(error).into()
        })
    }

    /// What a call touches, as far as it can be read without delay.
    async fn resolved(&self, ask: &Ask) -> Result<Resolved, Refusal> {
        let scope = &self.0.scope;
        let Some(operation) = ask.operation else {
            return self.untold(ask).map(Into::into).map_err(unresolved);
        };
        let reads = self.reads(ask);
        let settings = ask.settings();
        scope
            .resolve_known(
                &reads,
                Configured {
                    live_profile: &|profile| settings.profiles.brokerage(profile),
                    node_prices: &settings.node_prices,
                },
                ask.account(),
                &ask.caller.plugin,
                operation,
                &ask.arguments,
            )
            .await
            .map_err(unresolved)
    }

    /// What a call touches that is no operation of the catalog.
    pub(crate) fn untold(&self, ask: &Ask) -> Result<Touched, ScopeError> {
        let scope = &self.0.scope;
        let text = |name: &str| {
            let text = ask.arguments.get(name).and_then(Value::as_str);
            text.unwrap_or_default()
        };
        match &*ask.name {
            DOWNLOAD => scope.download(text("organizationId"), text("key")),
            WORKFLOW => Ok(scope.service()),
            _ => Ok(scope.unknown_tool(&ask.tool)),
        }
    }

    /// The host's reads for a call, to decide it or to check its answer.
    pub(crate) fn reads<'a>(&'a self, ask: &'a Ask) -> HostReads<'a> {
        HostReads {
            inner: &self.0,
            account: ask.account(),
            plugin: &ask.caller.plugin,
            priority: priority(ask.access),
            deadline: ask.begun + self.0.call_timeout,
            clearance: always(),
            cause: Some(ask),
        }
    }
}

/// Risk-reducing calls have priority.
pub(crate) fn priority(access: Access) -> Priority {
    if access == Access::Reduce {
        Priority::Safety
    } else {
        Priority::Normal
    }
}

/// For a principal from whom nothing is hidden, a target that cannot be resolved does not exist.
fn not_there(refused: Refused) -> Refused {
    match refused.refusal {
        Refusal::Denied(denial) => Refused {
            refusal: Refusal::Failed(Failure::NotFound(denial.reason)),
            ..refused
        },
        refusal => Refused { refusal, ..refused },
    }
}

/// What a call claims to be about; not used for decisions.
pub(crate) fn named(ask: &Ask) -> Resource {
    let id = ask.arguments.get("projectId").and_then(Value::as_u64);
    match id.and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Resource::Project(Project {
            id: Some(id),
            name: String::new(),
            created: false,
        }),
        None => Resource::Account,
    }
}

/// The grants that matched, by index: in the manifest, and in the changed one that must agree.
pub(crate) struct Matched {
    pub grants: Vec<usize>,
    pub pending: Vec<usize>,
}

/// Checks that the account is in force for a call.
pub(crate) fn check_account(terms: &Terms, ask: &Ask) -> Result<(), Refusal> {
    let safe = matches!(ask.access, Access::Read | Access::Reduce);
    match terms.settings.not_in_force(ask.account()) {
        Some(why) if !(ask.caller.is_operator() && safe) => {
            Err(Refusal::Failed(Failure::Unavailable(why)))
        }
        _ => Ok(()),
    }
}

/// Checks that some grant covers the operation, in every manifest that must agree.
pub(crate) fn check_covered(ask: &Ask, facts: &Facts) -> Result<(), Refusal> {
    let Terms {
        authority, pending, ..
    } = &*ask.terms;
    authority.check_covered(&ask.name, ask.access, facts)?;
    if let Some(pending) = pending {
        let covered = pending.check_covered(&ask.name, ask.access, facts);
        covered.map_err(|denial| already(pending, denial))?;
    }
    Ok(())
}

fn with_project(mut refused: Refused, touched: &Touched) -> Refused {
    refused.project.clone_from(&touched.project);
    refused
}

/// Decides about everything that a call touches; every manifest that must agree has to allow all of it.
pub(crate) fn decide_all(
    terms: &Terms,
    ask: &Ask,
    facts: &[Facts],
) -> Result<Matched, Box<Refused>> {
    decide_each(terms, ask, facts, |decision| decision.allowed)
}

/// Checks that some grant of every manifest that must agree covers what is known of a call. Guardrails are not
/// evaluated: one of them may depend on what is not known yet.
fn check_granted(terms: &Terms, ask: &Ask, known: &[Facts]) -> Result<(), Box<Refused>> {
    decide_each(terms, ask, known, |decision| !decision.grants.is_empty()).map(drop)
}

fn decide_each(
    terms: &Terms,
    ask: &Ask,
    facts: &[Facts],
    passes: fn(&Decision) -> bool,
) -> Result<Matched, Box<Refused>> {
    let grants = decide_by(&terms.authority, ask, facts, passes)?;
    let Some(changed) = &terms.pending else {
        return Ok(Matched {
            grants,
            pending: Vec::new(),
        });
    };
    let account = terms.authority.manifest().account.as_str();
    if changed.manifest().account != account {
        let elsewhere = Denial {
            reason: format!("it is for another account than `{account}`"),
            ..plain(ask)
        };
        return Err(Box::new(
            Refusal::Denied(already(changed, elsewhere)).into(),
        ));
    }
    let say = |refusal: Refusal| match refusal {
        Refusal::Denied(denial) => Refusal::Denied(already(changed, denial)),
        refusal => refusal,
    };
    let pending = decide_by(changed, ask, facts, passes).map_err(|mut refused| {
        refused.refusal = say(refused.refusal);
        refused.told = refused.told.map(say);
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
    ask: &Ask,
    facts: &[Facts],
    passes: fn(&Decision) -> bool,
) -> Result<Vec<usize>, Box<Refused>> {
    let mut grants = BTreeSet::new();
    if facts.is_empty() {
        return Err(Box::new(Refusal::Denied(plain(ask)).into()));
    }
    // A person whose role permits it may reduce risk whatever the guardrails say.
    if ask.caller.is_operator() && ask.access == Access::Reduce {
        return Ok((0..authority.manifest().grants.len()).collect());
    }
    check_pin(authority.manifest(), ask)
        .map_err(|denial| Refused::from(Refusal::Denied(denial)))?;
    for facts in facts {
        let decision = authority.decide(&ask.caller.digest, &ask.name, ask.access, facts);
        if !passes(&decision) {
            return Err(Box::new(Refused {
                refusal: Refusal::Denied(decision.denial.unwrap_or_else(|| plain(ask))),
                told: told(authority, ask, facts, &decision.guardrails),
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
fn check_pin(manifest: &Manifest, ask: &Ask) -> Result<(), Denial> {
    match &manifest.digest {
        Some(pin) if ask.access == Access::Trade && **pin != *ask.caller.digest => Err(Denial {
            reason: format!(
                "the manifest of `{}` pins the component {pin}, and {} may not trade under it",
                manifest.plugin, ask.caller.digest
            ),
            ..plain(ask)
        }),
        _ => Ok(()),
    }
}

/// A denial without details.
fn plain(ask: &Ask) -> Denial {
    Denial {
        reason: format!("`{}` is not allowed here", ask.name),
        nearest_grant: None,
        remedy: None,
    }
}

/// What a plugin is told of a denial about a project that none of its grants for the operation covers: the same as for
/// a project that does not exist, so that it cannot enumerate names or ids.
fn told(authority: &Authority, ask: &Ask, facts: &Facts, guardrails: &[String]) -> Option<Refusal> {
    let Resource::Project(project @ Project { id: Some(_), .. }) = &facts.resource else {
        return None;
    };
    if !authority.sees(&ask.name, ask.access, project) {
        return Some(out_of_sight(authority, ask));
    }
    // A guardrail may forbid it by the project's name.
    (!guardrails.is_empty()).then(|| {
        Refusal::Denied(Denial {
            reason: format!("the guardrail `{}` forbids it", guardrails.join("`, `")),
            ..plain(ask)
        })
    })
}

/// The denial for a target that the plugin may not see or that does not exist, based on the call's own arguments only.
fn out_of_sight(authority: &Authority, ask: &Ask) -> Refusal {
    Refusal::Denied(match named(ask) {
        named @ Resource::Project(_) => {
            authority.uncovered(&ask.name, ask.access, &Facts::of(named))
        }
        _ => Denial {
            reason: format!(
                "`{}`: what it names is not there, or no grant of `{}` covers its project; nothing was sent",
                ask.name, ask.caller.plugin
            ),
            ..plain(ask)
        },
    })
}

/// Whether a call names a child object of a project.
fn names_child(ask: &Ask) -> bool {
    let selectors = ask
        .operation
        .map_or(&[][..], |operation| operation.selectors);
    selectors.iter().any(|selector| {
        matches!(
            selector,
            Selector::Backtest(_)
                | Selector::Optimization(_)
                | Selector::Compile(_)
                | Selector::Deployment(_)
        )
    })
}

/// Whether approval is needed: the strictest of all matching grants decides.
pub(crate) fn wants_approval(terms: &Terms, matched: &Matched) -> bool {
    let asks = |authority: &Authority, places: &[usize]| {
        let grants = &authority.manifest().grants;
        let mut matching = places.iter().filter_map(|at| grants.get(*at));
        matching.any(|grant| grant.approval == Approval::Operator)
    };
    let pending = terms.pending.as_ref();
    asks(&terms.authority, &matched.grants)
        || pending.is_some_and(|pending| asks(pending, &matched.pending))
}

pub(crate) fn unresolved(error: ScopeError) -> Refusal {
    match error {
        ScopeError::Invalid(message) => Refusal::Failed(Failure::InvalidArgument(message)),
        ScopeError::Denied(reason) => Refusal::Denied(Denial {
            reason,
            nearest_grant: None,
            remedy: None,
        }),
        ScopeError::Failed(failure) => failure.into(),
    }
}
