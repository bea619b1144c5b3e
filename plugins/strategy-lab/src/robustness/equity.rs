//! Daily equity out of a chart, and the returns of several backtests on the same days.
//!
//! Invariant: days ascend, each is there once, and each equity is finite and above 0.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use qchost_sdk::types::{Chart, Point};

/// The series of the chart `Strategy Equity` that has the equity.
const SERIES: &str = "Equity";
/// Days of a mean year.
const DAYS_PER_YEAR: f64 = 365.25;

/// The last equity of each day.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Curve(BTreeMap<Date, f64>);

/// Returns of several backtests on the days that all of them have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Returns {
    /// The day at whose end each return is complete.
    pub(crate) dates: Vec<Date>,
    /// A column for each backtest: equity over that of the day before, less 1.
    pub(crate) columns: Vec<Vec<f64>>,
}

impl Curve {
    /// The equity in a chart, by days in UTC. Points without a time or a positive value are left out; of a candle it takes the
    /// close.
    pub(crate) fn of(chart: &Chart) -> Self {
        Self::of_series(chart, SERIES)
    }

    /// The values of a series of a chart, by days in UTC, in the same way.
    pub(crate) fn of_series(chart: &Chart, name: &str) -> Self {
        let series = chart.series.iter().find(|it| it.name == name);
        let points = series.map_or(&[][..], |it| &it.values);
        Self(points.iter().filter_map(close).collect())
    }

    /// Each day with its equity.
    pub(crate) fn days(&self) -> impl Iterator<Item = (Date, f64)> {
        self.0.iter().map(|(day, equity)| (*day, *equity))
    }

    /// Whether a day has an equity.
    pub(crate) fn has(&self, day: Date) -> bool {
        self.0.contains_key(&day)
    }

    /// The equity of the first day.
    pub(crate) fn start(&self) -> Option<f64> {
        self.0.values().next().copied()
    }

    /// First and last day.
    pub(crate) fn span(&self) -> Option<(Date, Date)> {
        Some((*self.0.keys().next()?, *self.0.keys().next_back()?))
    }

    /// How many returns a year has, by the calendar days between the first and the last: about 252 if only trading days have
    /// a point, and less where a long chart was thinned out. 0 for fewer than two days.
    pub(crate) fn returns_per_year(&self) -> f64 {
        let Some((first, last)) = self.span() else {
            return 0.0;
        };
        let days = last.duration_since(first).as_hours() / 24;
        if days == 0 {
            return 0.0;
        }
        (self.0.len() as f64 - 1.0) * DAYS_PER_YEAR / days as f64
    }

    /// The returns from day to day.
    pub(crate) fn returns(&self) -> Vec<f64> {
        changes(&self.0.values().copied().collect::<Vec<_>>())
    }
}

fn close(point: &Point) -> Option<(Date, f64)> {
    let value = point.values.iter().rev().copied().flatten().next()?;
    let seconds = std::time::Duration::try_from_secs_f64(point.time)
        .ok()?
        .as_secs();
    let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    let date = Offset::UTC.to_datetime(time).date();
    (value.is_finite() && value > 0.0).then_some((date, value))
}

fn changes(values: &[f64]) -> Vec<f64> {
    let pairs = values.iter().zip(values.iter().skip(1));
    pairs.map(|(before, after)| after / before - 1.0).collect()
}

/// The returns of curves over the days that all of them have.
pub(crate) fn aligned(curves: &[&Curve]) -> Returns {
    let Some((first, others)) = curves.split_first() else {
        return Returns::default();
    };
    let everywhere = |date: &&Date| others.iter().all(|curve| curve.0.contains_key(*date));
    let dates: Vec<Date> = first.0.keys().filter(everywhere).copied().collect();
    let column = |curve: &&Curve| {
        let values: Vec<f64> = dates
            .iter()
            .filter_map(|it| curve.0.get(it).copied())
            .collect();
        changes(&values)
    };
    Returns {
        columns: curves.iter().map(column).collect(),
        dates: dates.iter().skip(1).copied().collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::civil::date;
    use qchost_sdk::types::Series;

    use super::*;

    /// A chart of equities, a day each from 2024-01-01.
    pub(crate) fn chart(equities: &[f64]) -> Chart {
        let start = 1_704_067_200.0;
        let points = equities.iter().enumerate();
        let points =
            points.map(|(day, equity)| (start + 86_400.0 * day as f64, vec![Some(*equity)]));
        with_points(points.collect())
    }

    fn with_points(points: Vec<(f64, Vec<Option<f64>>)>) -> Chart {
        let points = points
            .into_iter()
            .map(|(time, values)| Point { time, values });
        Chart {
            name: "Strategy Equity".into(),
            chart_type: None,
            series: vec![Series {
                name: SERIES.into(),
                unit: Some("$".into()),
                index: None,
                series_type: None,
                values: points.collect(),
            }],
        }
    }

    #[test]
    fn a_day_has_its_last_equity() {
        let noon = 1_704_110_400.0;
        let chart = with_points(vec![
            (noon, vec![Some(90.0), Some(120.0), Some(80.0), Some(100.0)]),
            (noon + 3_600.0, vec![Some(110.0)]),
            (noon + 90_000.0, vec![Some(121.0), None]),
            (noon + 176_400.0, vec![None]),
            (noon + 262_800.0, vec![Some(-1.0)]),
            (f64::NAN, vec![Some(5.0)]),
            (-1.0, vec![Some(5.0)]),
            (f64::MAX, vec![Some(5.0)]),
        ]);
        let curve = Curve::of(&chart);
        assert_eq!(curve.span(), Some((date(2024, 1, 1), date(2024, 1, 2))));
        assert_eq!(curve.start(), Some(110.0));
        assert_eq!(curve.returns(), [121.0 / 110.0 - 1.0]);
        assert_eq!(curve.returns_per_year(), 365.25);
    }

    #[test]
    fn a_chart_without_equity_has_no_returns() {
        let mut other = chart(&[1.0, 2.0]);
        other.series[0].name = "Return".into();
        for chart in [other, chart(&[]), chart(&[1.0])] {
            let curve = Curve::of(&chart);
            assert!(curve.returns().is_empty());
            assert_eq!(curve.returns_per_year(), 0.0);
        }
    }

    #[test]
    fn returns_are_compared_on_common_days() {
        let curves = [
            Curve::of(&chart(&[100.0, 110.0, 121.0, 121.0])),
            Curve::of(&chart(&[100.0, 0.0, 50.0, 75.0])),
        ];
        let found = aligned(&[&curves[0], &curves[1]]);
        assert_eq!(found.dates, [date(2024, 1, 3), date(2024, 1, 4)]);
        assert_eq!(found.columns[0], [121.0 / 100.0 - 1.0, 0.0]);
        assert_eq!(found.columns[1], [-0.5, 0.5]);
        assert_eq!(aligned(&[]), Returns::default());
    }
}
