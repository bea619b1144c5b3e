//! `progress`: how far an invocation is, for its client.
//!
//! Only the newest report is kept: a slow watcher misses steps but blocks no one else.

use qchost_text::Redactor;
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

/// Where reports are sent, without the secrets that the redactor knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reporter(pub(crate) Option<(watch::Sender<Progress>, Redactor)>);

impl Reporter {
    pub(crate) fn send(&self, fraction: f64, message: &str) {
        if let Some((watcher, redactor)) = &self.0 {
            let fraction = if fraction.is_nan() { 0.0 } else { fraction };
            watcher.send_replace(Progress {
                fraction: fraction.clamp(0.0, 1.0),
                message: text::clean_line(message, MAX_MESSAGE, redactor),
            });
        }
    }
}

impl Reporter {
    /// Reports the current step without changing the fraction.
    pub(crate) fn set_message(&self, message: &str) {
        let watcher = self.0.as_ref();
        let fraction = watcher.map(|(watcher, _)| watcher.borrow().fraction);
        self.send(fraction.unwrap_or_default(), message);
    }
}

impl Host for Reporter {
    fn report(&mut self, fraction: f64, message: String) {
        self.send(fraction, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_longer_than_a_message_is_not_in_it() {
        let secret = "s3cret-0123456789".repeat(20);
        let redactor = Redactor::default();
        redactor.remember(secret.clone().into());
        let (sender, seen) = watch::channel(Progress::default());
        let mut reporter = Reporter(Some((sender, redactor)));
        reporter.report(0.5, format!("with {secret}"));
        let message = seen.borrow().message.clone();
        assert!(message.starts_with("with "), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
}
