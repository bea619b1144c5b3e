//! What of the host's configuration calls are decided by.
//!
//! Invariant: settings never change. A changed configuration gives new ones, which take the place of the
//! old ones as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use qchost_policy::{Guardrails, Usd};
use qchost_secrets::{Profiles, Secrets};
use qchost_traffic::LaneLimits;
use serde_json::{Map, Value, json};

/// What can change while the gate runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Brokerage and data-provider profiles.
    pub profiles: Profiles,
    /// Where secrets are read, and taken out of whatever leaves the process.
    pub secrets: Secrets,
    /// What no grant can allow.
    pub guardrails: Guardrails,
    /// The accounts, with how fast each may be used by all plugins together.
    pub accounts: BTreeMap<String, LaneLimits>,
    /// Prices of node types, in dollars per node and hour.
    pub node_prices: BTreeMap<String, Usd>,
    /// Whether real money may be traded with at all.
    pub live_trading: bool,
    /// Whether trade with real money takes the yes of two people.
    pub two_person: bool,
    /// Whether a changed component waits for an operator before it may trade.
    pub production: bool,
    /// How long an approval waits for a person.
    pub approval_ttl: Duration,
    /// How long the permit of one call can be used.
    pub permit_ttl: Duration,
}

impl Settings {
    /// What the audit says of them: of what is long or may hold secrets, its hash.
    pub(crate) fn record(&self) -> Map<String, Value> {
        let limits = |limits: &LaneLimits| json!({ "per-minute": limits.per_minute, "in-flight": limits.in_flight });
        let accounts: Map<String, Value> = self
            .accounts
            .iter()
            .map(|(account, lane)| (account.clone(), limits(lane)))
            .collect();
        let profiles: Map<String, Value> = self
            .profiles
            .names()
            .map(|name| (name.to_owned(), self.profiles.revision(name).into()))
            .collect();
        let prices: Map<String, Value> = self
            .node_prices
            .iter()
            .map(|(node, price)| (node.clone(), price.to_string().into()))
            .collect();
        Map::from_iter([
            (
                "guardrails".to_owned(),
                json!({ "policies": self.guardrails.ids().count(), "hash": self.guardrails.revision() }),
            ),
            ("profiles".to_owned(), profiles.into()),
            ("accounts".to_owned(), accounts.into()),
            ("node-prices".to_owned(), prices.into()),
            ("live-trading".to_owned(), self.live_trading.into()),
            ("two-person".to_owned(), self.two_person.into()),
            ("production".to_owned(), self.production.into()),
            (
                "approval-seconds".to_owned(),
                self.approval_ttl.as_secs().into(),
            ),
            (
                "permit-seconds".to_owned(),
                self.permit_ttl.as_secs().into(),
            ),
        ])
    }
}
