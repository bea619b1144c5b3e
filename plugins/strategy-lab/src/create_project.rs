//! `create-project`: a project with a bundled strategy, or with source that the caller gives.

use qchost_sdk::prelude::*;
use qchost_sdk::types::Language;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::project;
use crate::strategies::{self, Strategy};

/// What to create.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProject {
    /// The name of the project; slashes make folders: `Lab/Momentum`. No other project may have it.
    name: String,
    /// The bundled strategy to begin with: `moving-average-crossover`, `momentum-rotation`, `mean-reversion`, `pairs-trading`,
    /// `channel-breakout` or `risk-parity`. The first one if neither this nor `source` is given.
    #[serde(default)]
    strategy: Option<String>,
    /// The algorithm instead: the text of `main.py`, or of `Main.cs` with `language`.
    #[serde(default)]
    source: Option<String>,
    /// The language of `source`.
    #[serde(default)]
    language: Option<Written>,
}

/// A language that projects are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Written {
    /// Python
    Python,
    /// C#
    CSharp,
}

impl Written {
    /// The contract's name of it.
    pub(crate) fn language(self) -> Language {
        match self {
            Self::Python => Language::Python,
            Self::CSharp => Language::CSharp,
        }
    }
}

/// The project.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Created {
    /// The project's id.
    project_id: u32,
    /// Its name.
    project: String,
    /// The bundled strategy that it begins with; null for source of the caller.
    strategy: Option<String>,
    /// The files that were written.
    files: Vec<String>,
}

/// Runs the action.
pub(crate) fn run(input: CreateProject) -> Result<Created, Failure> {
    let beginning = beginning(&input)?;
    project::ensure_free(&input.name)?;
    let project = project::create(&input.name, &beginning.language)?;
    let files = match &beginning.content {
        Content::Source(source) => {
            project::write(&project, source)?;
            vec![project.main_file()?.to_owned()]
        }
        Content::Strategy(strategy) => {
            project::write_strategy(&project, strategy)?;
            let names = strategy.files.iter();
            names.map(|it| it.name.to_owned()).collect()
        }
    };
    Ok(Created {
        files,
        project_id: project.id,
        project: project.name,
        strategy: match beginning.content {
            Content::Source(_) => None,
            Content::Strategy(strategy) => Some(strategy.name.to_owned()),
        },
    })
}

/// What a project begins with.
#[derive(Debug, PartialEq)]
struct Beginning<'a> {
    content: Content<'a>,
    language: Language,
}

#[derive(Debug, PartialEq)]
enum Content<'a> {
    /// The caller's main file.
    Source(&'a str),
    /// A bundled strategy.
    Strategy(&'static Strategy),
}

/// Decides that before anything is sent.
fn beginning(input: &CreateProject) -> Result<Beginning<'_>, Failure> {
    if input.name.trim().is_empty() {
        return Err(Failure::invalid_input("`name` is empty"));
    }
    match (&input.strategy, &input.source) {
        (Some(_), Some(_)) => Err(Failure::invalid_input(
            "give a `strategy` or a `source`, not both",
        )),
        (None, Some(source)) if source.trim().is_empty() => {
            Err(Failure::invalid_input("`source` is empty"))
        }
        (None, Some(source)) => Ok(Beginning {
            content: Content::Source(source),
            language: input.language.unwrap_or(Written::Python).language(),
        }),
        (name, None) => {
            let strategy = strategies::named(name.as_deref().unwrap_or(strategies::DEFAULT))?;
            let asked = input.language.map(Written::language);
            if asked.is_some_and(|language| language != strategy.language) {
                return Err(Failure::invalid_input(format!(
                    "the strategy \"{}\" is not written in that language; leave `language` out",
                    strategy.name
                )));
            }
            Ok(Beginning {
                content: Content::Strategy(strategy),
                language: strategy.language.clone(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(json: &str) -> CreateProject {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_project_begins_with_a_bundled_strategy_or_the_source_of_the_caller() {
        let bundled = input(r#"{"name": "Lab/A"}"#);
        let bundled = beginning(&bundled).unwrap();
        let default = strategies::named(strategies::DEFAULT).unwrap();
        assert_eq!(bundled.content, Content::Strategy(default));
        assert_eq!(bundled.language, Language::Python);

        let given = input(r#"{"name": "Lab/A", "source": "class A {}", "language": "c-sharp"}"#);
        assert_eq!(
            beginning(&given).unwrap(),
            Beginning {
                content: Content::Source("class A {}"),
                language: Language::CSharp,
            }
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_done() {
        for (json, words) in [
            (r#"{"name": " "}"#, "`name` is empty"),
            (
                r#"{"name": "A", "source": "x", "strategy": "y"}"#,
                "not both",
            ),
            (r#"{"name": "A", "source": "\n"}"#, "`source` is empty"),
            (r#"{"name": "A", "strategy": "y"}"#, "no bundled strategy"),
            (r#"{"name": "A", "language": "c-sharp"}"#, "not written in"),
        ] {
            let error = beginning(&input(json)).unwrap_err().to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
