//! Hot reload: the running host follows its files.
//!
//! A *reconciler* compares the files with what serves whenever they may have changed: triggered by the
//! watch, by SIGHUP, by `qchost reload`, by an approval, and every 30 seconds in case there was no
//! trigger. It does not depend on what the change was. A look reads what is new (`scan`), decides what
//! to do (`plan`), unloads what has no manifest any more, and has the rest loaded concurrently with
//! invocations (`load`), with one compile at a time. The state of each file is in one table, which every
//! verb reads.
//!
//! Invariants: a removed manifest takes its plugin's authority with it before anything else is done. An
//! invalid file changes nothing that runs. A problem is logged once for each content, and shown until it
//! is fixed.

mod configuration;
mod load;
mod plan;
mod reconciler;
mod scan;
mod stamp;
mod table;
mod tracked;
mod watching;

use tokio::sync::{mpsc, oneshot};

pub use reconciler::Reconciler;
pub use stamp::Stamp;
pub use table::{Health, Problem, Row, Table};

/// Triggers looks of the reconciler.
#[derive(Debug, Clone)]
pub struct Asks(mpsc::UnboundedSender<Ask>);

/// A request to the reconciler: it is answered when everything that it started has ended.
type Ask = Option<oneshot::Sender<()>>;

impl Asks {
    fn new() -> (Self, mpsc::UnboundedReceiver<Ask>) {
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
