//! `run`: compiles a project, runs a backtest and waits for it.

use std::collections::BTreeMap;

use qchost_sdk::backtests::Backtest;
use qchost_sdk::compile::{self as compiler, Outcome as Compiled};
use qchost_sdk::prelude::*;
use qchost_sdk::types::{Language, Readiness};
use serde::{Deserialize, Serialize};

use crate::summary::{Problem, State, Summary, state};

/// What the beginning of a backtest's progress is, once it is compiled.
const COMPILED: f64 = 0.1;
/// Most lines of the compiler in a failure.
const MAX_LINES: usize = 50;
const ERROR: &str = "Build Error:";

/// What to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Run {
    /// The project, by id or by name. It must exist.
    project: ProjectReference,
    /// Name of the backtest.
    #[serde(default = "name")]
    name: String,
    /// Parameters that replace the defaults in the source.
    #[serde(default)]
    parameters: BTreeMap<String, grid::Value>,
}

fn name() -> String {
    "quantconnect".to_owned()
}

/// What came of it.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Outcome {
    /// Id of the project.
    project_id: u32,
    /// The compile that is run.
    compile_id: String,
    #[serde(flatten)]
    summary: Summary,
    /// What to do next, if it has not ended.
    next: Option<String>,
}

/// Runs the action.
pub(crate) fn run(input: Run) -> Result<Outcome, Failure> {
    let project = input.project.find()?;
    let (id, language) = (project.project_id, language(&project));
    progress::report(0.0, &format!("compiling \"{}\"", project.name));
    let compiled = compile(id)?;
    if let Some(words) = words_of_failure(&compiled)? {
        return Err(
            Problem::explained(&language, &words, None).failure("the project does not compile")
        );
    }
    progress::report(COMPILED, &format!("starting \"{}\"", input.name));
    let parameters = input.parameters.into_iter();
    let parameters: Vec<(String, String)> = parameters
        .map(|(name, value)| (name, value.to_string()))
        .collect();
    let parameters = Some(parameters.as_slice()).filter(|it| !it.is_empty());
    let compile_id = compiled.compile_id;
    let created =
        wait::until_ready(|| backtests::create_backtest(id, &compile_id, &input.name, parameters))?;
    let (backtest, unread) = ended(id, created);
    if let Some(problem) = Problem::of(&language, &backtest) {
        return Err(problem.failure(&format!("backtest {} failed", backtest.backtest_id)));
    }
    let summary = Summary::of(&backtest);
    let next = next(&summary, id, unread.as_ref());
    Ok(Outcome {
        project_id: id,
        compile_id,
        summary,
        next,
    })
}

/// The language of a project; QuantConnect's first one, if it does not say.
pub(crate) fn language(project: &projects::Project) -> Language {
    project.language.clone().unwrap_or(Language::Python)
}

fn compile(project: u32) -> Result<Compiled, Failure> {
    let job = wait::until_ready(|| compiler::create_compile(project))?;
    let outcome = wait::until_ready(|| {
        let outcome = compiler::read_compile(project, &job.compile_id)?;
        match outcome.state {
            compiler::State::InQueue => Err(waiting("the project is being compiled", None)),
            _ => Ok(outcome),
        }
    })?;
    Ok(outcome)
}

/// What the compiler says against a build; `None` if it is built.
fn words_of_failure(outcome: &Compiled) -> Result<Option<String>, Failure> {
    match &outcome.state {
        compiler::State::BuildSuccess => return Ok(None),
        compiler::State::BuildError => {}
        compiler::State::InQueue => return Err("the compile job did not end".into()),
        compiler::State::Other(state) => {
            return Err(Failure::failed(format!(
                "the compile job ended in a state that this agent does not know: {state}"
            )));
        }
    }
    let lines = outcome.logs.iter().flat_map(|entry| entry.lines());
    let errors: Vec<&str> = lines
        .clone()
        .filter(|line| line.trim_start().starts_with(ERROR))
        .collect();
    let lines: Vec<&str> = if errors.is_empty() {
        lines.collect()
    } else {
        errors
    };
    let more = lines.len().saturating_sub(MAX_LINES);
    let mut text = lines
        .into_iter()
        .take(MAX_LINES)
        .collect::<Vec<_>>()
        .join("\n");
    if more > 0 {
        text.push_str(&format!("\nand {more} more lines"));
    }
    Ok(Some(text))
}

/// Waits for the end of a backtest. It goes on whatever happens here, so the last that is known of it is the answer, with
/// the error that kept it from being read.
fn ended(project: u32, created: Backtest) -> (Backtest, Option<Error>) {
    let id = created.backtest_id.clone();
    let mut last = created;
    let waited = wait::until_ready(|| {
        if !is_underway(state(&last)) {
            return Ok(());
        }
        let done = last.progress.unwrap_or(0.0).clamp(0.0, 1.0);
        progress::report(
            COMPILED + (1.0 - COMPILED) * done,
            &format!("backtest {id} is {}", word(state(&last))),
        );
        last = backtests::read_backtest(project, &id)?;
        if is_underway(state(&last)) {
            return Err(waiting("the backtest is running", last.progress));
        }
        Ok(())
    });
    (last, waited.err())
}

fn is_underway(state: State) -> bool {
    matches!(state, State::Queued | State::Running | State::Unknown)
}

fn word(state: State) -> &'static str {
    match state {
        State::Queued => "waiting for a node",
        State::Running => "running",
        State::Completed => "completed",
        State::Failed => "failed",
        State::Unknown => "in a state that this version does not know",
    }
}

fn waiting(message: &str, progress: Option<f64>) -> Error {
    Error::NotReady(Readiness {
        progress,
        message: message.to_owned(),
    })
}

/// What to do about a backtest that has not ended, and why it was not waited for.
fn next(summary: &Summary, project: u32, unread: Option<&Error>) -> Option<String> {
    if !is_underway(summary.state) {
        return None;
    }
    let why = match unread {
        None | Some(Error::NotReady(_)) => "the invocation's time was up".to_owned(),
        Some(error) => format!("it could not be read any more: {error}"),
    };
    Some(format!(
        "the backtest was {}, and goes on; {why}. Read it with `status`, {{\"project\": {project}, \"backtest\": \"{}\"}}",
        word(summary.state),
        summary.backtest_id
    ))
}

#[cfg(test)]
mod tests {
    use qchost_sdk::backtests::BacktestStatus;

    use super::*;
    use crate::summary::tests::backtest;

    fn outcome(state: compiler::State, logs: &[&str]) -> Compiled {
        Compiled {
            compile_id: "c".into(),
            state,
            logs: logs.iter().map(|&it| it.into()).collect(),
        }
    }

    #[test]
    fn a_project_is_all_that_is_needed() {
        let input: Run = serde_json::from_str(r#"{"project": "Lab/One"}"#).unwrap();
        assert_eq!(input.name, "quantconnect");
        assert!(serde_json::from_str::<Run>("{}").is_err());
        assert!(
            serde_json::from_str::<Run>(r#"{"project": 7, "parameters": {"a": [1]}}"#).is_err()
        );
    }

    #[test]
    fn a_build_that_fails_is_told_in_the_words_of_the_compiler() {
        let state = compiler::State::BuildError;
        let logs = [
            "Build Request Failed\nBuild Error: File: main.py Line:3 Column:5 - no",
            "Build Warning: odd",
        ];
        let words = words_of_failure(&outcome(state.clone(), &logs))
            .unwrap()
            .unwrap();
        assert_eq!(words, "Build Error: File: main.py Line:3 Column:5 - no");
        let words = words_of_failure(&outcome(state.clone(), &["it broke"])).unwrap();
        assert_eq!(words.as_deref(), Some("it broke"));
        let many = vec!["Build Error: no"; MAX_LINES + 2];
        let words = words_of_failure(&outcome(state, &many)).unwrap().unwrap();
        assert!(words.ends_with("\nand 2 more lines"), "{words}");
    }

    #[test]
    fn only_a_build_that_succeeded_is_run() {
        assert_eq!(
            words_of_failure(&outcome(compiler::State::BuildSuccess, &["odd"])),
            Ok(None)
        );
        assert!(words_of_failure(&outcome(compiler::State::InQueue, &[])).is_err());
        let other = compiler::State::Other("Paused".into());
        assert!(
            words_of_failure(&outcome(other, &[]))
                .unwrap_err()
                .to_string()
                .contains("Paused")
        );
    }

    #[test]
    fn a_backtest_that_goes_on_says_how_to_read_it() {
        let summary = |status| Summary::of(&backtest(status));
        let ended = summary(BacktestStatus::Completed);
        assert_eq!(next(&ended, 7, None), None);
        let running = summary(BacktestStatus::Running);
        let up = next(&running, 7, Some(&waiting("running", None))).unwrap();
        assert!(up.contains(r#"{"project": 7, "backtest": "b"}"#), "{up}");
        assert!(up.contains("time was up"), "{up}");
        let halted = next(&running, 7, Some(&Error::Halted("maintenance".into()))).unwrap();
        assert!(halted.contains("halted: maintenance"), "{halted}");
    }
}
