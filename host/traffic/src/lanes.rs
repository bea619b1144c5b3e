//! The lanes of all accounts.
//!
//! QuantConnect counts the calls of an account whichever plugin makes them. So an account has one
//! limit for all its plugins, shared so that a plugin with unlimited demand takes nothing from
//! another that needs less than its share.

use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::bucket::Quota;
use crate::lane::{Lane, Limits, Priority, QueueFull, Ticket};

/// The limits of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneLimits {
    /// Maximum calls per minute, evenly spread. After a pause, one second's worth of them (at least
    /// one) may be sent at once; so any minute has at most this many plus that burst. `None` is
    /// unlimited.
    pub per_minute: Option<NonZeroU32>,
    /// Maximum concurrent calls; `None` is unlimited.
    pub in_flight: Option<NonZeroU32>,
}

/// The lanes of all accounts.
#[derive(Debug, Default)]
pub struct Lanes(RwLock<HashMap<String, Arc<Lane>>>);

impl Lanes {
    /// Creates the lanes. A restart begins with a full second's worth.
    pub fn new(accounts: impl IntoIterator<Item = (String, LaneLimits)>) -> Self {
        let lanes = Self::default();
        lanes.update(accounts.into_iter().collect());
        lanes
    }

    /// Sets these limits for the accounts, and none for all others. Queued calls continue to wait
    /// under the new limits; calls in flight and used rates stay counted.
    pub fn update(&self, mut accounts: BTreeMap<String, LaneLimits>) {
        let mut lanes = self.0.write();
        for (account, lane) in lanes.iter() {
            // The lane of a removed account stays: the account may come back.
            let limits = accounts.remove(account).unwrap_or_default();
            lane.limit(limits.into());
        }
        let new = accounts.into_iter().map(|(account, limits)| {
            let lane = Lane::new(&account, limits.into());
            (account, lane)
        });
        lanes.extend(new);
    }

    /// Waits until a call of this plugin may be sent, in a tokio runtime with timers. Dropping the
    /// future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] at once if too many calls of the plugin are queued already.
    pub async fn enter(
        &self,
        account: &str,
        plugin: &str,
        priority: Priority,
    ) -> Result<Ticket, QueueFull> {
        let lane = {
            let lanes = self.0.read();
            lanes.get(account).cloned()
        };
        match lane {
            Some(lane) => lane.enter(plugin, priority).await,
            None => Ok(Ticket::free()),
        }
    }
}

impl From<LaneLimits> for Limits {
    fn from(limits: LaneLimits) -> Self {
        Self {
            rate: limits.per_minute.map(evenly),
            in_flight: limits.in_flight,
        }
    }
}

fn evenly(per_minute: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(per_minute.get() / 60).unwrap_or(NonZeroU32::MIN);
    Quota::per_minute(per_minute).allow_burst(burst)
}
