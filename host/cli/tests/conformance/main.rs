//! Conformance: each tool, called through `qchost mcp` against the emulator with
//! valid and with invalid arguments.
//!
//! Every answer to a valid call must match the output schema of the official server (the fixture) and
//! our own, its content must be true, and a read must show the effect of every write. Every set of
//! invalid arguments must be refused.
//!
//! The suite is also run against a cloud that answers `success: true` to everything, and against one in
//! which only the endpoint under test does so. Nearly all cases must fail then; the exceptions are listed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bench;
mod body;
mod cases;
mod front;
mod misfits;
mod official;
mod setup;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use qchost_catalog::{OPERATIONS, Transport};

use bench::{Bench, Cloud};
use cases::{Case, Kind};

/// Maximum number of cases at a time: they mostly wait, and small machines can run this many.
const AT_A_TIME: usize = 8;

/// Runs all cases, each in a cloud of its own, and returns the reasons of those that failed.
async fn run(cloud: fn(&Case) -> Cloud) -> BTreeMap<(&'static str, Kind), String> {
    futures::stream::iter(cases::all())
        .map(|case| async move {
            let bench = Bench::start(cloud(&case)).await;
            let outcome = (case.run)(&bench).await;
            outcome.err().map(|reason| ((case.tool, case.kind), reason))
        })
        .buffer_unordered(AT_A_TIME)
        .filter_map(std::future::ready)
        .collect()
        .await
}

#[test]
fn every_tool_has_a_valid_and_an_invalid_case() {
    let by_rest = OPERATIONS.iter().filter(|operation| operation.rest);
    let tools: BTreeSet<_> = by_rest.map(|operation| operation.tool).collect();
    for kind in [Kind::Valid, Kind::Invalid] {
        let covered: Vec<_> = cases::all()
            .into_iter()
            .filter(|case| case.kind == kind)
            .map(|case| case.tool)
            .collect();
        assert_eq!(covered.len(), tools.len(), "{kind:?}");
        assert_eq!(
            covered.into_iter().collect::<BTreeSet<_>>(),
            tools,
            "{kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tools_conform() {
    let failed = run(|_| Cloud::Emulator).await;
    let report: String = failed
        .iter()
        .map(|((tool, kind), reason)| format!("\n{tool} ({kind:?}): {reason}"))
        .collect();
    assert!(failed.is_empty(), "{} cases failed:{report}", failed.len());
}

/// The cases that do not depend on the cloud: the two tools that the server answers itself, and the
/// invalid calls of tools without arguments.
fn out_of_reach() -> BTreeSet<(&'static str, Kind)> {
    [
        ("read_mcp_server_version", Kind::Valid),
        ("read_mcp_server_version", Kind::Invalid),
        ("read_latest_mcp_server_version", Kind::Valid),
        ("read_latest_mcp_server_version", Kind::Invalid),
        ("read_account", Kind::Invalid),
        ("list_organizations", Kind::Invalid),
        ("list_projects", Kind::Invalid),
        ("read_lean_environments", Kind::Invalid),
        ("read_lean_versions", Kind::Invalid),
    ]
    .into()
}

/// The cases that passed against a cloud with false answers.
fn fooled(failed: &BTreeMap<(&'static str, Kind), String>) -> BTreeSet<(&'static str, Kind)> {
    cases::all()
        .iter()
        .map(|case| (case.tool, case.kind))
        .filter(|case| !failed.contains_key(case))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_that_always_says_success_fails() {
    let failed = run(|_| Cloud::AlwaysSuccess).await;
    let all = cases::all().len();
    assert!(
        failed.len() * 100 >= all * 80,
        "only {} of {all} cases failed",
        failed.len()
    );
    assert_eq!(fooled(&failed), out_of_reach());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_endpoint_that_always_says_success_fails_its_tools() {
    let failed = run(|case| Cloud::OneLies(endpoints(case.tool))).await;
    assert_eq!(fooled(&failed), out_of_reach());
}

/// The endpoints that the tool calls.
fn endpoints(tool: &str) -> Vec<&'static str> {
    let operation = qchost_catalog::by_tool(tool).unwrap();
    let others: &[_] = match operation.transport {
        Transport::Redirect => &["/live/auth0/read"],
        Transport::WriteFile => &["/files/read", "/files/create"],
        Transport::EditFile => &["/projects/collaboration/lock/acquire", "/files/read"],
        _ => &[],
    };
    let mut all = vec![operation.endpoint];
    all.extend_from_slice(others);
    all
}
