//! One file per verb.

pub mod approvals;
pub mod audit;
pub mod backup;
pub mod build;
pub mod call;
pub mod demo;
pub mod doctor;
pub mod emulator;
pub mod grants;
pub mod halt;
pub mod init;
pub mod invoke;
pub mod mcp;
pub mod plugin;
pub mod policy;
pub mod reload;
pub mod restore;
pub mod run;
pub mod schema;
pub mod validate;

use std::io::Read as _;

use anyhow::{Context as _, Result, anyhow};
use jiff::Timestamp;
use qchost_runtime::json;
use serde_json::{Map, Value};

use crate::terminal;

/// JSON of the command line; `-` stands for standard input.
pub fn json_argument(text: &str) -> Result<Value> {
    json::input(&read_argument(text)?)
        .map_err(|error| anyhow!("the input: {}", json::problem(&error)))
}

/// The arguments of a tool, as [`json_argument`] reads them; no number in them is rounded.
pub fn tool_arguments(text: &str) -> Result<Map<String, Value>> {
    qchost_runtime::json::arguments(&read_argument(text)?).map_err(|error| {
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

/// A field of a row, for people: in one line, `-` if it is missing.
pub fn cell(row: &Value, key: &str) -> String {
    match row.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => terminal::line(text),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            let items = items.iter().map(|item| match item {
                Value::String(text) => terminal::line(text),
                item => terminal::line(&item.to_string()),
            });
            items.collect::<Vec<_>>().join(", ")
        }
        Some(value) => terminal::line(&value.to_string()),
    }
}

/// A Unix time in milliseconds, as RFC 3339; `None` if it is out of range.
pub fn instant(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms)
        .ok()
        .map(|at| at.to_string())
}
