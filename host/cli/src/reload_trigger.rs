//! How the rest of the host makes the reconciler look at the files.

use tokio::sync::{mpsc, oneshot};

/// Triggers looks of the reconciler. Clones trigger the same one.
#[derive(Debug, Clone)]
pub struct ReloadTrigger(mpsc::UnboundedSender<ReloadRequest>);

/// A request to the reconciler: it is answered when everything that it started has ended.
pub type ReloadRequest = Option<oneshot::Sender<()>>;

impl ReloadTrigger {
    /// A trigger, and what the reconciler receives from it.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<ReloadRequest>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Triggers a look.
    pub fn look(&self) {
        // Without a reconciler nothing is loaded any more.
        drop(self.0.send(None));
    }

    /// Triggers a look, and waits until its changes are done. `false` if no reconciler runs.
    pub async fn reload(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(Some(answer)).is_ok() && answered.await.is_ok()
    }
}
