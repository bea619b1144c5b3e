//! `qchost policy`, `schema`, `validate` of guardrails, `plugin grants`: what would be decided, without
//! sending anything.

use serde_json::{Value, json};

use crate::categories;
use crate::cloud::Cloud;
use crate::common::{Folder, embedded, strategy_lab};

pub const GUARDRAIL: &str = r#"
@id("no-nights")
forbid (principal, action in [Action::"compile/create-compile", Action::"backtests/create-backtest"], resource);
"#;

fn folder(cloud: &Cloud) -> Folder {
    let folder = Folder::new(&embedded(cloud.url()));
    folder.manifest("strategy-lab", &strategy_lab());
    folder
}

#[test]
fn explaining_says_what_would_be_and_sends_nothing() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let explain = |arguments: &[&str]| {
        folder
            .run(&[&["--json", "policy", "explain", "strategy-lab"], arguments].concat())
            .json()
    };
    let create = ["compile/create-compile", "{\"projectId\": 7}"];
    let inside = explain(&[&create[..], &["--project", "Lab/x"]].concat());
    assert_eq!(inside["decision"], "allowed", "{inside}");
    assert!(inside.to_string().contains("lab-backtests"), "{inside}");
    let outside = explain(&[&create[..], &["--project", "Prod/x"]].concat());
    assert_eq!(outside["decision"], "denied", "{outside}");
    let delete = [
        "projects/delete-project",
        "{\"projectId\": 7}",
        "--project",
        "Lab/x",
    ];
    let text = folder.run(&[&["policy", "explain", "strategy-lab"], &delete[..]].concat());
    assert!(
        text.good().stdout.contains("denied") && text.stdout.contains("[[grant]]"),
        "{}",
        text.stdout
    );
    // A guardrail overrides the grant, and is named.
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/hours.cedar"), GUARDRAIL).unwrap();
    let forbidden = explain(&[&create[..], &["--project", "Lab/x"]].concat());
    assert_eq!(forbidden["decision"], "denied", "{forbidden}");
    assert!(forbidden.to_string().contains("no-nights"), "{forbidden}");

    let ran = folder.run(&[
        "policy",
        "explain",
        "strategy-lab",
        "backtests/create-backtests",
    ]);
    assert!(ran.error().contains("backtests/create-backtest"), "{ran:?}");
    let ran = folder.run(&["policy", "explain", "no-such-plugin", "files/read-file"]);
    assert!(ran.error().contains("there are: strategy-lab"), "{ran:?}");
    assert_eq!(cloud.emulator().requests(), [], "something was sent");
    // A running host says the same.
    let host = folder.serve(&["run"]);
    let ran = folder.run(&["policy", "explain", "no-such-plugin", "files/read-file"]);
    assert!(ran.error().contains("there are: strategy-lab"), "{ran:?}");
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    host.end();
}

#[test]
fn a_named_project_is_enough_to_decide_and_without_a_decision_the_exit_status_is_that_of_the_failure()
 {
    let cloud = Cloud::start();
    let account = format!("{}derived-data = true\n", embedded(cloud.url()));
    let folder = categories::folder(&account);
    let explain = |operation: &str, arguments: Value, more: &[&str]| {
        let arguments = arguments.to_string();
        let verb = [
            "--json",
            "policy",
            "explain",
            "every-category",
            operation,
            arguments.as_str(),
        ];
        folder.run(&[&verb[..], more].concat())
    };
    let named = ["--project", "Lab/x"];
    let optimisation = json!({ "optimizationId": "o" });
    let logs = json!({ "projectId": 7, "algorithmId": "L-1", "startLine": 0, "endLine": 9 });
    let keys = json!({ "organizationId": "org", "keys": ["a/b", "a/c", "d"] });
    for (operation, arguments, assumed) in [
        (
            "optimizations/abort-optimization",
            &optimisation,
            "the optimisation \"o\" is of the project \"Lab/x\"",
        ),
        (
            "optimizations/delete-optimization",
            &optimisation,
            "the optimisation \"o\" is of the project \"Lab/x\"",
        ),
        (
            "live/read-live-logs",
            &logs,
            "the deployment \"L-1\" is of project 7",
        ),
        (
            "object-store/read-object-store-file-job-id",
            &keys,
            "\"a/c\" is no folder",
        ),
    ] {
        let explained = explain(operation, arguments.clone(), &named).json();
        assert_eq!(explained["decision"], "allowed", "{operation}: {explained}");
        let all = explained["assumed"].as_array().unwrap();
        assert!(all.contains(&json!(assumed)), "{operation}: {explained}");
    }
    // No project is named, and an argument is missing.
    for (operation, arguments, status, words) in [
        (
            "optimizations/abort-optimization",
            optimisation,
            7,
            "--project",
        ),
        ("files/read-file", json!({}), 1, "`projectId` is missing"),
    ] {
        let ran = explain(operation, arguments, &[]);
        assert_eq!(ran.status.code(), Some(status), "{operation}: {ran:?}");
        assert!(ran.stderr.contains(words), "{operation}: {ran:?}");
    }
    // People see under which conditions it is allowed, and once what is missing.
    let ran = folder.run(&["policy", "explain", "every-category", "files/read-file"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let report = folder.run(&["plugin", "grants", "every-category"]);
    let grant = report.good().stdout.lines().nth(2).unwrap().to_owned();
    assert!(ran.stdout.contains("conditions:\n"), "{ran:?}");
    assert!(ran.stdout.contains(&format!("\n{grant}\n")), "{ran:?}");
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(all.matches("is missing").count(), 1, "{ran:?}");
    assert!(
        ran.error().contains("`qchost tools files/read-file`"),
        "{ran:?}"
    );
    assert_eq!(cloud.emulator().requests(), [], "something was sent");
}

#[test]
fn a_file_of_expectations_is_checked() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let cases = folder.path().join("cases.toml");
    let text = r#"
manifest = "plugins/strategy-lab.toml"
[[case]]
name      = "the lab may backtest"
operation = "backtests/create-backtest"
project   = { id = 7, name = "Lab/x" }
expect    = "allowed"
grants    = ["lab-backtests"]
[[case]]
name      = "and not deploy"
operation = "live/create-live-algorithm"
project   = { id = 7, name = "Lab/x" }
expect    = "denied"
reason    = "no grant"
"#;
    std::fs::write(&cases, text).unwrap();
    let name = cases.to_str().unwrap();
    let verdicts = folder.run(&["--json", "policy", "test", name]).json();
    assert_eq!(verdicts.as_array().unwrap().len(), 2, "{verdicts}");

    for (from, to, words) in [
        (
            "expect    = \"allowed\"",
            "expect    = \"denied\"",
            "1 of 2 cases failed",
        ),
        (
            "[\"lab-backtests\"]",
            "[\"lab-projects\"]",
            "1 of 2 cases failed",
        ),
        ("\"no grant\"", "\"too late\"", "1 of 2 cases failed"),
        (
            "expect    = \"allowed\"",
            "expect    = \"maybe\"",
            "`maybe` is not",
        ),
        ("reason    =", "raison    =", "raison"),
        (
            "plugins/strategy-lab.toml",
            "plugins/no-such-plugin.toml",
            "no-such-plugin.toml",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&cases, text.replacen(from, to, 1)).unwrap();
        let ran = folder.run(&["policy", "test", name]);
        assert_eq!(ran.status.code(), Some(1), "{to}: {ran:?}");
        assert!(ran.stderr.contains(words), "{to}: {}", ran.stderr);
    }
    // A file that cannot be read is not one of the manifests.
    let ran = folder.run(&["policy", "test", "nofile.toml"]);
    let error = ran.error();
    assert!(
        error.contains("cannot read the tests of policies in nofile.toml")
            && !error.contains("manifest"),
        "{error}"
    );
    // If a guardrail forbids it, no expectation based on the manifest alone holds.
    std::fs::write(&cases, text).unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/hours.cedar"), GUARDRAIL).unwrap();
    let ran = folder.run(&["policy", "test", name]);
    assert!(ran.error().contains("1 of 2 cases failed"), "{ran:?}");
    assert!(ran.stdout.contains("no-nights"), "{}", ran.stdout);
    assert_eq!(cloud.emulator().requests(), [], "something was sent");
}

#[test]
fn guardrails_are_checked_before_they_count() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let file = policies.join("hours.cedar");
    let name = file.to_str().unwrap();
    std::fs::write(&file, GUARDRAIL).unwrap();
    let verdicts = folder.run(&["--json", "validate", name]).json();
    assert_eq!(verdicts[0]["kind"], "guardrails");
    for wrong in [
        "permit (principal, action, resource);",
        "forbid (principal, action == Action::\"backtests/create\", resource);",
        "forbid (principal, action",
    ] {
        std::fs::write(&file, wrong).unwrap();
        let ran = folder.run(&["validate", name]);
        assert!(
            ran.stdout.contains("FAILED") && ran.stdout.contains("hours.cedar:1"),
            "{wrong}: {ran:?}"
        );
        assert!(ran.error().contains("1 of 1 file is not valid"), "{ran:?}");
        // A host does not start without its configured guardrails.
        let ran = folder.run(&["run"]);
        assert!(ran.error().contains("hours.cedar:1"), "{wrong}: {ran:?}");
    }
}

#[test]
fn schemas_are_what_the_files_are_checked_against() {
    let folder = Folder::new("");
    let schema = folder.run(&["schema", "manifest"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.good().stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let manifest: toml::Table = strategy_lab().parse().unwrap();
    let manifest = serde_json::to_value(manifest).unwrap();
    assert!(validator.is_valid(&manifest), "{manifest:#}");
    let mut wrong = manifest;
    wrong["grant"][0]["approvals"] = json!("operator");
    assert!(!validator.is_valid(&wrong));

    let schema = folder.run(&["schema", "guardrails"]);
    for word in [
        "entity Plugin",
        "entity Project",
        "backtests/create-backtest",
    ] {
        assert!(
            schema.good().stdout.contains(word),
            "{word}: {}",
            schema.stdout
        );
    }
}

#[test]
fn grants_are_shown_with_their_conditions_and_what_is_used() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let manifest = strategy_lab().replacen(
        "name  = \"lab-backtests\"",
        "name  = \"lab-backtests\"\nlimits = { per-day = 500 }",
        1,
    );
    folder.manifest("strategy-lab", &manifest);
    folder.invoke(
        "strategy-lab.backtest",
        &json!({ "project": "Lab/x", "name": "one" }),
    );
    let grants = folder
        .run(&["--json", "plugin", "grants", "strategy-lab"])
        .json();
    let text = grants.to_string();
    assert!(
        text.contains("lab-backtests") && text.contains("500"),
        "{grants:#}"
    );
    let shown = folder.run(&["plugin", "grants", "strategy-lab"]);
    assert!(
        shown.good().stdout.contains("lab-backtests"),
        "{}",
        shown.stdout
    );
    let none = folder.run(&["plugin", "grants", "no-such-plugin"]);
    assert!(
        none.error()
            .contains("no manifest for a plugin `no-such-plugin`; there are: strategy-lab"),
        "{none:?}"
    );
}

#[test]
fn what_can_never_forbid_anything_is_not_valid_and_the_rest_says_what_it_can() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let file = folder.path().join("policies/one.cedar");
    let name = file.to_str().unwrap();
    for (text, why) in [
        (
            "// forbid (principal, action, resource);\n",
            "there is no rule in it",
        ),
        (
            "forbid (principal, action, resource == Project::\"Lab/a\");",
            "the id of a project is its number",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let ran = folder.run(&["validate", name]);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert!(ran.stdout.contains(why), "{ran:?}");
    }
    std::fs::write(&file, GUARDRAIL).unwrap();
    let ran = folder.run(&["validate", name]);
    assert!(
        ran.good().stdout.contains("(1 guardrails)"),
        "{}",
        ran.stdout
    );
    let covered = folder.run(&["--json", "policy", "coverage"]).json();
    assert_eq!(covered[0]["guardrail"], "no-nights");
    assert_eq!(
        covered[0]["operations"],
        json!(["backtests/create-backtest", "compile/create-compile"])
    );
    assert_eq!(cloud.emulator().requests(), [], "something was sent");
}

#[test]
fn a_component_that_calls_itself_otherwise_is_said_to() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let same = folder.run(&["plugin", "list"]);
    assert!(
        !same.good().stdout.contains("calls itself"),
        "{}",
        same.stdout
    );
    std::fs::remove_file(folder.path().join("plugins/strategy-lab.toml")).unwrap();
    let renamed = strategy_lab().replace("\"strategy-lab\"", "\"another-lab\"");
    folder.manifest("another-lab", &renamed);
    let ran = folder.run(&["plugin", "list"]);
    assert!(
        ran.good()
            .stdout
            .contains("another-lab: its component calls itself strategy-lab"),
        "{}",
        ran.stdout
    );
}
