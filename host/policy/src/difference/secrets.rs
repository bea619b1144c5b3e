//! Secrets of the host that an `[[http]]` sends out.
//!
//! A header may be a secret that the host reads from its environment, a file or a vault, and the plugin chooses what is
//! sent with it. So the target of a secret needs approval like an operation of class trade.

use std::collections::BTreeSet;

use serde_json::Value;

use super::lines::entry;
use crate::manifest::HttpGrant;

/// The headers of a grant that are secrets, with their sources.
fn of(grant: &HttpGrant) -> impl Iterator<Item = (&String, &Value)> {
    grant.headers.iter().filter(|(_, value)| value.is_object())
}

/// Whether a grant sends a secret of the host.
pub(crate) fn sends(grant: &HttpGrant) -> bool {
    of(grant).next().is_some()
}

/// A line for each grant that sends a secret to a place where no former one sent it, or by a method or to an address that
/// the former did not have. The former grants and those of `sealed` are sealed; `sealed` is otherwise equal to `now`.
pub(crate) fn gained(
    former: &[HttpGrant],
    now: &[HttpGrant],
    sealed: &[HttpGrant],
) -> BTreeSet<String> {
    let covers = |former: &HttpGrant, now: &HttpGrant, sealed: &HttpGrant| {
        former.url == now.url
            && now.methods.iter().all(|one| former.methods.contains(one))
            && (now.addresses.iter()).all(|one| former.addresses.contains(one))
            && of(now).all(|(name, _)| former.headers.get(name) == sealed.headers.get(name))
    };
    let gained = now.iter().zip(sealed).filter(|(now, sealed)| {
        sends(now) && !former.iter().any(|former| covers(former, now, sealed))
    });
    gained.map(|(now, _)| line(now)).collect()
}

fn line(grant: &HttpGrant) -> String {
    let secrets: Vec<_> = of(grant)
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let (name, to) = (&grant.name, &grant.url);
    entry(&format!("http:{name}: {} to {to}", secrets.join(", ")))
}
