//! Parameter grids: which values to try, and every combination of them.
//!
//! Invariant: the combinations of a grid always come in the same order, and a grid that is too
//! large is refused before any of it is built.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::types::ParameterSet;

/// A value of a parameter. An algorithm sees its text, as in `get_parameter("fast")`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// A number, as it was written: `20`, `0.5`.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

/// The values to try of each parameter, by its name.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let grid: qchost_sdk::grid::Grid = serde_json::from_str(r#"{"fast": [10, 20], "slow": [100, 200]}"#)?;
/// let combinations = grid.combinations(500)?;
/// assert_eq!(combinations.len(), 4);
/// assert_eq!(combinations[1], [("fast".to_string(), "10".to_string()), ("slow".to_string(), "200".to_string())]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Grid(pub BTreeMap<String, Vec<Value>>);

/// Why a grid has no combinations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// A parameter without a name.
    #[error("a parameter of the grid has an empty name")]
    Unnamed,
    /// A parameter without values: its name.
    #[error("the grid lists no value for \"{0}\"; give it at least one, or leave it out")]
    Empty(String),
    /// A value that would be tried twice: the parameter and the value.
    #[error("the grid lists {value} twice for \"{parameter}\"")]
    Repeated {
        /// The parameter.
        parameter: String,
        /// The value.
        value: String,
    },
    /// More combinations than allowed.
    #[error(
        "the grid has {} combinations and at most {limit} are allowed; list fewer values",
        match .combinations { Some(count) => count.to_string(), None => "too many".into() }
    )]
    TooLarge {
        /// How many there are; nothing if they are beyond counting.
        combinations: Option<usize>,
        /// How many are allowed.
        limit: usize,
    },
}

impl From<GridError> for Failure {
    fn from(error: GridError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl Grid {
    /// Every combination of one value of each parameter. Names are in alphabetical order, and
    /// the last of them varies fastest. A grid without parameters has one, empty, combination.
    ///
    /// # Errors
    /// If a parameter has no name, no values or the same value twice, or if there are more than
    /// `limit` combinations.
    pub fn combinations(&self, limit: usize) -> Result<Vec<ParameterSet>, GridError> {
        self.check(limit)?;
        let mut combinations = vec![ParameterSet::new()];
        for (name, values) in &self.0 {
            combinations = combinations
                .iter()
                .flat_map(|set| {
                    values.iter().map(move |value| {
                        let mut set = set.clone();
                        set.push((name.clone(), value.to_string()));
                        set
                    })
                })
                .collect();
        }
        Ok(combinations)
    }

    fn check(&self, limit: usize) -> Result<(), GridError> {
        let mut count = Some(1_usize);
        for (name, values) in &self.0 {
            if name.is_empty() {
                return Err(GridError::Unnamed);
            }
            if values.is_empty() {
                return Err(GridError::Empty(name.clone()));
            }
            count = count.and_then(|count| count.checked_mul(values.len()));
        }
        match count {
            Some(count) if count <= limit => self.check_repetitions(),
            combinations => Err(GridError::TooLarge {
                combinations,
                limit,
            }),
        }
    }

    fn check_repetitions(&self) -> Result<(), GridError> {
        for (name, values) in &self.0 {
            let mut texts: Vec<String> = values.iter().map(Value::to_string).collect();
            texts.sort();
            for pair in texts.windows(2) {
                if let [first, second] = pair
                    && first == second
                {
                    return Err(GridError::Repeated {
                        parameter: name.clone(),
                        value: first.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(json: &str) -> Grid {
        serde_json::from_str(json).unwrap()
    }

    fn texts(grid: &Grid) -> Vec<String> {
        let combinations = grid.combinations(100).unwrap();
        let join = |set: &ParameterSet| {
            let pairs: Vec<String> = set
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            pairs.join(" ")
        };
        combinations.iter().map(join).collect()
    }

    #[test]
    fn every_combination_comes_once_and_in_order() {
        let grid = grid(r#"{"slow": [100, 200], "fast": [10, 0.5, "x"], "short": [true]}"#);
        assert_eq!(
            texts(&grid),
            [
                "fast=10 short=true slow=100",
                "fast=10 short=true slow=200",
                "fast=0.5 short=true slow=100",
                "fast=0.5 short=true slow=200",
                "fast=x short=true slow=100",
                "fast=x short=true slow=200",
            ]
        );
    }

    #[test]
    fn no_parameters_are_one_combination() {
        assert_eq!(Grid::default().combinations(1), Ok(vec![Vec::new()]));
    }

    #[test]
    fn a_grid_that_makes_no_sense_is_refused_with_the_parameter() {
        let error = |json: &str| grid(json).combinations(4).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"fast": []}"#),
            "the grid lists no value for \"fast\"; give it at least one, or leave it out"
        );
        assert_eq!(
            error(r#"{"fast": [1, "1"]}"#),
            "the grid lists 1 twice for \"fast\""
        );
        assert_eq!(
            error(r#"{"": [1]}"#),
            "a parameter of the grid has an empty name"
        );
        assert_eq!(
            error(r#"{"a": [1, 2, 3], "b": [1, 2]}"#),
            "the grid has 6 combinations and at most 4 are allowed; list fewer values"
        );
    }

    #[test]
    fn a_grid_beyond_counting_is_refused_at_once() {
        let values: Vec<Value> = (0..64).map(|it| Value::Number(it.into())).collect();
        let grid = Grid(
            (0..12)
                .map(|it| (format!("p{it}"), values.clone()))
                .collect(),
        );
        assert_eq!(
            grid.combinations(500),
            Err(GridError::TooLarge {
                combinations: None,
                limit: 500
            })
        );
    }
}
