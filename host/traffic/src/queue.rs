//! Chooses the next call among the plugins that wait.
//!
//! Turns are counted, and the plugin with the fewest goes first, so plugins that wait all the time
//! alternate. A plugin that is new, or returns, starts level with the one that was served last: it
//! neither catches up on turns that it did not request, nor waits behind those that have been there
//! all along. (Start-time fair queuing, Goyal, Vin and Cheng 1996, with all calls of equal length.)
//! Within a plugin the order is that of arrival.
//!
//! Invariant: a call is in the queue exactly from [`Queue::push`] until [`Queue::pop`] gives it its
//! turn or [`Queue::remove`] removes it; so the holder of the lane's lock knows which.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

/// The queued calls of one priority.
#[derive(Default)]
pub(crate) struct Queue {
    /// Never pruned; one entry per plugin seen.
    flows: HashMap<Arc<str>, Flow>,
    waiting: usize,
    /// The turn count of the plugin served last, where a newcomer starts.
    level: u64,
    /// Counts turns and arrivals, to order them.
    events: u64,
}

#[derive(Default)]
struct Flow {
    waiting: VecDeque<Waiter>,
    /// Its virtual number of turns: those that it did not request count as taken.
    had: u64,
    /// The event since which it waits: its last turn, or its arrival. Ties go to the plugin that
    /// waits longest.
    since: u64,
}

/// A queued call.
#[derive(Clone)]
pub(crate) struct Waiter {
    pub(crate) id: u64,
    /// Notified when it gets its turn.
    pub(crate) turn: Arc<Notify>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Number of queued calls of a plugin.
    pub(crate) fn waiting(&self, plugin: &str) -> usize {
        self.flows.get(plugin).map_or(0, |flow| flow.waiting.len())
    }

    /// Number of plugins with queued calls.
    pub(crate) fn plugins(&self) -> usize {
        let flows = self.flows.values();
        flows.filter(|flow| !flow.waiting.is_empty()).count()
    }

    pub(crate) fn push(&mut self, plugin: &str, waiter: Waiter) {
        let flow = self.flow(plugin);
        flow.waiting.push_back(waiter);
        self.waiting += 1;
    }

    /// Removes the call whose turn it is.
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

    /// Counts a turn of a plugin that need not wait.
    pub(crate) fn pass(&mut self, plugin: &str) {
        let mut events = self.events;
        let level = self.flow(plugin).take_turn(&mut events);
        (self.events, self.level) = (events, self.level.max(level));
    }

    /// Removes a call that no longer waits; `false` if it already got its turn.
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

    /// Returns an unused turn to a plugin; it goes before its equals.
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
    /// Counts a turn; returns the number of turns before.
    fn take_turn(&mut self, events: &mut u64) -> u64 {
        *events += 1;
        self.since = *events;
        self.had += 1;
        self.had - 1
    }
}
