//! The lanes of all accounts.
//!
//! QuantConnect counts the calls of an account, whoever makes them. So its limit is one for all
//! plugins of the account, and is shared so that one which asks as fast as it can takes nothing
//! from another that asks for less than its share.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};

use crate::bucket::Quota;
use crate::lane::{Lane, Limits, Priority, QueueFull, Ticket};

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
pub struct Lanes(RwLock<HashMap<String, Arc<Lane>>>);

impl Lanes {
    /// The accounts. A restart begins with a full second's worth.
    pub fn new(accounts: impl IntoIterator<Item = (String, LaneLimits)>) -> Self {
        let lanes = Self::default();
        lanes.update(accounts.into_iter().collect());
        lanes
    }

    /// Gives these limits to the accounts, and none to all others. Who waits goes on waiting, under
    /// the new limits; what is under way and what was used stays counted.
    pub fn update(&self, mut accounts: BTreeMap<String, LaneLimits>) {
        let mut lanes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (account, lane) in lanes.iter() {
            // The lane of an account that is gone stays: it may come back.
            let limits = accounts.remove(account).unwrap_or_default();
            lane.limit(limits.into());
        }
        let new = accounts.into_iter().map(|(account, limits)| {
            let lane = Lane::new(&account, limits.into());
            (account, lane)
        });
        lanes.extend(new);
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
        let lane = {
            let lanes = self.0.read().unwrap_or_else(PoisonError::into_inner);
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
