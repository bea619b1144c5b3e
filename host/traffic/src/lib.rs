//! How fast a plugin may go: rates, calls at a time, and a fair share of the account.
//!
//! [`Rates`] and [`Concurrency`] hold a plugin to the limits of its grants and refuse at once;
//! [`Lanes`] spread what an account may send over the plugins that share it, and let calls wait
//! their turn. What each of them lets through is an upper bound by itself; a call passes all.
//!
//! Invariant: everything is counted by account, plugin and grant *name*, so that a manifest that
//! is edited, reordered or loaded again refills nothing, and neither does a restart.

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

/// What a limit of a grant is counted by.
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
