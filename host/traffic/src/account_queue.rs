//! The queue of each account: limits its calls per minute and its concurrent calls, and shares them fairly.
//!
//! QuantConnect counts the calls of an account whichever plugin makes them. So an account has one limit for all its
//! plugins, shared so that a plugin with unlimited demand takes nothing from another that needs less than its share.
//!
//! A call that can be sent at once without overtaking a queued one is admitted; otherwise it waits in a [`FairQueue`], and
//! a task that lives while any call waits admits them. Risk-reducing calls have a queue of their own with priority, and do
//! not wait for other calls to end: an account full of slow calls must not delay a liquidation. They are counted
//! nevertheless.
//!
//! Invariants: an admitted call counts as in flight until its [`AccountAdmission`] is dropped. A call that is cancelled
//! while it waits leaves nothing behind; one that is cancelled after it was admitted and before it starts gives way to the
//! next one of its own plugin first.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::bucket::{Bucket, Quota};
use crate::fair_queue::{FairQueue, Fairness};

/// Maximum queued calls of one plugin, per priority. More would only become stale.
const MAX_WAITING: usize = 1_000;
/// Minimum time after which a plugin whose queue is full should retry.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limits of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Maximum calls per minute, evenly spread. After a pause, one second's worth of them (at least
    /// one) may be sent at once; so any minute has at most this many plus that burst. `None` is
    /// unlimited.
    pub per_minute: Option<NonZeroU32>,
    /// Maximum concurrent calls; `None` is unlimited.
    pub in_flight: Option<NonZeroU32>,
}

/// The queues of all accounts.
#[derive(Debug, Default)]
pub struct AccountQueues(RwLock<HashMap<String, Arc<AccountQueue>>>);

impl AccountQueues {
    /// Creates the queues. A restart begins with a full second's worth.
    pub fn new(accounts: impl IntoIterator<Item = (String, AccountLimits)>) -> Self {
        let queues = Self::default();
        queues.update(accounts.into_iter().collect());
        queues
    }

    /// Sets these limits for the accounts, and none for all others. Queued calls continue to wait
    /// under the new limits; calls in flight and used rates stay counted.
    pub fn update(&self, mut accounts: BTreeMap<String, AccountLimits>) {
        let mut queues = self.0.write();
        for (account, queue) in queues.iter() {
            // The queue of a removed account stays: the account may come back.
            let limits = accounts.remove(account).unwrap_or_default();
            queue.set_limits(limits.into());
        }
        let new = accounts.into_iter().map(|(account, limits)| {
            let queue = AccountQueue::new(&account, limits.into());
            (account, queue)
        });
        queues.extend(new);
    }

    /// Waits until a call of this plugin may be sent, in a tokio runtime with timers. Dropping the
    /// future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] at once if too many calls of the plugin are queued already.
    pub async fn admit(
        &self,
        account: &str,
        plugin: &str,
        priority: Priority,
    ) -> Result<AccountAdmission, QueueFull> {
        let queue = {
            let queues = self.0.read();
            queues.get(account).cloned()
        };
        match queue {
            Some(queue) => queue.admit(plugin, priority).await,
            // No limits are known of the account.
            None => Ok(AccountAdmission(None)),
        }
    }
}

/// The queue that a call waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Shares the account with the other plugins.
    Normal,
    /// Risk-reducing calls (stop, liquidate, abort): before all normal ones.
    Safety,
}

/// Too many calls of a plugin are queued already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{waiting} calls of plugin `{plugin}` already wait for account `{account}`; retry after {} s",
    .retry_after.as_secs_f64()
)]
pub struct QueueFull {
    /// The account.
    pub account: String,
    /// The plugin.
    pub plugin: String,
    /// The number of its queued calls.
    pub waiting: usize,
    /// Time until the first of them should be gone.
    pub retry_after: Duration,
}

/// A call in flight; dropping it ends the call.
#[derive(Debug)]
#[must_use = "the call counts as ended as soon as this is dropped"]
pub struct AccountAdmission(Option<Arc<AccountQueue>>);

impl Drop for AccountAdmission {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            let mut state = queue.state.lock();
            state.leave();
            if state.served {
                queue.changed.notify_one();
            }
        }
    }
}

#[derive(Debug)]
struct AccountQueue {
    account: String,
    origin: Instant,
    state: Mutex<State>,
    /// Wakes the task that admits queued calls.
    changed: Notify,
}

/// The limits of an account's queue. Calls are counted even without any, since limits may be added.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    rate: Option<Quota>,
    in_flight: Option<NonZeroU32>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    bucket: Bucket,
    in_flight: u32,
    safety: FairQueue<str, Arc<Notify>>,
    normal: FairQueue<str, Arc<Notify>>,
    /// Whether the task that admits queued calls is running.
    served: bool,
}

/// Why no call can be sent now.
enum Blocked {
    /// Too many calls are in flight; one must end.
    Full,
    /// The rate allows one after this time.
    For(Duration),
}

impl AccountQueue {
    fn new(account: &str, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            account: account.to_owned(),
            origin: Instant::now(),
            state: Mutex::new(State {
                limits,
                bucket: Bucket::default(),
                in_flight: 0,
                safety: FairQueue::new(Fairness::Rate),
                normal: FairQueue::new(Fairness::Rate),
                served: false,
            }),
            changed: Notify::new(),
        })
    }

    /// Changes the limits. The used fraction of the rate stays used; calls in flight above the new
    /// limit end by themselves.
    fn set_limits(&self, limits: Limits) {
        let mut state = self.state.lock();
        if let (Some(old), Some(new)) = (state.limits.rate, limits.rate) {
            state.bucket = state.bucket.rescaled(old, new, self.origin.elapsed());
        }
        state.limits = limits;
        if state.served {
            self.changed.notify_one();
        }
    }

    async fn admit(
        self: &Arc<Self>,
        plugin: &str,
        priority: Priority,
    ) -> Result<AccountAdmission, QueueFull> {
        let admitted = Arc::<Notify>::default();
        let arrival = {
            let mut state = self.state.lock();
            let first = state.safety.is_empty()
                && (priority == Priority::Safety || state.normal.is_empty());
            if first && self.try_admit(&mut state, priority).is_ok() {
                state.queue(priority).pass(plugin);
                return Ok(AccountAdmission(Some(self.clone())));
            }
            self.push(&mut state, plugin, priority, admitted.clone())?
        };
        let mut waiting = Waiting {
            queue: self,
            plugin,
            priority,
            arrival,
            started: false,
        };
        admitted.notified().await;
        waiting.started = true;
        Ok(AccountAdmission(Some(self.clone())))
    }

    /// Adds a call to its queue and makes sure that the queue is served.
    fn push(
        self: &Arc<Self>,
        state: &mut State,
        plugin: &str,
        priority: Priority,
        admitted: Arc<Notify>,
    ) -> Result<u64, QueueFull> {
        let rate = state.limits.rate;
        let queue = state.queue(priority);
        let waiting = queue.waiting(plugin);
        if waiting >= MAX_WAITING {
            let round = u32::try_from(queue.waiting_flows()).unwrap_or(u32::MAX);
            let interval = rate.map_or(Duration::ZERO, |rate| rate.replenish_interval());
            return Err(QueueFull {
                account: self.account.clone(),
                plugin: plugin.to_owned(),
                waiting,
                retry_after: interval.saturating_mul(round).max(MIN_RETRY_AFTER),
            });
        }
        let arrival = queue.push(plugin, admitted);
        if state.served {
            // A risk-reducing call may be sent where others cannot.
            self.changed.notify_one();
        } else {
            state.served = true;
            let server = Server {
                queue: self.clone(),
                done: false,
            };
            tokio::spawn(server.run());
        }
        Ok(arrival)
    }

    /// Counts a call as in flight, if the limits allow it.
    fn try_admit(&self, state: &mut State, priority: Priority) -> Result<(), Blocked> {
        let Limits { rate, in_flight } = state.limits;
        let full = in_flight.is_some_and(|limit| state.in_flight >= limit.get());
        if full && priority == Priority::Normal {
            return Err(Blocked::Full);
        }
        if let Some(rate) = rate {
            let bucket = state
                .bucket
                .take(rate, NonZeroU32::MIN, self.origin.elapsed());
            state.bucket = bucket.map_err(Blocked::For)?;
        }
        state.in_flight = state.in_flight.saturating_add(1);
        Ok(())
    }

    /// Admits the queued calls that can be sent; returns why no others can, or `None` if no call waits.
    fn serve(&self) -> Option<Blocked> {
        let mut state = self.state.lock();
        loop {
            let priority = match (state.safety.is_empty(), state.normal.is_empty()) {
                (false, _) => Priority::Safety,
                (true, false) => Priority::Normal,
                (true, true) => {
                    state.served = false;
                    return None;
                }
            };
            if let Err(blocked) = self.try_admit(&mut state, priority) {
                return Some(blocked);
            }
            if let Some(admitted) = state.queue(priority).pop(|_, _| true) {
                admitted.notify_one();
            }
        }
    }
}

impl State {
    fn queue(&mut self, priority: Priority) -> &mut FairQueue<str, Arc<Notify>> {
        match priority {
            Priority::Normal => &mut self.normal,
            Priority::Safety => &mut self.safety,
        }
    }

    /// Counts a call as ended.
    fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// The task that admits queued calls while any call waits.
struct Server {
    queue: Arc<AccountQueue>,
    done: bool,
}

impl Server {
    async fn run(mut self) {
        while let Some(blocked) = self.queue.serve() {
            let changed = self.queue.changed.notified();
            match blocked {
                Blocked::Full => changed.await,
                // If it is woken earlier, it checks again.
                Blocked::For(wait) => timeout(wait, changed).await.unwrap_or_default(),
            }
        }
        self.done = true;
    }
}

impl Drop for Server {
    /// If its runtime ends before its work does, the next call starts another one.
    fn drop(&mut self) {
        if !self.done {
            self.queue.state.lock().served = false;
        }
    }
}

/// A call that waits, or was admitted and has not started yet.
struct Waiting<'a> {
    queue: &'a Arc<AccountQueue>,
    plugin: &'a str,
    priority: Priority,
    arrival: u64,
    started: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.started {
            return;
        }
        let mut state = self.queue.state.lock();
        let queue = state.queue(self.priority);
        if !queue.remove(self.plugin, self.arrival) {
            queue.give_back(self.plugin);
            state.leave();
            if let Some(rate) = state.limits.rate {
                state.bucket = state.bucket.refund(rate);
            }
        }
        self.queue.changed.notify_one();
    }
}

impl From<AccountLimits> for Limits {
    fn from(limits: AccountLimits) -> Self {
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
