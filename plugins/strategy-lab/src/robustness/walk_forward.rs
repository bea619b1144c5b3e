//! Walk-forward analysis: what the choice of one period gives in the period after it.
//!
//! Source: R. Pardo, The Evaluation and Optimization of Trading Strategies, 2nd edition (2008), chapter 11.
//!
//! Invariant: no day is in two out-of-sample periods, and none of them begins before its in-sample period ends.

use jiff::{Span, civil::Date};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::overfitting::{best, comparable_ratio};
use super::undefined::{Undefined, finite};

/// Most windows of one analysis.
const MAX_WINDOWS: usize = 500;
/// Days of a mean year.
const DAYS_PER_YEAR: f64 = 365.25;
/// Fewest returns of an in-sample period: a standard deviation needs two.
const MIN_IN_SAMPLE: usize = 2;

/// Where in-sample periods begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Always at the first day: they grow.
    Anchored,
    /// One step later each time: they keep their length.
    Rolling,
}

/// How a history is cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Where in-sample periods begin.
    pub(crate) kind: Kind,
    /// Length of the first in-sample period, in calendar days.
    #[schemars(range(min = 1))]
    pub(crate) in_sample_days: u32,
    /// Length of each out-of-sample period, in calendar days.
    #[schemars(range(min = 1))]
    pub(crate) out_of_sample_days: u32,
    /// Days from one window to the next, not below `out_of_sample_days`; as many as those if not given.
    #[serde(default)]
    pub(crate) step_days: Option<u32>,
}

/// A period, both days included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) first: Date,
    pub(crate) last: Date,
}

/// A period to choose in, and the period right after it to prove the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) in_sample: Period,
    pub(crate) out_of_sample: Period,
}

/// What the windows gave.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct WalkForward {
    /// One for each window with enough returns, in order.
    pub(crate) windows: Vec<Outcome>,
    /// Windows without two returns in sample and one out of sample, which are left out.
    pub(crate) skipped: usize,
    /// Compound annual return of the in-sample periods together, as a fraction.
    pub(crate) in_sample_return: f64,
    /// Compound annual return of the out-of-sample periods together, as a fraction.
    pub(crate) out_of_sample_return: f64,
    /// Annual return out of sample over that in sample; null if the latter is not above 0.
    pub(crate) efficiency: Option<f64>,
    /// The share of the windows with a gain out of sample, from 0 to 1.
    pub(crate) share_of_gains: f64,
}

/// What one window gave.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    /// First day in sample.
    pub(crate) in_sample_first: String,
    /// First day out of sample, the day after the last one in sample.
    pub(crate) out_of_sample_first: String,
    /// Last day out of sample.
    pub(crate) out_of_sample_last: String,
    /// The position of the strategy with the highest Sharpe ratio in sample, from 0.
    pub(crate) strategy: usize,
    /// Its compound annual return in sample, as a fraction.
    pub(crate) in_sample_return: f64,
    /// Its compound annual return out of sample, as a fraction.
    pub(crate) out_of_sample_return: f64,
    /// The latter over the former; null if the former is not above 0.
    pub(crate) efficiency: Option<f64>,
}

/// The windows of a history from `first` to `last`, both included. A window whose out-of-sample period would end after the
/// history is not made.
///
/// # Errors
/// [`Undefined::OutOfRange`] for a length of 0, a step below the out-of-sample length (days would be proved twice), more than
/// 500 windows, or a history that is too short for one.
pub(crate) fn windows(first: Date, last: Date, plan: &Plan) -> Result<Vec<Window>, Undefined> {
    let step = plan.step_days.unwrap_or(plan.out_of_sample_days);
    if plan.in_sample_days == 0 || plan.out_of_sample_days == 0 {
        return Err(Undefined::OutOfRange("a period has to have a day at least"));
    }
    if step < plan.out_of_sample_days {
        return Err(Undefined::OutOfRange(
            "a step below the out-of-sample length would prove some days twice",
        ));
    }
    let mut windows = Vec::new();
    for number in 0.. {
        let Some(window) = window(first, plan, i64::from(step) * number) else {
            break;
        };
        if window.out_of_sample.last > last {
            break;
        }
        if windows.len() == MAX_WINDOWS {
            return Err(Undefined::OutOfRange("the plan has more than 500 windows"));
        }
        windows.push(window);
    }
    if windows.is_empty() {
        return Err(Undefined::OutOfRange(
            "the history is too short for one window",
        ));
    }
    Ok(windows)
}

/// The window that begins `shift` days later than the first; `None` after the last day of the calendar.
fn window(first: Date, plan: &Plan, shift: i64) -> Option<Window> {
    let later = |date: Date, days: i64| date.checked_add(Span::new().try_days(days).ok()?).ok();
    let shifted = later(first, shift)?;
    let out_of_sample = later(shifted, i64::from(plan.in_sample_days))?;
    Some(Window {
        in_sample: Period {
            first: match plan.kind {
                Kind::Anchored => first,
                Kind::Rolling => shifted,
            },
            last: out_of_sample.yesterday().ok()?,
        },
        out_of_sample: Period {
            first: out_of_sample,
            last: later(out_of_sample, i64::from(plan.out_of_sample_days) - 1)?,
        },
    })
}

/// Growth over some calendar days.
#[derive(Debug, Clone, Copy)]
struct Growth {
    factor: f64,
    days: f64,
}

impl Growth {
    fn of(returns: &[f64], period: Period) -> Self {
        let days = period.last.duration_since(period.first).as_hours() / 24 + 1;
        Self {
            factor: returns.iter().map(|it| 1.0 + it).product(),
            days: days as f64,
        }
    }

    /// The compound annual return, factor^(365.25 / days) - 1; -1 where nothing is left.
    fn annual(self) -> Result<f64, Undefined> {
        if self.factor <= 0.0 {
            return Ok(-1.0);
        }
        finite(self.factor.powf(DAYS_PER_YEAR / self.days) - 1.0)
    }

    fn then(self, next: Self) -> Self {
        Self {
            factor: self.factor * next.factor,
            days: self.days + next.days,
        }
    }
}

/// Walk-forward efficiency: the annual return out of sample over that in sample. `None` if the latter is not above 0: a share
/// of a loss has no meaning.
pub(crate) fn efficiency(in_sample: f64, out_of_sample: f64) -> Option<f64> {
    let efficiency = out_of_sample / in_sample;
    (in_sample > 0.0 && efficiency.is_finite()).then_some(efficiency)
}

/// Takes in each window the strategy with the highest Sharpe ratio in sample, of equal ones the first, and follows it out of
/// sample. `columns` are the returns of each strategy on `dates`, which ascend.
///
/// # Errors
/// [`Undefined::TooFew`] without a strategy or a window with enough returns, [`Undefined::NotFinite`], and
/// [`Undefined::OutOfRange`] for columns of another length than the dates.
pub(crate) fn walk_forward(
    dates: &[Date],
    columns: &[Vec<f64>],
    windows: &[Window],
) -> Result<WalkForward, Undefined> {
    let too_few = |what| Undefined::TooFew {
        what,
        needed: 1,
        given: 0,
    };
    if columns.is_empty() {
        return Err(too_few("strategies"));
    }
    if columns.iter().any(|column| column.len() != dates.len()) {
        return Err(Undefined::OutOfRange(
            "each strategy has to have a return for each date",
        ));
    }
    if columns.iter().flatten().any(|it| !it.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    let mut outcomes = Vec::new();
    let mut totals: Option<(Growth, Growth)> = None;
    for window in windows {
        let Some((outcome, inside, outside)) = follow(dates, columns, window)? else {
            continue;
        };
        outcomes.push(outcome);
        totals = Some(match totals {
            Some((before, after)) => (before.then(inside), after.then(outside)),
            None => (inside, outside),
        });
    }
    let (inside, outside) = totals.ok_or(too_few("windows with enough returns"))?;
    let (inside, outside) = (inside.annual()?, outside.annual()?);
    let gains = outcomes
        .iter()
        .filter(|it| it.out_of_sample_return > 0.0)
        .count();
    Ok(WalkForward {
        skipped: windows.len() - outcomes.len(),
        in_sample_return: inside,
        out_of_sample_return: outside,
        efficiency: efficiency(inside, outside),
        share_of_gains: gains as f64 / outcomes.len() as f64,
        windows: outcomes,
    })
}

/// One window; `None` if it has too few returns.
fn follow(
    dates: &[Date],
    columns: &[Vec<f64>],
    window: &Window,
) -> Result<Option<(Outcome, Growth, Growth)>, Undefined> {
    let within = |column: &[f64], period: Period| -> Vec<f64> {
        let from = dates.partition_point(|date| *date < period.first);
        let to = dates.partition_point(|date| *date <= period.last);
        column.get(from..to).unwrap_or_default().to_vec()
    };
    let inside = columns
        .iter()
        .map(|column| within(column, window.in_sample));
    let inside: Vec<Vec<f64>> = inside.collect();
    let ratios: Vec<f64> = inside.iter().map(|it| comparable_ratio(it)).collect();
    let strategy = best(&ratios);
    let (Some(inside), Some(column)) = (inside.get(strategy), columns.get(strategy)) else {
        return Ok(None);
    };
    let outside = within(column, window.out_of_sample);
    if inside.len() < MIN_IN_SAMPLE || outside.is_empty() {
        return Ok(None);
    }
    let before = Growth::of(inside, window.in_sample);
    let after = Growth::of(&outside, window.out_of_sample);
    let (in_sample_return, out_of_sample_return) = (before.annual()?, after.annual()?);
    let outcome = Outcome {
        in_sample_first: window.in_sample.first.to_string(),
        out_of_sample_first: window.out_of_sample.first.to_string(),
        out_of_sample_last: window.out_of_sample.last.to_string(),
        strategy,
        in_sample_return,
        out_of_sample_return,
        efficiency: efficiency(in_sample_return, out_of_sample_return),
    };
    Ok(Some((outcome, before, after)))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn plan(kind: Kind, inside: u32, outside: u32, step: Option<u32>) -> Plan {
        Plan {
            kind,
            in_sample_days: inside,
            out_of_sample_days: outside,
            step_days: step,
        }
    }

    fn texts(plan: &Plan) -> Vec<String> {
        let windows = windows(date(2024, 1, 1), date(2024, 2, 29), plan).unwrap();
        let text = |it: &Window| {
            let (a, b) = (it.in_sample, it.out_of_sample);
            format!("{}..{} {}..{}", a.first, a.last, b.first, b.last)
        };
        windows.iter().map(text).collect()
    }

    #[test]
    fn windows_roll_or_stay_anchored() {
        assert_eq!(
            texts(&plan(Kind::Rolling, 30, 10, None)),
            [
                "2024-01-01..2024-01-30 2024-01-31..2024-02-09",
                "2024-01-11..2024-02-09 2024-02-10..2024-02-19",
                "2024-01-21..2024-02-19 2024-02-20..2024-02-29",
            ]
        );
        assert_eq!(
            texts(&plan(Kind::Anchored, 30, 10, Some(15))),
            [
                "2024-01-01..2024-01-30 2024-01-31..2024-02-09",
                "2024-01-01..2024-02-14 2024-02-15..2024-02-24",
            ]
        );
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        for (plan, reason) in [
            (plan(Kind::Rolling, 0, 10, None), "a day at least"),
            (plan(Kind::Rolling, 10, 0, None), "a day at least"),
            (plan(Kind::Rolling, 10, 5, Some(4)), "some days twice"),
            (
                plan(Kind::Rolling, 360, 7, None),
                "too short for one window",
            ),
            (
                plan(Kind::Rolling, u32::MAX, u32::MAX, None),
                "too short for one window",
            ),
        ] {
            let error = windows(date(2024, 1, 1), date(2024, 12, 31), &plan).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        let daily = plan(Kind::Rolling, 1, 1, None);
        let error = windows(date(2020, 1, 1), date(2024, 12, 31), &daily).unwrap_err();
        assert!(error.to_string().contains("more than 500"), "{error}");
    }

    #[test]
    fn the_best_in_sample_is_followed_out_of_sample() {
        let dates: Vec<Date> = (1..=4).map(|day| date(2024, 1, day)).collect();
        let columns = [vec![0.01, 0.03, -0.02, 0.01], vec![-0.01, 0.0, 0.5, 0.5]];
        let windows = windows(dates[0], dates[3], &plan(Kind::Anchored, 2, 2, None)).unwrap();
        let found = walk_forward(&dates, &columns, &windows).unwrap();
        let [window] = &found.windows[..] else {
            panic!("{found:?}")
        };
        assert_eq!(window.strategy, 0);
        let annual = |factor: f64| factor.powf(365.25 / 2.0) - 1.0;
        assert!((window.in_sample_return / annual(1.01 * 1.03) - 1.0).abs() < 1e-9);
        assert!((window.out_of_sample_return - annual(0.98 * 1.01)).abs() < 1e-9);
        assert_eq!(found.efficiency, window.efficiency);
        assert_eq!((found.share_of_gains, found.skipped), (0.0, 0));
    }

    #[test]
    fn what_has_no_value_says_why() {
        let dates: Vec<Date> = (1..=4).map(|day| date(2024, 1, day)).collect();
        let windows = windows(dates[0], dates[3], &plan(Kind::Rolling, 1, 1, None)).unwrap();
        for (columns, reason) in [
            (vec![], "at least 1 strategies"),
            (vec![vec![0.1; 3]], "a return for each date"),
            (vec![vec![f64::NAN; 4]], "not finite"),
            (vec![vec![0.1; 4]], "at least 1 windows with enough returns"),
        ] {
            let error = walk_forward(&dates, &columns, &windows)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(efficiency(0.2, 0.1), Some(0.5));
        for in_sample in [0.0, -0.1, f64::NAN] {
            assert_eq!(efficiency(in_sample, 0.1), None);
        }
        assert_eq!(
            Growth {
                factor: -0.5,
                days: 10.0
            }
            .annual(),
            Ok(-1.0)
        );
        let explosion = Growth {
            factor: 1e9,
            days: 1.0,
        };
        assert_eq!(explosion.annual(), Err(Undefined::NotFinite));
    }

    proptest! {
        #[test]
        fn no_day_is_proved_twice_or_before_its_choice(
            inside in 1u32..100, outside in 1u32..100, more in 0u32..50, anchored in proptest::bool::ANY, length in 1i64..2_000,
        ) {
            let kind = if anchored { Kind::Anchored } else { Kind::Rolling };
            let first = date(2020, 2, 29);
            let last = first.checked_add(Span::new().days(length)).unwrap();
            if let Ok(found) = windows(first, last, &plan(kind, inside, outside, Some(outside + more))) {
                for window in &found {
                    prop_assert_eq!(window.in_sample.last.tomorrow().unwrap(), window.out_of_sample.first);
                    prop_assert!(window.in_sample.first >= first && window.out_of_sample.last <= last);
                }
                prop_assert!(found.is_sorted_by(|a, b| a.out_of_sample.last < b.out_of_sample.first));
            }
        }
    }
}
