//! Turns: which invocation runs, which one waits, and which one is refused.
//!
//! A turn is a slot of its plugin's and a slot of the host's in one, so that nobody sits on the one
//! while it waits for the other. Turns belong to a plugin's name, in its *lane*, and not to a
//! version of its code: what still runs on a former version counts, and who waits stays in line when
//! a new one is loaded.
//!
//! The host's slots are shared out fairly. A free one goes to the plugin that runs the fewest, and
//! of several to whoever waits the longest. For each loaded plugin that runs nothing one slot is
//! kept free, though never more than half of all: a plugin whose invocations are all parked in long
//! calls takes nobody else's first.
//!
//! Invariant: there are never more turns than the host has slots, nor more of a lane than its limit,
//! except while a lowered limit waits for those that run; each turn is given back once, whenever and
//! however its holder goes; and nobody waits for a turn that is free for it.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// Why there is no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// So many wait already.
    Busy(usize),
    /// The plugin is not loaded (any more).
    Closed,
    /// The host ends.
    Ended,
}

/// The turns of a host. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Told when the last turn is given back after the end.
    over: Notify,
}

#[derive(Debug)]
struct State {
    /// Slots of the host in all.
    slots: usize,
    /// How many of them are free.
    free: usize,
    /// Open lanes in which nothing runs.
    idle: usize,
    /// Who waits, in all lanes together.
    waiting: usize,
    ended: bool,
    /// The next number of a lane or of an arrival.
    next: u64,
    lanes: BTreeMap<u64, Traffic>,
}

/// What goes on in a lane.
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

    /// How many there are in all lanes.
    pub(crate) fn taken(&self) -> usize {
        let state = self.state();
        state.slots - state.free
    }

    /// Waits until there are none, after the end.
    pub(crate) async fn idle(&self) {
        loop {
            let mut told = pin!(self.0.over.notified());
            // Before the look, so that nothing is missed in between.
            told.as_mut().enable();
            if self.taken() == 0 {
                return;
            }
            told.await;
        }
    }

    /// A lane, closed at first.
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

    /// Refuses everybody who waits, and whoever comes from now on.
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
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(queue: &mut VecDeque<Waiter>, why: NoTurn) {
    for waiter in queue.drain(..) {
        // Who went away meanwhile needs no answer.
        waiter.told.send(Err(why)).ok();
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether the host has a slot for a lane in which so many run.
    fn has_room(&self, running: usize) -> bool {
        let kept = if running == 0 {
            0
        } else {
            self.idle.min(self.slots / 2)
        };
        self.free > kept
    }

    /// Takes a slot for a lane, if it may have one. Who waits is asked elsewhere.
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

    /// Changes a lane and keeps count of the idle ones.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Traffic)) {
        if let Some(traffic) = self.lanes.get_mut(&id) {
            self.idle -= usize::from(traffic.idle());
            change(traffic);
            self.idle += usize::from(traffic.idle());
        }
    }

    /// Gives free slots to those who wait.
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
                // It went away without leaving the queue; the next round finds somebody else.
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

/// What came of asking for a turn.
pub(crate) enum Asked<'a> {
    Turn(Turn<'a>),
    Waits(Waiting<'a>),
}

impl Lane {
    /// Lets invocations in, so many at a time.
    pub(crate) fn open(&self, limit: usize) {
        let mut state = self.turns.state();
        state.change(self.id, |traffic| {
            traffic.open = true;
            traffic.limit = limit;
        });
        state.serve();
    }

    /// Lets nobody in any more and refuses those who wait. Who runs is let run.
    pub(crate) fn close(&self) {
        let mut state = self.turns.state();
        let mut refused = 0;
        state.change(self.id, |traffic| {
            traffic.open = false;
            refused = traffic.queue.len();
            refuse(&mut traffic.queue, NoTurn::Closed);
        });
        state.waiting -= refused;
        // It keeps no slot free any more.
        state.serve();
    }

    /// A turn, if one is free and nobody waits for it.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        match self.ask(0) {
            Ok(Asked::Turn(turn)) => Some(turn),
            Ok(Asked::Waits(_)) | Err(_) => None,
        }
    }

    /// A turn if one is free, or a place among those who wait, of whom there may be so many.
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

    /// How many run, and how many wait.
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

/// Leave to run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Lane);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let turns = &self.0.turns;
        turns.give_back(&mut turns.state(), self.0.id);
    }
}

/// A place among those who wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    lane: &'a Lane,
    arrival: u64,
    answer: oneshot::Receiver<Result<(), NoTurn>>,
}

impl<'a> Waiting<'a> {
    /// Waits for the turn. Cancel safe: the place is kept until `self` is dropped.
    pub(crate) async fn turn(&mut self) -> Result<Turn<'a>, NoTurn> {
        match (&mut self.answer).await {
            Ok(Ok(())) => Ok(Turn(self.lane)),
            Ok(Err(why)) => Err(why),
            // Nobody drops a waiter without a word.
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
        // It was given a turn that it never saw.
        if let Ok(Ok(())) = self.answer.try_recv() {
            self.lane.turns.give_back(&mut state, self.lane.id);
        }
    }
}

#[cfg(test)]
mod tests;
