//! `backtest`: one run, summarised.

use std::collections::BTreeMap;

use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build;
use crate::checks;
use crate::figures::{self, Figures};

/// What to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backtest {
    /// The project, by id or by name; the one in the agent's configuration if not given. A name that no project
    /// has makes a new project.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The algorithm: the text of `main.py` (`Main.cs` in a C# project).
    #[serde(default)]
    source: Option<String>,
    /// Parameters that replace the defaults in the source.
    #[serde(default)]
    parameters: BTreeMap<String, grid::Value>,
    /// The backtest's name.
    #[serde(default = "name")]
    name: String,
    /// Whether to have QuantConnect check the syntax and the `initialize` first; nothing is run if an error is found.
    #[serde(default)]
    check: bool,
}

fn name() -> String {
    "strategy-lab".to_owned()
}

/// What came of it.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Summary {
    /// The project's id.
    project_id: u32,
    /// The compile that ran.
    compile_id: String,
    /// Identifies the backtest at QuantConnect.
    backtest_id: String,
    /// Its name.
    name: Option<String>,
    /// The parameters it ran with.
    parameters: BTreeMap<String, String>,
    /// First simulated instant.
    start: Option<String>,
    /// Last simulated instant.
    end: Option<String>,
    #[serde(flatten)]
    figures: Figures,
    /// When the last order was filled; null if there was none.
    last_fill: Option<String>,
    /// Every statistic as QuantConnect writes it.
    statistics: BTreeMap<String, String>,
}

/// Runs the action.
pub(crate) fn run(input: Backtest) -> Result<Summary, Failure> {
    let parameters = input
        .parameters
        .into_iter()
        .map(|(name, value)| (name, value.to_string()));
    let parameters: Vec<(String, String)> = parameters.collect();
    let project = checks::prepare(input.project, input.source.as_deref(), input.check)?;
    let compile_id = build::build(&project)?.or_failure()?;
    progress::report(0.0, &format!("running \"{}\"", input.name));
    let backtest = workflow::backtest_and_wait(project.id, &compile_id, &input.name, &parameters)?;
    if let Some(reason) = figures::reason_of_failure(&backtest) {
        return Err(Failure::failed(format!(
            "backtest {} failed: {reason}",
            backtest.backtest_id
        )));
    }
    let last_fill = last_fill(project.id, &backtest.backtest_id)?;
    let statistics = backtest.statistics.iter();
    Ok(Summary {
        project_id: project.id,
        compile_id,
        figures: Figures::of(&backtest),
        statistics: statistics
            .map(|it| (it.name.clone(), it.text.clone()))
            .collect(),
        parameters: figures::parameters(&backtest.parameter_set),
        name: backtest.name,
        start: backtest.backtest_start,
        end: backtest.backtest_end,
        last_fill,
        backtest_id: backtest.backtest_id,
    })
}

/// When the last order was filled. The number of orders is in every page, so the last one is
/// found with two calls.
fn last_fill(project: u32, backtest: &str) -> Result<Option<String>, Failure> {
    let page = |start: u32| {
        wait::until_ready(|| {
            backtests::read_backtest_orders(project, backtest, start, start.saturating_add(1))
        })
    };
    let Some(last) = page(0)?.length.checked_sub(1) else {
        return Ok(None);
    };
    let orders = page(last)?.orders;
    Ok(orders
        .into_iter()
        .next_back()
        .and_then(|order| order.last_fill_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_default() {
        let input: Backtest = serde_json::from_str("{}").unwrap();
        assert_eq!(input.project, None);
        assert_eq!(input.name, "strategy-lab");
        assert!(input.parameters.is_empty());
        assert!(serde_json::from_str::<Backtest>(r#"{"parameters": {"fast": [1]}}"#).is_err());
    }
}
