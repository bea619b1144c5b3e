//! JSON arguments of the command line; `-` stands for standard input.

use std::io::Read as _;

use anyhow::{Context as _, Result, anyhow};
use qchost_runtime::json;
use serde_json::{Map, Value};

/// The input of a plugin.
pub fn json_argument(text: &str) -> Result<Value> {
    json::input(&read_argument(text)?)
        .map_err(|error| anyhow!("the input: {}", json::problem(&error)))
}

/// The arguments of a tool, as [`json_argument`] reads them; no number in them is rounded.
pub fn tool_arguments(text: &str) -> Result<Map<String, Value>> {
    json::arguments(&read_argument(text)?).map_err(|error| {
        anyhow!(
            "the arguments of a tool are a JSON object: {}",
            json::problem(&error)
        )
    })
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
