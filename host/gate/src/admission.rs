//! Admission of a call: decided, charged to the rates of its grants, and through the queue of its account.
//!
//! Invariant: what is admitted was decided by the policy in force at that instant. If the policy changed while the call
//! waited, the call is decided again; what it already holds for its obligations stays valid as long as those are
//! unchanged.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use qchost_policy::GrantLimits;

use crate::approve::Approver;
use crate::authorize::{Authorizer, decide_all};
use crate::call::CallRequest;
use crate::call_log::CallLog;
use crate::decision::{CallDecision, Matched, Refused};
use crate::evidence::EvidenceStage;
use crate::obligations::obligations_under;
use crate::policy::EffectivePolicy;
use crate::read_limits::ReadLimits;
use crate::record::AuditContext;
use crate::refusal::Refusal;
use crate::resolve::Resolver;
use crate::sources::{SourceGuard, SourceGuards};
use crate::throttle::{CallGuards, Throttle};
use crate::trade::TradeRules;

/// A call that was admitted.
pub(crate) struct AdmittedCall {
    pub decision: CallDecision,
    pub guards: CallGuards,
    /// The locks it holds on project sources.
    pub source: SourceGuard,
    /// Whether it was admitted before with the same obligations, so what it acquired then is kept.
    pub is_retry: bool,
}

/// Runs the stages before a call is sent.
pub(crate) struct Admitter {
    pub authorizer: Arc<Authorizer>,
    pub resolver: Resolver,
    pub evidence: Arc<EvidenceStage>,
    pub trade: Arc<TradeRules>,
    pub approver: Arc<Approver>,
    pub throttle: Arc<Throttle>,
    pub sources: Arc<SourceGuards>,
    pub limits: Arc<ReadLimits>,
    pub log: Arc<CallLog>,
}

impl Admitter {
    /// Decides a call and waits until it may be sent; a refusal is recorded.
    pub(crate) async fn admit(&self, request: &mut CallRequest) -> Result<AdmittedCall, Refusal> {
        let decision = self.decide(request).await?;
        self.enter(request, decision, None).await
    }

    /// Admits again a call that was admitted but not sent because its policy changed.
    pub(crate) async fn readmit(
        &self,
        request: &mut CallRequest,
        admission: AdmittedCall,
    ) -> Result<AdmittedCall, Refusal> {
        let AdmittedCall {
            decision,
            guards,
            source,
            ..
        } = admission;
        self.enter(request, decision, Some((guards, source))).await
    }

    async fn enter(
        &self,
        request: &mut CallRequest,
        mut decision: CallDecision,
        mut entered: Option<(CallGuards, SourceGuard)>,
    ) -> Result<AdmittedCall, Refusal> {
        let mut is_retry = entered.is_some();
        loop {
            if entered.is_none() {
                is_retry = false;
                let entering = self.acquire(request, &decision).await;
                entered = entering.inspect_err(|refusal| {
                    let context = AuditContext::of(&decision, None);
                    self.log.note_refusal(request, &context, refusal);
                })?;
            }
            if self.authorizer.is_current(request)
                && let Some((guards, source)) = entered
            {
                return Ok(AdmittedCall {
                    decision,
                    guards,
                    source,
                    is_retry,
                });
            }
            let policy = self.authorizer.policy_of(&request.principal);
            let policy = policy.inspect_err(|refusal| {
                self.log
                    .note_refusal(request, &AuditContext::default(), refusal);
            })?;
            let former = std::mem::replace(&mut request.policy, policy);
            let anew = self.decide(request).await?;
            if owed(&former, request, &decision.matched)
                != owed(&request.policy, request, &anew.matched)
            {
                entered = None;
            }
            decision = anew;
        }
    }

    /// Acquires what a call occupies while it is under way; `None` if its policy no longer allows it.
    async fn acquire(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<Option<(CallGuards, SourceGuard)>, Refusal> {
        let authorizer = &self.authorizer;
        // First, so that a call waiting for a source counts against its plugin's concurrency limits.
        let concurrency = self.throttle.charge(request, &decision.matched).await?;
        // Before the account's rate limit, so that a call does not occupy it while it waits for a source.
        let source = self.sources.guard(request, decision);
        let source = authorizer.while_allowed(request, decision, source).await?;
        let Some(source) = source else {
            return Ok(None);
        };
        // The host's read queues like any call of the account, so it comes before this call occupies a place there.
        let files = self.resolver.check_files(request, &decision.touched);
        files.await?;
        let entering = self.throttle.enter(request, concurrency);
        let guards = authorizer
            .while_allowed(request, decision, entering)
            .await?;
        Ok(guards.map(|guards| (guards, source)))
    }

    async fn decide(&self, request: &CallRequest) -> Result<CallDecision, Refusal> {
        let refused = match self.judge(request).await {
            Ok(decision) => return Ok(decision),
            Err(refused) => refused,
        };
        let Refused {
            internal,
            public,
            guardrails,
            project,
        } = refused;
        let context = AuditContext {
            project: project.as_ref(),
            guardrails: &guardrails,
            ..AuditContext::default()
        };
        self.log.note_refusal(request, &context, &internal);
        if matches!(internal, Refusal::Denied(_)) {
            self.limits.count_attempt(request).await;
        }
        Err(public.unwrap_or(internal))
    }

    async fn judge(&self, request: &CallRequest) -> Result<CallDecision, Refused> {
        self.authorizer.check(request)?;
        let mut touched = self.resolver.resolve(request).await?;
        let completed = self.evidence.complete(request, &mut touched).await;
        let about = |refused: Refused| refused.about(&touched);
        completed.map_err(Refused::from).map_err(about)?;
        let matched = decide_all(&request.policy, request, &touched.facts)
            .map_err(|refused| about(*refused))?;
        let chosen = self.resolver.check_deployment(request, &touched).await;
        chosen.map_err(Refused::from).map_err(about)?;
        let allowed = self.trade.check(request, &touched).await;
        allowed.map_err(Refused::from).map_err(about)?;
        let permit = self.approver.check(request, &touched, &matched).await;
        let permit = permit.map_err(Refused::from).map_err(about)?;
        Ok(CallDecision {
            touched,
            matched,
            permit,
        })
    }
}

/// The obligations of the grants that match a call, independent of the order in which they are written, and
/// the account.
fn owed<'a>(
    policy: &'a EffectivePolicy,
    request: &'a CallRequest,
    matched: &'a Matched,
) -> (&'a str, BTreeMap<Cow<'a, str>, GrantLimits>) {
    let limits = obligations_under(policy, request.is_http(), matched);
    let limits = limits.filter(|(_, limits)| *limits != GrantLimits::default());
    (&policy.authority.manifest().account, limits.collect())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::pin::pin;

    use futures::FutureExt as _;
    use qchost_traffic::AccountLimits;
    use serde_json::json;

    use super::*;
    use crate::long_reads::LongReads;
    use crate::testing::Stores;

    const GRANT: &str = "[[grant]]\nname = \"lab\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\nlimits = { concurrent = 4 }\n";
    const OTHER: &str =
        "[[grant]]\nname = \"other\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\n";

    fn admitter(stores: &Stores) -> Admitter {
        let reads = stores.reads();
        Admitter {
            authorizer: stores.authorizer(),
            evidence: stores.evidence(),
            trade: stores.trade(),
            approver: stores.approver(),
            throttle: stores.throttle(),
            sources: stores.sources(),
            limits: Arc::clone(&reads.limits),
            log: stores.log(),
            resolver: Resolver {
                scope: Arc::default(),
                reads,
                paper: stores.paper(),
                long_reads: LongReads::default(),
            },
        }
    }

    fn listing(stores: &Stores, project: u32) -> CallRequest {
        stores.request("backtests/list-backtests", json!({ "projectId": project }))
    }

    #[tokio::test]
    async fn a_call_that_a_grant_allows_is_admitted_and_any_other_is_refused_and_recorded() {
        let stores = Stores::new(GRANT).await;
        let admitter = admitter(&stores);
        let admitted = admitter.admit(&mut listing(&stores, 1)).await;
        let admitted = admitted.unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!(admitted.decision.matched.grants, [0]);
        assert!(!admitted.is_retry);
        assert!(stores.records().await.is_empty());
        let refusal = admitter.admit(&mut listing(&stores, 2)).await.err();
        assert!(matches!(refusal, Some(Refusal::Denied(_))), "{refusal:?}");
        assert_eq!(stores.kinds().await, ["denied"]);
    }

    #[tokio::test]
    async fn a_call_whose_policy_changes_while_it_waits_is_decided_again() {
        for (grants, allows) in [(format!("{GRANT}{OTHER}"), true), (OTHER.to_owned(), false)] {
            let one_at_a_time = AccountLimits {
                in_flight: NonZeroU32::new(1),
                ..AccountLimits::default()
            };
            let set = |settings: &mut crate::settings::Settings| {
                settings.accounts.insert("a".to_owned(), one_at_a_time);
            };
            let stores = Stores::with(GRANT, set).await;
            let admitter = admitter(&stores);
            let first = admitter.admit(&mut listing(&stores, 1)).await;
            assert!(first.is_ok());
            let mut request = listing(&stores, 1);
            let second = {
                let mut waiting = pin!(admitter.admit(&mut request));
                assert!(waiting.as_mut().now_or_never().is_none());
                stores.install(&grants);
                drop(first);
                waiting.await
            };
            assert_eq!(second.is_ok(), allows);
            assert!(admitter.authorizer.is_current(&request));
        }
    }

    #[tokio::test]
    async fn what_a_call_holds_is_kept_as_long_as_its_obligations_stay_the_same() {
        let stores = Stores::new(GRANT).await;
        let admitter = admitter(&stores);
        let mut request = listing(&stores, 1);
        let mut admitted = admitter.admit(&mut request).await.ok().unwrap();
        let same = format!("{GRANT}{OTHER}");
        let smaller = GRANT.replace("concurrent = 4", "concurrent = 3");
        for (grants, is_kept) in [(same, true), (smaller, false)] {
            stores.install(&grants);
            let again = admitter.readmit(&mut request, admitted).await;
            admitted = again.ok().unwrap();
            assert_eq!(admitted.is_retry, is_kept, "{grants}");
            assert!(admitter.authorizer.is_current(&request));
        }
    }
}
