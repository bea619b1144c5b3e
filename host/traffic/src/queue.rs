//! Who goes next among the plugins that wait.
//!
//! Turns are counted, and the plugin with the fewest goes first, so plugins that wait all the
//! time take turns one by one. A plugin that comes, or comes back, starts level with the one that
//! was served last: it neither catches up on turns that it did not ask for, nor waits behind
//! those who have been there all along. (Start-time fair queuing, Goyal, Vin and Cheng 1996,
//! where every call has the same length.) Within a plugin the order is that of arrival.
//!
//! Invariant: a call is in the queue exactly from [`Queue::push`] until [`Queue::pop`] gives it
//! its turn or [`Queue::remove`] takes it away; so whoever holds the lane's lock knows which.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

/// The calls of one priority that wait.
#[derive(Default)]
pub(crate) struct Queue {
    /// Of every plugin that ever came: a number and a name each.
    flows: HashMap<Arc<str>, Flow>,
    waiting: usize,
    /// The turns that the plugin had which went last: where a newcomer starts.
    level: u64,
    /// Counts turns and arrivals, to tell which came first.
    events: u64,
}

#[derive(Default)]
struct Flow {
    waiting: VecDeque<Waiter>,
    /// How many turns it had, as it were: what it did not ask for counts as had.
    had: u64,
    /// Since which event it waits: its last turn, or its coming. Of equals, the one that waits
    /// longest goes first.
    since: u64,
}

/// A call that waits.
#[derive(Clone)]
pub(crate) struct Waiter {
    pub(crate) id: u64,
    /// Told when it has its turn.
    pub(crate) turn: Arc<Notify>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many calls of a plugin wait.
    pub(crate) fn waiting(&self, plugin: &str) -> usize {
        self.flows.get(plugin).map_or(0, |flow| flow.waiting.len())
    }

    /// How many plugins have a call that waits.
    pub(crate) fn plugins(&self) -> usize {
        let flows = self.flows.values();
        flows.filter(|flow| !flow.waiting.is_empty()).count()
    }

    pub(crate) fn push(&mut self, plugin: &str, waiter: Waiter) {
        let flow = self.flow(plugin);
        flow.waiting.push_back(waiter);
        self.waiting += 1;
    }

    /// The call whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        let next = self
            .flows
            .values_mut()
            .filter(|flow| !flow.waiting.is_empty())
            .min_by_key(|flow| (flow.had, flow.since))?;
        let waiter = next.waiting.pop_front()?;
        self.waiting = self.waiting.saturating_sub(1);
        self.level = self.level.max(next.take_turn(&mut self.events));
        Some(waiter)
    }

    /// A turn of a plugin that need not wait.
    pub(crate) fn pass(&mut self, plugin: &str) {
        let mut events = self.events;
        let level = self.flow(plugin).take_turn(&mut events);
        (self.events, self.level) = (events, self.level.max(level));
    }

    /// Takes a call out that does not wait any more; `false` if it had its turn.
    pub(crate) fn remove(&mut self, plugin: &str, id: u64) -> bool {
        let Some(flow) = self.flows.get_mut(plugin) else {
            return false;
        };
        let found = flow.waiting.iter().position(|waiter| waiter.id == id);
        let removed = found.and_then(|index| flow.waiting.remove(index));
        if removed.is_some() {
            self.waiting = self.waiting.saturating_sub(1);
        }
        removed.is_some()
    }

    /// Gives a plugin back a turn that it had and did not use; it goes before its equals.
    pub(crate) fn give_back(&mut self, plugin: &str) {
        if let Some(flow) = self.flows.get_mut(plugin) {
            flow.had = flow.had.saturating_sub(1);
            flow.since = 0;
        }
    }

    /// A plugin's calls, level with the others if none of them waits.
    fn flow(&mut self, plugin: &str) -> &mut Flow {
        let flow = self.flows.entry(plugin.into()).or_default();
        if flow.waiting.is_empty() {
            self.events += 1;
            flow.had = flow.had.max(self.level);
            flow.since = self.events;
        }
        flow
    }
}

impl Flow {
    /// Counts a turn; says how many it had before.
    fn take_turn(&mut self, events: &mut u64) -> u64 {
        *events += 1;
        self.since = *events;
        self.had += 1;
        self.had - 1
    }
}
