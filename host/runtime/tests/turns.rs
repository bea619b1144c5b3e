//! How many run at a time, who waits, and how a host ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::upstream::Scripted;
use common::{Guest, Host};
use qchost_runtime::{InvokeError, LoadError};
use serde_json::json;

const GRANT: &str = "[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]";

/// Takes as long as the connection does.
fn waits() -> Vec<u8> {
    Guest::new("(call $create (i32.const 7) (i32.const 2048)) (call $digit (i32.const 1))")
        .import(
            "import quantconnect:api/compile@0.1.0;",
            r#"(import "quantconnect:api/compile@0.1.0" "create-compile" (func $create (param i32 i32)))"#,
        )
        .build()
}

fn slow(wait: Duration) -> Scripted {
    Scripted::new(move |_| {
        (
            wait,
            Ok(json!({ "projectId": 7, "compileId": "c", "state": "InQueue" })),
        )
    })
}

/// Waits until something is so, at most a while.
async fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it never came to pass"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_plugin_runs_as_often_at_a_time_as_its_manifest_allows() {
    let upstream = slow(Duration::from_millis(200));
    let host = Arc::new(Host::with(&upstream, |options| options.queue = 1).await);
    host.load(
        "lab",
        &waits(),
        &format!("{GRANT}\n[limits]\nconcurrency = 2"),
    )
    .await
    .unwrap();
    let run = || {
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            host.runtime
                .invoke("lab", "act", json!({}), None, None)
                .await
        })
    };
    let two = [run(), run()];
    until(|| upstream.sent().len() == 2).await;
    let third = run();
    // The third waits; there is no room for a fourth.
    let fourth = async {
        loop {
            match host
                .runtime
                .invoke("lab", "act", json!({}), None, None)
                .await
            {
                Err(InvokeError::Busy { waiting, .. }) => return waiting,
                other => assert!(other.is_ok(), "{other:?}"),
            }
        }
    };
    tokio::select! {
        biased;
        () = until(|| two.iter().all(|run| run.is_finished())) => panic!("nobody was refused"),
        waiting = async { tokio::task::yield_now().await; fourth.await } => assert!(waiting >= 1),
    }
    assert_eq!(upstream.sent().len(), 2);
    for run in two {
        assert_eq!(run.await.unwrap(), Ok(json!(1)));
    }
    assert_eq!(third.await.unwrap(), Ok(json!(1)));
    assert_eq!(upstream.sent().len(), 3);
}

#[tokio::test]
async fn a_host_that_ends_lets_finish_what_runs() {
    let upstream = slow(Duration::from_millis(200));
    let host = Arc::new(Host::new(&upstream).await);
    host.load("lab", &waits(), GRANT).await.unwrap();
    let run = tokio::spawn({
        let host = Arc::clone(&host);
        async move {
            host.runtime
                .invoke("lab", "act", json!({}), None, None)
                .await
        }
    });
    until(|| upstream.sent().len() == 1).await;
    assert_eq!(host.runtime.shutdown(Duration::from_secs(10)).await, 0);
    assert_eq!(run.await.unwrap(), Ok(json!(1)));
    let late = host
        .runtime
        .invoke("lab", "act", json!({}), None, None)
        .await;
    assert_eq!(late, Err(InvokeError::ShuttingDown));
    let late = host.load("lab", &waits(), GRANT).await;
    assert!(matches!(late, Err(LoadError::ShuttingDown)));
}

#[tokio::test]
async fn a_host_that_ends_cuts_off_what_takes_too_long() {
    let upstream = slow(Duration::from_secs(1));
    let host = Arc::new(Host::new(&upstream).await);
    host.load("lab", &waits(), GRANT).await.unwrap();
    let run = tokio::spawn({
        let host = Arc::clone(&host);
        async move {
            host.runtime
                .invoke("lab", "act", json!({}), None, None)
                .await
        }
    });
    until(|| upstream.sent().len() == 1).await;
    assert_eq!(host.runtime.shutdown(Duration::from_millis(50)).await, 1);
    assert!(matches!(
        run.await.unwrap(),
        Err(InvokeError::CutOff { .. })
    ));
    // The call itself is the gate's and goes on.
    host.gate.idle().await;
    assert_eq!(upstream.answered(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_invocation_along() {
    let upstream = slow(Duration::from_millis(300));
    let host = Host::new(&upstream).await;
    host.load(
        "lab",
        &waits(),
        &format!("{GRANT}\n[limits]\nconcurrency = 1"),
    )
    .await
    .unwrap();
    let gone = host.runtime.invoke("lab", "act", json!({}), None, None);
    tokio::time::timeout(Duration::from_millis(100), gone)
        .await
        .unwrap_err();
    // Its turn is free again at once, though its call is still under way.
    let begun = Instant::now();
    let output = host
        .runtime
        .invoke("lab", "act", json!({}), None, None)
        .await;
    assert_eq!(output, Ok(json!(1)));
    assert!(
        begun.elapsed() < Duration::from_millis(600),
        "{:?}",
        begun.elapsed()
    );
}
