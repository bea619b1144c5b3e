//! How a sweep chooses what it tries: every combination, some by chance, some evenly spread, or a race in which the worse ones
//! leave early.
//!
//! Invariant: the same input chooses the same combinations in the same order, on every machine, and none twice.

use std::collections::BTreeSet;

use qchost_sdk::prelude::*;
use qchost_sdk::types::ParameterSet;
use rand_pcg::Pcg32;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::robustness::monte_carlo::below;
use crate::sobol::{self, Sobol};
use crate::space::Space;

/// How many combinations one sweep may try.
pub(crate) const MAX_COMBINATIONS: usize = 500;
/// Stream of the generator, apart from those of the robustness statistics.
const STREAM: u64 = 3;
/// Points of Sobol's sequence that are looked at for each combination that is wanted: many fall into the same one where
/// parameters have few values.
const POINTS_PER_SAMPLE: usize = 100;

/// How combinations are chosen.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Method {
    /// Every combination.
    #[default]
    Grid,
    /// Some, by chance, all equally likely and none twice.
    Random {
        /// How many.
        #[schemars(range(min = 1, max = 500))]
        samples: usize,
        /// The same seed chooses the same ones.
        #[serde(default = "seed")]
        seed: u64,
    },
    /// Some, spread evenly by Sobol's sequence, none twice; at most 10 parameters.
    Sobol {
        /// How many.
        #[schemars(range(min = 1, max = 500))]
        samples: usize,
    },
    /// Successive halving: all begin with a short window, and the best of each round go on with a longer one, up to the whole.
    /// The algorithm reads the window from parameters: see `window`.
    Halving {
        /// How many combinations to begin with, by chance; every one if not given.
        #[serde(default)]
        #[schemars(range(min = 1, max = 500))]
        samples: Option<usize>,
        /// The same seed chooses the same ones.
        #[serde(default = "seed")]
        seed: u64,
        /// How many rounds.
        #[serde(default = "rungs")]
        #[schemars(range(min = 2, max = 6))]
        rungs: u32,
        /// One of `eta` combinations goes on to the next round, whose window is `eta` times as long.
        #[serde(default = "eta")]
        #[schemars(range(min = 2, max = 10))]
        eta: u32,
    },
}

fn seed() -> u64 {
    1
}

fn rungs() -> u32 {
    3
}

fn eta() -> u32 {
    3
}

impl Method {
    /// The rounds of a search and how many of the combinations go on: one round for anything but halving.
    pub(crate) fn rounds(&self) -> Result<(u32, u32), Failure> {
        match self {
            Self::Halving { rungs, eta, .. } => {
                if !(2..=6).contains(rungs) || !(2..=10).contains(eta) {
                    return Err(Failure::invalid_input(format!(
                        "halving has {rungs} rungs and eta {eta}; `rungs` goes from 2 to 6, `eta` from 2 to 10"
                    )));
                }
                Ok((*rungs, *eta))
            }
            _ => Ok((1, 2)),
        }
    }

    /// The combinations to begin with.
    ///
    /// # Errors
    /// If there are too many of them, or fewer than are wanted.
    pub(crate) fn candidates(&self, space: &Space) -> Result<Vec<ParameterSet>, Failure> {
        match self {
            Self::Grid | Self::Halving { samples: None, .. } => space.all(MAX_COMBINATIONS),
            Self::Random { samples, seed }
            | Self::Halving {
                samples: Some(samples),
                seed,
                ..
            } => random(space, enough(space, *samples)?, *seed),
            Self::Sobol { samples } => evenly(space, enough(space, *samples)?),
        }
    }
}

/// Checks that there are `samples` combinations.
fn enough(space: &Space, samples: usize) -> Result<usize, Failure> {
    if !(1..=MAX_COMBINATIONS).contains(&samples) {
        return Err(Failure::invalid_input(format!(
            "`samples` is {samples}; it goes from 1 to {MAX_COMBINATIONS}"
        )));
    }
    match space.size() {
        Some(size) if size < samples => Err(Failure::invalid_input(format!(
            "there are {size} combinations, and `samples` is {samples}; ask for fewer, or list more values"
        ))),
        _ => Ok(samples),
    }
}

fn random(space: &Space, samples: usize, seed: u64) -> Result<Vec<ParameterSet>, Failure> {
    let counts = space.counts();
    let mut generator = Pcg32::new(seed, STREAM);
    // Drawing again what was drawn before keeps all sets of combinations equally likely. At worst, all of at most 500
    // combinations are wanted, which takes some thousand draws.
    let points = std::iter::repeat_with(|| {
        let positions = counts.iter().map(|count| below(&mut generator, *count));
        positions.collect()
    });
    distinct(space, samples, points)
}

fn evenly(space: &Space, samples: usize) -> Result<Vec<ParameterSet>, Failure> {
    let counts = space.counts();
    let points = Sobol::new(counts.len()).ok_or_else(|| {
        Failure::invalid_input(format!(
            "there are {} parameters, and `sobol` takes at most {}; use `random`",
            counts.len(),
            sobol::MAX_DIMENSIONS
        ))
    })?;
    let positions = points.map(|point| {
        let parts = point.iter().zip(&counts);
        parts.map(|(it, count)| sobol::part(*it, *count)).collect()
    });
    let found = distinct(space, samples, positions.take(samples * POINTS_PER_SAMPLE))?;
    if found.len() < samples {
        return Err(Failure::invalid_input(format!(
            "the sequence meets only {} of the combinations; ask for fewer `samples`, or use `random`",
            found.len()
        )));
    }
    Ok(found)
}

/// The first different combinations at these positions.
fn distinct(
    space: &Space,
    samples: usize,
    positions: impl Iterator<Item = Vec<usize>>,
) -> Result<Vec<ParameterSet>, Failure> {
    let mut seen = BTreeSet::new();
    let new = positions.filter(|it| seen.insert(it.clone()));
    new.take(samples)
        .map(|positions| {
            space
                .at(&positions)
                .ok_or_else(|| Failure::from("a position has no value"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::space::tests::space;

    fn method(json: &str) -> Method {
        serde_json::from_str(json).unwrap()
    }

    fn refused(method: &str, values: &str) -> String {
        let method: Method = match serde_json::from_str(method) {
            Ok(method) => method,
            Err(error) => return error.to_string(),
        };
        if let Err(failure) = method.rounds() {
            return failure.to_string();
        }
        method.candidates(&space(values)).unwrap_err().to_string()
    }

    #[test]
    fn a_grid_is_every_combination_in_order() {
        let space = space(r#"{"slow": [50, 100], "fast": [10, 20]}"#);
        assert_eq!(Method::default(), Method::Grid);
        assert_eq!(
            Method::Grid.candidates(&space).unwrap(),
            space.all(4).unwrap()
        );
        let halving = method(r#"{"kind": "halving"}"#);
        assert_eq!(halving.candidates(&space).unwrap().len(), 4);
        assert_eq!(halving.rounds(), Ok((3, 3)));
        assert_eq!(Method::Grid.rounds().unwrap().0, 1);
    }

    #[test]
    fn chance_is_repeated_by_its_seed() {
        let space = space(
            r#"{"a": {"min": 1, "max": 50, "step": 1}, "b": {"min": 1, "max": 50, "step": 1}}"#,
        );
        let chosen = |seed| random(&space, 20, seed).unwrap();
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }

    #[test]
    fn sobol_spreads_over_all_values() {
        let space = space(r#"{"a": [1, 2, 3, 4], "b": [1, 2, 3, 4]}"#);
        let chosen = evenly(&space, 4).unwrap();
        for parameter in 0..2 {
            let values: BTreeSet<&str> = chosen.iter().map(|it| it[parameter].1.as_str()).collect();
            assert_eq!(values.len(), 4, "{chosen:?}");
        }
        assert_eq!(evenly(&space, 16).unwrap().len(), 16);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let four = r#"{"a": [1, 2], "b": [1, 2]}"#;
        let eleven: Vec<String> = (0..11).map(|it| format!("\"p{it}\": [1, 2]")).collect();
        let eleven = format!("{{{}}}", eleven.join(", "));
        for (method, values, words) in [
            (
                r#"{"kind": "random", "samples": 5}"#,
                four,
                "there are 4 combinations",
            ),
            (
                r#"{"kind": "random", "samples": 0}"#,
                four,
                "`samples` is 0",
            ),
            (
                r#"{"kind": "sobol", "samples": 501}"#,
                four,
                "`samples` is 501",
            ),
            (
                r#"{"kind": "sobol", "samples": 2}"#,
                &eleven,
                "11 parameters",
            ),
            (r#"{"kind": "halving", "rungs": 1}"#, four, "1 rungs"),
            (r#"{"kind": "halving", "eta": 1}"#, four, "eta 1"),
            (r#"{"kind": "genetic"}"#, four, "genetic"),
            (r#"{"kind": "sobol"}"#, four, "samples"),
            (
                r#"{"kind": "sobol", "samples": 2, "seed": 3}"#,
                four,
                "seed",
            ),
        ] {
            let error = refused(method, values);
            assert!(error.contains(words), "{method}: {error}");
        }
    }

    proptest! {
        #[test]
        fn chosen_combinations_differ_and_are_of_the_space(
            counts in proptest::collection::vec(1usize..8, 1..5), seed: u64, share in 1usize..=100, even: bool,
        ) {
            let axes: Vec<String> = counts
                .iter()
                .enumerate()
                .map(|(at, count)| format!("\"p{at}\": {:?}", (0..*count).collect::<Vec<_>>()))
                .collect();
            let space = space(&format!("{{{}}}", axes.join(", ")));
            let size = space.size().unwrap().min(MAX_COMBINATIONS);
            let samples = (size * share / 100).max(1);
            let method = if even { Method::Sobol { samples } } else { Method::Random { samples, seed } };
            let Ok(found) = method.candidates(&space) else {
                // Only the sequence may miss some.
                prop_assert!(even);
                return Ok(());
            };
            prop_assert_eq!(found.len(), samples);
            let distinct: BTreeSet<_> = found.iter().collect();
            prop_assert_eq!(distinct.len(), samples);
            prop_assert_eq!(method.candidates(&space).unwrap(), found.clone());
            for set in &found {
                prop_assert_eq!(set.len(), counts.len());
                for ((_, value), count) in set.iter().zip(&counts) {
                    prop_assert!(value.parse::<usize>().unwrap() < *count);
                }
            }
        }
    }
}
