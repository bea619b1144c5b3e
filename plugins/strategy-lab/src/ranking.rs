//! Ranks backtests by a statistic.
//!
//! Invariant: the same results give the same ranking, whatever order they come in: equal figures
//! are ordered by their parameters, numbers by their size.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use qchost_sdk::backtests::Backtest;
use qchost_sdk::prelude::*;
use qchost_sdk::types::Statistic;
use qchost_sdk::workflow::ItemResult;
use schemars::JsonSchema;
use serde::Serialize;

use crate::figures::{self, Figures};

/// A backtest that ended well.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Row {
    /// Its place, from 1.
    pub(crate) rank: u32,
    /// Its parameters.
    pub(crate) parameters: BTreeMap<String, String>,
    /// The target statistic; a percentage as a fraction.
    pub(crate) value: f64,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Identifies it at QuantConnect.
    pub(crate) backtest_id: String,
}

/// A combination that gave no result.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Miss {
    /// Its parameters.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Why there is no result.
    pub(crate) reason: String,
    /// Identifies the backtest at QuantConnect, if there is one.
    pub(crate) backtest_id: Option<String>,
}

/// Which end of a statistic is good: less drawdown is better, more of anything else.
pub(crate) fn lower_is_better(statistic: &str) -> bool {
    statistic.to_lowercase().contains("drawdown")
}

/// Ranks what became of a batch by a statistic, best first, and lists what failed.
///
/// # Errors
/// If nothing ended well: the call's own error if no backtest could be run.
pub(crate) fn rank(
    results: Vec<ItemResult>,
    target: &str,
) -> Result<(Vec<Row>, Vec<Miss>), Failure> {
    let mut refusal = None;
    let entry = |result: ItemResult| {
        let parameters = figures::parameters(&result.parameters);
        match result.outcome {
            Ok(backtest) => match value(&backtest, target) {
                Ok(value) => Ok(Row {
                    rank: 0,
                    parameters,
                    value,
                    figures: Figures::of(&backtest),
                    backtest_id: backtest.backtest_id,
                }),
                Err(reason) => Err(Miss {
                    parameters,
                    reason,
                    backtest_id: Some(backtest.backtest_id),
                }),
            },
            Err(error) => {
                let miss = Miss {
                    parameters,
                    reason: error.to_string(),
                    backtest_id: None,
                };
                refusal.get_or_insert(error);
                Err(miss)
            }
        }
    };
    let entries: Vec<Result<Row, Miss>> = results.into_iter().map(entry).collect();
    let (rows, misses) = order_rows(entries, target);
    if rows.is_empty() {
        return Err(nothing_ranked(&misses, refusal));
    }
    Ok((rows, misses))
}

/// Puts rows into the order of a statistic, best first, gives them their ranks, and sets what failed apart.
pub(crate) fn order_rows(entries: Vec<Result<Row, Miss>>, target: &str) -> (Vec<Row>, Vec<Miss>) {
    let (mut rows, mut misses) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Ok(row) => rows.push(row),
            Err(miss) => misses.push(miss),
        }
    }
    rows.sort_by(|a, b| order(a, b, lower_is_better(target)));
    for (rank, row) in (1..).zip(&mut rows) {
        row.rank = rank;
    }
    (rows, misses)
}

fn value(backtest: &Backtest, target: &str) -> Result<f64, String> {
    if let Some(reason) = figures::reason_of_failure(backtest) {
        return Err(reason);
    }
    number(&backtest.statistics, target)
}

/// The number of a statistic, or a sentence with those that there are.
pub(crate) fn number(found: &[Statistic], target: &str) -> Result<f64, String> {
    match statistics::find(found, target) {
        Some(value) if value.is_finite() => Ok(value),
        _ => {
            let known = found.iter();
            let known = known.filter(|it| it.value.is_some_and(f64::is_finite));
            let known: Vec<&str> = known.map(|it| it.name.as_str()).collect();
            Err(format!(
                "the backtest has no number for \"{target}\"; it has {}",
                known.join(", ")
            ))
        }
    }
}

fn nothing_ranked(misses: &[Miss], refusal: Option<Error>) -> Failure {
    let ran = misses.iter().any(|it| it.backtest_id.is_some());
    match (refusal, misses.first()) {
        (Some(error), _) if !ran => Failure::Capability(error),
        (_, Some(first)) => Failure::failed(format!(
            "none of {} backtests gave a result; the first: {}",
            misses.len(),
            first.reason
        )),
        (_, None) => Failure::failed("there was nothing to run"),
    }
}

fn order(a: &Row, b: &Row, ascending: bool) -> Ordering {
    let values = a.value.total_cmp(&b.value);
    let values = if ascending { values } else { values.reverse() };
    let parameters = || {
        let pairs = a.parameters.iter().zip(&b.parameters);
        pairs
            .map(|((_, a), (_, b))| texts(a, b))
            .find(|it| it.is_ne())
            .unwrap_or_else(|| a.backtest_id.cmp(&b.backtest_id))
    };
    values.then_with(parameters)
}

/// Orders values of a parameter: numbers by their size.
pub(crate) fn texts(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(left), Ok(right)) => left.total_cmp(&right).then_with(|| a.cmp(b)),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use qchost_sdk::backtests::BacktestStatus;
    use qchost_sdk::types::Denial;

    use super::*;
    use crate::figures::tests::backtest;

    fn result(fast: &str, outcome: Result<Backtest, Error>) -> ItemResult {
        ItemResult {
            name: format!("fast={fast}"),
            parameters: vec![("fast".into(), fast.into())],
            outcome,
        }
    }

    fn ended(fast: &str, statistics: &[(&str, f64)]) -> ItemResult {
        result(fast, Ok(backtest(&format!("b{fast}"), statistics)))
    }

    fn ranked(results: Vec<ItemResult>, target: &str) -> Vec<String> {
        let (rows, _) = rank(results, target).unwrap();
        rows.iter()
            .map(|it| format!("{} {}", it.rank, it.parameters["fast"]))
            .collect()
    }

    #[test]
    fn the_best_comes_first_and_ties_go_by_the_size_of_the_parameter() {
        let results = || {
            vec![
                ended("100", &[("Sharpe Ratio", 0.5)]),
                ended("20", &[("Sharpe Ratio", 0.5)]),
                ended("7", &[("Sharpe Ratio", -1.0)]),
                ended("10", &[("Sharpe Ratio", 0.9)]),
            ]
        };
        let expected = ["1 10", "2 20", "3 100", "4 7"];
        assert_eq!(ranked(results(), "Sharpe Ratio"), expected);
        let mut shuffled = results();
        shuffled.reverse();
        assert_eq!(ranked(shuffled, "Sharpe Ratio"), expected);
    }

    #[test]
    fn less_drawdown_is_better() {
        let results = vec![
            ended("1", &[("Drawdown", 0.3)]),
            ended("2", &[("Drawdown", 0.1)]),
        ];
        assert_eq!(ranked(results, "Drawdown"), ["1 2", "2 1"]);
        let results = vec![
            ended("1", &[("Net Profit", 0.3)]),
            ended("2", &[("Net Profit", 0.1)]),
        ];
        assert_eq!(ranked(results, "Net Profit"), ["1 1", "2 2"]);
    }

    #[test]
    fn failures_are_listed_and_do_not_stop_the_ranking() {
        let mut broken = backtest("b3", &[]);
        broken.status = Some(BacktestStatus::RuntimeError);
        broken.error = Some("division by zero".into());
        let results = vec![
            ended("1", &[("Sharpe Ratio", 0.5)]),
            result("2", Err(Error::TimedOut("60 s".into()))),
            result("3", Ok(broken)),
            ended("4", &[("Sharpe Ratio", f64::NAN), ("Net Profit", 0.1)]),
        ];
        let (rows, misses) = rank(results, "Sharpe Ratio").unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].backtest_id, "b1");
        let reasons: Vec<&str> = misses.iter().map(|it| it.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "timed out: 60 s",
                "division by zero",
                "the backtest has no number for \"Sharpe Ratio\"; it has Net Profit",
            ]
        );
        assert_eq!(misses[0].backtest_id, None);
        assert_eq!(misses[1].backtest_id.as_deref(), Some("b3"));
    }

    #[test]
    fn a_sweep_without_any_result_fails_with_the_first_reason() {
        let denied = Error::Denied(Denial {
            reason: "no".into(),
            nearest_grant: None,
            remedy: None,
        });
        let refused = vec![
            result("1", Err(denied.clone())),
            result("2", Err(denied.clone())),
        ];
        assert_eq!(
            rank(refused, "Sharpe Ratio").unwrap_err(),
            Failure::Capability(denied.clone())
        );

        let unknown = vec![
            ended("1", &[("Sharpe Ratio", 0.5)]),
            result("2", Err(denied)),
        ];
        let text = rank(unknown, "Sharp Ratio").unwrap_err().to_string();
        assert_eq!(
            text,
            "none of 2 backtests gave a result; the first: \
             the backtest has no number for \"Sharp Ratio\"; it has Sharpe Ratio"
        );
        assert!(rank(Vec::new(), "Sharpe Ratio").is_err());
    }
}
