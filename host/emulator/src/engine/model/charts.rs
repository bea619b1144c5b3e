//! The charts of a run: one point a day, fewer where a run is long.
//!
//! Invariant: the last day is always among the points, and the equity and drawdown shown are those
//! that the statistics were computed from.

use super::calendar;
use super::numbers::{ratio, rounded};
use super::record::{DailyClose, Run};
use super::statistics::drawdowns;
use crate::engine::{Chart, Sample, Series};

/// LEAN's limit for the points of a series.
const MAX_POINTS: usize = 4_000;
const LINE: u8 = 0;
const BAR: u8 = 3;

/// Draws the charts of a run.
pub(super) fn charts(run: &Run) -> Vec<Chart> {
    let shown = shown_days(run.days.len());
    let of = |value: fn(&DailyClose) -> f64| -> Vec<f64> { run.closes.iter().map(value).collect() };
    let equity = of(|close| close.day.equity);
    let gains = gains(&equity, &shown);
    let drawdown = drawdowns(&equity).map(|fall| 100.0 * fall).collect();
    let benchmark = of(|close| close.benchmark);
    let turnover = of(|close| 100.0 * ratio(close.volume, close.day.equity));
    let long = of(|close| exposure(close, 1.0));
    let short = of(|close| exposure(close, -1.0));
    let all = [
        ("Strategy Equity", "Equity", "$", LINE, equity),
        ("Strategy Equity", "Return", "%", BAR, gains),
        ("Drawdown", "Equity Drawdown", "%", LINE, drawdown),
        ("Benchmark", "Benchmark", "$", LINE, benchmark),
        ("Exposure", "Long Ratio", "", LINE, long),
        ("Exposure", "Short Ratio", "", LINE, short),
        (
            "Portfolio Turnover",
            "Portfolio Turnover",
            "%",
            LINE,
            turnover,
        ),
    ];
    let mut charts: Vec<Chart> = Vec::new();
    for (chart, name, unit, kind, values) in all {
        let sample = |day: &usize| {
            Some(Sample {
                time: calendar::midnight(*run.days.get(*day)?),
                value: rounded(*values.get(*day)?, 6),
            })
        };
        let series = Series {
            name: name.to_owned(),
            unit: unit.to_owned(),
            kind,
            samples: shown.iter().filter_map(sample).collect(),
        };
        match charts.last_mut() {
            Some(last) if last.name == chart => last.series.push(series),
            _ => charts.push(Chart {
                name: chart.to_owned(),
                series: vec![series],
            }),
        }
    }
    charts
}

/// The indices of evenly spaced days, counted back from the last, at most [`MAX_POINTS`].
fn shown_days(days: usize) -> Vec<usize> {
    let stride = days.div_ceil(MAX_POINTS).max(1);
    let mut shown: Vec<usize> = (0..days).rev().step_by(stride).collect();
    shown.reverse();
    shown
}

/// For each shown day the gain in percent since the shown day before.
fn gains(equity: &[f64], shown: &[usize]) -> Vec<f64> {
    let mut gains = vec![0.0; equity.len()];
    for pair in shown.windows(2) {
        if let [before, after] = pair
            && let (Some(from), Some(to)) = (equity.get(*before), equity.get(*after))
            && let Some(gain) = gains.get_mut(*after)
        {
            *gain = 100.0 * ratio(to - from, *from);
        }
    }
    gains
}

/// The long (1) or short (-1) positions as a share of equity.
fn exposure(close: &DailyClose, side: f64) -> f64 {
    ratio(
        side * (close.gross_exposure + side * close.net_exposure) / 2.0,
        close.day.equity,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_long_run_shows_few_points_and_its_last_day() {
        assert_eq!(shown_days(3), [0, 1, 2]);
        let shown = shown_days(9_000);
        assert_eq!((shown.len(), shown[2_999]), (3_000, 8_999));
        assert!(shown_days(0).is_empty());
    }
}
