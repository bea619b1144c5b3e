//! The requests that the emulator received, for tests to read.
//!
//! Invariant: no credential is kept. The authentication headers are never recorded, every
//! setting of a brokerage or a data provider but its `id` is replaced, and so is every field
//! whose name says that it is a secret. The log is a ring: the oldest entry is dropped.

use parking_lot::Mutex;
use std::collections::VecDeque;

use jiff::Timestamp;
use qchost_text::excerpt;
use serde_json::{Map, Value};

use crate::services::arguments::Arguments;
use crate::store::limits;

/// Replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedRequest {
    /// Counts from 1 since the emulator was started.
    pub number: u64,
    /// When it arrived.
    pub time: Timestamp,
    /// Such as `POST`.
    pub method: String,
    /// The path below the base, such as `/backtests/create`, or `/mcp/create_file` for a call of a tool of the remote
    /// MCP server; for what is not below the base, the whole path.
    pub path: String,
    /// The fields that were sent, secrets replaced by [`REDACTED`], long texts cut.
    pub body: Value,
    /// The HTTP status of the answer; `None` until it is answered.
    pub status: Option<u16>,
    /// `success` as it stands in the answer, where the answer is JSON.
    pub success: Option<bool>,
}

/// The latest requests, up to a capacity.
#[derive(Debug)]
pub(crate) struct RequestLog {
    capacity: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    count: u64,
    entries: VecDeque<LoggedRequest>,
}

impl RequestLog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ring: Mutex::new(Ring::default()),
        }
    }

    /// Records an arrival and gives its number.
    pub(crate) fn arrived(&self, method: &str, path: &str, body: Value) -> u64 {
        let mut ring = self.ring.lock();
        ring.count += 1;
        let number = ring.count;
        if ring.entries.len() >= self.capacity {
            ring.entries.pop_front();
        }
        if self.capacity > 0 {
            ring.entries.push_back(LoggedRequest {
                number,
                time: Timestamp::now(),
                method: excerpt(method, 16),
                path: excerpt(path, limits::NAME_LENGTH),
                body,
                status: None,
                success: None,
            });
        }
        number
    }

    /// Records the answer to a request that is still in the ring.
    pub(crate) fn answered(&self, number: u64, status: u16, success: Option<bool>) {
        let mut ring = self.ring.lock();
        let mut entries = ring.entries.iter_mut().rev();
        if let Some(entry) = entries.find(|entry| entry.number == number) {
            entry.status = Some(status);
            entry.success = success;
        }
    }

    pub(crate) fn entries(&self) -> Vec<LoggedRequest> {
        let ring = self.ring.lock();
        ring.entries.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        let mut ring = self.ring.lock();
        ring.entries.clear();
    }
}

/// The fields of a request as the log keeps them.
pub(crate) fn redacted(arguments: &Arguments) -> Value {
    let mut fields: Map<String, Value> = arguments
        .fields
        .iter()
        .map(|(name, value)| (excerpt(name, limits::NAME_LENGTH), redact(name, value)))
        .collect();
    if let Some(data) = &arguments.object_data {
        let size = format!("[{} bytes]", data.len());
        fields.insert("objectData".to_owned(), Value::String(size));
    }
    Value::Object(fields)
}

fn redact(name: &str, value: &Value) -> Value {
    if matches!(name, "brokerage" | "dataProviders") && value.is_object() {
        return redact_settings(value);
    }
    if names_a_secret(name) {
        return Value::String(REDACTED.to_owned());
    }
    match value {
        Value::String(text) => Value::String(excerpt(text, limits::LOGGED_TEXT)),
        Value::Array(items) => items.iter().map(|item| redact("", item)).collect(),
        Value::Object(fields) => map_values(fields, redact),
        other => other.clone(),
    }
}

/// Settings of a brokerage: names stay, values go, `id` excepted.
fn redact_settings(value: &Value) -> Value {
    match value {
        Value::Object(fields) => map_values(fields, |name, value| match name {
            "id" => redact("", value),
            _ => redact_settings(value),
        }),
        _ => Value::String(REDACTED.to_owned()),
    }
}

/// An object with the same names and other values.
fn map_values(fields: &Map<String, Value>, value: fn(&str, &Value) -> Value) -> Value {
    let fields = fields.iter();
    let fields = fields.map(|(name, old)| (name.clone(), value(name, old)));
    Value::Object(fields.collect())
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "password",
        "secret",
        "token",
        "api-key",
        "apikey",
        "encryptionkey",
    ]
    .iter()
    .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_keep_their_names_and_lose_their_values() {
        let arguments = Arguments {
            fields: json!({
                "projectId": 7,
                "brokerage": {"id": "X", "x-user": "u", "x-password": "p"},
                "dataProviders": {"Y": {"id": "Y", "y-api-key": "k"}},
                "nested": {"api-token": {"deep": "t"}},
            })
            .as_object()
            .unwrap()
            .clone(),
            object_data: None,
        };
        assert_eq!(
            redacted(&arguments),
            json!({
                "projectId": 7,
                "brokerage": {"id": "X", "x-user": REDACTED, "x-password": REDACTED},
                "dataProviders": {"Y": {"id": "Y", "y-api-key": REDACTED}},
                "nested": {"api-token": REDACTED},
            })
        );
    }

    #[test]
    fn the_oldest_entry_goes() {
        let log = RequestLog::new(2);
        for _ in 0..3 {
            log.arrived("POST", "/projects/read", Value::Null);
        }
        let numbers: Vec<u64> = log.entries().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [2, 3]);
    }
}
