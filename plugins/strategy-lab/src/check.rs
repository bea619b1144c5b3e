//! `check`: QuantConnect's checks of a project or of source code, its advice on an error, and PEP 8.

use qchost_sdk::ai::{AssistantState, ErrorReport, FilesAnswer};
use qchost_sdk::prelude::*;
use qchost_sdk::types::{Language, SourceFile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks::{self, Code, Findings};
use crate::create_project::Written;
use crate::project;

/// Largest text of a reformatted file that is given, in bytes.
const MAX_FILE: usize = 256 * 1024;

/// What to check.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    /// The project, by id or by name; the one in the agent's configuration if neither this nor `source` is given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// An algorithm that is in no project: the text of `main.py`, or of `Main.cs` with `language`.
    #[serde(default)]
    source: Option<String>,
    /// The language of `source`.
    #[serde(default)]
    language: Option<Written>,
    /// Whether to give the code as PEP 8 wants it too; Python only. Nothing is written.
    #[serde(default)]
    pep8: bool,
    /// An error to explain, such as that of a failed backtest.
    #[serde(default)]
    error: Option<Reported>,
}

/// An error.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Reported {
    /// Its message.
    message: String,
    /// Its stack trace.
    #[serde(default)]
    stacktrace: Option<String>,
}

/// What was found.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Checked {
    #[serde(flatten)]
    findings: Findings,
    /// What QuantConnect's assistant says about the error that was given.
    advice: Option<String>,
    /// The files that PEP 8 wants otherwise, if that was asked for.
    pep8: Option<Vec<Reformatted>>,
}

/// A file as PEP 8 wants it.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Reformatted {
    /// Its path.
    name: String,
    /// Its new text; null if it is too long to be given.
    content: Option<String>,
}

/// Runs the action.
pub(crate) fn run(input: Check) -> Result<Checked, Failure> {
    check(&input)?;
    let code = match input.source {
        Some(source) => {
            let language = input.language.unwrap_or(Written::Python).language();
            Code::of_source(language, &source)
        }
        None => Code::of_project(&project::existing_or_default(input.project)?)?,
    };
    if input.pep8 && code.language != Language::Python {
        return Err(Failure::invalid_input(
            "PEP 8 is for Python; leave `pep8` out",
        ));
    }
    let findings = checks::check(&code)?;
    let advice = match input.error {
        Some(error) => {
            let error = ErrorReport {
                message: error.message,
                stacktrace: error.stacktrace,
            };
            checks::explain(&code.language, &error)?
        }
        None => None,
    };
    let pep8 = if input.pep8 {
        let answer = ai::update_code_to_pep8(&code.files)?;
        Some(reformatted(&code.files, answer)?)
    } else {
        None
    };
    Ok(Checked {
        findings,
        advice,
        pep8,
    })
}

fn check(input: &Check) -> Result<(), Failure> {
    match (&input.project, &input.source) {
        (Some(_), Some(_)) => Err(Failure::invalid_input(
            "give a `project` or a `source`, not both: a check writes nothing",
        )),
        (_, None) if input.language.is_some() => Err(Failure::invalid_input(
            "`language` is that of `source`; a project has its own",
        )),
        _ => Ok(()),
    }
}

/// The files whose text is another one.
fn reformatted(before: &[SourceFile], answer: FilesAnswer) -> Result<Vec<Reformatted>, Failure> {
    if answer.state != Some(AssistantState::End) {
        return Err(Failure::failed(
            "QuantConnect did not reformat the code; check its syntax first",
        ));
    }
    let is_other = |(name, content): &(String, String)| {
        let same = |file: &SourceFile| file.name == *name && file.content == *content;
        !before.iter().any(same)
    };
    let changed = answer.payload.into_iter().filter(is_other);
    let file = |(name, content): (String, String)| Reformatted {
        name,
        content: Some(content).filter(|it| it.len() <= MAX_FILE),
    };
    Ok(changed.map(file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_has_to_be_clear() {
        let refusal = |json: &str| {
            let input = serde_json::from_str(json).unwrap();
            check(&input).err().map(|failure| failure.to_string())
        };
        assert_eq!(refusal("{}"), None);
        assert_eq!(refusal(r#"{"source": "x", "language": "c-sharp"}"#), None);
        let both = refusal(r#"{"project": 7, "source": "x"}"#).unwrap();
        assert!(both.contains("not both"), "{both}");
        let odd = refusal(r#"{"project": 7, "language": "python"}"#).unwrap();
        assert!(odd.contains("`language`"), "{odd}");
    }

    #[test]
    fn only_files_that_change_are_given() {
        let file = |name: &str, content: &str| SourceFile {
            name: name.into(),
            content: content.into(),
        };
        let before = [file("a.py", "x=1"), file("b.py", "y = 1\n")];
        let answer = |state, payload: &[(&str, &str)]| FilesAnswer {
            state,
            version: None,
            payload: payload
                .iter()
                .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
                .collect(),
            payload_type: None,
        };
        let payload = [("a.py", "x = 1\n"), ("b.py", "y = 1\n")];
        let found = reformatted(&before, answer(Some(AssistantState::End), &payload)).unwrap();
        let expected = Reformatted {
            name: "a.py".into(),
            content: Some("x = 1\n".into()),
        };
        assert_eq!(found, [expected]);
        assert!(reformatted(&before, answer(None, &[])).is_err());
    }
}
