//! Hot reload: the running host follows its files.
//!
//! A *reconciler* compares what the files say with what serves, whenever they may have changed: told by
//! the watch, by SIGHUP, by `qchost reload`, by an approval, and every 30 seconds in case nobody tells.
//! It does not care what the change was. A look reads what is new (`scan`), decides what follows from
//! it (`plan`), takes away what no manifest stands for, and has the rest loaded, four at a time of which
//! one is being compiled, beside the invocations (`load`). What became of each file stands in one table,
//! which every verb reads.
//!
//! Invariants: a manifest that is gone takes its plugin's authority with it before anything else is
//! done. A file that is wrong changes nothing that runs. What is wrong is said once for each content,
//! and shown until it is right.

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

/// What has the reconciler look at the files.
#[derive(Debug, Clone)]
pub struct Asks(mpsc::UnboundedSender<Ask>);

/// A question to the reconciler: the answer comes when everything it started has ended.
type Ask = Option<oneshot::Sender<()>>;

impl Asks {
    fn new() -> (Self, mpsc::UnboundedReceiver<Ask>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Has it look soon.
    pub fn look(&self) {
        // Where no reconciler runs any more, nothing is loaded any more.
        drop(self.0.send(None));
    }

    /// Has it look, and waits until what it found is done. False where no reconciler runs.
    pub async fn reload(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(Some(answer)).is_ok() && answered.await.is_ok()
    }
}
