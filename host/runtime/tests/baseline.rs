//! The baseline compiler: other code, the same limits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use qchost_runtime::{ActionError, InvokeError, StopReason};
use qchost_testing::{Guest, Host, uncalled};
use serde_json::{Value, json};

async fn host() -> Host {
    Host::with(&uncalled(), |options| options.baseline = true).await
}

async fn act(host: &Host, guest: &Guest, lines: &str) -> Result<Value, InvokeError> {
    host.load("guest", &guest.build(), lines).await.unwrap();
    host.runtime
        .invoke("guest", "act", json!({ "a": [1, "ä"] }), None, None)
        .await
}

fn stopped(outcome: Result<Value, InvokeError>) -> StopReason {
    match outcome {
        Err(InvokeError::Action(_, ActionError::Stopped(stopped))) => stopped,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plugin_answers() {
    let answer = act(&host().await, &Guest::echo(), "").await;
    assert_eq!(answer, Ok(json!({ "a": [1, "ä"] })));
}

#[tokio::test]
async fn an_endless_loop_ends() {
    let guest = Guest::new("(loop $l (br $l)) unreachable");
    let outcome = act(&host().await, &guest, "[limits]\ncpu = \"50ms\"").await;
    assert!(matches!(stopped(outcome), StopReason::Cpu { .. }));
}

#[tokio::test]
async fn memory_has_its_limit() {
    let guest = Guest::new(
        "(loop $l (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then (br $l)))) unreachable",
    );
    let outcome = act(&host().await, &guest, "[limits]\nmemory = \"8MiB\"").await;
    assert!(matches!(stopped(outcome), StopReason::OutOfMemory { .. }));
}

#[tokio::test]
async fn a_recursion_without_end_ends() {
    let guest = Guest::new("(call $deeper (i32.const 0))").more(
        "(func $deeper (param $n i32) (result i32)
            (i32.add (call $deeper (i32.add (local.get $n) (i32.const 1))) (i32.const 1)))",
    );
    let outcome = act(&host().await, &guest, "").await;
    let StopReason::Trap(words) = stopped(outcome) else {
        panic!("it is a trap");
    };
    assert!(words.contains("stack"), "{words}");
}

#[tokio::test]
async fn memory_beyond_its_end_is_out_of_reach() {
    let guest = Guest::new("(i32.load (i32.const 0x7fffffff))");
    let outcome = act(&host().await, &guest, "").await;
    let StopReason::Trap(words) = stopped(outcome) else {
        panic!("it is a trap");
    };
    assert!(words.contains("out of bounds"), "{words}");
}
