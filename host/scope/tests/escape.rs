//! No argument reaches what is out of scope: random calls, with arguments of wrong types, swapped ids, other
//! spellings and unusual paths, pass the resolver and the decisions of a manifest on their way to a server
//! that accepts everything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use common::{Effect, Ended, ORGANIZATION, World, call, scope};
use proptest::prelude::*;
use qchost_catalog::{Access, OPERATIONS, Operation};
use qchost_policy::{Authority, Facts, Guardrails, Manifest};
use serde_json::{Map, Value, json};

/// A valid value for the argument, mostly in scope.
fn fitting(operation: &'static Operation, name: &'static str) -> BoxedStrategy<Value> {
    let schema = &operation.input_schema()["properties"][name];
    let list = schema["type"] == "array";
    let texts = |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|it| (*it).to_owned()).collect();
        let one = prop::sample::select(values);
        if list {
            prop::collection::vec(one.prop_map(Value::from), 1..3)
                .prop_map(Value::from)
                .boxed()
        } else {
            one.prop_map(Value::from).boxed()
        }
    };
    match name {
        "projectId" | "select-project" => prop::sample::select(vec![11_u32, 11, 12, 22])
            .prop_map(Value::from)
            .boxed(),
        "libraryId" => prop::sample::select(vec![11_u32, 12, 22])
            .prop_map(Value::from)
            .boxed(),
        "files" if operation.tool == "replace_project_files" => {
            let file = |name: &str| json!({"name": name, "content": "c"});
            prop::sample::select(vec![
                json!([file("notes/a.md")]),
                json!([file("notes/a.md"), file("main.py")]),
                json!([file("notes/../main.py")]),
            ])
            .boxed()
        }
        "backtestId" | "select-backtest" => texts(&["bt-11", "bt-11", "bt-12", "bt-22", "bt-101"]),
        "optimizationId" => texts(&["opt-11", "opt-11", "opt-12", "opt-22"]),
        "compileId" => texts(&["co-11", "co-11", "co-12", "co-22"]),
        "algorithmId" | "deployId" => texts(&["L-11", "L-11", "L-12", "L-22"]),
        "organizationId" => texts(&[ORGANIZATION]),
        "name" if operation.interface() == "files" => texts(&["notes/a.md", "main.py"]),
        "newName" => texts(&["notes/b.md", "main.py"]),
        "patch" => texts(&[
            "--- a/notes/a.md\n+++ b/notes/a.md\n@@ -1 +1 @@\n-a\n+b\n",
            "--- a/notes/a.md\n+++ b/notes/a.md\n@@ -1 +1 @@\n-a\n+b\n--- a/main.py\n+++ b/main.py\n@@ -1 +1 @@\n-a\n+b\n",
            "--- main.py\n+++ main.py\n@@ -1 +1 @@\n-a\n+b\n",
        ]),
        "name" if operation.interface() == "projects" => {
            texts(&["Lab/new", "Lab/other", "Private/new"])
        }
        "key" | "keys" => texts(&[
            "lab/data",
            "lab/deep",
            "private/SECRET",
            "shared",
            "lab/new",
        ]),
        "path" => texts(&["/", "lab", "lab/deep", "private", "shared"]),
        "jobId" => texts(&["job-101", "job-102"]),
        "brokerage" => texts(&["paper", "broker"]),
        "dataProviders" => Just(json!(["data"])).boxed(),
        "command" => Just(json!({"$type": "OrderCommand"})).boxed(),
        "nodeType" => texts(&["O2-8"]),
        _ => match schema["type"].as_str() {
            Some("integer") => (1_u32..5).prop_map(Value::from).boxed(),
            Some("number") => (0_u32..9).prop_map(Value::from).boxed(),
            Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
            Some("array") => Just(json!([])).boxed(),
            Some("object") => Just(json!({})).boxed(),
            _ => texts(&["text", "Py"]),
        },
    }
}

/// A value that the contract does not allow and some server accepts.
fn crooked() -> BoxedStrategy<Value> {
    prop::sample::select(vec![
        json!("22"),
        json!(" 22 "),
        json!(22.0),
        json!(22.7),
        json!([22]),
        json!({"id": 22}),
        json!(true),
        json!(null),
        json!(-22),
        json!(4_294_967_318_u64),
        json!("bt-22"),
        json!(" bt-22"),
        json!(["bt-22"]),
        json!("opt-22"),
        json!("co-22\n"),
        json!("L-22"),
        json!("../main.py"),
        json!("notes/../main.py"),
        json!("notes/a.md/../../main.py"),
        json!("notes\\..\\main.py"),
        json!(" main.py"),
        json!("/notes/../main.py"),
        json!("lab/../private/SECRET"),
        json!("lab//../private/SECRET"),
        json!(["lab/../private/SECRET"]),
        json!("lab/.. /private/SECRET"),
        json!("shared/"),
        json!("/shared"),
        json!("Lab/../Private/new"),
        json!("Lab/../../x"),
        json!(""),
        json!("--- a/notes/a.md\n+++ b/notes/../main.py\n"),
        json!("diff --git a/notes/a b/notes/a\nrename from notes/a\nrename to main.py\n"),
    ])
    .boxed()
}

/// Arguments for an operation: most are valid, some malformed, some missing, some superfluous.
fn arguments(operation: &'static Operation) -> BoxedStrategy<Map<String, Value>> {
    let properties = operation.input_schema().get("properties");
    let names = properties.and_then(Value::as_object).into_iter().flatten();
    let each: Vec<_> = names
        .map(|(name, _)| {
            let value = prop_oneof![
                12 => fitting(operation, name).prop_map(Some),
                1 => crooked().prop_map(Some),
                1 => Just(None),
            ];
            value.prop_map(move |value| value.map(|value| (name.clone(), value)))
        })
        .collect();
    let extra = prop::sample::select(vec![
        "ProjectId",
        "project_id",
        "PROJECTID",
        "model",
        "request",
        "backtest_id",
        "backtestId",
        "optimizationId",
        "key",
        "jobId",
        "files",
        "id",
    ]);
    let extra = prop::option::weighted(
        0.1,
        (
            extra,
            prop_oneof![
                crooked(),
                Just(json!(22)),
                Just(json!({"projectId": 22, "backtestId": "bt-22", "key": "private/SECRET"})),
            ],
        ),
    );
    (each, extra)
        .prop_map(|(given, extra)| {
            let mut all: Map<String, Value> = given.into_iter().flatten().collect();
            all.extend(extra.map(|(name, value)| (name.to_owned(), value)));
            all
        })
        .boxed()
}

fn calls() -> BoxedStrategy<Vec<(&'static Operation, Map<String, Value>)>> {
    let one = prop::sample::select(OPERATIONS.iter().collect::<Vec<_>>())
        .prop_flat_map(|operation| (Just(operation), arguments(operation)));
    prop::collection::vec(one, 1..12).boxed()
}

/// Whether everything touched was in scope, by the names before the call.
fn in_scope(effect: &Effect, names: &impl Fn(u32) -> Option<String>) -> bool {
    let mine = |id: u32| names(id).is_some_and(|name| name.starts_with("Lab/"));
    match effect {
        Effect::Project(id) => mine(*id),
        Effect::Named(name) => name.starts_with("Lab/"),
        Effect::File(id, name) => mine(*id) && name.starts_with("notes/"),
        Effect::Object(key) => key.starts_with("lab/") || key == "shared",
        Effect::Everything => false,
    }
}

/// Grants every operation on the projects `Lab/*`, the files `notes/*` and the keys `lab/*` and `shared`,
/// except broadcasts, which concern no project.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let named: Vec<_> = OPERATIONS
        .iter()
        .map(|operation| operation.name)
        .filter(|name| !name.ends_with("/broadcast-live-command"))
        .collect();
    let manifest = format!(
        r#"
            plugin = "lab"
            component = "lab.wasm"
            account = "research"
            egress = "licensed"
            [[grant]]
            name = "all"
            allow = {named:?}
            projects = ["Lab/*"]
            files = ["notes/*"]
            organizations = ["{ORGANIZATION}"]
            keys = ["lab/*", "shared"]
            brokerages = ["paper"]
            data-providers = ["data"]
            commands = ["*"]
            collaborators = ["*"]
            recipients = ["*"]
        "#
    );
    let manifest = Manifest::parse(&manifest, Path::new("lab.toml")).unwrap();
    Authority::new(Arc::new(manifest), &Guardrails::none()).unwrap()
});

static SENT: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn run(calls: &[(&'static Operation, Map<String, Value>)]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (scope, world) = (scope(), World::default());
    for (operation, arguments) in calls {
        let before = world.state.lock().projects.clone();
        let shown = format!("{} {}", operation.name, Value::Object(arguments.clone()));
        let allowed = |facts: &Facts| {
            let decision = AUTHORITY.decide("sha256:0", operation.name, operation.access, facts);
            decision.allowed
        };
        match runtime.block_on(call(&scope, &world, operation, arguments, &allowed)) {
            Ended::Sent(effects, answer) => {
                SENT.fetch_add(1, Ordering::Relaxed);
                let reads = operation.access == Access::Read;
                for effect in &effects {
                    // A read out of scope is accepted if its result is never shown.
                    let fine = reads && answer.is_err()
                        || in_scope(effect, &|id| before.get(&id).cloned());
                    prop_assert!(fine, "{shown} reached {effect:?}");
                }
                if let Ok((body, _)) = answer {
                    prop_assert!(
                        !body.to_string().contains("SECRET"),
                        "{shown} showed {body}"
                    );
                }
            }
            Ended::Refused(_) | Ended::NotAllowed => {
                REFUSED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

#[test]
fn no_argument_reaches_what_is_out_of_scope() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner.run(&calls(), |calls| run(&calls)).unwrap();
    let (sent, refused) = (
        SENT.load(Ordering::Relaxed),
        REFUSED.load(Ordering::Relaxed),
    );
    // The test would prove nothing if all calls were refused, or none.
    assert!(
        sent > 2_000 && refused > 2_000,
        "{sent} sent, {refused} refused"
    );
}
