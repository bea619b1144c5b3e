//! Components in the shapes that toolchains of other languages produce: Python's with at least 14 core instances,
//! QuickJS's with two memories. The host has room for the maximum number of concurrent invocations of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use qchost_gate::PluginCalls as _;
use std::sync::Arc;
use std::time::Duration;

use qchost_runtime::Progress;
use qchost_testing::{Guest, Host, instances, uncalled};
use serde_json::json;
use tokio::sync::watch;

/// Maximum concurrent invocations of the host.
const MAX_INVOCATIONS: u32 = 16;
/// Time limit for all of them to begin, on a slow machine too.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers 7, once `go` is set.
fn waits() -> Guest {
    Guest::waiting("(call $seven)")
}

/// Loads a component, for which it describes itself, and runs the maximum number of invocations of it at a time.
async fn answers(component: &[u8]) {
    let host =
        Arc::new(Host::with(&uncalled(), |options| options.invocations = MAX_INVOCATIONS).await);
    let lines = "[limits]\nconcurrency = 16\nmemory = \"16MiB\"\ncpu = \"60s\"";
    let plugin = host.load("waits", component, lines).await.unwrap();
    assert_eq!(plugin.description().name, "guest");
    let mut runs = Vec::new();
    for _ in 0..MAX_INVOCATIONS {
        let (begun, mut begins) = watch::channel(Progress::default());
        let host = Arc::clone(&host);
        runs.push(tokio::spawn(async move {
            let runtime = &host.runtime;
            runtime
                .invoke("waits", "act", json!({}), None, Some(begun))
                .await
        }));
        // One that cannot begin drops the channel.
        let begun = begins.wait_for(|progress| progress.fraction > 0.0);
        let begun = tokio::time::timeout(BEGIN_TIMEOUT, begun).await;
        if begun.expect("it begins").is_err() {
            panic!("{:?}", runs.pop().unwrap().await);
        }
    }
    host.gate.state().set("waits", "go", b"now").unwrap();
    for run in runs {
        assert_eq!(run.await.unwrap(), Ok(json!(7)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_core_instances_load_and_answer() {
    let mut component = waits()
        .more("(func $seven (result i32) (call $digit (i32.const 7)))")
        .build();
    // What the encoder makes besides counts too.
    let library = r#"(module (table 8 funcref) (func (export "f")) (elem (i32.const 0) 0))"#;
    instances::add(&mut component, &wat::parse_str(library).unwrap(), 15);
    answers(&component).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_memories_load_and_answer() {
    let component = waits()
        .more(
            "(memory $second 1)
             (func $seven (result i32)
               (i32.store $second (i32.const 65532) (i32.const 7))
               (call $digit (i32.load $second (i32.const 65532))))",
        )
        .build();
    answers(&component).await;
}
