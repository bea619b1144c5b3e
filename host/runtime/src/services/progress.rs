//! `progress`: how far an invocation is, for whoever waits for it.
//!
//! Only the newest report is kept: a watcher that is slow misses steps and holds up nobody.

use tokio::sync::watch;

use crate::contract::qchost::agent::progress::Host;
use crate::text;

/// The longest message, in bytes.
const MESSAGE: usize = 200;

/// How far an invocation is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What is being done: one line.
    pub message: String,
}

/// Where reports go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reporter(pub(crate) Option<watch::Sender<Progress>>);

impl Reporter {
    pub(crate) fn send(&self, fraction: f64, message: &str) {
        if let Some(watcher) = &self.0 {
            let fraction = if fraction.is_nan() { 0.0 } else { fraction };
            watcher.send_replace(Progress {
                fraction: fraction.clamp(0.0, 1.0),
                message: text::line(message, MESSAGE),
            });
        }
    }
}

impl Reporter {
    /// Says what is being done, without getting further by it.
    pub(crate) fn say(&self, message: &str) {
        let fraction = self.0.as_ref().map(|watcher| watcher.borrow().fraction);
        self.send(fraction.unwrap_or_default(), message);
    }
}

impl Host for Reporter {
    fn report(&mut self, fraction: f64, message: String) {
        self.send(fraction, &message);
    }
}
