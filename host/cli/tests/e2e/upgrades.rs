//! Data folders of other versions: one of the version before is opened, one of a newer version is refused as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;

use crate::categories::serving;

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
    &["audit", "export"],
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
        .execute_batch("ALTER TABLE in_force DROP COLUMN taken_away; PRAGMA user_version = 80;")
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
