//! What deciding about somebody's calls costs.
//!
//! Invariant: whoever has the gate decide without end is charged for it, though the gate does so in tasks of its own.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The most that is charged at a time. It is read from the clock on the wall, which goes on when the system lets
/// somebody else run.
const MOST: Duration = Duration::from_millis(1);

/// Time on the processor that deciding about somebody's calls has taken. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Effort(Arc<AtomicU64>);

impl Effort {
    /// The time so far.
    #[must_use]
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Runs a future and charges its polls.
    pub(crate) async fn charge<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            let begun = Instant::now();
            let poll = future.as_mut().poll(context);
            let spent = begun.elapsed().min(MOST).as_nanos();
            let spent = u64::try_from(spent).unwrap_or(u64::MAX);
            self.0.fetch_add(spent, Ordering::Relaxed);
            poll
        })
        .await
    }
}
