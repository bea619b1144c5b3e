//! `qchost backup` and `qchost restore`: all of it or nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::categories::folder;
use crate::cloud::Cloud;
use crate::common::embedded;

#[test]
fn what_a_host_knew_is_there_after_it_was_restored_elsewhere() {
    let cloud = Cloud::start();
    let first = folder(&embedded(cloud.url()));
    let host = first.serve(&["run"]);
    let prepared = first.invoke("every-category.prepare", &json!({}));
    first.run(&["halt", "--reason", "for the night"]).good();
    let backup = first.path().join("backup");
    let name = backup.to_str().unwrap();
    let made = first.run(&["--json", "backup", name]).json();
    assert!(made["records"].as_u64().unwrap() > 0, "{made}");
    assert_eq!(
        fs::metadata(&backup).unwrap().permissions().mode() & 0o077,
        0
    );
    // A folder is one backup's.
    assert!(
        first
            .run(&["backup", name])
            .error()
            .contains("is not empty")
    );
    host.terminate();
    host.wait().good();

    // Not over what is there.
    let ran = first.run(&["restore", name]);
    assert!(ran.error().contains("is not empty"), "{ran:?}");

    let second = folder(&embedded(cloud.url()));
    fs::remove_dir_all(second.path().join("data")).unwrap();
    let restored = second.run(&["--json", "restore", name]).json();
    assert_eq!(restored["records"], made["records"], "{restored}");
    second.run(&["audit", "verify"]).good();
    // The texts that decided are part of it.
    let texts = |folder: &std::path::Path| {
        let entries = fs::read_dir(folder.join("data/texts")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert!(texts(first.path()).len() >= 3);
    assert_eq!(texts(second.path()), texts(first.path()));
    // It is halted as it was, and knows why.
    let ran = second.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert!(ran.error().contains("for the night"), "{ran:?}");
    assert_eq!(cloud.created_backtests(), Vec::<String>::new());
    second.run(&["resume"]).good();
    second
        .run(&["invoke", "every-category.slow-write", &prepared.to_string()])
        .good();
    assert_eq!(cloud.created_backtests(), ["slow write"]);
}

#[test]
fn a_backup_that_is_not_whole_is_not_restored() {
    let cloud = Cloud::start();
    let place = folder(&embedded(cloud.url()));
    place.run(&["halt"]).good();
    let backup = place.path().join("backup");
    let name = backup.to_str().unwrap();
    place.run(&["backup", name]).good();
    let data = place.path().join("elsewhere");
    let restore = || place.run(&["restore", name, "--data", data.to_str().unwrap()]);
    let audit = fs::read_dir(backup.join("audit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .unwrap();
    for file in [
        backup.join("state.db"),
        audit,
        backup.join("host.key"),
        backup.join("backup.json"),
    ] {
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        for altered in [Some(bad), Some(good[..middle].to_vec()), None] {
            match altered {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let ran = restore();
            assert_eq!(ran.status.code(), Some(1), "{}: {ran:?}", file.display());
            assert!(!data.join("state.db").exists() && !data.join("audit").exists());
        }
        fs::write(&file, good).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    // The twin: as it was, it is restored.
    restore().good();
    for file in ["state.db", "host.key", "audit"] {
        assert!(data.join(file).exists(), "{file}");
    }
}
