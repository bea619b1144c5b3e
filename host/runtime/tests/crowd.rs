//! Thousands of invocations that wait in a call of the host at once: how many of the process's memory
//! mappings each takes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::Duration;

use futures::future::join_all;
use qchost_testing::{Guest, Host, Scripted};
use serde_json::json;

/// Invocations that a host has to have room for.
const MAX_INVOCATIONS: u32 = 10_000;
/// Invocations that wait in this test.
const WAITING: usize = 200;
/// The kernel's mappings of a process, by default.
const MAX_MAPPINGS: usize = 65_530;

const GRANT: &str = "[limits]\nconcurrency = 200\n[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]";

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_that_wait_have_mappings_enough() {
    let upstream = Scripted::new(|_| {
        let answer = json!({ "projectId": 7, "compileId": "c", "state": "InQueue" });
        (Duration::from_secs(60), Ok(answer))
    });
    let host = Host::with(&upstream, |options| options.invocations = MAX_INVOCATIONS).await;
    let waits = Guest::new(
        "(call $read (i32.const 7) (i32.const 4096) (i32.const 1) (i32.const 2048)) (call $digit (i32.const 1))",
    )
    .import(
        "import quantconnect:api/compile@0.1.0;",
        r#"(import "quantconnect:api/compile@0.1.0" "read-compile" (func $read (param i32 i32 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "c")"#);
    host.load("waits", &waits.build(), GRANT).await.unwrap();

    let before = mappings();
    let crowd = (0..WAITING).map(|_| host.runtime.invoke("waits", "act", json!({}), None, None));
    let crowd = join_all(crowd);
    let parked = async {
        while upstream.count("read_compile") < WAITING {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        mappings()
    };
    tokio::pin!(crowd, parked);
    let during = tokio::select! {
        during = &mut parked => during,
        answers = &mut crowd => panic!("no invocation waited: {:?}", answers.first()),
    };
    let each = (during - before).div_ceil(WAITING);
    let all = before + each * usize::try_from(MAX_INVOCATIONS).unwrap();
    println!("{before} mappings, {each} for each that waits; {all} for {MAX_INVOCATIONS}");
    assert!(all < MAX_MAPPINGS, "{before} and {each} each");
}
