//! `[config]`: settings that the plugin reads.
//!
//! Invariant: no value that looks like a secret is accepted, since the plugin and everyone who may read the manifest see
//! it, and no message holds a refused value.

use qchost_text::{is_named_like_secret, looks_like_secret};
use serde_json::{Map, Value};
use toml::de::DeTable;

use super::Manifest;
use super::reader::{Fields, Item, Problem};

/// How a plugin gets to use a secret.
const INSTEAD: &str = "the plugin and all readers of this file see [config]; let the host send the secret instead: [[http]] headers = { Authorization = { env = \"NAME\" } }, or { file = \"path\" } or { vault = \"mount/path#field\" }";

pub(super) fn read(item: &Item<'_>) -> Result<Map<String, Value>, Problem> {
    if !item.is_table() {
        return Err(item.wrong("must be a table"));
    }
    for (name, value) in item.table()?.entries() {
        check(name, &value, false)?;
    }
    match item.json()? {
        Value::Object(config) => Ok(config),
        _ => Err(item.wrong("must be a table")),
    }
}

/// Refuses what looks like a secret. `is_named`: a table around it is named like one.
fn check(name: &str, item: &Item<'_>, is_named: bool) -> Result<(), Problem> {
    let is_named = is_named || is_named_like_secret(name);
    if item.is_table() {
        for (name, value) in item.table()?.entries() {
            check(name, &value, is_named)?;
        }
    } else if let Some(items) = item.as_list() {
        for value in items {
            check(name, &value, is_named)?;
        }
    } else if let Value::String(text) = item.json()? {
        let why = match is_named && !text.is_empty() {
            true => Some("is named like a secret"),
            false => looks_like_secret(name, &text),
        };
        if let Some(why) = why {
            return Err(item.wrong(&format!("{why}; {INSTEAD}")));
        }
    }
    Ok(())
}

impl Manifest {
    /// Where the file has the value at a JSON pointer into `[config]`: its key, as errors name it, and its line from 1. For
    /// a value that the file does not have, the innermost table around it.
    #[must_use]
    pub fn place_in_config(&self, pointer: &str) -> (String, usize) {
        let text = &self.origin.text;
        let absent = || ("config".to_owned(), 1);
        let Ok(document) = DeTable::parse(text) else {
            return absent();
        };
        let Some(mut item) = Fields::root(&document).get("config") else {
            return absent();
        };
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let inner = match item.as_list() {
                Some(items) => step
                    .parse()
                    .ok()
                    .and_then(|at: usize| items.get(at).cloned()),
                None => item.table().ok().and_then(|table| table.get(&step)),
            };
            match inner {
                Some(inner) => item = inner,
                None => break,
            }
        }
        let found = item.wrong("");
        let before = text.bytes().take(found.at);
        let line = before.filter(|byte| *byte == b'\n').count() + 1;
        (found.key, line)
    }
}
