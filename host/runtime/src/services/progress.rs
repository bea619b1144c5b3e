//! `progress`: how far an invocation is, for its client.
//!
//! Only the newest report is kept: a slow watcher misses steps but blocks no one else.

use tokio::sync::watch;

use crate::contract::qchost::agent::progress::Host;
use crate::text;

/// Maximum bytes of a message.
const MAX_MESSAGE: usize = 200;

/// The progress of an invocation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// The current step: one line.
    pub message: String,
}

/// Where reports are sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reporter(pub(crate) Option<watch::Sender<Progress>>);

impl Reporter {
    pub(crate) fn send(&self, fraction: f64, message: &str) {
        if let Some(watcher) = &self.0 {
            let fraction = if fraction.is_nan() { 0.0 } else { fraction };
            watcher.send_replace(Progress {
                fraction: fraction.clamp(0.0, 1.0),
                message: text::line(message, MAX_MESSAGE),
            });
        }
    }
}

impl Reporter {
    /// Reports the current step without changing the fraction.
    pub(crate) fn set_message(&self, message: &str) {
        let fraction = self.0.as_ref().map(|watcher| watcher.borrow().fraction);
        self.send(fraction.unwrap_or_default(), message);
    }
}

impl Host for Reporter {
    fn report(&mut self, fraction: f64, message: String) {
        self.send(fraction, &message);
    }
}
