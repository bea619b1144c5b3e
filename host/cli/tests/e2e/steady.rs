//! A steady load on a host: a fixed number of invocations a second, even if it cannot keep up.
//!
//! Each invocation is due at a fixed time. A slow answer does not delay the next invocations, as it would
//! with clients that wait for each other; time that they wait counts.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::socket::{Answer, Control};

/// Maximum number of invocations in progress.
pub const CLIENTS: usize = 32;

/// An invocation that was made.
#[derive(Debug, Clone)]
pub struct Sample {
    pub slow: bool,
    pub due: Instant,
    pub sent: Instant,
    pub answered: Instant,
    pub answer: Answer,
}

/// The load, until it is stopped.
pub struct Steady {
    begun: Instant,
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Steady {
    /// `plugin.act` at `rate` a second; of every `slow_every` of them, one is `plugin.slow` (none if 0).
    pub fn start(control: &Control, plugin: &str, rate: u64, slow_every: u64) -> Self {
        let begun = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..CLIENTS).map(|_| {
            let (control, plugin) = (control.clone(), plugin.to_owned());
            let (stop, next, samples) = (stop.clone(), next.clone(), samples.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = begun + Duration::from_micros(number * 1_000_000 / rate);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let slow = slow_every > 0 && number % slow_every == slow_every - 1;
                    let action = if slow { "slow" } else { "act" };
                    let sent = Instant::now();
                    let answer = control.invoke(&format!("{plugin}.{action}"), &json!({}));
                    let answered = Instant::now();
                    samples.lock().push(Sample {
                        slow,
                        due,
                        sent,
                        answered,
                        answer,
                    });
                }
            })
        });
        let clients = clients.collect();
        Self {
            begun,
            stop,
            samples,
            clients,
        }
    }

    /// The number of answers so far.
    pub fn answered(&self) -> usize {
        self.samples.lock().len()
    }

    /// Stops the load; returns the invocations in the order in which they were due, and its duration.
    pub fn stop(self) -> (Vec<Sample>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        let lasted = self.begun.elapsed();
        let mut samples = std::mem::take(&mut *self.samples.lock());
        samples.sort_by_key(|sample| sample.due);
        (samples, lasted)
    }
}

/// Median, 99th percentile and maximum of the time from the due time of an invocation to its answer.
pub fn latencies(samples: &[Sample]) -> [Duration; 3] {
    let mut all: Vec<_> = samples
        .iter()
        .map(|sample| sample.answered.duration_since(sample.due))
        .collect();
    all.sort();
    let at = |part: usize| all[(all.len() - 1) * part / 100];
    [at(50), at(99), at(100)]
}

/// Resident memory of a process, in KiB.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1);
    kib.unwrap().parse().unwrap()
}
