//! Folders of the machine, as a plugin uses them through the real host.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::common::{Folder, component, embedded};

/// No server is called.
const CLOUD: &str = "http://127.0.0.1:9";

fn manifest(lines: &str) -> String {
    format!(
        "plugin = \"keeper\"\ncomponent = \"{}\"\naccount = \"research\"\n{lines}",
        component("host/cli/tests/plugins/keeper").display()
    )
}

fn granted(name: &str, path: &Path, mode: &str) -> String {
    format!(
        "[[folder]]\nname = \"{name}\"\npath = \"{}\"\nmode = \"{mode}\"\n",
        path.display()
    )
}

fn host(lines: &str) -> Folder {
    let folder = Folder::new(&embedded(CLOUD));
    folder.manifest("keeper", &manifest(lines));
    folder
}

fn note(folder: &str, path: &str, content: &str) -> String {
    json!({ "folder": folder, "path": path, "content": content, "new": true }).to_string()
}

#[test]
fn a_plugin_writes_where_its_manifest_says_and_the_record_has_no_content() {
    let (inputs, reports) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    std::fs::write(inputs.path().join("universe.csv"), "SPY").unwrap();
    let lines = granted("inputs", inputs.path(), "read")
        + &granted("reports", reports.path(), "read-write");
    let folder = host(&lines);
    assert_eq!(
        folder.invoke("keeper.granted", &json!({})),
        json!(["inputs", "reports*"])
    );
    let universe = json!({ "folder": "inputs", "path": "universe.csv" });
    assert_eq!(folder.invoke("keeper.read", &universe), "SPY");
    let missing = json!({ "folder": "inputs", "path": "other.csv" });
    assert_eq!(folder.invoke("keeper.read", &missing), json!(null));

    let report = note("reports", "2026/q1.txt", "a secret result");
    folder.run(&["invoke", "keeper.write", &report]).good();
    let written = reports.path().join("2026/q1.txt");
    assert_eq!(
        std::fs::read_to_string(&written).unwrap(),
        "a secret result"
    );
    let again = folder.run(&["invoke", "keeper.write", &report]);
    assert!(again.error().contains("exists already"), "{again:?}");
    let all = json!({ "folder": "reports", "path": "" });
    assert_eq!(folder.invoke("keeper.list", &all), json!(["2026/q1.txt"]));
    for path in ["../inputs/universe.csv", "/etc/passwd", "2026/../../x"] {
        let ran = folder.run(&["invoke", "keeper.write", &note("reports", path, "x")]);
        assert!(!ran.status.success(), "{path}: {ran:?}");
    }
    assert_eq!(std::fs::read_dir(inputs.path()).unwrap().count(), 1);

    let records = folder.run(&["--json", "audit", "query", "--plugin", "keeper"]);
    let records = records.good().stdout.clone();
    for part in [
        "folders/write-file",
        "folder:reports",
        "2026/q1.txt",
        "sha256:",
    ] {
        assert!(records.contains(part), "{part}: {records}");
    }
    assert!(!records.contains("a secret result"), "{records}");
    let place = json!({ "folder": "reports", "path": "2026/q1.txt" }).to_string();
    folder.run(&["invoke", "keeper.delete", &place]).good();
    assert_eq!(std::fs::read_dir(reports.path()).unwrap().count(), 0);
}

#[test]
fn a_plugin_without_a_folder_in_its_manifest_is_not_loaded() {
    let reports = TempDir::new().unwrap();
    let folder = host("");
    let report = note("example", "f", "x");
    let refused = folder.run(&["invoke", "keeper.write", &report]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let message = &refused.stderr;
    assert!(message.contains("[[folder]]"), "{message}");
    // The lines of the message, with a path and a mode.
    let lines = granted("example", reports.path(), "read-write");
    folder.manifest("keeper", &manifest(&lines));
    folder.run(&["invoke", "keeper.write", &report]).good();
    assert!(reports.path().join("f").is_file());
}

#[test]
fn nothing_is_changed_in_a_folder_that_is_granted_for_reading() {
    let reports = TempDir::new().unwrap();
    std::fs::write(reports.path().join("old"), "old").unwrap();
    let folder = host(&granted("reports", reports.path(), "read"));
    let place = json!({ "folder": "reports", "path": "old" });
    for (action, input) in [
        ("keeper.write", note("reports", "new", "x")),
        ("keeper.write", note("reports", "old", "x")),
        ("keeper.delete", place.to_string()),
    ] {
        let refused = folder.run(&["invoke", action, &input]);
        assert!(refused.error().contains("mode = \"read\""), "{refused:?}");
    }
    let names: Vec<_> = std::fs::read_dir(reports.path()).unwrap().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(folder.invoke("keeper.read", &place), "old");
}

#[test]
fn the_hosts_own_folders_and_homes_are_not_granted() {
    let free = TempDir::new().unwrap();
    let folder = host("");
    let data = folder.path().join("data");
    for (path, what) in [
        (data.as_path(), "the host's data folder"),
        (folder.path(), "cannot be granted"),
        (Path::new("/"), "the root of the file system"),
        (Path::new("/etc"), "a folder of the system"),
    ] {
        let lines = granted("reports", path, "read");
        let file = folder.manifest("keeper", &manifest(&lines));
        let ran = folder.run(&["validate", file.to_str().unwrap()]);
        let shown = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!ran.status.success(), "{ran:?}");
        assert!(shown.contains(what), "{what}: {shown}");
        let invoked = folder.run(&["invoke", "keeper.granted", "{}"]);
        assert!(!invoked.status.success(), "{invoked:?}");
    }
    let lines = granted("reports", free.path(), "read");
    let file = folder.manifest("keeper", &manifest(&lines));
    folder.run(&["validate", file.to_str().unwrap()]).good();
    assert_eq!(
        folder.invoke("keeper.granted", &json!({})),
        json!(["reports"])
    );
}

#[test]
fn a_halted_plugin_reads_its_folders_and_writes_nothing() {
    let reports = TempDir::new().unwrap();
    let folder = host(&granted("reports", reports.path(), "read-write"));
    let write = |path: &str| folder.run(&["invoke", "keeper.write", &note("reports", path, "x")]);
    write("before").good();
    folder.run(&["halt", "--plugin", "keeper"]).good();
    let refused = write("after");
    assert!(refused.error().contains("halted"), "{refused:?}");
    let all = json!({ "folder": "reports", "path": "" });
    assert_eq!(folder.invoke("keeper.list", &all), json!(["before"]));
    folder.run(&["resume", "--plugin", "keeper"]).good();
    write("after").good();
}

#[test]
fn a_folder_that_is_made_again_is_opened_by_a_reload() {
    let base = TempDir::new().unwrap();
    let (reports, former) = (base.path().join("reports"), base.path().join("former"));
    std::fs::create_dir(&reports).unwrap();
    let folder = host(&granted("reports", &reports, "read-write"));
    let running = folder.serve(&["run"]);
    let write = |path: &str| folder.run(&["invoke", "keeper.write", &note("reports", path, "x")]);
    write("before").good();
    std::fs::rename(&reports, &former).unwrap();
    assert!(!write("between").status.success());
    std::fs::create_dir(&reports).unwrap();
    // It says besides that the account is unreachable.
    let reloaded = folder.run(&["reload"]);
    assert_eq!(reloaded.status.code(), Some(1), "{reloaded:?}");
    write("after").good();
    assert!(reports.join("after").is_file());
    assert_eq!(std::fs::read_dir(&former).unwrap().count(), 1);
    running.end();
}
