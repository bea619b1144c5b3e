//! The table and what the remote server documents about its tools say the same.
//!
//! `fixtures/remote-tools.tsv` has a line for each of its tools: category, access class as we see it, and the names of the
//! arguments; `?` stands for an argument whose name is not documented, `-` for none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};

use qchost_catalog::shape::Type;
use qchost_catalog::{
    Access, NOT_BY_REMOTE, OPERATIONS, Operation, Remote, RemoteTool, Way, by_name, by_tool,
    not_by_remote, way_of,
};

/// A line of the fixture.
struct Documented {
    access: &'static str,
    arguments: BTreeSet<&'static str>,
}

fn documented() -> BTreeMap<&'static str, Documented> {
    let mut lines = include_str!("fixtures/remote-tools.tsv").lines();
    assert_eq!(lines.next(), Some("tool\tcategory\taccess\targuments"));
    let tools: BTreeMap<_, _> = lines
        .map(|line| {
            let [tool, _, access, arguments] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let named = arguments
                .split(' ')
                .filter(|name| !matches!(*name, "?" | "-"));
            let arguments = named.collect();
            (tool, Documented { access, arguments })
        })
        .collect();
    assert_eq!(tools.len(), 48);
    tools
}

/// The rows that go by a tool of the remote server.
fn by_remote() -> impl Iterator<Item = (&'static Operation, &'static RemoteTool)> {
    OPERATIONS.iter().filter_map(|row| match row.remote {
        Remote::Tool(tool) => Some((row, tool)),
        Remote::No | Remote::Handshake | Remote::Nothing(_) => None,
    })
}

#[test]
fn every_tool_of_the_remote_server_is_a_row_or_is_listed_with_the_reason() {
    let served: Vec<_> = by_remote().map(|(_, tool)| tool.name).collect();
    let listed: Vec<_> = NOT_BY_REMOTE.iter().map(|(tool, _)| *tool).collect();
    let mut all: Vec<_> = served.iter().chain(&listed).copied().collect();
    all.sort_unstable();
    let tools: Vec<_> = documented().into_keys().collect();
    // Sorted lists, so that a tool that is in both is noticed too.
    assert_eq!(all, tools);
    for (tool, reason) in NOT_BY_REMOTE {
        assert!(reason.len() > 10, "{tool}");
        assert_eq!(not_by_remote(tool), Some(*reason));
    }
    for tool in served {
        assert_eq!(not_by_remote(tool), None, "{tool}");
    }
}

#[test]
fn a_name_that_means_something_else_at_the_remote_server_is_no_way_to_the_operation() {
    for ambiguous in [
        "create_file",
        "create_backtest",
        "read_optimization",
        "create_live_algorithm",
        "update_backtest",
    ] {
        let operation = by_tool(ambiguous).unwrap();
        assert!(operation.goes_by(Way::Rest), "{ambiguous}");
        assert!(!operation.goes_by(Way::Remote), "{ambiguous}");
        // Another operation may mean what the remote server means by the name.
        let by_another = by_remote().any(|(_, tool)| tool.name == ambiguous);
        assert_eq!(by_another, ambiguous == "create_file", "{ambiguous}");
        assert_eq!(
            by_another,
            not_by_remote(ambiguous).is_none(),
            "{ambiguous}"
        );
    }
    let (write, _) = by_remote()
        .find(|(_, tool)| tool.name == "create_file")
        .unwrap();
    assert_eq!(write.name, "files/write-file");
}

#[test]
fn every_operation_has_a_way() {
    for operation in OPERATIONS {
        let name = operation.name;
        let rest = operation.goes_by(Way::Rest);
        assert!(rest || operation.goes_by(Way::Remote), "{name}");
        assert!(rest || operation.endpoint.is_empty(), "{name}");
        if let (false, Remote::Tool(tool)) = (rest, operation.remote) {
            assert_eq!(operation.tool, tool.name, "{name}");
            assert_eq!(operation.answer, tool.answer, "{name}");
        }
    }
    for interface in [
        "research",
        "notifications",
        "datasets",
        "skills",
        "templates",
    ] {
        let mut rows = OPERATIONS.iter().filter(|row| row.interface() == interface);
        assert!(rows.all(|row| !row.rest), "{interface}");
    }
}

#[test]
fn the_arguments_of_a_remote_tool_are_those_of_its_function() {
    let documented = documented();
    for (operation, tool) in by_remote() {
        let name = operation.name;
        let fields = operation.function().unwrap().request();
        let ours: BTreeSet<_> = tool.arguments.iter().map(|one| one.ours).collect();
        for field in fields {
            let optional = matches!(field.ty, Type::Option(_));
            // Whatever the caller must give reaches the server. What may be absent may be refused.
            assert!(
                optional || ours.contains(field.json),
                "{name}: {}",
                field.json
            );
        }
        let known = &documented[tool.name];
        for argument in tool.arguments {
            let mut fields = fields.iter();
            assert!(
                fields.any(|field| field.json == argument.ours),
                "{name}: {}",
                argument.ours
            );
            let named = known.arguments.contains(argument.theirs);
            assert_eq!(named, argument.documented, "{name}: {}", argument.theirs);
        }
        let theirs: BTreeSet<_> = tool.arguments.iter().map(|one| one.theirs).collect();
        assert_eq!(theirs.len(), tool.arguments.len(), "{name}");
    }
}

#[test]
fn classes_are_those_that_the_fixture_has() {
    let documented = documented();
    for (operation, tool) in by_remote() {
        assert_eq!(
            operation.access.word(),
            documented[tool.name].access,
            "{}",
            operation.name
        );
    }
    // A notebook runs code with the account's authority, so no pattern covers it.
    for name in [
        "research/jupyter-execute-cell",
        "research/jupyter-execute-notebook",
    ] {
        let operation = by_name(name).unwrap();
        assert_eq!(operation.access, Access::Trade);
        assert!(!operation.idempotent && !operation.access.globbed());
    }
    // A message that was sent twice arrives twice.
    let mut messages = OPERATIONS
        .iter()
        .filter(|row| row.interface() == "notifications");
    assert!(messages.all(|row| row.access == Access::Write && !row.idempotent));
}

#[test]
fn servers_are_told_apart_by_names_that_only_one_of_them_has() {
    let remote = documented();
    for operation in OPERATIONS.iter().filter(|operation| operation.rest) {
        let shared = remote.contains_key(operation.tool);
        let expected = (!shared).then_some(Way::Rest);
        assert_eq!(way_of(operation.tool), expected, "{}", operation.tool);
    }
    for tool in remote.keys() {
        let shared = by_tool(tool).is_some_and(|operation| operation.rest);
        assert_eq!(way_of(tool), (!shared).then_some(Way::Remote), "{tool}");
    }
    assert_eq!(way_of("tool_of_tomorrow"), None);
}
