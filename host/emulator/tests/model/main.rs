//! The emulator's model as a user meets it: what a source says changes the results, in the way that
//! the model's documentation says, and results agree with one another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss
)]

mod agreement;
mod bundled;
mod changes;
mod hostile;
mod reading;

use std::collections::BTreeMap;

use qchost_emulator::engine::model::Model;
use qchost_emulator::engine::{
    Compilation, Engine as _, Job, Language, Report, RuntimeError, SourceFile,
};

/// The kind of algorithm that the bundled plugin writes.
const CROSSOVER: &str = r#"
from AlgorithmImports import *


class SmaCrossover(QCAlgorithm):

    def initialize(self) -> None:
        self.set_start_date(2015, 1, 1)
        self.set_end_date(2019, 12, 31)
        self.set_cash(100_000)
        self._symbol = self.add_equity("SPY", Resolution.DAILY).symbol
        self._fast = self.sma(self._symbol, self.get_parameter("fast", 20), Resolution.DAILY)
        self._slow = self.sma(self._symbol, self.get_parameter("slow", 100), Resolution.DAILY)

    def on_data(self, data: Slice) -> None:
        if not self._slow.is_ready:
            return
        if self._fast.current.value > self._slow.current.value:
            if not self.portfolio.invested:
                self.set_holdings(self._symbol, 1)
        elif self.portfolio.invested:
            self.liquidate(self._symbol)
"#;

fn files(files: &[(&str, &str)]) -> Vec<SourceFile> {
    files
        .iter()
        .map(|(name, content)| SourceFile {
            name: (*name).to_owned(),
            content: (*content).to_owned(),
        })
        .collect()
}

fn compile(sources: &[(&str, &str)]) -> Compilation {
    Model.compile(Language::Python, &files(sources))
}

fn try_run(sources: &[(&str, &str)], parameters: &[(&str, &str)]) -> Result<Report, RuntimeError> {
    let parameters: BTreeMap<String, String> = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Model.run(&Job {
        language: Language::Python,
        files: files(sources),
        parameters,
    })
}

fn run_with(source: &str, parameters: &[(&str, &str)]) -> Report {
    try_run(&[("main.py", source)], parameters).unwrap_or_else(|error| {
        panic!("{error}\n{}", error.stacktrace);
    })
}

fn run(source: &str) -> Report {
    run_with(source, &[])
}

/// An algorithm with these statements in `initialize` and these in `on_data`.
fn algorithm(initialize: &str, on_data: &str) -> String {
    let indent = |text: &str| text.replace('\n', "\n        ");
    format!(
        "from AlgorithmImports import *\n\nclass A(QCAlgorithm):\n    def initialize(self):\n        \
         pass\n        {}\n    def on_data(self, data):\n        pass\n        {}\n",
        indent(initialize),
        indent(on_data)
    )
}

/// The error of an algorithm that fails.
fn failure(source: &str, parameters: &[(&str, &str)]) -> RuntimeError {
    try_run(&[("main.py", source)], parameters).expect_err("the algorithm should fail")
}

fn statistic<'r>(report: &'r Report, name: &str) -> &'r str {
    report.statistics[name].as_str().unwrap()
}

/// A statistic of the portfolio as a number.
fn portfolio(report: &Report, name: &str) -> f64 {
    report.total_performance["portfolioStatistics"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("no number {name}"))
}

/// What a run traded, without prices: day, security and side of each order.
fn decisions(report: &Report) -> Vec<(String, String, u64)> {
    report
        .orders
        .iter()
        .map(|order| {
            (
                order["time"].as_str().unwrap().to_owned(),
                order["symbol"]["value"].as_str().unwrap().to_owned(),
                order["direction"].as_u64().unwrap(),
            )
        })
        .collect()
}
