//! A well-behaved plugin beside the hostile ones: called every few milliseconds by clients of the host
//! with threads of their own, and never wrong.
//!
//! Each call has a time at which it is due, and its latency counts from then. A host that stands still
//! is not spared the calls of that time, as it would be by one client that waits for its answer: each
//! of them is late, and each is a latency.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Handle;

use qchost_testing::Host;

/// Interval between two calls.
pub const PERIOD: Duration = Duration::from_millis(4);
/// Maximum concurrent calls.
const CLIENTS: usize = 4;
/// Calls for which space is reserved, an hour of them: recording them must not look like growth of the host.
const ROOM: usize = 1 << 20;

/// A call that was answered.
#[derive(Debug, Clone, Copy)]
struct Call {
    due: Instant,
    answered: Instant,
}

impl Call {
    fn latency(&self) -> Duration {
        self.answered.duration_since(self.due)
    }
}

/// The results of the calls.
#[derive(Debug)]
pub struct Calls {
    calls: Vec<Call>,
    /// Wrong results.
    pub wrong: Vec<String>,
}

impl Calls {
    pub fn count(&self) -> usize {
        self.calls.len()
    }

    /// The latency that this share of the calls did not pass.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted: Vec<_> = self.calls.iter().map(Call::latency).collect();
        sorted.sort();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss
        )]
        let at = (sorted.len() as f64 * share) as usize;
        sorted[at.min(sorted.len() - 1)]
    }

    /// The longest latency of those that waited at some time between these two.
    pub fn longest(&self, begun: Instant, ended: Instant) -> Duration {
        let waited = self.calls.iter();
        let waited = waited.filter(|call| call.due < ended && begun < call.answered);
        waited.map(Call::latency).max().unwrap_or_default()
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
    calls: Arc<Mutex<Calls>>,
    clients: Vec<JoinHandle<()>>,
}

impl Neighbour {
    /// Begins to call the plugin `neighbour`, which returns its input.
    pub fn call(host: &Arc<Host>) -> Self {
        let begun = Instant::now();
        let next = Arc::new(AtomicU32::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(Mutex::new(Calls {
            calls: Vec::with_capacity(ROOM),
            wrong: Vec::new(),
        }));
        let clients = (0..CLIENTS).map(|_| {
            let (host, workers) = (Arc::clone(host), Handle::current());
            let (next, ended, calls) = (Arc::clone(&next), Arc::clone(&ended), Arc::clone(&calls));
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = begun + PERIOD * number;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let host = Arc::clone(&host);
                    // On the workers, where the hostile ones run too.
                    let called = workers.spawn(async move {
                        let input = json!({ "number": number });
                        let runtime = &host.runtime;
                        runtime.invoke("neighbour", "act", input, None, None).await
                    });
                    let output = workers.block_on(called).unwrap();
                    let answered = Instant::now();
                    let mut calls = calls.lock();
                    calls.calls.push(Call { due, answered });
                    if output != Ok(json!({ "number": number })) {
                        calls.wrong.push(format!("call {number}: {output:?}"));
                    }
                }
            })
        });
        let clients = clients.collect();
        Self {
            ended,
            calls,
            clients,
        }
    }

    pub fn end(self) -> Calls {
        self.ended.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        // The clients, who had it too, have ended.
        Arc::into_inner(self.calls).unwrap().into_inner()
    }
}
