//! `qchost backup` and `qchost restore` copy everything or nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use qchost_testing::can_change_user;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::categories::{EVERY, folder, serving, with_cloud};
use crate::cloud::Cloud;
use crate::common::{Folder, bundled, component, embedded};
use crate::policies::GUARDRAIL;
use crate::process::signal;
use crate::upgrades::contents;

/// The arguments that restore a backup to a data folder.
fn restore_to<'a>(backup: &'a Path, data: &'a Path, options: &[&'a str]) -> Vec<&'a str> {
    let (backup, data) = (backup.to_str().unwrap(), data.to_str().unwrap());
    [&["restore", backup, "--data", data][..], options].concat()
}

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
    // Nor is what a host uses to be moved away.
    let ran = first.run(&["--json", "restore", name]);
    let used = format!("the process {} uses it", host.id());
    assert!(ran.json_error().contains(&used), "{ran:?}");
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    host.end();

    // Existing files are not overwritten.
    let ran = first.run(&["restore", name]);
    assert!(ran.error().contains("is not empty"), "{ran:?}");

    let second = folder(&embedded(cloud.url()));
    fs::remove_dir_all(second.path().join("data")).unwrap();
    let key = made["key"].as_str().unwrap();
    let restored = second
        .run(&["--json", "restore", name, "--key", key])
        .json();
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
    let made = place.run(&["--json", "backup", name]).json();
    let key = made["key"].as_str().unwrap();
    let data = place.path().join("elsewhere");
    let restore = || place.run(&restore_to(&backup, &data, &["--key", key]));
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
    measure_again(&backup, &mut forged);
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

/// Makes the entries of a list match the present files.
fn measure_again(backup: &Path, list: &mut Value) {
    for file in list["files"].as_array_mut().unwrap() {
        let bytes = fs::read(backup.join(file["path"].as_str().unwrap())).unwrap();
        file["size"] = bytes.len().into();
        file["sha256"] = hash(&bytes).into();
    }
}

/// Makes a list that matches the present files of a backup, and signs it with the key of a data folder.
pub fn sign_again(backup: &Path, data: &Path) {
    sign_with(backup, &fs::read(data.join("backup.key")).unwrap());
}

fn sign_with(backup: &Path, seed: &[u8]) {
    let path = backup.join("backup.json");
    let mut list: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    measure_again(backup, &mut list);
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
    list["key"] = format!("ed25519:{}", hex(pair.public_key().as_ref())).into();
    list["signature"] = "".into();
    let signature = pair.sign(format!("qchost backup 3\n{list}").as_bytes());
    list["signature"] = hex(signature.as_ref()).into();
    fs::write(&path, list.to_string()).unwrap();
}

/// The key that a backup says it is signed with.
pub fn key_of(backup: &Path) -> String {
    let list = fs::read(backup.join("backup.json")).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    list["key"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_is_restored_only_by_what_was_printed_of_it() {
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
    let restore = |backup: &Path, options: &[&str]| place.run(&restore_to(backup, &data, options));
    let refused = |backup: &Path, options: &[&str], words: &str| {
        let ran = restore(backup, options);
        assert!(ran.error().contains(words), "{ran:?}");
        assert!(ran.stderr.contains("nothing was restored"), "{ran:?}");
        assert!(!data.exists());
    };
    // A key is not trusted because it is in the backup.
    refused(&one, &[], &format!("add --key {key}"));
    // Another backup of the same host.
    refused(&two, &["--digest", &digest], "another backup");
    // Changed by a reader of all of the backup, who has no key that the host had.
    let forge = "INSERT INTO state VALUES ('lab', 'forged', 1, x'00')";
    let database = || rusqlite::Connection::open(one.join("state.db")).unwrap();
    database().execute(forge, []).unwrap();
    for seed in [fs::read(one.join("host.key")).unwrap(), vec![9; 32]] {
        sign_with(&one, &seed);
        refused(&one, &["--key", &key], "signed with another key");
        refused(&one, &["--digest", &digest], "changed since it was taken");
        let other = key_of(&one);
        refused(&one, &[], &format!("add --key {other}"));
    }
    // Changed by a reader of the data folder, who can sign.
    sign_again(&one, &place.path().join("data"));
    refused(&one, &["--digest", &digest], "changed since it was taken");
    let ran = restore(&one, &["--key", &key]);
    assert!(ran.good().stdout.contains("not checked"), "{ran:?}");
    fs::remove_dir_all(&data).unwrap();
    // The twin: the original backup.
    let ran = restore(&two, &["--key", &key, "--digest", &other_digest]);
    assert!(!ran.good().stdout.contains("not checked"), "{ran:?}");
    assert!(!data.join("backup.key").exists());
}

/// A host whose files are all in its folder: a manifest that pins its component, and a guardrail. Another manifest has a
/// value that may be a secret and a component elsewhere.
fn complete() -> (Cloud, Folder) {
    let cloud = Cloud::start();
    let place = folder(&embedded(cloud.url()));
    let file = component(EVERY);
    let plugins = place.path().join("plugins");
    fs::copy(&file, plugins.join("every_category.wasm")).unwrap();
    let text = bundled(EVERY).replace(&file.display().to_string(), "every_category.wasm");
    let (text, _) = text.split_once("[config]").unwrap();
    let pinned = format!("digest = \"{}\"\n{text}", hash(&fs::read(&file).unwrap()));
    place.manifest("every-category", &pinned);
    let other = component("plugins/strategy-lab");
    place.manifest(
        "secretive",
        &format!(
            "plugin = \"secretive\" # hunter3\ncomponent = \"{}\"\naccount = \"research\"\n[config]\nproject = \"hunter2\"\n",
            other.display()
        ),
    );
    fs::write(plugins.join("broken.toml"), "plugin = ").unwrap();
    fs::create_dir(place.path().join("policies")).unwrap();
    fs::write(place.path().join("policies/hours.cedar"), GUARDRAIL).unwrap();
    (cloud, place)
}

#[test]
fn a_file_that_a_manifest_names_as_its_component_and_that_is_none_is_in_no_backup() {
    let (_cloud, place) = complete();
    place.run(&["call", "read_account"]).good();
    fs::write(place.path().join("token"), "hunter2").unwrap();
    let files = ["secretive.toml", "../token", "../data/backup.key"];
    for (at, file) in files.iter().enumerate() {
        let name = format!("a-{at}");
        let text = format!("plugin = \"{name}\"\ncomponent = \"{file}\"\naccount = \"research\"\n");
        place.manifest(&name, &text);
    }
    // It makes the key that the next one is signed with.
    let first = place.path().join("first");
    place.run(&["backup", first.to_str().unwrap()]).good();
    let key = fs::read(place.path().join("data/backup.key")).unwrap();
    let backup = place.path().join("backup");
    let made = place
        .run(&["--json", "backup", backup.to_str().unwrap()])
        .json();
    let left_out = made["by-hand"]["left-out"].as_array().unwrap();
    let none = left_out
        .iter()
        .filter(|it| it["reason"] == "it is no component");
    assert_eq!(none.count(), files.len(), "{made}");
    for (path, (bytes, _)) in contents(&backup) {
        for secret in [b"hunter2".as_slice(), key.as_slice()] {
            let found = memchr::memmem::find(&bytes, secret);
            assert!(found.is_none(), "{}", path.display());
        }
    }
}

#[test]
fn a_file_that_is_not_valid_is_in_no_backup_since_a_secret_may_be_anywhere_in_it() {
    let (_cloud, place) = complete();
    // It goes on with the guardrails that it has.
    let host = place.serve(&["run"]);
    place.run(&["call", "read_account"]).good();
    let misspelt = "plugin = \"misspelt\"\ncomponent = \"every_category.wasm\"\naccount = \"research\"\n[confg]\ntoken = \"hunter2\"\n";
    place.manifest("misspelt", misspelt);
    fs::write(
        place.path().join("policies/other.cedar"),
        "token = hunter2\n",
    )
    .unwrap();
    let backup = place.path().join("backup");
    let made = place
        .run(&["--json", "backup", backup.to_str().unwrap()])
        .json();
    let left_out = made["by-hand"]["left-out"].as_array().unwrap();
    for file in ["misspelt.toml", "other.cedar", "broken.toml"] {
        let named = left_out.iter().find(|it| {
            let name = it["file"].as_str().unwrap();
            name.ends_with(file)
        });
        let reason = named.unwrap()["reason"].as_str().unwrap();
        assert!(reason.contains("it is not valid"), "{made}");
    }
    for (path, (bytes, _)) in contents(&backup) {
        let found = memchr::memmem::find(&bytes, b"hunter2");
        assert!(found.is_none(), "{}", path.display());
    }
    host.end();
}

#[test]
fn the_files_of_a_host_are_in_its_backup_and_another_host_starts_with_them() {
    let (_cloud, place) = complete();
    place.run(&["call", "read_account"]).good();
    let backup = place.path().join("backup");
    let made = place
        .run(&["--json", "backup", backup.to_str().unwrap()])
        .json();
    let by_hand = &made["by-hand"];
    assert_eq!(
        by_hand["incomplete"],
        json!([{ "file": "files/plugins/secretive.toml.incomplete", "values": ["config.project"] }])
    );
    let lab = component("plugins/strategy-lab");
    let kept = hash(&fs::read(&lab).unwrap()).replace(':', "-");
    let kept = format!("files/components/{kept}.wasm");
    assert_eq!(
        by_hand["outside"],
        json!([{ "file": kept, "plugin": "secretive", "component": lab }])
    );
    let left_out = by_hand["left-out"].as_array().unwrap();
    assert_eq!(left_out.len(), 1, "{by_hand}");
    assert!(
        left_out[0]["file"]
            .as_str()
            .unwrap()
            .ends_with("broken.toml"),
        "{by_hand}"
    );
    // No value that may be a secret, no comment, and no key but the one that the record needs.
    for (path, (bytes, _)) in contents(&backup) {
        for secret in ["hunter2", "hunter3"] {
            let found = memchr::memmem::find(&bytes, secret.as_bytes());
            assert!(found.is_none(), "{secret} in {}", path.display());
        }
        assert_ne!(path.file_name().unwrap(), "backup.key");
    }

    let elsewhere = place.path().join("elsewhere");
    let (data, files) = (elsewhere.join("data"), elsewhere.to_str().unwrap());
    let restore = restore_to(
        &backup,
        &data,
        &[
            "--files",
            files,
            "--digest",
            made["digest"].as_str().unwrap(),
        ],
    );
    let ran = place.run(&restore);
    for says in [
        "plugins/secretive.toml.incomplete",
        "config.project",
        lab.to_str().unwrap(),
        "secrets are in no backup",
    ] {
        assert!(ran.good().stdout.contains(says), "{says}: {ran:?}");
    }
    let same = |name: &str| {
        let (old, new) = (place.path().join(name), elsewhere.join(name));
        assert!(fs::read(old).unwrap() == fs::read(new).unwrap(), "{name}");
    };
    same("plugins/every_category.wasm");
    same("policies/hours.cedar");
    let config = elsewhere.join("qchost.toml");
    let restored = |arguments: &[&str]| {
        let config = ["--config", config.to_str().unwrap()];
        place.run(&[&config[..], arguments].concat())
    };
    restored(&["audit", "verify"]).good();
    let ran = restored(&["--json", "plugin", "list"]);
    let listed: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(listed[0]["plugin"], "every-category", "{ran:?}");
    assert_eq!(listed[0]["status"], "ready", "{ran:?}");
    assert_eq!(listed.as_array().unwrap().len(), 1, "{ran:?}");
    let coverage = restored(&["policy", "coverage"]);
    assert!(coverage.good().stdout.contains("no-nights"), "{coverage:?}");
    let doctor = restored(&["doctor"]);
    let waits = "plugins/secretive.toml.incomplete: put them in the places of \"removed\"";
    assert!(doctor.stdout.contains(waits), "{doctor:?}");
    // What is there is not overwritten.
    fs::remove_dir_all(&data).unwrap();
    let ran = place.run(&restore);
    assert!(ran.error().contains("already; move it away"), "{ran:?}");
    assert!(!data.exists());
}

#[test]
fn what_root_restores_can_be_read_by_the_user_of_the_service() {
    const SERVICE: u32 = 54_321;
    if !can_change_user() {
        return;
    }
    let (_cloud, place) = complete();
    place.run(&["call", "read_account"]).good();
    let backup = place.path().join("backup");
    let made = place
        .run(&["--json", "backup", backup.to_str().unwrap()])
        .json();
    let (data, files) = (place.path().join("of-service"), place.path().join("etc"));
    for (folder, owner, mode) in [(&data, SERVICE, 0o700), (&files, 0, 0o750)] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        chown(folder, Some(owner), Some(SERVICE)).unwrap();
    }
    let restore = restore_to(
        &backup,
        &data,
        &[
            "--files",
            files.to_str().unwrap(),
            "--digest",
            made["digest"].as_str().unwrap(),
        ],
    );
    place.run(&restore).good();
    for (folder, owner, mode) in [(&data, SERVICE, 0o600), (&files, 0, 0o640)] {
        let found = fs::metadata(folder).unwrap();
        assert_eq!((found.uid(), found.gid()), (owner, SERVICE));
        let restored = contents(folder);
        assert!(restored.len() >= 3, "{}", folder.display());
        for path in restored.keys().filter(|path| !path.ends_with("host.lock")) {
            let found = fs::metadata(path).unwrap();
            let seen = (found.uid(), found.gid(), found.mode() & 0o777);
            assert_eq!(seen, (owner, SERVICE, mode), "{}", path.display());
            let above = fs::metadata(path.parent().unwrap()).unwrap();
            assert_eq!((above.uid(), above.gid()), (owner, SERVICE));
        }
    }
    let lock = fs::metadata(data.join("host.lock")).unwrap();
    assert_eq!((lock.uid(), lock.gid()), (SERVICE, SERVICE));

    // One that is killed leaves the folder to its owner, and is repeated.
    let (above, data) = (place.path().join("above"), place.path().join("above/data"));
    fs::create_dir(&above).unwrap();
    fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&data, Some(SERVICE), Some(SERVICE)).unwrap();
    let digest = made["digest"].as_str().unwrap();
    let restore = restore_to(&backup, &data, &["--digest", digest]);
    let mut killed = place.start(&restore);
    while killed.runs() && fs::read_dir(&above).unwrap().count() < 2 {
        std::thread::yield_now();
    }
    if killed.runs() {
        signal(killed.id(), rustix::process::Signal::KILL);
    }
    killed.wait();
    assert_eq!(fs::metadata(&data).unwrap().uid(), SERVICE);
    // On a busy machine it may have been done before it was killed.
    if fs::read_dir(&data).unwrap().count() == 0 {
        place.run(&restore).good();
    }
    assert!(data.join("audit").exists());
    assert_eq!(fs::metadata(&data).unwrap().uid(), SERVICE);
}

/// What is changed in the list of a backup.
type Change<'a> = &'a dyn Fn(&mut Value);

#[test]
fn nothing_is_touched_for_a_backup_that_is_not_the_one_that_was_made() {
    let (_cloud, place) = complete();
    place.run(&["call", "read_account"]).good();
    let good = place.path().join("good");
    let made = place
        .run(&["--json", "backup", good.to_str().unwrap()])
        .json();
    let key = made["key"].as_str().unwrap();
    let audit = contents(&good.join("audit"));
    let audit = audit.keys().next().unwrap().strip_prefix(&good).unwrap();
    let texts = contents(&good.join("texts"));
    let texts = texts.keys().next().unwrap().strip_prefix(&good).unwrap();
    let kinds = [
        "state.db",
        "host.key",
        "backup.json",
        audit.to_str().unwrap(),
        texts.to_str().unwrap(),
        "files/qchost.toml",
        "files/plugins/every-category.toml",
        "files/plugins/every_category.wasm",
        "files/plugins/secretive.toml.incomplete",
        "files/policies/hours.cedar",
    ];
    let (bad, elsewhere) = (place.path().join("bad"), place.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    // One that others can change is refused.
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(elsewhere.join("other"), "what is here").unwrap();
    let before = contents(&elsewhere);
    let modified = || fs::metadata(&elsewhere).unwrap().modified().unwrap();
    let at_first = modified();
    let (data, files) = (elsewhere.join("data"), elsewhere.to_str().unwrap());
    let restore = |backup: &Path| {
        place.run(&restore_to(
            backup,
            &data,
            &["--files", files, "--key", key],
        ))
    };
    let refused = |what: &str, change: &dyn Fn(&Path), says: &str| {
        copy(&good, &bad);
        change(&bad);
        let ran = restore(&bad);
        assert_eq!(ran.status.code(), Some(1), "{what}: {ran:?}");
        assert!(ran.error().contains(says), "{what}: {ran:?}");
        assert!(contents(&elsewhere) == before, "{what}");
        assert_eq!(modified(), at_first, "{what}");
        assert!(!data.exists(), "{what}");
        fs::remove_dir_all(&bad).unwrap();
    };
    let edit = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
    };
    let edit_list = |backup: &Path, change: &dyn Fn(&mut Value)| {
        let path = backup.join("backup.json");
        let mut list: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut list);
        fs::write(path, list.to_string()).unwrap();
    };
    for kind in kinds {
        let says = match kind {
            "backup.json" => "backup.json",
            _ => "changed since the backup was taken",
        };
        refused(
            &format!("{kind} has another byte"),
            &|bad| {
                edit(&bad.join(kind), &|bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                });
            },
            says,
        );
        refused(
            &format!("{kind} is cut off"),
            &|bad| edit(&bad.join(kind), &|bytes| bytes.truncate(bytes.len() - 1)),
            says,
        );
        refused(
            &format!("{kind} is longer"),
            &|bad| edit(&bad.join(kind), &|bytes| bytes.push(b'x')),
            says,
        );
        refused(
            &format!("{kind} is missing"),
            &|bad| fs::remove_file(bad.join(kind)).unwrap(),
            match kind {
                "backup.json" => "is no backup",
                _ => "is not in the backup any more",
            },
        );
        refused(
            &format!("{kind} is a link"),
            &|bad| {
                fs::remove_file(bad.join(kind)).unwrap();
                std::os::unix::fs::symlink(good.join(kind), bad.join(kind)).unwrap();
            },
            "is no regular file",
        );
    }
    for extra in [
        "extra",
        "audit/extra",
        "files/plugins/extra.toml",
        "state.db-wal",
    ] {
        refused(
            &format!("{extra} was added"),
            &|bad| fs::write(bad.join(extra), "x").unwrap(),
            "was added since the backup was taken",
        );
    }
    let changed = "its signature is not of what it says";
    let changes: [(&str, Change<'_>, &str); 8] = [
        (
            "no signature",
            &|list| list["signature"] = "".into(),
            changed,
        ),
        (
            "no field for it",
            &|list| drop(list.as_object_mut().unwrap().remove("signature")),
            "missing field `signature`",
        ),
        (
            "another time",
            &|list| list["taken"] = "2026-01-31T00:00:00Z".into(),
            changed,
        ),
        (
            "a newer version",
            &|list| list["version"] = 4.into(),
            "a backup of version 4",
        ),
        (
            "an unknown field",
            &|list| list["new"] = 1.into(),
            "unknown field `new`",
        ),
        (
            "a path that leaves it",
            &|list| list["files"][0]["path"] = "../up".into(),
            "belongs to no backup",
        ),
        (
            "a path from the root on",
            &|list| list["files"][0]["path"] = "/etc/passwd".into(),
            "belongs to no backup",
        ),
        (
            "a file twice",
            &|list| list["files"][1] = list["files"][0].clone(),
            "listed twice",
        ),
    ];
    for (what, change, says) in changes {
        refused(what, &|bad| edit_list(bad, change), says);
    }
    refused(
        "another key",
        &|bad| sign_with(bad, &[9; 32]),
        "signed with another key",
    );
    // Signed by who may, and still wrong.
    let ours = place.path().join("data");
    let manifest = "files/plugins/every-category.toml";
    refused(
        "a component that its manifest does not pin",
        &|bad| {
            edit(&bad.join("files/plugins/every_category.wasm"), &|bytes| {
                bytes.push(0);
            });
            sign_again(bad, &ours);
        },
        "its component has another digest than it says",
    );
    refused(
        "a database of a newer version",
        &|bad| {
            rusqlite::Connection::open(bad.join("state.db"))
                .unwrap()
                .pragma_update(None, "user_version", 999)
                .unwrap();
            sign_again(bad, &ours);
        },
        "has layout 999",
    );
    // The twin.
    assert!(
        fs::read_to_string(good.join(manifest))
            .unwrap()
            .contains("digest")
    );
    restore(&good).good();
    assert!(elsewhere.join("qchost.toml").exists() && data.join("audit").exists());
}

#[test]
fn a_restore_that_is_cut_off_leaves_nothing_that_a_host_starts_with() {
    let (_cloud, place) = complete();
    place.run(&["call", "read_account"]).good();
    let backup = place.path().join("backup");
    let made = place
        .run(&["--json", "backup", backup.to_str().unwrap()])
        .json();
    let before = contents(&backup);
    let elsewhere = place.path().join("elsewhere");
    let data = elsewhere.join("data");
    let restore = restore_to(
        &backup,
        &data,
        &[
            "--files",
            elsewhere.to_str().unwrap(),
            "--digest",
            made["digest"].as_str().unwrap(),
        ],
    );
    // From its draft on, at different points.
    for yields in [0, 10, 100, 1_000, 10_000, 100_000] {
        let mut restoring = place.start(&restore);
        let has_draft = || {
            fs::read_dir(&data).is_ok_and(|entries| {
                let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
                names.any(|name| name.to_str().unwrap().starts_with("restoring-"))
            })
        };
        while restoring.runs() && !has_draft() {
            std::thread::yield_now();
        }
        for _ in 0..yields {
            std::thread::yield_now();
        }
        if restoring.runs() {
            signal(restoring.id(), rustix::process::Signal::KILL);
        }
        restoring.wait();
        // The configuration comes last, and the audit with the rest of the data.
        let is_there = |name: &str| elsewhere.join(name).exists();
        assert!(
            !is_there("qchost.toml") || is_there("data/audit"),
            "{yields}"
        );
        if is_there("data/audit") {
            for name in ["data/host.key", "data/state.db", "data/texts"] {
                assert!(is_there(name), "{yields}: {name}");
            }
        }
        assert!(contents(&backup) == before, "{yields}");
        let again = place.run(&restore);
        let error = again.error();
        assert!(
            error.contains("is not empty") || error.contains("already; move it away"),
            "{yields}: {error}"
        );
        fs::remove_dir_all(&elsewhere).unwrap();
    }
    place.run(&restore).good();
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
