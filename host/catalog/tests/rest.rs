//! Every endpoint that QuantConnect's REST API has, changed or shows to its own clients since the official server was made
//! is an operation, or is left out for a reason.
//!
//! The fixture `fixtures/rest-2026.tsv` has facts alone: whether an endpoint is new, missing in the official server,
//! changed, or used by the `lean` command line; its method; its path; the names of its arguments, `-` for none. That each endpoint of the catalog is served is tested
//! with the emulator, and that nothing is sent without a grant with the gate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use qchost_catalog::{Access, OPERATIONS, Operation, Transport};

/// Endpoints that are no operation, each with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "/authenticate",
        "the host checks credentials by reading the account",
    ),
    (
        "/backtests/insights/read",
        "another path of `/backtests/read/insights`",
    ),
    (
        "/data/list",
        "files of datasets: downloads of data are left out",
    ),
    (
        "/data/prices",
        "prices of datasets: downloads of data are left out",
    ),
    (
        "/data/read",
        "spends credit, and answers an address that works without credentials",
    ),
    (
        "/live/auth0/read",
        "our server asks it within `authorize_connection`",
    ),
    (
        "/market/data/list",
        "datasets are listed by the remote server",
    ),
    (
        "/modules/list",
        "modules of the `lean` command line are no part of an account",
    ),
    (
        "/modules/read",
        "answers an address that works without credentials",
    ),
    (
        "/organizations/encryption/keys/list",
        "keys of projects are the business of a person",
    ),
    (
        "/services/cloud/versions",
        "versions are read by `read_lean_versions`",
    ),
    ("/services/terminal-news", "news of the web terminal"),
    ("/user/read", "the name and picture of the account's user"),
];

/// Arguments that are documented and that no operation takes, by endpoint, each with the reason.
const NOT_TAKEN: &[(&str, &str, &str)] = &[
    ("/agents/create", "author", AGENT_OWNER),
    ("/agents/create", "node", AGENT_OWNER),
    ("/agents/create", "organization", AGENT_OWNER),
    (
        "/agents/create",
        "token",
        "a secret of the model's provider",
    ),
    ("/agents/update", "author", AGENT_OWNER),
    ("/agents/update", "node", AGENT_OWNER),
    ("/agents/update", "organization", AGENT_OWNER),
    (
        "/agents/update",
        "token",
        "a secret of the model's provider",
    ),
    (
        "/backtests/create",
        "requestSource",
        "the name of the `lean` command line",
    ),
    (
        "/live/auth0/authorize",
        "projectId",
        "a connection is of the account and not of a project",
    ),
    (
        "/live/auth0/authorize",
        "userId",
        "a person gives it in the browser",
    ),
    (
        "/live/create",
        "signature",
        "seen in clients only, which take it from the compile's id",
    ),
    (
        "/projects/update",
        "encryptionKey",
        "keys of projects are the business of a person",
    ),
    (
        "/projects/update",
        "libraries",
        "libraries are added and removed one by one",
    ),
];
const AGENT_OWNER: &str = "says whose an agent is and what it costs";

/// Arguments that are sent and that are not documented, by endpoint. An export of these names a backtest or a deployment
/// alone; its project is what a grant decides about.
const UNDOCUMENTED: &[(&str, &str)] = &[
    ("/backtests/export/insights", "projectId"),
    ("/backtests/export/orders", "projectId"),
    ("/backtests/export/trades", "projectId"),
    ("/live/export/insights", "projectId"),
];

struct Endpoint {
    status: &'static str,
    path: &'static str,
    arguments: BTreeSet<&'static str>,
}

fn endpoints() -> Vec<Endpoint> {
    let lines = include_str!("fixtures/rest-2026.tsv").lines();
    lines
        .map(|line| {
            let mut columns = line.split('\t');
            let status = columns.next().unwrap();
            let method = columns.next().unwrap();
            let path = columns.next().unwrap();
            let arguments = columns.next().unwrap().split(' ');
            assert!(["GET", "POST"].contains(&method), "{line}");
            assert_eq!(columns.next(), None, "{line}");
            Endpoint {
                status,
                path,
                arguments: arguments.filter(|name| *name != "-").collect(),
            }
        })
        .collect()
}

fn operations(path: &str) -> Vec<&'static Operation> {
    let operations = OPERATIONS.iter();
    operations.filter(|it| it.endpoint == path).collect()
}

#[test]
fn every_endpoint_is_an_operation_or_left_out_for_a_reason() {
    let mut of_status = BTreeSet::new();
    for Endpoint { status, path, .. } in endpoints() {
        of_status.insert(status);
        let left_out = LEFT_OUT.iter().any(|(known, _)| *known == path);
        assert_eq!(operations(path).is_empty(), left_out, "{path} ({status})");
    }
    assert_eq!(
        of_status,
        BTreeSet::from(["changed", "lean-cli", "missing", "new"])
    );
    let known: BTreeSet<&str> = endpoints().iter().map(|it| it.path).collect();
    assert!(known.len() > 60, "only {} endpoints", known.len());
    for (path, reason) in LEFT_OUT {
        assert!(known.contains(path), "{path}");
        assert!(reason.len() > 10, "{path}");
    }
}

#[test]
fn every_endpoint_of_them_is_typed_or_reached_by_raw_and_says_what_it_touches() {
    for Endpoint { path, .. } in endpoints() {
        for operation in operations(path) {
            assert!(operation.rest, "{path}");
            assert!(!operation.description().is_empty(), "{}", operation.name);
            assert_eq!(
                operation.function().is_some(),
                operation.is_typed(),
                "{}",
                operation.name
            );
            // What names a project, an organisation, or something that belongs to a project says so.
            for field in operation.request() {
                let names = [
                    "projectId",
                    "select-project",
                    "libraryId",
                    "organizationId",
                    "backtestId",
                    "select-backtest",
                    "optimizationId",
                ];
                let removes_library =
                    operation.tool == "remove_library" && field.json == "libraryId";
                if names.contains(&field.json) && !removes_library {
                    assert!(
                        operation.selects(|selector| selector.argument() == field.json),
                        "{}: {}",
                        operation.name,
                        field.json
                    );
                }
            }
        }
    }
}

/// What an operation sends: what its callers give, and what the host adds.
fn sent(operation: &Operation) -> impl Iterator<Item = &'static str> {
    let added = operation.exceptions.iter().map(|it| it.field());
    let given = operation.request().iter().map(|field| field.json);
    given.chain(added)
}

#[test]
fn every_argument_is_sent_under_its_documented_name() {
    let mut undocumented = BTreeSet::new();
    for Endpoint {
        path, arguments, ..
    } in endpoints()
    {
        for operation in operations(path) {
            // Of others, our server makes several requests.
            let is_single = matches!(
                operation.transport,
                Transport::Json | Transport::Form | Transport::File | Transport::Redirect
            );
            for argument in sent(operation).filter(|_| is_single) {
                if UNDOCUMENTED.contains(&(path, argument)) {
                    undocumented.insert((path, argument));
                } else {
                    let name = operation.name;
                    assert!(arguments.contains(argument), "{name}: {argument}");
                }
            }
        }
    }
    assert_eq!(undocumented, UNDOCUMENTED.iter().copied().collect());
}

#[test]
fn every_documented_argument_is_taken_or_left_out_for_a_reason() {
    let mut left_out = BTreeSet::new();
    for Endpoint {
        path, arguments, ..
    } in endpoints()
    {
        let operations = operations(path);
        let taken: BTreeSet<&str> = operations.iter().flat_map(|it| sent(it)).collect();
        for argument in arguments.difference(&taken).filter(|_| !taken.is_empty()) {
            left_out.insert((path, *argument));
        }
    }
    let listed = NOT_TAKEN.iter().map(|(path, argument, reason)| {
        assert!(reason.len() > 10, "{path}: {argument}");
        (*path, *argument)
    });
    assert_eq!(left_out, listed.collect());
}

#[test]
fn what_hands_the_account_to_an_agent_or_writes_to_others_is_not_covered_by_a_pattern_alone() {
    for operation in OPERATIONS.iter().filter(|operation| !operation.is_typed()) {
        let hands_over = operation.endpoint == "/agents/deployments/create"
            || operation.endpoint == "/agents/deployments/prompt";
        assert_eq!(
            operation.access == Access::Trade,
            hands_over,
            "{}",
            operation.name
        );
        let sends = [
            "create_agent",
            "update_agent",
            "create_agent_task",
            "create_agent_deployment",
            "prompt_agent_deployment",
            "create_data_issue",
            "create_support_ticket",
        ];
        assert_eq!(
            operation.sends(),
            sends.contains(&operation.tool),
            "{}",
            operation.name
        );
        assert!(
            !operation.sends() || !operation.globbed(),
            "{}",
            operation.name
        );
    }
}
