//! Data folders of other versions: one of the version before is opened, one of a newer version is refused as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::categories::serving;
use crate::common::{BINARY, Folder, component, repository};
use crate::guests::counter;
use crate::process::Process;
use crate::running::{Running, plugin, replace};

/// The files of a folder with their contents and times.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(current).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let modified = entry.metadata().unwrap().modified().unwrap();
                found.insert(path.clone(), (fs::read(&path).unwrap(), modified));
            }
        }
    }
    found
}

/// Every verb that opens a data folder without a host. Halting is tested by itself.
const OPENING: [&[&str]; 15] = [
    &["run"],
    &["plugin", "list"],
    &["plugin", "grants", "every-category"],
    &["invoke", "every-category.account"],
    &["call", "read_account"],
    &["approvals", "list"],
    &["resume"],
    &["halt", "--list"],
    &["audit", "query"],
    &["audit", "head"],
    &["audit", "tail"],
    &["audit", "verify"],
    &["audit", "export", "--format", "jsonl"],
    &["audit", "reconcile"],
    &["backup", "copied"],
];

#[test]
fn a_data_folder_of_a_newer_version_is_refused_by_every_verb_and_not_changed() {
    let (_cloud, folder, host) = serving();
    folder.invoke("every-category.prepare", &json!({}));
    host.end();
    let data = folder.path().join("data");
    let set_layout = |layout: i64| {
        let database = rusqlite::Connection::open(data.join("state.db")).unwrap();
        let known = database
            .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
            .unwrap();
        database
            .pragma_update(None, "user_version", layout)
            .unwrap();
        known
    };
    let known = set_layout(999);
    let before = contents(&data);
    let says = |text: &str| {
        for part in [
            "has layout 999",
            &format!("knows layouts up to {known}"),
            "nothing was changed",
            "or a newer one",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    for verb in OPENING {
        let ran = folder.run(verb);
        assert_eq!(ran.status.code(), Some(1), "{verb:?}: {ran:?}");
        says(ran.error());
        assert!(contents(&data) == before, "{verb:?}");
    }
    assert!(!folder.path().join("copied").exists());
    let ran = folder.run(&["--json", "doctor"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    says(&ran.stdout);
    assert!(contents(&data) == before);
    // A halt is always possible: by the file, which the newer host finds as well.
    let ran = folder.run(&["halt"]);
    says(&ran.good().stderr);
    assert!(data.join("halt").exists());
    fs::remove_file(data.join("halt")).unwrap();
    // The twin: of this version.
    set_layout(known);
    folder.run(&["audit", "verify"]).good();
    folder.run(&["call", "read_account"]).good();
}

#[test]
fn a_data_folder_of_the_version_before_is_opened_with_all_that_is_in_it() {
    let (cloud, folder, host) = serving();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    folder.run(&["halt", "--reason", "for the upgrade"]).good();
    host.end();
    let data = folder.path().join("data");
    let records = folder.run(&["--json", "audit", "verify"]).json()["records"].clone();
    let texts = fs::read_dir(data.join("texts")).unwrap().count();
    // What the newest migrations of its time had not made yet.
    rusqlite::Connection::open(data.join("state.db"))
        .unwrap()
        .execute_batch(
            "ALTER TABLE in_force DROP COLUMN taken_away; DROP TABLE deployed; DROP TABLE live_profiles; DROP TABLE identities;
             DROP TABLE licensed_state; DROP TABLE trials; DROP TABLE trial_projects; DROP TABLE trial_sources;
             PRAGMA user_version = 80;",
        )
        .unwrap();
    // The record is read as it is, and the first start brings the database up to date.
    let verified = folder.run(&["--json", "audit", "verify"]).json();
    assert_eq!(verified["records"], records);
    let host = folder.serve(&["run"]);
    let ran = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert!(ran.error().contains("for the upgrade"), "{ran:?}");
    folder.run(&["resume"]).good();
    folder
        .run(&["invoke", "every-category.slow-write", &prepared.to_string()])
        .good();
    assert_eq!(cloud.created_backtests(), ["slow write"]);
    host.end();
    folder.run(&["audit", "verify"]).good();
    assert!(fs::read_dir(data.join("texts")).unwrap().count() >= texts);
}

/// The blocks of a section of the guide that are for a shell.
fn blocks(section: &str) -> Vec<String> {
    let guide = fs::read_to_string(repository("host/OPERATING.md")).unwrap();
    let (_, after) = guide.split_once(&format!("\n## {section}\n")).unwrap();
    let (within, _) = after.split_once("\n## ").unwrap();
    let parts = within.split("```sh\n").skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn an_upgrade_and_the_way_back_work_as_they_are_printed() {
    let folder = Folder::new("");
    let here = folder.path().display();
    folder.run(&["init", "desk"]).good();
    let desk = folder.path().join("desk");
    fs::copy(
        component("plugins/strategy-lab"),
        desk.join("plugins/strategy_lab.wasm"),
    )
    .unwrap();
    let programs = folder.path().join("bin");
    fs::create_dir(&programs).unwrap();
    fs::copy(BINARY, programs.join("qchost")).unwrap();
    let blocks = blocks("Upgrade and roll back");
    let [upgrade, back] = blocks.as_slice() else {
        panic!("{blocks:#?}");
    };
    // The host is stopped at the end, and a halt of each version shows which data it has.
    let script = format!(
        "set -e
        exec > \"$HOME/printed\"
        qchost run &
        qchost reload
        qchost halt --reason before
        {upgrade}
        qchost resume
        qchost halt --reason after
        {back}
        qchost halt --list > \"$HOME/listed\"
        kill \"$(cat ~/.local/state/qchost/host.lock)\"
        wait"
    );
    let script = script
        .replace("/usr/local/bin", &format!("{here}/bin"))
        .replace("/srv/backups", &format!("{here}/backups"))
        .replace("target/release/qchost", BINARY)
        .replace(
            "sha256:…",
            "\"$(sed -n 's/^digest: //p' \"$HOME/printed\")\"",
        );
    let mut path = std::ffi::OsString::from(&programs);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .current_dir(&desk)
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"));
    let ran = Process::start(command, folder.path()).wait_for(Duration::from_secs(300));
    ran.good();
    let listed = fs::read_to_string(folder.path().join("listed")).unwrap();
    assert!(
        listed.contains("before") && !listed.contains("after"),
        "{listed}"
    );
    assert!(folder.path().join(".local/state/qchost.newer").exists());
}

#[test]
fn a_plugin_is_upgraded_and_rolled_back_with_its_state() {
    let older = counter();
    // A section that says which build it is.
    let newer = [&older[..], b"\0\x06\x05newer"].concat();
    let running = Running::start("", |folder| plugin(folder, "counter", &older, ""));
    running.is_version("counter", 1);
    let file = running.path("builds/counter.wasm");
    let digest = || {
        let report = running.folder.run(&["--json", "plugin", "list"]).json();
        report[0]["digest"].clone()
    };
    let first = digest();
    replace(&file, &newer);
    running.reload().good();
    assert_ne!(digest(), first);
    running.is_version("counter", 2);
    replace(&file, &older);
    running.reload().good();
    assert_eq!(digest(), first);
    running.is_version("counter", 3);
    running.end();
}
