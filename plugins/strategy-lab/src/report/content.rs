//! What a report shows, as plain data: the same for every format.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;

use qchost_sdk::backtests::BacktestSummary;

use crate::drawdowns::Drawdown;
use crate::figures;
use crate::ranking;
use crate::robustness::walk_forward::Outcome;

/// Days of a chart at most.
pub(super) const MAX_DAYS: usize = 400;
/// Rows and columns of a heat map at most.
pub(super) const MAX_CELLS: usize = 12;

/// Everything that a report shows.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) project: String,
    pub(super) backtest_id: String,
    pub(super) name: String,
    /// Name and value.
    pub(super) parameters: Vec<(String, String)>,
    /// Name and value as QuantConnect writes them.
    pub(super) statistics: Vec<(String, String)>,
    /// In the account's currency; at most [`MAX_DAYS`].
    pub(super) equity: Vec<(Date, f64)>,
    /// The benchmark on the same days, scaled to the equity's first day; empty if there is none.
    pub(super) benchmark: Vec<(Date, f64)>,
    /// The fall from the highest equity so far, as a fraction, not above 0; on the days of `equity`.
    pub(super) depth: Vec<(Date, f64)>,
    /// The deepest first.
    pub(super) drawdowns: Vec<Drawdown>,
    pub(super) months: Vec<Month>,
    pub(super) heat_map: Option<HeatMap>,
    pub(super) walk_forward: Option<Vec<Outcome>>,
    /// What is left out, and why.
    pub(super) notes: Vec<String>,
}

/// The return of a calendar month.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Month {
    pub(super) year: i16,
    /// From 1.
    pub(super) month: i8,
    /// As a fraction.
    pub(super) value: f64,
}

/// The best value of a statistic for the values of two parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeatMap {
    /// The parameter of the columns.
    pub(super) across: String,
    /// The parameter of the rows; `None` if only one was varied.
    pub(super) down: Option<String>,
    pub(super) statistic: Statistic,
    /// Values of `across`.
    pub(super) columns: Vec<String>,
    /// Values of `down`; one empty text without it.
    pub(super) rows: Vec<String>,
    /// By row and column.
    pub(super) cells: Vec<Vec<Option<f64>>>,
}

/// A statistic that QuantConnect lists of every backtest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Statistic {
    /// Mean excess return over its standard deviation, annual.
    #[default]
    SharpeRatio,
    /// Mean excess return over its downside deviation, annual.
    SortinoRatio,
    /// Compound annual return.
    AnnualReturn,
    /// Net profit over start equity.
    NetProfit,
    /// Largest fall from a peak of the equity.
    Drawdown,
}

impl Statistic {
    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SharpeRatio => "Sharpe ratio",
            Self::SortinoRatio => "Sortino ratio",
            Self::AnnualReturn => "compound annual return",
            Self::NetProfit => "net profit",
            Self::Drawdown => "drawdown",
        }
    }

    /// Whether its values are fractions, to be shown in per cent.
    pub(super) fn is_fraction(self) -> bool {
        !matches!(self, Self::SharpeRatio | Self::SortinoRatio)
    }

    fn of(self, backtest: &BacktestSummary) -> Option<f64> {
        let value = match self {
            Self::SharpeRatio => backtest.sharpe_ratio,
            Self::SortinoRatio => backtest.sortino_ratio,
            Self::AnnualReturn => backtest.compounding_annual_return,
            Self::NetProfit => backtest.net_profit,
            Self::Drawdown => backtest.drawdown,
        };
        value.filter(|it| it.is_finite())
    }

    /// The better of two values: of drawdowns the smaller one.
    pub(super) fn better(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Drawdown => a.min(b),
            _ => a.max(b),
        }
    }
}

/// At most [`MAX_DAYS`] of the days, evenly spread, with the first, the last, the highest and the lowest.
pub(super) fn thinned(days: &[(Date, f64)], depth: &[(Date, f64)]) -> BTreeSet<Date> {
    let count = days.len();
    let most = MAX_DAYS.saturating_sub(3);
    let step = count.div_ceil(most.max(1)).max(1);
    // Counted back from the last day, so that it is among them.
    let kept = days.iter().rev().step_by(step).map(|(day, _)| *day);
    let mut kept: BTreeSet<Date> = kept.collect();
    kept.extend(days.first().map(|(day, _)| *day));
    let extreme = |values: &[(Date, f64)], highest: bool| {
        let compare = |a: &&(Date, f64), b: &&(Date, f64)| a.1.total_cmp(&b.1);
        let mut values = values.iter();
        let values = values.by_ref();
        let found = if highest {
            values.max_by(compare)
        } else {
            values.min_by(compare)
        };
        found.map(|(day, _)| *day)
    };
    kept.extend(extreme(days, true));
    kept.extend(extreme(depth, false));
    kept
}

/// The fall from the highest value so far, as a fraction, not above 0.
pub(super) fn depths(days: &[(Date, f64)]) -> Vec<(Date, f64)> {
    let mut highest = f64::MIN;
    let depth = days.iter().map(|(day, value)| {
        highest = highest.max(*value);
        (*day, value / highest - 1.0)
    });
    depth.collect()
}

/// The returns of the calendar months. The first one begins with the first day, and the last one ends with the last.
pub(super) fn months(days: &[(Date, f64)]) -> Vec<Month> {
    let mut months: Vec<Month> = Vec::new();
    let Some((_, first)) = days.first() else {
        return months;
    };
    // The equity at the end of the month before, and the last equity seen.
    let (mut base, mut last) = (*first, *first);
    for (day, value) in days {
        let this = (day.year(), day.month());
        if let Some(month) = months.last_mut()
            && (month.year, month.month) == this
        {
            month.value = value / base - 1.0;
        } else {
            base = last;
            months.push(Month {
                year: this.0,
                month: this.1,
                value: value / base - 1.0,
            });
        }
        last = *value;
    }
    months
}

/// The map of a sweep, with what was left out.
///
/// # Errors
/// If there is nothing to show, in a sentence.
pub(super) fn heat_map(
    backtests: &[&BacktestSummary],
    across: Option<&str>,
    down: Option<&str>,
    statistic: Statistic,
    notes: &mut Vec<String>,
) -> Result<HeatMap, String> {
    let results: Vec<(BTreeMap<String, String>, f64)> = backtests
        .iter()
        .filter_map(|it| Some((figures::parameters(&it.parameter_set), statistic.of(it)?)))
        .collect();
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (parameters, _) in &results {
        for (name, value) in parameters {
            values.entry(name).or_default().insert(value);
        }
    }
    let mut varied: Vec<(&str, usize)> =
        values.iter().map(|(name, it)| (*name, it.len())).collect();
    varied.retain(|(_, count)| *count > 1);
    varied.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let known = |name: &str| {
        let found = values.keys().find(|it| **it == name).copied();
        found.ok_or_else(|| {
            format!(
                "no backtest with a {} has a parameter \"{name}\"",
                statistic.name()
            )
        })
    };
    let across = match across {
        Some(name) => known(name)?,
        None => varied
            .iter()
            .map(|(name, _)| *name)
            .find(|name| Some(*name) != down)
            .ok_or("the backtests do not differ in any parameter")?,
    };
    let down = match down {
        Some(name) => Some(known(name)?),
        None => varied
            .iter()
            .map(|(name, _)| *name)
            .find(|name| *name != across),
    };
    let mut axis = |name: &str| {
        let mut axis: Vec<&str> = values.get(name).into_iter().flatten().copied().collect();
        axis.sort_by(|a, b| ranking::texts(a, b));
        if axis.len() > MAX_CELLS {
            notes.push(format!(
                "the map shows the first {MAX_CELLS} of {} values of a parameter",
                axis.len()
            ));
            axis.truncate(MAX_CELLS);
        }
        axis
    };
    let columns = axis(across);
    let rows = down.map_or_else(|| vec![""], &mut axis);
    let cell = |row: &str, column: &str| {
        let of = results.iter().filter(|(parameters, _)| {
            let has = |name: &str, value: &str| parameters.get(name).is_some_and(|it| it == value);
            has(across, column) && down.is_none_or(|down| has(down, row))
        });
        of.map(|(_, value)| *value)
            .reduce(|a, b| statistic.better(a, b))
    };
    let owned = |axis: &[&str]| axis.iter().map(|it| (*it).to_owned()).collect();
    Ok(HeatMap {
        across: across.to_owned(),
        down: down.map(str::to_owned),
        statistic,
        cells: rows
            .iter()
            .map(|row| columns.iter().map(|column| cell(row, column)).collect())
            .collect(),
        columns: owned(&columns),
        rows: owned(&rows),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    /// Equities, a day each from 2020-01-01.
    pub(in crate::report) fn days(equities: &[f64]) -> Vec<(Date, f64)> {
        let day = |number: i64| date(2020, 1, 1).checked_add(number.days()).unwrap();
        (0i64..)
            .zip(equities)
            .map(|(number, equity)| (day(number), *equity))
            .collect()
    }

    pub(in crate::report) fn summary(
        parameters: &[(&str, &str)],
        sharpe_ratio: f64,
    ) -> BacktestSummary {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        BacktestSummary {
            sharpe_ratio: Some(sharpe_ratio),
            drawdown: Some(sharpe_ratio / 10.0),
            parameter_set: parameters.iter().map(owned).collect(),
            ..BacktestSummary::default()
        }
    }

    #[test]
    fn months_multiply_to_the_whole() {
        let mut days = days(&[100.0; 70]);
        for (number, day) in days.iter_mut().enumerate() {
            day.1 = 100.0 + number as f64;
        }
        let found = months(&days);
        let names: Vec<_> = found.iter().map(|it| (it.year, it.month)).collect();
        assert_eq!(names, [(2020, 1), (2020, 2), (2020, 3)]);
        assert!((found[0].value - 0.3).abs() < 1e-12);
        let whole: f64 = found.iter().map(|it| 1.0 + it.value).product();
        assert!((whole - 1.69).abs() < 1e-12);
        assert!(months(&[]).is_empty());
    }

    #[test]
    fn a_map_has_the_best_of_the_backtests_that_differ_otherwise() {
        let all = [
            summary(&[("fast", "5"), ("slow", "100"), ("band", "1")], 0.1),
            summary(&[("fast", "5"), ("slow", "100"), ("band", "2")], 0.4),
            summary(&[("fast", "20"), ("slow", "100"), ("band", "1")], 0.2),
            summary(&[("fast", "10"), ("slow", "50"), ("band", "1")], 0.3),
            summary(&[("fast", "10")], f64::NAN),
        ];
        let all: Vec<&BacktestSummary> = all.iter().collect();
        let mut notes = Vec::new();
        let map = heat_map(&all, None, Some("slow"), Statistic::SharpeRatio, &mut notes).unwrap();
        assert_eq!(
            (map.across.as_str(), map.down.as_deref()),
            ("fast", Some("slow"))
        );
        assert_eq!(map.columns, ["5", "10", "20"]);
        assert_eq!(map.rows, ["50", "100"]);
        assert_eq!(
            map.cells,
            [[None, Some(0.3), None], [Some(0.4), None, Some(0.2)]]
        );
        let least = heat_map(&all, None, Some("slow"), Statistic::Drawdown, &mut notes).unwrap();
        assert_eq!(least.cells[1][0], Some(0.1 / 10.0));
        let one = heat_map(
            &all[2..4],
            Some("fast"),
            None,
            Statistic::SharpeRatio,
            &mut notes,
        );
        assert_eq!(one.unwrap().down.as_deref(), Some("slow"));
        assert!(notes.is_empty());
        let error = heat_map(
            &all,
            Some("speed"),
            None,
            Statistic::SharpeRatio,
            &mut notes,
        );
        assert!(error.unwrap_err().contains("\"speed\""));
        let error = heat_map(&all[..1], None, None, Statistic::SharpeRatio, &mut notes);
        assert!(error.unwrap_err().contains("do not differ"));
    }

    #[test]
    fn a_large_map_is_bounded_and_says_so() {
        let names: Vec<String> = (0..40).map(|it| it.to_string()).collect();
        let all: Vec<BacktestSummary> = names.iter().map(|it| summary(&[("n", it)], 1.0)).collect();
        let all: Vec<&BacktestSummary> = all.iter().collect();
        let mut notes = Vec::new();
        let map = heat_map(&all, None, None, Statistic::SharpeRatio, &mut notes).unwrap();
        assert_eq!((map.columns.len(), map.rows.len()), (MAX_CELLS, 1));
        assert_eq!(map.columns[2], "2");
        assert_eq!(notes.len(), 1);
    }

    proptest! {
        #[test]
        fn thinning_keeps_the_ends_and_the_extremes(
            equities in proptest::collection::vec(1.0f64..1e6, 1..3_000),
        ) {
            let days = days(&equities);
            let depth = depths(&days);
            let kept = thinned(&days, &depth);
            prop_assert!(kept.len() <= MAX_DAYS);
            prop_assert!(kept.contains(&days[0].0) && kept.contains(&days[days.len() - 1].0));
            let highest = equities.iter().copied().fold(f64::MIN, f64::max);
            let shown = days.iter().filter(|(day, _)| kept.contains(day));
            prop_assert_eq!(shown.map(|it| it.1).fold(f64::MIN, f64::max), highest);
            let deepest = depth.iter().map(|it| it.1).fold(0.0, f64::min);
            let shown = depth.iter().filter(|(day, _)| kept.contains(day));
            prop_assert_eq!(shown.map(|it| it.1).fold(0.0, f64::min), deepest);
            let whole: f64 = months(&days).iter().map(|it| 1.0 + it.value).product();
            let expected = equities[equities.len() - 1] / equities[0];
            prop_assert!((whole - expected).abs() <= 1e-9 * expected.max(1.0));
        }
    }
}
