//! The part of the host's configuration that decides calls.
//!
//! Invariant: settings are immutable. A changed configuration produces new settings, which replace the old ones as a
//! whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use qchost_policy::{Guardrails, Origin, Usd};
use qchost_secrets::{Profiles, Secrets};
use qchost_traffic::AccountLimits;

/// What can change while the gate runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Brokerage and data-provider profiles.
    pub profiles: Profiles,
    /// Where secrets are read from, and how they are redacted from everything that leaves the process.
    pub secrets: Secrets,
    /// Rules that no grant can override.
    pub guardrails: Guardrails,
    /// The accounts, each with the rate limits of all plugins together.
    pub accounts: BTreeMap<String, AccountLimits>,
    /// Accounts that are not in force although something may run live on them: they await an admin, or were removed
    /// from the configuration. People may read them and reduce their risk; nothing else is done on them.
    pub dormant: BTreeSet<String>,
    /// Accounts whose organisation may download objects: QuantConnect refuses it to those without a signed agreement on
    /// derived data.
    pub derived_data: BTreeSet<String>,
    /// Prices by node type, in dollars per node and hour.
    pub node_prices: BTreeMap<String, Usd>,
    /// The most nodes of one optimisation, by node type.
    pub node_maxima: BTreeMap<String, u32>,
    /// Whether trading with real money is enabled.
    pub live_trading: bool,
    /// Whether trading with real money takes two approvals.
    pub two_person: bool,
    /// Whether a changed component needs an operator's approval before it may trade.
    pub production: bool,
    /// How long a request for approval stays open.
    pub approval_ttl: Duration,
    /// How long the permit of one call is valid.
    pub permit_ttl: Duration,
    /// The files these settings come from.
    pub sources: Sources,
}

impl Settings {
    /// Whether there is an account of this name, in force or dormant: a halt of a misspelt name would halt nothing.
    pub(crate) fn has_account(&self, account: &str) -> bool {
        self.accounts.contains_key(account) || self.dormant.contains(account)
    }

    /// Why an account is not in force, if it is dormant.
    pub(crate) fn not_in_force(&self, account: &str) -> Option<String> {
        self.dormant.contains(account).then(|| {
            format!(
                "the account `{account}` is not in force: it waits for an admin (qchost approvals list), or the configuration does \
                 not have it any more"
            )
        })
    }
}

/// What a changed configuration waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// The approval; `None` right after a start, before it is found.
    pub approval: Option<String>,
    /// Whether the approval was refused.
    pub refused: bool,
}

/// The files of settings, for the record of changes.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The configuration's file.
    pub file: PathBuf,
    /// The configuration's text.
    pub configuration: Origin,
    /// Set while additions in that text await approval: until then both texts must allow a call.
    pub waits: Option<Waits>,
    /// The folder of the guardrails.
    pub policies: PathBuf,
    /// The user ids of the owners of the guardrails' files.
    pub guardrail_owners: BTreeSet<u32>,
    /// Whether the guardrails stand in for those of the files, in a process that only halts. They are not recorded then,
    /// since those of the files stay in force.
    pub stand_in: bool,
}
