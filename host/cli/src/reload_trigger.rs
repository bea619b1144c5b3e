//! How the rest of the host makes the reconciler look at the files.

use tokio::sync::{mpsc, oneshot};

use crate::pulse::{Pulse, Pulses};

/// Triggers looks of the reconciler. Clones trigger the same one.
#[derive(Debug, Clone)]
pub struct ReloadTrigger {
    requests: mpsc::UnboundedSender<ReloadRequest>,
    pulses: Pulses,
}

/// A request to the reconciler: it is answered when everything that it started has ended.
pub type ReloadRequest = Option<oneshot::Sender<()>>;

impl ReloadTrigger {
    /// A trigger, and what the reconciler receives from it.
    pub fn new() -> (
        Self,
        mpsc::UnboundedReceiver<ReloadRequest>,
        mpsc::UnboundedReceiver<Pulse>,
    ) {
        let (requests, requested) = mpsc::unbounded_channel();
        let (pulses, asked) = Pulses::new();
        (Self { requests, pulses }, requested, asked)
    }

    /// Triggers a look.
    pub fn look(&self) {
        // Without a reconciler nothing is loaded any more.
        drop(self.requests.send(None));
    }

    /// Triggers a look, and waits until its changes are done. `false` if no reconciler runs.
    pub async fn reload(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Some(answer)).is_ok() && answered.await.is_ok()
    }

    /// Waits for the reconciler's next turn. `false` if no reconciler runs.
    pub async fn pulse(&self) -> bool {
        self.pulses.ask().await
    }
}
