//! JSON arguments of the command line; `-` stands for standard input.

use std::io::Read as _;

use anyhow::{Context as _, Error, Result};
use qchost_runtime::json;
use serde_json::{Map, Value};

use crate::exit_status::{ErrorKind, Failed};

/// The input of a plugin.
pub fn json_argument(text: &str) -> Result<Value> {
    json::input(&read_argument(text)?)
        .map_err(|error| usage(format!("the input: {}", json::problem(&error))))
}

/// The arguments of an operation, which may be any JSON object.
pub fn object_argument(text: &str) -> Result<Map<String, Value>> {
    match json_argument(text)? {
        Value::Object(arguments) => Ok(arguments),
        _ => Err(usage(
            "the arguments of an operation are a JSON object".to_owned(),
        )),
    }
}

/// The arguments of a tool, as [`json_argument`] reads them; no number in them is rounded.
pub fn tool_arguments(text: &str) -> Result<Map<String, Value>> {
    json::arguments(&read_argument(text)?).map_err(|error| {
        usage(format!(
            "the arguments of a tool are a JSON object: {}",
            json::problem(&error)
        ))
    })
}

fn usage(message: String) -> Error {
    Failed::error(ErrorKind::Usage, message)
}

fn read_argument(text: &str) -> Result<String> {
    Ok(if text == "-" {
        let mut read = String::new();
        std::io::stdin()
            .read_to_string(&mut read)
            .context("cannot read standard input")?;
        read
    } else {
        text.to_owned()
    })
}
