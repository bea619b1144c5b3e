//! A call that may no longer be sent ends at once, wherever it waits, and nothing is sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::{BoxFuture, Clearance, Failure, Outcome};
use qchost_upstream::{AccountOptions, Accounts, Backoff, HttpConnector};
use serde_json::{Value, json};
use support::pipes::{flaky, scripted};
use support::web::{Web, free_port};
use support::{ACCOUNT, AtSending, Log, accounts, call_if, failure, options, wait_until};
use tokio::sync::watch;

const LONG: u64 = 20_000;

/// How soon a refusal must end a wait; the waits of these tests are several times as long.
const SOON: Duration = Duration::from_secs(2);

/// A clearance that can be withdrawn, and how often it was asked.
#[derive(Default)]
struct Switch {
    halted: watch::Sender<bool>,
    asked: AtomicUsize,
}

impl Clearance for Switch {
    fn clear(&self) -> Result<(), Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match *self.halted.borrow() {
            true => Err(halted()),
            false => Ok(()),
        }
    }

    fn withdrawn(&self) -> BoxFuture<'_, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            let mut halting = self.halted.subscribe();
            halting.wait_for(|halted| *halted).await.unwrap();
            halted()
        })
    }
}

impl Switch {
    fn halt(&self) {
        self.halted.send_replace(true);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn halted() -> Failure {
    Failure::Halted("the market is closed".to_owned())
}

async fn call(accounts: &Accounts, switch: &Switch, tool: &str, arguments: Value) -> Outcome {
    call_if(accounts, tool, arguments, LONG, switch).await
}

#[tokio::test]
async fn only_what_is_cleared_is_sent() {
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    let switch = Switch::default();
    let answer = call(&accounts, &switch, "create_backtest", json!({ "id": 1 })).await;
    assert_eq!(answer.unwrap()["success"], json!(true));
    assert_eq!(log.events("call").len(), 1);
    switch.halt();
    for tool in ["create_backtest", "read_backtest", "tool_of_tomorrow"] {
        let outcome = call(&accounts, &switch, tool, json!({ "id": 2 })).await;
        assert_eq!(failure(outcome), halted(), "{tool}");
    }
    assert_eq!(log.events("call").len(), 1);
}

/// Halts while the call waits, and returns how long the call continued.
async fn halt_while_waiting(
    accounts: &Accounts,
    switch: &Switch,
    arguments: Value,
    waiting: impl AsyncFnOnce(),
) -> (Outcome, Duration) {
    let halting = async {
        waiting().await;
        switch.halt();
        Instant::now()
    };
    let calling = async {
        let outcome = call(accounts, switch, "create_backtest", arguments).await;
        (outcome, Instant::now())
    };
    let (halted_at, (outcome, ended_at)) = tokio::join!(halting, calling);
    (outcome, ended_at.saturating_duration_since(halted_at))
}

#[tokio::test]
async fn a_wait_for_a_server_that_is_down_ends_with_the_halt() {
    let log = Log::new();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/mcp");
    let accounts = accounts(HttpConnector::new(&url, []).unwrap(), options());
    let switch = Switch::default();
    let waiting = async || wait_until("a call that waits", || switch.asked() > 0).await;
    let arguments = json!({ "id": 1 });
    let (outcome, after) = halt_while_waiting(&accounts, &switch, arguments, waiting).await;
    assert_eq!(failure(outcome), halted());
    assert!(after < SOON, "{after:?}");
    // The server starts, and the refused call does not reach it.
    let _web = Web::scripted(log.path.clone(), port);
    let allowed = Switch::default();
    let answer = call(&accounts, &allowed, "create_backtest", json!({ "id": 2 })).await;
    assert_eq!(answer.unwrap()["success"], json!(true));
    let calls = log.events("call");
    let sent: Vec<_> = calls.iter().map(|call| &call["arguments"]["id"]).collect();
    assert_eq!(sent, [2]);
}

#[tokio::test]
async fn a_call_that_waited_for_its_server_is_asked_about_when_it_is_sent() {
    // The server is up at the third attempt; the halt comes before it, or not at all.
    for halt in [false, true] {
        let log = Log::new();
        let (tried, connector) = flaky(log.path.clone(), 2);
        let slow = AccountOptions {
            backoff: Backoff {
                initial: Duration::from_millis(10),
                max: Duration::from_millis(10),
                jitter: 0.0,
            },
            ..options()
        };
        let accounts = accounts(connector, slow);
        let clearance = AtSending(|| match halt && tried.load(Ordering::SeqCst) == 3 {
            true => Err(halted()),
            false => Ok(()),
        });
        let arguments = json!({ "id": 1 });
        let outcome = call_if(&accounts, "create_backtest", arguments, LONG, &clearance).await;
        assert_eq!(outcome.is_ok(), !halt, "{outcome:?}");
        assert_eq!(log.events("call").len(), usize::from(!halt));
    }
}

#[tokio::test]
async fn a_wait_before_a_retry_ends_with_the_halt_and_nothing_is_sent_again() {
    let told = |seconds: f64| {
        let body = json!({ "success": false, "errors": ["slow down"],
            "failure": { "kind": "rate-limited", "retryAfter": seconds } });
        json!({ "error": body.to_string() })
    };
    let log = Log::new();
    let accounts = accounts(scripted(log.path.clone()), options());
    let switch = Switch::default();
    let arguments = json!({ "id": 1, "script": [told(15.0), "echo"] });
    let waiting = async || drop(log.wait_for("call", 1).await);
    let (outcome, after) = halt_while_waiting(&accounts, &switch, arguments, waiting).await;
    assert_eq!(failure(outcome), halted());
    assert!(after < SOON, "{after:?}");
    assert_eq!(log.events("call").len(), 1);
    // Without a halt, it is sent again.
    let allowed = Switch::default();
    let arguments = json!({ "id": 2, "script": [told(0.1), "echo"] });
    let answer = call(&accounts, &allowed, "create_backtest", arguments).await;
    assert_eq!(answer.unwrap()["success"], json!(true));
    assert_eq!(log.events("call").len(), 3);
    assert!(allowed.asked() >= 2);
}

/// A clearance with places for this many further attempts.
struct Places(AtomicUsize);

impl Clearance for Places {
    fn clear(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn withdrawn(&self) -> BoxFuture<'_, Failure> {
        Box::pin(std::future::pending())
    }

    fn again(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let taken = match self.0.load(Ordering::SeqCst).checked_sub(1) {
            Some(left) => {
                self.0.store(left, Ordering::SeqCst);
                Ok(())
            }
            None => Err(Failure::RateLimited { retry_after: None }),
        };
        Box::pin(std::future::ready(taken))
    }
}

#[tokio::test]
async fn each_further_attempt_takes_a_place_and_without_one_is_not_made() {
    let body = json!({ "success": false, "errors": ["slow down"],
        "failure": { "kind": "rate-limited", "retryAfter": 0.01 } });
    let told = json!({ "error": body.to_string() });
    for places in [0, 1, 3] {
        let log = Log::new();
        let accounts = accounts(scripted(log.path.clone()), options());
        let clearance = Places(AtomicUsize::new(places));
        let arguments = json!({ "id": 1, "script": vec![told.clone(); 5] });
        let outcome = call_if(&accounts, "create_backtest", arguments, LONG, &clearance).await;
        let failure = failure(outcome);
        assert!(
            matches!(failure, Failure::RateLimited { .. }),
            "{failure:?}"
        );
        assert_eq!(log.events("call").len(), places + 1);
        let figures = accounts.figures(ACCOUNT).unwrap().since_start;
        let sends = u64::try_from(places).unwrap() + 1;
        assert_eq!((figures.calls, figures.sends), (1, sends));
    }
}

#[tokio::test]
async fn a_wait_for_a_place_ends_with_the_halt() {
    let log = Log::new();
    let narrow = AccountOptions {
        calls_per_connection: 1,
        ..options()
    };
    let accounts = accounts(scripted(log.path.clone()), narrow);
    let (first, second) = (Switch::default(), Switch::default());
    let busy = json!({ "id": 1, "script": [{ "sleep": 3_000 }] });
    let busy = call(&accounts, &first, "create_backtest", busy);
    let waiting = async {
        log.wait_for("call", 1).await;
        let waiting = async || wait_until("a call that waits", || second.asked() > 0).await;
        halt_while_waiting(&accounts, &second, json!({ "id": 2 }), waiting).await
    };
    let (busy, (outcome, _)) = tokio::join!(busy, waiting);
    assert_eq!(failure(outcome), halted());
    assert_eq!(log.events("call").len(), 1);
    // A call that was sent before gets its answer, and frees its place.
    assert_eq!(busy.unwrap()["success"], json!(true));
    let answer = call(&accounts, &first, "create_backtest", json!({ "id": 3 })).await;
    assert_eq!(answer.unwrap()["success"], json!(true));
}

#[tokio::test]
async fn a_halt_does_not_hide_that_an_earlier_try_may_have_been_done() {
    for (tool, write) in [("read_backtest", false), ("update_backtest", true)] {
        let log = Log::new();
        let accounts = accounts(scripted(log.path.clone()), options());
        // The first attempt fails in a way that leaves the outcome open; then comes the halt.
        let clearance = AtSending(|| match log.events("call").len() {
            0 => Ok(()),
            _ => Err(halted()),
        });
        let arguments = json!({ "id": 1, "script": [{ "code": -32603 }, "echo"] });
        let outcome = call_if(&accounts, tool, arguments.clone(), LONG, &clearance).await;
        match failure(outcome) {
            Failure::UnknownOutcome(told) if write => {
                assert!(told.contains("the market is closed"), "{told}");
            }
            other => assert!(!write && other == halted(), "{tool}: {other:?}"),
        }
        assert_eq!(log.events("call").len(), 1);
        // Without a halt, both are sent again.
        let arguments = json!({ "id": 2, "script": [{ "code": -32603 }, "echo"] });
        let outcome = call(&accounts, &Switch::default(), tool, arguments).await;
        assert_eq!(outcome.unwrap()["success"], json!(true));
        assert_eq!(log.events("call").len(), 3);
    }
}
