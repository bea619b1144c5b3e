//! Pages of lists and charts, with the limits of the cloud.
//!
//! Invariant: a window that the cloud would not serve (negative, end before start, too wide) is
//! refused; one that reaches past the end gives the entries that exist.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::Arguments;
use crate::engine::{Chart, Series};

/// Entries of a backtest's orders or insights in one answer.
pub(super) const MAX_BACKTEST_ENTRIES: i64 = 100;
/// Orders of a live algorithm in one answer.
pub(super) const MAX_LIVE_ORDERS: i64 = 1_000;
/// Closed trades of live algorithms in one answer.
pub(super) const MAX_LIVE_TRADES: i64 = 1_000;
/// Insights of a live algorithm in one answer.
pub(super) const MAX_LIVE_INSIGHTS: i64 = 100;
/// Lines of a live log in one answer.
pub(super) const MAX_LIVE_LINES: i64 = 250;
/// Lines of a backtest's log in one answer.
pub(super) const MAX_BACKTEST_LINES: i64 = 200;
/// Points of a series in one answer.
const MAX_CHART_POINTS: i64 = 100_000;

/// A half-open range of indices, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    skip: usize,
    take: usize,
}

impl Window {
    /// Reads the fields `first` and `last`, at most `widest` apart; `first` may be left out if it
    /// is `optional`.
    pub(super) fn read(
        arguments: &Arguments,
        (first, last): (&str, &str),
        optional: bool,
        widest: i64,
    ) -> Result<Self, Refusal> {
        let start = match arguments.optional(first, Arguments::integer)? {
            Some(start) => start,
            None if optional => 0,
            None => return Err(Refusal::missing(first)),
        };
        let end = arguments.integer(last)?;
        let refused = || {
            Refusal::because(format!(
                "Invalid range: {first} must be at least 0 and not above {last}, \
                 and {last} - {first} must not exceed {widest}"
            ))
        };
        let skip = usize::try_from(start).map_err(|_| refused())?;
        let width = end.checked_sub(start).ok_or_else(refused)?;
        if width > widest {
            return Err(refused());
        }
        let take = usize::try_from(width).map_err(|_| refused())?;
        Ok(Self { skip, take })
    }

    /// The entries inside the window.
    pub(super) fn of<T>(self, entries: &[T]) -> Vec<&T> {
        entries.iter().skip(self.skip).take(self.take).collect()
    }

    /// The entries inside the window under `name`, and how many there are in all.
    pub(super) fn answer<T: Serialize>(self, name: &str, entries: &[T]) -> Answer {
        Reply::success(json!({name: self.of(entries), "length": entries.len()}))
    }
}

/// A request for a chart: `name`, `count`, `start`, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChartRequest {
    name: String,
    count: usize,
    start: i64,
    end: i64,
}

impl ChartRequest {
    pub(super) fn read(arguments: &Arguments) -> Result<Self, Refusal> {
        let count = arguments.integer("count")?;
        if !(1..=MAX_CHART_POINTS).contains(&count) {
            return Err(Refusal::invalid("count", "a number from 1 to 100000"));
        }
        let start = arguments.integer("start")?;
        let end = arguments.integer("end")?;
        if end < start {
            refuse!("Invalid range: end must not be before start");
        }
        Ok(Self {
            name: arguments.text("name")?.to_owned(),
            count: usize::try_from(count).unwrap_or(1),
            start,
            end,
        })
    }

    /// The chart with what lies inside the range and not after `until`, thinned to `count`
    /// points a series.
    pub(super) fn of(&self, charts: &[Chart], until: Option<i64>) -> Result<Value, Refusal> {
        let chart = charts
            .iter()
            .find(|chart| chart.name == self.name)
            .ok_or_else(|| Refusal::not_found("Chart", &self.name))?;
        let end = until.map_or(self.end, |until| until.min(self.end));
        let series: Map<String, Value> = chart
            .series
            .iter()
            .enumerate()
            .map(|(index, series)| {
                let json = json!({
                    "name": series.name,
                    "unit": series.unit,
                    "index": index,
                    "values": thinned(points(series, self.start, end), self.count),
                    "seriesType": series.kind,
                    "color": "",
                    "scatterMarkerSymbol": "none",
                });
                (series.name.clone(), json)
            })
            .collect();
        Ok(json!({"name": chart.name, "chartType": 0, "series": series}))
    }
}

/// The lines that contain a text in any case; all of them without a text.
pub(super) fn matching(mut lines: Vec<String>, query: Option<&str>) -> Vec<String> {
    if let Some(query) = query.map(str::to_lowercase) {
        lines.retain(|line| line.to_lowercase().contains(&query));
    }
    lines
}

/// Charts as an answer lists them, without their series.
pub(super) fn summary(charts: &[Chart]) -> Value {
    charts
        .iter()
        .map(|chart| (chart.name.clone(), json!({"name": chart.name})))
        .collect::<Map<_, _>>()
        .into()
}

/// QuantConnect's series type of a candle: time, open, high, low, close.
const CANDLE: u8 = 2;

fn points(series: &Series, start: i64, end: i64) -> Vec<Value> {
    series
        .samples
        .iter()
        .filter(|sample| (start..=end).contains(&sample.time))
        .map(|sample| {
            let (time, value) = (sample.time, sample.value);
            if series.kind == CANDLE {
                json!([time, value, value, value, value])
            } else {
                json!([time, value])
            }
        })
        .collect()
}

/// At most `count` of the points, evenly spaced, including the last one.
pub(super) fn thinned(points: Vec<Value>, count: usize) -> Vec<Value> {
    let total = points.len();
    if total <= count || count == 0 {
        return points;
    }
    points
        .into_iter()
        .enumerate()
        // A point stays where the running share of `count` passes a whole number.
        .filter(|(index, _)| (index + 1) * count / total > index * count / total)
        .map(|(_, point)| point)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arguments(fields: Value) -> Arguments {
        Arguments {
            fields: fields.as_object().unwrap().clone(),
            object_data: None,
        }
    }

    fn window(start: i64, end: i64) -> Result<Window, Refusal> {
        let arguments = arguments(json!({"start": start, "end": end}));
        Window::read(&arguments, ("start", "end"), false, 100)
    }

    #[test]
    fn the_widest_window_is_served_and_a_wider_one_is_not() {
        let entries: Vec<u32> = (0..150).collect();
        assert_eq!(window(0, 100).unwrap().of(&entries).len(), 100);
        assert_eq!(window(140, 240).unwrap().of(&entries).len(), 10);
        assert!(window(0, 101).is_err());
        assert!(window(-1, 5).is_err());
        assert!(window(5, 4).is_err());
        assert!(window(i64::MIN, i64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn thinning_keeps_the_count_and_the_last(total in 1usize..500, count in 1usize..100) {
            let points: Vec<Value> = (0..total).map(|index| json!(index)).collect();
            let thin = thinned(points, count);
            prop_assert_eq!(thin.len(), total.min(count));
            prop_assert_eq!(thin.last(), Some(&json!(total - 1)));
        }
    }
}
