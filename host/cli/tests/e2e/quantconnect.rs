//! The bundled plugin quantconnect: files carried both ways, conflicts, locks, backtests and what is said of them; each
//! with its denied twin.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qchost_emulator::Timing;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloud::Cloud;
use crate::common::{ALGORITHM, FAILING, Folder, MAX_COMPONENT, bundled, component, embedded};
use crate::minimal::{assert_minimal, check, failing_step, step};
use crate::process::wait_until;

const PLUGIN: &str = "plugins/quantconnect";
/// The granted folder of the bundled manifest.
const PLACE: &str = "/srv/algorithms";

/// A host with the plugin, a granted folder, and a project.
struct Desk {
    cloud: Cloud,
    host: Folder,
    local: TempDir,
    project: Value,
}

impl Desk {
    fn new() -> Self {
        Self::changed(|manifest| manifest)
    }

    /// One whose manifest is changed.
    fn changed(change: impl FnOnce(String) -> String) -> Self {
        let cloud = Cloud::start();
        let host = Folder::new(&format!(
            "policies = \"policies\"\n{}",
            embedded(cloud.url())
        ));
        std::fs::create_dir(host.path().join("policies")).unwrap();
        let local = TempDir::new().unwrap();
        host.manifest(
            "quantconnect",
            &change(granting(&bundled(PLUGIN), local.path())),
        );
        let project = created(&host, "Lab/desk");
        Self {
            cloud,
            host,
            local,
            project,
        }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.local.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.local.path().join(path)).ok()
    }

    /// The text of a file of the project.
    fn remote(&self, path: &str) -> Option<String> {
        let files = self
            .host
            .call("read_file", &json!({ "projectId": self.project }));
        let files = files["files"].as_array().unwrap().clone();
        let file = files.into_iter().find(|file| file["name"] == path)?;
        Some(file["content"].as_str().unwrap().to_owned())
    }

    fn edit(&self, path: &str, content: &str) {
        let edit = json!({ "projectId": self.project, "name": path, "content": content });
        self.host.call("update_file_contents", &edit);
    }

    /// Syncs the granted folder, with these further members of the input.
    fn sync(&self, more: Value) -> Value {
        let mut input = json!({ "project": "Lab/desk", "folder": "algorithms" });
        let members = more.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(members);
        self.host.invoke("quantconnect.sync", &input)
    }

    /// What an invocation fails with.
    fn refused(&self, action: &str, input: &Value) -> String {
        let ran = self
            .host
            .run(&["--json", "invoke", action, &input.to_string()]);
        ran.json_error()
    }
}

/// The manifest with this folder in place of its own.
fn granting(manifest: &str, local: &Path) -> String {
    manifest.replace(PLACE, local.to_str().unwrap())
}

fn created(host: &Folder, name: &str) -> Value {
    let project = host.call("create_project", &json!({ "name": name, "language": "Py" }));
    project["projects"][0]["projectId"].clone()
}

/// The steps of a report: side, change and path.
fn steps(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().unwrap().iter();
    let word = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
    steps
        .map(|step| {
            format!(
                "{} {} {}",
                word(step, "side"),
                word(step, "change"),
                word(step, "path")
            )
        })
        .collect()
}

#[test]
fn a_folder_and_a_project_become_the_same_and_stay_so() {
    let desk = Desk::new();
    desk.write("lib/a.py", "a = 1\n");
    desk.write("lib/old.py", "old = 1\n");
    desk.write(".env", "SECRET=1\n");
    desk.write("notes.tmp", "ignored\n");
    desk.write(".gitignore", "*.tmp\n");
    let first = desk.sync(json!({}));
    assert_eq!(first["in-step"], true, "{first}");
    assert_eq!(desk.remote("lib/a.py").as_deref(), Some("a = 1\n"));
    assert_eq!(desk.read("main.py"), desk.remote("main.py"));
    for path in [".env", ".gitignore", "notes.tmp"] {
        assert_eq!(desk.remote(path), None, "{path}");
    }

    // Each side changes something else.
    desk.write("lib/a.py", "a = 2\n");
    std::fs::rename(
        desk.local.path().join("lib/old.py"),
        desk.local.path().join("lib/new.py"),
    )
    .unwrap();
    desk.edit("main.py", "# changed in the project\n");
    let planned = desk.sync(json!({ "plan-only": true }));
    assert_eq!(
        desk.remote("lib/a.py").as_deref(),
        Some("a = 1\n"),
        "{planned}"
    );
    let second = desk.sync(json!({}));
    assert_eq!(steps(&second), steps(&planned));
    let expected = [
        "project rename lib/new.py",
        "project update lib/a.py",
        "local update main.py",
    ];
    assert_eq!(steps(&second), expected, "{second}");
    assert_eq!(desk.remote("lib/a.py").as_deref(), Some("a = 2\n"));
    assert_eq!(
        desk.read("main.py").as_deref(),
        Some("# changed in the project\n")
    );

    let before = desk.cloud.emulator().requests().len();
    let third = desk.sync(json!({}));
    assert_eq!(
        (steps(&third), &third["in-step"]),
        (Vec::new(), &json!(true))
    );
    let sent = desk.cloud.emulator().requests();
    let writes = sent
        .iter()
        .skip(before)
        .filter(|it| it.path.starts_with("/files/") && it.path != "/files/read");
    assert_eq!(writes.count(), 0);

    // A deletion is carried over, and one that is not allowed is held.
    std::fs::remove_file(desk.local.path().join("lib/new.py")).unwrap();
    let held = desk.sync(json!({ "delete": false }));
    assert_eq!(
        (steps(&held).len(), &held["in-step"]),
        (0, &json!(false)),
        "{held}"
    );
    assert_eq!(steps(&desk.sync(json!({}))), ["project delete lib/new.py"]);
    assert_eq!(desk.remote("lib/new.py"), None);
}

#[test]
fn a_direction_keeps_the_changes_of_the_other_side_back() {
    let desk = Desk::new();
    desk.write("a.py", "a = 1\n");
    let pulled = desk.sync(json!({ "direction": "pull" }));
    assert_eq!(desk.remote("a.py"), None);
    assert!(desk.read("main.py").is_some());
    assert_eq!(pulled["held"][0]["path"], "a.py", "{pulled}");
    desk.edit("main.py", "# project\n");
    let pushed = desk.sync(json!({ "direction": "push" }));
    assert_eq!(desk.remote("a.py").as_deref(), Some("a = 1\n"));
    assert_ne!(desk.read("main.py").as_deref(), Some("# project\n"));
    assert_eq!(pushed["held"][0]["path"], "main.py", "{pushed}");
}

#[test]
fn what_both_sides_changed_is_reported_and_decided_by_the_caller_alone() {
    let desk = Desk::new();
    desk.sync(json!({}));
    desk.write("main.py", "x = 1\n");
    desk.edit("main.py", "x = 2\n");
    let both = || {
        (
            desk.read("main.py").unwrap(),
            desk.remote("main.py").unwrap(),
        )
    };
    let report = desk.sync(json!({}));
    assert_eq!(both(), ("x = 1\n".to_owned(), "x = 2\n".to_owned()));
    let conflict = &report["conflicts"][0];
    assert_eq!(report["in-step"], false);
    assert!(
        conflict["diff"]
            .as_str()
            .unwrap()
            .contains("-x = 2\n+x = 1\n"),
        "{report}"
    );

    // A decision about another version than there is now decides nothing.
    let decide = |discard: &Value| {
        let resolve = json!([{ "path": "main.py", "keep": "local", "discard": discard }]);
        desk.sync(json!({ "resolve": resolve }))
    };
    let outdated = decide(&conflict["local-digest"]);
    assert_eq!(outdated["in-step"], false, "{outdated}");
    assert_eq!(both().1, "x = 2\n");
    let decided = decide(&conflict["project-digest"]);
    assert_eq!(decided["in-step"], true, "{decided}");
    assert_eq!(both(), ("x = 1\n".to_owned(), "x = 1\n".to_owned()));
}

#[test]
fn a_lock_of_another_environment_is_honoured() {
    let desk = Desk::new();
    desk.sync(json!({}));
    let lock = |source: &str| {
        let lock = json!({ "projectId": desk.project, "codeSourceId": source });
        desk.host.call("lock_project_with_collaborators", &lock);
    };
    desk.write("a.py", "a = 1\n");
    lock("an-editor");
    let refused = desk.sync(json!({}));
    assert_eq!(refused["in-step"], false, "{refused}");
    let error = refused["steps"][0]["error"].as_str().unwrap();
    assert!(error.contains("locked by another code source"), "{error}");
    assert_eq!(desk.remote("a.py"), None);
    lock("qchost");
    assert_eq!(desk.sync(json!({}))["in-step"], true);
    assert_eq!(desk.remote("a.py").as_deref(), Some("a = 1\n"));
}

#[test]
fn a_set_of_files_is_synced_by_what_comes_back() {
    let desk = Desk::new();
    let sync = |files: &Value, base: &Value| {
        let mut input = json!({ "project": desk.project, "files": files });
        if !base.is_null() {
            input["base"] = base.clone();
        }
        desk.host.invoke("quantconnect.sync", &input)
    };
    let first = sync(
        &json!([{ "path": "a.py", "content": "a = 1\n" }]),
        &Value::Null,
    );
    assert_eq!(desk.remote("a.py").as_deref(), Some("a = 1\n"));
    let main = first["write"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["path"] == "main.py");
    assert_eq!(
        main.unwrap()["content"].as_str(),
        desk.remote("main.py").as_deref()
    );
    assert_eq!(main.unwrap()["expected"], Value::Null);

    // The client has carried it out, and the project loses a file.
    let mut files = vec![json!({ "path": "a.py", "content": "a = 1\n" })];
    let written = first["write"].as_array().unwrap().iter();
    files.extend(written.map(|it| json!({ "path": it["path"], "content": it["content"] })));
    let delete = json!({ "projectId": desk.project, "name": "a.py" });
    desk.host.call("delete_file", &delete);
    let second = sync(&json!(files), &first["base"]);
    assert_eq!(second["delete"][0]["path"], "a.py", "{second}");
    assert_eq!(second["delete"][0]["expected"], first["base"]["a.py"]);
    assert_eq!(second["write"], json!([]));
    // Without the base, the same file is new.
    let third = sync(&json!(files), &Value::Null);
    assert_eq!(steps(&third), ["project create a.py"], "{third}");
}

#[test]
fn nothing_is_synced_with_a_project_or_a_folder_that_is_not_granted() {
    let desk = Desk::new();
    let other = created(&desk.host, "Prod/other");
    desk.write("a.py", "a = 1\n");
    desk.cloud.emulator().clear_requests();
    let input = json!({ "project": other, "folder": "algorithms" });
    let error = desk.refused("quantconnect.sync", &input);
    assert!(
        error.contains("Prod/other") || error.contains("not the project"),
        "{error}"
    );
    let input = json!({ "project": "Lab/desk", "folder": "elsewhere" });
    let error = desk.refused("quantconnect.sync", &input);
    assert!(error.contains("grants: algorithms"), "{error}");
    assert!(desk.cloud.requests_to("/files/create").is_empty());

    // The twin for reading alone gives, and takes nothing.
    let desk = Desk::changed(|manifest| manifest.replace("\"read-write\"", "\"read\""));
    desk.write("a.py", "a = 1\n");
    let input = json!({ "project": "Lab/desk", "folder": "algorithms", "direction": "pull" });
    let error = desk.refused("quantconnect.sync", &input);
    assert!(error.contains("for reading only"), "{error}");
    assert_eq!(desk.read("main.py"), None);
    desk.sync(json!({ "direction": "push" }));
    assert_eq!(desk.remote("a.py").as_deref(), Some("a = 1\n"));
}

#[test]
fn a_deletion_that_is_not_granted_ends_the_sync_and_deletes_nothing() {
    let desk = Desk::changed(|manifest| {
        let without = manifest.replace("    \"files/delete-file\",\n", "");
        assert_ne!(without, manifest);
        without
    });
    desk.write("a.py", "a = 1\n");
    desk.sync(json!({}));
    std::fs::remove_file(desk.local.path().join("a.py")).unwrap();
    let input = json!({ "project": "Lab/desk", "folder": "algorithms" });
    let error = desk.refused("quantconnect.sync", &input);
    assert!(error.contains("files/delete-file"), "{error}");
    assert_eq!(desk.remote("a.py").as_deref(), Some("a = 1\n"));
    assert!(desk.cloud.requests_to("/files/delete").is_empty());
}

#[test]
fn a_backtest_is_run_and_read_and_only_in_granted_projects() {
    let desk = Desk::new();
    desk.edit("main.py", ALGORITHM);
    let run = json!({ "project": "Lab/desk", "name": "first", "parameters": { "fast": 10 } });
    let outcome = desk.host.invoke("quantconnect.run", &run);
    assert_eq!(outcome["state"], "completed", "{outcome}");
    assert_eq!(outcome["next"], Value::Null);
    let statistics = outcome["statistics"].as_array().unwrap();
    let drawdown = statistics
        .iter()
        .find(|it| it["name"] == "Drawdown")
        .unwrap();
    assert!(
        drawdown["text"].as_str().unwrap().ends_with('%'),
        "{drawdown}"
    );
    assert!(drawdown["value"].as_f64().unwrap() < 1.0, "{drawdown}");

    let status = json!({ "project": "Lab/desk", "backtest": outcome["backtest-id"] });
    let read = desk.host.invoke("quantconnect.status", &status);
    assert_eq!(read["statistics"], outcome["statistics"]);
    assert_eq!(
        (&read["error"], &read["no-logs"]),
        (&Value::Null, &Value::Null),
        "{read}"
    );

    let other = created(&desk.host, "Prod/other");
    let error = desk.refused("quantconnect.run", &json!({ "project": other }));
    assert!(
        error.contains("Prod/other") || error.contains("not the project"),
        "{error}"
    );
    let error = desk.refused("quantconnect.status", &json!({ "project": other }));
    assert!(
        error.contains("Prod/other") || error.contains("not the project"),
        "{error}"
    );
    assert_eq!(desk.cloud.created_backtests(), ["first"]);
}

#[test]
fn the_backtest_that_is_running_is_found_and_none_of_several_is_picked() {
    let slow = Timing {
        backtest: Duration::from_secs(600),
        ..Timing::default().faster(10)
    };
    let cloud = Cloud::with(|builder| builder.timing(slow));
    let host = Folder::embedded(cloud.url());
    let local = TempDir::new().unwrap();
    host.manifest("quantconnect", &granting(&bundled(PLUGIN), local.path()));
    let project = created(&host, "Lab/slow");
    let error = |input: &Value| {
        let ran = host.run(&[
            "--json",
            "invoke",
            "quantconnect.status",
            &input.to_string(),
        ]);
        ran.json_error()
    };
    let query = json!({ "project": project, "logs": 0 });
    assert!(error(&query).contains("the project has no backtest"));
    let compile = host.compile(&project);
    let start = |name: &str| {
        let backtest = json!({ "projectId": project, "compileId": compile, "backtestName": name });
        let backtest = host.call("create_backtest", &backtest);
        backtest["backtest"]["backtestId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = start("first");
    let found = wait_until("it runs", || {
        let status = host.invoke("quantconnect.status", &query);
        (status["state"] == "running").then_some(status)
    });
    assert_eq!(found["backtest-id"], first.as_str());
    let second = start("second");
    let several = error(&query);
    assert!(several.contains("several"), "{several}");
    assert!(
        several.contains(&first) && several.contains(&second),
        "{several}"
    );
}

#[test]
fn a_failure_has_its_own_words_and_an_explanation_or_why_there_is_none() {
    let desk = Desk::new();
    let failed = || desk.refused("quantconnect.run", &json!({ "project": "Lab/desk" }));
    desk.edit("main.py", "def broken(:\n");
    let error = failed();
    assert!(
        error.contains("does not compile") && error.contains("Build Error:"),
        "{error}"
    );
    assert!(error.contains("QuantConnect explains: "), "{error}");
    desk.edit("main.py", FAILING);
    let error = failed();
    assert!(error.contains("division by zero"), "{error}");
    assert!(error.contains("QuantConnect explains: "), "{error}");

    // A guardrail forbids the explanation: the failure is told without it, and nothing is sent to explain it.
    let forbid = "@id(\"no-assistants\")\nforbid (principal, action == Action::\"ai/enhance-error-message\", resource);\n";
    std::fs::write(
        desk.host.path().join("policies/no-assistants.cedar"),
        forbid,
    )
    .unwrap();
    desk.cloud.emulator().clear_requests();
    let error = failed();
    assert!(error.contains("division by zero"), "{error}");
    assert!(error.contains("without an explanation: denied"), "{error}");
    assert!(desk.cloud.requests_to("/ai/tools/error-enhance").is_empty());
}

/// Uses everything that the bundled manifest grants.
fn tour(cloud: &Cloud, manifest: &str) -> Result<(), String> {
    static PROJECTS: AtomicU32 = AtomicU32::new(0);
    let name = format!("Lab/tour-{}", PROJECTS.fetch_add(1, Ordering::Relaxed));
    let host = Folder::embedded(cloud.url());
    let local = TempDir::new().unwrap();
    host.manifest("quantconnect", &granting(manifest, local.path()));
    let project = created(&host, &name);
    let write =
        |path: &str, content: &str| std::fs::write(local.path().join(path), content).unwrap();
    let sync = |project: &Value| {
        let input = json!({ "project": project, "folder": "algorithms" }).to_string();
        let report = step(&host, &["invoke", "quantconnect.project.sync", &input])?;
        check(report["in-step"] == true, report)
    };
    // Files of the project are written into the folder.
    sync(&project)?;
    let large = format!(
        "{ALGORITHM}{}",
        "# a line that makes it large\n".repeat(300)
    );
    write("main.py", &large);
    write("old.py", "old = 1\n");
    write("gone.py", "gone = 1\n");
    sync(&json!(name))?;
    // A small change of a large file, a new name, and a deletion.
    write("main.py", &large.replace("100_000", "200_000"));
    std::fs::rename(local.path().join("old.py"), local.path().join("new.py")).unwrap();
    std::fs::remove_file(local.path().join("gone.py")).unwrap();
    sync(&project)?;

    let on = json!({ "project": project }).to_string();
    let outcome = step(&host, &["invoke", "quantconnect.backtest.run", &on])?;
    check(outcome["state"] == "completed", &outcome)?;
    let query = json!({ "project": project, "backtest": outcome["backtest-id"] }).to_string();
    let status = step(&host, &["invoke", "quantconnect.backtest.status", &query])?;
    check(
        status["no-logs"].is_null() && status["state"] == "completed",
        &status,
    )?;
    let error = failing_step(&host, &["invoke", "quantconnect.backtest.status", &on])?;
    check(
        error.contains("no backtest of the project is running"),
        error,
    )?;

    write("main.py", FAILING);
    sync(&project)?;
    let error = failing_step(&host, &["invoke", "quantconnect.backtest.run", &on])?;
    check(error.contains("QuantConnect explains: "), error)
}

#[test]
fn every_line_of_the_manifest_is_needed() {
    let cloud = Cloud::start();
    assert_minimal(&bundled(PLUGIN), |manifest| tour(&cloud, manifest));
}

#[test]
fn the_component_is_small() {
    let size = component(PLUGIN).metadata().unwrap().len();
    assert!(size <= MAX_COMPONENT, "{size} bytes");
}
