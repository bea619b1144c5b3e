//! The manifest lines that a denial proposes allow the call, and none are proposed if no line would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use qchost_catalog::{Access, OPERATIONS, Selector};
use qchost_policy::{
    Authority, Brokerage, Context, Facts, Guardrails, ImportedInterface, Manifest, Project,
    Resource, WHOLE_CONTRACT, granting,
};

const HEAD: &str = "plugin = \"probe\"\ncomponent = \"p.wasm\"\naccount = \"a\"\n";

fn authority(grants: &str) -> Authority {
    let text = format!("{HEAD}{grants}");
    let manifest = Manifest::parse(&text, Path::new("p.toml"))
        .unwrap_or_else(|error| panic!("{error}:\n{text}"));
    Authority::new(Arc::new(manifest), &Guardrails::none()).unwrap()
}

fn project(id: u32, name: &str) -> Resource {
    Resource::Project(Project {
        id: Some(id),
        name: name.to_owned(),
        created: false,
    })
}

/// The facts that an operation can be decided on.
fn resources() -> Vec<Resource> {
    vec![
        Resource::Account,
        Resource::Organization("o".to_owned()),
        project(7, "Lab/x"),
        Resource::Object {
            organization: "o".to_owned(),
            key: "k".to_owned(),
        },
    ]
}

/// Whether all facts that an operation can be decided on are allowed.
fn allows(authority: &Authority, operation: &str, access: Access, context: &Context) -> bool {
    let mut decided = 0;
    let all = resources().into_iter().all(|resource| {
        let context = context.clone();
        let decision = authority.decide("", operation, access, &Facts { resource, context });
        let denial = decision
            .denial
            .map(|denial| denial.reason)
            .unwrap_or_default();
        let cannot_be = denial.contains("cannot be decided on");
        decided += usize::from(!cannot_be);
        decision.allowed || cannot_be
    });
    assert!(decided > 0, "{operation}");
    all
}

fn imported(name: &str, needs: &[&str]) -> ImportedInterface {
    ImportedInterface {
        name: name.to_owned(),
        needs: needs.iter().map(|&need| need.to_owned()).collect(),
    }
}

/// The lines that are printed for a component that imports these.
fn lines_for(imports: &[ImportedInterface]) -> String {
    let manifest = Manifest::parse(HEAD, Path::new("p.toml")).unwrap();
    let denied = manifest.check_imports(imports, false);
    let denied = denied.unwrap_err().to_string();
    let (_, lines) = denied.split_once("add to the manifest:\n").unwrap();
    lines.to_owned()
}

#[test]
fn the_lines_for_an_import_allow_the_functions_that_are_imported_and_no_other() {
    let context = Context::default();
    for imported_one in OPERATIONS {
        let interface = imported_one.interface();
        let imports = [imported(interface, &[imported_one.name])];
        let lines = lines_for(&imports);
        let authority = authority(&lines);
        authority.manifest().check_imports(&imports, false).unwrap();
        let own = OPERATIONS.iter();
        for operation in own.filter(|operation| operation.interface() == interface) {
            assert_eq!(
                allows(&authority, operation.name, operation.access, &context),
                operation.name == imported_one.name,
                "{}:\n{lines}",
                operation.name
            );
        }
    }
    // What two of them need is granted once.
    let compile = "compile/create-compile";
    let imports = [
        imported("workflow", &[compile, "workflow"]),
        imported("compile", &[compile]),
        imported("raw", &["raw/*"]),
    ];
    let lines = lines_for(&imports);
    assert_eq!(lines.matches(compile).count(), 1, "{lines}");
    let granted = authority(&lines);
    granted.manifest().check_imports(&imports, false).unwrap();
    // What a service calls of an interface is among the lines for it, and what is granted is not.
    let [create, read] = ["backtests/create-backtest", "backtests/read-backtest"];
    let imports = [
        imported("workflow", &[create, compile, "workflow"]),
        imported("backtests", &[read]),
    ];
    let granted =
        authority("[[grant]]\nname = \"w\"\nallow = [\"workflow\"]\nprojects = [\"*\"]\n");
    let denied = granted
        .manifest()
        .check_imports(&imports, false)
        .unwrap_err();
    assert_eq!(denied.needs, [create, read]);
    let granted =
        authority("[[grant]]\nname = \"c\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]\n");
    let denied = granted
        .manifest()
        .check_imports(&imports, false)
        .unwrap_err();
    assert_eq!(denied.needs, [create, read, "workflow"]);
}

#[test]
fn the_lines_for_named_operations_allow_each_alone_and_all_together() {
    let context = Context::default();
    let names: Vec<String> = OPERATIONS
        .iter()
        .map(|operation| operation.name.to_owned())
        .collect();
    let all = authority(&granting(&names, false));
    for operation in OPERATIONS {
        let lines = granting(&[operation.name.to_owned()], true);
        let alone = authority(&lines);
        for authority in [&alone, &all] {
            assert!(
                allows(authority, operation.name, operation.access, &context),
                "{}:\n{lines}",
                operation.name
            );
        }
        let marked = lines.contains("leave it out unless it is meant");
        assert_eq!(marked, !operation.globbed(), "{lines}");
    }
    let services = ["raw/*", "workflow", "evidence", "object-store/download"].map(str::to_owned);
    let lines = granting(&services, true);
    let interfaces =
        ["raw", "workflow", "evidence", "object-store"].map(|name| imported(name, &[]));
    let granted = authority(&lines);
    granted
        .manifest()
        .check_imports(&interfaces, false)
        .unwrap();
    assert!(
        lines.contains("every tool that the catalog does not know"),
        "{lines}"
    );
}

#[test]
fn of_a_component_that_imports_the_whole_contract_it_is_said_to_build_it_against_less() {
    let manifest = Manifest::parse(HEAD, Path::new("p.toml")).unwrap();
    let interfaces: BTreeSet<&str> = OPERATIONS
        .iter()
        .map(|operation| operation.interface())
        .chain(["raw", "workflow"])
        .collect();
    let interfaces = interfaces.into_iter();
    let mut interfaces: Vec<_> = interfaces.map(|name| imported(name, &[])).collect();
    let denied = manifest
        .check_imports(&interfaces, false)
        .unwrap_err()
        .to_string();
    assert!(denied.contains(WHOLE_CONTRACT), "{denied}");
    // The twin, with one interface less.
    interfaces.pop();
    let denied = manifest
        .check_imports(&interfaces, false)
        .unwrap_err()
        .to_string();
    assert!(!denied.contains(WHOLE_CONTRACT), "{denied}");
}

#[test]
fn what_trades_is_named_by_the_operator_and_then_allowed_on_paper() {
    let named = "live/create-live-algorithm";
    let lines = lines_for(&[imported("live", &[named])]);
    let mark = "# trade: leave it out unless it is meant";
    assert!(lines.contains(&format!("\"{named}\",  {mark}")), "{lines}");
    let authority = authority(&lines);
    for live in [false, true] {
        let context = Context {
            brokerage: Some(Brokerage {
                profile: "some".to_owned(),
                live,
            }),
            ..Context::default()
        };
        assert_eq!(allows(&authority, named, Access::Trade, &context), !live);
    }
}

#[test]
fn the_lines_for_a_call_of_which_nothing_is_known_yet_have_its_scopes() {
    for operation in OPERATIONS {
        let none = authority("");
        let facts = Facts::of(Resource::Account);
        let denial = none
            .check_covered(operation.name, operation.access, &facts)
            .unwrap_err();
        let lines = denial.remedy.unwrap();
        let context = Context::default();
        let of_organization = operation.selects(|it| matches!(it, Selector::Organization(_)));
        if operation.selects(|it| matches!(it, Selector::AttachedProject(_))) && !of_organization {
            // That no project is attached is known: the lines are for a call without one.
            let decision = authority(&lines).decide("", operation.name, operation.access, &facts);
            assert!(decision.allowed, "{}:\n{lines}", operation.name);
            continue;
        }
        assert!(
            allows(
                &authority(&lines),
                operation.name,
                operation.access,
                &context
            ),
            "{}:\n{lines}",
            operation.name
        );
    }
    let facts = Facts::of(Resource::Account);
    let denial = authority("").check_covered("live/create-live-algorithm", Access::Trade, &facts);
    let lines = denial.unwrap_err().remedy.unwrap();
    for line in ["projects ", "brokerages "] {
        assert!(lines.contains(line), "{lines}");
    }
}

#[test]
fn of_a_project_that_is_granted_and_not_there_it_is_said_so_and_no_line_is_printed() {
    let granted =
        authority("[[grant]]\nname = \"w\"\nallow = [\"files/*\"]\nprojects = [20000001]\n");
    let denial = |id| {
        let facts = Facts::of(project(id, ""));
        granted.uncovered("files/read-file", Access::Read, &facts)
    };
    let missing = denial(20_000_001);
    assert!(
        missing
            .reason
            .contains("the project 20000001 is not known to QuantConnect"),
        "{missing}"
    );
    assert_eq!(
        (missing.remedy, missing.nearest_grant.as_deref()),
        (None, Some("w"))
    );
    // A project that no grant covers looks the same whether it exists or not, and both are said.
    let other = denial(20_000_002);
    let both = "if the account has no such project, no grant helps";
    assert!(other.reason.contains(both), "{other}");
    assert!(
        other.reason.contains("but not the project 20000002"),
        "{other}"
    );
    assert!(other.remedy.unwrap().contains("projects = [20000002]"));
}
