//! What compiles and runs algorithms.
//!
//! The emulated cloud knows projects, jobs and clocks; an [`Engine`] knows source code, prices and
//! statistics, and nothing of requests. The emulator's own engine is the documented model in
//! [`model`]; tests supply others.
//!
//! Invariant: an engine is a pure function of its [`Job`]. The same job gives the same
//! [`Report`], and nothing in it depends on a clock, a random source or earlier jobs.

pub mod model;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One file of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// The path inside the project, such as `main.py`.
    pub name: String,
    /// The whole text.
    pub content: String,
}

/// The language of a project.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, Serialize, Deserialize,
)]
pub enum Language {
    /// `Py` in the API.
    #[strum(serialize = "Py")]
    Python,
    /// `C#` in the API.
    #[strum(serialize = "C#")]
    CSharp,
}

/// An error or warning about a source line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file's name inside the project.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// One sentence.
    pub message: String,
}

impl Diagnostic {
    /// About a whole file: at its first character.
    pub(crate) fn new(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 1,
            column: 1,
            message: message.into(),
        }
    }
}

/// A call of `get_parameter` that was found in the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectedParameter {
    /// The file's name inside the project.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The parameter's name.
    pub name: String,
    /// Its default as it stands in the source, where there is one.
    pub default: Option<String>,
}

/// The result of compiling a project.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Compilation {
    /// Errors; empty means that the project builds.
    pub errors: Vec<Diagnostic>,
    /// Warnings, which do not keep it from building.
    pub warnings: Vec<Diagnostic>,
    /// Parameters, in source order.
    pub parameters: Vec<DetectedParameter>,
}

/// A backtest to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The project's language.
    pub language: Language,
    /// All files of the project.
    pub files: Vec<SourceFile>,
    /// Values that override the defaults in the source, as text.
    pub parameters: BTreeMap<String, String>,
}

/// An algorithm that failed while it ran, as the cloud shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct RuntimeError {
    /// The message.
    pub message: String,
    /// Where, as a Python stack trace.
    pub stacktrace: String,
    /// Whether it failed in `initialize`.
    pub in_initialize: bool,
}

/// One sample of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Unix time in seconds, UTC.
    pub time: i64,
    /// The value.
    pub value: f64,
}

/// One named series of a chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Such as `Equity`.
    pub name: String,
    /// Such as `$` or `%`.
    pub unit: String,
    /// QuantConnect's series type: 0 line, 2 candle, 3 bar.
    pub kind: u8,
    /// In ascending time.
    pub samples: Vec<Sample>,
}

/// One chart, such as `Strategy Equity`, `Drawdown`, `Benchmark`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// The name by which it is read.
    pub name: String,
    /// Its series.
    pub series: Vec<Series>,
}

/// The result of one run of an algorithm. Records that are only passed on to clients are JSON in
/// QuantConnect's own form (`outputSchema` of the official tools); all of them are computed
/// from one simulated run and agree with each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// First and last simulated day, Unix seconds (midnight UTC).
    pub start: i64,
    /// See `start`.
    pub end: i64,
    /// Days on which the market was open.
    pub tradeable_dates: u32,
    /// The parameters that the source reads, with the values used, as text.
    pub parameters: BTreeMap<String, String>,
    /// `StatisticsResult`: `"Sharpe Ratio": "0.731"`, `"Net Profit": "12.300%"` …
    pub statistics: serde_json::Value,
    /// `RuntimeStatistics`: `"Equity": "$112,300.00"` …
    pub runtime_statistics: serde_json::Value,
    /// `AlgorithmPerformance`: `tradeStatistics`, `portfolioStatistics`, `closedTrades`.
    pub total_performance: serde_json::Value,
    /// `Order`s in ascending time, with `id` from 1 and their `events`.
    pub orders: Vec<serde_json::Value>,
    /// `Insight`s in ascending time.
    pub insights: Vec<serde_json::Value>,
    /// The charts.
    pub charts: Vec<Chart>,
    /// Log lines with their simulated time in front, as LEAN writes them.
    pub logs: Vec<String>,
    /// One entry a simulated day: what a live deployment shows on that day.
    pub days: Vec<Day>,
}

impl Report {
    /// One of the `portfolioStatistics` in [`Self::total_performance`].
    pub(crate) fn portfolio_statistic(&self, name: &str) -> Option<&serde_json::Value> {
        let statistics = self.total_performance.get("portfolioStatistics")?;
        statistics.get(name)
    }

    /// The `closedTrades` in [`Self::total_performance`].
    pub(crate) fn closed_trades(&self) -> &[serde_json::Value] {
        let trades = self.total_performance.get("closedTrades");
        trades
            .and_then(serde_json::Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// The bare number of one of the [`Self::statistics`]: that of `12.300%` is 12.3, that of
    /// `$1,234.50` is 1234.5.
    pub(crate) fn bare_statistic(&self, name: &str) -> Option<f64> {
        let text = self.statistics.get(name)?.as_str()?;
        let bare = |letter: &char| letter.is_ascii_digit() || "+-.eE".contains(*letter);
        text.chars().filter(bare).collect::<String>().parse().ok()
    }
}

/// The portfolio at the close of one simulated day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Unix seconds.
    pub time: i64,
    /// Total portfolio value.
    pub equity: f64,
    /// Cash.
    pub cash: f64,
    /// Holdings with a quantity other than zero.
    pub holdings: Vec<DayHolding>,
    /// How many entries of [`Report::orders`] are final (filled or invalid) by then.
    pub orders: usize,
    /// How many entries of [`Report::insights`] exist by then.
    pub insights: usize,
    /// How many entries of [`Report::logs`] exist by then.
    pub logs: usize,
}

/// One position at the close of a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DayHolding {
    /// The ticker.
    pub ticker: String,
    /// QuantConnect's security identifier, such as `SPY R735QTJ8XC9X`.
    pub symbol_id: String,
    /// Shares.
    pub quantity: f64,
    /// Average purchase price.
    pub average_price: f64,
    /// Close of the day.
    pub market_price: f64,
}

/// Compiles and runs algorithms.
pub trait Engine: std::fmt::Debug + Send + Sync + 'static {
    /// The name shown in answers, such as "qchost emulator model".
    fn name(&self) -> &'static str;
    /// Checks a project's sources.
    fn compile(&self, language: Language, files: &[SourceFile]) -> Compilation;
    /// Runs a backtest until it ends.
    ///
    /// # Errors
    /// A failure of the algorithm itself.
    fn run(&self, job: &Job) -> Result<Report, RuntimeError>;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn bare_statistics_have_no_signs() {
        let report = Report {
            start: 0,
            end: 0,
            tradeable_dates: 0,
            parameters: BTreeMap::new(),
            statistics: json!({"Fees": "$1,234.50", "Profit": "-12.3%", "Asset": "none"}),
            runtime_statistics: Value::Null,
            total_performance: Value::Null,
            orders: Vec::new(),
            insights: Vec::new(),
            charts: Vec::new(),
            logs: Vec::new(),
            days: Vec::new(),
        };
        assert_eq!(report.bare_statistic("Fees"), Some(1234.5));
        assert_eq!(report.bare_statistic("Profit"), Some(-12.3));
        assert_eq!(report.bare_statistic("Asset"), None);
        assert_eq!(report.bare_statistic("Sharpe Ratio"), None);
    }
}
