//! What of the host's configuration calls are decided by.
//!
//! Invariant: settings never change. A changed configuration gives new ones, which take the place of the
//! old ones as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use qchost_policy::{Guardrails, Origin, Usd};
use qchost_secrets::{Profiles, Secrets};
use qchost_traffic::LaneLimits;

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
    /// Accounts that are not in force, though something may run live on them: they wait for an admin, or the
    /// configuration does not have them any more. Persons read them and make them safer; nothing else is done on them.
    pub dormant: BTreeSet<String>,
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
    /// The files that all of this is from.
    pub sources: Sources,
}

/// What a changed configuration waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// The approval; `None` right after a start, before it is looked for.
    pub approval: Option<String>,
    /// Whether a person said no to it.
    pub refused: bool,
}

/// The files that settings are from, for the record of what changed.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The configuration's file.
    pub file: PathBuf,
    /// The configuration's text.
    pub configuration: Origin,
    /// Whether what that text gives more than the one in force waits for a person: both must allow it until then.
    pub waits: Option<Waits>,
    /// The folder of the guardrails.
    pub policies: PathBuf,
    /// The user ids of the owners of the guardrails' files.
    pub guardrail_owners: BTreeSet<u32>,
}
