//! How the benchmarks measure.
//!
//! A figure and its floor are measured in one run and in turns, so that a busy machine slows both.

use std::time::{Duration, Instant};

/// Percentiles of many measurements.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub p50: Duration,
    pub p99: Duration,
}

impl Spread {
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self {
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
        }
    }
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Runs two things in turns, so often one of them and then as often the other, and times every run. In a turn of many
/// runs each side has the processor's caches to itself, as where nothing else runs.
pub async fn in_turns<One: Future<Output = ()>, Two: Future<Output = ()>>(
    turns: usize,
    runs: usize,
    one: impl Fn() -> One,
    two: impl Fn() -> Two,
) -> (Vec<Duration>, Vec<Duration>) {
    let room = turns * runs;
    let mut times = (Vec::with_capacity(room), Vec::with_capacity(room));
    for turn in 0..turns {
        // The first one finds what the other left behind.
        if turn % 2 == 0 {
            timed(runs, &one, &mut times.0).await;
            timed(runs, &two, &mut times.1).await;
        } else {
            timed(runs, &two, &mut times.1).await;
            timed(runs, &one, &mut times.0).await;
        }
    }
    times
}

async fn timed<Run: Future<Output = ()>>(
    runs: usize,
    run: &impl Fn() -> Run,
    times: &mut Vec<Duration>,
) {
    for _ in 0..runs {
        let begun = Instant::now();
        run().await;
        times.push(begun.elapsed());
    }
}

/// Bytes of memory that a process takes: what several mappings show, such as the data of one component in each
/// of its instances, counts once.
pub fn proportional(process: u32) -> u64 {
    kilobytes(&format!("/proc/{process}/smaps_rollup"), "Pss:") * 1024
}

/// Bytes of a process that are in memory.
pub fn resident(process: u32) -> u64 {
    kilobytes(&format!("/proc/{process}/status"), "VmRSS:") * 1024
}

/// Bytes of the kernel's for the page tables of a process, which no other figure counts.
pub fn page_tables(process: u32) -> u64 {
    kilobytes(&format!("/proc/{process}/status"), "VmPTE:") * 1024
}

fn kilobytes(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
