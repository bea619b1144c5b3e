//! A server in this process: how answers, refusals and malformed messages become outcomes.

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
use std::time::{Duration, Instant};

use qchost_catalog::{Failure, Sends, Upstream as _};
use qchost_upstream::{Account, AccountOptions, AccountState, Accounts};
use serde_json::{Value, json};
use support::pipes::{flaky, raw, scripted};
use support::{ACCOUNT, Log, accounts, call, failure, options, read};

const LONG: u64 = 20_000;

#[tokio::test]
async fn refusals_are_told_apart() {
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    let ask = async |tool: &str, id: u64, step: Value| {
        failure(call(&accounts, tool, json!({ "id": id, "script": [step] }), LONG).await)
    };
    let refusal = r#"{"success": false, "errors": ["No spare nodes"]}"#;
    let rejected = Failure::Rejected(vec!["No spare nodes".to_owned()]);
    assert_eq!(
        ask("create_backtest", 1, json!({ "text": refusal })).await,
        rejected
    );
    assert_eq!(
        ask("create_backtest", 2, json!({ "error": refusal })).await,
        rejected
    );
    let loading = json!({ "text": r#"{"errors": ["Chart is loading. Progress: 0.5"]}"# });
    assert!(
        matches!(ask("read_backtest", 3, loading).await, Failure::NotReady { progress: Some(p), .. } if p == 0.5)
    );
    assert!(matches!(
        ask("read_backtest", 4, json!({ "text": "<html>" })).await,
        Failure::UnexpectedResponse(_)
    ));
    assert!(matches!(
        ask("create_backtest", 5, json!({ "code": -32602 })).await,
        Failure::InvalidArgument(_)
    ));
    // None of these was sent twice.
    assert_eq!(log.events("call").len(), 5);
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_only_for_what_may_be_repeated() {
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    for (id, step) in [
        (1, json!({ "code": -32603 })),
        (
            2,
            json!({ "error": "Error executing tool x: Server error '502 Bad Gateway' for url 'x'" }),
        ),
    ] {
        let arguments = json!({ "id": id, "script": [step, "echo"] });
        let read = call(&accounts, "read_backtest", arguments.clone(), LONG).await;
        assert_eq!(read.unwrap()["success"], json!(true));
        let arguments = json!({ "id": id + 10, "script": [step, "echo"] });
        let write = call(&accounts, "create_backtest", arguments, LONG).await;
        assert!(matches!(failure(write), Failure::UnknownOutcome(_)));
    }
    let calls = log.events("call");
    let sent = |id: u64| {
        calls
            .iter()
            .filter(|call| call["arguments"]["id"] == id)
            .count()
    };
    assert_eq!([sent(1), sent(2), sent(11), sent(12)], [2, 2, 1, 1]);
}

#[tokio::test]
async fn too_many_requests_are_waited_out_for_writes_as_well() {
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    let told = |seconds: f64| {
        let body = json!({ "success": false, "errors": ["slow down"],
            "failure": { "kind": "rate-limited", "retryAfter": seconds } });
        json!({ "error": body.to_string() })
    };
    let official = json!({ "error": "Error executing tool create_backtest: Client error '429 Too Many Requests' for url 'x'" });
    let started = Instant::now();
    let arguments = json!({ "id": 1, "script": [told(0.4), official, "echo"] });
    let answer = call(&accounts, "create_backtest", arguments, LONG).await;
    assert_eq!(answer.unwrap()["success"], json!(true));
    assert!(
        started.elapsed() >= Duration::from_millis(450),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(log.events("call").len(), 3);
    // A wait that would end after the deadline is not started.
    let started = Instant::now();
    let arguments = json!({ "id": 2, "script": [told(60.0)] });
    let outcome = call(&accounts, "create_backtest", arguments, 5_000).await;
    assert_eq!(
        failure(outcome),
        Failure::RateLimited {
            retry_after: Some(Duration::from_secs(60))
        }
    );
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_huge_answer_arrives_and_a_monstrous_one_loses_nothing_else() {
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    let arguments = json!({ "id": 1, "script": [{ "huge": 20_000_000 }] });
    let answer = call(&accounts, "read_backtest", arguments, 60_000)
        .await
        .unwrap();
    assert_eq!(answer["text"].as_str().unwrap().len(), 20_000_000);
    // An answer beyond the limit is dropped unread; the session and its other calls continue.
    let monstrous = call(
        &accounts,
        "read_backtest",
        json!({ "id": 2, "script": [{ "huge": 70_000_000 }] }),
        5_000,
    );
    let beside = call(
        &accounts,
        "create_backtest",
        json!({ "id": 3, "script": [{ "sleep": 300 }] }),
        LONG,
    );
    let (monstrous, beside) = tokio::join!(monstrous, beside);
    assert!(matches!(failure(monstrous), Failure::TimedOut { .. }));
    assert_eq!(beside.unwrap()["success"], json!(true));
    assert_eq!(accounts.health(ACCOUNT).unwrap().restarts, 0);
}

#[tokio::test]
async fn garbage_on_the_wire_is_survived() {
    let opened = Arc::new(AtomicUsize::new(0));
    let good = |request: &Value| {
        let content = json!([{ "type": "text", "text": r#"{"success": true}"# }]);
        json!({ "jsonrpc": "2.0", "id": request["id"], "result": { "content": content } })
            .to_string()
    };
    let reply = move |request: &Value| match request["params"]["arguments"]["case"]
        .as_str()
        .unwrap()
    {
        "noise" => vec![
            "this is no JSON".to_owned(),
            "{\"jsonrpc\": \"2.0\", \"id\": 9999, \"result\": {}}".to_owned(),
            "{\"jsonrpc\": \"2.0\", \"method\": \"notifications/x\"}".to_owned(),
            "[]".to_owned(),
            String::new(),
            good(request),
            // Answered twice: the second answer belongs to no call.
            good(request),
        ],
        "not a result" => vec![
            json!({ "jsonrpc": "2.0", "id": request["id"], "result": { "tools": [] } }).to_string(),
        ],
        "empty" => vec![json!({ "jsonrpc": "2.0", "id": request["id"], "result": {} }).to_string()],
        "picture" => vec![
            json!({ "jsonrpc": "2.0", "id": request["id"], "result": { "content":
                [{ "type": "image", "data": "AA==", "mimeType": "image/png" }] } })
            .to_string(),
        ],
        _ => vec![],
    };
    let accounts = accounts(raw(opened.clone(), Arc::new(reply)), options());
    let ask =
        async |tool: &str, case: &str| call(&accounts, tool, json!({ "case": case }), LONG).await;
    for _ in 0..2 {
        assert_eq!(
            ask("create_backtest", "noise").await.unwrap(),
            json!({ "success": true })
        );
    }
    for case in ["not a result", "empty"] {
        assert!(
            matches!(
                failure(ask("read_backtest", case).await),
                Failure::UnexpectedResponse(_)
            ),
            "{case}"
        );
        assert!(
            matches!(
                failure(ask("create_backtest", case).await),
                Failure::UnknownOutcome(_)
            ),
            "{case}"
        );
    }
    assert!(matches!(
        failure(ask("create_backtest", "picture").await),
        Failure::UnexpectedResponse(_)
    ));
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    // The connection is closed in place of an answer.
    assert!(matches!(
        failure(ask("create_backtest", "close").await),
        Failure::UnknownOutcome(_)
    ));
    assert!(matches!(
        failure(ask("read_backtest", "close").await),
        Failure::Unavailable(_)
    ));
    assert_eq!(
        opened.load(Ordering::SeqCst),
        1 + usize::try_from(options().attempts).unwrap()
    );
}

#[tokio::test]
async fn a_tool_that_the_server_lacks_is_named_and_nothing_is_sent() {
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    let Failure::Unavailable(reason) =
        failure(call(&accounts, "list_projects", json!({}), LONG).await)
    else {
        panic!()
    };
    assert!(
        reason.contains("list_projects") && reason.contains("scripted"),
        "{reason}"
    );
    let Failure::NotFound(reason) = failure(call(&accounts, "no_such_tool", json!({}), LONG).await)
    else {
        panic!()
    };
    assert!(reason.contains("no_such_tool"), "{reason}");
    assert_eq!(log.events("call").len(), 0);
    // A tool that is not in the catalog can be called.
    let answer = call(
        &accounts,
        "tool_of_tomorrow",
        json!({ "id": 1, "script": [{ "text": "fine" }] }),
        LONG,
    )
    .await;
    assert_eq!(answer, Ok(json!("fine")));
}

#[tokio::test]
async fn an_account_that_does_not_exist_is_named_with_those_that_do() {
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    let error = accounts
        .connect("resaerch", Instant::now())
        .await
        .unwrap_err();
    let Failure::InvalidArgument(reason) = error else {
        panic!()
    };
    assert!(
        reason.contains("resaerch") && reason.contains(ACCOUNT),
        "{reason}"
    );
    assert_eq!(accounts.health("resaerch"), None);
    assert_eq!(accounts.names(), [ACCOUNT]);
    let error = accounts
        .download("resaerch", "https://x.test/", 1, Instant::now())
        .await;
    assert!(matches!(error, Err(Failure::InvalidArgument(_))));
    let none = Accounts::new([])
        .unwrap()
        .connect("a", Instant::now())
        .await
        .unwrap_err();
    assert!(none.to_string().contains("none"), "{none}");
}

#[tokio::test]
async fn a_server_that_is_refused_at_first_is_reached_later() {
    let log = Log::new();
    let (tried, connector) = flaky(log.path.clone(), 4);
    let accounts = accounts(connector, options());
    let started = Instant::now();
    let calls = async |id| call(&accounts, "create_backtest", json!({ "id": id }), LONG).await;
    let (one, two) = tokio::join!(calls(1), calls(2));
    assert!(one.is_ok() && two.is_ok());
    // 50 + 100 + 200 + 400 ms: the back-off was respected and shared by both calls.
    assert!(
        started.elapsed() >= Duration::from_millis(740),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(tried.load(Ordering::SeqCst), 5);
    let health = accounts.health(ACCOUNT).unwrap();
    assert_eq!(
        (health.state, health.last_error, health.restarts),
        (AccountState::Connected, None, 0)
    );
    assert_eq!((health.sessions, health.calls), (1, 0));
}

#[tokio::test]
async fn only_cacheable_answers_are_given_again_and_only_for_a_while() {
    let log = Log::new();
    let options = AccountOptions {
        cache_for: Duration::from_millis(400),
        ..options()
    };
    let accounts = accounts(scripted(log.path.clone()), options);
    let ask = async |tool: &str| {
        let sends = Sends::default();
        let answer = read(&accounts, tool, json!({ "id": 1 }), &sends).await;
        (answer.unwrap(), sends)
    };
    let (first, sends) = ask("read_lean_versions").await;
    assert_eq!((sends.count(), sends.cached()), (1, None));
    for _ in 0..2 {
        let (again, sends) = ask("read_lean_versions").await;
        assert_eq!(again, first);
        assert_eq!(sends.count(), 0);
        assert!(sends.cached().is_some());
    }
    assert_eq!(log.events("call").len(), 1);
    for _ in 0..2 {
        assert_eq!(ask("read_account").await.1.count(), 1);
    }
    assert_eq!(log.events("call").len(), 3);
    // Who cannot record it gets no kept answer.
    call(&accounts, "read_lean_versions", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    assert_eq!(log.events("call").len(), 4);
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(ask("read_lean_versions").await.1.count(), 1);
    // A failure is not cached.
    let refused = json!({ "id": 2, "script": [{ "text": "<html>" }, "echo"] });
    let sends = Sends::default();
    read(&accounts, "read_lean_versions", refused.clone(), &sends)
        .await
        .unwrap_err();
    read(&accounts, "read_lean_versions", refused, &sends)
        .await
        .unwrap();
    assert_eq!((sends.count(), sends.cached()), (2, None));
}

#[tokio::test]
async fn one_account_does_not_hold_up_another() {
    let (slow, fast) = (Log::new(), Log::new());
    let narrow = AccountOptions {
        calls_per_connection: 1,
        ..options()
    };
    let accounts = Accounts::new([
        Account::new("slow", Arc::new(scripted(slow.path.clone())), narrow),
        Account::new(ACCOUNT, Arc::new(scripted(fast.path.clone())), narrow),
    ])
    .unwrap();
    let target = |tool| qchost_catalog::Target::Known(qchost_catalog::by_tool(tool).unwrap());
    let hang = || {
        accounts.call(qchost_catalog::Call {
            account: "slow",
            target: target("read_account"),
            arguments: serde_json::from_value(json!({ "id": 1, "script": ["hang"] })).unwrap(),
            deadline: Instant::now() + Duration::from_millis(1_000),
            clearance: qchost_catalog::always(),
            sends: None,
        })
    };
    let quick = async {
        slow.wait_for("call", 1).await;
        let started = Instant::now();
        call(&accounts, "read_account", json!({ "id": 1 }), LONG)
            .await
            .unwrap();
        started.elapsed()
    };
    let (first, second, elapsed) = tokio::join!(hang(), hang(), quick);
    assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
    // The second waited in the queue until its deadline and was never sent.
    assert!(matches!(failure(first), Failure::TimedOut { .. }));
    assert!(matches!(failure(second), Failure::TimedOut { .. }));
    assert_eq!(slow.events("call").len(), 1);
}

/// CPU time of this thread, and of all threads of the process.
fn worked() -> (Duration, Duration) {
    let time = |clock| {
        let time = rustix::time::clock_gettime(clock);
        Duration::new(
            time.tv_sec.try_into().unwrap(),
            time.tv_nsec.try_into().unwrap(),
        )
    };
    (
        time(rustix::time::ClockId::ThreadCPUTime),
        time(rustix::time::ClockId::ProcessCPUTime),
    )
}

#[tokio::test]
async fn what_a_server_sends_is_parsed_on_other_threads_than_those_that_serve() {
    let reply = |request: &Value| {
        let noise = json!({ "jsonrpc": "2.0", "method": "notifications/message",
            "params": { "level": "info", "data": vec![json!([[]]); 2_000_000] } });
        let text = json!({ "success": true }).to_string();
        let answer = json!({ "jsonrpc": "2.0", "id": request["id"],
            "result": { "content": [{ "type": "text", "text": text }] } });
        vec![noise.to_string(), answer.to_string()]
    };
    let accounts = accounts(raw(Arc::default(), Arc::new(reply)), options());
    let (serving, all) = worked();
    let answer = call(&accounts, "read_backtest", json!({ "id": 1 }), 60_000).await;
    assert_eq!(answer.unwrap()["success"], json!(true));
    let (serving, all) = (worked().0 - serving, worked().1 - all);
    assert!(serving < all / 8, "{serving:?} of {all:?}");
}
