//! The arguments of the tools, by name and type, and which of the names are guesses.
//!
//! QuantConnect's documentation names few arguments. Those that it names, or that its published transcripts show, are
//! [`known`]; the others are [`guessed`]: after the REST API, after LEAN's classes, or after the words of the
//! documentation. An argument that a tool does not know is refused with the names that it knows, so a client that
//! guessed otherwise is told, and nothing is done.

use serde_json::{Map, Value, json};

use super::workspace::Workspace;
use crate::services::answer::Refusal;
use crate::services::arguments::Arguments;

/// The JSON type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Number,
    List,
}

/// One argument of a tool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Argument {
    name: &'static str,
    kind: Kind,
    required: bool,
    guessed: bool,
}

/// An argument whose name is documented or was seen.
const fn known(name: &'static str, kind: Kind) -> Argument {
    Argument {
        name,
        kind,
        required: false,
        guessed: false,
    }
}

/// An argument whose name is a guess.
const fn guessed(name: &'static str, kind: Kind) -> Argument {
    Argument {
        guessed: true,
        ..known(name, kind)
    }
}

impl Argument {
    const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }
}

/// A project that may be left out: then it is the open one.
const PROJECT: Argument = known("projectId", Kind::Integer);
/// The same, of a tool of which it is not documented that it takes one.
const OPEN_PROJECT: Argument = guessed("projectId", Kind::Integer);

/// Every tool that takes arguments, with all of them.
const TABLE: &[(&str, &[Argument])] = &[
    (
        "create_project",
        &[
            guessed("name", Kind::Text).required(),
            guessed("language", Kind::Text),
            known("files", Kind::List).required(),
        ],
    ),
    (
        "list_projects",
        &[guessed("query", Kind::Text), guessed("page", Kind::Integer)],
    ),
    ("read_project", &[PROJECT.required()]),
    (
        "update_project",
        &[
            PROJECT,
            known("name", Kind::Text),
            known("description", Kind::Text),
        ],
    ),
    (
        "read_project_templates",
        &[guessed("description", Kind::Text).required()],
    ),
    (
        "create_file",
        &[
            PROJECT,
            known("filePath", Kind::Text).required(),
            known("content", Kind::Text).required(),
        ],
    ),
    (
        "edit_file",
        &[
            PROJECT,
            known("filePath", Kind::Text).required(),
            known("oldString", Kind::Text).required(),
            guessed("newString", Kind::Text),
            // What the transcripts show in place of the new text.
            known("content", Kind::Text),
        ],
    ),
    (
        "read_file",
        &[
            OPEN_PROJECT,
            guessed("filePath", Kind::Text).required(),
            guessed("startLine", Kind::Integer),
            guessed("endLine", Kind::Integer),
        ],
    ),
    (
        "delete_file",
        &[OPEN_PROJECT, guessed("filePath", Kind::Text).required()],
    ),
    (
        "search_file_content",
        &[
            OPEN_PROJECT,
            guessed("query", Kind::Text).required(),
            known("page", Kind::Integer),
        ],
    ),
    ("create_compile", &[OPEN_PROJECT]),
    (
        "create_backtest",
        &[OPEN_PROJECT, guessed("name", Kind::Text)],
    ),
    (
        "read_backtest",
        &[OPEN_PROJECT, known("backtestId", Kind::Text).required()],
    ),
    (
        "read_backtest_orders",
        &[
            OPEN_PROJECT,
            guessed("backtestId", Kind::Text).required(),
            known("tag", Kind::Text),
            known("symbol", Kind::Text),
            known("type", Kind::Integer),
            known("id", Kind::Integer),
            known("date", Kind::Text),
            guessed("page", Kind::Integer),
        ],
    ),
    ("list_backtests", &[OPEN_PROJECT]),
    (
        "update_backtest",
        &[
            OPEN_PROJECT,
            known("backtestId", Kind::Text),
            known("name", Kind::Text),
            known("note", Kind::Text),
        ],
    ),
    (
        "delete_backtest",
        &[OPEN_PROJECT, known("backtestId", Kind::Text).required()],
    ),
    (
        "search_backtest_logs",
        &[
            OPEN_PROJECT,
            known("backtestId", Kind::Text).required(),
            known("query", Kind::Text).required(),
        ],
    ),
    (
        "create_optimization",
        &[
            OPEN_PROJECT,
            guessed("name", Kind::Text).required(),
            guessed("target", Kind::Text).required(),
            guessed("targetTo", Kind::Text).required(),
            guessed("targetValue", Kind::Number),
            guessed("parameters", Kind::List).required(),
            guessed("constraints", Kind::List),
            guessed("nodeType", Kind::Text),
            guessed("parallelNodes", Kind::Integer),
        ],
    ),
    (
        "read_optimization",
        &[known("optimizationId", Kind::Text).required()],
    ),
    ("list_optimizations", &[OPEN_PROJECT]),
    (
        "delete_optimization",
        &[known("optimizationId", Kind::Text).required()],
    ),
    ("create_live_algorithm", &[OPEN_PROJECT]),
    ("read_live_algorithm", &[OPEN_PROJECT]),
    ("read_live_holdings", &[OPEN_PROJECT]),
    (
        "search_live_logs",
        &[
            OPEN_PROJECT,
            known("deployId", Kind::Text),
            known("query", Kind::Text).required(),
        ],
    ),
    ("stop_live_algorithm", &[OPEN_PROJECT]),
    ("liquidate_live_algorithm", &[OPEN_PROJECT]),
    (
        "jupyter_create_cell",
        &[
            OPEN_PROJECT,
            guessed("index", Kind::Integer),
            guessed("source", Kind::Text).required(),
        ],
    ),
    (
        "jupyter_read_cell",
        &[OPEN_PROJECT, guessed("index", Kind::Integer).required()],
    ),
    (
        "jupyter_update_cell",
        &[
            OPEN_PROJECT,
            guessed("index", Kind::Integer).required(),
            guessed("source", Kind::Text).required(),
        ],
    ),
    (
        "jupyter_delete_cell",
        &[OPEN_PROJECT, guessed("index", Kind::Integer).required()],
    ),
    (
        "jupyter_execute_cell",
        &[OPEN_PROJECT, guessed("index", Kind::Integer).required()],
    ),
    (
        "jupyter_create_notebook",
        &[OPEN_PROJECT, guessed("notebook", Kind::Text).required()],
    ),
    ("jupyter_read_notebook", &[OPEN_PROJECT]),
    ("jupyter_execute_notebook", &[OPEN_PROJECT]),
    (
        "jupyter_get_image",
        &[guessed("url", Kind::Text).required()],
    ),
    (
        "object_store_set",
        &[
            guessed("key", Kind::Text).required(),
            guessed("content", Kind::Text).required(),
        ],
    ),
    (
        "object_store_pdf_to_markdown",
        &[
            guessed("key", Kind::Text).required(),
            known("outputPath", Kind::Text),
            known("firstPage", Kind::Integer),
            known("lastPage", Kind::Integer),
        ],
    ),
    (
        "get_dataset_details",
        &[guessed("name", Kind::Text).required()],
    ),
    ("load_skill", &[guessed("name", Kind::Text).required()]),
    (
        "send_email_notification",
        &[
            guessed("address", Kind::Text).required(),
            guessed("subject", Kind::Text).required(),
            guessed("message", Kind::Text).required(),
        ],
    ),
    (
        "send_sms_notification",
        &[
            guessed("phoneNumber", Kind::Text).required(),
            guessed("message", Kind::Text).required(),
        ],
    ),
    (
        "send_telegram_notification",
        &[
            guessed("id", Kind::Text).required(),
            guessed("message", Kind::Text).required(),
            guessed("token", Kind::Text),
        ],
    ),
];

/// The arguments of a tool; none for a tool that takes none.
fn of(tool: &str) -> &'static [Argument] {
    let found = TABLE.iter().find(|(name, _)| *name == tool);
    found.map_or(&[], |(_, arguments)| arguments)
}

/// A tool's input schema.
pub(super) fn schema(tool: &str) -> Value {
    let arguments = of(tool);
    let properties: Map<String, Value> = arguments
        .iter()
        .map(|argument| {
            let kind = match argument.kind {
                Kind::Text => "string",
                Kind::Integer => "integer",
                Kind::Number => "number",
                Kind::List => "array",
            };
            let mut property = json!({"type": kind});
            if argument.guessed
                && let Some(fields) = property.as_object_mut()
            {
                let note = "The name of this argument is a guess of the emulator.";
                fields.insert("description".to_owned(), note.into());
            }
            (argument.name.to_owned(), property)
        })
        .collect();
    let required = arguments.iter().filter(|argument| argument.required);
    let required: Vec<&str> = required.map(|argument| argument.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Refuses arguments that a tool does not know, lacks, or takes in another type.
pub(super) fn check(tool: &str, arguments: &Arguments) -> Result<(), Refusal> {
    let table = of(tool);
    for name in arguments.fields.keys() {
        if !table.iter().any(|argument| argument.name == name) {
            let names: Vec<&str> = table.iter().map(|argument| argument.name).collect();
            let name = qchost_text::excerpt(name, 64);
            let takes = match names.is_empty() {
                true => "no arguments".to_owned(),
                false => names.join(", "),
            };
            return Err(Refusal::because(format!(
                "Unknown argument '{name}': {tool} takes {takes}"
            )));
        }
    }
    for argument in table {
        let name = argument.name;
        let Some(value) = arguments.get(name) else {
            if argument.required {
                return Err(Refusal::missing(name));
            }
            continue;
        };
        let (fits, expected) = match argument.kind {
            Kind::Text => (value.is_string(), "a string"),
            Kind::Integer => (value.is_i64(), "an integer"),
            Kind::Number => (value.is_number(), "a number"),
            Kind::List => (value.is_array(), "a list"),
        };
        if !fits {
            return Err(Refusal::invalid(name, expected));
        }
    }
    Ok(())
}

/// The arguments with the open project in place of a missing `projectId`, for a tool that takes one.
pub(super) fn with_project(
    workspace: &Workspace,
    tool: &str,
    mut arguments: Arguments,
) -> Result<Arguments, Refusal> {
    let takes_project = of(tool)
        .iter()
        .any(|argument| argument.name == PROJECT.name);
    if takes_project && arguments.get(PROJECT.name).is_none() {
        let open = workspace.open_project()?;
        let name = PROJECT.name.to_owned();
        arguments.fields.insert(name, open.into());
    }
    Ok(arguments)
}

/// The tools that have a row.
#[cfg(test)]
pub(super) fn tools() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn arguments(fields: &Value) -> Arguments {
        Arguments {
            fields: fields.as_object().unwrap().clone(),
            object_data: None,
        }
    }

    #[test]
    fn an_unknown_argument_is_answered_with_the_known_ones() {
        let refusal = check("read_project", &arguments(&json!({"project": 1}))).unwrap_err();
        assert_eq!(
            refusal.0,
            ["Unknown argument 'project': read_project takes projectId"]
        );
        let refusal = check("list_skills", &arguments(&json!({"a": 1}))).unwrap_err();
        assert!(refusal.0.concat().contains("takes no arguments"));
    }

    #[test]
    fn a_required_argument_and_its_type_are_checked() {
        let check = |fields| check("jupyter_read_cell", &arguments(&fields));
        assert_eq!(check(json!({"index": 0})), Ok(()));
        check(json!({})).unwrap_err();
        check(json!({"index": null})).unwrap_err();
        check(json!({"index": "0"})).unwrap_err();
        check(json!({"index": 0, "projectId": 0.5})).unwrap_err();
    }

    #[test]
    fn names_are_guesses_unless_they_are_documented() {
        let documented = include_str!("../../../../catalog/tests/fixtures/remote-tools.tsv");
        for line in documented.lines().skip(1) {
            let mut columns = line.split('\t');
            let (tool, names) = (columns.next().unwrap(), columns.next_back().unwrap());
            let names = names.split(' ').filter(|it| !matches!(*it, "?" | "-"));
            let known: BTreeSet<&str> = names.collect();
            let own = of(tool).iter().filter(|it| !it.guessed);
            let own: BTreeSet<&str> = own.map(|it| it.name).collect();
            assert_eq!(own, known, "{tool}");
        }
    }

    #[test]
    fn a_guess_is_marked_where_a_client_reads_it() {
        let schema = schema("create_file");
        assert_eq!(schema["required"], json!(["filePath", "content"]));
        assert_eq!(schema["properties"]["filePath"], json!({"type": "string"}));
        let schema = super::schema("read_file");
        assert!(schema["properties"]["filePath"]["description"].is_string());
    }

    proptest! {
        #[test]
        fn any_arguments_are_accepted_or_refused(name in ".{0,80}", value in any::<i64>()) {
            let _ = check("read_file", &arguments(&json!({name: value})));
        }
    }
}
