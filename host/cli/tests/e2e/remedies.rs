//! Messages that name a command: pasted as it is printed, it works.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::categories::{serving, with_cloud};
use crate::cloud::Cloud;
use crate::common::{Folder, TOKEN, USER, component, private_file, unpinned};
use crate::exit_statuses::{SITUATIONS, Situation, grant};
use crate::printed::shell;
use crate::process::{Process, Ran};

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

/// The fix of a check of `doctor`, if that fails.
fn fix(folder: &Folder, what: &str) -> Option<String> {
    let ran = without_credentials(folder, &["--json", "doctor"]);
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let mut failed = checks.as_array().unwrap().iter();
    let found = failed.find(|check| check["what"] == what && check["mark"] == "failed");
    found.map(|check| check["fix"].as_str().unwrap().to_owned())
}

/// Runs the host without the credentials in its environment, which it would take before those of a file.
fn without_credentials(folder: &Folder, arguments: &[&str]) -> Ran {
    let mut command = folder.command(arguments);
    command
        .env_remove("QUANTCONNECT_USER_ID")
        .env_remove("QUANTCONNECT_API_TOKEN");
    Process::start(command, folder.path()).wait()
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
fn a_configuration_that_is_wrong_is_corrected_by_one_beside_it() {
    let folder = Folder::new("modus = 1\n");
    let fix = fix(&folder, "configuration").unwrap();
    let within = folder.path();
    follow(&folder, within, &fix, &["qchost init example"]);
    assert!(within.join("example/qchost.toml").is_file());
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
    let folder = unpinned();
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
fn what_others_can_open_is_closed_by_the_fix_that_doctor_prints() {
    let cloud = Cloud::start();
    let folder = Folder::new(&format!(
        "[account.research]\nconnection = \"embedded\"\ncloud = \"{}\"\ncredentials-file = \"token.json\"\n",
        cloud.url()
    ));
    let credentials = json!({ "user-id": USER, "api-token": TOKEN }).to_string();
    private_file(&folder.path().join("token.json"), credentials);
    let call = ["call", "read_account"];
    without_credentials(&folder, &call).good();
    for (file, mode, what) in [
        ("data", 0o755, "data folder"),
        ("data/host.key", 0o644, "host key"),
        ("token.json", 0o644, "account research"),
    ] {
        let path = folder.path().join(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let printed = fix(&folder, what).unwrap_or_else(|| panic!("{what} has no fix"));
        // What follows is a sentence for people.
        let command = printed.split(';').next().unwrap();
        assert!(
            command.starts_with("chmod ") && command.ends_with(file),
            "{printed}"
        );
        let ran = without_credentials(&folder, &call);
        assert!(ran.error().contains(command), "{ran:?}");
        shell(&folder, folder.path(), command).wait().good();
        assert_eq!(fix(&folder, what), None);
        without_credentials(&folder, &call).good();
    }
}

#[test]
fn a_host_that_lost_its_key_or_its_state_is_brought_back_by_the_command_that_it_names() {
    let (_cloud, folder) = with_cloud();
    folder.invoke("every-category.prepare", &json!({}));
    let backup = folder.path().join("backup");
    let backup = backup.to_str().unwrap();
    let made = folder.run(&["--json", "backup", backup]).json();
    let digest = made["digest"].as_str().unwrap();
    let data = folder.path().join("data");
    for lost in ["host.key", "state.db"] {
        for file in [
            lost.to_owned(),
            format!("{lost}-wal"),
            format!("{lost}-shm"),
        ] {
            drop(std::fs::remove_file(data.join(file)));
        }
        if lost == "state.db" {
            private_file(&data.join(lost), "this is no database. ".repeat(1_000));
        }
        let ran = folder.run(&["call", "read_account"]);
        let named = commands(ran.error());
        assert_eq!(named, ["qchost restore BACKUP --digest DIGEST"], "{ran:?}");
        let restore = named[0].replace("BACKUP", backup).replace("DIGEST", digest);
        // It takes nothing away.
        let ran = shell(&folder, folder.path(), &restore).wait();
        assert!(ran.error().contains("move what is there away"), "{ran:?}");
        std::fs::rename(&data, folder.path().join(format!("without-{lost}"))).unwrap();
        shell(&folder, folder.path(), &restore).wait().good();
        folder.run(&["audit", "verify"]).good();
    }
}

#[test]
fn an_emulator_whose_data_is_newer_begins_afresh_by_the_command_that_is_named() {
    let folder = Folder::embedded("emulator");
    let call = ["call", "read_account"];
    folder.run(&call).good();
    let file = folder.path().join("data/emulator/research.db");
    for by_doctor in [false, true] {
        let database = rusqlite::Connection::open(&file).unwrap();
        database.pragma_update(None, "user_version", 9999).unwrap();
        drop(database);
        let message = match by_doctor {
            false => folder.run(&call).error().to_owned(),
            true => fix(&folder, "account research: data").unwrap(),
        };
        let reset = "qchost emulator reset --account research".to_owned();
        assert!(commands(&message).contains(&reset), "{message}");
        shell(&folder, folder.path(), &reset).wait().good();
        folder.run(&call).good();
    }
    assert_eq!(fix(&folder, "account research: data"), None);
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
    let shows = |hint: &String| hint.starts_with("qchost approvals show ap-");
    assert!(hints.iter().any(shows), "{hints:?}");
}
