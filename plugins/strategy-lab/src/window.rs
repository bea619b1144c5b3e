//! The period that backtests cover, where the algorithm reads it from parameters.
//!
//! Invariant: a window's days are given in the form of `2024-01-31`, and both of its ends belong to it.

use jiff::Span;
use jiff::civil::Date;
use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::robustness::walk_forward::Period;
use crate::space::Space;

/// The shortest window of a round, in calendar days.
const MIN_DAYS: i64 = 10;

/// The period, and the parameters from which the algorithm reads its first and its last day, written as `2024-01-31`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    /// The parameter with the first day.
    #[serde(default = "start")]
    start: String,
    /// The parameter with the last day.
    #[serde(default = "end")]
    end: String,
    /// The first day.
    from: String,
    /// The last day.
    to: String,
}

fn start() -> String {
    "start".to_owned()
}

fn end() -> String {
    "end".to_owned()
}

/// The names of the two parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Names {
    pub(crate) start: String,
    pub(crate) end: String,
}

impl Names {
    /// The parameters that make the algorithm cover a period.
    pub(crate) fn parameters(&self, period: Period) -> [(String, String); 2] {
        [
            (self.start.clone(), period.first.to_string()),
            (self.end.clone(), period.last.to_string()),
        ]
    }
}

/// A period as results show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Days {
    /// Its first day.
    pub(crate) first: String,
    /// Its last day.
    pub(crate) last: String,
}

impl From<Period> for Days {
    fn from(period: Period) -> Self {
        Self {
            first: period.first.to_string(),
            last: period.last.to_string(),
        }
    }
}

impl Window {
    /// The names and the period, checked against the parameters that are swept.
    pub(crate) fn read(&self, space: &Space) -> Result<(Names, Period), Failure> {
        let day = |key: &str, text: &str| {
            text.parse::<Date>().map_err(|_| {
                Failure::invalid_input(format!(
                    "`window.{key}` is \"{text}\"; write a day as in 2024-01-31"
                ))
            })
        };
        let period = Period {
            first: day("from", &self.from)?,
            last: day("to", &self.to)?,
        };
        if period.last <= period.first {
            return Err(Failure::invalid_input(format!(
                "`window` goes from {} to {}; its end has to be later",
                period.first, period.last
            )));
        }
        if self.start.is_empty() || self.end.is_empty() || self.start == self.end {
            return Err(Failure::invalid_input(
                "`window.start` and `window.end` are the names of two parameters",
            ));
        }
        for name in [&self.start, &self.end] {
            if space.has(name) {
                return Err(Failure::invalid_input(format!(
                    "the parameter \"{name}\" sets the window and is in `grid` too"
                )));
            }
        }
        let names = Names {
            start: self.start.clone(),
            end: self.end.clone(),
        };
        Ok((names, period))
    }
}

/// The windows of the rounds of a race: all end with the period, each is `eta` times as long as the one before, and the last
/// one is the whole period.
pub(crate) fn rounds(period: Period, rounds: u32, eta: u32) -> Result<Vec<Period>, Failure> {
    let days = days(period);
    let window = |round: u32| {
        let share = i64::from(eta).saturating_pow(rounds.saturating_sub(round));
        let length = days.checked_div(share).unwrap_or_default();
        if length < MIN_DAYS && round < rounds {
            return Err(Failure::invalid_input(format!(
                "the first window would have {length} of {days} days, and at least {MIN_DAYS} are wanted; use fewer \
                 `rungs`, a smaller `eta`, or a longer period"
            )));
        }
        let before = Span::new().try_days(length.saturating_sub(1));
        let first = before.and_then(|span| period.last.checked_sub(span));
        Ok(Period {
            first: first.map_err(|error| Failure::failed(error.to_string()))?,
            last: period.last,
        })
    };
    (1..=rounds).map(window).collect()
}

/// Calendar days of a period, both of its ends included.
pub(crate) fn days(period: Period) -> i64 {
    period.last.duration_since(period.first).as_hours() / 24 + 1
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::space::tests::space;

    pub(crate) fn period(first: &str, last: &str) -> Period {
        Period {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        }
    }

    fn read(json: &str) -> Result<(Names, Period), String> {
        let window: Window = serde_json::from_str(json).map_err(|error| error.to_string())?;
        window
            .read(&space(r#"{"fast": [1]}"#))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_window_becomes_two_parameters() {
        let (names, period) = read(r#"{"from": "2020-01-01", "to": "2020-12-31"}"#).unwrap();
        assert_eq!(
            names.parameters(period),
            [
                ("start".into(), "2020-01-01".into()),
                ("end".into(), "2020-12-31".into())
            ]
        );
        assert_eq!(days(period), 366);
    }

    #[test]
    fn a_window_that_makes_no_sense_is_refused() {
        for (json, words) in [
            (
                r#"{"from": "2020", "to": "2020-12-31"}"#,
                "`window.from` is \"2020\"",
            ),
            (
                r#"{"from": "2020-01-01", "to": "2020-02-30"}"#,
                "`window.to`",
            ),
            (
                r#"{"from": "2020-01-02", "to": "2020-01-02"}"#,
                "has to be later",
            ),
            (
                r#"{"start": "x", "end": "x", "from": "2020-01-01", "to": "2020-12-31"}"#,
                "two parameters",
            ),
            (
                r#"{"start": "fast", "from": "2020-01-01", "to": "2020-12-31"}"#,
                "in `grid` too",
            ),
            (r#"{"from": "2020-01-01"}"#, "to"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }

    #[test]
    fn rounds_grow_up_to_the_whole_period() {
        let whole = period("2020-01-01", "2020-09-26");
        assert_eq!(days(whole), 270);
        let found = rounds(whole, 3, 3).unwrap();
        assert_eq!(
            found.iter().map(|it| days(*it)).collect::<Vec<_>>(),
            [30, 90, 270]
        );
        assert!(found.iter().all(|it| it.last == date(2020, 9, 26)));
        assert_eq!(rounds(whole, 1, 2).unwrap(), [whole]);
        let failure = rounds(whole, 5, 3).unwrap_err().to_string();
        assert!(failure.contains("3 of 270 days"), "{failure}");
    }

    proptest! {
        #[test]
        fn windows_of_rounds_lie_in_each_other(length in 20i64..4_000, count in 1u32..5, eta in 2u32..5) {
            let first = date(2010, 1, 1);
            let whole = Period { first, last: first.checked_add(Span::new().days(length - 1)).unwrap() };
            let Ok(found) = rounds(whole, count, eta) else { return Ok(()) };
            prop_assert_eq!(*found.last().unwrap(), whole);
            for pair in found.windows(2) {
                prop_assert!(days(pair[0]) <= days(pair[1]) / i64::from(eta) + 1);
                prop_assert!(pair[0].first > pair[1].first);
            }
        }
    }
}
