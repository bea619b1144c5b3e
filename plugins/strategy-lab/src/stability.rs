//! How well rankings agree: whether what is good by one measure, or in one period, is good by another.
//!
//! Invariant: more is better in every list of values that is compared here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::ranking::{self, Row};

/// The fewest combinations whose ranks are compared.
const MIN_COMMON: usize = 3;

/// How far the ranking agrees with that by another figure.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Agreement {
    /// The figure, as QuantConnect names it.
    pub(crate) statistic: String,
    /// Spearman's rank correlation with the ranking by it, from -1 to 1; null for fewer than 3 combinations, or where one of
    /// them ranks all alike.
    pub(crate) correlation: Option<f64>,
}

/// Compares a ranking by `target` with those by the other figures.
pub(crate) fn agreement(rows: &[Row], target: &str) -> Vec<Agreement> {
    let others = ["Sharpe Ratio", "Net Profit", "Drawdown"].into_iter();
    others
        .filter(|name| *name != target)
        .map(|name| {
            let figure = |row: &Row| match name {
                "Sharpe Ratio" => row.figures.sharpe_ratio,
                "Net Profit" => row.figures.net_profit,
                _ => row.figures.drawdown,
            };
            let known = rows
                .iter()
                .filter_map(|row| Some((row.value, figure(row)?)));
            let better = |(value, figure)| (better(target, value), better(name, figure));
            Agreement {
                statistic: name.to_owned(),
                correlation: correlation(&known.map(better).collect::<Vec<_>>()),
            }
        })
        .collect()
}

/// Spearman's rank correlation of two rankings by the same statistic, for the combinations that are in both.
pub(crate) fn between(one: &[Row], other: &[Row]) -> Option<f64> {
    let values: BTreeMap<_, f64> = one.iter().map(|row| (&row.parameters, row.value)).collect();
    let common = other
        .iter()
        .filter_map(|row| Some((*values.get(&row.parameters)?, row.value)));
    correlation(&common.collect::<Vec<_>>())
}

/// A value of which more is better.
fn better(statistic: &str, value: f64) -> f64 {
    if ranking::lower_is_better(statistic) {
        -value
    } else {
        value
    }
}

/// Spearman's rank correlation: Pearson's of the ranks, where equal values share the mean of theirs.
fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < MIN_COMMON {
        return None;
    }
    let ones = ranks(&pairs.iter().map(|it| it.0).collect::<Vec<_>>());
    let others = ranks(&pairs.iter().map(|it| it.1).collect::<Vec<_>>());
    let mean = (f64::from(u32::try_from(pairs.len()).ok()?) + 1.0) / 2.0;
    let (mut both, mut one, mut other) = (0.0, 0.0, 0.0);
    for (a, b) in ones.iter().zip(&others) {
        both += (a - mean) * (b - mean);
        one += (a - mean).powi(2);
        other += (b - mean).powi(2);
    }
    let found = both / (one * other).sqrt();
    found.is_finite().then(|| found.clamp(-1.0, 1.0))
}

/// The rank of each value, from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let count = |holds: &dyn Fn(f64) -> bool| {
        let count = values.iter().filter(|it| holds(**it)).count();
        u32::try_from(count).map_or(f64::MAX, f64::from)
    };
    let rank = |value: f64| count(&|it| it < value) + (count(&|it| it == value) + 1.0) / 2.0;
    values.iter().map(|value| rank(*value)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::figures::Figures;

    fn row(fast: &str, value: f64, net_profit: Option<f64>) -> Row {
        Row {
            rank: 0,
            parameters: BTreeMap::from([("fast".to_owned(), fast.to_owned())]),
            value,
            figures: Figures {
                sharpe_ratio: Some(value),
                net_profit,
                drawdown: Some(value),
                orders: None,
                trades: None,
            },
            backtest_id: fast.to_owned(),
        }
    }

    #[test]
    fn rankings_are_compared_by_rank_and_not_by_value() {
        let rows = [
            row("1", 0.1, Some(-5.0)),
            row("2", 0.2, Some(0.0)),
            row("3", 9.0, Some(0.1)),
        ];
        let found = agreement(&rows, "Sharpe Ratio");
        let of = |name: &str| {
            found
                .iter()
                .find(|it| it.statistic == name)
                .unwrap()
                .correlation
        };
        assert_eq!(of("Net Profit"), Some(1.0));
        // Of a drawdown, less is better.
        assert_eq!(of("Drawdown"), Some(-1.0));
        assert_eq!(found.len(), 2);
        assert_eq!(agreement(&rows[..2], "Sharpe Ratio")[0].correlation, None);
    }

    #[test]
    fn only_combinations_of_both_rankings_are_compared() {
        let one = [
            row("1", 1.0, None),
            row("2", 2.0, None),
            row("3", 3.0, None),
            row("4", 4.0, None),
        ];
        let other = [
            row("3", 1.0, None),
            row("2", 2.0, None),
            row("1", 3.0, None),
            row("9", 0.0, None),
        ];
        assert_eq!(between(&one, &other), Some(-1.0));
        assert_eq!(between(&one[..2], &other), None);
    }

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        // By hand: ranks (1, 2.5, 2.5, 4) and (1, 3, 2, 4).
        let pairs = [(1.0, 1.0), (2.0, 3.0), (2.0, 2.0), (3.0, 4.0)];
        assert!((correlation(&pairs).unwrap() - 4.5 / 22.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(correlation(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    proptest! {
        #[test]
        fn a_ranking_agrees_with_itself_and_not_with_its_reverse(
            values in proptest::collection::btree_set(-1_000i32..1_000, 3..40),
        ) {
            let same: Vec<_> = values.iter().map(|it| (f64::from(*it), f64::from(*it) * 3.0 + 1.0)).collect();
            prop_assert!((correlation(&same).unwrap() - 1.0).abs() < 1e-12);
            let reverse: Vec<_> = values.iter().map(|it| (f64::from(*it), -f64::from(*it))).collect();
            prop_assert!((correlation(&reverse).unwrap() + 1.0).abs() < 1e-12);
        }

        #[test]
        fn a_correlation_is_from_minus_one_to_one(pairs in proptest::collection::vec((-5.0..5.0f64, -5.0..5.0f64), 0..30)) {
            if let Some(found) = correlation(&pairs) {
                prop_assert!((-1.0..=1.0).contains(&found));
            }
        }
    }
}
