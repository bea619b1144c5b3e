//! `compile`: what the compiler says of a project or of source code.

use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build;
use crate::diagnostics::Diagnostic;
use crate::project;

/// What to compile: a project, source code, or source code in a project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compile {
    /// The project, by id or by name. Without `source` it must exist; with it, the one in the agent's configuration is
    /// taken if none is given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The algorithm: the text of `main.py` (`Main.cs` in a C# project).
    #[serde(default)]
    source: Option<String>,
}

/// What the compiler says.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Verdict {
    /// The project's id.
    project_id: u32,
    /// The compile job.
    compile_id: String,
    /// Whether the project builds.
    success: bool,
    /// Errors and warnings, in the compiler's order.
    diagnostics: Vec<Diagnostic>,
    /// The compiler's words, a line each.
    logs: Vec<String>,
}

/// Runs the action.
pub(crate) fn run(input: Compile) -> Result<Verdict, Failure> {
    let project = match (input.project, input.source) {
        (None, None) => {
            return Err(Failure::invalid_input(
                "give a `project`, a `source`, or both",
            ));
        }
        (Some(project), None) => project::existing(&project)?,
        (project, Some(source)) => project::prepare(project, Some(&source))?,
    };
    let build = build::build(&project)?;
    Ok(Verdict {
        project_id: project.id,
        compile_id: build.compile_id,
        success: build.success,
        diagnostics: build.diagnostics,
        logs: build.logs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_has_to_be_compiled() {
        let input = serde_json::from_str("{}").unwrap();
        assert_eq!(
            run(input),
            Err(Failure::InvalidInput(
                "give a `project`, a `source`, or both".into()
            ))
        );
    }
}
