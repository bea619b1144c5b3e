//! A queue that is fair among flows: the plugins that share an account, or a host.
//!
//! Each flow has a count, and the waiting flow with the lowest count is served first. Within a flow the order is that of
//! arrival. What is counted is the owner's choice:
//!
//! - [`Fairness::Rate`]: how often a flow was served. Flows that wait all the time alternate. A flow that is new, or
//!   returns, starts level with the one that was served last: it neither catches up on what it did not request, nor waits
//!   behind those that have been there all along. Among equals, the one that was served or came longest ago goes first.
//!   (Start-time fair queuing, Goyal, Vin and Cheng 1996, with all entries of equal length.)
//! - [`Fairness::Concurrency`]: how much of what was served to a flow still runs, see [`FairQueue::release`]. Among equals,
//!   the one whose first entry has waited longest goes first.
//!
//! Invariant: an entry is in the queue exactly from [`FairQueue::push`] until [`FairQueue::pop`], [`FairQueue::remove`] or
//! [`FairQueue::drain`] takes it out; so the holder of the owner's lock knows which.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

/// What is shared fairly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fairness {
    /// Being served.
    Rate,
    /// Running.
    Concurrency,
}

/// Entries `E` of flows that are known by a key `K`, such as `str`.
///
/// ```
/// use qchost_traffic::{FairQueue, Fairness};
///
/// let mut queue = FairQueue::<str, u32>::new(Fairness::Rate);
/// for (plugin, call) in [("busy", 1), ("busy", 2), ("rare", 3)] {
///     queue.push(plugin, call);
/// }
/// let order: Vec<u32> = std::iter::from_fn(|| queue.pop(|_, _| true)).collect();
/// assert_eq!(order, [1, 3, 2]);
/// ```
pub struct FairQueue<K: ToOwned + ?Sized, E> {
    fairness: Fairness,
    flows: HashMap<K::Owned, Flow<E>>,
    waiting: usize,
    /// The count of the flow served last, before it was served: where a newcomer starts under [`Fairness::Rate`].
    level: usize,
    /// The number of the last arrival or service.
    events: u64,
}

struct Flow<E> {
    /// By arrival, with its number.
    waiting: VecDeque<(u64, E)>,
    count: usize,
    /// The event since which it waits under [`Fairness::Rate`]: when it was last served, or came.
    since: u64,
}

impl<E> Default for Flow<E> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            count: 0,
            since: 0,
        }
    }
}

impl<K, E> FairQueue<K, E>
where
    K: ToOwned + Eq + Hash + ?Sized,
    K::Owned: Eq + Hash,
{
    /// An empty queue.
    #[must_use]
    pub fn new(fairness: Fairness) -> Self {
        Self {
            fairness,
            flows: HashMap::new(),
            waiting: 0,
            level: 0,
            events: 0,
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Number of waiting entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Number of waiting entries of a flow.
    #[must_use]
    pub fn waiting(&self, key: &K) -> usize {
        self.flows.get(key).map_or(0, |flow| flow.waiting.len())
    }

    /// Number of flows with waiting entries.
    #[must_use]
    pub fn waiting_flows(&self) -> usize {
        let flows = self.flows.values();
        flows.filter(|flow| !flow.waiting.is_empty()).count()
    }

    /// What is counted of a flow: see [`Fairness`].
    #[must_use]
    pub fn count(&self, key: &K) -> usize {
        self.flows.get(key).map_or(0, |flow| flow.count)
    }

    /// Adds an entry; returns the number by which it can be removed.
    pub fn push(&mut self, key: &K, entry: E) -> u64 {
        self.events += 1;
        self.waiting += 1;
        let arrival = self.events;
        self.flow(key).waiting.push_back((arrival, entry));
        arrival
    }

    /// Serves the next entry: of the flows that may be served, given their key and count.
    pub fn pop(&mut self, may_be_served: impl Fn(&K::Owned, usize) -> bool) -> Option<E> {
        let fairness = self.fairness;
        let next = self
            .flows
            .iter_mut()
            .filter_map(|(key, flow)| {
                let (arrival, _) = flow.waiting.front()?;
                let since = match fairness {
                    Fairness::Rate => flow.since,
                    Fairness::Concurrency => *arrival,
                };
                may_be_served(key, flow.count).then_some(((flow.count, since), flow))
            })
            .min_by_key(|(rank, _)| *rank);
        let (_, flow) = next?;
        let (_, entry) = flow.waiting.pop_front()?;
        self.level = self.level.max(flow.count);
        self.events += 1;
        flow.serve(self.events);
        self.waiting = self.waiting.saturating_sub(1);
        Some(entry)
    }

    /// Serves a flow that need not wait.
    pub fn pass(&mut self, key: &K) {
        self.events += 1;
        let event = self.events;
        let flow = self.flow(key);
        let count = flow.count;
        flow.serve(event);
        self.level = self.level.max(count);
    }

    /// Removes an entry that no longer waits; `false` if it was served already.
    pub fn remove(&mut self, key: &K, arrival: u64) -> bool {
        let Some(flow) = self.flows.get_mut(key) else {
            return false;
        };
        let found = flow.waiting.iter().position(|(it, _)| *it == arrival);
        let removed = found.and_then(|index| flow.waiting.remove(index));
        if removed.is_some() {
            self.waiting = self.waiting.saturating_sub(1);
        }
        removed.is_some()
    }

    /// Removes all entries of a flow.
    pub fn drain(&mut self, key: &K) -> impl Iterator<Item = E> + use<K, E> {
        let flow = self.flows.get_mut(key);
        let entries = flow.map_or_else(VecDeque::new, |flow| std::mem::take(&mut flow.waiting));
        self.waiting = self.waiting.saturating_sub(entries.len());
        entries.into_iter().map(|(_, entry)| entry)
    }

    /// What was served to a flow ended.
    pub fn release(&mut self, key: &K) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.count = flow.count.saturating_sub(1);
        }
    }

    /// What was served to a flow was not used: the flow goes before its equals.
    pub fn give_back(&mut self, key: &K) {
        self.release(key);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.since = 0;
        }
    }

    /// Forgets a flow, with what is counted of it.
    pub fn forget(&mut self, key: &K) {
        drop(self.drain(key));
        self.flows.remove(key);
    }

    /// A flow; level with the others if nothing of it waits.
    fn flow(&mut self, key: &K) -> &mut Flow<E> {
        let flow = self.flows.entry(key.to_owned()).or_default();
        if self.fairness == Fairness::Rate && flow.waiting.is_empty() {
            flow.count = flow.count.max(self.level);
            flow.since = self.events;
        }
        flow
    }
}

impl<K: ToOwned + ?Sized, E> fmt::Debug for FairQueue<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairQueue")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl<E> Flow<E> {
    fn serve(&mut self, event: u64) {
        self.count += 1;
        self.since = event;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn queue(fairness: Fairness, entries: &[(&str, &'static str)]) -> FairQueue<str, &'static str> {
        let mut queue = FairQueue::new(fairness);
        for (flow, entry) in entries {
            queue.push(*flow, *entry);
        }
        queue
    }

    fn order(mut queue: FairQueue<str, &'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop(|_, _| true)).collect()
    }

    #[test]
    fn flows_alternate_and_a_newcomer_starts_level_with_them() {
        let entries = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")];
        let mut queue = queue(Fairness::Rate, &entries);
        for _ in 0..9 {
            queue.pass("a");
        }
        queue.push("late", "late1");
        queue.push("late", "late2");
        assert_eq!(order(queue), ["b1", "late1", "a1", "late2", "a2", "a3"]);
    }

    #[test]
    fn a_flow_that_gives_back_goes_before_its_equals() {
        let entries = [("a", "a1"), ("b", "b1"), ("b", "b2"), ("a", "a2")];
        let mut queue = queue(Fairness::Rate, &entries);
        assert_eq!(queue.pop(|_, _| true), Some("a1"));
        queue.give_back("a");
        assert_eq!(order(queue), ["a2", "b1", "b2"]);
    }

    #[test]
    fn what_ended_counts_no_more_and_what_may_not_be_served_waits() {
        let entries = [("a", "a1"), ("b", "b1")];
        let mut queue = queue(Fairness::Concurrency, &entries);
        for _ in 0..2 {
            queue.pass("b");
        }
        assert_eq!(queue.pop(|key, _| key != "a"), Some("b1"));
        assert_eq!(queue.count("b"), 3);
        for _ in 0..3 {
            queue.release("b");
        }
        let second = queue.push("b", "b2");
        assert_eq!(queue.pop(|_, count| count > 0), None);
        assert!(queue.remove("b", second) && !queue.remove("b", second));
        assert_eq!(queue.drain("a").collect::<Vec<_>>(), ["a1"]);
        assert_eq!((queue.len(), queue.is_empty()), (0, true));
    }
}
