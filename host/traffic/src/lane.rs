//! The lane of one account: limits its calls per minute and its concurrent calls, and shares them
//! fairly.
//!
//! A call that can be sent at once without overtaking a queued one is sent; otherwise it waits in a
//! [`Queue`], and a task that lives while any call waits gives out the turns. Risk-reducing calls
//! have a queue of their own with priority, and do not wait for other calls to end: a lane full of
//! slow calls must not delay a liquidation. They are counted nevertheless.
//!
//! Invariants: a turn is given to one call, which then counts as in flight until its [`Ticket`] is
//! dropped. A call that is cancelled while it waits leaves nothing behind; one that is cancelled
//! between its turn and its start returns the turn, to its own plugin first.

use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::bucket::{Bucket, Quota};
use crate::queue::{Queue, Waiter};

/// Maximum queued calls of one plugin, per priority. More would only become stale.
pub(crate) const MAX_WAITING: usize = 1_000;

/// Minimum time after which a plugin whose queue is full should retry.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The queue that a call waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Shares turns with the other plugins.
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
pub struct Ticket(Option<Arc<Lane>>);

pub(crate) struct Lane {
    account: String,
    origin: Instant,
    state: Mutex<State>,
    /// Wakes the task that gives out turns.
    changed: Notify,
}

/// The limits of a lane. Calls are counted even without any, since limits may be added.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) rate: Option<Quota>,
    pub(crate) in_flight: Option<NonZeroU32>,
}

#[derive(Default)]
struct State {
    limits: Limits,
    bucket: Bucket,
    in_flight: u32,
    safety: Queue,
    normal: Queue,
    /// Whether the task that gives out turns is running.
    served: bool,
    ids: u64,
}

/// Why no call can be sent now.
enum Held {
    /// Too many calls are in flight; one must end.
    Full,
    /// The rate allows one after this time.
    For(Duration),
}

impl Lane {
    pub(crate) fn new(account: &str, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            account: account.to_owned(),
            origin: Instant::now(),
            state: Mutex::new(State {
                limits,
                ..State::default()
            }),
            changed: Notify::new(),
        })
    }

    /// Changes the limits. The used fraction of the rate stays used; calls in flight above the new
    /// limit end by themselves.
    pub(crate) fn limit(&self, limits: Limits) {
        let mut state = self.state();
        if let (Some(old), Some(new)) = (state.limits.rate, limits.rate) {
            state.bucket = state.bucket.rescaled(old, new, self.origin.elapsed());
        }
        state.limits = limits;
        if state.served {
            self.changed.notify_one();
        }
    }

    pub(crate) async fn enter(
        self: &Arc<Self>,
        plugin: &str,
        priority: Priority,
    ) -> Result<Ticket, QueueFull> {
        let waiter = {
            let mut state = self.state();
            let first = state.safety.is_empty()
                && (priority == Priority::Safety || state.normal.is_empty());
            if first && self.admit(&mut state, priority).is_ok() {
                state.queue(priority).pass(plugin);
                return Ok(Ticket(Some(self.clone())));
            }
            self.line_up(&mut state, plugin, priority)?
        };
        let mut waiting = Waiting {
            lane: self,
            plugin,
            priority,
            id: waiter.id,
            gone: false,
        };
        waiter.turn.notified().await;
        waiting.gone = true;
        Ok(Ticket(Some(self.clone())))
    }

    /// Adds a call to its queue and makes sure that the queue is served.
    fn line_up(
        self: &Arc<Self>,
        state: &mut State,
        plugin: &str,
        priority: Priority,
    ) -> Result<Waiter, QueueFull> {
        let (id, rate) = (state.ids, state.limits.rate);
        let queue = state.queue(priority);
        let waiting = queue.waiting(plugin);
        if waiting >= MAX_WAITING {
            let round = u32::try_from(queue.plugins()).unwrap_or(u32::MAX);
            let interval = rate.map_or(Duration::ZERO, |rate| rate.replenish_interval());
            return Err(QueueFull {
                account: self.account.clone(),
                plugin: plugin.to_owned(),
                waiting,
                retry_after: interval.saturating_mul(round).max(RETRY_AFTER),
            });
        }
        let waiter = Waiter {
            id,
            turn: Arc::default(),
        };
        queue.push(plugin, waiter.clone());
        state.ids += 1;
        if state.served {
            // A risk-reducing call may be sent where others cannot.
            self.changed.notify_one();
        } else {
            state.served = true;
            let server = Server {
                lane: self.clone(),
                done: false,
            };
            tokio::spawn(server.run());
        }
        Ok(waiter)
    }

    /// Counts a call as in flight, if the limits allow it.
    fn admit(&self, state: &mut State, priority: Priority) -> Result<(), Held> {
        let Limits { rate, in_flight } = state.limits;
        let full = in_flight.is_some_and(|most| state.in_flight >= most.get());
        if full && priority == Priority::Normal {
            return Err(Held::Full);
        }
        if let Some(rate) = rate {
            let bucket = state.bucket.take(rate, self.origin.elapsed());
            state.bucket = bucket.map_err(Held::For)?;
        }
        state.in_flight = state.in_flight.saturating_add(1);
        Ok(())
    }

    /// Gives out the available turns; returns why there are no more, or `None` if no call waits.
    fn serve(&self) -> Option<Held> {
        let mut state = self.state();
        loop {
            let priority = match (state.safety.is_empty(), state.normal.is_empty()) {
                (false, _) => Priority::Safety,
                (true, false) => Priority::Normal,
                (true, true) => {
                    state.served = false;
                    return None;
                }
            };
            if let Err(held) = self.admit(&mut state, priority) {
                return Some(held);
            }
            if let Some(waiter) = state.queue(priority).pop() {
                waiter.turn.notify_one();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl fmt::Debug for Lane {
    /// Only the account and the plugin: the list of waiters is long and not useful.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl State {
    fn queue(&mut self, priority: Priority) -> &mut Queue {
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

/// The task that gives out turns while any call waits.
struct Server {
    lane: Arc<Lane>,
    done: bool,
}

impl Server {
    async fn run(mut self) {
        while let Some(held) = self.lane.serve() {
            let changed = self.lane.changed.notified();
            match held {
                Held::Full => changed.await,
                // If it is woken earlier, it checks again.
                Held::For(wait) => timeout(wait, changed).await.unwrap_or_default(),
            }
        }
        self.done = true;
    }
}

impl Drop for Server {
    /// If its runtime ends before its work does, the next call starts another one.
    fn drop(&mut self) {
        if !self.done {
            self.lane.state().served = false;
        }
    }
}

/// A call that waits for its turn, or got it and has not started yet.
struct Waiting<'a> {
    lane: &'a Arc<Lane>,
    plugin: &'a str,
    priority: Priority,
    id: u64,
    gone: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let mut state = self.lane.state();
        let queue = state.queue(self.priority);
        if !queue.remove(self.plugin, self.id) {
            queue.give_back(self.plugin);
            state.leave();
            if let Some(rate) = state.limits.rate {
                state.bucket = state.bucket.put_back(rate);
            }
        }
        self.lane.changed.notify_one();
    }
}

impl Ticket {
    /// The lane of an unknown account.
    pub(crate) fn free() -> Self {
        Self(None)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(lane) = &self.0 {
            let mut state = lane.state();
            state.leave();
            if state.served {
                lane.changed.notify_one();
            }
        }
    }
}
