//! What the grants that allow a call ask for in return: rates, calls at a time, counts, costs.
//!
//! Invariant: the obligations of all grants that matched apply, so no grant can be used to get
//! round the limits of another.

use std::borrow::Cow;

use qchost_policy::GrantLimits;
use qchost_traffic::{GrantKey, Moment, RateError, RateLimits, Slot};

use crate::ask::Ask;
use crate::gate::Gate;
use crate::judge::priority;
use crate::refusal::Refusal;
use crate::sending::Held;
use crate::trade::unusable;

/// What a grant is called in records and counters, with its limits.
pub(crate) fn obligations<'a>(
    ask: &'a Ask,
    places: &'a [usize],
) -> impl Iterator<Item = (Cow<'a, str>, &'a GrantLimits)> + 'a {
    let manifest = ask.manifest();
    places.iter().filter_map(move |at| {
        if ask.is_http() {
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
    /// account, never for a grant.
    pub(crate) async fn enter(&self, ask: &Ask, places: &[usize]) -> Result<Held, Refusal> {
        let slots = self.slots(ask, places).await?;
        let (account, plugin) = (ask.account(), &*ask.caller.plugin);
        let turn = self.0.lanes.enter(account, plugin, priority(ask.access));
        let ticket = if ask.halted() {
            tokio::select! {
                biased;
                reason = self.0.halts.halted(account, plugin) => return Err(Refusal::Halted(reason)),
                ticket = turn => ticket,
            }
        } else {
            turn.await
        };
        let ticket = ticket.map_err(|busy| Refusal::RateLimited(busy.retry_after))?;
        Ok(Held {
            _slots: slots,
            ticket: Some(ticket),
        })
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
