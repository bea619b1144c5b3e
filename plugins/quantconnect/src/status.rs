//! `status`: what there is to know of a backtest.

use qchost_sdk::backtests::{BacktestLogsRequest, BacktestStatus, BacktestSummary};
use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::run::language;
use crate::summary::{Problem, Summary};

/// Most backtests that an error names.
const MAX_NAMED: usize = 10;

/// Which backtest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Query {
    /// The project, by id or by name.
    project: ProjectReference,
    /// Id of the backtest. Without it, the one that is running.
    #[serde(default)]
    backtest: Option<String>,
    /// Number of lines from the end of the log. They count towards the organisation's daily quota.
    #[serde(default = "lines")]
    #[schemars(range(max = 200))]
    logs: u32,
}

fn lines() -> u32 {
    20
}

/// A backtest.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Status {
    /// Id of the project.
    project_id: u32,
    #[serde(flatten)]
    summary: Summary,
    /// The last lines of its log, oldest first.
    logs: Vec<String>,
    /// Number of lines of the whole log.
    log_length: Option<u32>,
    /// Why there are no lines of the log.
    no_logs: Option<String>,
    /// The error that ended the algorithm.
    error: Option<Problem>,
}

/// Runs the action.
pub(crate) fn run(input: Query) -> Result<Status, Failure> {
    let project = input.project.find()?;
    let id = project.project_id;
    let backtest = match input.backtest {
        Some(backtest) => backtest,
        None => running(id)?,
    };
    progress::report(0.3, "reading the backtest");
    let backtest = wait::until_ready(|| backtests::read_backtest(id, &backtest))?;
    progress::report(0.6, "reading its log");
    let log = match input.logs {
        0 => Ok((Vec::new(), None)),
        lines => tail(id, &backtest.backtest_id, lines),
    };
    let (log, no_logs) = match log {
        Ok(log) => (log, None),
        Err(error) => ((Vec::new(), None), Some(error.to_string())),
    };
    let (logs, log_length) = log;
    Ok(Status {
        project_id: id,
        error: Problem::of(&language(&project), &backtest),
        summary: Summary::of(&backtest),
        logs,
        log_length,
        no_logs,
    })
}

/// The end of a log. Where it is, its first line tells.
fn tail(project: u32, backtest: &str, lines: u32) -> Result<(Vec<String>, Option<u32>), Error> {
    let read = |start: u32, end: u32| {
        backtests::read_backtest_logs(&BacktestLogsRequest {
            project_id: project,
            backtest_id: backtest.to_owned(),
            start,
            end,
            query: None,
        })
    };
    let lines = lines.min(200);
    let first = read(0, lines)?;
    if first.length <= lines {
        return Ok((first.logs, Some(first.length)));
    }
    let last = read(first.length - lines, first.length)?;
    Ok((last.logs, Some(last.length)))
}

/// The one backtest of a project that has not ended.
fn running(project: u32) -> Result<String, Failure> {
    answers::left_out();
    let list = wait::until_ready(|| backtests::list_backtests(project, None))?;
    if answers::left_out() > 0 {
        return Err(Failure::failed(
            "the list of the project's backtests came incomplete: name one with `backtest`",
        ));
    }
    only(&list.backtests)
}

fn only(backtests: &[BacktestSummary]) -> Result<String, Failure> {
    let is_underway = |it: &&BacktestSummary| {
        matches!(
            it.status,
            Some(BacktestStatus::InQueue | BacktestStatus::Running)
        )
    };
    let running: Vec<&BacktestSummary> = backtests.iter().filter(is_underway).collect();
    match running.as_slice() {
        [one] => Ok(one.backtest_id.clone()),
        [] => Err(Failure::invalid_input(match backtests {
            [] => "the project has no backtest".to_owned(),
            some => format!(
                "no backtest of the project is running: give the id of one as `backtest`, such as {}",
                named(some.iter())
            ),
        })),
        several => Err(Failure::invalid_input(format!(
            "several backtests of the project are running: give the id of one as `backtest`: {}",
            named(several.iter().copied())
        ))),
    }
}

fn named<'a>(backtests: impl ExactSizeIterator<Item = &'a BacktestSummary>) -> String {
    let more = backtests.len().saturating_sub(MAX_NAMED);
    let names = backtests.take(MAX_NAMED).map(|it| match &it.name {
        Some(name) => format!("{} (\"{name}\")", it.backtest_id),
        None => it.backtest_id.clone(),
    });
    let mut text = names.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backtest(id: &str, status: BacktestStatus) -> BacktestSummary {
        BacktestSummary {
            backtest_id: id.into(),
            name: Some(format!("name of {id}")),
            status: Some(status),
            ..BacktestSummary::default()
        }
    }

    #[test]
    fn without_an_id_it_is_the_one_that_is_running() {
        let all = [
            backtest("newest", BacktestStatus::Completed),
            backtest("one", BacktestStatus::InQueue),
        ];
        assert_eq!(only(&all), Ok("one".into()));
    }

    #[test]
    fn it_is_never_just_the_latest() {
        let ended = [
            backtest("a", BacktestStatus::Completed),
            backtest("b", BacktestStatus::RuntimeError),
        ];
        let failure = only(&ended).unwrap_err().to_string();
        assert!(
            failure.contains("such as a (\"name of a\"), b"),
            "{failure}"
        );
        let running = [
            backtest("a", BacktestStatus::Running),
            backtest("b", BacktestStatus::InQueue),
        ];
        let failure = only(&running).unwrap_err().to_string();
        assert!(
            failure.contains("several") && failure.contains("a (") && failure.contains("b ("),
            "{failure}"
        );
        assert!(
            only(&[])
                .unwrap_err()
                .to_string()
                .contains("has no backtest")
        );
        let many: Vec<_> = (0..12)
            .map(|at| backtest(&at.to_string(), BacktestStatus::Running))
            .collect();
        assert!(
            only(&many)
                .unwrap_err()
                .to_string()
                .ends_with(", and 2 more")
        );
    }
}
