//! The way of one account's calls: so many a minute, so many at a time, shared fairly.
//!
//! A call that can go at once and overtakes nobody does; else it waits in a [`Queue`], and a task
//! that lives for as long as somebody waits gives out the turns. Calls that make things safer
//! have a queue of their own, which goes first, and they do not wait for the end of other calls:
//! a lane full of slow ones must not hold up a liquidation. They are counted all the same.
//!
//! Invariants: a turn is given to one call, which then counts as in flight until its [`Ticket`]
//! is dropped. A call that is given up while it waits leaves nothing behind; one that is given up
//! between its turn and its going gives the turn back, to its plugin first.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::bucket::{Bucket, Quota};
use crate::queue::{Queue, Waiter};

/// How many calls of one plugin may wait, in each priority. More would only grow old.
pub(crate) const MAX_WAITING: usize = 1_000;

/// The least time after which a plugin whose queue is full may ask again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which queue a call waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Takes turns with the other plugins.
    Normal,
    /// Makes things safer (stop, liquidate, abort): goes before all that is normal.
    Safety,
}

/// Too many calls of a plugin wait already.
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
    /// How many of its calls wait.
    pub waiting: usize,
    /// After this time the first of them will be gone.
    pub retry_after: Duration,
}

/// A call that goes; dropping it says that the call has ended.
#[derive(Debug)]
#[must_use = "the call counts as ended as soon as this is dropped"]
pub struct Ticket(Option<Arc<Lane>>);

pub(crate) struct Lane {
    account: String,
    origin: Instant,
    state: Mutex<State>,
    /// Rouses the task that gives out the turns.
    changed: Notify,
}

/// What a lane may let go. Without any, calls are counted all the same: limits may come.
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
    /// Whether the task runs that gives out the turns.
    served: bool,
    ids: u64,
}

/// Why no call can go now.
enum Held {
    /// So many are in flight; one must end.
    Full,
    /// Until the rate lets one go.
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

    /// Changes the limits. Of the rate, the part that is used stays used; of calls in flight, what is
    /// above the new limit ends by itself.
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

    /// Puts a call into its queue and sees to it that the queue is served.
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
            // What makes things safer may go where the others cannot.
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

    /// Counts a call in, if the limits let it.
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

    /// Gives out the turns that there are; says why no more, or `None` if nobody waits.
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lane {
    /// Whose it is; who waits in it is much and of no use.
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

    /// Counts a call out.
    fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// The task that gives out the turns, for as long as somebody waits.
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
                // Woken earlier, it looks again.
                Held::For(wait) => timeout(wait, changed).await.unwrap_or_default(),
            }
        }
        self.done = true;
    }
}

impl Drop for Server {
    /// If its runtime ends before its work does, the next call that comes starts another.
    fn drop(&mut self) {
        if !self.done {
            self.lane.state().served = false;
        }
    }
}

/// A call that waits for its turn, or has had it and is not yet gone.
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
    /// Of an account that is not known.
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
