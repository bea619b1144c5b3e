//! Reports measurements, on the terminal and for the table of all of them. Tests that measure use it as well.
//!
//! Each row goes as a line of JSON to a file in the target directory; the benchmark `report` makes the table of them.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At most this multiple of its floor.
    Ratio(f64),
    /// At least this multiple of its floor.
    AtLeast(f64),
    /// At most this value, in the row's unit.
    Most(f64),
    /// For comparison.
    None,
}

/// Rows of one benchmark, in the order in which they are measured.
pub struct Report {
    file: PathBuf,
}

impl Report {
    /// A new file of rows below `CARGO_TARGET_TMPDIR`, which only the measuring program is compiled with; what a former
    /// run left under the name is gone.
    pub fn new(target: &str, name: &str) -> Self {
        let folder = Path::new(target).join("bench");
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
