//! Turns: admission of invocations, which run, wait or are refused.
//!
//! A turn combines a slot of its plugin and a slot of the host, so that no invocation holds one
//! while it waits for the other. Turns belong to a plugin's name, in its *lane*, rather than to a
//! version of its code: invocations on a former version count, and queued ones keep their position
//! when a new version is loaded.
//!
//! The host's slots are shared fairly. A free one goes to the plugin that runs the fewest
//! invocations, and among several to the one that has waited longest. For each loaded plugin that
//! runs nothing one slot is kept free, up to half of all: a plugin whose invocations are all
//! blocked in long calls cannot take the first slot of another plugin.
//!
//! Invariant: there are never more turns than the host has slots, nor more in a lane than its
//! limit, except while a lowered limit waits for running invocations; each turn is returned exactly
//! once, however its holder ends; and no invocation waits for a turn that is free for it.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

/// Why an invocation gets no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// The queue is full, with its length.
    Busy(usize),
    /// The plugin is not loaded, or not any more.
    Closed,
    /// The host shuts down.
    Ended,
}

/// The turns of a host. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Notified when the last turn is returned after shutdown.
    over: Notify,
}

#[derive(Debug)]
struct State {
    /// The host's slots in total.
    slots: usize,
    /// Free slots.
    free: usize,
    /// Open lanes in which nothing runs.
    idle: usize,
    /// Queued invocations in all lanes together.
    waiting: usize,
    ended: bool,
    /// The next id of a lane or of an arrival.
    next: u64,
    lanes: BTreeMap<u64, Traffic>,
}

/// The state of a lane.
#[derive(Debug)]
struct Traffic {
    open: bool,
    limit: usize,
    running: usize,
    queue: VecDeque<Waiter>,
}

impl Traffic {
    fn idle(&self) -> bool {
        self.open && self.running == 0
    }
}

#[derive(Debug)]
struct Waiter {
    arrival: u64,
    told: oneshot::Sender<Result<(), NoTurn>>,
}

impl Turns {
    pub(crate) fn new(slots: usize) -> Self {
        let state = State {
            slots,
            free: slots,
            idle: 0,
            waiting: 0,
            ended: false,
            next: 0,
            lanes: BTreeMap::new(),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            over: Notify::new(),
        }))
    }

    /// Turns in use in all lanes.
    pub(crate) fn taken(&self) -> usize {
        let state = self.state();
        state.slots - state.free
    }

    /// Waits until no turn is in use, after shutdown.
    pub(crate) async fn idle(&self) {
        loop {
            let mut told = pin!(self.0.over.notified());
            // Registered before the check, so that no notification is missed in between.
            told.as_mut().enable();
            if self.taken() == 0 {
                return;
            }
            told.await;
        }
    }

    /// A new lane, closed at first.
    pub(crate) fn lane(&self) -> Lane {
        let mut state = self.state();
        let id = state.number();
        let traffic = Traffic {
            open: false,
            limit: 0,
            running: 0,
            queue: VecDeque::new(),
        };
        state.lanes.insert(id, traffic);
        Lane {
            turns: self.clone(),
            id,
        }
    }

    /// Refuses all queued and future invocations.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.waiting = 0;
        for traffic in state.lanes.values_mut() {
            refuse(&mut traffic.queue, NoTurn::Ended);
        }
    }

    fn give_back(&self, state: &mut State, id: u64) {
        state.give_back(id);
        if state.ended && state.free == state.slots {
            self.0.over.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

fn refuse(queue: &mut VecDeque<Waiter>, why: NoTurn) {
    for waiter in queue.drain(..) {
        // A waiter that has left needs no answer.
        waiter.told.send(Err(why)).ok();
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether the host has a slot for a lane with `running` running invocations.
    fn has_room(&self, running: usize) -> bool {
        let kept = if running == 0 {
            0
        } else {
            self.idle.min(self.slots / 2)
        };
        self.free > kept
    }

    /// Takes a slot for a lane, if it may have one. The queue is not considered here.
    fn take(&mut self, id: u64) -> bool {
        let Some(traffic) = self.lanes.get(&id) else {
            return false;
        };
        if traffic.running >= traffic.limit || !self.has_room(traffic.running) {
            return false;
        }
        self.change(id, |traffic| traffic.running += 1);
        self.free -= 1;
        true
    }

    fn give_back(&mut self, id: u64) {
        self.free += 1;
        self.change(id, |traffic| {
            traffic.running = traffic.running.saturating_sub(1);
        });
        self.serve();
    }

    /// Changes a lane and updates the count of idle ones.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Traffic)) {
        if let Some(traffic) = self.lanes.get_mut(&id) {
            self.idle -= usize::from(traffic.idle());
            change(traffic);
            self.idle += usize::from(traffic.idle());
        }
    }

    /// Gives free slots to queued invocations.
    fn serve(&mut self) {
        while self.waiting > 0 && self.free > 0 {
            let next = self
                .lanes
                .iter()
                .filter(|(_, traffic)| {
                    traffic.running < traffic.limit && self.has_room(traffic.running)
                })
                .filter_map(|(id, traffic)| {
                    let first = traffic.queue.front()?;
                    Some((traffic.running, first.arrival, *id))
                })
                .min();
            let Some((_, _, id)) = next else { return };
            let first = self.lanes.get_mut(&id).and_then(|it| it.queue.pop_front());
            let Some(first) = first else { return };
            self.waiting -= 1;
            if self.take(id) && first.told.send(Ok(())).is_err() {
                // It was dropped without leaving the queue; the next round finds another waiter.
                self.free += 1;
                self.change(id, |traffic| traffic.running -= 1);
            }
        }
    }
}

/// The turns of one plugin.
#[derive(Debug)]
pub(crate) struct Lane {
    turns: Turns,
    id: u64,
}

/// The result of asking for a turn.
pub(crate) enum Asked<'a> {
    Turn(Turn<'a>),
    Waits(Waiting<'a>),
}

impl Lane {
    /// Admits up to `limit` concurrent invocations.
    pub(crate) fn open(&self, limit: usize) {
        let mut state = self.turns.state();
        state.change(self.id, |traffic| {
            traffic.open = true;
            traffic.limit = limit;
        });
        state.serve();
    }

    /// Admits no more invocations and refuses the queued ones. Running ones continue.
    pub(crate) fn close(&self) {
        let mut state = self.turns.state();
        let mut refused = 0;
        state.change(self.id, |traffic| {
            traffic.open = false;
            refused = traffic.queue.len();
            refuse(&mut traffic.queue, NoTurn::Closed);
        });
        state.waiting -= refused;
        // It no longer reserves a slot.
        state.serve();
    }

    /// A turn, if one is free and the queue is empty.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        match self.ask(0) {
            Ok(Asked::Turn(turn)) => Some(turn),
            Ok(Asked::Waits(_)) | Err(_) => None,
        }
    }

    /// A turn if one is free, otherwise a position in the queue, which holds at most `longest`.
    pub(crate) fn ask(&self, longest: usize) -> Result<Asked<'_>, NoTurn> {
        let mut state = self.turns.state();
        if state.ended {
            return Err(NoTurn::Ended);
        }
        let waiting = match state.lanes.get(&self.id) {
            Some(traffic) if traffic.open => traffic.queue.len(),
            _ => return Err(NoTurn::Closed),
        };
        if waiting == 0 && state.take(self.id) {
            return Ok(Asked::Turn(Turn(self)));
        }
        if waiting >= longest {
            return Err(NoTurn::Busy(waiting));
        }
        let arrival = state.number();
        let (told, answer) = oneshot::channel();
        state.waiting += 1;
        if let Some(traffic) = state.lanes.get_mut(&self.id) {
            traffic.queue.push_back(Waiter { arrival, told });
        }
        Ok(Asked::Waits(Waiting {
            lane: self,
            arrival,
            answer,
        }))
    }

    /// The numbers of running and queued invocations.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.turns.state();
        let traffic = state.lanes.get(&self.id);
        traffic.map_or((0, 0), |traffic| (traffic.running, traffic.queue.len()))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        // Turns borrow their lane, so nothing of it runs or waits any more.
        state.change(self.id, |traffic| traffic.open = false);
        state.lanes.remove(&self.id);
        state.serve();
    }
}

/// The right to run; returned when dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Lane);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let turns = &self.0.turns;
        turns.give_back(&mut turns.state(), self.0.id);
    }
}

/// A position in the queue; left when dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    lane: &'a Lane,
    arrival: u64,
    answer: oneshot::Receiver<Result<(), NoTurn>>,
}

impl<'a> Waiting<'a> {
    /// Waits for the turn. Cancel safe: the position is kept until `self` is dropped.
    pub(crate) async fn turn(&mut self) -> Result<Turn<'a>, NoTurn> {
        match (&mut self.answer).await {
            Ok(Ok(())) => Ok(Turn(self.lane)),
            Ok(Err(why)) => Err(why),
            // A waiter is always answered before it is dropped.
            Err(_) => Err(NoTurn::Ended),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.turns.state();
        let mut left = 0;
        state.change(self.lane.id, |traffic| {
            let before = traffic.queue.len();
            traffic
                .queue
                .retain(|waiter| waiter.arrival != self.arrival);
            left = before - traffic.queue.len();
        });
        state.waiting -= left;
        // It was given a turn that it never received.
        if let Ok(Ok(())) = self.answer.try_recv() {
            self.lane.turns.give_back(&mut state, self.lane.id);
        }
    }
}

#[cfg(test)]
mod tests;
