//! Guardrail files: which are accepted, and which are refused with file and line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use qchost_catalog::{Access, OPERATIONS};
use qchost_policy::{Authority, Facts, Guardrails, Manifest, Project, Resource, cedar_schema};

fn read(text: &str) -> Result<Guardrails, String> {
    Guardrails::read(&[(PathBuf::from("policies/trading.cedar"), text.to_owned())])
        .map_err(|error| error.to_string())
}

#[test]
fn a_revision_changes_with_every_text_and_id_and_with_nothing_else() {
    let revision = |text: &str| read(text).unwrap().revision();
    let one = "@id(\"a\") forbid (principal, action, resource is Project) when { resource.name like \"x\" };";
    let other = one.replace("\"x\"", "\"y\"");
    let renamed = one.replace("\"a\"", "\"b\"");
    let both = format!("{one}\n{}", other.replace("\"a\"", "\"b\""));
    let revisions = [
        Guardrails::none().revision(),
        revision(one),
        revision(&other),
        revision(&renamed),
        revision(&both),
    ];
    for (at, revision) in revisions.iter().enumerate() {
        assert!(revision.starts_with("sha256:") && revision.len() == 71);
        assert!(!revisions[..at].contains(revision), "{at}");
    }
    assert_eq!(revision(one), revisions[1]);
    assert_eq!(revision(&format!("// a comment\n\n{one}")), revisions[1]);
    assert_eq!(revision(""), revisions[0]);
}

#[test]
fn what_cannot_be_enforced_is_refused_with_its_file_and_line() {
    for (text, line, expected) in [
        (
            "// why\n\nforbid (principal, action, resource)\nwhen { resource. };",
            4,
            "is no policy: ",
        ),
        ("forbid (principal, action, resource)", 1, "is no policy: "),
        (
            "// why\npermit (principal, action, resource);",
            2,
            "permits; a guardrail only forbids",
        ),
        (
            "forbid (principal, action in Action::\"trade\", resource);\n\n@id(\"b\")\npermit (principal, action, resource);",
            3,
            "permits; a guardrail only forbids",
        ),
        (
            "\nforbid (principal == ?principal, action, resource);",
            2,
            "is a template",
        ),
        (
            "forbid (principal, action, resource is Project)\nwhen { resource.nmae == \"x\" };",
            2,
            "does not fit the schema: ",
        ),
        (
            "\n\nforbid (principal, action == Action::\"backtests/destroy-all\", resource);",
            3,
            "does not fit the schema: ",
        ),
        (
            "forbid (principal, action, resource is Projekt);",
            1,
            "did you mean `Project`",
        ),
        (
            "forbid (principal, action, resource)\nwhen { context.cost.lessThan(decimal(\"5.0\")) };",
            2,
            "does not fit the schema: ",
        ),
        (
            "forbid (principal, action == Action::\"person/halt\", resource);",
            1,
            "can never forbid anything: it covers `halt`",
        ),
        (
            "// why\nforbid (principal in Role::\"operator\", action in [Action::\"person/halt\", Action::\"trade\"], resource);",
            2,
            "can never",
        ),
        (
            "forbid (principal, action == Action::\"files/nope\", resource);",
            1,
            "there is no `Action::\"files/nope\"`",
        ),
        (
            "forbid (principal, action == Action::\"files/read-fil\", resource);",
            1,
            "did you mean `Action::\"files/read-file\"`?",
        ),
        (
            "forbid (principal, action in Action::\"trad\", resource);",
            1,
            "did you mean `Action::\"trade\"`?",
        ),
        (
            "forbid (principal in Role::\"vewer\", action, resource);",
            1,
            "does not fit the schema: ",
        ),
        (
            "forbid (principal, action == Action::\"account/read-account\", resource is Project);",
            1,
            "",
        ),
        (
            "forbid (principal, action, resource)\nwhen { 1 == 2 };",
            1,
            "",
        ),
        (
            "forbid (principal, action, resource is Project) when { resource.name == 5 };",
            1,
            "does not fit the schema: ",
        ),
        (
            "@id(\"a\") forbid (principal, action, resource);\n@id(\"a\") forbid (principal, action in Action::\"read\", resource);",
            2,
            "two guardrails with the id `a`",
        ),
        (
            "// why\nforbid (principal, action, resource == Project::\"Lab/a\");",
            2,
            "the id of a project is its number; for its name",
        ),
        (
            "forbid (principal, action, resource) when { resource == Project::\"007\" };",
            1,
            "there is no Project::\"007\"",
        ),
        (
            "forbid (principal == Plugin::\"Strategy Lab\", action, resource);",
            1,
            "the id of a plugin is its name",
        ),
        (
            "forbid (principal, action, resource == Object::\"key\");",
            1,
            "its organisation's, `/` and its key",
        ),
        (
            "forbid (principal, action, resource == Url::\"https://example.com/x\");",
            1,
            "SCHEME://HOST:PORT/PATH",
        ),
        (
            "forbid (principal, action, resource in [Project::\"1\", Organization::\"a b\"]) ;",
            1,
            "",
        ),
        (
            "forbid (principal, action == Action::\"projects/list-projects\", resource)\nwhen { context has cost && context.cost.greaterThan(decimal(\"5.0\")) };",
            1,
            "",
        ),
        (
            "forbid (principal, action == Action::\"compile/create-compile\", resource)\nwhen { context.brokerage.live };",
            2,
            "does not fit the schema: ",
        ),
        (
            "forbid (principal, action, resource is Project)\nwhen { resource.name == \"Prod\u{202e}x\" };",
            2,
            "",
        ),
    ] {
        let error = read(text).expect_err(text);
        let place = format!("policies/trading.cedar:{line}: ");
        assert!(error.starts_with(&place), "not at {line}: {error}");
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.len() > place.len() + 10, "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_is_like_no_action_of_the_interface_has_no_hint() {
    let rule = "forbid (principal, action == Action::\"files/nope\", resource);";
    let error = read(rule).unwrap_err();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn what_fits_is_taken_under_its_id_or_its_place() {
    let guardrails = read(
        "@id(\"first\")\nforbid (principal, action in Action::\"trade\", resource);\n\n\
         // Twice the same is twice there.\nforbid (principal, action, resource is Url);\n\
         forbid (principal, action, resource is Url);\n\
         forbid (principal == Person::\"eve\", action == Action::\"person/resume\", resource);\n",
    )
    .unwrap();
    let ids: Vec<_> = guardrails.ids().collect();
    assert_eq!(
        ids,
        [
            "first",
            "trading.cedar:5",
            "trading.cedar:6",
            "trading.cedar:7"
        ]
    );
}

#[test]
fn many_policies_of_a_file_keep_their_order() {
    let text: String = (0..25)
        .map(|at| format!("forbid (principal, action, resource is Project) when {{ resource.name == \"{at}\" }};\n"))
        .collect();
    let guardrails = read(&text).unwrap();
    let expected: Vec<_> = (1..=25)
        .map(|line| format!("trading.cedar:{line}"))
        .collect();
    assert_eq!(guardrails.ids().collect::<Vec<_>>(), expected);
}

#[test]
fn a_folder_is_read_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let none = Guardrails::load(&folder.path().join("missing")).unwrap();
    assert_eq!(none.ids().count(), 0);

    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "b.cedar",
        "forbid (principal, action in Action::\"trade\", resource);",
    );
    write(
        "a.cedar",
        "@id(\"calm\") forbid (principal, action in Action::\"destroy\", resource);",
    );
    write("notes.txt", "permit everything");
    let guardrails = Guardrails::load(folder.path()).unwrap();
    assert_eq!(guardrails.ids().collect::<Vec<_>>(), ["calm", "b.cedar:1"]);

    let manifest = "plugin = \"p\"\ncomponent = \"p.wasm\"\naccount = \"a\"\n[[grant]]\nname = \"g\"\n\
        allow = [\"backtests/delete-backtest\", \"backtests/read-backtest\"]\nprojects = [\"*\"]\n";
    let manifest = Arc::new(Manifest::parse(manifest, Path::new("p.toml")).unwrap());
    let authority = Authority::new(manifest, &guardrails).unwrap();
    let facts = Facts::of(Resource::Project(Project {
        id: Some(1),
        name: "x".to_owned(),
        created: false,
    }));
    let deletes = authority.decide("", "backtests/delete-backtest", Access::Destroy, &facts);
    assert_eq!(
        (deletes.allowed, deletes.guardrails),
        (false, vec!["calm".to_owned()])
    );
    assert!(
        authority
            .decide("", "backtests/read-backtest", Access::Read, &facts)
            .allowed
    );

    write("b.cedar", "forbid (");
    let error = Guardrails::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("b.cedar:1: is no policy"), "{error}");
}

#[test]
fn the_schema_names_every_operation_in_its_groups() {
    let schema = cedar_schema();
    for operation in OPERATIONS {
        let line = format!(
            "action \"{}\" in [\"{}\", \"{}\"]",
            operation.name,
            operation.interface(),
            operation.access.word()
        );
        assert!(schema.contains(&line), "{line}");
    }
    for name in [
        "object-store/download",
        "workflow",
        "evidence",
        "raw",
        "http/request",
        "person/halt",
    ] {
        assert!(
            schema.contains(&format!("action \"{name}\" in [")),
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in ".{0,200}") {
        drop(read(&text));
    }

    #[test]
    fn no_change_of_a_good_one_makes_the_loader_panic(at in 0usize..160, with in ".{0,3}") {
        const GOOD: &str = "@id(\"x\")\nforbid (principal is Plugin, action in Action::\"trade\", resource is Project)\nwhen { resource.name like \"Prod/*\" && context.live };\n";
        let at = at.min(GOOD.len());
        if GOOD.is_char_boundary(at) {
            let (before, after) = GOOD.split_at(at);
            if let Err(error) = read(&format!("{before}{with}{after}")) {
                prop_assert!(error.starts_with("policies/trading.cedar:"), "{error}");
            }
        }
    }
}

#[test]
fn each_guardrail_says_what_it_can_touch() {
    let guardrails = read(
        "@id(\"costs\") forbid (principal, action, resource) when { context has cost && context.cost.greaterThan(decimal(\"5.0\")) };\n\
         @id(\"projects\") forbid (principal, action in Action::\"read\", resource == Project::\"12\");\n\
         @id(\"files\") forbid (principal, action in Action::\"files\", resource) when { context has file && context.file like \"secret*\" };\n\
         @id(\"eve\") forbid (principal == Person::\"eve\", action in Action::\"person\", resource);\n\
         @id(\"all\") forbid (principal is Plugin, action, resource);\n",
    )
    .unwrap();
    let coverage = guardrails.coverage().unwrap();
    let of = |id: &str| {
        let one = coverage.iter().find(|one| one.guardrail == id).unwrap();
        one.operations
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("costs"), ["optimizations/create-optimization", "raw"]);
    let projects = of("projects");
    assert!(
        projects.contains(&"backtests/read-backtest"),
        "{projects:?}"
    );
    assert!(!projects.contains(&"account/read-account"), "{projects:?}");
    assert!(
        !projects.contains(&"backtests/create-backtest"),
        "{projects:?}"
    );
    assert!(!projects.contains(&"object-store/download"), "{projects:?}");
    let files = of("files");
    assert!(
        files.iter().all(|name| name.starts_with("files/")) && files.len() >= 5,
        "{files:?}"
    );
    assert!(of("eve").iter().all(|name| name.starts_with("person/")));
    assert!(of("all").len() > OPERATIONS.len());
    assert_eq!(coverage[1].at, "trading.cedar:2");
}

#[test]
fn every_context_that_a_guardrail_may_ask_about_is_of_some_operation() {
    for (asked, name) in [
        ("context has organization", "object-store/delete-object"),
        ("context has file", "files/patch-file"),
        ("context has file", "live/read-live-algorithm"),
        ("context has chart", "backtests/read-backtest-chart"),
        ("context has brokerage", "live/create-live-algorithm"),
        ("context has data_provider", "live/create-live-algorithm"),
        ("context has node", "live/create-live-algorithm"),
        ("context has node_type", "optimizations/create-optimization"),
        (
            "context has parallel_nodes",
            "optimizations/create-optimization",
        ),
        ("context has parameters", "backtests/create-backtest"),
        ("context has command", "live-commands/create-live-command"),
        (
            "context has collaborator",
            "collaboration/create-project-collaborator",
        ),
        (
            "context has recipient",
            "notifications/send-sms-notification",
        ),
        ("context has cost", "optimizations/create-optimization"),
        ("context has tool", "raw"),
        ("context has evidence", "live/create-live-algorithm"),
        (
            "context has evidence && context.evidence.trials > 9",
            "backtests/create-backtest",
        ),
        ("context.live", "account/read-account"),
    ] {
        let text = format!(
            "forbid (principal, action == Action::\"{name}\", resource) when {{ {asked} }};"
        );
        let guardrails = read(&text).unwrap_or_else(|error| panic!("{asked} of {name}: {error}"));
        assert_eq!(guardrails.coverage().unwrap()[0].operations, [name]);
    }
}

#[test]
fn evidence_is_wanted_where_a_guardrail_may_depend_on_it() {
    let text = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n";
    let manifest = Manifest::parse(text, Path::new("lab.toml")).unwrap();
    let manifest = Arc::new(manifest);
    let wants = |condition: &str, operation: &str, name: &str| {
        let rule = format!(
            "forbid (principal, action == Action::\"backtests/create-backtest\", resource is Project) {condition};"
        );
        let guardrails = read(&rule).unwrap();
        assert_eq!(guardrails.ask_evidence(), condition.contains("evidence"));
        let authority = Authority::new(Arc::clone(&manifest), &guardrails).unwrap();
        let project = Project {
            id: Some(7),
            name: name.to_owned(),
            created: false,
        };
        authority.wants_evidence(operation, &Facts::of(Resource::Project(project)))
    };
    let create = "backtests/create-backtest";
    let few = "unless { context has evidence && context.evidence.trials < 1000 }";
    let many = "when { context has evidence && context.evidence.trials >= 1000 }";
    let none = "when { !(context has evidence) }";
    for condition in [few, many, none] {
        assert!(wants(condition, create, "Lab/x"), "{condition}");
        let read = "backtests/read-backtest";
        assert!(!wants(condition, read, "Lab/x"), "{condition}");
    }
    let of_prod = format!("when {{ resource.name like \"Prod/*\" }} {few}");
    assert!(wants(&of_prod, create, "Prod/x"));
    assert!(!wants(&of_prod, create, "Lab/x"));
    let without = "when { resource.name like \"Lab/*\" }";
    assert!(!wants(without, create, "Lab/x"));
}

#[test]
fn no_lines_are_given_that_a_guardrail_would_still_forbid() {
    let manifest = "plugin = \"p\"\ncomponent = \"p.wasm\"\naccount = \"a\"\n";
    let manifest = Arc::new(Manifest::parse(manifest, Path::new("p.toml")).unwrap());
    let facts = Facts::of(Resource::Project(Project {
        id: Some(1),
        name: String::new(),
        created: false,
    }));
    let denied = |guardrail: &str| {
        let guardrails = read(guardrail).unwrap();
        let authority = Authority::new(Arc::clone(&manifest), &guardrails).unwrap();
        let covered = authority.check_covered("backtests/delete-backtest", Access::Destroy, &facts);
        covered.unwrap_err()
    };
    let flat =
        denied("@id(\"never\") forbid (principal, action in Action::\"destroy\", resource);");
    assert_eq!(flat.remedy, None);
    assert!(
        flat.reason.contains("the guardrail `never` forbids it"),
        "{}",
        flat.reason
    );
    let perhaps = denied(
        "@id(\"prod\") forbid (principal, action in Action::\"destroy\", resource is Project) when { resource.name like \"Prod/*\" };",
    );
    let lines = perhaps.remedy.unwrap();
    assert!(
        lines.contains("# It may be forbidden all the same, by the guardrail prod."),
        "{lines}"
    );
    assert!(lines.contains("[[grant]]"), "{lines}");
    let other = denied("@id(\"trade\") forbid (principal, action in Action::\"trade\", resource);");
    assert!(!other.remedy.unwrap().contains('#'));
}
