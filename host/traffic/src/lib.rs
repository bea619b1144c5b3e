//! Rate limits: rates and concurrency of grants, and fair shares of an account's limit.
//!
//! [`Rates`] and [`Concurrency`] enforce the limits of a plugin's grants and refuse at once;
//! [`Lanes`] share an account's limit among its plugins, and let calls wait for their turn. Each of
//! them is an upper bound by itself; a call passes all of them.
//!
//! Invariant: everything is counted by account, plugin and grant *name*, so that editing,
//! reordering or reloading a manifest refills nothing, and neither does a restart.

mod bucket;
mod concurrency;
mod lane;
mod lanes;
mod queue;
mod rates;

use std::sync::Arc;

pub use concurrency::{Concurrency, Slot};
pub use lane::{Priority, QueueFull, Ticket};
pub use lanes::{LaneLimits, Lanes};
pub use rates::{Moment, RateError, RateLimits, Rates};

/// The key that a grant's limits are counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantKey {
    /// The account, by its name in the host's configuration.
    pub account: Arc<str>,
    /// The plugin, by the name in its manifest.
    pub plugin: Arc<str>,
    /// The grant, by its name.
    pub grant: Arc<str>,
}

impl GrantKey {
    /// The key of a grant.
    #[must_use]
    pub fn new(account: &str, plugin: &str, grant: &str) -> Self {
        Self {
            account: account.into(),
            plugin: plugin.into(),
            grant: grant.into(),
        }
    }
}
