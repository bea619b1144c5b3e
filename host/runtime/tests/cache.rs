//! The cache between two runs of a host: entries are used if this host wrote them and they are unchanged,
//! and rebuilt otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use hmac::{Hmac, KeyInit as _, Mac as _};
use qchost_runtime::{ComponentError, LoadError, Options, Plugin, Runtime, StartError};
use qchost_testing::runtime::{manifest, options};
use qchost_testing::{Guest, Host, can_change_user, uncalled};
use rustix::process::geteuid;
use serde_json::{Value, json};
use sha2::Sha256;

/// The uid of another user.
const STRANGER: u32 = 65_534;

/// A plugin that answers with a number.
fn numbered(number: u32) -> Vec<u8> {
    Guest::new(&format!("(call $digit (i32.const {number}))")).build()
}

/// Another host on the same folder, as after a restart.
fn restart(host: &Host, set: impl FnOnce(&mut Options)) -> Runtime {
    let mut options = options(host.home.path());
    set(&mut options);
    Runtime::new(host.gate.clone(), options).unwrap()
}

/// One without a working compiler.
fn without_compiler(options: &mut Options) {
    options.compiler.program = "/no/such/compiler".into();
}

async fn load(
    host: &Host,
    runtime: &Runtime,
    name: &str,
) -> Result<std::sync::Arc<Plugin>, LoadError> {
    runtime.load(manifest(host.home.path(), name, "")).await
}

async fn answer(runtime: &Runtime, name: &str) -> Value {
    runtime
        .invoke(name, "act", json!({}), None, None)
        .await
        .unwrap()
}

/// The entries with this ending, oldest first.
fn entries(host: &Host, ending: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(host.home.path().join("cache")).unwrap();
    let mut entries: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    entries.retain(|path| path.extension().is_some_and(|it| it == ending));
    entries.sort_by_key(|path| fs::symlink_metadata(path).unwrap().modified().unwrap());
    entries
}

fn only(mut entries: Vec<PathBuf>) -> PathBuf {
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// An entry with this content, as the host itself would write it under this name.
fn signed(host: &Host, name: &Path, content: &[u8]) -> Vec<u8> {
    let key = fs::read(host.home.path().join("key")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(name.file_name().unwrap().to_str().unwrap().as_bytes());
    mac.update(&[0]);
    mac.update(content);
    [b"qchost1\n", &mac.finalize().into_bytes()[..], content].concat()
}

#[tokio::test]
async fn a_host_that_starts_again_compiles_nothing_and_asks_no_component() {
    let host = Host::new(&uncalled()).await;
    host.load("lab", &numbered(1), "").await.unwrap();
    let said = only(entries(&host, "json"));

    let again = restart(&host, without_compiler);
    load(&host, &again, "lab").await.unwrap();
    assert_eq!(answer(&again, "lab").await, json!(1));

    // Its cached description is used; it does not describe itself again.
    let mut description: Value = serde_json::from_slice(&fs::read(&said).unwrap()[40..]).unwrap();
    description["version"] = json!("9.9.9");
    let description = serde_json::to_vec(&description).unwrap();
    fs::write(&said, signed(&host, &said, &description)).unwrap();
    let again = restart(&host, without_compiler);
    let plugin = load(&host, &again, "lab").await.unwrap();
    assert_eq!(plugin.description().version, "9.9.9");

    // An entry that another program wrote or that cannot be parsed is not used.
    let good = fs::read(&said).unwrap();
    let mut bent = good.clone();
    *bent.last_mut().unwrap() ^= 1;
    for bad in [
        bent,
        signed(&host, &said, b"{}"),
        signed(&host, &said, b"x"),
    ] {
        fs::write(&said, bad).unwrap();
        let again = restart(&host, without_compiler);
        let plugin = load(&host, &again, "lab").await.unwrap();
        assert_eq!(plugin.description().version, "1.2.3");
    }
}

#[tokio::test]
async fn many_plugins_come_from_the_cache_at_once() {
    let host = Host::new(&uncalled()).await;
    let names: Vec<_> = (0..20).map(|number| format!("plugin-{number}")).collect();
    for (number, name) in (0..).zip(&names) {
        host.load(name, &numbered(number), "").await.unwrap();
    }
    let again = restart(&host, without_compiler);
    let loads = names.iter().map(|name| load(&host, &again, name));
    for loaded in futures::future::join_all(loads).await {
        loaded.unwrap();
    }
    for (number, name) in (0..).zip(&names) {
        assert_eq!(answer(&again, name).await, json!(number));
    }
}

/// Damages the only entry of code, and asserts that a host that starts then compiles again and repairs it.
async fn mended(host: &Host, what: &str, spoil: impl FnOnce(&Path)) {
    let entry = only(entries(host, "cwasm"));
    spoil(&entry);
    let helpless = restart(host, without_compiler);
    let error = load(host, &helpless, "lab").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Component(_, ComponentError::Compiler(_))),
        "{what}: it has to be compiled: {error}"
    );
    let again = restart(host, |_| {});
    load(host, &again, "lab").await.unwrap();
    assert_eq!(answer(&again, "lab").await, json!(1), "{what}");
    let found = fs::symlink_metadata(&entry).unwrap();
    assert!(found.is_file(), "{what}: it was replaced");
    assert_eq!(found.uid(), geteuid().as_raw(), "{what}");
    assert_eq!(found.mode() & 0o777, 0o600, "{what}");
    let third = restart(host, without_compiler);
    load(host, &third, "lab").await.unwrap();
}

#[tokio::test]
async fn an_entry_that_was_tampered_with_is_not_executed() {
    let host = Host::new(&uncalled()).await;
    host.load("other", &numbered(2), "").await.unwrap();
    let other = only(entries(&host, "cwasm"));
    let others = fs::read(&other).unwrap();
    fs::remove_file(&other).unwrap();
    host.load("lab", &numbered(1), "").await.unwrap();
    let good = fs::read(only(entries(&host, "cwasm"))).unwrap();

    mended(&host, "another's code", |entry| {
        fs::write(entry, &others).unwrap()
    })
    .await;
    mended(&host, "another's code under its MAC", |entry| {
        fs::write(entry, [&good[..40], &others[40..]].concat()).unwrap();
    })
    .await;
    for at in [0, 8, 39, 40, good.len() / 2, good.len() - 1] {
        let mut bent = good.clone();
        bent[at] ^= 1;
        mended(&host, &format!("byte {at}"), |entry| {
            fs::write(entry, bent).unwrap()
        })
        .await;
        let torn = &good[..at];
        mended(&host, &format!("{at} bytes"), |entry| {
            fs::write(entry, torn).unwrap()
        })
        .await;
    }
    mended(&host, "no code at all, with the right MAC", |entry| {
        fs::write(entry, signed(&host, entry, b"\x7fELF")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn only_a_file_that_no_other_user_can_touch_is_an_entry() {
    let host = Host::new(&uncalled()).await;
    host.load("lab", &numbered(1), "").await.unwrap();
    for mode in [0o644, 0o620, 0o606] {
        mended(&host, &format!("mode {mode:o}"), |entry| {
            fs::set_permissions(entry, Permissions::from_mode(mode)).unwrap();
        })
        .await;
    }
    mended(&host, "a link", |entry| {
        let elsewhere = host.home.path().join("elsewhere");
        fs::rename(entry, &elsewhere).unwrap();
        symlink(&elsewhere, entry).unwrap();
    })
    .await;
    // Opening one blocks until a writer opens it.
    mended(&host, "a pipe", |entry| {
        fs::remove_file(entry).unwrap();
        let made = Command::new("mkfifo").arg(entry).status().unwrap();
        assert!(made.success());
        fs::set_permissions(entry, Permissions::from_mode(0o600)).unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_another_user_wrote_is_not_executed() {
    if !can_change_user() {
        return;
    }
    let host = Host::new(&uncalled()).await;
    host.load("lab", &numbered(1), "").await.unwrap();
    mended(&host, "another user's file", |entry| {
        std::os::unix::fs::chown(entry, Some(STRANGER), None).unwrap();
    })
    .await;

    // Another user cannot even get there.
    let entry = only(entries(&host, "cwasm"));
    for script in ["cat", "tee -a"] {
        use std::os::unix::process::CommandExt as _;
        let tried = Command::new("/bin/sh")
            .args(["-c", &format!("{script} {} </dev/null", entry.display())])
            .uid(STRANGER)
            .gid(STRANGER)
            .output()
            .unwrap();
        assert!(!tried.status.success(), "{script}");
    }

    // A folder that belongs to another user is refused.
    std::os::unix::fs::chown(host.home.path().join("cache"), Some(STRANGER), None).unwrap();
    let error = Runtime::new(host.gate.clone(), options(host.home.path())).unwrap_err();
    assert!(matches!(error, StartError::Cache(_)), "{error}");
    assert!(error.to_string().contains("65534"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_swapped_all_the_time_is_what_it_should_be_or_is_not_executed() {
    let host = Host::new(&uncalled()).await;
    host.load("other", &numbered(2), "").await.unwrap();
    let other = only(entries(&host, "cwasm"));
    let others = fs::read(&other).unwrap();
    fs::remove_file(&other).unwrap();
    host.load("lab", &numbered(1), "").await.unwrap();
    let entry = only(entries(&host, "cwasm"));
    let good = fs::read(&entry).unwrap();

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let draft = host.home.path().join("draft");
            while !done.load(Ordering::Relaxed) {
                for content in [&good, &others] {
                    // Once as another file, once in place.
                    fs::write(&draft, content).unwrap();
                    fs::set_permissions(&draft, Permissions::from_mode(0o600)).unwrap();
                    fs::rename(&draft, &entry).unwrap();
                    fs::write(&entry, &others).unwrap();
                    fs::write(&entry, content).unwrap();
                }
            }
        });
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            handle.block_on(async {
                for _ in 0..25 {
                    let again = restart(&host, |_| {});
                    load(&host, &again, "lab").await.unwrap();
                    assert_eq!(answer(&again, "lab").await, json!(1));
                }
            });
        });
        done.store(true, Ordering::Relaxed);
    });
}

#[tokio::test]
async fn code_of_another_engine_is_kept_apart() {
    let host = Host::new(&uncalled()).await;
    host.load("lab", &numbered(1), "").await.unwrap();
    let optimised = only(entries(&host, "cwasm"));
    let code = fs::read(&optimised).unwrap()[40..].to_vec();

    let baseline = restart(&host, |options| options.baseline = true);
    load(&host, &baseline, "lab").await.unwrap();
    assert_eq!(answer(&baseline, "lab").await, json!(1));
    let both = entries(&host, "cwasm");
    assert_eq!(both.len(), 2);
    let other = both.into_iter().find(|path| *path != optimised).unwrap();

    // Code of one compiler under the name of the other: the engine refuses it, signed or not.
    fs::write(&other, signed(&host, &other, &code)).unwrap();
    let baseline = restart(&host, |options| options.baseline = true);
    load(&host, &baseline, "lab").await.unwrap();
    assert_eq!(answer(&baseline, "lab").await, json!(1));
    assert_ne!(
        fs::read(&other).unwrap()[40..],
        code,
        "it was compiled again"
    );
    let again = restart(&host, without_compiler);
    load(&host, &again, "lab").await.unwrap();
}
