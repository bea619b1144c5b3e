//! The obligations of the grants that allow a call: rates, concurrency, counts, costs.
//!
//! Invariant: the obligations of all matching grants apply, so no grant can be used to evade the limits of another.
//! Those of a changed manifest that does not serve yet apply as well.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use qchost_policy::{Authority, GrantLimits};
use qchost_traffic::{GrantKey, Moment, RateError, Slot};

use crate::ask::Ask;
use crate::gate::Gate;
use crate::judge::{Matched, Verdict, priority};
use crate::refusal::Refusal;
use crate::sending::Held;
use crate::terms::Terms;
use crate::toll::rates_of;
use crate::trade::unusable;

/// The names of the matching grants in records and counters, with their limits. A grant that both manifests have gets
/// the smaller limits of both, whichever it matched in; grants of the changed manifest are added.
pub(crate) fn obligations<'a>(
    ask: &'a Ask,
    matched: &'a Matched,
) -> impl Iterator<Item = (Cow<'a, str>, GrantLimits)> + 'a {
    obligations_under(&ask.terms, ask.is_http(), matched)
}

/// The same under these terms: for grants to other hosts, or for those to QuantConnect.
pub(crate) fn obligations_under<'a>(
    terms: &'a Terms,
    http: bool,
    matched: &'a Matched,
) -> impl Iterator<Item = (Cow<'a, str>, GrantLimits)> + 'a {
    let at = |authority: &'a Authority, places: &'a [usize]| {
        let places = places.iter();
        places.filter_map(move |place| limits_at(authority, http, *place))
    };
    let mut owed: Vec<_> = at(&terms.authority, &matched.grants).collect();
    if let Some(pending) = &terms.pending {
        let serving: BTreeSet<_> = owed.iter().map(|(grant, _)| *grant).collect();
        owed.extend(at(pending, &matched.pending).filter(|(grant, _)| !serving.contains(grant)));
        for authority in terms.authorities() {
            let all = (0..).map_while(|place| limits_at(authority, http, place));
            let all: HashMap<_, _> = all.collect();
            for (grant, limits) in &mut owed {
                *limits = all
                    .get(grant)
                    .map_or(*limits, |other| limits.smaller(*other));
            }
        }
    }
    owed.into_iter().map(move |(grant, limits)| {
        let grant = if http {
            Cow::Owned(format!("http:{grant}"))
        } else {
            Cow::Borrowed(grant)
        };
        (grant, limits)
    })
}

/// The names in records of the grants of one manifest, by index.
pub(crate) fn names(authority: &Authority, http: bool, places: &[usize]) -> Vec<String> {
    let found = places
        .iter()
        .filter_map(|place| limits_at(authority, http, *place));
    found
        .map(|(name, _)| {
            if http {
                format!("http:{name}")
            } else {
                name.to_owned()
            }
        })
        .collect()
}

/// The name and the limits of a grant to other hosts, or of one to QuantConnect, by its index in a manifest.
fn limits_at(authority: &Authority, http: bool, place: usize) -> Option<(&str, GrantLimits)> {
    let manifest = authority.manifest();
    if http {
        let grant = manifest.http.get(place)?;
        Some((&grant.name, grant.limits))
    } else {
        let grant = manifest.grants.get(place)?;
        Some((&grant.name, grant.limits))
    }
}

impl Gate {
    /// Waits for the account's rate limit, holding the concurrency guards of the grants. `None` if the call is no longer
    /// allowed before it is admitted.
    pub(crate) async fn enter(
        &self,
        ask: &Ask,
        verdict: &Verdict,
        slots: Vec<Slot>,
    ) -> Result<Option<Held>, Refusal> {
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
            slots,
            ticket: Some(ticket),
        }))
    }

    /// Waits until the plugin's terms no longer allow a waiting call.
    pub(crate) async fn revoked(&self, ask: &Ask, verdict: &Verdict) -> Refusal {
        let mut changes = self.0.terms.changes();
        loop {
            if let Err(refusal) = self.recheck(ask, verdict) {
                return refusal;
            }
            // The sender lives as long as `self`.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Acquires a call's concurrency guards of its grants, and charges their rates.
    pub(crate) async fn slots(&self, ask: &Ask, matched: &Matched) -> Result<Vec<Slot>, Refusal> {
        let key = |grant: &str| GrantKey::new(ask.account(), &ask.caller.plugin, grant);
        let mut paid = ask.toll.settle().await;
        let mut slots = Vec::new();
        let mut rates = Vec::new();
        let mut payers = Vec::new();
        for (grant, limits) in obligations(ask, matched) {
            let counted = &self.0.concurrency;
            let slot = counted.try_acquire(&key(&grant), limits.concurrent);
            slots.push(slot.ok_or_else(|| busy(&grant, limits.concurrent))?);
            if let Some(limits) = rates_of(&limits) {
                let key = key(&grant);
                payers.push((key.clone(), limits));
                match paid.iter().position(|(other, _)| *other == key) {
                    Some(at) => drop(paid.swap_remove(at)),
                    None => rates.push((key, limits)),
                }
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
        ask.toll.set_payers(payers);
        // Paid by grants that cover the operation but not what it touches.
        for (key, limits) in paid {
            self.0.rates.put_back(&key, limits);
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
