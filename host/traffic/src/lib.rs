//! Limits: rates and concurrency of grants, fair shares of an account's limit, log lines, processor time.
//!
//! [`GrantRates`] and [`ConcurrencyLimiter`] enforce the limits of a plugin's grants and refuse at once;
//! [`AccountQueues`] share an account's limit among its plugins, and let calls wait. Each of them is an upper bound by
//! itself; a call passes all of them. They are made of two mechanisms that others use as well: a token bucket
//! ([`RateLimiter`]) and a [`FairQueue`].
//!
//! Invariant: everything is counted by account, plugin and grant *name*, so that editing,
//! reordering or reloading a manifest refills nothing, and neither does a restart.

mod account_queue;
mod bucket;
mod concurrency_limiter;
mod cpu;
mod fair_queue;
mod grant_rates;
mod log_limiter;
mod rate_limiter;

use std::sync::Arc;

pub use account_queue::{AccountAdmission, AccountLimits, AccountQueues, Priority, QueueFull};
pub use concurrency_limiter::{ConcurrencyGuard, ConcurrencyLimiter};
pub use cpu::{CpuExceeded, CpuLimit, CpuMeter, processor_time};
pub use fair_queue::{FairQueue, Fairness};
pub use grant_rates::{GrantRates, Moment, RateError, RateLimits};
pub use log_limiter::{HostLogLimiter, LogLimiter, MAX_LOG_LINES};
pub use rate_limiter::RateLimiter;

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
