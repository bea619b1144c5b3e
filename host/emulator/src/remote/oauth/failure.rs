//! What the authorisation server answers when it refuses.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// An answer that must not be kept.
pub(super) const NO_STORE: [(&str, &str); 1] = [("cache-control", "no-store")];

/// A refusal with OAuth's code for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    description: String,
}

impl Failure {
    /// A refusal that the client caused.
    pub(super) fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            description: description.into(),
        }
    }

    /// No random bytes for a code or a token.
    pub(super) fn without_randomness(error: &getrandom::Error) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "server_error",
            description: format!("the system gives no random bytes: {error}"),
        }
    }

    /// OAuth's word for the reason.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    pub(super) fn into_response(self) -> Response {
        let body: Value = json!({"error": self.code, "error_description": self.description});
        (self.status, NO_STORE, axum::Json(body)).into_response()
    }
}
