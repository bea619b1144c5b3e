//! What is wrong, or odd, in the rows of a data set.
//!
//! Invariant: every check looks at each row a fixed number of times, so a report takes time in proportion to the rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use qchost_sdk::prelude::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calendar::{self, Calendar, Sessions};
use crate::series::Series;
use crate::table::number;
use crate::time::{self, Clock, DAY, SECOND, Zone};

/// Rows of a finding that are listed.
const MAX_LISTED: usize = 20;
/// Data whose rows are this far apart or more is daily, in microseconds.
const DAILY: i64 = 20 * 3600 * SECOND;
/// A robust z-score is the distance from the median by the median absolute deviation, times this: as the standard score
/// of a normal distribution (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993).
const MAD_TO_SIGMA: f64 = 0.6745;
/// Too few changes say nothing about which of them is odd.
const MIN_CHANGES: usize = 30;
/// Ratios of splits; also as reverse splits.
const SPLITS: [(f64, &str); 12] = [
    (1.5, "3-for-2"),
    (2.0, "2-for-1"),
    (3.0, "3-for-1"),
    (4.0, "4-for-1"),
    (5.0, "5-for-1"),
    (6.0, "6-for-1"),
    (7.0, "7-for-1"),
    (8.0, "8-for-1"),
    (10.0, "10-for-1"),
    (15.0, "15-for-1"),
    (20.0, "20-for-1"),
    (50.0, "50-for-1"),
];
/// How far a price may be from that of a split, as a fraction: the market moves on that day as well.
const SPLIT_TOLERANCE: f64 = 0.04;

/// What is expected of the rows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Expectations {
    /// When rows are expected.
    pub(crate) calendar: Calendar,
    /// Seconds between rows; without it, the median of what there is.
    #[schemars(range(min = 0.001, max = 31_622_400.0))]
    pub(crate) interval: Option<f64>,
    /// A change with a robust z-score beyond this is an outlier.
    #[schemars(range(min = 1.0, max = 1_000_000.0))]
    pub(crate) outlier: f64,
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            calendar: Calendar::Always,
            interval: None,
            outlier: 12.0,
        }
    }
}

/// What kind of thing is wrong.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A row has the time, and the key, of another one.
    Duplicate,
    /// A row is earlier than the one before it.
    Order,
    /// A bar's high is below, or its low above, another price of it.
    Bar,
    /// A price is not a number above 0.
    Price,
    /// Rows are missing between two rows.
    Gap,
    /// A row is outside of the market's hours.
    Hours,
    /// A value changes much more than others do.
    Outlier,
    /// A price changes like that of a split that the data is not adjusted for.
    Split,
}

impl Kind {
    /// Whether data with it is refused, unless the caller accepts it.
    pub(crate) fn is_error(self) -> bool {
        matches!(self, Self::Duplicate | Self::Order | Self::Bar)
    }
}

/// A row that a finding is about.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Place {
    /// Number of the row, from 1.
    pub(crate) row: usize,
    /// Time of the row.
    pub(crate) time: String,
    /// What is wrong with it.
    pub(crate) what: String,
}

/// What is wrong, with the rows concerned.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Finding {
    /// What kind of thing.
    pub(crate) kind: Kind,
    /// Whether data with it is refused, unless it is accepted.
    pub(crate) error: bool,
    /// Number of rows concerned.
    pub(crate) count: u64,
    /// The first of them, at most 20.
    pub(crate) rows: Vec<Place>,
}

/// All that was found, the worst first, and what was assumed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Quality {
    /// Seconds between rows, as expected or found.
    pub(crate) interval: Option<f64>,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
}

impl Quality {
    /// The number of rows of each kind.
    pub(crate) fn counts(&self) -> BTreeMap<Kind, u64> {
        self.findings.iter().map(|it| (it.kind, it.count)).collect()
    }
}

/// Collects findings. Values are left out of what is said if they may not leave.
struct Findings<'a> {
    series: &'a Series,
    hides_values: bool,
    found: BTreeMap<Kind, Finding>,
}

impl Findings<'_> {
    fn note(&mut self, kind: Kind, row: usize, what: impl FnOnce() -> String) {
        let finding = self.found.entry(kind).or_insert_with(|| Finding {
            kind,
            error: kind.is_error(),
            count: 0,
            rows: Vec::new(),
        });
        finding.count = finding.count.saturating_add(1);
        if finding.rows.len() < MAX_LISTED {
            let time = self.series.times.get(row).copied().unwrap_or_default();
            finding.rows.push(Place {
                row: row.saturating_add(1),
                time: time::text(time).unwrap_or_default(),
                what: what(),
            });
        }
    }

    fn value(&self, row: usize, column: usize) -> String {
        if self.hides_values {
            return "a value".to_owned();
        }
        let cell = self.series.table.cell(row, column);
        cell.chars().take(40).collect()
    }
}

/// A numeric column.
#[derive(Debug)]
struct Numeric {
    column: usize,
    name: String,
    /// The value of each row; not a number where it has none.
    values: Vec<f64>,
    is_price: bool,
}

/// Checks the rows. With `hides_values`, nothing of what they hold but their times is in the report.
pub(crate) fn check(series: &Series, expected: &Expectations, hides_values: bool) -> Quality {
    let mut findings = Findings {
        series,
        hides_values,
        found: BTreeMap::new(),
    };
    let before = previous(series);
    let interval = interval(series, expected, &before);
    order(&mut findings, &before);
    times(&mut findings, expected, &before, interval);
    let columns = numeric(series);
    bars(&mut findings, &columns);
    let is_daily = interval.is_some_and(|it| it >= DAILY);
    for column in &columns {
        if column.is_price {
            prices(&mut findings, column);
        }
        changes(&mut findings, column, &before, expected.outlier, is_daily);
    }
    splits(&mut findings, &columns, &before);
    Quality {
        interval: interval.map(seconds),
        findings: findings.found.into_values().collect(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a span of rows is far below 2^53 microseconds"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1_000_000.0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the schema bounds what a caller can give, and a cast saturates"
)]
fn micros(seconds: f64) -> i64 {
    (seconds * 1_000_000.0).round() as i64
}

/// For each row, the row before it with the same key.
fn previous(series: &Series) -> Vec<Option<usize>> {
    let mut last: HashMap<&str, usize> = HashMap::new();
    (0..series.rows())
        .map(|row| last.insert(series.key_of(row), row))
        .collect()
}

fn time_of(series: &Series, row: usize) -> i64 {
    series.times.get(row).copied().unwrap_or_default()
}

/// Pairs of a row and the one before it with the same key.
fn pairs(before: &[Option<usize>]) -> impl Iterator<Item = (usize, usize)> {
    let rows = before.iter().enumerate();
    rows.filter_map(|(row, before)| Some(((*before)?, row)))
}

fn interval(series: &Series, expected: &Expectations, before: &[Option<usize>]) -> Option<i64> {
    if let Some(interval) = expected.interval.filter(|it| it.is_finite()) {
        return Some(micros(interval).max(1));
    }
    let steps = pairs(before).map(|(a, b)| time_of(series, b).saturating_sub(time_of(series, a)));
    let mut steps: Vec<i64> = steps.filter(|step| *step > 0).collect();
    let middle = steps.len().saturating_sub(1) / 2;
    if steps.is_empty() {
        return None;
    }
    Some(*steps.select_nth_unstable(middle).1)
}

fn order(findings: &mut Findings<'_>, before: &[Option<usize>]) {
    let series = findings.series;
    let mut seen: HashSet<(&str, i64)> = HashSet::new();
    for row in 0..series.rows() {
        if !seen.insert((series.key_of(row), time_of(series, row))) {
            findings.note(Kind::Duplicate, row, || {
                "an earlier row has the same time".into()
            });
        }
    }
    for (a, b) in pairs(before) {
        if time_of(series, b) < time_of(series, a) {
            findings.note(Kind::Order, b, || {
                format!("it is earlier than row {}", a.saturating_add(1))
            });
        }
    }
}

fn times(
    findings: &mut Findings<'_>,
    expected: &Expectations,
    before: &[Option<usize>],
    interval: Option<i64>,
) {
    let Some(interval) = interval else {
        return;
    };
    let series = findings.series;
    let is_daily = interval >= DAILY;
    let local: Vec<i64> = match (expected.calendar, series.zone) {
        // A day is that of the exchange, whatever the zone.
        (Calendar::UsEquity, Zone::Utc) if !is_daily => {
            let clock = Clock::new(Zone::NewYork);
            let times = series.times.iter();
            times.map(|it| clock.new_york(*it).unwrap_or(*it)).collect()
        }
        _ => series.times.clone(),
    };
    let at = |row: usize| local.get(row).copied().unwrap_or_default();
    let limit = interval.saturating_add(interval / 2);
    if expected.calendar == Calendar::Always {
        for (a, b) in pairs(before) {
            let step = at(b).saturating_sub(at(a));
            if step > limit {
                let missing = (step - 1) / interval;
                findings.note(Kind::Gap, b, || {
                    format!("about {missing} rows are missing before it")
                });
            }
        }
        return;
    }
    for row in 0..series.rows() {
        let closed = match is_daily {
            true => calendar::session_of(time::day(at(row))).is_none(),
            false => !calendar::is_open(at(row), interval),
        };
        if closed {
            findings.note(Kind::Hours, row, || "the market is closed then".into());
        }
    }
    let days = local.iter().map(|it| time::day(*it));
    let (Some(first), Some(last)) = (days.clone().min(), days.max()) else {
        return;
    };
    let Some(sessions) = Sessions::new(first, last) else {
        return;
    };
    for (a, b) in pairs(before) {
        let missing = if is_daily {
            let every = (interval.saturating_add(DAY / 2) / DAY).max(1);
            // Longer intervals than a day are of the calendar, and a holiday may take up one of them.
            let step = sessions.count(at(b)).saturating_sub(sessions.count(at(a)));
            if every > 1 { 0 } else { step.saturating_sub(1) }
        } else {
            let step = sessions
                .elapsed(at(b))
                .saturating_sub(sessions.elapsed(at(a)));
            if step > limit {
                (step - 1) / interval
            } else {
                0
            }
        };
        if missing > 0 {
            findings.note(Kind::Gap, b, || {
                format!("about {missing} rows are missing before it, by the hours of the market")
            });
        }
    }
}

/// Columns that hold a number in each row, or nothing.
fn numeric(series: &Series) -> Vec<Numeric> {
    let table = &series.table;
    let columns = table.columns().iter().enumerate();
    columns
        .filter(|(column, _)| *column != series.time && Some(*column) != series.key)
        .filter_map(|(column, name)| {
            let mut numbers = 0_usize;
            let mut values = Vec::with_capacity(series.rows());
            for row in 0..series.rows() {
                let cell = table.cell(row, column);
                let value = number(cell);
                if value.is_none() && !cell.is_empty() && !cell.eq_ignore_ascii_case("nan") {
                    return None;
                }
                numbers = numbers.saturating_add(usize::from(value.is_some()));
                values.push(value.unwrap_or(f64::NAN));
            }
            let lower = name.to_ascii_lowercase();
            let is_size = ["size", "volume", "count"]
                .iter()
                .any(|it| lower.contains(it));
            let is_price = ["open", "high", "low", "close", "price"]
                .iter()
                .any(|it| lower.contains(it));
            (numbers > 0).then(|| Numeric {
                column,
                name: name.clone(),
                values,
                is_price: is_price && !is_size && !lower.contains("interest"),
            })
        })
        .collect()
}

impl Numeric {
    fn at(&self, row: usize) -> Option<f64> {
        self.values.get(row).copied().filter(|it| it.is_finite())
    }
}

/// Bars whose high or low is not the highest or lowest of their prices.
fn bars(findings: &mut Findings<'_>, columns: &[Numeric]) {
    for prefix in ["", "bid-", "ask-", "bid_", "ask_"] {
        let find = |name: &str| {
            let name = format!("{prefix}{name}");
            columns
                .iter()
                .find(|it| it.name.eq_ignore_ascii_case(&name))
        };
        let (Some(high), Some(low)) = (find("high"), find("low")) else {
            continue;
        };
        let others = [find("open"), find("close"), Some(high), Some(low)];
        for row in 0..findings.series.rows() {
            let (Some(top), Some(bottom)) = (high.at(row), low.at(row)) else {
                continue;
            };
            let mut values = others.iter().flatten().filter_map(|it| it.at(row));
            if values.any(|value| value > top || value < bottom) {
                findings.note(Kind::Bar, row, || {
                    format!(
                        "\"{}\" and \"{}\" do not enclose the other prices",
                        high.name, low.name
                    )
                });
            }
        }
    }
}

fn prices(findings: &mut Findings<'_>, column: &Numeric) {
    for row in 0..findings.series.rows() {
        if column.at(row).is_some_and(|it| it <= 0.0) {
            let value = findings.value(row, column.column);
            findings.note(Kind::Price, row, || {
                format!("\"{}\" is {value}", column.name)
            });
        }
    }
}

/// Changes that are far from the others: logarithmic ones where all values are positive.
fn changes(
    findings: &mut Findings<'_>,
    column: &Numeric,
    before: &[Option<usize>],
    limit: f64,
    is_daily: bool,
) {
    let series = findings.series;
    let is_positive = !column.values.iter().any(|it| *it <= 0.0);
    let mut rows = Vec::new();
    let mut changes = Vec::new();
    for (a, b) in pairs(before) {
        // A night is another kind of change than a minute.
        if !is_daily && time::day(time_of(series, a)) != time::day(time_of(series, b)) {
            continue;
        }
        let (Some(from), Some(to)) = (column.at(a), column.at(b)) else {
            continue;
        };
        let change = if is_positive {
            (to / from).ln()
        } else {
            to - from
        };
        if change.is_finite() {
            rows.push(b);
            changes.push(change);
        }
    }
    if changes.len() < MIN_CHANGES {
        return;
    }
    let center = median(&mut changes.clone());
    let spread = median(
        &mut changes
            .iter()
            .map(|it| (it - center).abs())
            .collect::<Vec<_>>(),
    );
    // More than half of the changes are equal, so that none can be told from noise.
    if spread <= 0.0 {
        return;
    }
    for (row, change) in rows.into_iter().zip(changes) {
        let score = MAD_TO_SIGMA * (change - center).abs() / spread;
        if score > limit {
            let value = findings.value(row, column.column);
            findings.note(Kind::Outlier, row, || {
                format!(
                    "\"{}\" changes to {value}, with a robust z-score of {score:.1}",
                    column.name
                )
            });
        }
    }
}

/// The upper median; 0 of nothing.
fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Overnight changes of the closing price that are about those of a split.
fn splits(findings: &mut Findings<'_>, columns: &[Numeric], before: &[Option<usize>]) {
    let series = findings.series;
    let named = |name: &str| columns.iter().find(|it| it.name.eq_ignore_ascii_case(name));
    let first = || columns.iter().find(|it| it.is_price);
    let Some(close) = named("close").or_else(|| named("price")).or_else(first) else {
        return;
    };
    for (a, b) in pairs(before) {
        if time::day(time_of(series, a)) == time::day(time_of(series, b)) {
            continue;
        }
        let (Some(from), Some(to)) = (close.at(a), close.at(b)) else {
            continue;
        };
        if from <= 0.0 || to <= 0.0 {
            continue;
        }
        let (ratio, kind) = if from > to {
            (from / to, "split")
        } else {
            (to / from, "reverse split")
        };
        let is_near = |split: &&(f64, &str)| (ratio / split.0 - 1.0).abs() < SPLIT_TOLERANCE;
        if let Some((_, name)) = SPLITS.iter().find(is_near) {
            findings.note(Kind::Split, b, || {
                format!(
                    "\"{}\" changes as by a {name} {kind} that the data is not adjusted for",
                    close.name
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::series::Shape;
    use crate::series::tests::series;

    fn checked(csv: &str, expected: &Expectations) -> Vec<(Kind, Vec<usize>)> {
        let series = series(csv, &Shape::default()).unwrap();
        shown(&check(&series, expected, false))
    }

    fn shown(quality: &Quality) -> Vec<(Kind, Vec<usize>)> {
        let findings = quality.findings.iter();
        findings
            .map(|it| (it.kind, it.rows.iter().map(|place| place.row).collect()))
            .collect()
    }

    fn us() -> Expectations {
        Expectations {
            calendar: Calendar::UsEquity,
            ..Expectations::default()
        }
    }

    #[test]
    fn duplicates_and_disorder_are_errors_of_their_rows() {
        let csv =
            "time,close\n2024-01-02,1\n2024-01-03,1\n2024-01-03,1\n2024-01-01,1\n2024-01-04,1\n";
        let series = series(csv, &Shape::default()).unwrap();
        let quality = check(&series, &Expectations::default(), false);
        let errors: Vec<_> = quality
            .findings
            .iter()
            .filter(|it| it.error)
            .map(|it| (it.kind, it.rows[0].row))
            .collect();
        assert_eq!(errors, [(Kind::Duplicate, 3), (Kind::Order, 4)]);
    }

    #[test]
    fn a_series_of_another_key_is_looked_at_on_its_own() {
        let csv =
            "time,symbol,close\n2024-01-02,A,1\n2024-01-02,B,9\n2024-01-03,A,1\n2024-01-03,B,9\n";
        let shape = Shape {
            key: Some("symbol".into()),
            ..Shape::default()
        };
        let quality = check(
            &series(csv, &shape).unwrap(),
            &Expectations::default(),
            false,
        );
        assert_eq!(quality.findings, []);
        assert_eq!(checked(csv, &Expectations::default())[0].0, Kind::Duplicate);
    }

    #[test]
    fn a_weekend_is_no_gap_of_the_market_and_a_missing_day_is_one() {
        let week = "time,close\n2024-01-04,1\n2024-01-05,1\n2024-01-08,1\n2024-01-09,1\n";
        assert_eq!(checked(week, &us()), []);
        // By the calendar of always, the weekend is missing.
        assert_eq!(
            checked(week, &Expectations::default()),
            [(Kind::Gap, vec![3])]
        );
        let missing =
            "time,close\n2024-01-08,1\n2024-01-09,1\n2024-01-11,1\n2024-01-12,1\n2024-01-16,1\n";
        // The 15th is a holiday.
        assert_eq!(checked(missing, &us()), [(Kind::Gap, vec![3])]);
        let sunday = "time,close\n2024-01-05,1\n2024-01-07,1\n2024-01-08,1\n2024-01-09,1\n";
        assert_eq!(checked(sunday, &us()), [(Kind::Hours, vec![2])]);
    }

    #[test]
    fn minutes_are_expected_in_the_session_alone_in_either_zone() {
        let minutes = |zone: &str| {
            format!(
                "time,close\n2024-01-05 15:57{zone},1\n2024-01-05 15:58{zone},1\n2024-01-05 15:59{zone},1\n\
                 2024-01-08 09:30{zone},1\n2024-01-08 09:31{zone},1\n2024-01-08 09:35{zone},1\n2024-01-08 16:30{zone},1\n"
            )
        };
        let new_york = Shape {
            zone: Some(Zone::NewYork),
            ..Shape::default()
        };
        let expected = [(Kind::Gap, vec![6, 7]), (Kind::Hours, vec![7])];
        let local = series(&minutes(""), &new_york).unwrap();
        assert_eq!(shown(&check(&local, &us(), false)), expected);
        let utc = series(&minutes(":00-05:00"), &Shape::default()).unwrap();
        assert_eq!(shown(&check(&utc, &us(), false)), expected);
    }

    #[test]
    fn a_bar_that_is_not_one_and_a_price_of_nothing_are_found() {
        let csv = "time,open,high,low,close\n2024-01-02,1,2,1,1.5\n2024-01-03,1,1,1,1.5\n2024-01-04,0,1.4,0,1.4\n";
        assert_eq!(
            checked(csv, &Expectations::default()),
            [(Kind::Bar, vec![2]), (Kind::Price, vec![3, 3])]
        );
    }

    fn wave(spike: usize, factor: f64, from: usize) -> String {
        let mut csv = "time,close\n".to_owned();
        for day in 0..60_usize {
            let factor = if day == spike || day >= from {
                factor
            } else {
                1.0
            };
            let price = (100.0
                + f64::from(u8::try_from((day * day * 7 + day * 3) % 13).unwrap()) / 4.0)
                * factor;
            csv.push_str(&format!(
                "2024-0{}-{:02},{price:.4}\n",
                day / 28 + 1,
                day % 28 + 1
            ));
        }
        csv
    }

    #[test]
    fn a_spike_is_an_outlier_and_noise_is_none() {
        assert!(
            checked(&wave(99, 1.0, 99), &Expectations::default())
                .iter()
                .all(|it| it.0 == Kind::Gap)
        );
        let spike = checked(&wave(40, 8.5, 99), &Expectations::default());
        assert!(spike.contains(&(Kind::Outlier, vec![41, 42])), "{spike:?}");
    }

    #[test]
    fn a_price_that_falls_to_a_quarter_looks_like_a_split() {
        let split = checked(&wave(99, 0.25, 40), &Expectations::default());
        assert!(split.contains(&(Kind::Split, vec![41])), "{split:?}");
        assert!(
            !checked(&wave(99, 0.86, 40), &Expectations::default())
                .iter()
                .any(|it| it.0 == Kind::Split)
        );
    }

    #[test]
    fn values_that_may_not_leave_are_not_said() {
        let series = series(&wave(40, 8.5, 99), &Shape::default()).unwrap();
        let said = |hides| {
            serde_json::to_string(&check(&series, &Expectations::default(), hides)).unwrap()
        };
        let value = series.table.cell(40, 1);
        assert!(said(false).contains(value) && !said(true).contains(value));
    }

    #[test]
    fn many_rows_of_a_finding_are_counted_and_some_listed() {
        let mut csv = "time,close\n".to_owned();
        for _ in 0..100 {
            csv.push_str("2024-01-02,1\n");
        }
        let series = series(&csv, &Shape::default()).unwrap();
        let quality = check(&series, &Expectations::default(), false);
        assert_eq!(
            (quality.findings[0].count, quality.findings[0].rows.len()),
            (99, MAX_LISTED)
        );
    }

    proptest! {
        #[test]
        fn no_rows_break_a_check(rows in prop::collection::vec((0_i64..4_000_000_000, -1e9_f64..1e9), 1..80), us_calendar: bool) {
            let mut csv = "time,close\n".to_owned();
            for (seconds, value) in &rows {
                csv.push_str(&format!("{},{value}\n", time::text(seconds * SECOND).unwrap()));
            }
            let expected = if us_calendar { us() } else { Expectations::default() };
            let quality = check(&series(&csv, &Shape::default()).unwrap(), &expected, false);
            for finding in quality.findings {
                // A price is looked at in each column, any other finding once for each row.
                prop_assert!(usize::try_from(finding.count).unwrap() <= rows.len());
            }
        }
    }
}
