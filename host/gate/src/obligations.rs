//! The obligations of the grants that allow a call: rates, concurrency, counts, costs.
//!
//! Invariant: the obligations of all matching grants apply, so no grant can be used to evade the limits of another.
//! Those of a changed manifest that does not serve yet apply as well.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use qchost_policy::{Authority, GrantLimits};
use qchost_traffic::RateLimits;

use crate::call::CallRequest;
use crate::decision::Matched;
use crate::policy::EffectivePolicy;

/// The names of the matching grants in records and counters, with their limits. A grant that both manifests have gets
/// the smaller limits of both, whichever it matched in; grants of the changed manifest are added.
pub(crate) fn obligations<'a>(
    request: &'a CallRequest,
    matched: &'a Matched,
) -> impl Iterator<Item = (Cow<'a, str>, GrantLimits)> + 'a {
    obligations_under(&request.policy, request.is_http(), matched)
}

/// The same under this policy: for grants to other hosts, or for those to QuantConnect.
pub(crate) fn obligations_under<'a>(
    policy: &'a EffectivePolicy,
    http: bool,
    matched: &'a Matched,
) -> impl Iterator<Item = (Cow<'a, str>, GrantLimits)> + 'a {
    let at = |authority: &'a Authority, indexes: &'a [usize]| {
        let indexes = indexes.iter();
        indexes.filter_map(move |index| limits_at(authority, http, *index))
    };
    let mut owed: Vec<_> = at(&policy.authority, &matched.grants).collect();
    if let Some(pending) = &policy.pending {
        let serving: BTreeSet<_> = owed.iter().map(|(grant, _)| *grant).collect();
        owed.extend(at(pending, &matched.pending).filter(|(grant, _)| !serving.contains(grant)));
        for authority in policy.authorities() {
            let all = (0..).map_while(|index| limits_at(authority, http, index));
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
pub(crate) fn names(authority: &Authority, http: bool, indexes: &[usize]) -> Vec<String> {
    let found = indexes
        .iter()
        .filter_map(|index| limits_at(authority, http, *index));
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
fn limits_at(authority: &Authority, http: bool, index: usize) -> Option<(&str, GrantLimits)> {
    let manifest = authority.manifest();
    if http {
        let grant = manifest.http.get(index)?;
        Some((&grant.name, grant.limits))
    } else {
        let grant = manifest.grants.get(index)?;
        Some((&grant.name, grant.limits))
    }
}

/// The rates of a grant; `None` if it has none.
pub(crate) fn rates_of(limits: &GrantLimits) -> Option<RateLimits> {
    (limits.per_second.is_some() || limits.per_minute.is_some()).then_some(RateLimits {
        per_second: limits.per_second,
        per_minute: limits.per_minute,
        per_half_hour: None,
    })
}
