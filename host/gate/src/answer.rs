//! Checks and redaction that apply to the answer of any operation.
//!
//! Invariant: of an answer that holds a secret, nothing leaves but the fields that the contract names.

use qchost_catalog::Operation;
use qchost_catalog::shape::Type;
use serde_json::{Map, Value};

/// An answer that holds a secret, without the fields that the contract does not name: next to the
/// log-in address, the server returns the brokerage's tokens once the log-in is done.
pub(crate) fn without_secrets(operation: &Operation, mut body: Value) -> Value {
    if !operation.secret_answer {
        return body;
    }
    let Some(Type::Record(record)) = operation.function().and_then(|function| function.result)
    else {
        return body;
    };
    let mut answer = &mut body;
    for step in operation.answer_path() {
        match answer.get_mut(step) {
            Some(next) => answer = next,
            None => return body,
        }
    }
    match answer {
        Value::Object(fields) => fields.retain(|name, _| {
            matches!(name.as_str(), "success" | "errors")
                || record.fields.iter().any(|field| field.json == name)
        }),
        other => *other = Value::Object(Map::new()),
    }
    body
}
