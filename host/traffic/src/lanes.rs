//! The lanes of all accounts.
//!
//! QuantConnect counts the calls of an account, whoever makes them. So its limit is one for all
//! plugins of the account, and is shared so that one which asks as fast as it can takes nothing
//! from another that asks for less than its share.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::bucket::Quota;
use crate::lane::{Lane, Priority, QueueFull, Ticket};

/// What an account may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneLimits {
    /// Calls per minute, evenly spread. After a pause, one second's worth of them (at least one)
    /// may go at once; so within any minute it is at most this and that much more. `None` is no
    /// limit.
    pub per_minute: Option<NonZeroU32>,
    /// Calls under way at a time; `None` is no limit.
    pub in_flight: Option<NonZeroU32>,
}

/// The lanes of all accounts.
#[derive(Debug, Default)]
pub struct Lanes(HashMap<String, Arc<Lane>>);

impl Lanes {
    /// The accounts that have limits. A restart begins with a full second's worth.
    pub fn new(accounts: impl IntoIterator<Item = (String, LaneLimits)>) -> Self {
        let lanes = accounts.into_iter().filter_map(|(account, limits)| {
            if limits == LaneLimits::default() {
                return None;
            }
            let lane = Lane::new(&account, limits.per_minute.map(evenly), limits.in_flight);
            Some((account, lane))
        });
        Self(lanes.collect())
    }

    /// Waits until a call of this plugin's may go, in a tokio runtime with timers. Dropping the
    /// future gives up the place.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] at once if too many calls of the plugin wait already.
    pub async fn enter(
        &self,
        account: &str,
        plugin: &str,
        priority: Priority,
    ) -> Result<Ticket, QueueFull> {
        match self.0.get(account) {
            Some(lane) => lane.enter(plugin, priority).await,
            None => Ok(Ticket::free()),
        }
    }
}

fn evenly(per_minute: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(per_minute.get() / 60).unwrap_or(NonZeroU32::MIN);
    Quota::per_minute(per_minute).allow_burst(burst)
}
