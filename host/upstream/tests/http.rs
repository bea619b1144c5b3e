//! Real HTTP: sessions that the server forgets, servers that restart, and the meaning of each status.

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
use qchost_catalog::{Failure, Upstream as _};
use qchost_upstream::{AccountOptions, AccountState, Accounts, HttpConnector};
use secrecy::SecretString;
use serde_json::json;
use support::web::{Web, by_hand, files, free_port, page, success};
use support::{ACCOUNT, Log, accounts, call, failure, options};

const LONG: u64 = 20_000;

fn reach(web: &Web) -> Accounts {
    accounts(HttpConnector::new(&web.url(), []).unwrap(), options())
}

/// A refusal by QuantConnect with this message.
fn refused(request: &serde_json::Value, words: &str) -> (u16, Vec<(&'static str, String)>, String) {
    let body = json!({ "success": false, "errors": [words] }).to_string();
    let content = json!([{ "type": "text", "text": body }]);
    let answer = json!({
        "jsonrpc": "2.0", "id": request["id"], "result": { "content": content, "isError": true },
    });
    let json = vec![("content-type", "application/json".to_owned())];
    (200, json, answer.to_string())
}

/// Lets the client's own tasks notice that connections were closed. A call that is written into a closed one
/// would rightly have an unknown outcome.
async fn notice() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn calls_go_over_streamable_http_wrapped_and_in_parallel() {
    let log = Log::new();
    let web = Web::scripted(log.path.clone(), 0);
    let options = AccountOptions {
        connections: 4,
        ..options()
    };
    let accounts = accounts(HttpConnector::new(&web.url(), []).unwrap(), options);
    let calls = (0..64).map(|id| {
        let arguments = json!({ "id": id, "script": [{ "sleep": 100 }] });
        call(&accounts, "read_backtest", arguments, LONG)
    });
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap()["success"], json!(true));
    }
    let calls = log.events("call");
    assert_eq!(calls.len(), 64);
    assert!(calls.iter().all(|call| call["wrapped"] == json!(true)));
    // More than one call at a time in each session.
    assert!(
        calls
            .iter()
            .any(|call| call["running"].as_u64().unwrap() > 4)
    );
    assert_eq!(accounts.health(ACCOUNT).unwrap().sessions, 4);
}

#[tokio::test]
async fn a_restarted_server_gets_a_new_session_and_the_call_is_carried_once() {
    let log = Log::new();
    let web = Web::scripted(log.path.clone(), 0);
    let accounts = reach(&web);
    call(&accounts, "create_backtest", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    let port = web.kill();
    notice().await;
    let _web = Web::scripted(log.path.clone(), port);
    // The new server does not know the old session: nothing was done, so a write is sent again.
    call(&accounts, "create_backtest", json!({ "id": 2 }), LONG)
        .await
        .unwrap();
    assert_eq!(log.events("call").len(), 2);
    let health = accounts.health(ACCOUNT).unwrap();
    assert_eq!(
        (health.state, health.restarts),
        (AccountState::Connected, 1)
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_waited_for_until_the_deadline() {
    let log = Log::new();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/mcp");
    let accounts = accounts(HttpConnector::new(&url, []).unwrap(), options());
    let outcome = call(&accounts, "create_backtest", json!({ "id": 1 }), 700).await;
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(reason.to_lowercase().contains("refused"), "{reason}");
    assert_eq!(
        accounts.health(ACCOUNT).unwrap().state,
        AccountState::Unreachable
    );
    let late = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Web::scripted(log.path.clone(), port)
    };
    let (outcome, _web) = tokio::join!(
        call(&accounts, "create_backtest", json!({ "id": 2 }), LONG),
        late
    );
    outcome.unwrap();
    assert_eq!(log.events("call").len(), 1);
}

#[tokio::test]
async fn a_server_that_dies_between_two_calls_is_waited_for() {
    let log = Log::new();
    let web = Web::scripted(log.path.clone(), 0);
    let accounts = reach(&web);
    call(&accounts, "create_backtest", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    let port = web.kill();
    notice().await;
    let outcome = call(&accounts, "create_backtest", json!({ "id": 2 }), 600).await;
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(reason.to_lowercase().contains("refused"), "{reason}");
    let back = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        Web::scripted(log.path.clone(), port)
    };
    let (outcome, _web) = tokio::join!(
        call(&accounts, "create_backtest", json!({ "id": 3 }), LONG),
        back
    );
    outcome.unwrap();
    let ids: Vec<_> = log
        .events("call")
        .iter()
        .map(|call| call["arguments"]["id"].clone())
        .collect();
    assert_eq!(ids, [json!(1), json!(3)]);
}

#[tokio::test]
async fn a_server_that_dies_in_mid_call_loses_the_answer_of_a_write_and_not_that_of_a_read() {
    let log = Log::new();
    let web = Web::scripted(log.path.clone(), 0);
    let accounts = reach(&web);
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
    let restart = async {
        log.wait_for("call", 2).await;
        let port = web.kill();
        Web::scripted(log.path.clone(), port)
    };
    let (read, write, _web) = tokio::join!(read, write, restart);
    assert_eq!(read.unwrap()["success"], json!(true));
    assert!(matches!(failure(write), Failure::UnknownOutcome(_)));
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
async fn what_a_status_means_for_a_write() {
    let wait = |seconds: &str| {
        (
            429,
            vec![("retry-after", seconds.to_owned())],
            String::new(),
        )
    };
    let limited = wait("1");
    let (seen, web) = by_hand(move |before, request| {
        if before == 0 {
            limited.clone()
        } else {
            success(request)
        }
    });
    let started = Instant::now();
    call(&reach(&web), "create_backtest", json!({}), LONG)
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_millis(1_000));
    assert_eq!(seen.calls(), 2);

    // Longer than any caller waits, up to values that no clock can represent.
    for seconds in [90, u64::MAX] {
        let limited = wait(&seconds.to_string());
        let (seen, web) = by_hand(move |_, _| limited.clone());
        let outcome = call(&reach(&web), "create_backtest", json!({}), 5_000).await;
        assert_eq!(
            failure(outcome),
            Failure::RateLimited {
                // Waits of more than a day are cut to a day.
                retry_after: Some(Duration::from_secs(seconds.min(86_400)))
            }
        );
        assert_eq!(seen.calls(), 1);
    }

    // A gateway's error, a broken connection, a page instead of an answer: the outcome is unknown.
    for status in [500, 502, 503, 0, 200] {
        let (seen, web) = by_hand(move |_, _| {
            if status == 0 {
                (0, vec![], String::new())
            } else {
                page(status)
            }
        });
        let outcome = call(&reach(&web), "create_backtest", json!({}), LONG).await;
        assert!(
            matches!(failure(outcome), Failure::UnknownOutcome(_)),
            "{status}"
        );
        assert_eq!(seen.calls(), 1, "{status}");
    }
    // A refusal before anything was done.
    for status in [400, 401, 403] {
        let (seen, web) = by_hand(move |_, _| page(status));
        let outcome = call(&reach(&web), "create_backtest", json!({}), LONG).await;
        let Failure::Unavailable(reason) = failure(outcome) else {
            panic!("{status}")
        };
        assert!(reason.contains(&status.to_string()), "{reason}");
        assert_eq!(seen.calls(), 1, "{status}");
    }
}

#[tokio::test]
async fn words_that_a_plugin_chose_neither_send_a_write_again_nor_say_how_the_account_stands() {
    for words in [
        "HTTP 401",
        "HTTP 429",
        "too many requests",
        "rate limit",
        "not found",
        "Hash doesn't match.",
        "Connection refused",
    ] {
        for tool in ["create_backtest", "read_backtest"] {
            let told = format!("The file '{words}.py' already exists");
            let (seen, web) = by_hand(move |_, request| refused(request, &told));
            let accounts = reach(&web);
            let arguments = json!({ "name": format!("{words}.py") });
            let outcome = call(&accounts, tool, arguments, LONG).await;
            assert!(matches!(failure(outcome), Failure::Rejected(_)), "{words}");
            assert_eq!(seen.calls(), 1, "{tool}: {words}");
            let health = accounts.health(ACCOUNT).unwrap();
            assert_eq!(health.state, AccountState::Connected, "{words}");
        }
    }
    // A gateway's page that contains such words proves nothing about the credentials.
    let gateway = files(|_| {
        (
            502,
            vec![],
            "upstream said HTTP 401 Unauthorized".to_owned(),
        )
    });
    let accounts = reach(&gateway);
    let outcome = call(&accounts, "read_backtest", json!({}), 700).await;
    assert!(matches!(failure(outcome), Failure::Unavailable(_)));
    let health = accounts.health(ACCOUNT).unwrap();
    assert_eq!(health.state, AccountState::Unreachable);
}

#[tokio::test]
async fn what_a_status_means_for_a_read() {
    for status in [500, 502, 503, 0] {
        let (seen, web) = by_hand(move |before, request| match (before, status) {
            (0, 0) => (0, vec![], String::new()),
            (0, _) => page(status),
            _ => success(request),
        });
        let answer = call(&reach(&web), "read_backtest", json!({}), LONG).await;
        assert_eq!(answer, Ok(json!({ "success": true })), "{status}");
        assert_eq!(seen.calls(), 2, "{status}");
    }
    let (_, web) = by_hand(|_, _| page(200));
    let outcome = call(&reach(&web), "read_backtest", json!({}), LONG).await;
    assert!(matches!(failure(outcome), Failure::UnexpectedResponse(_)));
}

#[tokio::test]
async fn headers_go_with_every_request_and_credentials_that_are_refused_are_told_at_once() {
    let (seen, web) = by_hand(|_, request| success(request));
    let headers = [(
        "Authorization".to_owned(),
        SecretString::from("Bearer tok-4711"),
    )];
    let with = accounts(HttpConnector::new(&web.url(), headers).unwrap(), options());
    call(&with, "create_backtest", json!({}), LONG)
        .await
        .unwrap();
    assert!(seen.headers().len() >= 3);
    assert!(
        seen.headers()
            .iter()
            .all(|headers| headers["authorization"] == "Bearer tok-4711")
    );

    let refused = files(|_| page(401));
    let started = Instant::now();
    let outcome = call(&reach(&refused), "read_backtest", json!({}), LONG).await;
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(
        reason.contains("refuses the credentials") && reason.contains("401"),
        "{reason}"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_download_is_bounded_and_its_address_is_shown_by_nothing() {
    let web = files(|path| match path {
        "/object" => (200, vec![], "bytes".to_owned()),
        "/gone" => page(404),
        "/expired" => page(403),
        "/moved" => (302, vec![("location", "/object".to_owned())], String::new()),
        _ => page(500),
    });
    let url = |path: &str| format!("http://{}{path}?sig=s3cr3t", web.address);
    let local = AccountOptions {
        local_downloads: true,
        ..options()
    };
    let connector = || HttpConnector::new("https://mcp.test/", []).unwrap();
    let with_emulator = accounts(connector(), local);
    let fetch = async |path: &str, limit| {
        let deadline = Instant::now() + Duration::from_secs(20);
        with_emulator
            .download(ACCOUNT, &url(path), limit, deadline)
            .await
    };
    assert_eq!(fetch("/object", 5).await.unwrap(), b"bytes");
    for (path, limit, told) in [
        ("/object", 4, "larger than 4 bytes"),
        ("/gone", 5, "not found"),
        ("/expired", 5, "403"),
        ("/moved", 5, "302"),
        ("/broken", 5, "500"),
    ] {
        let shown = fetch(path, limit).await.unwrap_err().to_string();
        assert!(shown.contains(told), "{shown}");
        assert!(
            !shown.contains("s3cr3t") && !shown.contains("127.0.0.1"),
            "{shown}"
        );
    }
    // An account of the real cloud is not sent to this machine, nor anywhere without TLS.
    let with_cloud = accounts(connector(), options());
    for address in [
        url("/object"),
        "http://files.test/x?sig=s3cr3t".to_owned(),
        "s3cr3t".to_owned(),
    ] {
        let deadline = Instant::now() + Duration::from_secs(20);
        let error = with_cloud
            .download(ACCOUNT, &address, 5, deadline)
            .await
            .unwrap_err();
        assert!(matches!(error, Failure::UnexpectedResponse(_)), "{error}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
}

#[tokio::test]
async fn the_last_call_says_how_the_account_stands() {
    let (seen, web) = by_hand(move |before, request| match before {
        0 => refused(request, "Hash doesn't match."),
        1 => refused(request, "Invalid timestamp, value received: 1"),
        2 => page(401),
        3 => (429, vec![("retry-after", "60".to_owned())], String::new()),
        4 => refused(request, "Project not found"),
        _ => success(request),
    });
    let accounts = reach(&web);
    for (sent, state) in [
        (1, AccountState::Unauthorized),
        (2, AccountState::Clock),
        (3, AccountState::Unauthorized),
        (4, AccountState::RateLimited),
        // A refused call is not a problem of the account.
        (5, AccountState::Connected),
        (6, AccountState::Connected),
    ] {
        drop(call(&accounts, "create_backtest", json!({}), 5_000).await);
        let health = accounts.health(ACCOUNT).unwrap();
        assert_eq!(health.state, state, "after {sent} calls");
        assert_eq!(health.last_error.is_some(), state.is_problem());
        assert_eq!(seen.calls(), sent, "what is refused is not sent again");
    }
}
