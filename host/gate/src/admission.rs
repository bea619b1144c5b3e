//! Admission of a call: deciding it, charging the rates and queues of its grants and its account, and
//! confirming that the terms it was decided under are still in force when it is sent.
//!
//! Invariant: before each send, the sender checks that the terms of the decision are still in force
//! ([`Gate::still`]). If they are not, the call is decided again; what it already holds for its obligations
//! stays valid as long as those are unchanged.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use qchost_policy::{Denial, GrantLimits};

use crate::ask::{Ask, Caller};
use crate::gate::Gate;
use crate::judge::{Matched, Refused, Verdict, check_account, decide_all, wants_approval};
use crate::obligations::obligations_under;
use crate::record::Known;
use crate::refusal::Refusal;
use crate::sending::Held;
use crate::sources::HeldSource;
use crate::terms::Terms;

/// A call that was admitted.
pub(crate) struct Admitted {
    pub verdict: Verdict,
    pub held: Held,
    /// The locks it holds on project sources.
    pub source: HeldSource,
    /// Whether it was admitted before with the same obligations, so what it acquired then is kept.
    pub again: bool,
}

impl Gate {
    /// Decides a call and waits until it may be sent; a refusal is recorded.
    pub(crate) async fn admit_call(&self, ask: &mut Ask) -> Result<Admitted, Refusal> {
        let verdict = self.decide(ask).await?;
        self.let_in(ask, verdict, None).await
    }

    /// Admits again a call that was admitted but not sent because its terms changed.
    pub(crate) async fn admit_again(
        &self,
        ask: &mut Ask,
        admitted: Admitted,
    ) -> Result<Admitted, Refusal> {
        let Admitted {
            verdict,
            held,
            source,
            ..
        } = admitted;
        self.let_in(ask, verdict, Some((held, source))).await
    }

    async fn let_in(
        &self,
        ask: &mut Ask,
        mut verdict: Verdict,
        mut entered: Option<(Held, HeldSource)>,
    ) -> Result<Admitted, Refusal> {
        let mut again = entered.is_some();
        loop {
            if entered.is_none() {
                again = false;
                let entering = async {
                    // First, so that a call waiting for a source counts against its plugin's concurrency
                    // limits.
                    let slots = self.slots(ask, &verdict.matched).await?;
                    // Before the account's rate limit, so that a call does not occupy it while it waits for
                    // a source.
                    let Some(source) = self.hold_source(ask, &verdict).await? else {
                        return Ok(None);
                    };
                    let held = self.enter(ask, &verdict, slots).await?;
                    Ok(held.map(|held| (held, source)))
                };
                entered = entering.await.inspect_err(|refusal| {
                    self.note_refusal(ask, &verdict.known(None), refusal);
                })?;
            }
            if self.still(ask)
                && let Some((held, source)) = entered
            {
                return Ok(Admitted {
                    verdict,
                    held,
                    source,
                    again,
                });
            }
            let terms = self.terms(&ask.caller).inspect_err(|refusal| {
                self.note_refusal(ask, &Known::default(), refusal);
            })?;
            let former = std::mem::replace(&mut ask.terms, terms);
            let anew = self.decide(ask).await?;
            if owed(&former, ask, &verdict.matched) != owed(&ask.terms, ask, &anew.matched) {
                entered = None;
            }
            verdict = anew;
        }
    }

    async fn decide(&self, ask: &Ask) -> Result<Verdict, Refusal> {
        let refused = match self.judge(ask).await {
            Ok(verdict) => return Ok(verdict),
            Err(refused) => refused,
        };
        let Refused {
            refusal,
            told,
            guardrails,
            project,
        } = refused;
        let known = Known {
            project: project.as_ref(),
            guardrails: &guardrails,
            ..Known::default()
        };
        self.note_refusal(ask, &known, &refusal);
        if matches!(refusal, Refusal::Denied(_)) {
            self.count_attempt(ask).await;
        }
        Err(told.unwrap_or(refusal))
    }

    /// Whether the terms that a call was decided under are still in force.
    pub(crate) fn still(&self, ask: &Ask) -> bool {
        self.0.terms.hold(&ask.caller.plugin, &ask.terms)
    }

    /// Decides again a call whose terms changed while it is under way, as far as this needs no waiting:
    /// whether it is still allowed on the same account, and without an approval that it does not already
    /// have.
    pub(crate) fn recheck(&self, ask: &Ask, verdict: &Verdict) -> Result<(), Refusal> {
        if self.still(ask) {
            return Ok(());
        }
        let terms = self.terms(&ask.caller)?;
        check_account(&terms, ask)?;
        let matched = decide_all(&terms, ask, &verdict.touched.facts)
            .map_err(|refused| refused.told.unwrap_or(refused.refusal))?;
        let reason = if terms.authority.manifest().account != ask.account() {
            "the manifest is for another account now"
        } else if verdict.permit.is_none() && wants_approval(&terms, &matched) {
            "a person has to approve it now; ask again"
        } else {
            return Ok(());
        };
        Err(Refusal::Denied(Denial {
            reason: reason.to_owned(),
            nearest_grant: None,
            remedy: None,
        }))
    }

    /// The terms that a plugin's calls are decided under now.
    pub(crate) fn terms(&self, caller: &Caller) -> Result<Arc<Terms>, Refusal> {
        self.0.terms.of(&caller.plugin).ok_or_else(|| {
            if caller.may_be_logged() {
                tracing::warn!(target: "gate", plugin = %caller.plugin, invocation = %caller.invocation, "denied: no manifest");
            }
            Refusal::Denied(Denial {
                reason: format!("`{}` has no manifest (any more)", caller.plugin),
                nearest_grant: None,
                remedy: None,
            })
        })
    }
}

/// The obligations of the grants that match a call, independent of the order in which they are written, and
/// the account.
fn owed<'a>(
    terms: &'a Terms,
    ask: &'a Ask,
    matched: &'a Matched,
) -> (&'a str, BTreeMap<Cow<'a, str>, GrantLimits>) {
    let limits = obligations_under(terms, ask.is_http(), matched);
    let limits = limits.filter(|(_, limits)| *limits != GrantLimits::default());
    (&terms.authority.manifest().account, limits.collect())
}
