//! Compiling a project until it is built or not.

use qchost_sdk::prelude::*;
use qchost_sdk::types::CompileId;

use crate::diagnostics::{self, Diagnostic, Severity};
use crate::project::Project;

/// How many diagnostics a failure spells out.
const MAX_DIAGNOSTICS: usize = 10;

/// What became of a compile job.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) compile_id: CompileId,
    pub(crate) success: bool,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) logs: Vec<String>,
}

/// Compiles a project.
pub(crate) fn build(project: &Project) -> Result<Build, Failure> {
    progress::report(0.0, &format!("compiling \"{}\"", project.name));
    read(workflow::compile_and_wait(project.id)?)
}

fn read(outcome: qchost_sdk::compile::Outcome) -> Result<Build, Failure> {
    use qchost_sdk::compile::State;

    let success = match outcome.state {
        State::BuildSuccess => true,
        State::BuildError => false,
        State::InQueue => return Err("the compile job did not end".into()),
        State::Other(state) => {
            return Err(Failure::failed(format!(
                "the compile job ended in a state that this agent does not know: {state}"
            )));
        }
    };
    Ok(Build {
        compile_id: outcome.compile_id,
        success,
        diagnostics: diagnostics::parse(&outcome.logs),
        logs: outcome.logs,
    })
}

impl Build {
    /// The compile's id, or a failure that spells the errors out.
    pub(crate) fn or_failure(self) -> Result<CompileId, Failure> {
        if self.success {
            return Ok(self.compile_id);
        }
        let errors = self
            .diagnostics
            .iter()
            .filter(|it| it.severity == Severity::Error);
        let mut lines: Vec<String> = errors.map(Diagnostic::to_string).collect();
        if lines.is_empty() {
            lines = self.logs;
        }
        let more = lines.len().saturating_sub(MAX_DIAGNOSTICS);
        lines.truncate(MAX_DIAGNOSTICS);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Err(Failure::failed(format!(
            "the project does not compile:\n{}",
            lines.join("\n")
        )))
    }
}

#[cfg(test)]
mod tests {
    use qchost_sdk::compile::{Outcome, State};

    use super::*;

    fn outcome(state: State, logs: &[&str]) -> Outcome {
        Outcome {
            compile_id: "c".into(),
            state,
            logs: logs.iter().map(|&it| it.into()).collect(),
        }
    }

    #[test]
    fn a_good_build_is_its_id() {
        let build = read(outcome(
            State::BuildSuccess,
            &["Build Warning: File: main.py Line:1 Column:1 - odd"],
        ));
        assert_eq!(build.unwrap().or_failure(), Ok("c".into()));
    }

    #[test]
    fn a_bad_build_names_the_places() {
        let logs: Vec<String> = (1..=12)
            .map(|line| format!("Build Error: File: main.py Line:{line} Column:1 - no"))
            .collect();
        let logs: Vec<&str> = logs.iter().map(String::as_str).collect();
        let failure = read(outcome(State::BuildError, &logs))
            .unwrap()
            .or_failure()
            .unwrap_err();
        let text = failure.to_string();
        assert!(
            text.starts_with("the project does not compile:\nmain.py:1:1: no\n"),
            "{text}"
        );
        assert!(text.ends_with("main.py:10:1: no\nand 2 more"), "{text}");

        let failure = read(outcome(State::BuildError, &["it broke"]))
            .unwrap()
            .or_failure()
            .unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the project does not compile:\nit broke"
        );
    }

    #[test]
    fn a_state_that_is_not_known_is_not_a_success() {
        let failure = read(outcome(State::Other("Paused".into()), &[])).unwrap_err();
        assert!(failure.to_string().contains("Paused"));
        assert!(read(outcome(State::InQueue, &[])).is_err());
    }
}
