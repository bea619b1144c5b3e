//! The watch over files, with real files: every way in which people and tools replace one is noticed,
//! and nothing else is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use qchost_runtime::Watch;
use rustix::process::geteuid;
use tempfile::TempDir;

/// Longer than any change takes to be noticed, on a slow machine too.
const BOUND: Duration = Duration::from_secs(20);
/// A user who is not this one.
const STRANGER: u32 = 65_534;
/// Longer than a burst lasts.
const SILENCE: Duration = Duration::from_millis(150);

struct Place {
    _folder: TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().to_owned();
        Self {
            _folder: folder,
            root,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes a file, with the folders that it is in.
    fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A watch over these.
    fn watch(&self, paths: &[&str]) -> Watch {
        let mut watch = Watch::new().unwrap();
        watch.set(paths.iter().map(|path| self.path(path))).unwrap();
        watch
    }
}

async fn noticed(watch: &mut Watch, what: &str) {
    tokio::time::timeout(BOUND, watch.changed())
        .await
        .unwrap_or_else(|_| panic!("not noticed: {what}"));
}

/// Whether nothing is noticed. Only after something that another watch noticed, so that it is not just late.
async fn silent(watch: &mut Watch) -> bool {
    tokio::time::timeout(SILENCE, watch.changed())
        .await
        .is_err()
}

/// Runs one test of this program again, as another user: nothing is closed to root.
fn as_stranger(test: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    // By this name the program can be run although its folder is closed to the other user. It may have been built under a
    // umask that closes the file as well.
    let program = "/proc/self/exe";
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = Command::new(program)
        .args(["--exact", test])
        .current_dir("/")
        .uid(STRANGER)
        .gid(STRANGER)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && told.contains("1 passed"), "{told}");
}

/// Puts a link in the place of another one in one step, as Kubernetes and deployment tools do.
fn turn(link: &Path, target: &str) {
    let fresh = link.parent().unwrap().join("fresh-link");
    symlink(target, &fresh).unwrap();
    fs::rename(fresh, link).unwrap();
}

#[tokio::test]
async fn a_file_that_is_renamed_over_written_or_removed_is_noticed() {
    let place = Place::new();
    let file = place.write("plugins/a.toml", "1");
    let mut watch = place.watch(&["plugins/a.toml"]);

    let fresh = place.write("plugins/fresh", "2");
    fs::rename(fresh, &file).unwrap();
    noticed(&mut watch, "a rename over the file").await;

    fs::write(&file, "3").unwrap();
    noticed(&mut watch, "a write in place").await;

    fs::remove_file(&file).unwrap();
    noticed(&mut watch, "the removal").await;

    fs::write(&file, "4").unwrap();
    noticed(&mut watch, "the file, made again").await;
    assert!(silent(&mut watch).await);
}

#[tokio::test]
async fn what_is_written_in_place_is_noticed_when_it_is_closed_and_once() {
    let place = Place::new();
    let path = place.write("a.wasm", "");
    let mut watch = place.watch(&["a.wasm"]);
    let mut file = fs::File::create(&path).unwrap();
    for _ in 0..1000 {
        file.write_all(&[7; 1024]).unwrap();
    }
    drop(file);
    noticed(&mut watch, "the write").await;
    assert_eq!(fs::metadata(&path).unwrap().len(), 1000 * 1024);
    assert!(silent(&mut watch).await);
}

#[tokio::test]
async fn a_file_that_stays_open_does_not_hold_back_the_others() {
    let place = Place::new();
    place.write("a.wasm", "");
    let removed = place.write("b.toml", "");
    let mut watch = place.watch(&["a.wasm", "b.toml"]);
    let mut file = fs::File::create(place.path("a.wasm")).unwrap();
    file.write_all(b"half").unwrap();
    fs::remove_file(removed).unwrap();
    let begun = Instant::now();
    noticed(&mut watch, "the removal").await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    file.write_all(b"the rest").unwrap();
    drop(file);
    noticed(&mut watch, "the rest").await;
}

#[tokio::test]
async fn links_that_are_turned_are_noticed_and_what_lies_behind_them_then() {
    let place = Place::new();
    place.write("releases/1/plugins/a.toml", "1");
    place.write("releases/2/plugins/a.toml", "2");
    symlink("releases/1", place.path("current")).unwrap();
    symlink("releases/1/plugins/a.toml", place.path("file.toml")).unwrap();
    for watched in ["current/plugins/a.toml", "current/plugins"] {
        let mut watch = place.watch(&[watched]);
        turn(&place.path("current"), "releases/2");
        noticed(&mut watch, "the folder's link").await;
        watch.set([place.path(watched)]).unwrap();
        // What is behind it now matters, and what was behind it does not any more.
        let mut former = place.watch(&["releases/1/plugins/a.toml"]);
        place.write("releases/1/plugins/a.toml", "1, changed");
        noticed(&mut former, "the former file").await;
        assert!(silent(&mut watch).await, "{watched}");
        place.write("releases/2/plugins/a.toml", "2, changed");
        noticed(&mut watch, "the file behind the link").await;
        turn(&place.path("current"), "releases/1");
    }

    let mut watch = place.watch(&["file.toml"]);
    turn(&place.path("file.toml"), "releases/2/plugins/a.toml");
    noticed(&mut watch, "the file's link").await;
}

#[tokio::test]
async fn a_mount_of_kubernetes_that_is_updated_is_noticed_as_one_change() {
    let place = Place::new();
    place.write("mount/..2026_01_30/a.toml", "1");
    symlink("..2026_01_30", place.path("mount/..data")).unwrap();
    symlink("..data/a.toml", place.path("mount/a.toml")).unwrap();
    let mut watch = place.watch(&["mount/a.toml"]);

    place.write("mount/..2026_01_31/a.toml", "2");
    turn(&place.path("mount/..data"), "..2026_01_31");
    noticed(&mut watch, "the turned link").await;
    assert_eq!(fs::read_to_string(place.path("mount/a.toml")).unwrap(), "2");
    watch.set([place.path("mount/a.toml")]).unwrap();

    // The former folder is removed, which is irrelevant now.
    let mut witness = place.watch(&["mount/..2026_01_30"]);
    fs::remove_dir_all(place.path("mount/..2026_01_30")).unwrap();
    noticed(&mut witness, "the removal").await;
    assert!(silent(&mut watch).await);
}

#[tokio::test]
async fn a_folder_that_is_removed_and_made_again_is_watched_again() {
    let place = Place::new();
    place.write("plugins/a.toml", "1");
    let wanted = || [place.path("plugins"), place.path("plugins/a.toml")];
    let mut watch = Watch::new().unwrap();
    watch.set(wanted()).unwrap();
    for round in 0..3 {
        fs::remove_dir_all(place.path("plugins")).unwrap();
        noticed(&mut watch, "the folder's removal").await;
        watch.set(wanted()).unwrap();
        place.write("plugins/a.toml", "2");
        noticed(&mut watch, "the folder, made again").await;
        watch.set(wanted()).unwrap();
        while !silent(&mut watch).await {}
        place.write("plugins/a.toml", &format!("3, {round}"));
        noticed(&mut watch, "a change in the new folder").await;
        watch.set(wanted()).unwrap();
    }
}

#[tokio::test]
async fn a_folder_that_is_replaced_by_another_one_is_noticed() {
    let place = Place::new();
    place.write("host/plugins/a.toml", "1");
    place.write("next/plugins/a.toml", "2");
    let mut watch = place.watch(&["host/plugins/a.toml"]);
    fs::rename(place.path("host"), place.path("former")).unwrap();
    fs::rename(place.path("next"), place.path("host")).unwrap();
    noticed(&mut watch, "another folder two levels up").await;
    watch.set([place.path("host/plugins/a.toml")]).unwrap();
    while !silent(&mut watch).await {}
    place.write("host/plugins/a.toml", "3");
    noticed(&mut watch, "a change in the new folder").await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_yet_is_noticed_when_it_comes() {
    let place = Place::new();
    let wanted = || [place.path("etc/qchost/plugins")];
    let mut watch = Watch::new().unwrap();
    watch.set(wanted()).unwrap();
    for step in ["etc", "etc/qchost", "etc/qchost/plugins"] {
        fs::create_dir(place.path(step)).unwrap();
        noticed(&mut watch, step).await;
        watch.set(wanted()).unwrap();
    }
    place.write("etc/qchost/plugins/a.toml", "1");
    noticed(&mut watch, "the first entry").await;
    while !silent(&mut watch).await {}
    fs::remove_file(place.path("etc/qchost/plugins/a.toml")).unwrap();
    noticed(&mut watch, "the entry's removal").await;
}

#[tokio::test]
async fn what_a_build_writes_beside_the_component_is_not_noticed() {
    let place = Place::new();
    place.write("target/release/a.wasm", "1");
    place.write("target/release/deps/a.wasm", "1");
    let mut watch = place.watch(&["target/release/a.wasm"]);
    let mut witness = place.watch(&["target/release/last"]);
    for file in [".cargo-lock", "a.d", "b.wasm", "deps/a.wasm", "deps/new/x"] {
        place.write(&format!("target/release/{file}"), "2");
    }
    // Reading changes nothing.
    fs::read(place.path("target/release/a.wasm")).unwrap();
    place.write("target/release/last", "");
    noticed(&mut witness, "the last file").await;
    assert!(silent(&mut watch).await);

    // At its end a build links the component to its place.
    fs::remove_file(place.path("target/release/a.wasm")).unwrap();
    fs::hard_link(
        place.path("target/release/deps/a.wasm"),
        place.path("target/release/a.wasm"),
    )
    .unwrap();
    noticed(&mut watch, "the built component").await;
}

#[tokio::test]
async fn a_folder_that_is_closed_to_this_user_is_told_and_the_rest_is_watched() {
    const TEST: &str = "a_folder_that_is_closed_to_this_user_is_told_and_the_rest_is_watched";
    if geteuid().is_root() {
        return as_stranger(TEST);
    }
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.write("closed/a.toml", "");
    place.write("open/b.toml", "");
    let closed = place.path("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o100)).unwrap();
    let mut watch = Watch::new().unwrap();
    let told = watch
        .set([place.path("closed/a.toml"), place.path("open/b.toml")])
        .unwrap_err();
    assert!(told.to_string().contains("closed"), "{told}");
    place.write("open/b.toml", "2");
    noticed(&mut watch, "the change in the open folder").await;
}
