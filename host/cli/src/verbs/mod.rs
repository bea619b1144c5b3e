//! One file a verb.

pub mod build;
pub mod call;
pub mod demo;
pub mod doctor;
pub mod emulator;
pub mod init;
pub mod invoke;
pub mod mcp;
pub mod plugin;
pub mod run;
pub mod validate;

use std::io::Read as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// JSON of the command line; `-` stands for standard input.
pub fn json_argument(text: &str) -> Result<Value> {
    let text = if text == "-" {
        let mut read = String::new();
        std::io::stdin()
            .read_to_string(&mut read)
            .context("cannot read standard input")?;
        read
    } else {
        text.to_owned()
    };
    serde_json::from_str(&text).context("the input is not JSON")
}
