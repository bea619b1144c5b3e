//! The complete table of possible answers.

#![allow(clippy::unwrap_used, clippy::panic)]

mod property;

use std::time::Duration;

use qchost_catalog::{Failure, Operation, Outcome, by_tool};
use rmcp::model::{CallToolResult, ContentBlock, ErrorCode, ErrorData};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::Decoder;
use crate::fault::Problem;
use crate::text::Redactor;

/// A read, an idempotent write, and a non-idempotent one.
const READ: &str = "read_backtest_chart";
const REPEATABLE: &str = "update_backtest";
const ONCE: &str = "create_backtest";

fn op(tool: &str) -> Option<&'static Operation> {
    Some(by_tool(tool).unwrap())
}

pub(super) fn decode(operation: Option<&'static Operation>, result: CallToolResult) -> Outcome {
    let redactor = Redactor::new([SecretString::from("hunter2")]);
    let decoder = Decoder {
        operation,
        redactor: &redactor,
        arguments: &Map::new(),
    };
    decoder.answer(result).map_err(|fault| fault.failure)
}

pub(super) fn text(text: impl Into<String>, is_error: bool) -> CallToolResult {
    let content = vec![ContentBlock::text(text)];
    if is_error {
        CallToolResult::error(content)
    } else {
        CallToolResult::success(content)
    }
}

/// A successful call with this body, as QuantConnect's own server returns it.
fn body(tool: &str, value: &Value) -> Outcome {
    decode(op(tool), text(value.to_string(), false))
}

/// A call that failed with this text.
fn error(tool: &str, words: &str) -> Failure {
    decode(op(tool), text(words, true)).unwrap_err()
}

fn official(tool: &str, words: &str) -> Failure {
    error(tool, &format!("Error executing tool {tool}: {words}"))
}

fn rejected(words: &str) -> Failure {
    Failure::Rejected(vec![words.to_owned()])
}

#[test]
fn a_refusal_of_the_credentials_is_the_accounts_and_not_the_calls() {
    let problem_of = |tool, result| {
        let redactor = Redactor::new([SecretString::from("hunter2")]);
        let decoder = Decoder {
            operation: op(tool),
            redactor: &redactor,
            arguments: &Map::new(),
        };
        let fault = decoder.answer(result).unwrap_err();
        assert!(matches!(fault.failure, Failure::Unavailable(_)));
        fault.problem
    };
    let refused = |errors: Value| {
        let body = json!({ "success": false, "errors": errors });
        text(body.to_string(), true)
    };
    for tool in [READ, REPEATABLE, ONCE] {
        for words in ["Hash doesn't match.", "UserID not valid"] {
            let problem = problem_of(tool, refused(json!([words])));
            assert_eq!(problem, Some(Problem::Unauthorized), "{words}");
        }
        let official =
            "Error executing tool x: Client error '401 Unauthorized' for url 'https://x.test'";
        let problem = problem_of(tool, text(official, true));
        assert_eq!(problem, Some(Problem::Unauthorized));
        for errors in [
            json!(["Invalid timestamp, value received: 7"]),
            json!([
                "Hash doesn't match.",
                "this machine's clock is 9999 s behind the server's"
            ]),
        ] {
            assert_eq!(problem_of(tool, refused(errors)), Some(Problem::Clock));
        }
    }
    // Words of a call do not count as the account's.
    let body =
        json!({ "success": false, "errors": ["Invalid order: timestamp, hash doesn't match"] });
    let answer = decode(op(ONCE), text(body.to_string(), true));
    assert!(matches!(answer, Err(Failure::Rejected(_))));
}

/// Names that a plugin may choose for its files, each a phrase of one kind of failure.
const FOREIGN: [&str; 16] = [
    "HTTP 401",
    "HTTP 429",
    "Client error '429 Too Many Requests' for url 'https://x.test'",
    "Client error '401 Unauthorized' for url 'https://x.test'",
    "too many requests",
    "rate limit exceeded",
    "not found",
    "does not exist",
    "is loading",
    "Hash doesn't match.",
    "Invalid timestamp, value received: 7",
    "unknown tool",
    "1 validation error for xArguments",
    "All connection attempts failed",
    "timed out",
    "Expecting value: line 1",
];

#[test]
fn words_that_a_plugin_chose_decide_nothing() {
    let told = |tool: &str, told: &str, name: &str, by_text: bool| {
        let arguments = json!({ "projectId": 1, "name": name });
        let redactor = Redactor::default();
        let decoder = Decoder {
            operation: op(tool),
            redactor: &redactor,
            arguments: arguments.as_object().unwrap(),
        };
        let result = match by_text {
            true => text(format!("Error executing tool {tool}: {told}"), true),
            false => text(
                json!({ "success": false, "errors": [told] }).to_string(),
                true,
            ),
        };
        decoder.answer(result).unwrap_err()
    };
    for words in FOREIGN {
        for name in [
            words.to_owned(),
            format!("{words}.py"),
            format!("a/{words}"),
        ] {
            let refusals = [
                format!("The file '{name}' already exists"),
                format!("File already exists: {name}"),
                format!("{name} already exists"),
                format!("Cannot be created: {name}"),
                name.clone(),
            ];
            for refusal in refusals {
                for tool in [READ, REPEATABLE, ONCE, "create_live_command"] {
                    let fault = told(tool, &refusal, &name, false);
                    assert_eq!(fault.problem, None, "{tool}: {refusal}");
                    assert_eq!(fault.failure, rejected(&refusal), "{tool}: {refusal}");
                    // As text it may be any error on the way, but never one that is retried.
                    let fault = told(tool, &refusal, &name, true);
                    assert_eq!(fault.problem, None, "{tool}: {refusal}");
                    let is_plain = matches!(
                        fault.failure,
                        Failure::Rejected(_) | Failure::UnknownOutcome(_)
                    );
                    assert!(is_plain, "{tool}: {refusal}: {}", fault.failure);
                }
            }
            // An item stored under such a name is repeated to calls that do not name it.
            let stored = format!("The project '{name}' is in use");
            for by_text in [false, true] {
                let fault = told(ONCE, &stored, "other", by_text);
                assert_eq!(fault.problem, None, "{stored}");
                let is_plain = matches!(
                    fault.failure,
                    Failure::Rejected(_) | Failure::UnknownOutcome(_)
                );
                assert!(is_plain, "{stored}: {}", fault.failure);
            }
        }
    }
    // The server's own words beside those of the call still count.
    let fault = told(
        READ,
        "File not found: too many requests",
        "too many requests",
        false,
    );
    assert!(matches!(fault.failure, Failure::NotFound(_)));
    let fault = told(
        READ,
        "The file 'HTTP 401' does not exist.",
        "HTTP 401",
        false,
    );
    assert!(matches!(fault.failure, Failure::NotFound(_)));
}

#[test]
fn a_refusal_of_the_credentials_by_status_is_told_for_machines() {
    let refused = |errors: Value| {
        let redactor = Redactor::default();
        let decoder = Decoder {
            operation: op(ONCE),
            redactor: &redactor,
            arguments: &Map::new(),
        };
        let failure = json!({ "kind": "unauthorized" });
        let body = json!({ "success": false, "errors": errors, "failure": failure });
        decoder.answer(text(body.to_string(), true)).unwrap_err()
    };
    let fault = refused(json!(["https://x.test answered HTTP 401 to /files/create"]));
    assert_eq!(fault.problem, Some(Problem::Unauthorized));
    assert!(matches!(fault.failure, Failure::Unavailable(_)));
}

#[test]
fn a_success_is_the_body_as_it_was_sent() {
    for (tool, value) in [
        (
            ONCE,
            json!({ "backtest": { "backtestId": "b" }, "success": true, "errors": [] }),
        ),
        (REPEATABLE, json!({ "success": true })),
        // Some endpoints return neither.
        ("read_backtest_orders", json!({ "orders": [], "length": 0 })),
        (
            "read_account",
            json!({ "organizationId": "o", "creditBalance": null, "card": null }),
        ),
        // Text beside a success is for the reader, not a refusal.
        (
            READ,
            json!({ "chart": {}, "success": true, "errors": ["slow"] }),
        ),
        (
            "read_live_algorithm",
            json!({ "status": "Running", "deployId": "L-1", "success": true }),
        ),
    ] {
        assert_eq!(body(tool, &value), Ok(value));
    }
}

#[test]
fn the_text_copy_is_preferred_and_the_structured_one_serves_where_it_is_no_json() {
    let result = |words: &str, structured: Value| {
        let mut result = text(words, false);
        result.structured_content = Some(structured);
        result
    };
    let both = result(
        r#"{"success": true, "n": 1}"#,
        json!({ "success": true, "n": null }),
    );
    assert_eq!(
        decode(op(ONCE), both),
        Ok(json!({ "success": true, "n": 1 }))
    );
    let version = result("1.0", json!({ "result": "1.0" }));
    assert_eq!(
        decode(op("read_mcp_server_version"), version),
        Ok(json!({ "result": "1.0" }))
    );
    // An older server returns the text only.
    let version = text("1.0", false);
    assert_eq!(
        decode(op("read_mcp_server_version"), version),
        Ok(json!({ "result": "1.0" }))
    );
}

#[test]
fn success_false_is_never_a_success() {
    let refusal = json!({ "success": false, "errors": ["No more nodes"] });
    for tool in [READ, REPEATABLE, ONCE] {
        assert_eq!(body(tool, &refusal), Err(rejected("No more nodes")));
        // Our server marks it as an error.
        assert_eq!(error(tool, &refusal.to_string()), rejected("No more nodes"));
    }
    for (value, reason) in [
        (json!({ "success": false }), "refused without a reason"),
        (
            json!({ "success": false, "errors": [] }),
            "refused without a reason",
        ),
        (json!({ "success": false, "errors": "one" }), "one"),
        (
            json!({ "success": false, "errors": [{ "code": 1 }] }),
            r#"{"code":1}"#,
        ),
        (json!({ "errors": ["one"] }), "one"),
        (json!({ "success": null, "errors": ["one"] }), "one"),
        (
            json!({ "success": false, "errors": ["one"], "backtest": {} }),
            "one",
        ),
    ] {
        assert_eq!(body(ONCE, &value), Err(rejected(reason)), "{value}");
    }
    let structured = {
        let mut result = CallToolResult::error(Vec::new());
        result.structured_content = Some(refusal);
        result
    };
    assert_eq!(decode(None, structured), Err(rejected("No more nodes")));
}

#[test]
fn still_loading_is_told_apart_from_a_refusal() {
    for (value, progress) in [
        (
            json!({ "errors": ["Chart is loading. Progress: 0.5"] }),
            Some(0.5),
        ),
        (
            json!({ "errors": ["Orders are loading. Progress: 25%"] }),
            Some(0.25),
        ),
        (
            json!({ "success": false, "errors": ["Chart is loading."] }),
            None,
        ),
        (
            json!({ "errors": ["Chart is loading. Progress: often"] }),
            None,
        ),
        (json!({ "progress": 0.2, "success": true }), Some(0.2)),
        (
            json!({ "progress": 40, "status": "loading", "success": false, "errors": [] }),
            Some(0.4),
        ),
        (json!({ "progress": 0, "chart": null }), Some(0.0)),
        (json!({ "status": "Loading", "success": true }), None),
    ] {
        match body(READ, &value) {
            Err(Failure::NotReady { progress: told, .. }) => assert_eq!(told, progress, "{value}"),
            other => panic!("{value}: {other:?}"),
        }
    }
    // With content beside it, a progress is only a number.
    let loaded = json!({ "chart": { "name": "x" }, "progress": 1.0, "success": true });
    assert_eq!(body(READ, &loaded), Ok(loaded));
    // A write is done or refused.
    let words = "The project is loading.";
    assert_eq!(
        body(ONCE, &json!({ "success": false, "errors": [words] })),
        Err(rejected(words))
    );
}

#[test]
fn what_is_not_there_is_not_found_only_where_all_words_say_so() {
    for words in [
        "Backtest not found",
        "The file main.py does not exist.",
        "Project doesn't exist",
    ] {
        let value = json!({ "success": false, "errors": [words] });
        assert_eq!(body(READ, &value), Err(Failure::NotFound(words.to_owned())));
        // Nothing is known about an unknown tool.
        let unknown = decode(None, text(value.to_string(), false));
        assert_eq!(unknown, Err(rejected(words)));
    }
    let mixed = json!({ "success": false, "errors": ["Backtest not found", "Hash mismatch"] });
    assert!(matches!(body(READ, &mixed), Err(Failure::Rejected(errors)) if errors.len() == 2));
}

#[test]
fn http_faults_raised_as_text_are_classified_by_status_and_operation() {
    let limited = Failure::RateLimited { retry_after: None };
    for tool in [READ, REPEATABLE, ONCE] {
        let words = "Client error '429 Too Many Requests' for url 'https://x.test/api?k=hunter2'\nFor more information check: https://x.test/429";
        assert_eq!(official(tool, words), limited);
        assert_eq!(
            body(
                tool,
                &json!({ "success": false, "errors": ["Too many requests, slow down"] })
            ),
            // A write is never retried because of text alone.
            match tool {
                ONCE => Err(rejected("Too many requests, slow down")),
                _ => Err(limited.clone()),
            }
        );
        assert!(matches!(
            official(
                tool,
                "Client error '403 Forbidden' for url 'https://x.test'"
            ),
            Failure::Rejected(_)
        ));
        assert!(matches!(
            official(
                tool,
                "Redirect response '302 Found' for url 'https://x.test'"
            ),
            Failure::UnexpectedResponse(_)
        ));
        // The request was never accepted.
        for words in [
            "All connection attempts failed",
            "[Errno -2] Name or service not known",
            "Connection refused",
        ] {
            assert!(
                matches!(official(tool, words), Failure::Unavailable(_)),
                "{words}"
            );
        }
        assert!(matches!(
            official(tool, "Expecting value: line 1 column 1 (char 0)"),
            Failure::UnexpectedResponse(_)
        ));
    }
    for words in [
        "Server error '502 Bad Gateway' for url 'https://x.test'",
        "Server error '500 Internal Server Error' for url 'https://x.test'",
        "", // the client's time-outs
        "Server disconnected without sending a response.",
        "[Errno 104] Connection reset by peer",
        "The read operation timed out",
    ] {
        assert!(
            matches!(official(READ, words), Failure::Unavailable(_)),
            "{words}"
        );
        assert!(
            matches!(official(REPEATABLE, words), Failure::Unavailable(_)),
            "{words}"
        );
        assert!(
            matches!(official(ONCE, words), Failure::UnknownOutcome(_)),
            "{words}"
        );
    }
}

#[test]
fn validation_of_arguments_and_of_answers_are_told_apart_and_quote_no_input() {
    let arguments = "1 validation error for create_backtestArguments\nmodel.projectId\n  Field required [type=missing, input_value={'password': 'hidden'}, input_type=dict]\n    For further information visit https://x.test/v/missing";
    let Failure::InvalidArgument(shown) = official(ONCE, arguments) else {
        panic!()
    };
    assert!(
        shown.contains("model.projectId") && shown.contains("Field required"),
        "{shown}"
    );
    assert!(!shown.contains("hidden"), "{shown}");
    assert!(matches!(
        error(
            ONCE,
            "Input validation error: 'projectId' is a required property"
        ),
        Failure::InvalidArgument(_)
    ));
    // The answer did not match the server's own model: QuantConnect did act.
    let answer = "2 validation errors for BacktestResponse\nbacktest.name\n  Input should be a valid string [type=string_type, input_value=1, input_type=int]";
    assert!(matches!(
        official(ONCE, answer),
        Failure::UnexpectedResponse(_)
    ));
    assert!(matches!(
        error(ONCE, "Output validation error: 1 is not a string"),
        Failure::UnexpectedResponse(_)
    ));
}

#[test]
fn unknown_words_are_no_reason_to_send_again() {
    let words = "list index out of range";
    assert_eq!(official(READ, words), rejected(words));
    assert_eq!(
        official(ONCE, words),
        Failure::UnknownOutcome(words.to_owned())
    );
    let unknown = decode(None, text(words, true));
    assert_eq!(unknown, Err(Failure::UnknownOutcome(words.to_owned())));
    assert!(matches!(
        error(READ, "Unknown tool: read_backtest_chart"),
        Failure::UnexpectedResponse(_)
    ));
}

#[test]
fn a_failure_told_for_machines_is_taken_at_its_word() {
    let told = |tool: &str, failure: Value| {
        error(
            tool,
            &json!({ "success": false, "errors": ["why"], "failure": failure }).to_string(),
        )
    };
    let why = || "why".to_owned();
    assert_eq!(
        told(ONCE, json!({ "kind": "rate-limited", "retryAfter": 1.5 })),
        Failure::RateLimited {
            retry_after: Some(Duration::from_millis(1_500))
        }
    );
    // A wait longer than a day is cut to a day.
    for long in [json!(99_999_999_999_u64), json!(86_401)] {
        let failure = told(ONCE, json!({ "kind": "rate-limited", "retryAfter": long }));
        let retry_after = Some(Duration::from_secs(86_400));
        assert_eq!(failure, Failure::RateLimited { retry_after });
        assert!(failure.to_string().contains("a day or more"), "{failure}");
    }
    for absurd in [json!(-1), json!(1e300), json!("soon"), json!(null)] {
        let failure = told(
            ONCE,
            json!({ "kind": "rate-limited", "retryAfter": absurd }),
        );
        assert_eq!(failure, Failure::RateLimited { retry_after: None });
    }
    assert_eq!(
        told(ONCE, json!({ "kind": "unavailable" })),
        Failure::Unavailable(why())
    );
    // Only the word of the server that it had no connection says so, and of any call.
    for (sent, is_unsent) in [
        (json!(false), true),
        (json!(true), false),
        (json!("false"), false),
    ] {
        for tool in [READ, REPEATABLE, ONCE] {
            let told = json!({ "kind": "unavailable", "sent": sent });
            let body = json!({ "success": false, "errors": ["why"], "failure": told });
            let redactor = Redactor::default();
            let decoder = Decoder {
                operation: op(tool),
                redactor: &redactor,
                arguments: &Map::new(),
            };
            let fault = decoder.answer(text(body.to_string(), true)).unwrap_err();
            assert_eq!(fault.failure, Failure::Unavailable(why()));
            assert_eq!(fault.is_unsent, is_unsent, "{tool}: {sent}");
        }
    }
    for kind in ["timed-out", "unknown-outcome"] {
        assert_eq!(
            told(ONCE, json!({ "kind": kind })),
            Failure::UnknownOutcome(why())
        );
        assert_eq!(
            told(READ, json!({ "kind": kind })),
            Failure::Unavailable(why())
        );
    }
    assert_eq!(
        told(READ, json!({ "kind": "invalid-argument" })),
        Failure::InvalidArgument(why())
    );
    assert_eq!(
        told(READ, json!({ "kind": "not-found" })),
        Failure::NotFound(why())
    );
    assert_eq!(
        told(READ, json!({ "kind": "unexpected-response" })),
        Failure::UnexpectedResponse(why())
    );
    assert_eq!(
        told(READ, json!({ "kind": "not-ready", "progress": 0.5 })),
        Failure::NotReady {
            progress: Some(0.5),
            message: why()
        }
    );
    for odd in [
        json!({}),
        json!({ "kind": 3 }),
        json!({ "kind": "sunspots" }),
        // What only the host can say: it would prove that nothing was done.
        json!({ "kind": "halted" }),
    ] {
        assert!(matches!(told(READ, odd), Failure::UnexpectedResponse(_)));
    }
    // Beside a success it is part of the content.
    let content = json!({ "success": true, "failure": { "kind": "rate-limited" } });
    assert_eq!(body(ONCE, &content), Ok(content));
}

#[test]
fn what_is_no_answer_is_quoted_shortly_and_safely() {
    let page = format!(
        "<html>\u{1b}[31m{}</html> https://x.test/get?sig=SECRET",
        "y".repeat(100)
    );
    let huge = "z".repeat(5_000_000);
    for given in [
        page.as_str(),
        huge.as_str(),
        "[1, 2]",
        "\"text\"",
        "12",
        "null",
        "{",
        "{}",
        r#"{"a": null}"#,
        r#"{"success": "yes"}"#,
        r#"{"success": 0}"#,
    ] {
        let Err(Failure::UnexpectedResponse(shown)) = decode(op(ONCE), text(given, false)) else {
            panic!("{given:.80}");
        };
        assert!(shown.chars().count() < 400, "{shown}");
        assert!(
            !shown.chars().any(char::is_control) && !shown.contains("SECRET"),
            "{shown}"
        );
    }
    let contradiction = error(ONCE, r#"{"success": true}"#);
    assert!(matches!(contradiction, Failure::UnexpectedResponse(_)));
    assert!(matches!(
        decode(op(ONCE), CallToolResult::success(Vec::new())),
        Err(Failure::UnexpectedResponse(_))
    ));
    assert!(matches!(
        decode(op(ONCE), CallToolResult::error(Vec::new())),
        Err(Failure::UnknownOutcome(_))
    ));
}

#[test]
fn an_unknown_tool_may_answer_anything() {
    for (given, value) in [
        ("[1, 2]", json!([1, 2])),
        ("plain words", json!("plain words")),
        ("{}", json!({})),
    ] {
        assert_eq!(decode(None, text(given, false)), Ok(value));
    }
    assert_eq!(
        decode(None, CallToolResult::success(Vec::new())),
        Ok(Value::Null)
    );
}

#[test]
fn protocol_errors_become_failures() {
    let redactor = Redactor::new([SecretString::from("hunter2")]);
    let told = |tool, code, message: &str| {
        let decoder = Decoder {
            operation: op(tool),
            redactor: &redactor,
            arguments: &Map::new(),
        };
        decoder.protocol_error(&ErrorData::new(code, message.to_owned(), None))
    };
    assert_eq!(
        told(ONCE, ErrorCode::INVALID_PARAMS, "no projectId in hunter2"),
        Failure::InvalidArgument("no projectId in [redacted]".to_owned())
    );
    for (code, message) in [
        (ErrorCode::INVALID_PARAMS, "Unknown tool: x"),
        (ErrorCode::INVALID_PARAMS, "tool not found"),
        (ErrorCode::METHOD_NOT_FOUND, "tools/call"),
        (ErrorCode::INVALID_REQUEST, "?"),
    ] {
        assert!(
            matches!(told(ONCE, code, message), Failure::UnexpectedResponse(_)),
            "{message}"
        );
    }
    assert!(matches!(
        told(READ, ErrorCode::INTERNAL_ERROR, "oops"),
        Failure::Unavailable(_)
    ));
    assert!(matches!(
        told(ONCE, ErrorCode::INTERNAL_ERROR, "oops"),
        Failure::UnknownOutcome(_)
    ));
    assert!(matches!(
        told(ONCE, ErrorCode(-1), "oops"),
        Failure::UnknownOutcome(_)
    ));
}
