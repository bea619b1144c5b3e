//! Batches against a scripted connection, through a real gate.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::{Failure, Outcome};
use qchost_gate::Gate;
use qchost_policy::Manifest;
use serde_json::json;
use tokio::sync::watch;

use super::Workflow;
use crate::calls::CallContext;
use crate::contract::qchost::agent::workflow::{Batch, Error, Host as _, Item};
use crate::contract::quantconnect::api::backtests::BacktestStatus;
use crate::contract::quantconnect::api::compile::State;
use crate::services::progress::{Progress, Reporter};
use qchost_testing::{COMPILED, Gated, Scripted, Sent};

const ALL: &str = r#""workflow", "compile/*", "backtests/*""#;

async fn gate(upstream: &Scripted, allow: &str) -> Gated {
    let gated = Gated::new(upstream.clone()).await;
    let manifest = format!(
        "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n[[grant]]\nname = \"lab\"\nallow = [{allow}]\nprojects = [\"*\"]\n"
    );
    let manifest = Manifest::parse(&manifest, Path::new("lab.toml")).unwrap();
    gated.gate.policies.install(manifest).unwrap();
    gated
}

fn workflow(gate: &Gate, seconds: u64) -> (Workflow, watch::Receiver<Progress>) {
    let (progress, watcher) = watch::channel(Progress::default());
    let workflow = Workflow::new(
        CallContext::for_test(gate.clone(), "lab"),
        Reporter(Some((progress, qchost_text::Redactor::default()))),
        Instant::now() + Duration::from_secs(seconds),
        3,
    );
    (workflow, watcher)
}

fn batch(names: &[&str], concurrency: u32) -> Batch {
    Batch {
        project_id: 1,
        compile_id: COMPILED.to_owned(),
        items: names
            .iter()
            .map(|name| Item {
                name: (*name).to_owned(),
                parameters: vec![("fast".to_owned(), (*name).to_owned())],
            })
            .collect(),
        concurrency,
    }
}

/// A cloud in which a backtest ends at its second read, and its name determines how.
fn cloud() -> Scripted {
    let readings = Mutex::new(HashMap::<String, usize>::new());
    Scripted::new(move |sent: &Sent| {
        let outcome: Outcome = match sent.tool.as_str() {
            "create_backtest" => match sent.arguments["backtestName"].as_str().unwrap() {
                "rejected" => Err(Failure::Rejected(vec!["no node is free".to_owned()])),
                "lost" => Err(Failure::UnknownOutcome("the connection broke".to_owned())),
                name => Ok(
                    json!({ "backtest": { "projectId": 1, "backtestId": name, "status": "In Queue..." } }),
                ),
            },
            "read_backtest" => {
                let id = sent.arguments["backtestId"].as_str().unwrap().to_owned();
                let mut readings = readings.lock();
                let count = readings.entry(id.clone()).or_default();
                *count += 1;
                match (*count, id.as_str()) {
                    (1, _) => Err(Failure::RateLimited { retry_after: None }),
                    (2, _) => Err(Failure::Unavailable("restarting".to_owned())),
                    (3, _) => Ok(
                        json!({ "backtest": { "projectId": 1, "backtestId": id, "status": "Running: 50%" } }),
                    ),
                    (_, "broken") => Ok(
                        json!({ "backtest": { "projectId": 1, "backtestId": id, "status": "Runtime Error", "error": "1/0" } }),
                    ),
                    _ => Ok(
                        json!({ "backtest": { "projectId": 1, "backtestId": id, "status": "Completed.", "completed": true } }),
                    ),
                }
            }
            "create_compile" => Ok(json!({ "projectId": 1, "compileId": "c", "state": "InQueue" })),
            "read_compile" => {
                let mut readings = readings.lock();
                let count = readings.entry("compile".to_owned()).or_default();
                *count += 1;
                let state = if *count < 2 { "InQueue" } else { "BuildError" };
                Ok(
                    json!({ "projectId": 1, "compileId": "c", "state": state, "logs": ["main.py:1"] }),
                )
            }
            tool => Err(Failure::NotFound(tool.to_owned())),
        };
        (Duration::from_millis(2), outcome)
    })
}

#[tokio::test]
async fn each_backtest_of_a_batch_has_its_own_result() {
    let upstream = cloud();
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, progress) = workflow(&gated.gate, 60);
    let names = ["one", "rejected", "broken", "lost", "two"];
    let results = workflow.run_backtests(batch(&names, 100)).await.unwrap();

    let order: Vec<_> = results.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(order, names);
    let status = |at: usize| results[at].outcome.as_ref().unwrap().status.clone();
    assert!(matches!(status(0), Some(BacktestStatus::Completed)));
    assert!(
        matches!(&results[1].outcome, Err(Error::Rejected(why)) if why[0] == "no node is free")
    );
    assert!(matches!(status(2), Some(BacktestStatus::RuntimeError)));
    assert!(matches!(&results[3].outcome, Err(Error::UnknownOutcome(_))));
    assert!(matches!(status(4), Some(BacktestStatus::Completed)));
    // A write whose answer was lost, or that was refused, is not sent again.
    assert_eq!(upstream.count("create_backtest"), 5);
    assert_eq!(progress.borrow().fraction, 1.0);
    assert_eq!(progress.borrow().message, "5 of 5 backtests ended");
}

#[tokio::test]
async fn a_batch_carries_figures_and_a_single_backtest_everything() {
    let upstream = Scripted::new(|sent| {
        let body = if sent.tool == "create_backtest" {
            json!({ "backtest": { "projectId": 1, "backtestId": "b", "status": "In Queue..." } })
        } else {
            json!({ "backtest": {
                "projectId": 1,
                "backtestId": "b",
                "status": "Completed.",
                "statistics": { "Sharpe Ratio": "1.5" },
                "charts": { "Strategy Equity": { "name": "Strategy Equity" } },
                "rollingWindow": { "M1_20240131": { "closedTrades": [{ "quantity": 1 }] } },
                "totalPerformance": {
                    "tradeStatistics": { "totalNumberOfTrades": 7 },
                    "closedTrades": [{ "quantity": 1 }],
                },
            } })
        };
        (Duration::from_millis(1), Ok(body))
    });
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 60);
    let mut results = workflow.run_backtests(batch(&["x"], 1)).await.unwrap();
    let one = results.remove(0).outcome.unwrap();
    let whole = workflow
        .backtest_and_wait(1, COMPILED.to_owned(), "x".to_owned(), Vec::new())
        .await
        .unwrap();
    for backtest in [&one, &whole] {
        assert_eq!(backtest.statistics[0].value, Some(1.5));
        let performance = backtest.total_performance.as_ref().unwrap();
        let trades = performance.trade_statistics.as_ref().unwrap();
        assert_eq!(trades.total_number_of_trades, Some(7));
    }
    let sizes = |backtest: &super::Backtest| {
        let performance = backtest.total_performance.as_ref().unwrap();
        (
            backtest.charts.len(),
            backtest.rolling_window.len(),
            performance.closed_trades.len(),
        )
    };
    assert_eq!(sizes(&one), (0, 0, 0));
    assert_eq!(sizes(&whole), (1, 1, 1));
}

#[tokio::test]
async fn a_batch_runs_as_many_as_the_host_allows_and_no_more() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let upstream = Scripted::new(|sent| {
        let id = json!({ "backtest": { "projectId": 1, "backtestId": "b", "status":
            if sent.tool == "create_backtest" {
                MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                "In Queue..."
            } else {
                RUNNING.fetch_sub(1, Ordering::SeqCst);
                "Completed."
            } } });
        (Duration::from_millis(1), Ok(id))
    });
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 60);
    let names = vec!["x"; 9];
    let results = workflow.run_backtests(batch(&names, 8)).await.unwrap();
    assert_eq!(results.len(), 9);
    assert_eq!(MOST.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_was_not_sent_is_not_sent_when_the_invocation_ends() {
    let upstream = Scripted::new(|_| {
        let body =
            json!({ "backtest": { "projectId": 1, "backtestId": "b", "status": "In Queue..." } });
        (Duration::from_millis(300), Ok(body))
    });
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 60);
    let names = vec!["x"; 10];
    let run = workflow.run_backtests(batch(&names, 2));
    // Cancelled while the first two are under way.
    tokio::time::timeout(Duration::from_millis(100), run)
        .await
        .unwrap_err();
    gated.gate.idle().await;
    assert_eq!(upstream.sent().len(), 2);
    assert_eq!(upstream.answered(), 2, "what was sent has its outcome");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(upstream.sent().len(), 2);
}

#[tokio::test]
async fn a_batch_ends_before_the_invocation_is_cut_off() {
    let upstream = Scripted::new(|_| {
        let body =
            json!({ "backtest": { "projectId": 1, "backtestId": "b", "status": "Running: 1%" } });
        (Duration::from_millis(1), Ok(body))
    });
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 2);
    let begun = Instant::now();
    let results = workflow
        .run_backtests(batch(&["a", "b", "c", "d"], 3))
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(
        results
            .iter()
            .all(|result| matches!(&result.outcome, Err(Error::TimedOut(_))))
    );
    assert_eq!(
        upstream.count("create_backtest"),
        3,
        "the fourth had no time left"
    );
}

#[tokio::test]
async fn a_compile_is_waited_for() {
    let gated = gate(&cloud(), ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 60);
    let outcome = workflow.compile_and_wait(1).await.unwrap();
    assert!(matches!(outcome.state, State::BuildError));
    assert_eq!(outcome.logs, ["main.py:1"]);
}

#[tokio::test]
async fn each_call_inside_needs_its_own_grant() {
    let upstream = cloud();
    let gated = gate(&upstream, r#""backtests/*", "compile/*""#).await;
    let (mut without, _) = workflow(&gated.gate, 60);
    let error = without.run_backtests(batch(&["a"], 1)).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error:?}");

    let gated = gate(&upstream, r#""workflow", "backtests/read-*""#).await;
    let (mut reads, _) = workflow(&gated.gate, 60);
    let results = reads.run_backtests(batch(&["a"], 1)).await.unwrap();
    assert!(matches!(&results[0].outcome, Err(Error::Denied(_))));
    assert!(upstream.sent().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_batch_that_makes_no_sense_is_refused() {
    let upstream = cloud();
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 60);
    let error = workflow.run_backtests(batch(&["a"], 0)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    let many = vec!["a"; 1001];
    let error = workflow.run_backtests(batch(&many, 1)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert!(
        workflow
            .run_backtests(batch(&[], 1))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(upstream.sent().is_empty());
}

#[tokio::test]
async fn what_was_cut_off_while_the_host_decides_was_not_sent() {
    // The host reads the project of the compile to decide, and is not answered in time.
    let upstream = Scripted::new(|_| (Duration::from_secs(30), Ok(json!({}))));
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 1);
    let cut = workflow
        .backtest_and_wait(1, "another".to_owned(), "x".to_owned(), Vec::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&cut, Error::TimedOut(why) if why.starts_with("not sent")),
        "{cut:?}"
    );
    assert_eq!(upstream.count("read_compile"), 1);
    assert_eq!(upstream.count("create_backtest"), 0);
}

#[tokio::test]
async fn what_was_cut_off_after_it_was_sent_has_an_unknown_outcome() {
    let upstream = Scripted::new(|_| (Duration::from_secs(30), Ok(json!({}))));
    let gated = gate(&upstream, ALL).await;
    let (mut workflow, _) = workflow(&gated.gate, 1);
    let cut = workflow.compile_and_wait(1).await.unwrap_err();
    assert!(
        matches!(&cut, Error::UnknownOutcome(why) if why.starts_with("sent")),
        "{cut:?}"
    );
    assert_eq!(upstream.count("create_compile"), 1);
}
