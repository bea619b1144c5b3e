//! How the benchmarks measure, and what they report.
//!
//! A figure and its floor are measured in one run and in turns, so that a busy machine slows both. Each row goes as a
//! line of JSON to a file in the target directory; `report` makes the table of them.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The host's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

/// Runs two things in turns, each so often, and times every run.
pub async fn in_turns<One: Future<Output = ()>, Two: Future<Output = ()>>(
    rounds: usize,
    one: impl Fn() -> One,
    two: impl Fn() -> Two,
) -> (Vec<Duration>, Vec<Duration>) {
    let mut times = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds {
        let begun = Instant::now();
        // Whoever comes first finds the other's leavings in the processor's caches.
        if round % 2 == 0 {
            one().await;
            times.0.push(begun.elapsed());
            let begun = Instant::now();
            two().await;
            times.1.push(begun.elapsed());
        } else {
            two().await;
            times.1.push(begun.elapsed());
            let begun = Instant::now();
            one().await;
            times.0.push(begun.elapsed());
        }
    }
    times
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At most so many times its floor.
    Ratio(f64),
    /// At least so many times its floor.
    AtLeast(f64),
    /// At most so much, in the row's unit.
    Most(f64),
    /// For comparison.
    None,
}

/// Rows of one benchmark, in the order in which they are measured.
pub struct Report {
    file: PathBuf,
}

impl Report {
    /// A new file of rows; what a former run left under the name is gone.
    pub fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{name}.jsonl"));
        std::fs::write(&file, "").unwrap();
        Self { file }
    }

    /// A figure, its floor if it has one, and what was to be reached.
    pub fn row(&self, what: &str, unit: &str, measured: f64, floor: Option<f64>, target: Target) {
        let ratio = floor.map(|floor| measured / floor);
        let (wanted, met) = match target {
            Target::Ratio(most) => (format!("≤ {most} ×"), ratio.map(|ratio| ratio <= most)),
            Target::AtLeast(least) => (format!("≥ {least} ×"), ratio.map(|ratio| ratio >= least)),
            Target::Most(most) => (format!("≤ {most} {unit}"), Some(measured <= most)),
            Target::None => (String::new(), None),
        };
        let row = json!({
            "what": what, "unit": unit, "measured": measured, "floor": floor, "ratio": ratio,
            "target": wanted, "met": met,
        });
        println!("{}", line(&row));
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&self.file)
            .unwrap();
        writeln!(file, "{row}").unwrap();
    }
}

/// A figure with three digits that count.
pub fn figure(value: &Value) -> String {
    match value.as_f64() {
        None => String::new(),
        Some(number) if number.abs() >= 100.0 => format!("{number:.0}"),
        Some(number) if number.abs() >= 10.0 => format!("{number:.1}"),
        Some(number) if number.abs() >= 1.0 => format!("{number:.2}"),
        Some(number) => format!("{number:.3}"),
    }
}

fn line(row: &Value) -> String {
    format!(
        "{:<76} {:>9} {:<6} floor {:>9} ratio {:>6}  {:<10} {}",
        row["what"].as_str().unwrap_or_default(),
        figure(&row["measured"]),
        row["unit"].as_str().unwrap_or_default(),
        figure(&row["floor"]),
        figure(&row["ratio"]),
        row["target"].as_str().unwrap_or_default(),
        match row["met"].as_bool() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        },
    )
}

/// Bytes of memory that a process takes: what several mappings show, such as the data of one component in each
/// of its instances, counts once.
pub fn taken(process: u32) -> u64 {
    kilobytes(&format!("/proc/{process}/smaps_rollup"), "Pss:") * 1024
}

/// Bytes of a process that are in memory.
pub fn resident(process: u32) -> u64 {
    kilobytes(&format!("/proc/{process}/status"), "VmRSS:") * 1024
}

fn kilobytes(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
