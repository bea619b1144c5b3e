//! `qchost backup` and `qchost restore` copy everything or nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::categories::{folder, serving, with_cloud};
use crate::cloud::Cloud;
use crate::common::embedded;

#[test]
fn what_a_host_knew_is_there_after_it_was_restored_elsewhere() {
    let (cloud, first, host) = serving();
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
    // A folder holds one backup.
    assert!(
        first
            .run(&["backup", name])
            .error()
            .contains("is not empty")
    );
    host.end();

    // Existing files are not overwritten.
    let ran = first.run(&["restore", name]);
    assert!(ran.error().contains("is not empty"), "{ran:?}");

    let second = folder(&embedded(cloud.url()));
    fs::remove_dir_all(second.path().join("data")).unwrap();
    let restored = second.run(&["--json", "restore", name]).json();
    assert_eq!(restored["records"], made["records"], "{restored}");
    second.run(&["audit", "verify"]).good();
    // The texts that decisions were based on are included.
    let texts = |folder: &std::path::Path| {
        let entries = fs::read_dir(folder.join("data/texts")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert!(texts(first.path()).len() >= 3);
    assert_eq!(texts(second.path()), texts(first.path()));
    // The halt is in force as before, with its reason.
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
    let (_cloud, place) = with_cloud();
    place.run(&["plugin", "list"]).good();
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
    // A list that matches the changed files needs a signature. A writer who can also read the key is tested
    // below.
    let (list, database) = (backup.join("backup.json"), backup.join("state.db"));
    let (good_list, good_database) = (fs::read(&list).unwrap(), fs::read(&database).unwrap());
    fs::write(&database, [&good_database[..], &[0]].concat()).unwrap();
    let mut forged: serde_json::Value = serde_json::from_slice(&good_list).unwrap();
    forged["files"]["state.db"] = hash(&fs::read(&database).unwrap()).into();
    fs::write(&list, forged.to_string()).unwrap();
    let ran = restore();
    assert!(
        ran.error().contains("changed since the backup was taken"),
        "{ran:?}"
    );
    fs::write(&list, good_list).unwrap();
    fs::write(&database, good_database).unwrap();
    // Reading a pipe would never end.
    for name in ["backup.json", "state.db"] {
        let file = backup.join(name);
        let kept = backup.join("kept");
        fs::rename(&file, place.path().join("kept")).unwrap();
        let status = std::process::Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap();
        assert!(status.success());
        let ran = restore();
        assert!(
            ran.error().contains("is no regular file"),
            "{name}: {ran:?}"
        );
        assert!(!kept.exists() && !data.join("state.db").exists());
        fs::rename(place.path().join("kept"), &file).unwrap();
    }
    // The twin: unchanged, it is restored.
    restore().good();
    for file in ["state.db", "host.key", "audit"] {
        assert!(data.join(file).exists(), "{file}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

/// Makes a list that matches the present files of a backup, and signs it with the key in the backup.
pub fn sign_again(backup: &Path) {
    let path = backup.join("backup.json");
    let mut list: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, kept) in list["files"].as_object_mut().unwrap() {
        *kept = hash(&fs::read(backup.join(name)).unwrap()).into();
    }
    let fields = ["version", "taken", "by", "files"];
    let unsigned: Value = fields
        .iter()
        .map(|name| ((*name).to_owned(), list[name].clone()))
        .collect();
    let key = fs::read(backup.join("host.key")).unwrap();
    let key = mac(&key, b"qchost backup 1");
    list["signature"] = hex(&mac(&key, unsigned.to_string().as_bytes())).into();
    fs::write(&path, list.to_string()).unwrap();
}

#[test]
fn a_backup_that_was_signed_again_is_found_by_what_was_printed() {
    let (_cloud, place) = with_cloud();
    place.run(&["plugin", "list"]).good();
    let (one, two) = (place.path().join("one"), place.path().join("two"));
    let made = |backup: &Path| {
        let made = place.run(&["--json", "backup", backup.to_str().unwrap()]);
        let made = made.json();
        let word = |name: &str| made[name].as_str().unwrap().to_owned();
        (word("key"), word("digest"))
    };
    let (key, digest) = made(&one);
    let (same_key, other_digest) = made(&two);
    assert_eq!(same_key, key);
    assert_ne!(other_digest, digest);
    let data = place.path().join("elsewhere");
    let restore = |backup: &Path, options: &[&str]| {
        let (backup, data) = (backup.to_str().unwrap(), data.to_str().unwrap());
        place.run(&[&["restore", backup, "--data", data], options].concat())
    };
    let refused = |backup: &Path, options: &[&str], words: &str| {
        let ran = restore(backup, options);
        assert!(ran.error().contains(words), "{ran:?}");
        assert!(ran.stderr.contains("nothing was restored"), "{ran:?}");
        assert!(!data.join("state.db").exists());
    };
    // Another backup of the same host.
    refused(&two, &["--digest", &digest], "another backup");
    // Changed by a reader of the key, who can sign.
    let forge = "INSERT INTO state VALUES ('lab', 'forged', 1, x'00')";
    let database = || rusqlite::Connection::open(one.join("state.db")).unwrap();
    database().execute(forge, []).unwrap();
    sign_again(&one);
    refused(&one, &["--digest", &digest], "changed since it was taken");
    let ran = restore(&one, &["--key", &key]);
    assert!(ran.good().stdout.contains("not checked"), "{ran:?}");
    fs::remove_dir_all(&data).unwrap();
    // Signed with another key by a writer who cannot read the host's.
    fs::write(one.join("host.key"), [9; 32]).unwrap();
    sign_again(&one);
    refused(&one, &["--key", &key], "signed with another key");
    // The twin: the original backup.
    let ran = restore(&two, &["--key", &key, "--digest", &other_digest]);
    assert!(!ran.good().stdout.contains("not checked"), "{ran:?}");
}

/// Copies a folder unchanged.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn an_older_record_in_the_place_of_the_record_is_found() {
    let (_cloud, place) = with_cloud();
    let prepared = place.invoke("every-category.prepare", &json!({}));
    let (data, older) = (place.path().join("data"), place.path().join("older"));
    copy(&data.join("audit"), &older);
    // The grant has no budget, so that the ledger knows only the head.
    place
        .run(&["invoke", "every-category.slow-write", &prepared.to_string()])
        .good();
    place.run(&["audit", "verify"]).good();
    fs::remove_dir_all(data.join("audit")).unwrap();
    copy(&older, &data.join("audit"));
    let ran = place.run(&["audit", "verify"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(
        ran.stdout.contains("an older record was put in its place"),
        "{ran:?}"
    );
    let ran = place.run(&["plugin", "list"]);
    assert!(ran.error().contains("cannot be opened"), "{ran:?}");
    // Halting is still possible, and explains why it uses the file.
    let ran = place.run(&["halt"]);
    assert!(ran.good().stderr.contains("cannot be opened"), "{ran:?}");
    assert!(data.join("halt").exists());
}

#[test]
fn a_database_of_another_data_folder_is_refused() {
    let cloud = Cloud::start();
    let (one, other) = (
        folder(&embedded(cloud.url())),
        folder(&embedded(cloud.url())),
    );
    // The folders of tests share one key, so that they can share compiled components.
    fs::write(other.path().join("data/host.key"), [8; 32]).unwrap();
    for place in [&one, &other] {
        place.run(&["plugin", "list"]).good();
    }
    let (ours, theirs) = (one.path().join("data"), other.path().join("data"));
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        fs::remove_file(ours.join(name)).ok();
        if theirs.join(name).exists() {
            fs::copy(theirs.join(name), ours.join(name)).unwrap();
        }
    }
    let ran = one.run(&["plugin", "list"]);
    assert!(ran.error().contains("another host.key"), "{ran:?}");
    let ran = one.run(&["halt"]);
    assert!(ran.good().stderr.contains("another host.key"), "{ran:?}");
    assert!(ours.join("halt").exists());
}
