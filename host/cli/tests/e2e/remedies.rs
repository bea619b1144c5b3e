//! Messages that name a command: pasted as it is printed, it works.

use std::path::Path;

use serde_json::{Value, json};

use crate::categories::{serving, with_cloud};
use crate::common::{Folder, component, embedded, strategy_lab};
use crate::exit_statuses::{SITUATIONS, Situation, grant};
use crate::printed::shell;
use crate::process::Ran;

/// The commands in a message, each up to where its sentence goes on.
fn commands(message: &str) -> Vec<String> {
    let found = message.match_indices("qchost ").map(|(at, _)| {
        let rest = &message[at..];
        let ends = ["`", ";", ",", ")", ": ", "\n"].map(|end| rest.find(end));
        let end = ends.into_iter().flatten().min().unwrap_or(rest.len());
        rest[..end].trim_end().to_owned()
    });
    found.collect()
}

/// Runs the commands that a message names, which are these, and returns what the last one printed.
fn follow(folder: &Folder, within: &Path, message: &str, expected: &[&str]) -> Ran {
    assert_eq!(commands(message), expected, "{message}");
    let mut last = None;
    for command in expected {
        let ran = shell(folder, within, command).wait();
        assert!(ran.status.success(), "{command}: {ran:?}");
        last = Some(ran);
    }
    last.unwrap()
}

fn write(folder: &Folder, prepared: &Value) -> Ran {
    folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()])
}

#[test]
fn where_no_configuration_is_one_is_written() {
    let folder = Folder::new("");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let ran = shell(&folder, &empty, "qchost run").wait();
    follow(&folder, &empty, ran.error(), &["qchost init"]);
    assert!(empty.join("qchost.toml").is_file());
}

#[test]
fn what_there_is_not_is_found_by_a_list() {
    let (_cloud, folder, host) = serving();
    let cases: [(&[&str], &str); 6] = [
        (&["invoke", "nothing.act"], "qchost plugin list"),
        (&["invoke", "every-category"], "qchost plugin list"),
        (&["plugin", "grants", "nothing"], "qchost plugin list"),
        (
            &["approvals", "show", "ap-nothing123"],
            "qchost approvals list --all",
        ),
        (
            &["audit", "why", "19ad3b7c2f1-17"],
            "qchost audit query --json --limit 20",
        ),
        (
            &["audit", "reconcile", "--accept", "19c3f2-17"],
            "qchost audit reconcile",
        ),
    ];
    for (arguments, expected) in cases {
        let ran = folder.run(arguments);
        follow(&folder, folder.path(), ran.error(), &[expected]);
    }
    host.end();
}

#[test]
fn a_folder_without_manifests_is_named() {
    let folder = Folder::embedded("emulator");
    let ran = folder.run(&["policy", "explain", "nothing", "projects/list-projects"]);
    let error = ran.error();
    assert!(error.contains("there are: none, in plugins"), "{error}");
}

#[test]
fn a_halt_is_listed_and_ended() {
    let (_cloud, folder) = with_cloud();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    folder.run(&["halt", "--reason", "a drill"]).good();
    let ran = write(&folder, &prepared);
    let expected = ["qchost halt --list", "qchost resume"];
    follow(&folder, folder.path(), ran.error(), &expected);
    write(&folder, &prepared).good();
}

#[test]
fn an_approval_is_shown_and_given() {
    let (_cloud, folder) = with_cloud();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    grant(&folder, "approval = \"operator\"");
    let host = folder.serve(&["run"]);
    let ran = write(&folder, &prepared);
    let named = commands(ran.error());
    let [show] = &named[..] else {
        panic!("{named:?}")
    };
    let id = show.strip_prefix("qchost approvals show ").unwrap();
    let shown = follow(&folder, folder.path(), ran.error(), &[show.as_str()]);
    let approve = format!("qchost approvals approve {id}");
    let lines = shown.stdout.lines();
    let printed: Vec<&str> = lines.filter(|line| line.starts_with("qchost ")).collect();
    assert_eq!(printed[0], approve, "{shown:?}");
    follow(&folder, folder.path(), printed[0], &[approve.as_str()]);
    write(&folder, &prepared).good();
    host.end();
}

#[test]
fn a_digest_that_production_asks_for_is_shown() {
    let me = rustix::process::geteuid().as_raw();
    let folder = Folder::new(&format!(
        "mode = \"production\"\npeople.me = {{ uid = {me}, roles = [\"operator\"] }}\n{}",
        embedded("emulator")
    ));
    let trade = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";
    folder.manifest("strategy-lab", &format!("{}\n{trade}", strategy_lab()));
    let ran = folder.run(&["invoke", "strategy-lab.compile", "{\"source\": \"x = 1\"}"]);
    let file = component("plugins/strategy-lab");
    let inspect = format!("qchost plugin inspect {}", file.display());
    let shown = follow(&folder, folder.path(), ran.error(), &[inspect.as_str()]);
    assert!(shown.stdout.contains("sha256:"), "{shown:?}");
}

#[test]
fn a_backup_is_brought_back_by_the_line_that_it_printed() {
    let (_cloud, folder) = with_cloud();
    folder.invoke("every-category.prepare", &json!({}));
    let backup = folder.path().join("backup");
    let made = folder.run(&["backup", backup.to_str().unwrap()]);
    let printed = commands(&made.good().stdout);
    let [restore] = &printed[..] else {
        panic!("{made:?}")
    };
    // The machine is a new one.
    let data = folder.path().join("data");
    std::fs::rename(&data, folder.path().join("lost")).unwrap();
    let ran = shell(&folder, folder.path(), restore).wait();
    assert!(ran.good().stdout.contains("restored to"), "{ran:?}");
    assert!(data.join("host.key").is_file());
    folder.run(&["audit", "verify"]).good();
}

#[test]
fn the_hint_of_every_failure_works() {
    let mut hints = Vec::new();
    for Situation { name, make, status } in &SITUATIONS {
        let (cloud, folder) = with_cloud();
        let prepared = folder.invoke("every-category.prepare", &json!({}));
        make(&cloud, &folder, &prepared);
        let input = prepared.to_string();
        let ran = folder.run(&["--json", "invoke", "every-category.slow-write", &input]);
        assert_eq!(ran.status.code(), Some(*status), "{name}: {ran:?}");
        let last = ran.stderr.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).unwrap_or_default();
        let Some(hint) = error["hint"].as_str() else {
            continue;
        };
        cloud.emulator().set_faults(Vec::new());
        let ran = shell(&folder, folder.path(), hint).wait();
        // What cannot be reached is one of the checks that fail.
        let expected = i32::from(hint == "qchost doctor");
        assert_eq!(ran.status.code(), Some(expected), "{name}: {hint}: {ran:?}");
        hints.push(hint.to_owned());
    }
    hints.sort();
    hints.dedup();
    assert!(hints.len() >= 5, "{hints:?}");
}
