//! Halts: what an operator stopped, and which calls were already past the point of no return.
//!
//! Invariant: a call departs under the same lock under which a halt is set. So each call either
//! departed before the halt, and the halt lists it, or its bytes never reach the transport.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use qchost_catalog::Failure;
use qchost_ledger::Halt;
use serde::Serialize;
use tokio::sync::watch;

use crate::ask::Ask;

/// What a halt is for. Both left out: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HaltScope {
    /// One account.
    pub account: Option<String>,
    /// One plugin.
    pub plugin: Option<String>,
}

impl HaltScope {
    fn covers(&self, account: &str, plugin: &str) -> bool {
        covers(self.account.as_deref(), account) && covers(self.plugin.as_deref(), plugin)
    }
}

fn same_scope(halt: &Halt, scope: &HaltScope) -> bool {
    halt.account == scope.account && halt.plugin == scope.plugin
}

fn covers(named: Option<&str>, actual: &str) -> bool {
    named.is_none_or(|named| named == actual)
}

/// A write that was past the point of no return when the halt came, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Departed {
    /// The call, as the audit names it.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin.
    pub plugin: String,
    /// The operation.
    pub operation: String,
    /// `answered`, the word of a failure, or `still under way`.
    pub ended: String,
}

/// Of a call that has departed and not ended.
const UNDER_WAY: &str = "still under way";

#[derive(Default)]
struct State {
    halts: Vec<Halt>,
    departed: HashMap<String, Departed>,
    /// How calls ended that halts wait for, with how many do.
    endings: HashMap<String, (usize, String)>,
}

/// The halts of a host, and its writes that are under way.
pub(crate) struct Halts {
    state: Mutex<State>,
    /// Counts changes: of the halts, and of what is under way.
    changed: watch::Sender<u64>,
}

/// A write that may have departed; forgotten when dropped.
pub(crate) struct Departure<'a> {
    halts: &'a Halts,
    ask: &'a Ask,
}

impl Halts {
    pub(crate) fn new(halts: Vec<Halt>) -> Self {
        Self {
            state: Mutex::new(State {
                halts,
                ..State::default()
            }),
            changed: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a write of this plugin may not be sent now, if it may not.
    pub(crate) fn reason(&self, account: &str, plugin: &str) -> Option<String> {
        reason(&self.state().halts, account, plugin)
    }

    /// The halts.
    pub(crate) fn list(&self) -> Vec<Halt> {
        self.state().halts.clone()
    }

    /// Halts, and returns what of the scope had departed before.
    pub(crate) fn halt(&self, halt: Halt, scope: &HaltScope) -> Vec<Departed> {
        let departed = {
            let mut state = self.state();
            state.halts.retain(|one| !same_scope(one, scope));
            state.halts.push(halt);
            let departed: Vec<Departed> = state
                .departed
                .values()
                .filter(|one| scope.covers(&one.account, &one.plugin))
                .cloned()
                .collect();
            for one in &departed {
                let waiting = state.endings.entry(one.call.clone());
                waiting.or_insert_with(|| (0, one.ended.clone())).0 += 1;
            }
            departed
        };
        self.notify();
        departed
    }

    /// Whether there is a halt of exactly this scope.
    pub(crate) fn is_set(&self, scope: &HaltScope) -> bool {
        self.state().halts.iter().any(|one| same_scope(one, scope))
    }

    /// Ends the halt of exactly this scope.
    pub(crate) fn resume(&self, scope: &HaltScope) {
        self.state().halts.retain(|one| !same_scope(one, scope));
        self.notify();
    }

    fn notify(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Told of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether this write is still under way.
    pub(crate) fn is_under_way(&self, call: &str) -> bool {
        self.state().departed.contains_key(call)
    }

    /// How a call ended that a halt waited for. To be asked once by each halt that was told of it.
    pub(crate) fn ending(&self, call: &str) -> String {
        let mut state = self.state();
        let Some((waiting, ending)) = state.endings.get_mut(call) else {
            return UNDER_WAY.to_owned();
        };
        *waiting -= 1;
        let (left, ending) = (*waiting, ending.clone());
        if left == 0 {
            state.endings.remove(call);
        }
        ending
    }

    /// Waits until writes of this plugin are halted, and says why.
    pub(crate) async fn halted(&self, account: &str, plugin: &str) -> String {
        let mut changes = self.changes();
        loop {
            if let Some(reason) = self.reason(account, plugin) {
                return reason;
            }
            // The sender lives as long as this.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Prepares the departure of a write.
    pub(crate) fn departure<'a>(&'a self, ask: &'a Ask) -> Departure<'a> {
        Departure { halts: self, ask }
    }
}

impl Departure<'_> {
    /// Lets the call go, unless it is halted. Asked right before each sending.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        let (account, plugin) = (self.ask.account(), &*self.ask.caller.plugin);
        let mut state = self.halts.state();
        if let Some(reason) = reason(&state.halts, account, plugin) {
            return Err(Failure::Halted(reason));
        }
        state
            .departed
            .entry(self.ask.call.clone())
            .or_insert_with(|| Departed {
                call: self.ask.call.clone(),
                account: account.to_owned(),
                plugin: plugin.to_owned(),
                operation: self.ask.name.to_string(),
                ended: UNDER_WAY.to_owned(),
            });
        Ok(())
    }

    /// Says how the call ended, to halts that wait for it or will.
    pub(crate) fn ended(&self, how: &str) {
        let mut state = self.halts.state();
        if let Some(departed) = state.departed.get_mut(&self.ask.call) {
            how.clone_into(&mut departed.ended);
        }
        if let Some((_, ending)) = state.endings.get_mut(&self.ask.call) {
            how.clone_into(ending);
        }
    }
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        let was = self.halts.state().departed.remove(&self.ask.call);
        if was.is_some() {
            self.halts.notify();
        }
    }
}

fn reason(halts: &[Halt], account: &str, plugin: &str) -> Option<String> {
    let halt = halts.iter().find(|halt| {
        covers(halt.account.as_deref(), account) && covers(halt.plugin.as_deref(), plugin)
    })?;
    let what = match (&halt.account, &halt.plugin) {
        (None, None) => "everything".to_owned(),
        (Some(account), None) => format!("account `{account}`"),
        (None, Some(plugin)) => format!("plugin `{plugin}`"),
        (Some(account), Some(plugin)) => format!("plugin `{plugin}` on account `{account}`"),
    };
    Some(format!("{} halted {what}: {}", halt.by, halt.reason))
}
