//! The answers of MCP servers: the decoder of `qchost_upstream`.
//!
//! What says `success: false`, or is marked as an error, is never a success. A success is the body
//! that the server sent, nothing added and nothing lost. A failure is one bounded line, without the
//! secrets of the connection and without the query of any address; that an outcome is unknown is
//! never said of what may be sent again.
//!
//! The first byte is the operation, the second one the form of the answer, the rest its texts, with
//! 0xFF between them, or the result of the call as JSON.

use qchost_catalog::{Failure, OPERATIONS, Operation, Outcome};
use qchost_upstream::fuzzing;
use rmcp::model::{CallToolResult, ErrorCode, ErrorData};
use serde_json::{Map, Value, json};

/// A secret of the connection.
const SECRET: &str = "hunter2-and-more";
/// The longest failure: 32 errors of 2,000 characters.
const FAILURE: usize = 32 * 2003 * 4;

pub(crate) fn run(data: &[u8]) {
    let [operation, form, rest @ ..] = data else {
        return;
    };
    // The numbers past the table's end are tools that the catalog does not know.
    let operation = OPERATIONS.get(usize::from(*operation) % (OPERATIONS.len() + 4));
    let mut texts = rest
        .split(|byte| *byte == 0xff)
        .map(|text| String::from_utf8_lossy(text).into_owned());
    let first = texts.next().unwrap_or_default();
    let result = match form % 8 {
        0 => serde_json::from_slice(rest).ok(),
        1 => return refused(operation, &first),
        form => {
            let structured = match form {
                2 | 3 => None,
                4 | 5 => serde_json::from_str(&first).ok(),
                _ => texts
                    .next()
                    .and_then(|text| serde_json::from_str(&text).ok()),
            };
            let texts: Vec<_> = if matches!(form, 4 | 5) {
                None
            } else {
                Some(first)
            }
            .into_iter()
            .chain(texts)
            .map(|text| json!({ "type": "text", "text": text }))
            .collect();
            let mut result = json!({ "content": texts, "isError": form % 2 == 1 });
            if let Some(structured) = structured {
                let structured: Value = structured;
                result["structuredContent"] = structured;
            }
            serde_json::from_value(result).ok()
        }
    };
    if let Some(result) = result {
        answered(operation, result);
    }
}

fn answered(operation: Option<&'static Operation>, result: CallToolResult) {
    let is_error = result.is_error == Some(true);
    let body = body(&result);
    let outcome: Outcome = fuzzing::answer(operation, result, &[SECRET]);
    let said = body.as_ref().and_then(|body| body.get("success"));
    match outcome {
        Ok(value) => {
            assert!(!is_error, "an error became {value}");
            assert!(
                matches!(said, None | Some(Value::Null | Value::Bool(true))),
                "{said:?} became {value}"
            );
            if let Some(body) = body {
                assert_eq!(value, Value::Object(body));
            }
            assert!(operation.is_none() || value.is_object(), "{value}");
            let errors = value.get("errors").is_some_and(|errors| match errors {
                Value::Null => false,
                Value::Array(errors) => !errors.is_empty(),
                _ => true,
            });
            assert!(!errors || value["success"] == true, "{value}");
        }
        Err(failure) => failed(operation, &failure),
    }
}

/// The object that a server means: the text copy, or else the structured one.
fn body(result: &CallToolResult) -> Option<Map<String, Value>> {
    let texts: Vec<_> = result
        .content
        .iter()
        .filter_map(|block| Some(block.as_text()?.text.as_str()))
        .collect();
    let text: Option<Map<_, _>> = serde_json::from_str(&texts.join("\n")).ok();
    text.or_else(|| result.structured_content.as_ref()?.as_object().cloned())
}

/// A refusal by the protocol: the code, then the message.
fn refused(operation: Option<&'static Operation>, text: &str) {
    let (code, message) = text.split_once(' ').unwrap_or_default();
    let code = ErrorCode(code.parse().unwrap_or(ErrorCode::INVALID_PARAMS.0));
    let error = ErrorData::new(code, message.to_owned(), None);
    let failure = fuzzing::refusal(operation, &error, &[SECRET]);
    failed(operation, &failure);
}

fn failed(operation: Option<&'static Operation>, failure: &Failure) {
    let shown = failure.to_string();
    crate::assert_line(&shown, FAILURE);
    assert!(!shown.contains(SECRET), "{shown}");
    for (_, address) in shown.match_indices("://").map(|(at, _)| shown.split_at(at)) {
        let ends = |c: char| c.is_whitespace() || "\"'<>`".contains(c);
        let address = address.split(ends).next().unwrap_or_default();
        let query = address.split_once('?').map_or("…", |(_, query)| query);
        assert!(query.starts_with('…'), "a query: {shown}");
    }
    match failure {
        Failure::UnknownOutcome(_) => assert!(
            operation.is_none_or(|operation| !operation.idempotent),
            "{shown}"
        ),
        Failure::NotReady { progress, .. } => {
            assert!(
                progress.is_none_or(|it| (0.0..=1.0).contains(&it)),
                "{shown}"
            );
        }
        Failure::Rejected(errors) => assert!(!errors.is_empty()),
        Failure::TimedOut { .. } | Failure::Halted(_) | Failure::Reauthorize(_) => {
            panic!("not the decoder's: {shown}")
        }
        _ => {}
    }
}

/// What servers say.
pub(crate) fn words() -> Vec<String> {
    [
        "{\"success\":true}",
        "{\"success\":false}",
        "\"success\":null",
        "\"errors\":[",
        "\"errors\":\"",
        "\"progress\":0.5",
        "\"status\":\"loading\"",
        "\"message\":\"",
        "\"failure\":{\"kind\":\"",
        "not-ready",
        "rate-limited",
        "unavailable",
        "unknown-outcome",
        "timed-out",
        "invalid-argument",
        "unexpected-response",
        "\"retryAfter\":1e300",
        SECRET,
        "Error executing tool x: ",
        "Server error '502",
        "Client error '429",
        "Redirect response '302",
        "HTTP 404",
        "1 validation error for xArguments\n",
        " [type=missing, ",
        "Input validation error",
        "Unknown tool",
        "tool not found",
        "All connection attempts failed",
        "Connection refused",
        "timed out",
        "Server disconnected",
        "Expecting value: line 1",
        "Chart is loading. Progress: 0.3",
        "still loading",
        "too many requests",
        "rate limit",
        "not found",
        "does not exist",
        "https://user:password@x.test/a?sig=1#f",
        "://",
        "?",
        "\u{1b}[31m",
        "\\n",
        "\\u0000",
        "null",
        "[]",
        "{}",
        "1.0",
        "-32602 ",
        "-32601 ",
        "-32603 ",
        "{\"content\":[{\"type\":\"text\",\"text\":\"",
        "\"structuredContent\":",
        "\"isError\":true",
    ]
    .map(str::to_owned)
    .to_vec()
}
