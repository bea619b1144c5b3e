//! What `#[agent]` expands to: the three functions of the contract's `guest`, built from typed
//! functions. Not for direct use.
//!
//! Invariant: an action runs only with an input that its type accepts, and every answer is JSON.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Action, Failure, Hints};

/// The input of an action that takes none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Describes an action by its function.
pub fn describe<I: JsonSchema, O: JsonSchema, E>(
    name: &str,
    description: &str,
    hints: Hints,
    _: fn(I) -> Result<O, E>,
) -> Action {
    let settings = SchemaSettings::draft2020_12;
    Action {
        name: name.into(),
        description: description.into(),
        input_schema: schema::<I>(settings().for_deserialize().into_generator()),
        output_schema: schema::<O>(settings().for_serialize().into_generator()),
        hints,
    }
}

/// The schema of an agent's settings, as [`config::load`](crate::config::load) reads them.
#[must_use]
pub fn settings<T: JsonSchema + DeserializeOwned>() -> String {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    schema::<T>(settings.into_generator())
}

fn schema<T: JsonSchema>(generator: SchemaGenerator) -> String {
    generator.into_root_schema_for::<T>().as_value().to_string()
}

/// Runs an action: JSON in, JSON out.
///
/// # Errors
/// If the input is not what the function takes, or the function fails.
pub fn run<I: DeserializeOwned, O: Serialize, E: Into<Failure>>(
    input: &str,
    action: fn(I) -> Result<O, E>,
) -> Result<String, Failure> {
    let input =
        serde_json::from_str(input).map_err(|error| Failure::InvalidInput(error.to_string()))?;
    let output = action(input).map_err(Into::into)?;
    serde_json::to_string(&output)
        .map_err(|error| Failure::Failed(format!("the action's output has no JSON form: {error}")))
}

/// Hands an event to its handler.
///
/// # Errors
/// If the handler fails.
pub fn deliver<E: Into<Failure>>(
    event: crate::Event,
    handler: fn(crate::Event) -> Result<(), E>,
) -> Result<(), Failure> {
    handler(event).map_err(Into::into)
}

/// The answer to a call for something that the agent does not have.
#[must_use]
pub fn unsupported(what: &str, name: &str, known: &[&str]) -> Failure {
    let known = match known {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    };
    Failure::Unsupported(format!("this agent has no {what} \"{name}\"; {known}"))
}

/// Stands for the export that an agent has only when it is built for WebAssembly: elsewhere, the
/// compiler would take everything in it for dead code.
pub fn used<G: crate::Guest>() {}
