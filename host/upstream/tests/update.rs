//! Accounts that are added, replaced and removed during calls.

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
use std::time::{Duration, Instant};

use futures::future::join_all;
use qchost_catalog::{Call, Failure, Outcome, Target, Upstream as _, always, by_tool};
use qchost_upstream::{Account, AccountState, Accounts, Connector, HttpConnector};
use serde_json::{Value, json};
use support::pipes::scripted;
use support::web::Web;
use support::{Log, failure, is_running, options, stdio};

const LONG: u64 = 20_000;

fn account(name: &str, connector: impl Connector + 'static) -> Account {
    Account::new(name, Arc::new(connector), options())
}

async fn call(accounts: &Accounts, account: &str, tool: &str, arguments: Value) -> Outcome {
    accounts
        .call(Call {
            account,
            target: Target::Known(by_tool(tool).unwrap()),
            arguments: serde_json::from_value(arguments).unwrap(),
            deadline: Instant::now() + Duration::from_millis(LONG),
            clearance: always(),
            sends: None,
        })
        .await
}

/// A write that takes this many milliseconds after it was sent.
async fn under_way(
    accounts: &Accounts,
    log: &Log,
    millis: u64,
) -> tokio::task::JoinHandle<Outcome> {
    let accounts = accounts.clone();
    let calling = tokio::spawn(async move {
        let slow = json!({ "id": 1, "script": [{ "sleep": millis }] });
        call(&accounts, "a", "create_backtest", slow).await
    });
    log.wait_for("call", 1).await;
    calling
}

#[tokio::test]
async fn calls_end_on_the_old_process_and_new_ones_go_to_the_new() {
    let (old, new, other) = (Log::new(), Log::new(), Log::new());
    let accounts = Accounts::new([
        account("a", stdio(&old, &[], &[])),
        account("b", stdio(&other, &[], &[])),
    ])
    .unwrap();
    let beside = call(&accounts, "b", "read_backtest", json!({ "id": 9 })).await;
    let beside = beside.unwrap()["pid"].clone();
    let slow = under_way(&accounts, &old, 1_500).await;
    let closed = accounts.update(vec![account("a", stdio(&new, &[], &[]))], &[]);
    let answer = call(&accounts, "a", "read_backtest", json!({ "id": 2 })).await;
    let new_pid = answer.unwrap()["pid"].clone();
    // The old connection is still in use.
    assert!(!slow.is_finished() && !closed.is_finished());
    let answer = slow.await.unwrap().unwrap();
    let old_pid = answer["pid"].clone();
    assert_ne!(old_pid, new_pid);
    closed.await.unwrap();
    assert!(!is_running(&old_pid));
    assert!(is_running(&new_pid));
    assert_eq!(old.events("call").len(), 1);
    assert_eq!(new.events("call").len(), 1);
    // The other account was not affected.
    let again = call(&accounts, "b", "read_backtest", json!({ "id": 10 })).await;
    assert_eq!(again.unwrap()["pid"], beside);
    let health = accounts.health("b").unwrap();
    assert_eq!(
        (health.state, health.restarts),
        (AccountState::Connected, 0)
    );
    accounts.close().await;
    assert!(!is_running(&new_pid) && !is_running(&beside));
}

#[tokio::test]
async fn a_removed_account_has_no_new_calls_and_loses_none() {
    let log = Log::new();
    let accounts = Accounts::new([account("a", stdio(&log, &[], &[]))]).unwrap();
    let slow = under_way(&accounts, &log, 700).await;
    let other = Log::new();
    let closed = accounts.update(
        vec![account("b", stdio(&other, &[], &[]))],
        &["a".to_owned(), "never there".to_owned()],
    );
    let refused = call(&accounts, "a", "create_backtest", json!({ "id": 2 })).await;
    let Failure::InvalidArgument(reason) = failure(refused) else {
        panic!()
    };
    assert!(
        reason.contains("no account `a`") && reason.ends_with("b"),
        "{reason}"
    );
    assert_eq!(accounts.health("a"), None);
    assert_eq!(accounts.names(), ["b"]);
    let answer = slow.await.unwrap().unwrap();
    closed.await.unwrap();
    assert!(!is_running(&answer["pid"]));
    assert_eq!(log.events("call").len(), 1);
    // The account is added again.
    accounts.update(vec![account("a", stdio(&log, &[], &[]))], &[]);
    call(&accounts, "a", "create_backtest", json!({ "id": 3 }))
        .await
        .unwrap();
    accounts.close().await;
}

#[tokio::test]
async fn an_address_that_changes_is_the_next_call_s() {
    let (old, new) = (Log::new(), Log::new());
    let (from, to) = (
        Web::scripted(old.path.clone(), 0),
        Web::scripted(new.path.clone(), 0),
    );
    let reach = |web: &Web| account("a", HttpConnector::new(&web.url(), []).unwrap());
    let accounts = Accounts::new([reach(&from)]).unwrap();
    let slow = under_way(&accounts, &old, 700).await;
    let closed = accounts.update(vec![reach(&to)], &[]);
    call(&accounts, "a", "create_backtest", json!({ "id": 2 }))
        .await
        .unwrap();
    assert_eq!(new.events("call").len(), 1);
    slow.await.unwrap().unwrap();
    closed.await.unwrap();
    assert_eq!(old.events("call").len(), 1);
    let connection = accounts.health("a").unwrap().connection;
    assert!(connection.contains(&to.address.to_string()), "{connection}");
}

#[tokio::test]
async fn what_still_runs_on_a_former_connection_ends_with_the_host() {
    let log = Log::new();
    let accounts = Accounts::new([account("a", stdio(&log, &[], &[]))]).unwrap();
    let hanging = {
        let accounts = accounts.clone();
        let hang = json!({ "id": 1, "script": ["hang"] });
        tokio::spawn(async move { call(&accounts, "a", "create_backtest", hang).await })
    };
    let pid = log.wait_for("call", 1).await[0]["pid"].clone();
    let closed = accounts.update(Vec::new(), &["a".to_owned()]);
    accounts.close().await;
    assert!(!is_running(&pid));
    let lost = failure(hanging.await.unwrap());
    assert!(matches!(lost, Failure::UnknownOutcome(_)), "{lost}");
    closed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_while_an_account_is_replaced_again_and_again() {
    const ROUNDS: usize = 30;
    let log = Log::new();
    let fresh = || account("a", scripted(log.path.clone()));
    let accounts = Accounts::new([fresh()]).unwrap();
    let mut calls = Vec::new();
    let mut closings = Vec::new();
    for round in 0..ROUNDS {
        calls.extend((0..10).map(|number| {
            let accounts = accounts.clone();
            let id = round * 10 + number;
            tokio::spawn(async move {
                let arguments = json!({ "id": id, "script": [{ "sleep": id % 7 }] });
                call(&accounts, "a", "create_backtest", arguments).await
            })
        }));
        tokio::time::sleep(Duration::from_millis(3)).await;
        closings.push(accounts.update(vec![fresh()], &[]));
    }
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap().unwrap()["success"], json!(true));
    }
    for closed in join_all(closings).await {
        closed.unwrap();
    }
    // Each was sent once.
    assert_eq!(log.events("call").len(), ROUNDS * 10);
}
