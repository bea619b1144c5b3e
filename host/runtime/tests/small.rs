//! A host in a process with little address space: no pool fits into it, and plugins run nevertheless.

#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use qchost_testing::{Guest, Host, instances, uncalled};
use serde_json::json;

/// Address space in KiB, for a host with all its threads. A pool for one invocation takes twenty times as much.
const LIMIT: u32 = 4 << 20;
const TEST: &str = "with_little_address_space";
/// Code of the optimising compiler and of the baseline compiler.
const KINDS: [bool; 2] = [false, true];

/// The test runs itself again under the limit, and the hosts in that process are one for each kind of code.
#[test]
fn a_host_with_little_address_space_runs_plugins_and_says_once_that_it_has_no_pool() {
    let line = format!("ulimit -v {LIMIT} && exec \"$0\" --exact {TEST} --ignored --nocapture");
    let ran = Command::new("/bin/sh")
        .args(["-c", &line])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && told.contains("1 passed"),
        "{told}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let said = told.matches("does not fit into the address space").count();
    assert_eq!(said, KINDS.len(), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, in a process with little address space"]
async fn with_little_address_space() {
    tracing_subscriber::fmt().with_ansi(false).init();
    for baseline in KINDS {
        let host = Host::with(&uncalled(), |options| {
            options.invocations = 1;
            options.baseline = baseline;
        })
        .await;
        let numbered = Guest::new("(call $digit (i32.const 7))").build();
        host.load("lab", &numbered, "").await.unwrap();
        for _ in 0..20 {
            let answer = host.runtime.invoke("lab", "act", json!({}), None, None);
            assert_eq!(answer.await.unwrap(), json!(7));
        }
        // The limits of a component, which a pool has by itself.
        let mut many = numbered;
        instances::add(&mut many, &wat::parse_str("(module)").unwrap(), 100);
        let error = host.load("many", &many, "").await.unwrap_err().to_string();
        assert!(error.contains("instance count too high"), "{error}");
    }
}
