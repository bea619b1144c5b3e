//! Time-out during a write: the plugin is cut off between sending and answer, and the host still learns the
//! outcome.

use std::time::Duration;

use qchost_emulator::{Fault, FaultKind};
use serde_json::{Value, json};

use crate::categories::{EVERY, with_cloud};
use crate::cloud::Cloud;
use crate::common::{Folder, bundled};
use crate::process::wait_until;

/// Longer than the plugin's wall-clock limit, shorter than the host's time limit for a call.
const LATENCY: Duration = Duration::from_secs(4);

/// The gate's log lines about a tool.
fn logged(text: &str, tool: &str) -> Vec<Value> {
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["target"] == "gate" && line["fields"]["tool"] == tool)
        .collect()
}

/// A folder whose test agent is cut off after 1.5 s, its cloud that starts backtests late, and the input with which the
/// agent starts one.
fn prepared() -> (Cloud, Folder, Value) {
    let (cloud, folder) = with_cloud();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    let short = bundled(EVERY).replace("wall        = \"2m\"", "wall        = \"1500ms\"");
    assert!(short.contains("1500ms"));
    folder.manifest("every-category", &short);
    let late = FaultKind::Latency(LATENCY);
    let faults = vec![Fault::at("/backtests/create", late)];
    cloud.emulator().set_faults(faults);
    (cloud, folder, prepared)
}

/// The outcome of the write is logged although its caller is gone.
fn learned(log: &str) {
    let lines = logged(log, "create_backtest");
    assert_eq!(lines.len(), 1, "{log}");
    let fields = &lines[0]["fields"];
    assert_eq!(fields["awaited"], false, "{fields}");
    assert_eq!(fields["outcome"], "answered", "{fields}");
    assert_eq!(fields["plugin"], "every-category", "{fields}");
}

#[test]
fn the_outcome_is_learned_by_a_process_of_its_own() {
    let (cloud, folder, prepared) = prepared();
    let input = prepared.to_string();
    let ran = folder.run(&[
        "--json",
        "--log",
        "gate=info",
        "--log-json",
        "invoke",
        "every-category.slow-write",
        &input,
    ]);
    let error = ran.json_error();
    assert!(error.contains("1.5 s of `limits.wall`"), "{error}");
    learned(&ran.stderr);
    assert_eq!(cloud.created_backtests(), ["slow write"]);
    let list = folder.call(
        "list_backtests",
        &json!({ "projectId": prepared["project_id"], "includeStatistics": false }),
    );
    assert_eq!(list["backtests"][0]["name"], "slow write", "{list}");
}

#[test]
fn the_outcome_is_learned_by_a_running_host() {
    let (cloud, folder, prepared) = prepared();
    let host = folder.serve(&["--log", "gate=info", "--log-json", "run"]);
    let ran = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert!(
        ran.error().contains("1.5 s of `limits.wall`"),
        "{}",
        ran.error()
    );
    // The caller got its error while the answer was still pending.
    assert!(
        logged(&host.stderr(), "create_backtest").is_empty(),
        "{}",
        host.stderr()
    );
    wait_until("the outcome is logged", || {
        (!logged(&host.stderr(), "create_backtest").is_empty()).then_some(())
    });
    host.terminate();
    let ran = host.wait();
    learned(&ran.good().stderr);
    assert_eq!(cloud.created_backtests(), ["slow write"]);
}

#[test]
fn a_shutdown_waits_for_what_was_sent() {
    let (_cloud, folder, prepared) = prepared();
    let host = folder.serve(&["--log", "gate=info", "--log-json", "run"]);
    let ran = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert_eq!(ran.status.code(), Some(8), "{ran:?}");
    host.terminate();
    learned(&host.wait().good().stderr);
}
