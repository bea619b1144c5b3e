//! `sweep`: a backtest for every combination of parameter values, ranked.

use std::collections::BTreeMap;

use qchost_sdk::prelude::*;
use qchost_sdk::types::ParameterSet;
use qchost_sdk::workflow::{Batch, Item};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build;
use crate::project;
use crate::ranking::{self, Miss, Row};

/// How many combinations one sweep may have.
const MAX_COMBINATIONS: usize = 500;
/// How many backtests one sweep may run at a time.
const MAX_CONCURRENCY: u32 = 32;
/// A longer name of a backtest is replaced by its number.
const MAX_NAME_LENGTH: usize = 100;

/// What to sweep.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sweep {
    /// The project, by id or by name; the one in the agent's configuration if not given. A name that no project
    /// has makes a new project.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The algorithm: the text of `main.py` (`Main.cs` in a C# project).
    #[serde(default)]
    source: Option<String>,
    /// The values to try of each parameter that the algorithm reads: at most 500 combinations.
    grid: grid::Grid,
    /// The statistic to rank by, as QuantConnect names it. Of a drawdown less is better, of anything else more.
    #[serde(default = "target")]
    target: String,
    /// How many backtests to run at a time; the host may allow fewer.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 32))]
    concurrency: u32,
}

fn target() -> String {
    "Sharpe Ratio".to_owned()
}

fn concurrency() -> u32 {
    8
}

/// The ranking.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Ranking {
    /// The project's id.
    project_id: u32,
    /// The project's name.
    project: String,
    /// The compile that the backtests ran.
    compile_id: String,
    /// The statistic that was ranked by.
    target: String,
    /// How many combinations were tried.
    combinations: usize,
    /// The parameters of the best backtest.
    best: BTreeMap<String, String>,
    /// The backtests that ended well, best first.
    ranking: Vec<Row>,
    /// The combinations that gave no result.
    failures: Vec<Miss>,
}

/// Runs the action.
pub(crate) fn run(input: Sweep) -> Result<Ranking, Failure> {
    let items = items(&input)?;
    let combinations = items.len();
    let project = project::prepare(input.project, input.source.as_deref())?;
    let compile_id = build::build(&project)?.or_failure()?;
    info!(
        project = project.id,
        combinations = combinations,
        "running {combinations} backtests of \"{}\"",
        project.name
    );
    progress::report(
        0.0,
        &format!("running {combinations} backtests of \"{}\"", project.name),
    );
    let results = workflow::run_backtests(&Batch {
        project_id: project.id,
        compile_id: compile_id.clone(),
        items,
        concurrency: input.concurrency,
    })?;
    let (ranking, failures) = ranking::rank(results, &input.target)?;
    for failure in &failures {
        warn!("{}: {}", name(failure.parameters.iter()), failure.reason);
    }
    Ok(Ranking {
        project_id: project.id,
        project: project.name,
        compile_id,
        target: input.target,
        combinations,
        best: ranking
            .first()
            .map(|it| it.parameters.clone())
            .unwrap_or_default(),
        ranking,
        failures,
    })
}

/// The backtests to run, checked before anything is touched.
fn items(input: &Sweep) -> Result<Vec<Item>, Failure> {
    if !(1..=MAX_CONCURRENCY).contains(&input.concurrency) {
        return Err(Failure::invalid_input(format!(
            "`concurrency` is {}; it goes from 1 to {MAX_CONCURRENCY}",
            input.concurrency
        )));
    }
    if input.target.trim().is_empty() {
        return Err(Failure::invalid_input(
            "`target` is empty; name a statistic, such as \"Sharpe Ratio\"",
        ));
    }
    let combinations = input.grid.combinations(MAX_COMBINATIONS)?;
    let item = |(number, parameters): (usize, ParameterSet)| {
        let name = name(parameters.iter().map(|(name, value)| (name, value)));
        Item {
            name: if name.is_empty() || name.len() > MAX_NAME_LENGTH {
                format!("sweep {number}")
            } else {
                name
            },
            parameters,
        }
    };
    Ok((1..).zip(combinations).map(item).collect())
}

/// `fast=10 slow=50`
fn name<'a>(parameters: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<String> = parameters
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Result<Vec<String>, String> {
        let input: Sweep = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let items = items(&input).map_err(|failure| failure.to_string())?;
        Ok(items.into_iter().map(|it| it.name).collect())
    }

    #[test]
    fn a_grid_becomes_named_backtests() {
        assert_eq!(
            names(r#"{"grid": {"slow": [50, 100], "fast": [10]}}"#).unwrap(),
            ["fast=10 slow=50", "fast=10 slow=100"]
        );
        assert_eq!(names(r#"{"grid": {}}"#).unwrap(), ["sweep 1"]);
        let long = format!(r#"{{"grid": {{"text": ["{}"]}}}}"#, "x".repeat(200));
        assert_eq!(names(&long).unwrap(), ["sweep 1"]);
    }

    #[test]
    fn a_sweep_that_makes_no_sense_is_refused_before_anything_is_done() {
        for (input, words) in [
            ("{}", "missing field `grid`"),
            (
                r#"{"grid": {}, "concurency": 2}"#,
                "unknown field `concurency`",
            ),
            (r#"{"grid": {"fast": []}}"#, "no value for \"fast\""),
            (r#"{"grid": {}, "concurrency": 0}"#, "`concurrency` is 0"),
            (r#"{"grid": {}, "concurrency": 33}"#, "`concurrency` is 33"),
            (r#"{"grid": {}, "target": " "}"#, "`target` is empty"),
        ] {
            let error = names(input).unwrap_err();
            assert!(error.contains(words), "{input}: {error}");
        }
        let values: Vec<u32> = (0..501).collect();
        let error = names(&format!(r#"{{"grid": {{"fast": {values:?}}}}}"#)).unwrap_err();
        assert!(
            error.contains("501 combinations and at most 500"),
            "{error}"
        );
    }
}
