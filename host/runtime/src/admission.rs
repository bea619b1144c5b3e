//! Admission of invocations: which run, wait or are refused.
//!
//! An admission counts against its plugin's limit and the host's, so that no invocation holds one while it waits for the
//! other. Admissions belong to a plugin's name rather than to a version of its code: invocations on a former version count,
//! and queued ones keep their position when a new version is loaded.
//!
//! The host's limit is shared fairly ([`FairQueue`]). The next admission goes to the plugin that runs the fewest
//! invocations, and among several to the one that has waited longest. For each loaded plugin that runs nothing one
//! admission is kept, up to half of all: a plugin whose invocations are all blocked in long calls cannot take the first one
//! of another plugin.
//!
//! Invariant: there are never more admissions than the host's limit, nor more of a plugin than its limit, except while a
//! lowered limit waits for running invocations; each is returned exactly once, however its holder ends; and no invocation
//! waits for an admission that is free for it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use qchost_traffic::{FairQueue, Fairness};
use tokio::sync::{Notify, oneshot};

/// Why an invocation is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The queue is full, with its length.
    Busy(usize),
    /// The plugin is not loaded, or not any more.
    Closed,
    /// The host shuts down.
    Ended,
}

/// The invocations of a host. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct InvocationLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Notified when the last admission is returned after shutdown.
    over: Notify,
}

#[derive(Debug)]
struct State {
    /// Maximum admissions.
    limit: usize,
    /// Admissions that are left.
    free: usize,
    /// Open plugins of which nothing runs.
    idle: usize,
    ended: bool,
    /// The last id of a plugin.
    last: u64,
    plugins: HashMap<u64, Plugin>,
    queue: FairQueue<u64, Waiter>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Plugin {
    open: bool,
    limit: usize,
}

#[derive(Debug)]
struct Waiter {
    plugin: u64,
    answer: oneshot::Sender<Result<(), Rejection>>,
}

impl InvocationLimiter {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State {
            limit,
            free: limit,
            idle: 0,
            ended: false,
            last: 0,
            plugins: HashMap::new(),
            queue: FairQueue::new(Fairness::Concurrency),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            over: Notify::new(),
        }))
    }

    /// Admissions of all plugins.
    pub(crate) fn running(&self) -> usize {
        let state = self.0.state.lock();
        state.limit - state.free
    }

    /// Waits until nothing runs, after shutdown.
    pub(crate) async fn idle(&self) {
        loop {
            let mut over = pin!(self.0.over.notified());
            // Registered before the check, so that no notification is missed in between.
            over.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            over.await;
        }
    }

    /// The limiter of a new plugin, closed at first.
    pub(crate) fn plugin(&self) -> PluginLimiter {
        let mut state = self.0.state.lock();
        state.last += 1;
        let id = state.last;
        state.plugins.insert(id, Plugin::default());
        PluginLimiter {
            host: self.clone(),
            id,
        }
    }

    /// Refuses all queued and future invocations.
    pub(crate) fn end(&self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        let plugins: Vec<u64> = state.plugins.keys().copied().collect();
        for id in plugins {
            state.refuse(id, Rejection::Ended);
        }
    }

    fn release(&self, state: &mut State, id: u64) {
        state.free += 1;
        state.change(id, |state| state.queue.release(&id));
        state.serve();
        if state.ended && state.free == state.limit {
            self.0.over.notify_waiters();
        }
    }
}

impl State {
    fn is_idle(&self, id: u64) -> bool {
        let open = self.plugins.get(&id).is_some_and(|plugin| plugin.open);
        open && self.queue.count(&id) == 0
    }

    /// Admits an invocation if it may run now. The queue is not considered here.
    fn try_admit(&mut self, id: u64) -> bool {
        let running = self.queue.count(&id);
        let limit = self.plugins.get(&id).map_or(0, |plugin| plugin.limit);
        if running >= limit || !room(self.free, self.idle, self.limit, running) {
            return false;
        }
        self.change(id, |state| state.queue.pass(&id));
        self.free -= 1;
        true
    }

    /// Changes a plugin and updates the count of idle ones.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Self)) {
        self.idle -= usize::from(self.is_idle(id));
        change(self);
        self.idle += usize::from(self.is_idle(id));
    }

    fn set(&mut self, id: u64, plugin: Plugin) {
        self.change(id, |state| {
            state.plugins.insert(id, plugin);
        });
    }

    fn refuse(&mut self, id: u64, why: Rejection) {
        for waiter in self.queue.drain(&id) {
            // A waiter that has left needs no answer.
            waiter.answer.send(Err(why)).ok();
        }
    }

    /// Admits the queued invocations that may run now.
    fn serve(&mut self) {
        while self.free > 0 && !self.queue.is_empty() {
            let (free, idle, limit) = (self.free, self.idle, self.limit);
            let plugins = &self.plugins;
            let next = self.queue.pop(|id, running| {
                let own = plugins.get(id).map_or(0, |plugin| plugin.limit);
                running < own && room(free, idle, limit, running)
            });
            let Some(Waiter { plugin, answer }) = next else {
                return;
            };
            self.free -= 1;
            // It is the first of its plugin, which was idle before; only open plugins have a queue.
            self.idle -= usize::from(self.queue.count(&plugin) == 1);
            if answer.send(Ok(())).is_err() {
                // It was dropped without leaving the queue; the next round finds another waiter.
                self.free += 1;
                self.change(plugin, |state| state.queue.release(&plugin));
            }
        }
    }
}

/// Whether an admission is left for a plugin with `running` running invocations, besides those reserved for idle
/// plugins.
fn room(free: usize, idle: usize, limit: usize, running: usize) -> bool {
    let reserved = if running == 0 { 0 } else { idle.min(limit / 2) };
    free > reserved
}

/// The invocations of one plugin.
#[derive(Debug)]
pub(crate) struct PluginLimiter {
    host: InvocationLimiter,
    id: u64,
}

/// What became of a request for an admission.
pub(crate) enum AdmissionStatus<'a> {
    Admitted(InvocationAdmission<'a>),
    Queued(Queued<'a>),
}

impl PluginLimiter {
    /// Admits up to `limit` concurrent invocations.
    pub(crate) fn open(&self, limit: usize) {
        let mut state = self.host.0.state.lock();
        state.set(self.id, Plugin { open: true, limit });
        state.serve();
    }

    /// Admits no more invocations and refuses the queued ones. Running ones continue.
    pub(crate) fn close(&self) {
        let mut state = self.host.0.state.lock();
        state.set(self.id, Plugin::default());
        state.refuse(self.id, Rejection::Closed);
        // Nothing is kept for it any more.
        state.serve();
    }

    /// An admission, if one is free and the queue is empty.
    pub(crate) fn try_admit(&self) -> Option<InvocationAdmission<'_>> {
        match self.request(0) {
            Ok(AdmissionStatus::Admitted(admission)) => Some(admission),
            Ok(AdmissionStatus::Queued(_)) | Err(_) => None,
        }
    }

    /// An admission if one is free, otherwise a position in the queue, which holds at most `max_queue`.
    pub(crate) fn request(&self, max_queue: usize) -> Result<AdmissionStatus<'_>, Rejection> {
        let mut state = self.host.0.state.lock();
        if state.ended {
            return Err(Rejection::Ended);
        }
        if !state
            .plugins
            .get(&self.id)
            .is_some_and(|plugin| plugin.open)
        {
            return Err(Rejection::Closed);
        }
        let waiting = state.queue.waiting(&self.id);
        if waiting == 0 && state.try_admit(self.id) {
            return Ok(AdmissionStatus::Admitted(InvocationAdmission(self)));
        }
        if waiting >= max_queue {
            return Err(Rejection::Busy(waiting));
        }
        let (answer, answered) = oneshot::channel();
        let plugin = self.id;
        let arrival = state.queue.push(&plugin, Waiter { plugin, answer });
        Ok(AdmissionStatus::Queued(Queued {
            plugin: self,
            arrival,
            answered,
        }))
    }

    /// The numbers of running and queued invocations.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.host.0.state.lock();
        (state.queue.count(&self.id), state.queue.waiting(&self.id))
    }
}

impl Drop for PluginLimiter {
    fn drop(&mut self) {
        let mut state = self.host.0.state.lock();
        // Admissions borrow their plugin, so nothing of it runs or waits any more.
        state.set(self.id, Plugin::default());
        state.plugins.remove(&self.id);
        state.queue.forget(&self.id);
        state.serve();
    }
}

/// The right to run; returned when dropped.
#[derive(Debug)]
pub(crate) struct InvocationAdmission<'a>(&'a PluginLimiter);

impl Drop for InvocationAdmission<'_> {
    fn drop(&mut self) {
        let host = &self.0.host;
        host.release(&mut host.0.state.lock(), self.0.id);
    }
}

/// A position in the queue; left when dropped.
#[derive(Debug)]
pub(crate) struct Queued<'a> {
    plugin: &'a PluginLimiter,
    arrival: u64,
    answered: oneshot::Receiver<Result<(), Rejection>>,
}

impl<'a> Queued<'a> {
    /// Waits for the admission. Cancel safe: the position is kept until `self` is dropped.
    pub(crate) async fn admitted(&mut self) -> Result<InvocationAdmission<'a>, Rejection> {
        match (&mut self.answered).await {
            Ok(Ok(())) => Ok(InvocationAdmission(self.plugin)),
            Ok(Err(why)) => Err(why),
            // A waiter is always answered before it is dropped.
            Err(_) => Err(Rejection::Ended),
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let PluginLimiter { host, id } = self.plugin;
        let mut state = host.0.state.lock();
        state.queue.remove(id, self.arrival);
        // It was given an admission that it never received.
        if let Ok(Ok(())) = self.answered.try_recv() {
            host.release(&mut state, *id);
        }
    }
}

#[cfg(test)]
mod tests;
