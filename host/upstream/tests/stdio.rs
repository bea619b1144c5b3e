//! A real child process: restarts, lost answers, deadlines, and leftover processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::time::{Duration, Instant};

use futures::future::join_all;
use qchost_catalog::Failure;
use qchost_upstream::{AccountOptions, AccountState};
use serde_json::{Value, json};
use support::{ACCOUNT, Log, accounts, call, failure, is_running, options, stdio, wait_until};

const LONG: u64 = 20_000;

#[tokio::test]
async fn arguments_are_sent_in_the_form_that_the_schema_asks_for() {
    for words in [&[][..], &["wrapped"]] {
        let log = Log::new();
        let accounts = accounts(stdio(&log, words, &[]), options());
        let arguments = json!({ "id": 1, "projectId": 7, "script": ["echo"] });
        let answer = call(&accounts, "read_backtest", arguments.clone(), LONG)
            .await
            .unwrap();
        assert_eq!(answer["arguments"], arguments);
        let call = &log.events("call")[0];
        assert_eq!(call["wrapped"], json!(!words.is_empty()));
        assert_eq!(call["tool"], "read_backtest");
        accounts.close().await;
    }
}

#[tokio::test]
async fn a_read_whose_server_dies_is_asked_again_and_answered() {
    let log = Log::new();
    let accounts = accounts(stdio(&log, &[], &[]), options());
    let arguments = json!({ "id": 1, "script": ["exit", "exit", "echo"] });
    let answer = call(&accounts, "read_backtest", arguments, LONG)
        .await
        .unwrap();
    assert_eq!(answer["success"], json!(true));
    assert_eq!(log.events("call").len(), 3);
    let health = accounts.health(ACCOUNT).unwrap();
    assert_eq!(
        (health.state, health.restarts),
        (AccountState::Connected, 2)
    );
    let server = health.server.unwrap();
    assert_eq!(
        (server.name.as_str(), server.version.as_str(), server.tools),
        ("scripted", "1.2.3", 7)
    );
}

#[tokio::test]
async fn a_read_is_not_retried_forever() {
    let log = Log::new();
    let options = AccountOptions {
        attempts: 3,
        ..options()
    };
    let accounts = accounts(stdio(&log, &[], &[]), options);
    let outcome = call(
        &accounts,
        "read_backtest",
        json!({ "id": 1, "script": ["exit"] }),
        LONG,
    )
    .await;
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(
        reason.contains("exit status: 3") && reason.contains("out of coffee"),
        "{reason}"
    );
    assert_eq!(log.events("call").len(), 3);
}

#[tokio::test]
async fn a_write_whose_server_dies_has_an_unknown_outcome_and_is_sent_once() {
    for tool in [
        "create_backtest",
        "create_live_algorithm",
        "tool_of_tomorrow",
    ] {
        let log = Log::new();
        let accounts = accounts(stdio(&log, &[], &[]), options());
        let outcome = call(
            &accounts,
            tool,
            json!({ "id": 1, "script": ["exit", "echo"] }),
            LONG,
        )
        .await;
        let Failure::UnknownOutcome(reason) = failure(outcome) else {
            panic!("{tool}")
        };
        assert!(
            reason.contains("exit status: 3") && reason.contains("out of coffee"),
            "{reason}"
        );
        assert_eq!(log.events("call").len(), 1, "{tool}");
        // The account has recovered.
        let next = call(&accounts, tool, json!({ "id": 2 }), LONG).await;
        assert_eq!(next.unwrap()["success"], json!(true));
    }
}

#[tokio::test]
async fn killing_the_server_fails_each_call_by_its_own_rule() {
    let log = Log::new();
    let accounts = accounts(stdio(&log, &[], &[]), options());
    let read = call(
        &accounts,
        "read_backtest",
        json!({ "id": 1, "script": ["hang", "echo"] }),
        LONG,
    );
    let write = call(
        &accounts,
        "create_backtest",
        json!({ "id": 2, "script": ["hang", "echo"] }),
        LONG,
    );
    let kill = async {
        let calls = log.wait_for("call", 2).await;
        let pid = calls[0]["pid"].to_string();
        let status = std::process::Command::new("kill")
            .args(["-KILL", &pid])
            .status();
        assert!(status.unwrap().success());
    };
    let (read, write, ()) = tokio::join!(read, write, kill);
    assert_eq!(
        accounts.health(ACCOUNT).unwrap().state,
        AccountState::Connected
    );
    assert_eq!(read.unwrap()["success"], json!(true));
    let Failure::UnknownOutcome(reason) = failure(write) else {
        panic!()
    };
    assert!(reason.contains("signal: 9"), "{reason}");
    let calls = log.events("call");
    let sent = |id: u64| {
        calls
            .iter()
            .filter(|call| call["arguments"]["id"] == id)
            .count()
    };
    assert_eq!((sent(1), sent(2)), (2, 1));
}

#[tokio::test]
async fn a_server_that_dies_between_calls_is_reported_down_and_restarted_by_the_next_call() {
    let log = Log::new();
    let accounts = accounts(stdio(&log, &[], &[]), options());
    call(&accounts, "create_backtest", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    let pid = log.events("start")[0]["pid"].to_string();
    let status = std::process::Command::new("kill")
        .args(["-KILL", &pid])
        .status();
    assert!(status.unwrap().success());
    let health = || accounts.health(ACCOUNT).unwrap();
    wait_until("the loss", || health().state == AccountState::Unreachable).await;
    assert!(health().last_error.is_some());
    call(&accounts, "create_backtest", json!({ "id": 2 }), LONG)
        .await
        .unwrap();
    assert_eq!(
        (health().state, health().last_error),
        (AccountState::Connected, None)
    );
    assert_eq!(log.events("start").len(), 2);
}

#[tokio::test]
async fn the_deadline_ends_the_wait_but_never_the_call() {
    let log = Log::new();
    let accounts = accounts(stdio(&log, &[], &[]), options());
    accounts
        .connect(ACCOUNT, Instant::now() + Duration::from_secs(20))
        .await
        .unwrap();
    let script = json!([{ "sleep": 1_000 }]);
    let started = Instant::now();
    let read = call(
        &accounts,
        "read_backtest",
        json!({ "id": 1, "script": script }),
        300,
    );
    let write = call(
        &accounts,
        "create_backtest",
        json!({ "id": 2, "script": script }),
        300,
    );
    let (read, write) = tokio::join!(read, write);
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert!(
        matches!(failure(read), Failure::TimedOut { after } if after >= Duration::from_millis(300))
    );
    assert!(matches!(failure(write), Failure::UnknownOutcome(_)));
    // Both were carried out completely: the server was not told to stop.
    log.wait_for("slept", 2).await;
    assert_eq!(log.events("cancelled"), Vec::<Value>::new());
    // A call whose deadline has passed is not sent.
    let late = call(&accounts, "create_backtest", json!({ "id": 3 }), 0).await;
    assert!(matches!(failure(late), Failure::TimedOut { .. }));
    assert_eq!(log.events("call").len(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_cancel_what_was_sent() {
    let log = Log::new();
    let accounts = accounts(stdio(&log, &[], &[]), options());
    let write = call(
        &accounts,
        "create_backtest",
        json!({ "id": 1, "script": [{ "sleep": 300 }] }),
        LONG,
    );
    tokio::select! {
        _ = write => panic!("answered too early"),
        _ = log.wait_for("call", 1) => {}
    }
    log.wait_for("slept", 1).await;
    assert_eq!(log.events("cancelled"), Vec::<Value>::new());
}

#[tokio::test]
async fn many_calls_share_a_bounded_number_of_sessions() {
    let log = Log::new();
    let options = AccountOptions {
        connections: 3,
        ..options()
    };
    let accounts = accounts(stdio(&log, &[], &[]), options);
    let calls = (0..64).map(|id| {
        let arguments = json!({ "id": id, "script": [{ "sleep": 150 }] });
        call(&accounts, "read_backtest", arguments, LONG)
    });
    let mut pids = std::collections::BTreeSet::new();
    for outcome in join_all(calls).await {
        pids.insert(outcome.unwrap()["pid"].to_string());
    }
    assert_eq!(pids.len(), 3);
    let calls = log.events("call");
    assert_eq!(calls.len(), 64);
    assert!(
        calls
            .iter()
            .all(|call| call["running"].as_u64().unwrap() <= 16)
    );
    assert_eq!(accounts.health(ACCOUNT).unwrap().sessions, 3);
    // One more call needs only the first session.
    let answer = call(&accounts, "read_backtest", json!({ "id": 99 }), LONG)
        .await
        .unwrap();
    assert!(pids.contains(&answer["pid"].to_string()));
}

#[tokio::test]
async fn a_server_that_cannot_start_is_tried_with_pauses_until_the_deadline() {
    let log = Log::new();
    let accounts = accounts(
        stdio(&log, &["crash"], &[("TEST_TOKEN", "tok-4711")]),
        options(),
    );
    assert_eq!(accounts.health(ACCOUNT).unwrap().state, AccountState::Idle);
    let started = Instant::now();
    let outcome = call(&accounts, "create_backtest", json!({ "id": 1 }), 2_500).await;
    assert!(
        started.elapsed() >= Duration::from_millis(2_400),
        "{:?}",
        started.elapsed()
    );
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(reason.contains("exit status: 7"), "{reason}");
    assert!(reason.contains("no beans, key [redacted]"), "{reason}");
    // Pauses of 50, 100, 200, 400, 400, … ms leave room for 9 starts at most.
    let starts = log.events("start").len();
    assert!((3..=9).contains(&starts), "{starts} starts");
    let health = accounts.health(ACCOUNT).unwrap();
    assert_eq!(health.state, AccountState::Unreachable);
    assert!(health.last_error.unwrap().contains("exit status: 7"));
    // No call waits any more, so the server is not started again.
    wait_until("the last start", || {
        accounts.health(ACCOUNT).unwrap().calls == 0
    })
    .await;
    let settled = Instant::now();
    let mut starts = log.events("start").len();
    while settled.elapsed() < Duration::from_millis(1_500) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        starts = starts.max(log.events("start").len());
    }
    assert!(
        log.events("start").len() <= starts && starts <= 10,
        "{starts} starts"
    );
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told_at_once() {
    let connector =
        qchost_upstream::StdioConnector::new("no-such-command-here", vec![], vec![], vec![], None);
    let accounts = accounts(connector.unwrap(), options());
    let started = Instant::now();
    let outcome = call(&accounts, "read_account", json!({}), LONG).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(reason.contains("no-such-command-here"), "{reason}");
    let error = accounts
        .connect(ACCOUNT, Instant::now() + Duration::from_secs(5))
        .await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no-such-command-here")
    );
}

#[tokio::test]
async fn the_child_sees_only_what_is_configured_and_its_command_line_shows_no_secret() {
    let log = Log::new();
    let accounts = accounts(stdio(&log, &[], &[("TEST_TOKEN", "tok-4711")]), options());
    let arguments = json!({ "id": 1, "script": ["environment"] });
    let answer = call(&accounts, "read_backtest", arguments, LONG)
        .await
        .unwrap();
    let variables: Vec<(String, String)> =
        serde_json::from_value(answer["environment"].clone()).unwrap();
    let value = |name: &str| {
        variables
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(
        (value("TEST_TOKEN"), value("PLAIN")),
        (Some("tok-4711"), Some("kept"))
    );
    assert_eq!(value("PATH"), std::env::var("PATH").ok().as_deref());
    // Cargo sets this variable for the test; the child must not inherit it.
    assert!(std::env::var("CARGO_PKG_NAME").is_ok());
    assert_eq!(value("CARGO_PKG_NAME"), None);
    let pid = &log.events("call")[0]["pid"];
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(
        line.contains("scripted_server") && !line.contains("tok-4711"),
        "{line}"
    );
}

#[tokio::test]
async fn closing_leaves_no_process_behind() {
    for words in [&["child"][..], &["child", "stubborn"]] {
        let log = Log::new();
        let accounts = accounts(stdio(&log, words, &[]), options());
        call(&accounts, "read_account", json!({ "id": 1 }), LONG)
            .await
            .unwrap();
        let server = log.events("start")[0]["pid"].clone();
        let child = log.events("child")[0]["pid"].clone();
        assert!(is_running(&server) && is_running(&child));
        accounts.close().await;
        assert!(!is_running(&server), "{words:?}");
        let health = accounts.health(ACCOUNT).unwrap();
        assert_eq!((health.state, health.sessions), (AccountState::Idle, 0));
        wait_until("the child's end", || !is_running(&child)).await;
        // It can be opened again.
        call(&accounts, "read_account", json!({ "id": 2 }), LONG)
            .await
            .unwrap();
        let server = log.events("start")[1]["pid"].clone();
        let child = log.events("child")[1]["pid"].clone();
        drop(accounts);
        wait_until("the server's end", || {
            !is_running(&server) && !is_running(&child)
        })
        .await;
    }
}

#[test]
fn accounts_that_are_dropped_after_the_runtime_leave_no_process_behind() {
    let log = Log::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let accounts = accounts(stdio(&log, &["child", "stubborn"], &[]), options());
    runtime
        .block_on(call(&accounts, "read_account", json!({ "id": 1 }), LONG))
        .unwrap();
    let server = log.events("start")[0]["pid"].clone();
    let child = log.events("child")[0]["pid"].clone();
    assert!(is_running(&server) && is_running(&child));
    drop(runtime);
    drop(accounts);
    let until = Instant::now() + Duration::from_secs(10);
    while is_running(&server) || is_running(&child) {
        assert!(Instant::now() < until, "still running");
        std::thread::sleep(Duration::from_millis(10));
    }
}
