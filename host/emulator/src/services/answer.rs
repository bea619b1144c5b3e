//! How the cloud answers: an object with `success` and `errors`.
//!
//! Invariant: an endpoint can only end in an [`Answer`]. Every fault of a request becomes a
//! [`Refusal`] with the reasons; no request leads to a 5xx.

use std::pin::Pin;

use bytes::Bytes;
use qchost_text::excerpt;
use serde_json::{Map, Value, json};

/// What an endpoint returns: a reply, or the reasons why the request is refused.
pub(crate) type Answer = Result<Reply, Refusal>;

/// The answer of an endpoint that waits for something.
pub(crate) type LaterAnswer = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A reply that is not a refusal.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A JSON object, sent as it is.
    Json(Map<String, Value>),
    /// HTTP 302 to this address, with the address in the body as well.
    Redirect(String),
    /// A zip archive to download.
    Archive(Bytes),
    /// A file in place of the answer: its type and its text.
    File(&'static str, String),
    /// A page for a person in a browser.
    Page(String),
}

impl Reply {
    /// The fields of `body` with `success: true` and an empty list of errors. A `body` that is
    /// not an object adds nothing.
    pub(crate) fn success(body: Value) -> Answer {
        let mut fields = fields(body);
        fields.extend(self::fields(json!({"success": true, "errors": []})));
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

/// The fields of an object; none of any other value.
pub(crate) fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The form in which the cloud says that it is still producing a chart or a list of orders
/// (its `LoadingResponse` model): a success with a `progress` from 0 to 1 and none of the
/// fields that were asked for.
pub(crate) fn loading(progress: f64) -> Map<String, Value> {
    fields(json!({"progress": progress, "status": "loading", "success": true}))
}

/// The reasons why a request is not carried out.
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

    /// A thing that does not exist, or belongs elsewhere.
    pub(crate) fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        let id = excerpt(&id.to_string(), 200);
        Self::because(format!("{what} not found: {id}"))
    }

    /// A bound of the emulator's memory.
    pub(crate) fn full(limit: usize, what: &str) -> Self {
        Self::because(format!(
            "The emulator holds at most {limit} {what}: delete some first"
        ))
    }

    /// The body in the cloud's form.
    pub(crate) fn into_body(self) -> Map<String, Value> {
        fields(json!({"success": false, "errors": self.0}))
    }
}

/// Ends an endpoint, or what it calls, with one reason, written as for `format!`.
macro_rules! refuse {
    ($($reason:tt)+) => {
        return Err($crate::services::answer::Refusal::because(format!($($reason)+)))
    };
}
pub(crate) use refuse;

/// A map as PHP encodes it: an empty one is an empty list.
pub(crate) fn php_map(map: &Map<String, Value>) -> Value {
    if map.is_empty() {
        json!([])
    } else {
        json!(map)
    }
}
