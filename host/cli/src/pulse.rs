//! How the watchdog asks the parts of the host that could hang whether they work.
//!
//! Invariant: a part answers from the loop that does its work, so that no answer comes from one that hangs.

use tokio::sync::{mpsc, oneshot};

/// A question to a part of the host: it is answered by its next turn.
pub type Pulse = oneshot::Sender<()>;

/// Asks one part of the host. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Pulses(mpsc::UnboundedSender<Pulse>);

impl Pulses {
    /// What asks, and what the part receives from it.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Pulse>) {
        let (asking, asked) = mpsc::unbounded_channel();
        (Self(asking), asked)
    }

    /// Waits for the next turn of the part. `false` if it has ended.
    pub async fn ask(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).is_ok() && answered.await.is_ok()
    }
}

/// Answers that this part works.
pub fn answer(pulse: Pulse) {
    // During shutdown the watchdog may be gone.
    pulse.send(()).unwrap_or_default();
}
