//! What must be true of an answer, whatever the operation is.

use qchost_catalog::Operation;
use qchost_catalog::shape::Type;
use serde_json::{Map, Value};

/// An answer that holds a secret, without what the contract does not name: beside the address to
/// log in at stand, after the log-in, the tokens of the brokerage.
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
