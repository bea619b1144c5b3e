//! What the grants that allow a call ask for in return: rates, calls at a time, counts, costs.
//!
//! Invariant: the obligations of all grants that matched apply, so no grant can be used to get
//! round the limits of another.

use std::borrow::Cow;

use qchost_policy::{GrantLimits, Manifest};
use qchost_traffic::{GrantKey, Moment, RateError, RateLimits, Slot};

use crate::ask::Ask;
use crate::gate::Gate;
use crate::judge::{Verdict, priority};
use crate::refusal::Refusal;
use crate::sending::Held;
use crate::trade::unusable;

/// What a grant is called in records and counters, with its limits.
pub(crate) fn obligations<'a>(
    ask: &'a Ask,
    places: &'a [usize],
) -> impl Iterator<Item = (Cow<'a, str>, &'a GrantLimits)> + 'a {
    obligations_of(ask.manifest(), ask.is_http(), places)
}

/// The same of a manifest's grants: those for other hosts, or those for QuantConnect.
pub(crate) fn obligations_of<'a>(
    manifest: &'a Manifest,
    http: bool,
    places: &'a [usize],
) -> impl Iterator<Item = (Cow<'a, str>, &'a GrantLimits)> + 'a {
    places.iter().filter_map(move |at| {
        if http {
            let grant = manifest.http.get(*at)?;
            Some((Cow::Owned(format!("http:{}", grant.name)), &grant.limits))
        } else {
            let grant = manifest.grants.get(*at)?;
            Some((Cow::Borrowed(grant.name.as_str()), &grant.limits))
        }
    })
}

impl Gate {
    /// Lets a call in at the pace that its grants and its account allow; waits for its turn on the
    /// account, never for a grant. Nothing if it is not allowed any more before its turn comes.
    pub(crate) async fn enter(
        &self,
        ask: &Ask,
        verdict: &Verdict,
    ) -> Result<Option<Held>, Refusal> {
        let slots = self.slots(ask, &verdict.grants).await?;
        let (account, plugin) = (ask.account(), &*ask.caller.plugin);
        let turn = self.0.lanes.enter(account, plugin, priority(ask.access));
        let halted = async {
            if ask.halted() {
                self.0.halts.halted(account, plugin).await
            } else {
                std::future::pending().await
            }
        };
        let ticket = tokio::select! {
            biased;
            reason = halted => return Err(Refusal::Halted(reason)),
            ticket = turn => ticket,
            _ = self.revoked(ask, verdict) => return Ok(None),
        };
        let ticket = ticket.map_err(|busy| Refusal::RateLimited(busy.retry_after))?;
        Ok(Some(Held {
            _slots: slots,
            ticket: Some(ticket),
        }))
    }

    /// Waits until the terms of a plugin do not allow a call of it any more that waits.
    pub(crate) async fn revoked(&self, ask: &Ask, verdict: &Verdict) -> Refusal {
        let mut changes = self.0.terms.changes();
        loop {
            if let Err(refusal) = self.recheck(ask, verdict) {
                return refusal;
            }
            // The sender lives as long as this.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes a call's places among those that its grants allow at a time, and its turn in their rates.
    pub(crate) async fn slots(&self, ask: &Ask, places: &[usize]) -> Result<Vec<Slot>, Refusal> {
        let key = |grant: &str| GrantKey::new(ask.account(), &ask.caller.plugin, grant);
        let mut slots = Vec::new();
        let mut rates = Vec::new();
        for (grant, limits) in obligations(ask, places) {
            if limits.concurrent.is_some() {
                let slot = self
                    .0
                    .concurrency
                    .try_acquire(&key(&grant), limits.concurrent);
                slots.push(slot.ok_or_else(|| busy(&grant, limits.concurrent))?);
            }
            if limits.per_second.is_some() || limits.per_minute.is_some() {
                let limits = RateLimits {
                    per_second: limits.per_second,
                    per_minute: limits.per_minute,
                };
                rates.push((key(&grant), limits));
            }
        }
        if !rates.is_empty() {
            let wanted: Vec<_> = rates.iter().map(|(key, limits)| (key, *limits)).collect();
            let passed = self.0.rates.check(&wanted, Moment::now()).await;
            passed.map_err(|error| match error {
                RateError::Exceeded { retry_after, .. } => Refusal::RateLimited(retry_after),
                RateError::Unmarked(error) => unusable(error),
            })?;
        }
        Ok(slots)
    }
}

fn busy(grant: &str, most: Option<u32>) -> Refusal {
    let most = most.unwrap_or_default();
    Refusal::Exhausted {
        message: format!(
            "the grant `{grant}` allows {most} calls at a time, and as many are under way"
        ),
        grant: grant.to_owned(),
        budget: "concurrent",
        resets_in: None,
    }
}
