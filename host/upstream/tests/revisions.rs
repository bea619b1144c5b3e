//! The revisions of MCP that servers speak, how a session finds out, and calls that a server has continued.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qchost_catalog::Failure;
use qchost_upstream::{Accounts, Connector, PipeConnector};
use serde_json::{Value, json};
use support::pipes::{no_such_method, scripted};
use support::web::{Web, by_hand, success};
use support::{ACCOUNT, Log, accounts, call, failure, options};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf,
};

const LONG: u64 = 20_000;

type Halves = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

/// What a server does with a request.
enum Reply {
    Line(Value),
    Nothing,
    Close,
}

/// The answer with a result.
fn result(request: &Value, result: Value) -> Reply {
    Reply::Line(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }))
}

/// A server behind a pipe that replies as a function says. Counts the connections.
fn server(
    opened: Arc<AtomicUsize>,
    reply: impl Fn(&Value) -> Reply + Send + Sync + 'static,
) -> impl Connector {
    let reply = Arc::new(reply);
    PipeConnector::new("by hand", move || {
        opened.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let reply = reply.clone();
        tokio::spawn(async move {
            let (read, mut write) = tokio::io::split(theirs);
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let request: Value = serde_json::from_str(&line).unwrap();
                let line = match reply(&request) {
                    Reply::Line(line) => format!("{line}\n"),
                    Reply::Nothing => continue,
                    Reply::Close => return,
                };
                if write.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Ok::<Halves, _>(tokio::io::split(ours))
    })
}

/// What a server with a handshake does with all but `server/discover`.
fn with_handshake(request: &Value, version: &str) -> Reply {
    match request["method"].as_str() {
        Some("initialize") => {
            let info = json!({ "name": "by hand", "version": "0" });
            let capabilities = json!({ "tools": {} });
            result(
                request,
                json!({
                    "protocolVersion": version,
                    "capabilities": capabilities,
                    "serverInfo": info,
                }),
            )
        }
        Some("tools/list") => result(request, json!({ "tools": tools() })),
        Some("tools/call") => result(request, json!({ "content": content() })),
        _ => Reply::Nothing,
    }
}

/// What a server without a handshake does with all but a call.
fn without_handshake(request: &Value) -> Reply {
    let mut complete = match request["method"].as_str() {
        Some("server/discover") => json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": { "tools": {} },
        }),
        Some("tools/list") => json!({ "tools": tools() }),
        _ => return Reply::Line(no_such_method(request)),
    };
    complete["resultType"] = json!("complete");
    complete["ttlMs"] = json!(0);
    complete["cacheScope"] = json!("private");
    result(request, complete)
}

fn tools() -> Value {
    let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
    json!([tool("read_backtest"), tool("create_backtest")])
}

fn content() -> Value {
    json!([{ "type": "text", "text": r#"{"success": true}"# }])
}

/// The revision of the open session.
fn revision(accounts: &Accounts) -> String {
    accounts.health(ACCOUNT).unwrap().server.unwrap().protocol
}

async fn read(accounts: &Accounts) {
    let answer = call(accounts, "read_backtest", json!({}), LONG).await;
    assert_eq!(answer, Ok(json!({ "success": true })));
}

#[tokio::test]
async fn a_session_has_the_revision_that_the_server_chose() {
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let opened = Arc::<AtomicUsize>::default();
        let connector = server(opened.clone(), move |request| {
            match request["method"].as_str() {
                Some("server/discover") => Reply::Line(no_such_method(request)),
                _ => with_handshake(request, version),
            }
        });
        let accounts = accounts(connector, options());
        read(&accounts).await;
        assert_eq!(revision(&accounts), version);
        assert_eq!(opened.load(Ordering::SeqCst), 1);
    }
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    call(&accounts, "read_backtest", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    assert_eq!(revision(&accounts), "2026-07-28");
}

#[tokio::test]
async fn no_request_of_a_session_without_handshake_lacks_its_metadata() {
    let opened = Arc::<AtomicUsize>::default();
    let connector = server(opened.clone(), |request| {
        let meta = &request["params"]["_meta"];
        assert_eq!(
            meta["io.modelcontextprotocol/protocolVersion"],
            "2026-07-28"
        );
        assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
        match request["method"].as_str() {
            Some("tools/call") => result(
                request,
                json!({ "resultType": "complete", "content": content() }),
            ),
            _ => without_handshake(request),
        }
    });
    let accounts = accounts(connector, options());
    read(&accounts).await;
    assert_eq!(revision(&accounts), "2026-07-28");
}

#[tokio::test]
async fn a_server_that_refuses_discovery_in_another_form_is_connected_to_once_more() {
    let opened = Arc::<AtomicUsize>::default();
    let connector = server(opened.clone(), |request| match request["method"].as_str() {
        // An id that is not the request's.
        Some("server/discover") => Reply::Line(json!({
            "jsonrpc": "2.0",
            "id": "server-error",
            "error": { "code": -32_600, "message": "no session" },
        })),
        _ => with_handshake(request, "2025-06-18"),
    });
    let accounts = accounts(connector, options());
    read(&accounts).await;
    assert_eq!(revision(&accounts), "2025-06-18");
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_leaves_at_discovery_is_asked_for_a_handshake_next_time() {
    let opened = Arc::<AtomicUsize>::default();
    let connector = server(opened.clone(), |request| match request["method"].as_str() {
        Some("server/discover") => Reply::Close,
        _ => with_handshake(request, "2025-06-18"),
    });
    let accounts = accounts(connector, options());
    read(&accounts).await;
    assert_eq!(revision(&accounts), "2025-06-18");
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn both_eras_are_found_over_http_as_well() {
    let (_, web) = by_hand(|_, request| success(request));
    let log = Log::new();
    let scripted = Web::scripted(log.path.clone(), 0);
    for web in [web, scripted] {
        let connector = qchost_upstream::HttpConnector::new(&web.url(), []).unwrap();
        let accounts = accounts(connector, options());
        call(&accounts, "read_backtest", json!({ "id": 1 }), LONG)
            .await
            .unwrap();
        assert_eq!(revision(&accounts), "2025-11-25");
    }
    let modern = Web::modern(log.path.clone());
    let connector = qchost_upstream::HttpConnector::new(&modern.url(), []).unwrap();
    let accounts = accounts(connector, options());
    call(&accounts, "create_backtest", json!({ "id": 2 }), LONG)
        .await
        .unwrap();
    assert_eq!(revision(&accounts), "2026-07-28");
}

#[tokio::test]
async fn a_write_whose_caller_stopped_waiting_is_not_called_back() {
    let log = Log::new();
    let web = Web::modern(log.path.clone());
    let connector = qchost_upstream::HttpConnector::new(&web.url(), []).unwrap();
    let accounts = accounts(connector, options());
    let first = call(&accounts, "read_backtest", json!({ "id": 1 }), LONG).await;
    first.unwrap();
    assert_eq!(revision(&accounts), "2026-07-28");
    let slow = json!({ "id": 2, "script": [{ "sleep": 1_500 }] });
    let outcome = call(&accounts, "create_backtest", slow, 500).await;
    assert!(matches!(failure(outcome), Failure::UnknownOutcome(_)));
    log.wait_for("slept", 1).await;
}

#[tokio::test]
async fn a_call_is_continued_with_the_state_that_the_server_gave() {
    let opened = Arc::<AtomicUsize>::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let connector = server(opened.clone(), move |request| {
        if request["method"] != "tools/call" {
            return without_handshake(request);
        }
        let before = counted.fetch_add(1, Ordering::SeqCst);
        let params = &request["params"];
        assert_eq!(params["arguments"], json!({ "id": 7 }));
        if before == 0 {
            assert_eq!(params.get("requestState"), None);
            let state = json!({ "resultType": "input_required", "requestState": "half way" });
            return result(request, state);
        }
        assert_eq!(params["requestState"], "half way");
        result(
            request,
            json!({ "resultType": "complete", "content": content() }),
        )
    });
    let accounts = accounts(connector, options());
    let answer = call(&accounts, "create_backtest", json!({ "id": 7 }), LONG).await;
    assert_eq!(answer, Ok(json!({ "success": true })));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_asks_for_input_or_never_ends_asking_refuses_the_call() {
    let roots = json!({ "where": { "method": "roots/list" } });
    for (more, sent, told) in [
        (json!({ "inputRequests": roots }), 1, "asks for input"),
        (json!({ "requestState": "again" }), 9, "8 times"),
    ] {
        let opened = Arc::<AtomicUsize>::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let connector = server(opened.clone(), move |request| {
            if request["method"] != "tools/call" {
                return without_handshake(request);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let mut required = more.clone();
            required["resultType"] = json!("input_required");
            result(request, required)
        });
        let accounts = accounts(connector, options());
        let outcome = call(&accounts, "create_backtest", json!({}), LONG).await;
        let Failure::Unavailable(reason) = failure(outcome) else {
            panic!("{told}")
        };
        assert!(reason.contains(told), "{reason}");
        assert_eq!(calls.load(Ordering::SeqCst), sent);
    }
}
