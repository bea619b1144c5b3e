//! Decodes an MCP server's answer: a `CallToolResult` becomes an [`Outcome`].
//!
//! Two kinds of server are supported: those that pass on the REST API's bodies (QuantConnect's own, whose tools
//! return `success: false` as a successful call, and HTTP errors as text), and ours, which marks `success: false` as
//! an error and adds `"failure": {"kind": …, "retryAfter": seconds}` to the body if the fault is not the cloud's own.
//!
//! Invariants: the kind of a failure, and whether the account caused it, is decided by structure (a status, a code, a
//! `failure` object) or by words at a fixed position of the server's own text, never by words that a plugin chose.
//! `Ok` is only what QuantConnect called a success. For a non-idempotent operation, `Unavailable` and `RateLimited`
//! mean that nothing was done; a fault after which it may have been done is `UnknownOutcome`.

mod failure;
mod masked;
mod text;

#[cfg(test)]
mod tests;

use qchost_catalog::{Access, Failure, Operation, begins};
use rmcp::model::{CallToolResult, ErrorCode, ErrorData};
use serde_json::{Map, Value};

use self::text::says_not_found;
use crate::fault::Fault;
use crate::text::Redactor;

/// Keys of a "still loading" answer; any other key is content.
const LOADING_KEYS: [&str; 5] = ["success", "errors", "progress", "status", "message"];

/// Decodes the answers to one call.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'a> {
    /// The operation, if the catalog knows it.
    pub operation: Option<&'static Operation>,
    /// Redacts secrets.
    pub redactor: &'a Redactor,
    /// The arguments of the call, which a refusal may repeat.
    pub arguments: &'a Map<String, Value>,
}

/// The usable part of a result.
enum Content {
    Object(Map<String, Value>),
    /// JSON that is not an object.
    Other(Value),
    /// Not JSON.
    Text(String),
    Nothing,
}

impl Decoder<'_> {
    /// The outcome of an answered call.
    pub(crate) fn answer(&self, result: CallToolResult) -> Result<Value, Fault> {
        let is_error = result.is_error == Some(true);
        match content(result) {
            Content::Object(body) => self.object(body, is_error),
            Content::Text(text) if is_error => Err(self.error_text(&text)),
            Content::Other(value) if is_error => Err(self.error_text(&value.to_string())),
            Content::Nothing if is_error => Err(self
                .lost("the server answered an error without a word")
                .into()),
            // Nothing is known about such a tool's answers, so any value is accepted.
            Content::Other(value) if self.operation.is_none() => Ok(value),
            Content::Text(text) if self.operation.is_none() => Ok(Value::String(text)),
            Content::Nothing if self.operation.is_none() => Ok(Value::Null),
            Content::Text(text) if self.answered_by_server() => Ok(Value::Object(Map::from_iter(
                [("result".to_owned(), Value::String(text))],
            ))),
            Content::Other(value) => {
                Err(self.unexpected("a JSON object", &value.to_string()).into())
            }
            Content::Text(text) => Err(self.unexpected("a JSON object", &text).into()),
            Content::Nothing => {
                Err(Failure::UnexpectedResponse("the server's answer is empty".to_owned()).into())
            }
        }
    }

    /// The failure of a call that the server refused with a JSON-RPC error.
    pub(crate) fn protocol_error(&self, error: &ErrorData) -> Failure {
        let message = self.redactor.line(&error.message);
        match error.code {
            ErrorCode::INVALID_PARAMS if !names_unknown_tool(&self.masked(&error.message)) => {
                Failure::InvalidArgument(message)
            }
            ErrorCode::INVALID_PARAMS
            | ErrorCode::METHOD_NOT_FOUND
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::PARSE_ERROR => Failure::UnexpectedResponse(format!(
                "the server refused the call ({}): {message}",
                error.code.0
            )),
            code => self.lost(&format!("the server failed ({}): {message}", code.0)),
        }
    }

    /// The failure of a call whose answer is lost although it may have been carried out. `reason` is shown unchanged.
    pub(crate) fn lost(&self, reason: &str) -> Failure {
        if self.idempotent() {
            Failure::Unavailable(reason.to_owned())
        } else {
            Failure::UnknownOutcome(reason.to_owned())
        }
    }

    /// Whether the call may be retried after its answer was lost.
    pub(crate) fn idempotent(&self) -> bool {
        self.operation.is_some_and(|operation| operation.idempotent)
    }

    /// Whether the call changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        self.operation
            .is_some_and(|operation| operation.access == Access::Read)
    }

    /// The server's own words of a refusal, in lower case.
    fn masked(&self, words: &str) -> String {
        masked::mask(words, self.arguments)
    }

    /// Only a read can be "not ready"; an unknown tool may be a read.
    fn may_be_loading(&self) -> bool {
        self.operation
            .is_none_or(|operation| operation.access == Access::Read)
    }

    fn answered_by_server(&self) -> bool {
        self.operation.is_some_and(Operation::answered_by_server)
    }

    fn object(&self, body: Map<String, Value>, is_error: bool) -> Result<Value, Fault> {
        let success = match body.get("success") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(success)) => Some(*success),
            Some(other) => {
                return Err(self
                    .unexpected("\"success\" to be true or false", &other.to_string())
                    .into());
            }
        };
        let errors = strings(body.get("errors"));
        let refused =
            success == Some(false) || is_error || (success.is_none() && !errors.is_empty());
        if refused && let Some(failure) = body.get("failure").and_then(Value::as_object) {
            return Err(self.reported_failure(failure, errors));
        }
        if is_error && success == Some(true) {
            let body = Value::Object(body).to_string();
            return Err(self
                .unexpected("either an error or a success", &body)
                .into());
        }
        if self.may_be_loading() && is_loading_body(&body) {
            let progress = progress_value(body.get("progress"));
            return Err(self.not_ready(progress, errors).into());
        }
        if refused {
            return Err(self.refusal(errors));
        }
        if body.values().all(Value::is_null) && self.operation.is_some() {
            let body = Value::Object(body).to_string();
            return Err(self.unexpected("an answer", &body).into());
        }
        Ok(Value::Object(body))
    }

    fn not_ready(&self, progress: Option<f64>, errors: Vec<String>) -> Failure {
        let message = match errors.is_empty() {
            true => "still loading".to_owned(),
            false => self.redactor.line(&errors.join("; ")),
        };
        Failure::NotReady { progress, message }
    }

    fn unexpected(&self, expected: &str, got: &str) -> Failure {
        Failure::UnexpectedResponse(format!(
            "expected {expected} but the server answered: {}",
            self.redactor.line(got)
        ))
    }
}

/// Prefers the text copy if it holds JSON: parsing it once is cheaper than what the transport did for
/// `structuredContent`, and it is the REST API's own body where the structured one was filtered through a schema.
fn content(result: CallToolResult) -> Content {
    let text = result
        .content
        .iter()
        .filter_map(|block| block.as_text())
        .map(|block| block.text.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    let parsed = serde_json::from_str(&text).ok();
    match (parsed, result.structured_content) {
        (Some(Value::Object(body)), _) | (_, Some(Value::Object(body))) => Content::Object(body),
        // A version such as `1.0` is JSON by accident; unquoted text stays text.
        (Some(value @ (Value::Array(_) | Value::String(_))), _) => Content::Other(value),
        (_, Some(value)) if !value.is_null() => Content::Other(value),
        _ if !text.is_empty() => Content::Text(text),
        _ => Content::Nothing,
    }
}

/// Whether the body contains nothing but the progress of loading.
fn is_loading_body(body: &Map<String, Value>) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let says_loading = body
        .get("status")
        .and_then(Value::as_str)
        .is_some_and(|status| status.eq_ignore_ascii_case("loading"));
    let has_progress = body.get("progress").is_some_and(Value::is_number);
    (says_loading || has_progress)
        && body
            .iter()
            .all(|(key, value)| LOADING_KEYS.contains(&key.as_str()) || empty(value))
}

/// A progress as a fraction of 1, or of 100.
fn progress_value(value: Option<&Value>) -> Option<f64> {
    let progress = value?.as_f64()?;
    let progress = if progress > 1.0 {
        progress / 100.0
    } else {
        progress
    };
    (0.0..=1.0).contains(&progress).then_some(progress)
}

/// The strings in an `errors` value of any form.
fn strings(errors: Option<&Value>) -> Vec<String> {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match errors {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(word).collect(),
        Some(other) => vec![word(other)],
    }
}

/// Whether a refusal, as classified, says that the server lacks the tool.
fn names_unknown_tool(masked: &str) -> bool {
    let of_tool = ["unknown tool", "tool not found"];
    of_tool.iter().any(|phrase| begins(masked, phrase))
        || (begins(masked, "tool") && says_not_found(masked))
}
