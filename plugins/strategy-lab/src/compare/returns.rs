//! Equities on the days that several backtests have in common.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;

use crate::robustness::equity::{self, Curve};

/// Rows of the table of growth at most.
const MAX_ROWS: usize = 100;

/// The equity of one backtest.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Equity {
    /// First day.
    pub(crate) first: String,
    /// Last day.
    pub(crate) last: String,
    /// Days with an equity.
    pub(crate) days: usize,
    /// Equity of the first day, in the account's currency.
    pub(crate) start: f64,
    /// Equity of the last day, in the account's currency.
    pub(crate) end: f64,
    /// Gain from the first day to the last, as a fraction.
    pub(crate) total_return: f64,
    /// Standard deviation of the returns, annual; null for fewer than two returns.
    pub(crate) volatility: Option<f64>,
}

/// The days that all backtests have. Lists are in the order of the backtests.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Common {
    /// First day.
    first: String,
    /// Last day.
    last: String,
    /// How many days there are.
    days: usize,
    /// Gain of each backtest over these days, as a fraction.
    pub(crate) total_returns: Vec<f64>,
    /// The correlation of the daily returns of each backtest with those of each other, from -1 to 1; null where returns do not vary.
    correlation: Vec<Vec<Option<f64>>>,
    /// What each backtest made of 1 at the beginning, on at most 100 of these days, the first and the last among them.
    growth: Vec<Row>,
}

/// What backtests made of 1.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Row {
    date: String,
    values: Vec<f64>,
}

/// The equity in figures; `None` if there is none.
pub(crate) fn equity(curve: &Curve) -> Option<Equity> {
    let (first, start) = curve.days().next()?;
    let (last, end) = curve.days().last()?;
    let deviation = deviation(&curve.returns());
    Some(Equity {
        first: first.to_string(),
        last: last.to_string(),
        days: curve.days().count(),
        start,
        end,
        total_return: end / start - 1.0,
        volatility: deviation.map(|it| it * curve.returns_per_year().sqrt()),
    })
}

/// What equities have in common; `None` for fewer than two common days.
pub(crate) fn common(curves: &[&Curve]) -> Option<Common> {
    let returns = equity::aligned(curves);
    // The first common day has an equity and no return.
    let mut days = curves.first()?.days().map(|(day, _)| day);
    let first = days.find(|day| curves.iter().all(|it| it.has(*day)))?;
    let growths: Vec<Vec<f64>> = returns.columns.iter().map(|it| growth(it)).collect();
    let dates: Vec<Date> = std::iter::once(first)
        .chain(returns.dates.iter().copied())
        .collect();
    let shown = spread(dates.len(), MAX_ROWS);
    let row = |index: &usize| {
        Some(Row {
            date: dates.get(*index)?.to_string(),
            values: growths
                .iter()
                .filter_map(|it| it.get(*index).copied())
                .collect(),
        })
    };
    Some(Common {
        first: first.to_string(),
        last: returns.dates.last()?.to_string(),
        days: dates.len(),
        total_returns: growths
            .iter()
            .filter_map(|it| it.last().map(|it| it - 1.0))
            .collect(),
        correlation: returns
            .columns
            .iter()
            .map(|a| returns.columns.iter().map(|b| correlation(a, b)).collect())
            .collect(),
        growth: shown.iter().filter_map(row).collect(),
    })
}

/// What returns make of 1, from the day before the first of them on.
fn growth(returns: &[f64]) -> Vec<f64> {
    let mut value = 1.0;
    let later = returns.iter().map(|it| {
        value *= 1.0 + it;
        value
    });
    std::iter::once(1.0)
        .chain(later.collect::<Vec<_>>())
        .collect()
}

/// At most `most` of `count` positions, evenly spread, the first and the last among them.
pub(crate) fn spread(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let gaps = most.saturating_sub(1).max(1);
    let mut positions: Vec<usize> = (0..most).map(|step| step * (count - 1) / gaps).collect();
    positions.dedup();
    positions
}

/// The sample standard deviation; `None` for fewer than two values.
fn deviation(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|it| (it - mean) * (it - mean));
    (values.len() > 1).then(|| (squares.sum::<f64>() / (count - 1.0)).sqrt())
}

/// Pearson's correlation; `None` where one of both does not vary.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |x: &[f64], y: &[f64], mean_x: f64, mean_y: f64| {
        let pairs = x.iter().zip(y);
        pairs.map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>()
    };
    let (of_a, of_b) = (product(a, a, mean_a, mean_a), product(b, b, mean_b, mean_b));
    // What is left of equal returns is rounding.
    let varies = |sum: f64, mean: f64| sum > 1e-18 * (1.0 + mean * mean) * a.len() as f64;
    let found = product(a, b, mean_a, mean_b) / (of_a.sqrt() * of_b.sqrt());
    (varies(of_a, mean_a) && varies(of_b, mean_b)).then(|| found.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::robustness::equity::tests::chart;

    fn curve(equities: &[f64]) -> Curve {
        Curve::of(&chart(equities))
    }

    #[test]
    fn an_equity_is_summarised_by_its_own_days() {
        let found = equity(&curve(&[100.0, 110.0, 121.0, 121.0])).unwrap();
        assert_eq!(
            (found.first.as_str(), found.last.as_str()),
            ("2024-01-01", "2024-01-04")
        );
        assert_eq!((found.days, found.start, found.end), (4, 100.0, 121.0));
        assert!((found.total_return - 0.21).abs() < 1e-12);
        let expected = 0.1 / 3.0f64.sqrt() * 365.25f64.sqrt();
        assert!(
            (found.volatility.unwrap() - expected).abs() < 1e-9,
            "{found:?}"
        );
        assert_eq!(equity(&curve(&[])), None);
        assert_eq!(equity(&curve(&[5.0])).unwrap().volatility, None);
    }

    #[test]
    fn only_days_that_all_have_are_compared() {
        let (a, b) = (
            curve(&[100.0, 110.0, 99.0, 99.0]),
            curve(&[10.0, 0.0, 20.0, 30.0]),
        );
        let found = common(&[&a, &b]).unwrap();
        assert_eq!(
            (found.first.as_str(), found.last.as_str()),
            ("2024-01-01", "2024-01-04")
        );
        assert_eq!(found.days, 3);
        assert!((found.total_returns[0] + 0.01).abs() < 1e-12, "{found:?}");
        assert!((found.total_returns[1] - 2.0).abs() < 1e-12, "{found:?}");
        assert_eq!(found.growth.len(), 3);
        assert_eq!(found.growth[0].values, [1.0, 1.0]);
        assert_eq!(found.correlation[0][0], Some(1.0));
        assert_eq!(found.correlation[0][1], found.correlation[1][0]);
        assert!(common(&[&a, &curve(&[1.0])]).is_none());
        assert!(common(&[&a, &curve(&[])]).is_none());
    }

    #[test]
    fn constant_returns_correlate_with_nothing() {
        let (flat, a) = (curve(&[5.0; 4]), curve(&[1.0, 2.0, 1.0, 3.0]));
        let found = common(&[&flat, &a]).unwrap();
        assert_eq!(found.correlation, [[None, None], [None, Some(1.0)]]);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_bounded_and_has_both_ends(count in 0usize..5_000, most in 2usize..200) {
            let shown = spread(count, most);
            prop_assert!(shown.len() <= most);
            prop_assert_eq!(shown.first().copied(), (count > 0).then_some(0));
            prop_assert_eq!(shown.last().copied(), count.checked_sub(1));
            prop_assert!(shown.windows(2).all(|pair| pair[0] < pair[1]));
        }

        #[test]
        fn figures_agree_with_one_another(
            pairs in proptest::collection::vec((1.0f64..1e6, 1.0f64..1e6), 3..80),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let (a, b) = (curve(&a), curve(&b));
            let found = common(&[&a, &b]).unwrap();
            for (index, curve) in [&a, &b].into_iter().enumerate() {
                let own = equity(curve).unwrap().total_return;
                prop_assert!((found.total_returns[index] - own).abs() <= 1e-9 * (1.0 + own.abs()));
            }
            for row in &found.correlation {
                prop_assert!(row.iter().flatten().all(|it| (-1.0..=1.0).contains(it)));
            }
            prop_assert_eq!(found.correlation[0][1], found.correlation[1][0]);
            // A backtest that is scaled is the same one.
            let scaled: Vec<f64> = a.days().map(|(_, equity)| equity * 3.0).collect();
            let with_itself = common(&[&a, &self::curve(&scaled)]).unwrap();
            prop_assert!(with_itself.correlation[0][1].is_none_or(|it| it > 0.999_999));
        }
    }
}
