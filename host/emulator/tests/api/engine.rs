//! An engine of a few lines. Words in the source tell it what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use qchost_emulator::engine::{
    Chart, Compilation, Day, DayHolding, DetectedParameter, Diagnostic, Engine, Job, Language,
    Report, RuntimeError, Sample, Series, SourceFile,
};
use serde_json::json;

/// The first simulated day, 2020-01-01.
pub const START: i64 = 1_577_836_800;
pub const DAY: i64 = 86_400;
/// Simulated days, each with an order, an insight and a log line.
pub const DAYS: usize = 150;

#[derive(Debug, Clone, Copy)]
pub struct Tiny;

impl Engine for Tiny {
    fn name(&self) -> &'static str {
        "test engine"
    }

    fn compile(&self, _: Language, files: &[SourceFile]) -> Compilation {
        let mut compilation = Compilation::default();
        for file in files {
            for (line, text) in (1..).zip(file.content.lines()) {
                let diagnostic = |message: &str| Diagnostic {
                    file: file.name.clone(),
                    line,
                    column: 1,
                    message: message.to_owned(),
                };
                assert!(!text.contains("PANIC ON COMPILE"), "the engine is broken");
                if text.contains("SYNTAX ERROR") {
                    compilation.errors.push(diagnostic("invalid syntax"));
                }
                if text.contains("WARNING") {
                    compilation.warnings.push(diagnostic("unused variable"));
                }
                if let Some(name) = text.strip_prefix("PARAMETER ") {
                    compilation.parameters.push(DetectedParameter {
                        file: file.name.clone(),
                        line,
                        name: name.to_owned(),
                        default: Some("10".to_owned()),
                    });
                }
            }
        }
        compilation
    }

    fn run(&self, job: &Job) -> Result<Report, RuntimeError> {
        let source: String = job.files.iter().map(|file| file.content.as_str()).collect();
        let failure = |in_initialize| RuntimeError {
            message: "division by zero".to_owned(),
            stacktrace: "at main.py: line 3".to_owned(),
            in_initialize,
        };
        assert!(!source.contains("PANIC ON RUN"), "the engine is broken");
        if source.contains("FAIL IN INITIALIZE") {
            return Err(failure(true));
        }
        if source.contains("FAIL LATER") {
            return Err(failure(false));
        }
        if source.contains("SLOW") {
            std::thread::sleep(Duration::from_millis(400));
        }
        let mut report = report(&job.parameters);
        if source.contains("FLAT") {
            for day in &mut report.days {
                day.equity = 100_000.0;
            }
        }
        Ok(report)
    }
}

/// The Sharpe ratio is the parameter `fast`, so that a test knows which run is the best.
fn report(parameters: &BTreeMap<String, String>) -> Report {
    let sharpe: f64 = parameters
        .get("fast")
        .and_then(|text| text.parse().ok())
        .unwrap_or(10.0);
    let time = |index: usize| START + DAY * i64::try_from(index).unwrap();
    let value = |index: usize| 100_000.0 + f64::from(u32::try_from(index).unwrap());
    let series = |name: &str, kind: u8| Series {
        name: name.to_owned(),
        unit: "$".to_owned(),
        kind,
        samples: (0..DAYS)
            .map(|index| Sample {
                time: time(index),
                value: value(index),
            })
            .collect(),
    };
    let entries = |what: &str| -> Vec<serde_json::Value> {
        (0..DAYS)
            .map(|index| json!({"id": index + 1, what: index, "value": 100.0}))
            .collect()
    };
    Report {
        start: START,
        end: time(DAYS - 1),
        tradeable_dates: u32::try_from(DAYS).unwrap(),
        parameters: parameters.clone(),
        statistics: json!({
            "Sharpe Ratio": format!("{sharpe}"),
            "Net Profit": "12.500%",
            "Total Fees": "$1,250.50",
            "Total Orders": "150",
        }),
        runtime_statistics: json!({"Equity": "$100,149.00"}),
        total_performance: json!({
            "tradeStatistics": {},
            "portfolioStatistics": {
                "sharpeRatio": sharpe,
                "drawdown": 0.1,
                "probabilisticSharpeRatio": 0.5,
                "compoundingAnnualReturn": 0.2,
            },
            "closedTrades": entries("trade"),
        }),
        orders: entries("order"),
        insights: entries("insight"),
        charts: vec![Chart {
            name: "Strategy Equity".to_owned(),
            series: vec![series("Equity", 2), series("Return", 3)],
        }],
        logs: (0..DAYS).map(|index| format!("day {index}")).collect(),
        days: (0..DAYS)
            .map(|index| Day {
                time: time(index),
                equity: value(index),
                cash: 90_000.0,
                holdings: vec![DayHolding {
                    ticker: "SPY".to_owned(),
                    symbol_id: "SPY R735QTJ8XC9X".to_owned(),
                    quantity: 10.0,
                    average_price: 1_000.0,
                    market_price: (value(index) - 90_000.0) / 10.0,
                }],
                orders: index + 1,
                insights: index + 1,
                logs: index + 1,
            })
            .collect(),
    }
}
