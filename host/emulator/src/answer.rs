//! How the cloud answers: an object with `success` and `errors`, HTTP status 200 even when a
//! request is refused.
//!
//! Invariant: a handler can only end in an [`Answer`]. Whatever is wrong with a request becomes
//! a [`Refusal`] with the reason in words; there is no path from a request to a 5xx.

use axum::body::Bytes;
use serde_json::{Map, Value, json};

/// What a handler gives: the reply, or why the request is refused.
pub(crate) type Answer = Result<Reply, Refusal>;

/// A reply that is not a refusal.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A JSON object, sent as it is.
    Json(Map<String, Value>),
    /// HTTP 302 to this address, with the address in the body as well.
    Redirect(String),
    /// A file to download.
    File {
        /// Its media type.
        mime: &'static str,
        /// Its content.
        bytes: Bytes,
    },
    /// A page for a person in a browser.
    Page(String),
}

impl Reply {
    /// The fields of `body` with `success: true` and an empty list of errors. A `body` that is
    /// not an object adds nothing.
    pub(crate) fn success(body: Value) -> Answer {
        let mut fields = match body {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        fields.insert("success".to_owned(), Value::Bool(true));
        fields.insert("errors".to_owned(), json!([]));
        Ok(Self::Json(fields))
    }

    /// Success and nothing else.
    pub(crate) fn done() -> Answer {
        Self::success(Value::Null)
    }

    /// See [`loading`].
    pub(crate) fn loading(progress: f64) -> Answer {
        Ok(Self::Json(loading(progress)))
    }
}

/// The form in which the cloud says that it is still producing a chart or a list of orders
/// (its `LoadingResponse` model): a success with a `progress` from 0 to 1 and none of the
/// fields that were asked for.
pub(crate) fn loading(progress: f64) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("progress".to_owned(), json!(progress));
    fields.insert("status".to_owned(), json!("loading"));
    fields.insert("success".to_owned(), Value::Bool(true));
    fields
}

/// A request that was understood as far as possible and not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) Vec<String>);

impl Refusal {
    /// One reason.
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self(vec![reason.into()])
    }

    /// A required field that is not there.
    pub(crate) fn missing(field: &str) -> Self {
        Self::because(format!("Missing required field: {field}"))
    }

    /// A field of the wrong type or out of its range.
    pub(crate) fn invalid(field: &str, expected: &str) -> Self {
        Self::because(format!("Invalid value for {field}: expected {expected}"))
    }

    /// A thing that does not exist, or not where it was looked for.
    pub(crate) fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::because(format!(
            "{what} not found: {}",
            shorten(&id.to_string(), 200)
        ))
    }

    /// The body in the cloud's form.
    pub(crate) fn into_body(self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("success".to_owned(), Value::Bool(false));
        fields.insert("errors".to_owned(), json!(self.0));
        fields
    }
}

/// At most `limit` characters of a text that a client chose, so that an error cannot be used to
/// send a long text back.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut short: String = text.chars().take(limit).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A map as PHP encodes it: an empty one is an empty list.
pub(crate) fn php_map(map: Map<String, Value>) -> Value {
    if map.is_empty() {
        json!([])
    } else {
        Value::Object(map)
    }
}
