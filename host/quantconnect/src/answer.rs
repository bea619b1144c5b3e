//! What comes back from the REST API, and what it means.
//!
//! Invariant: an [`Answer`] is one JSON object whose text is exactly what the cloud sent, so
//! that numbers and the order of keys survive. Whatever is not that is a `Failure`.

use std::time::Duration;

use qchost_catalog::{CredentialsRefusal, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

/// How much of an upstream's own words a message may carry.
const EXCERPT_CHARS: usize = 300;

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    text: String,
    rejected: bool,
    errors: Vec<String>,
}

/// The two keys that say what an answer is; everything else is skipped unread.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    success: Option<Value>,
    #[serde(default)]
    errors: Option<Value>,
}

impl Answer {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A sentence that says why the text is no answer of the REST API.
    pub(crate) fn parse(text: String) -> Result<Self, String> {
        // A derived struct would also accept an array.
        if !text.trim_start().starts_with('{') {
            return Err(format!("not a JSON object but {:?}", excerpt(&text)));
        }
        let head: Head = serde_json::from_str(&text)
            .map_err(|error| format!("not valid JSON ({error}): {:?}", excerpt(&text)))?;
        let rejected = match head.success {
            None | Some(Value::Null | Value::Bool(true)) => false,
            Some(Value::Bool(false)) => true,
            Some(other) => return Err(format!("\"success\" is {}", excerpt(&other.to_string()))),
        };
        Ok(Self {
            text,
            rejected,
            errors: words(head.errors),
        })
    }

    /// An answer of our own making.
    pub(crate) fn of(value: &Value) -> Self {
        Self {
            text: value.to_string(),
            rejected: false,
            errors: Vec::new(),
        }
    }

    /// A refusal of the credentials by status: 401 is about them, whatever the words are.
    pub(crate) fn unauthorized(error: String) -> Self {
        let body = json!({
            "success": false,
            "errors": [error],
            "failure": { "kind": "unauthorized" },
        });
        Self {
            text: body.to_string(),
            rejected: true,
            errors: vec![error],
        }
    }

    /// The body, byte for byte.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the cloud said `success: false`.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }

    /// The cloud's `errors`.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Whether the cloud refuses the credentials or their timestamp.
    pub(crate) fn refuses_credentials(&self) -> bool {
        let refuses = |error: &String| CredentialsRefusal::parse(error).is_some();
        self.rejected && self.errors.iter().any(refuses)
    }

    /// The same answer with one more line in `errors`.
    pub(crate) fn with_error(self, error: String) -> Self {
        let Ok(Value::Object(mut body)) = serde_json::from_str(&self.text) else {
            return self;
        };
        let mut errors = self.errors;
        errors.push(error);
        body.insert("errors".to_owned(), json!(errors));
        Self {
            text: Value::Object(body).to_string(),
            rejected: self.rejected,
            errors,
        }
    }
}

/// The strings of an `errors` value, whatever form it has.
fn words(errors: Option<Value>) -> Vec<String> {
    match errors {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.into_iter().map(word).collect(),
        Some(other) => vec![word(other)],
    }
}

fn word(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The beginning of an untrusted text.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.trim().chars().take(EXCERPT_CHARS).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

/// The body that tells an MCP client of a failure, in the form of the cloud's own refusals:
/// `{"success": false, "errors": [..], "failure": {"kind": .., "retryAfter": seconds?}}`. A refusal of the credentials
/// by HTTP status has this form too, see [`Answer::unauthorized`].
pub(crate) fn failure_body(failure: &Failure) -> Value {
    let (kind, message) = match failure {
        Failure::InvalidArgument(message) => ("invalid-argument", message.clone()),
        Failure::NotFound(message) => ("not-found", message.clone()),
        Failure::NotReady { message, .. } => ("not-ready", message.clone()),
        Failure::Rejected(errors) => return json!({ "success": false, "errors": errors }),
        Failure::RateLimited { .. } => ("rate-limited", failure.to_string()),
        Failure::Unavailable(message) => ("unavailable", message.clone()),
        Failure::TimedOut { .. } => ("timed-out", failure.to_string()),
        Failure::UnknownOutcome(message) => ("unknown-outcome", message.clone()),
        Failure::UnexpectedResponse(message) => ("unexpected-response", message.clone()),
        Failure::Halted(message) => ("halted", message.clone()),
    };
    let mut body = json!({
        "success": false,
        "errors": [message],
        "failure": { "kind": kind },
    });
    if let Failure::RateLimited {
        retry_after: Some(wait),
    } = failure
        && let Some(failure) = body.get_mut("failure").and_then(Value::as_object_mut)
    {
        failure.insert("retryAfter".to_owned(), json!(whole_seconds(*wait)));
    }
    body
}

/// Rounded up: an early retry is refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_json_object_is_an_answer() {
        for text in [
            "",
            " ",
            "null",
            "[]",
            "[true]",
            "\"x\"",
            "1",
            "<html>busy</html>",
            "{",
            "{\"a\":1}x",
            "{\"success\":\"false\"}",
            "{\"success\":0}",
            "{\"success\":true,\"success\":false}",
        ] {
            let reason = Answer::parse(text.to_owned()).unwrap_err();
            assert!(!reason.is_empty(), "{text}");
        }
    }

    #[test]
    fn success_false_is_a_rejection_and_nothing_else_is() {
        let rejected = |text: &str| Answer::parse(text.to_owned()).unwrap().is_rejected();
        assert!(rejected(r#"{"success": false}"#));
        for text in [
            "{}",
            r#" {"success": true}"#,
            r#"{"success": null}"#,
            r#"{"errors": ["x"]}"#,
        ] {
            assert!(!rejected(text), "{text}");
        }
    }

    #[test]
    fn errors_are_read_in_every_form_the_cloud_uses() {
        let errors = |text: &str| Answer::parse(text.to_owned()).unwrap().errors().to_vec();
        assert_eq!(errors(r#"{"errors": ["a", "b"]}"#), ["a", "b"]);
        assert_eq!(errors(r#"{"errors": "a"}"#), ["a"]);
        assert_eq!(errors(r#"{"errors": [{"code": 1}]}"#), [r#"{"code":1}"#]);
        assert_eq!(errors(r#"{"errors": null}"#), [""; 0]);
    }

    #[test]
    fn a_long_foreign_text_is_cut() {
        let reason = Answer::parse("x".repeat(10_000)).unwrap_err();
        assert!(reason.len() < 400, "{}", reason.len());
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let body = failure_body(&Failure::RateLimited {
            retry_after: Some(Duration::from_millis(1_200)),
        });
        assert_eq!(body.pointer("/failure/retryAfter"), Some(&json!(2)));
        let body = failure_body(&Failure::RateLimited { retry_after: None });
        assert_eq!(
            body.pointer("/failure"),
            Some(&json!({ "kind": "rate-limited" }))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            if let Ok(answer) = Answer::parse(text.clone()) {
                prop_assert_eq!(answer.text(), text);
            }
        }

        #[test]
        fn every_byte_of_a_body_is_kept(number in "-?[1-9][0-9]{0,30}\\.[0-9]{1,30}", key in "[a-z]{1,8}") {
            let text = format!("{{ \"z{key}\": {number}, \"a\": [ 1 ] }}");
            let answer = Answer::parse(text.clone()).unwrap();
            prop_assert_eq!(answer.text(), text);
        }
    }
}
