//! Components of the shape in which toolchains of other languages make them: Python's of at least 14 core instances,
//! QuickJS's with two memories. The host has room for them, for as many at a time as it has turns.

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

/// Invocations that the host has turns for.
const TURNS: u32 = 16;
/// Longer than any of them takes to begin, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers 7, once `go` is set.
fn waits() -> Guest {
    Guest::waiting("(call $seven)")
}

/// Loads a component, which has to describe itself for that, and has it answer as often at a time as there are turns.
async fn answers(component: &[u8]) {
    let host = Arc::new(Host::with(&uncalled(), |options| options.invocations = TURNS).await);
    let lines = "[limits]\nconcurrency = 16\nmemory = \"16MiB\"\ncpu = \"60s\"";
    let plugin = host.load("waits", component, lines).await.unwrap();
    assert_eq!(plugin.description().name, "guest");
    let mut runs = Vec::new();
    for _ in 0..TURNS {
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
        let begun = tokio::time::timeout(PATIENCE, begun).await;
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
