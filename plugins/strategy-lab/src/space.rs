//! The values to try of each parameter, and the combinations of them.
//!
//! Invariant: a value has one text, the one that the algorithm sees, and no parameter has the same text twice.

use std::collections::BTreeMap;
use std::fmt;

use qchost_sdk::grid::{Grid, Value};
use qchost_sdk::prelude::*;
use qchost_sdk::types::ParameterSet;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor, value};

/// How many values a parameter may have.
const MAX_VALUES: usize = 10_000;
/// Decimal places of a stepped value: beyond them there is nothing but the error of binary fractions.
const MAX_DECIMALS: usize = 12;
/// Significant digits of a logarithmic value.
const LOG_DIGITS: usize = 6;

/// The values to try of each parameter, by its name.
pub(crate) type Axes = BTreeMap<String, Axis>;

/// The values to try of one parameter: a list of them, or a range.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Axis {
    /// These values.
    Values(Vec<Value>),
    /// The values of a range.
    Range(Range),
}

/// Values from `min` to `max`, by `step` or by `log`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    /// The first value.
    min: f64,
    /// The last value; tried if the steps meet it.
    max: f64,
    /// The distance between values, above 0.
    #[serde(default)]
    step: Option<f64>,
    /// How many values instead, each the same multiple of the one before, for a `min` above 0. They are whole numbers where
    /// `min` and `max` are, and there are fewer then if some are the same.
    #[serde(default)]
    #[schemars(range(min = 2))]
    log: Option<usize>,
}

// The error of an untagged enumeration would not say what is wrong.
impl<'de> Deserialize<'de> for Axis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Axis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values, or a range with `min`, `max` and `step` or `log`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Axis, A::Error> {
                let list = value::SeqAccessDeserializer::new(list);
                Deserialize::deserialize(list).map(Axis::Values)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Axis, A::Error> {
                let range: Range =
                    Deserialize::deserialize(value::MapAccessDeserializer::new(map))?;
                match (range.step, range.log) {
                    (None, None) => Err(A::Error::custom("a range needs `step` or `log`")),
                    (Some(_), Some(_)) => {
                        Err(A::Error::custom("a range has `step` or `log`, not both"))
                    }
                    _ => Ok(Axis::Range(range)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Axis {
    fn values(&self, name: &str) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Values(values) => Ok(values.clone()),
            Self::Range(range) => {
                let texts = range.texts().map_err(|problem| {
                    Failure::invalid_input(format!("the range of \"{name}\" {problem}"))
                })?;
                Ok(texts.into_iter().map(Value::Text).collect())
            }
        }
    }
}

impl Range {
    /// The values as texts, or what is wrong with the range.
    fn texts(&self) -> Result<Vec<String>, String> {
        if !self.min.is_finite() || !self.max.is_finite() || self.max < self.min {
            return Err(format!(
                "goes from {} to {}; `max` must not be below `min`",
                self.min, self.max
            ));
        }
        match (self.step, self.log) {
            (Some(step), None) => self.stepped(step),
            (None, Some(count)) => self.logarithmic(count),
            _ => Err("needs either `step` or `log`".to_owned()),
        }
    }

    fn stepped(&self, step: f64) -> Result<Vec<String>, String> {
        if !step.is_finite() || step <= 0.0 {
            return Err(format!("has the step {step}; it has to be above 0"));
        }
        // The last value is met although steps such as 0.1 are not exact.
        let steps = ((self.max - self.min) / step + 1e-9).floor();
        let decimals = decimals(self.min).max(decimals(step));
        let text = |value: f64| trimmed(format!("{value:.decimals$}"));
        let mut texts = Vec::new();
        for number in 0_u32.. {
            if f64::from(number) > steps {
                break;
            }
            if texts.len() == MAX_VALUES {
                return Err(format!("has more than {MAX_VALUES} values"));
            }
            texts.push(text(self.min + f64::from(number) * step));
        }
        Ok(texts)
    }

    fn logarithmic(&self, count: usize) -> Result<Vec<String>, String> {
        if self.min <= 0.0 {
            return Err(format!(
                "begins at {}; with `log` it has to be above 0",
                self.min
            ));
        }
        let last = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        if last == 0 || count > MAX_VALUES {
            return Err(format!(
                "has {count} values; `log` goes from 2 to {MAX_VALUES}"
            ));
        }
        let whole = self.min.fract() == 0.0 && self.max.fract() == 0.0;
        let growth = self.max / self.min;
        let mut texts: Vec<String> = (0..=last)
            .map(|number| {
                let value = match number {
                    0 => self.min,
                    number if number == last => self.max,
                    number => self.min * growth.powf(f64::from(number) / f64::from(last)),
                };
                if whole {
                    trimmed(format!("{value:.0}"))
                } else {
                    significant(value)
                }
            })
            .collect();
        texts.dedup();
        Ok(texts)
    }
}

/// How many decimal places a number is written with.
fn decimals(value: f64) -> usize {
    let text = value.to_string();
    let places = text.split_once('.').map_or(0, |(_, places)| places.len());
    places.min(MAX_DECIMALS)
}

/// A number with [`LOG_DIGITS`] significant digits.
fn significant(value: f64) -> String {
    let before = value.to_string();
    let whole = before.split('.').next().unwrap_or_default();
    let places = if whole == "0" {
        let fraction = before.split_once('.').map_or("", |(_, places)| places);
        let zeros = fraction.len() - fraction.trim_start_matches('0').len();
        LOG_DIGITS + zeros
    } else {
        LOG_DIGITS.saturating_sub(whole.len())
    };
    trimmed(format!("{value:.places$}"))
}

/// A decimal number without zeros that say nothing.
fn trimmed(text: String) -> String {
    if !text.contains('.') {
        return if text == "-0" { "0".to_owned() } else { text };
    }
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// All combinations, as far as they are not built.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Space {
    axes: Vec<(String, Vec<String>)>,
}

impl Space {
    /// # Errors
    /// If a parameter has no name, no values, too many or the same one twice.
    pub(crate) fn new(axes: &Axes) -> Result<Self, Failure> {
        let mut checked = Vec::new();
        for (name, axis) in axes {
            // A grid of this parameter alone has the same rules.
            let grid = Grid(BTreeMap::from([(name.clone(), axis.values(name)?)]));
            let values = grid.combinations(MAX_VALUES)?.into_iter().flatten();
            checked.push((name.clone(), values.map(|(_, value)| value).collect()));
        }
        Ok(Self { axes: checked })
    }

    /// Every combination, as [`Grid::combinations`] orders them.
    ///
    /// # Errors
    /// If there are more than `limit`.
    pub(crate) fn all(&self, limit: usize) -> Result<Vec<ParameterSet>, Failure> {
        let axes = self.axes.iter().map(|(name, values)| {
            let values = values.iter().cloned().map(Value::Text).collect();
            (name.clone(), values)
        });
        Ok(Grid(axes.collect()).combinations(limit)?)
    }

    /// How many combinations there are; `None` if they are beyond counting.
    pub(crate) fn size(&self) -> Option<usize> {
        let counts = self.counts();
        counts
            .iter()
            .try_fold(1_usize, |all, count| all.checked_mul(*count))
    }

    /// How many values each parameter has.
    pub(crate) fn counts(&self) -> Vec<usize> {
        self.axes.iter().map(|(_, values)| values.len()).collect()
    }

    /// The combination with the value at this position of each parameter; `None` where there is no such value.
    pub(crate) fn at(&self, positions: &[usize]) -> Option<ParameterSet> {
        if positions.len() != self.axes.len() {
            return None;
        }
        let pairs = self.axes.iter().zip(positions);
        pairs
            .map(|((name, values), position)| Some((name.clone(), values.get(*position)?.clone())))
            .collect()
    }

    /// Whether it has a parameter of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.axes.iter().any(|(known, _)| known == name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn space(json: &str) -> Space {
        Space::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn values(json: &str) -> Result<Vec<String>, String> {
        let axes: Axes = serde_json::from_str(&format!("{{\"p\": {json}}}"))
            .map_err(|error| error.to_string())?;
        let space = Space::new(&axes).map_err(|failure| failure.to_string())?;
        Ok(space.axes[0].1.clone())
    }

    #[test]
    fn a_range_has_the_values_that_a_person_would_write() {
        for (range, expected) in [
            (r#"{"min": 10, "max": 30, "step": 10}"#, "10 20 30"),
            (r#"{"min": 10, "max": 29, "step": 10}"#, "10 20"),
            (r#"{"min": 0.1, "max": 0.3, "step": 0.1}"#, "0.1 0.2 0.3"),
            (
                r#"{"min": -0.5, "max": 0.5, "step": 0.25}"#,
                "-0.5 -0.25 0 0.25 0.5",
            ),
            (r#"{"min": 3, "max": 3, "step": 1}"#, "3"),
            (r#"{"min": 10, "max": 1000, "log": 3}"#, "10 100 1000"),
            (r#"{"min": 1, "max": 3, "log": 5}"#, "1 2 3"),
            (r#"{"min": 0.001, "max": 0.1, "log": 3}"#, "0.001 0.01 0.1"),
            (r#"{"min": 0.5, "max": 200, "log": 3}"#, "0.5 10 200"),
            (r#"[1, 0.5, "x", true]"#, "1 0.5 x true"),
        ] {
            assert_eq!(values(range).unwrap().join(" "), expected, "{range}");
        }
        assert_eq!(
            values(r#"{"min": 1e6, "max": 3e6, "step": 1e6}"#).unwrap()[2],
            "3000000"
        );
    }

    #[test]
    fn a_range_that_makes_no_sense_is_refused_with_its_parameter() {
        for (range, words) in [
            (
                r#"{"min": 2, "max": 1, "step": 1}"#,
                "\"p\" goes from 2 to 1",
            ),
            (r#"{"min": 1, "max": 2, "step": 0}"#, "the step 0"),
            (r#"{"min": 1, "max": 2, "step": -1}"#, "the step -1"),
            (r#"{"min": 0, "max": 2, "log": 3}"#, "begins at 0"),
            (r#"{"min": 1, "max": 2, "log": 1}"#, "has 1 values"),
            (
                r#"{"min": 0, "max": 1, "step": 1e-9}"#,
                "more than 10000 values",
            ),
            (r#"{"min": 1, "max": 2}"#, "`step` or `log`"),
            (r#"{"min": 1, "max": 2, "step": 1, "log": 3}"#, "not both"),
            (r#"{"min": 1, "max": 2, "steps": 1}"#, "steps"),
            ("10", "a list of values, or a range"),
            ("[]", "no value for \"p\""),
            ("[1, \"1\"]", "lists 1 twice"),
        ] {
            let error = values(range).unwrap_err();
            assert!(error.contains(words), "{range}: {error}");
        }
    }

    #[test]
    fn a_combination_is_found_by_its_positions() {
        let space = space(r#"{"slow": [50, 100], "fast": [10, 20, 30]}"#);
        assert_eq!(space.size(), Some(6));
        let pair = |fast: &str, slow: &str| {
            vec![
                ("fast".to_owned(), fast.to_owned()),
                ("slow".to_owned(), slow.to_owned()),
            ]
        };
        assert_eq!(space.at(&[2, 0]), Some(pair("30", "50")));
        assert_eq!(space.at(&[3, 0]), None);
        assert_eq!(space.at(&[0]), None);
        assert_eq!(space.all(6).unwrap()[1], pair("10", "100"));
        assert!(space.all(5).is_err());
        assert!(space.has("slow") && !space.has("start"));
    }

    proptest! {
        #[test]
        fn steps_stay_in_their_range_and_differ(
            min in -1_000..1_000i32, width in 0..500i32, step in 1..50i32, decimals in 0..4u32,
        ) {
            let unit = 10_f64.powi(-i32::try_from(decimals).unwrap());
            let range = Range {
                min: f64::from(min) * unit,
                max: f64::from(min + width) * unit,
                step: Some(f64::from(step) * unit),
                log: None,
            };
            let texts = range.texts().unwrap();
            prop_assert_eq!(texts.len(), usize::try_from(width / step).unwrap() + 1);
            let numbers: Vec<f64> = texts.iter().map(|it| it.parse().unwrap()).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", texts);
            prop_assert!(numbers.iter().all(|it| *it >= range.min - 1e-9 && *it <= range.max + 1e-9));
        }

        #[test]
        fn logarithmic_values_rise_from_the_first_to_the_last(
            min in 1e-6..1e3f64, growth in 1.5..1e4f64, count in 2usize..40,
        ) {
            let range = Range { min, max: min * growth, step: None, log: Some(count) };
            let texts = range.texts().unwrap();
            let numbers: Vec<f64> = texts.iter().map(|it| it.parse().unwrap()).collect();
            prop_assert!(numbers.len() <= count);
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", texts);
            prop_assert!((numbers[0] / min - 1.0).abs() < 1e-4);
            prop_assert!((numbers[numbers.len() - 1] / range.max - 1.0).abs() < 1e-4);
        }

        #[test]
        fn any_range_is_values_or_a_refusal(min: f64, max: f64, step: f64, log: usize, logarithmic: bool) {
            let range = Range {
                min,
                max,
                step: (!logarithmic).then_some(step),
                log: logarithmic.then_some(log),
            };
            if let Ok(texts) = range.texts() {
                prop_assert!(!texts.is_empty() && texts.len() <= MAX_VALUES);
            }
        }
    }
}
