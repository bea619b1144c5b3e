//! How much a result depends on the exact values of the parameters: the neighbours of the optimum on the grid.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::undefined::{Undefined, check};

/// A combination of parameters with the statistic that it gave; more is better.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trial {
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The optimum and its neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Sensitivity {
    /// The parameters of the best combination.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Its statistic.
    pub(crate) optimum: f64,
    /// How many combinations differ from it by one step of one parameter.
    pub(crate) neighbours: usize,
    /// The mean of their statistic.
    pub(crate) mean: f64,
    /// The worst of their statistic.
    pub(crate) worst: f64,
    /// What the statistic loses to the mean of the neighbours, as a share of the optimum's size; null for an optimum of 0.
    pub(crate) drop: Option<f64>,
    /// The share of the neighbours with at least the threshold, from 0 to 1.
    pub(crate) share_above: f64,
    /// The threshold: the optimum less `tolerance` of its size.
    pub(crate) threshold: f64,
}

/// Compares the best trial, of equal ones the first, with its neighbours.
///
/// A parameter's grid is the distinct values that the trials have, by size if all are numbers. A neighbour has the value
/// before or after the optimum's in one parameter, and the same values in all others. Threshold: optimum - tolerance·|optimum|.
///
/// # Errors
/// [`Undefined::TooFew`] without trials or neighbours, [`Undefined::NotFinite`], and [`Undefined::OutOfRange`] for a tolerance
/// outside of 0 to 1.
pub(crate) fn sensitivity(trials: &[Trial], tolerance: f64) -> Result<Sensitivity, Undefined> {
    if !(0.0..=1.0).contains(&tolerance) {
        return Err(Undefined::OutOfRange("the tolerance has to be from 0 to 1"));
    }
    let values: Vec<f64> = trials.iter().map(|it| it.value).collect();
    check(&values, "trials", 1)?;
    let Some(optimum) = trials.get(super::overfitting::best(&values)) else {
        return Err(Undefined::TooFew {
            what: "trials",
            needed: 1,
            given: 0,
        });
    };
    let grids = grids(trials);
    let neighbours: Vec<f64> = trials
        .iter()
        .filter(|trial| are_neighbours(&grids, &trial.parameters, &optimum.parameters))
        .map(|trial| trial.value)
        .collect();
    check(&neighbours, "neighbours on the grid", 1)?;
    let count = neighbours.len() as f64;
    // Divided first, so that no sum overflows.
    let mean: f64 = neighbours.iter().map(|value| value / count).sum();
    let size = optimum.value.abs();
    let threshold = optimum.value - tolerance * size;
    let above = neighbours
        .iter()
        .filter(|value| **value >= threshold)
        .count();
    let drop = (optimum.value - mean) / size;
    Ok(Sensitivity {
        parameters: optimum.parameters.clone(),
        optimum: optimum.value,
        neighbours: neighbours.len(),
        mean,
        worst: neighbours.iter().copied().fold(f64::INFINITY, f64::min),
        drop: drop.is_finite().then_some(drop),
        share_above: above as f64 / count,
        threshold,
    })
}

/// The distinct values of each parameter, in order.
fn grids(trials: &[Trial]) -> BTreeMap<&str, Vec<&str>> {
    let mut distinct: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in trials.iter().flat_map(|trial| &trial.parameters) {
        distinct.entry(name).or_default().insert(value);
    }
    let grids = distinct.into_iter();
    grids
        .map(|(name, values)| (name, ordered(values)))
        .collect()
}

/// By size if all are numbers, otherwise as text.
fn ordered(values: BTreeSet<&str>) -> Vec<&str> {
    let mut values: Vec<_> = values.into_iter().collect();
    if values.iter().all(|it| it.parse::<f64>().is_ok()) {
        values.sort_by(|a, b| by_size(a, b));
    }
    values
}

fn by_size(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => Ordering::Equal,
    }
}

fn are_neighbours(
    grids: &BTreeMap<&str, Vec<&str>>,
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
) -> bool {
    if !a.keys().eq(b.keys()) {
        return false;
    }
    let mut different = a.iter().zip(b).filter(|(a, b)| a != b);
    let (Some(((name, a), (_, b))), None) = (different.next(), different.next()) else {
        return false;
    };
    let place = |value: &str| grids.get(name.as_str())?.iter().position(|it| *it == value);
    match (place(a), place(b)) {
        (Some(a), Some(b)) => a.abs_diff(b) == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trial(fast: &str, slow: &str, value: f64) -> Trial {
        let parameters = [("fast", fast), ("slow", slow)];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Trial {
            parameters: parameters.into(),
            value,
        }
    }

    #[test]
    fn neighbours_are_one_step_of_one_parameter_away() {
        let trials = [
            trial("9", "50", 0.1),
            trial("10", "50", 1.0),
            trial("100", "50", 2.0),
            trial("200", "50", 0.9),
            trial("100", "60", 1.7),
            trial("10", "60", 1.9),
            trial("100", "70", 1.8),
        ];
        let found = sensitivity(&trials, 0.2).unwrap();
        assert_eq!(found.parameters["fast"], "100");
        assert_eq!((found.optimum, found.neighbours), (2.0, 3));
        assert!((found.mean - 1.2).abs() < 1e-15);
        assert_eq!((found.worst, found.threshold), (0.9, 1.6));
        assert!((found.drop.unwrap() - 0.4).abs() < 1e-15);
        assert!((found.share_above - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn what_has_no_neighbours_says_so() {
        for (trials, tolerance, reason) in [
            (vec![], 0.2, "at least 1 trials, and there are 0"),
            (
                vec![trial("1", "2", 1.0)],
                0.2,
                "1 neighbours on the grid, and there are 0",
            ),
            (vec![trial("1", "2", f64::NAN)], 0.2, "not finite"),
            (vec![trial("1", "2", 1.0)], 2.0, "from 0 to 1"),
        ] {
            let error = sensitivity(&trials, tolerance).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let zero = [trial("1", "2", 0.0), trial("2", "2", -1.0)];
        assert_eq!(sensitivity(&zero, 0.2).unwrap().drop, None);
    }

    proptest! {
        #[test]
        fn no_neighbour_is_better(values in proptest::collection::vec(-1e300..1e300f64, 2..30)) {
            let trials: Vec<Trial> = values.iter().enumerate().map(|(at, value)| trial(&at.to_string(), "1", *value)).collect();
            let found = sensitivity(&trials, 0.2).unwrap();
            prop_assert!(found.worst <= found.optimum && found.mean <= found.optimum.next_up());
            prop_assert!((1..=2).contains(&found.neighbours));
            prop_assert!((0.0..=1.0).contains(&found.share_above));
        }
    }
}
