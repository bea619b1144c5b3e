//! Tests that need what only root may, to act as another user or to mount a file system, or a program that not every
//! machine has.
//!
//! Without it such a test returns at once. It is then named on the terminal, past the harness, which keeps to itself
//! what passing tests print, and `make test` counts it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Set by the continuous integration: there, a test that cannot be run fails.
const REQUIRED: &str = "QCHOST_REQUIRE_ROOT";
/// Names a file to which each test that is left out adds a line.
const LEFT_OUT: &str = "QCHOST_LEFT_OUT";

/// The remedy for a test that lacks a right.
const AS_ROOT: &str = "run it as root";

/// Whether a program is installed.
///
/// # Panics
///
/// Without it where `QCHOST_REQUIRE_ROOT` is set.
#[must_use]
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !found {
        leave_out(name, "install it");
    }
    found
}

/// Whether this process can act as other users and give files to them.
///
/// # Panics
///
/// Without root where `QCHOST_REQUIRE_ROOT` is set.
#[must_use]
pub fn can_change_user() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        leave_out("another user", AS_ROOT);
    }
    root
}

/// A small file system in memory, mounted until this is dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one of a size, such as `16m`. `None` without the right to mount.
    ///
    /// # Panics
    ///
    /// Without that right where `QCHOST_REQUIRE_ROOT` is set.
    #[must_use]
    pub fn at(folder: &Path, size: &str) -> Option<Self> {
        let ran = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700")])
            .arg("qchost-test")
            .arg(folder)
            .output();
        if ran.is_ok_and(|ran| ran.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        leave_out("the right to mount", AS_ROOT);
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

/// Runs a test with an empty `/run` of its own, which it shares with the processes that it starts. Leaves it out without
/// the right to mount.
///
/// # Panics
///
/// As the test does, and without that right where `QCHOST_REQUIRE_ROOT` is set.
pub fn in_own_run(test: impl FnOnce() + Send) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    // A mount namespace belongs to a thread: this one ends with the test, and the harness keeps the machine's.
    let ran = thread::scope(|scope| {
        let inside = || match mount_own_run() {
            true => test(),
            false => leave_out("a mount namespace", AS_ROOT),
        };
        let thread = thread::Builder::new().name(name);
        thread.spawn_scoped(scope, inside).unwrap().join()
    });
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

/// Mounts an empty `/run` for this thread and its children.
fn mount_own_run() -> bool {
    let mount = |arguments: &[&str]| {
        let ran = Command::new("mount").args(arguments).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    // Made private first: otherwise the machine would see what is mounted.
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(&["--make-rprivate", "/"])
        && mount(&["-t", "tmpfs", "-o", "mode=0755", "qchost-test", "/run"])
}

fn leave_out(needs: &str, remedy: &str) {
    // Each test is a thread under Cargo's harness; nextest runs one a process and says which.
    let test = std::env::var("NEXTEST_TEST_NAME").unwrap_or_else(|_| {
        let thread = thread::current();
        thread.name().unwrap_or("a test").to_owned()
    });
    assert!(
        std::env::var_os(REQUIRED).is_none(),
        "{test} needs {needs}, and {REQUIRED} is set: {remedy}"
    );
    let line = format!("{test} needs {needs}\n");
    let mut terminal = std::io::stderr();
    terminal
        .write_all(format!("left out: {line}").as_bytes())
        .unwrap();
    if let Some(list) = std::env::var_os(LEFT_OUT) {
        let mut options = std::fs::OpenOptions::new();
        let mut list = options.create(true).append(true).open(list).unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
}
