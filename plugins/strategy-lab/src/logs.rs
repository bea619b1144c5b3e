//! `logs`: lines of a backtest's log.

use qchost_sdk::backtests::BacktestLogsRequest;
use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::page;
use crate::project;

/// Which lines to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logs {
    /// The project, by id or by name; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The backtest; the newest of the project if not given.
    #[serde(default)]
    backtest: Option<String>,
    /// Text that the lines contain, in any case; all lines if not given.
    #[serde(default)]
    query: Option<String>,
    /// Position of the first line, from 0, among those that contain the text.
    #[serde(default)]
    start: u32,
    /// How many lines to give at most.
    #[serde(default = "page::count")]
    #[schemars(range(min = 1, max = 200))]
    count: u32,
}

/// A part of the log.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Lines {
    /// The project's id.
    project_id: u32,
    /// The backtest.
    backtest_id: String,
    /// The lines, oldest first. Of a very long one the end is cut off.
    lines: Vec<String>,
    /// Position of the first of them.
    start: u32,
    /// The `start` of the lines after these; null if there are none.
    next: Option<u32>,
    /// How many lines there are, or contain the text.
    total: u32,
}

/// Runs the action.
pub(crate) fn run(input: Logs) -> Result<Lines, Failure> {
    page::check(input.count)?;
    let project = project::existing_or_default(input.project)?;
    let backtest = page::backtest(&project, input.backtest)?;
    let request = BacktestLogsRequest {
        project_id: project.id,
        backtest_id: backtest.clone(),
        start: input.start,
        end: input.start.saturating_add(input.count),
        query: input.query.filter(|it| !it.is_empty()),
    };
    let page = wait::until_ready(|| backtests::read_backtest_logs(&request))?;
    let lines: Vec<String> = page.logs.into_iter().map(page::cut).collect();
    let given = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    Ok(Lines {
        project_id: project.id,
        backtest_id: backtest,
        next: page::next(input.start.saturating_add(given), page.length).filter(|_| given > 0),
        lines,
        start: input.start,
        total: page.length,
    })
}
