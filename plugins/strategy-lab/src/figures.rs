//! The figures of one backtest that a person compares strategies by.

use std::collections::BTreeMap;

use qchost_sdk::backtests::{Backtest, BacktestStatus};
use qchost_sdk::prelude::*;
use qchost_sdk::types::{ParameterSet, Statistic};
use serde::Serialize;

/// Figures of a backtest. One that QuantConnect does not give is null.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Figures {
    /// Excess return over its standard deviation, annual.
    pub(crate) sharpe_ratio: Option<f64>,
    /// Net profit over start equity, as a fraction.
    pub(crate) net_profit: Option<f64>,
    /// Largest fall from a peak, as a fraction.
    pub(crate) drawdown: Option<f64>,
    /// Orders.
    pub(crate) orders: Option<u32>,
    /// Closed trades.
    pub(crate) trades: Option<u32>,
}

impl Figures {
    /// Takes them out of a backtest that ended.
    pub(crate) fn of(backtest: &Backtest) -> Self {
        let performance = backtest.total_performance.as_ref();
        let trades = performance.and_then(|it| it.trade_statistics.as_ref());
        Self {
            trades: trades.and_then(|it| it.total_number_of_trades),
            ..Self::of_statistics(&backtest.statistics)
        }
    }

    /// Takes them out of statistics, which do not have the closed trades.
    pub(crate) fn of_statistics(found: &[Statistic]) -> Self {
        Self {
            sharpe_ratio: statistics::find(found, "Sharpe Ratio"),
            net_profit: statistics::find(found, "Net Profit"),
            drawdown: statistics::find(found, "Drawdown"),
            orders: orders(found),
            trades: None,
        }
    }
}

/// How many orders there were. The name of this figure changed: older versions of LEAN call it
/// trades.
fn orders(found: &[Statistic]) -> Option<u32> {
    let text = |name: &str| {
        let statistic = found.iter().find(|it| it.name == name)?;
        statistic.text.replace(',', "").parse().ok()
    };
    text("Total Orders").or_else(|| text("Total Trades"))
}

/// Parameters under their names.
pub(crate) fn parameters(set: &ParameterSet) -> BTreeMap<String, String> {
    set.iter().cloned().collect()
}

/// Why a backtest is no result; `None` if it completed well.
pub(crate) fn reason_of_failure(backtest: &Backtest) -> Option<String> {
    if let Some(error) = &backtest.error {
        let error = error.trim();
        return Some(match backtest.stacktrace.as_deref().map(str::trim) {
            Some(trace) if !trace.is_empty() && trace != error => format!("{error}\n{trace}"),
            _ => error.to_owned(),
        });
    }
    match &backtest.status {
        Some(BacktestStatus::Completed) => None,
        Some(BacktestStatus::RuntimeError) => Some("the algorithm failed without a message".into()),
        Some(BacktestStatus::InQueue | BacktestStatus::Running) => {
            Some("the backtest did not end".into())
        }
        Some(BacktestStatus::Other(status)) => Some(format!("the backtest ended as {status}")),
        None if backtest.completed == Some(true) => None,
        None => Some("QuantConnect does not say how the backtest ended".into()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use qchost_sdk::backtests::{Performance, TradeStatistics};

    /// A backtest that ended well, with these figures.
    pub(crate) fn backtest(id: &str, statistics: &[(&str, f64)]) -> Backtest {
        let statistic = |&(name, value): &(&str, f64)| Statistic {
            name: name.to_owned(),
            text: value.to_string(),
            value: Some(value),
        };
        Backtest {
            backtest_id: id.into(),
            status: Some(BacktestStatus::Completed),
            statistics: statistics.iter().map(statistic).collect(),
            ..Backtest::default()
        }
    }

    #[test]
    fn orders_are_found_under_either_name() {
        let new = backtest("b", &[("Total Orders", 4.0), ("Total Trades", 9.0)]);
        let old = backtest("b", &[("Total Trades", 9.0)]);
        assert_eq!(Figures::of(&new).orders, Some(4));
        assert_eq!(Figures::of(&old).orders, Some(9));
        assert_eq!(Figures::of(&backtest("b", &[])).orders, None);
    }

    #[test]
    fn figures_are_those_of_the_whole_run() {
        let mut run = backtest(
            "b",
            &[
                ("Sharpe Ratio", 0.7),
                ("Net Profit", 0.12),
                ("Drawdown", 0.05),
            ],
        );
        run.total_performance = Some(Performance {
            trade_statistics: Some(TradeStatistics {
                total_number_of_trades: Some(3),
                ..TradeStatistics::default()
            }),
            ..Performance::default()
        });
        assert_eq!(
            Figures::of(&run),
            Figures {
                sharpe_ratio: Some(0.7),
                net_profit: Some(0.12),
                drawdown: Some(0.05),
                orders: None,
                trades: Some(3),
            }
        );
    }

    #[test]
    fn only_a_run_to_the_end_is_a_result() {
        let mut run = backtest("b", &[]);
        assert_eq!(reason_of_failure(&run), None);
        run.status = Some(BacktestStatus::Running);
        assert_eq!(
            reason_of_failure(&run).as_deref(),
            Some("the backtest did not end")
        );
        run.status = Some(BacktestStatus::Other("Paused".into()));
        assert_eq!(
            reason_of_failure(&run).as_deref(),
            Some("the backtest ended as Paused")
        );
        run.status = None;
        assert!(reason_of_failure(&run).is_some());
        run.completed = Some(true);
        assert_eq!(reason_of_failure(&run), None);
        run.error = Some("division by zero\n".into());
        run.stacktrace = Some("at on_data, main.py:9".into());
        assert_eq!(
            reason_of_failure(&run).as_deref(),
            Some("division by zero\nat on_data, main.py:9")
        );
    }
}
