//! QuantConnect's checks of code, before a backtest is spent on it: syntax, and the algorithm's `initialize`.
//!
//! Invariant: an answer that says neither that the code is good nor what is wrong with it is not taken for good.

use qchost_sdk::ai::{AssistantState, ErrorReport, ListAnswer, TextAnswer};
use qchost_sdk::files::ProjectFile;
use qchost_sdk::prelude::*;
use qchost_sdk::types::{Language, SourceFile};
use schemars::JsonSchema;
use serde::Serialize;

use crate::diagnostics::{self, Diagnostic};
use crate::page;
use crate::project::{self, Project};

/// How many findings a failure spells out.
const MAX_SPELLED: usize = 10;

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Findings {
    /// Whether nothing was found.
    pub(crate) success: bool,
    /// Errors of the syntax, with their places.
    pub(crate) syntax: Vec<Diagnostic>,
    /// The error of `initialize`, if it fails. It is not run where the syntax is wrong.
    pub(crate) initialization: Option<String>,
    /// What QuantConnect's assistant says about that error.
    pub(crate) explanation: Option<String>,
}

/// The files that the checks look at, with a language that they know.
#[derive(Debug, PartialEq)]
pub(crate) struct Code {
    pub(crate) language: Language,
    pub(crate) files: Vec<SourceFile>,
}

impl Code {
    /// One file with an algorithm.
    pub(crate) fn of_source(language: Language, source: &str) -> Self {
        let name = match language {
            Language::CSharp => "Main.cs",
            _ => "main.py",
        };
        Self {
            language,
            files: vec![SourceFile {
                name: name.to_owned(),
                content: source.to_owned(),
            }],
        }
    }

    /// The code of a project.
    pub(crate) fn of_project(project: &Project) -> Result<Self, Failure> {
        // Says so for a language that is not known.
        project.main_file()?;
        let files = files::read_file(project.id, None, None)?;
        Ok(Self {
            files: code(&project.language, files),
            language: project.language.clone(),
        })
    }
}

/// The files with code: notebooks and data are not checked.
fn code(language: &Language, files: Vec<ProjectFile>) -> Vec<SourceFile> {
    let end = match language {
        Language::CSharp => ".cs",
        _ => ".py",
    };
    let files = files.into_iter().filter(|file| file.name.ends_with(end));
    files
        .filter_map(|file| {
            Some(SourceFile {
                name: file.name,
                content: file.content?,
            })
        })
        .collect()
}

/// Checks code.
pub(crate) fn check(code: &Code) -> Result<Findings, Failure> {
    progress::report(0.0, "checking the syntax");
    let answer = ai::check_syntax(&code.language, &code.files)?;
    let syntax = syntax(answer);
    if !syntax.is_empty() {
        return Ok(Findings {
            success: false,
            syntax,
            initialization: None,
            explanation: None,
        });
    }
    progress::report(0.5, "running initialize");
    let answer = ai::check_initialization_errors(&code.language, &code.files)?;
    let initialization = initialization(answer);
    let explanation = match &initialization {
        Some(error) => explain(&code.language, &report(error))?,
        None => None,
    };
    Ok(Findings {
        success: initialization.is_none(),
        syntax: Vec::new(),
        initialization,
        explanation,
    })
}

/// What QuantConnect's assistant says about an error.
pub(crate) fn explain(language: &Language, error: &ErrorReport) -> Result<Option<String>, Failure> {
    let answer = ai::enhance_error_message(language, error)?;
    Ok(answer.payload.map(page::cut))
}

/// Checks a project before a backtest of it, and fails with what is wrong.
pub(crate) fn before_backtest(project: &Project) -> Result<(), Failure> {
    check(&Code::of_project(project)?)?.or_failure()
}

/// Writes code into a project if the caller gives some, and checks it if the caller asks for that.
pub(crate) fn prepare(
    reference: Option<ProjectReference>,
    source: Option<&str>,
    checked: bool,
) -> Result<Project, Failure> {
    let project = project::prepare(reference, source)?;
    if checked {
        before_backtest(&project)?;
    }
    Ok(project)
}

fn syntax(answer: ListAnswer) -> Vec<Diagnostic> {
    let lines = answer.payload.iter().map(|it| it.trim());
    let mut found: Vec<Diagnostic> = lines
        .filter(|it| !it.is_empty())
        .map(diagnostics::checked)
        .collect();
    if found.is_empty()
        && let Some(reason) = not_good(answer.state)
    {
        found.push(diagnostics::checked(&reason));
    }
    found
}

fn initialization(answer: TextAnswer) -> Option<String> {
    let reason = not_good(answer.state)?;
    let text = answer.payload.filter(|it| !it.trim().is_empty());
    Some(page::cut(text.unwrap_or(reason)))
}

/// Why an answer in this state is not that of good code.
fn not_good(state: Option<AssistantState>) -> Option<String> {
    match state {
        Some(AssistantState::End) => None,
        Some(AssistantState::Error) => Some("the check failed without a message".to_owned()),
        Some(AssistantState::Other(state)) => Some(format!("the check ended as {state}")),
        None => Some("QuantConnect does not say how the check ended".to_owned()),
    }
}

/// An error as the assistant takes it: its message, and what follows it.
fn report(error: &str) -> ErrorReport {
    match error.split_once('\n') {
        Some((message, trace)) => ErrorReport {
            message: message.to_owned(),
            stacktrace: Some(trace.to_owned()),
        },
        None => ErrorReport {
            message: error.to_owned(),
            stacktrace: None,
        },
    }
}

impl Findings {
    /// A failure that spells the findings out, if there are any.
    pub(crate) fn or_failure(self) -> Result<(), Failure> {
        if self.success {
            return Ok(());
        }
        let mut lines: Vec<String> = self.syntax.iter().map(Diagnostic::to_string).collect();
        let more = lines.len().saturating_sub(MAX_SPELLED);
        lines.truncate(MAX_SPELLED);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.extend(self.initialization);
        lines.extend(self.explanation);
        Err(Failure::failed(format!(
            "the checks found errors, and nothing was run:\n{}",
            lines.join("\n")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(state: Option<AssistantState>, payload: &[&str]) -> ListAnswer {
        ListAnswer {
            state,
            version: None,
            payload: payload.iter().map(|&it| it.into()).collect(),
            payload_type: None,
        }
    }

    fn text(state: Option<AssistantState>, payload: Option<&str>) -> TextAnswer {
        TextAnswer {
            state,
            version: None,
            payload: payload.map(str::to_owned),
            payload_type: None,
        }
    }

    #[test]
    fn good_code_has_no_findings_and_what_is_not_said_to_be_good_has() {
        assert_eq!(syntax(texts(Some(AssistantState::End), &[])), []);
        let found = syntax(texts(
            Some(AssistantState::Error),
            &["main.py:3:5: expected ':'", " "],
        ));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, Some(3));
        for state in [
            None,
            Some(AssistantState::Error),
            Some(AssistantState::Other("X".into())),
        ] {
            assert_eq!(syntax(texts(state.clone(), &[])).len(), 1, "{state:?}");
            assert!(initialization(text(state, Some(""))).is_some());
        }
        let good = text(Some(AssistantState::End), Some("initialized"));
        assert_eq!(initialization(good), None);
        let bad = text(Some(AssistantState::Error), Some("ZeroDivisionError"));
        assert_eq!(initialization(bad).as_deref(), Some("ZeroDivisionError"));
    }

    #[test]
    fn findings_are_a_failure_that_spells_them_out() {
        let good = Findings {
            success: true,
            syntax: Vec::new(),
            initialization: None,
            explanation: None,
        };
        assert_eq!(good.clone().or_failure(), Ok(()));
        let bad = Findings {
            success: false,
            syntax: (1..=12)
                .map(|line| diagnostics::checked(&format!("a.py:{line}:1: no")))
                .collect(),
            initialization: Some("it broke".into()),
            explanation: Some("because".into()),
        };
        let failure = bad.or_failure().unwrap_err().to_string();
        assert!(
            failure.contains("nothing was run:\na.py:1:1: no\n"),
            "{failure}"
        );
        assert!(
            failure.ends_with("and 2 more\nit broke\nbecause"),
            "{failure}"
        );
    }

    #[test]
    fn only_code_of_the_language_is_checked() {
        let file = |name: &str, content: Option<&str>| ProjectFile {
            id: None,
            project_id: None,
            name: name.into(),
            content: content.map(str::to_owned),
            modified: None,
            open: None,
            is_library: None,
        };
        let files = || {
            vec![
                file("main.py", Some("x")),
                file("research.ipynb", Some("{}")),
                file("Main.cs", Some("y")),
                file("empty.py", None),
            ]
        };
        let names = |language| {
            let found = code(&language, files()).into_iter();
            found.map(|it| it.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Language::Python), ["main.py"]);
        assert_eq!(names(Language::CSharp), ["Main.cs"]);
    }

    #[test]
    fn an_error_is_its_first_line_with_a_trace() {
        let split = report("ZeroDivisionError: x\n  at main.py:3\n  at y");
        assert_eq!(split.message, "ZeroDivisionError: x");
        assert_eq!(split.stacktrace.as_deref(), Some("  at main.py:3\n  at y"));
        assert_eq!(report("x").stacktrace, None);
    }
}
