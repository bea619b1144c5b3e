//! The largest and deepest guardrails that are accepted, parsed, evaluated, printed and freed on threads with
//! the stack of a host's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::Access;
use qchost_policy::{
    Authority, Facts, Guardrails, Manifest, People, Person, Project, Resource, Right, Role,
};

/// Stack of a thread of the Tokio runtime, in bytes.
const WORKER: usize = 2 << 20;
/// Stack of the main thread, in bytes.
const MAIN: usize = 8 << 20;

fn read(text: &str) -> Result<Guardrails, String> {
    Guardrails::read(&[(PathBuf::from("rules.cedar"), text.to_owned())])
        .map_err(|error| error.to_string())
}

fn manifest() -> Arc<Manifest> {
    let text = "plugin = \"p\"\ncomponent = \"p.wasm\"\naccount = \"a\"\n[[grant]]\nname = \"g\"\n\
        allow = [\"files/*\"]\nprojects = [\"*\"]\n";
    Arc::new(Manifest::parse(text, Path::new("p.toml")).unwrap())
}

fn of_projects(condition: &str) -> String {
    format!("forbid (principal, action, resource is Project) when {{ {condition} }};")
}

/// The deepest conditions that are accepted, one for each form of expression.
fn deepest() -> Vec<(&'static str, String)> {
    let names = |count: usize, operator: &str| {
        let names = (0..count).map(|at| format!("resource.name == \"Lab/{at}\""));
        names.collect::<Vec<_>>().join(operator)
    };
    let lives = |count: usize, operator: &str| vec!["context.live"; count].join(operator);
    let within = |open: &str, inner: &str, close: &str, count: usize| {
        of_projects(&format!(
            "{}{inner}{}",
            open.repeat(count),
            close.repeat(count)
        ))
    };
    vec![
        ("or", of_projects(&names(500, " || "))),
        ("and", of_projects(&lives(500, " && "))),
        (
            "plus",
            of_projects(&format!("1{} == 1", " + 1".repeat(499))),
        ),
        ("brackets", within("(", "context.live", ")", 99)),
        ("not", within("!(", "context.live", ")", 99)),
        (
            "if",
            within("if context.live then ", "true", " else false", 499),
        ),
        (
            "else",
            of_projects(&format!(
                "{}true",
                "if context.live then false else ".repeat(499)
            )),
        ),
        ("sets", within("[", "1", "]", 98)),
        ("records", within("{a: ", "1", "}", 98)),
        (
            "when",
            format!(
                "forbid (principal, action, resource is Project) {};",
                "when { context.live }".repeat(500)
            ),
        ),
        (
            "brackets and operators",
            within("(context.live || (", &names(200, " || "), "))", 49),
        ),
        (
            "sets in sets, compared",
            of_projects(&format!(
                "[{0}1{1}].contains({0}1{1}) && {2}",
                "[".repeat(96),
                "]".repeat(96),
                lives(499, " && ")
            )),
        ),
    ]
}

/// Does what a host does with guardrails, on a separate thread with this stack size.
fn on_a_thread(stack: usize, text: &str) -> Result<bool, String> {
    let text = text.to_owned();
    let thread = std::thread::Builder::new().stack_size(stack);
    let thread = thread.spawn(move || {
        let guardrails = read(&text)?;
        let again =
            Guardrails::from_stored(&guardrails.stored()).map_err(|error| error.to_string())?;
        assert_eq!(again.without(&guardrails).ids().count(), 0);
        assert_eq!(again.stored()[0].1, guardrails.stored()[0].1);
        let printed = format!("{guardrails:?}").len() + guardrails.revision().len();
        let person = Person {
            uid: 1,
            name: "otto".to_owned(),
            roles: [Role::Operator].into(),
        };
        let people = People::new([person.clone()], &guardrails).unwrap();
        let _ = people.decide(&person, Right::Invoke, None);
        let authority = Authority::new(manifest(), &guardrails).unwrap();
        drop((guardrails, again));
        let facts = Facts::of(Resource::Project(Project {
            id: Some(1),
            name: "Lab/x".to_owned(),
            created: false,
        }));
        let decision = authority.decide("", "files/read-file", Access::Read, &facts);
        let why = decision
            .denial
            .map(|denial| denial.reason)
            .unwrap_or_default();
        assert!(!why.contains("could not be evaluated"), "{why}");
        // The last owner frees it.
        drop((authority, people));
        assert!(printed > 0);
        Ok(decision.allowed)
    });
    thread.unwrap().join().unwrap()
}

#[test]
fn the_deepest_guardrails_overflow_no_stack() {
    for (what, text) in deepest() {
        for stack in [WORKER, MAIN] {
            if let Err(error) = on_a_thread(stack, &text) {
                // The compared values have different types.
                assert!(error.contains("does not fit the schema"), "{what}: {error}");
            }
        }
    }
}

#[test]
fn what_a_deep_guardrail_covers_is_found_on_a_thread_of_a_runtime() {
    let text = "forbid (principal, action in [Action::\"files/read-file\", Action::\"files/patch-file\"], resource is Project)";
    let deep = format!(
        "{text} when {{ {} }};",
        vec!["context.live"; 500].join(" && ")
    );
    let thread = std::thread::Builder::new().stack_size(WORKER);
    let covered = thread.spawn(move || read(&deep).unwrap().coverage().unwrap());
    let covered = covered.unwrap().join().unwrap();
    assert_eq!(covered[0].operations.len(), 2, "{covered:?}");
}

#[test]
fn a_long_guardrail_forbids_what_it_says() {
    let names = |last: &str| {
        let names = (0..499).map(|at| format!("resource.name == \"Lab/{at}\" || "));
        of_projects(&format!(
            "{}resource.name == \"{last}\"",
            names.collect::<String>()
        ))
    };
    for (last, allowed) in [("Lab/x", false), ("Lab/y", true)] {
        let is = on_a_thread(WORKER, &names(last)).unwrap();
        assert_eq!(is, allowed, "{last}");
    }
    // By Cedar alone, without the shortcut.
    let lengthy = "resource.name.length() == 5";
    assert!(
        read(&of_projects(lengthy)).is_err(),
        "a text has a length now: ask it here"
    );
    // By Cedar alone: the shortcut does not rule out sets.
    let all = format!(
        "[{}\"a\"].contains(resource.name)",
        "\"Lab/x\", ".repeat(100)
    );
    for (deep, allowed) in [("resource.created", true), ("!resource.created", false)] {
        let text = of_projects(&format!("{all}{}", format!(" && {deep}").repeat(240)));
        let is = on_a_thread(WORKER, &text).unwrap();
        assert_eq!(is, allowed, "{deep}");
    }
}

#[test]
fn what_is_larger_is_refused_before_it_is_read() {
    let deep = |text: String| text;
    for text in [
        of_projects(&vec!["context.live"; 502].join(" && ")),
        of_projects(&format!("{}true{}", "(".repeat(3000), ")".repeat(3000))),
        of_projects(&format!(
            "{}1{} == 1",
            "[".repeat(100_000),
            "]".repeat(100_000)
        )),
        deep("(".repeat(200_000)),
        of_projects(&"if true then ".repeat(10_000)),
    ] {
        let begun = Instant::now();
        let error = on_a_thread(WORKER, &format!("\n{text}")).unwrap_err();
        assert!(error.starts_with("rules.cedar:2: it has "), "{error}");
        assert!(error.contains("write it as several guardrails"), "{error}");
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
    }
    let large = format!("// {}", "x".repeat(256 << 10));
    let error = read(&large).unwrap_err();
    assert!(error.contains("more than 256 KiB"), "{error}");
}

fn plain(count: usize) -> String {
    let rule = |at| format!("forbid (principal == Plugin::\"p{at}\", action, resource);\n");
    (0..count).map(rule).collect()
}

#[test]
fn as_many_guardrails_as_there_may_be_are_read_in_a_moment() {
    let named = |count: usize| -> String {
        let rule = |at| {
            of_projects(&format!(
                "context.live && resource.name like \"Lab/{at}/*\""
            ))
        };
        (0..count).map(|at| rule(at) + "\n").collect()
    };
    for (what, text) in [("plain", plain(500)), ("with a condition", named(500))] {
        let begun = Instant::now();
        let guardrails = read(&text).unwrap();
        let took = begun.elapsed();
        assert_eq!(guardrails.ids().count(), 500);
        let begun = Instant::now();
        let authority = Authority::new(manifest(), &guardrails).unwrap();
        let compiled = begun.elapsed();
        println!("{what}: {took:?}, and {compiled:?} for a manifest");
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
        assert!(compiled < Duration::from_secs(2), "{what}: {compiled:?}");
        drop(authority);
    }
}

#[test]
fn too_many_guardrails_are_refused_at_once() {
    let begun = Instant::now();
    let files = [
        (PathBuf::from("a.cedar"), plain(250)),
        (PathBuf::from("b.cedar"), plain(251)),
    ];
    let error = Guardrails::read(&files).unwrap_err().to_string();
    assert!(error.starts_with("b.cedar:"), "{error}");
    assert!(error.contains("more than 500 guardrails"), "{error}");
    assert!(read(&plain(4000)).is_err());
    let kept: Vec<_> = (0..8000).map(|at| (format!("r{at}"), plain(1))).collect();
    assert!(Guardrails::from_stored(&kept).is_err());
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}
