//! `sweep`: backtests with combinations of parameter values, ranked.

use std::collections::BTreeMap;

use qchost_sdk::prelude::*;
use qchost_sdk::workflow::Batch;
use serde::{Deserialize, Serialize};

use crate::build;
use crate::checks;
use crate::method::Method;
use crate::race::{self, Race, Round};
use crate::ranking::{Miss, Row};
use crate::space::{Axes, Space};
use crate::stability::{self, Agreement};
use crate::window::Window;

/// How many backtests one sweep may run at a time.
const MAX_CONCURRENCY: u32 = 32;
/// How many backtests one invocation may start.
pub(crate) const MAX_BUDGET: usize = 1000;

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
    /// The values to try of each parameter that the algorithm reads: a list, or a range of `min`, `max` and `step` or `log`. At
    /// most 500 combinations are tried.
    grid: Axes,
    /// How the combinations are chosen; every one if not given.
    #[serde(default)]
    method: Method,
    /// The period of the backtests, where the algorithm reads it from parameters. Halving needs it.
    #[serde(default)]
    window: Option<Window>,
    /// The statistic to rank by, as QuantConnect names it. Of a drawdown less is better, of anything else more.
    #[serde(default = "target")]
    target: String,
    /// How many backtests the sweep may start; checked before anything is sent.
    #[serde(default = "budget")]
    #[schemars(range(min = 1, max = 1000))]
    budget: usize,
    /// How many backtests to run at a time; the host may allow fewer.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 32))]
    concurrency: u32,
    /// Whether to have QuantConnect check the syntax and the `initialize` first; nothing is run if an error is found.
    #[serde(default)]
    check: bool,
}

pub(crate) fn target() -> String {
    "Sharpe Ratio".to_owned()
}

pub(crate) fn budget() -> usize {
    MAX_BUDGET
}

pub(crate) fn concurrency() -> u32 {
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
    /// The backtests that ended well, best first; those of the last round where there are several.
    ranking: Vec<Row>,
    /// The combinations that gave no result.
    failures: Vec<Miss>,
    /// The rounds: one, or those of halving.
    rounds: Vec<Round>,
    /// How far the ranking agrees with those by other statistics.
    agreement: Vec<Agreement>,
}

/// Runs the action.
pub(crate) fn run(input: Sweep) -> Result<Ranking, Failure> {
    let race = plan(&input)?;
    let combinations = race.combinations();
    let project = checks::prepare(input.project, input.source.as_deref(), input.check)?;
    let compile_id = build::build(&project)?.or_failure()?;
    info!(
        project = project.id,
        combinations = combinations,
        "trying {combinations} combinations in {} backtests of \"{}\"",
        race.backtests(),
        project.name
    );
    let mut races = [race];
    race::run(&mut races, &input.target, |round, items| {
        progress::report(
            0.0,
            &format!(
                "{round}: running {} backtests of \"{}\"",
                items.len(),
                project.name
            ),
        );
        Ok(workflow::run_backtests(&Batch {
            project_id: project.id,
            compile_id: compile_id.clone(),
            items,
            concurrency: input.concurrency,
        })?)
    })?;
    let [race] = races;
    let found = race.finish()?;
    for miss in &found.misses {
        warn!("{}: {}", race::name(miss.parameters.iter()), miss.reason);
    }
    Ok(Ranking {
        project_id: project.id,
        project: project.name,
        compile_id,
        combinations,
        best: found
            .ranking
            .first()
            .map(|it| it.parameters.clone())
            .unwrap_or_default(),
        agreement: stability::agreement(&found.ranking, &input.target),
        target: input.target,
        ranking: found.ranking,
        failures: found.misses,
        rounds: found.rounds,
    })
}

/// The search, checked before anything is touched.
fn plan(input: &Sweep) -> Result<Race, Failure> {
    check(&input.target, input.concurrency)?;
    let space = Space::new(&input.grid)?;
    let window = input.window.as_ref();
    let window = window.map(|window| window.read(&space)).transpose()?;
    let race = Race::new(&input.method, &space, window)?;
    afford(race.backtests(), input.budget)?;
    Ok(race)
}

/// Checks what sweeps have in common.
pub(crate) fn check(target: &str, concurrency: u32) -> Result<(), Failure> {
    if !(1..=MAX_CONCURRENCY).contains(&concurrency) {
        return Err(Failure::invalid_input(format!(
            "`concurrency` is {concurrency}; it goes from 1 to {MAX_CONCURRENCY}"
        )));
    }
    if target.trim().is_empty() {
        return Err(Failure::invalid_input(
            "`target` is empty; name a statistic, such as \"Sharpe Ratio\"",
        ));
    }
    Ok(())
}

/// Checks that a number of backtests is within the budget.
pub(crate) fn afford(backtests: usize, budget: usize) -> Result<(), Failure> {
    if !(1..=MAX_BUDGET).contains(&budget) {
        return Err(Failure::invalid_input(format!(
            "`budget` is {budget}; it goes from 1 to {MAX_BUDGET}"
        )));
    }
    if backtests > budget {
        return Err(Failure::invalid_input(format!(
            "it takes {backtests} backtests, and `budget` is {budget}; nothing was sent"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<Race, String> {
        let input: Sweep = serde_json::from_str(json).map_err(|error| error.to_string())?;
        plan(&input).map_err(|failure| failure.to_string())
    }

    fn names(json: &str) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        // Only the names are wanted, so the batch is refused.
        let stopped = race::run(&mut [planned(json)?], "Sharpe Ratio", |_, items| {
            names = items.into_iter().map(|it| it.name).collect();
            Err(Failure::from("stopped"))
        });
        assert!(stopped.is_err());
        Ok(names)
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
    fn a_window_is_part_of_each_backtest() {
        let swept = r#"{"grid": {"fast": [10]}, "window": {"end": "until", "from": "2020-01-01", "to": "2020-06-30"}}"#;
        assert_eq!(
            names(swept).unwrap(),
            ["fast=10 start=2020-01-01 until=2020-06-30"]
        );
    }

    #[test]
    fn a_method_chooses_what_is_tried() {
        let swept = |method: &str| {
            let grid = r#""grid": {"fast": {"min": 1, "max": 100, "step": 1}}"#;
            let window = r#""window": {"from": "2020-01-01", "to": "2020-12-31"}"#;
            planned(&format!("{{{grid}, {window}, \"method\": {method}}}")).unwrap()
        };
        let counts = |race: Race| (race.combinations(), race.backtests());
        assert_eq!(counts(swept(r#"{"kind": "grid"}"#)), (100, 100));
        assert_eq!(counts(swept(r#"{"kind": "random", "samples": 7}"#)), (7, 7));
        assert_eq!(counts(swept(r#"{"kind": "sobol", "samples": 8}"#)), (8, 8));
        let halving = r#"{"kind": "halving", "samples": 9, "eta": 3, "rungs": 3}"#;
        assert_eq!(counts(swept(halving)), (9, 13));
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
            (r#"{"grid": {"fast": 1}}"#, "a list of values, or a range"),
            (r#"{"grid": {}, "budget": 0}"#, "`budget` is 0"),
            (
                r#"{"grid": {"fast": [1, 2]}, "budget": 1}"#,
                "takes 2 backtests",
            ),
            (
                r#"{"grid": {}, "method": {"kind": "halving"}}"#,
                "needs `window`",
            ),
            (r#"{"grid": {}, "method": "random"}"#, "enum Method"),
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
