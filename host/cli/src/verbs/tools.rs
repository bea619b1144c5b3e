//! `qchost tools`: QuantConnect's operations as the catalog has them, for people who write calls and grants.

use std::iter::once;

use anyhow::{Error, Result};
use qchost_catalog::{Access, FailureKind, OPERATIONS, Operation, Selector, Way};
use qchost_policy::nearest;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::cells::{list, maybe, text};
use crate::exit_status::{ErrorKind, Failed};
use crate::output::{Output, fields, folded, table};
use crate::terminal;

/// An operation.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Tool {
    /// Its name in grants, for `qchost call` and in the record.
    name: &'static str,
    /// Its name for clients of MCP, which `qchost call` takes too.
    tool: &'static str,
    /// From harmless to harmful: `read`, `reduce`, `write`, `destroy`, `trade`.
    class: &'static str,
    /// Whether it puts money at stake, or has a price.
    money: bool,
    /// Whether a grant may name it by a pattern with a star.
    by_pattern: bool,
    /// The servers that have it: `rest`, in front of the REST API, and `remote`.
    ways: Vec<&'static str>,
    description: &'static str,
    /// The arguments that select what it touches.
    touches: Vec<Touched>,
    arguments: Vec<Argument>,
    /// The JSON Schema of the arguments.
    input_schema: Value,
    #[serde(skip)]
    access: Access,
}

/// What an argument selects.
#[derive(Debug, Serialize, JsonSchema)]
struct Touched {
    argument: &'static str,
    what: &'static str,
}

/// An argument.
#[derive(Debug, Serialize, JsonSchema)]
struct Argument {
    name: String,
    r#type: String,
    required: bool,
    description: Option<String>,
}

impl Tool {
    fn new(operation: &'static Operation) -> Self {
        let schema = operation.input_schema();
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|it| it == name));
        let properties = schema.get("properties").and_then(Value::as_object);
        let arguments = properties.into_iter().flatten();
        let touches = operation.selectors.iter();
        Self {
            name: operation.name,
            tool: operation.tool,
            class: operation.access.word(),
            money: operation.access == Access::Trade
                || operation.selects(|selector| matches!(selector, Selector::Cost(_))),
            by_pattern: operation.globbed(),
            ways: Way::ALL
                .into_iter()
                .filter(|way| operation.goes_by(*way))
                .map(Way::word)
                .collect(),
            description: operation.description(),
            touches: touches
                .map(|selector| Touched {
                    argument: selector.argument(),
                    what: selector.word(),
                })
                .collect(),
            arguments: arguments
                .map(|(name, schema)| Argument {
                    name: name.clone(),
                    r#type: type_of(schema),
                    required: is_required(name),
                    description: schema
                        .get("description")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                })
                .collect(),
            input_schema: Value::Object(schema.clone()),
            access: operation.access,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.tool == name
    }

    /// Whether a word, in small letters, occurs in it.
    fn has(&self, word: &str) -> bool {
        let arguments = self.arguments.iter();
        let arguments = arguments
            .flat_map(|argument| once(&argument.name).chain(&argument.description))
            .map(String::as_str);
        [self.name, self.tool, self.class, self.description]
            .into_iter()
            .chain(arguments)
            .any(|text| text.to_lowercase().contains(word))
    }
}

/// The type of an argument in words.
fn type_of(schema: &Value) -> String {
    let any = |of: &[Value], word: fn(&Value) -> String| {
        of.iter().map(word).collect::<Vec<_>>().join(" or ")
    };
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return any(values, ToString::to_string);
    }
    if let Some(Value::Array(schemas)) = schema.get("anyOf") {
        return any(schemas, type_of);
    }
    let word = match schema.get("type") {
        Some(Value::String(word)) => word.clone(),
        Some(Value::Array(words)) => any(words, |word| word.as_str().unwrap_or("any").to_owned()),
        _ => "any".to_owned(),
    };
    let inner = schema.get("items").or_else(|| {
        let values = schema.get("additionalProperties");
        values.filter(|values| values.is_object())
    });
    match inner {
        Some(inner) => format!("{word} of {}", type_of(inner)),
        None => word,
    }
}

/// Lists the operations that have all words, or shows the one with this name.
pub fn run(words: &[String], output: Output) -> Result<()> {
    let all = OPERATIONS.iter().map(Tool::new);
    let found: Vec<Tool> = match words {
        [name]
            if OPERATIONS
                .iter()
                .any(|it| it.name == name || it.tool == name) =>
        {
            all.filter(|tool| tool.is_called(name)).collect()
        }
        words => {
            let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
            all.filter(|tool| words.iter().all(|word| tool.has(word)))
                .collect()
        }
    };
    if found.is_empty() {
        return Err(none(words));
    }
    output.result(&found, |found| match found.as_slice() {
        [only] => whole(only),
        several => overview(several),
    })
}

/// That no operation has the words, and the name that one of them may have been meant for.
fn none(words: &[String]) -> Error {
    let names = OPERATIONS.iter().flat_map(|operation| {
        let function = operation.name.rsplit('/').next();
        [operation.name, operation.tool, operation.interface()]
            .into_iter()
            .chain(function)
    });
    let near = words.iter().find_map(|word| nearest(word, names.clone()));
    let near = near.map_or_else(
        || "list them: qchost tools".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let words = terminal::line(&words.join(" "));
    Failed::error(
        ErrorKind::Failure(FailureKind::NotFound),
        format!("no operation has `{words}`; {near}"),
    )
}

fn overview(tools: &[Tool]) -> String {
    let rows: Vec<_> = tools
        .iter()
        .map(|tool| {
            let first = tool.description.split_inclusive(". ").next();
            let first = first.unwrap_or_default().trim_end();
            vec![text(tool.name), text(tool.class), text(first)]
        })
        .collect();
    table(&["name", "class", "what it does"], &rows)
}

fn whole(tool: &Tool) -> String {
    let meaning = match tool.access {
        Access::Read => "changes nothing",
        Access::Reduce => "makes the account safer",
        Access::Write => "can be changed back",
        Access::Destroy => "deletes",
        Access::Trade => "puts money at stake",
    };
    let granted = match tool.by_pattern {
        true => "by its name, or by a pattern with a star",
        false => "by its whole name only",
    };
    let touches = tool.touches.iter();
    let touches = touches.map(|one| format!("{} ({})", one.what, one.argument));
    let rows = [
        ("tool", text(tool.tool)),
        ("class", format!("{}: {meaning}", tool.class)),
        ("money", if tool.money { "yes" } else { "no" }.to_owned()),
        ("granted", granted.to_owned()),
        ("goes by", list(tool.ways.iter())),
        ("touches", list(touches)),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    let mut shown = format!(
        "{}\n{}\n\n{}",
        text(tool.name),
        folded(tool.description),
        fields(0, &rows)
    );
    if !tool.arguments.is_empty() {
        let arguments: Vec<_> = tool
            .arguments
            .iter()
            .map(|argument| {
                let required = if argument.required { "yes" } else { "no" };
                vec![
                    text(&argument.name),
                    text(&argument.r#type),
                    required.to_owned(),
                    maybe(argument.description.as_ref()),
                ]
            })
            .collect();
        let columns = ["argument", "type", "required", "what it is"];
        shown += &format!("\n\n{}", table(&columns, &arguments));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operation_has_its_words_and_a_type_for_each_argument() {
        for operation in OPERATIONS {
            let tool = Tool::new(operation);
            assert!(tool.has(operation.interface()), "{tool:?}");
            assert!(!tool.description.is_empty(), "{tool:?}");
            for argument in &tool.arguments {
                assert_ne!(argument.r#type, "any", "{tool:?}");
            }
            for touched in &tool.touches {
                let mut arguments = tool.arguments.iter();
                assert!(
                    arguments.any(|argument| argument.name == touched.argument),
                    "{tool:?}"
                );
            }
            let shown = whole(&tool);
            assert!(
                shown.contains(&format!("\nclass    {}: ", tool.class)),
                "{shown}"
            );
        }
    }

    #[test]
    fn types_are_in_words() {
        for (schema, words) in [
            (json!({ "type": "integer", "minimum": 0 }), "integer"),
            (json!({ "const": "json" }), "\"json\""),
            (json!({ "enum": ["Py", "C#"] }), "\"Py\" or \"C#\""),
            (
                json!({ "anyOf": [{ "enum": ["a"] }, { "type": "string" }] }),
                "\"a\" or string",
            ),
            (
                json!({ "type": "array", "items": { "type": "string" } }),
                "array of string",
            ),
            (
                json!({ "type": "object", "additionalProperties": { "type": ["string", "number"] } }),
                "object of string or number",
            ),
            (
                json!({ "type": "object", "properties": {}, "additionalProperties": false }),
                "object",
            ),
        ] {
            assert_eq!(type_of(&schema), words);
        }
    }
}
