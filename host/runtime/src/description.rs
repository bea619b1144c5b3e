//! A component's description of itself, checked before it is used.
//!
//! Invariant: a description grants nothing and has no duplicate names; its schemas are bounded and
//! ready for use.

use std::collections::HashMap;
use std::sync::Arc;

use qchost_policy::is_name;
use qchost_text::excerpt_bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::contract::exports::qchost::agent::guest;
use crate::schema::Schema;
use crate::text;

/// Maximum actions of a plugin.
const MAX_ACTIONS: usize = 256;
/// Maximum bytes of a text in a description.
const MAX_TEXT: usize = 4096;

/// A plugin's description of itself.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Description {
    /// Its own name: `[a-z0-9-]{1,64}`. The manifest's name takes precedence.
    pub name: String,
    /// Its version, as in `1.2.3`.
    pub version: String,
    /// Its purpose.
    pub summary: String,
    /// Its actions.
    pub actions: Vec<Action>,
    /// JSON Schema of its settings, the `[config]` of its manifest; the host checks each manifest against it.
    #[serde(rename = "config-schema", skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
}

/// An action of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Action {
    /// Its name: `[a-z0-9-]{1,64}`.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input; the host checks every input against it.
    pub input_schema: Value,
    /// JSON Schema of its output; the host checks every output against it.
    pub output_schema: Value,
    /// The plugin's own claims about its effects.
    pub hints: Hints,
}

/// A plugin's own claims about an action. They grant nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Hints {
    /// It changes nothing at QuantConnect.
    pub read_only: bool,
    /// It may delete something or put money at stake.
    pub destructive: bool,
    /// Repeating it has no further effect.
    pub idempotent: bool,
}

/// What the host checks for a plugin.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    /// The schemas of the actions, by their names.
    pub(crate) actions: HashMap<String, ActionSchemas>,
    /// What `[config]` is checked against.
    pub(crate) config: Option<Schema>,
}

/// What an action's inputs and outputs are checked against.
#[derive(Debug)]
pub(crate) struct ActionSchemas {
    pub(crate) input: Arc<Schema>,
    pub(crate) output: Arc<Schema>,
}

/// Checks a description; the error says what is wrong with it.
pub(crate) fn check(description: guest::Description) -> Result<(Description, Schemas), String> {
    named("the plugin", &description.name)?;
    if description.actions.len() > MAX_ACTIONS {
        return Err(format!(
            "it has {} actions; at most {MAX_ACTIONS} are allowed",
            description.actions.len()
        ));
    }
    let mut schemas = Schemas::default();
    let mut actions = Vec::with_capacity(description.actions.len());
    for action in description.actions {
        named("an action", &action.name)?;
        let schema = |which: &str, text: &str| {
            Schema::parse(text)
                .map_err(|why| format!("the {which} schema of `{}`: {why}", action.name))
        };
        let input = schema("input", &action.input_schema)?;
        let output = schema("output", &action.output_schema)?;
        actions.push(Action {
            name: action.name.clone(),
            description: bounded(&action.description),
            input_schema: input.value.clone(),
            output_schema: output.value.clone(),
            hints: Hints {
                read_only: action.hints.read_only,
                destructive: action.hints.destructive,
                idempotent: action.hints.idempotent,
            },
        });
        let (input, output) = (Arc::new(input), Arc::new(output));
        if schemas
            .actions
            .insert(action.name.clone(), ActionSchemas { input, output })
            .is_some()
        {
            return Err(format!("there are two actions called `{}`", action.name));
        }
    }
    let config = description.config_schema.as_deref().map(Schema::parse);
    schemas.config = config
        .transpose()
        .map_err(|why| format!("the schema of `[config]`: {why}"))?;
    let description = Description {
        name: description.name,
        version: text::line(&description.version, 64),
        summary: bounded(&description.summary),
        actions,
        config_schema: schemas.config.as_ref().map(|schema| schema.value.clone()),
    };
    Ok((description, schemas))
}

fn named(what: &str, name: &str) -> Result<(), String> {
    if is_name(name) {
        return Ok(());
    }
    Err(format!(
        "{what} is called `{}`; a name has a-z, 0-9 and `-`, at most 64",
        text::line(name, 100)
    ))
}

/// A multi-line text, truncated. Line breaks stay, other control characters are removed.
fn bounded(words: &str) -> String {
    let lines = words.lines().map(|line| text::line(line, MAX_TEXT));
    let lines: Vec<_> = lines.collect();
    excerpt_bytes(&lines.join("\n"), MAX_TEXT)
}
