//! A well-behaved plugin beside the hostile ones: called every few milliseconds from a thread of its
//! own, as a client of the host would, and never wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Handle;

use crate::common::Host;

/// The pause between two calls.
const PAUSE: Duration = Duration::from_millis(3);

/// What became of the calls.
#[derive(Debug, Default)]
pub struct Calls {
    /// How long each took.
    latencies: Vec<Duration>,
    /// Results that were not what they had to be.
    pub wrong: Vec<String>,
}

impl Calls {
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that this share of the calls did not pass.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss
        )]
        let at = (sorted.len() as f64 * share) as usize;
        sorted[at.min(sorted.len() - 1)]
    }
}

impl std::fmt::Display for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} calls, p50 {:?}, p99 {:?}, longest {:?}",
            self.count(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(1.0)
        )
    }
}

/// The neighbour while it is being called.
pub struct Neighbour {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Calls>,
}

impl Neighbour {
    /// Begins to call the plugin `neighbour`, which returns its input.
    pub fn call(host: &Arc<Host>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (until, host, workers) = (Arc::clone(&ended), Arc::clone(host), Handle::current());
        let thread = std::thread::spawn(move || {
            let mut calls = Calls::default();
            // What it notes is no growth of the host's.
            calls.latencies.reserve(1 << 18);
            while !until.load(Ordering::Relaxed) {
                let (host, number) = (Arc::clone(&host), calls.count());
                let begun = Instant::now();
                // On the workers, where the hostile ones run too.
                let called = workers.spawn(async move {
                    let input = json!({ "number": number });
                    let runtime = &host.runtime;
                    runtime.invoke("neighbour", "act", input, None, None).await
                });
                let output = workers.block_on(called).unwrap();
                calls.latencies.push(begun.elapsed());
                if output != Ok(json!({ "number": number })) {
                    calls.wrong.push(format!("call {number}: {output:?}"));
                }
                std::thread::sleep(PAUSE);
            }
            calls
        });
        Self { ended, thread }
    }

    pub fn end(self) -> Calls {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
