//! A host that starts answers at once, and each plugin serves as soon as it is ready.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::cloud::Cloud;
use crate::common::{Folder, embedded, wait_for_file};
use crate::guests::{caller, long, marked, version};
use crate::process::{Process, command_line, tree, wait_until};
use crate::running::{GRANT, PROJECTS, plugin};
use crate::socket::{Answer, Control};

/// Another process that keeps a database busy until this is dropped.
pub fn lock_database(path: &Path, folder: &Path) -> Process {
    let script = format!(
        "import sqlite3,time\nc=sqlite3.connect({:?},timeout=60,isolation_level=None)\nc.execute('BEGIN EXCLUSIVE')\nprint('locked',flush=True)\ntime.sleep(600)",
        path.to_str().unwrap()
    );
    let mut command = Command::new("python3");
    command.args(["-c", &script]);
    let mut locker = Process::start(command, folder);
    locker.until("the database is locked", |it| {
        it.stdout().contains("locked").then_some(())
    });
    locker
}

/// A host with one compiled plugin, and five others to compile before it.
fn cold(folder: &Folder) -> Process {
    plugin(folder, "quick", &version(1), "");
    let host = folder.serve(&["run"]);
    host.end();
    plugin(folder, "a-slow", &long(2), "");
    for name in ["b", "c", "d", "e"] {
        plugin(folder, name, &marked(3, name), "");
    }
    let mut host = folder.start(&["run"]);
    host.until("it compiles", |host| {
        let mut processes = tree(host.id()).into_iter();
        processes
            .any(|process| command_line(process).contains("compile-component"))
            .then_some(())
    });
    host
}

#[test]
fn what_is_ready_serves_while_others_compile_and_what_is_not_is_waited_for() {
    let folder = Folder::apart(&embedded("emulator"));
    let mut host = cold(&folder);
    let control = Control::of(&folder);
    // The compiler is at the first of six plugins, and the last one already answers.
    assert_eq!(
        control.invoke("quick.act", &json!({})),
        Answer::Done(json!(1))
    );
    assert!(!host.stdout().contains("ready"), "{}", host.stdout());
    let listed = folder.run(&["plugin", "list"]);
    let said = &listed.stderr;
    assert!(
        said.contains(&format!(
            "the running host (process {}) is starting: compiling ",
            host.id()
        )) && said.contains(" of 6"),
        "{listed:?}"
    );
    assert!(listed.stdout.contains("loading"), "{listed:?}");
    folder.run(&["halt", "--reason", "not yet"]).good();
    let halts = folder.run(&["halt", "--list"]);
    assert!(halts.good().stdout.contains("not yet"), "{halts:?}");
    folder.run(&["resume"]).good();
    assert!(!host.stdout().contains("ready"), "{}", host.stdout());
    // An unknown plugin is not waited for; one that is loading is, and its progress is shown.
    let ran = folder.run(&["invoke", "none.act"]);
    assert!(ran.error().contains("there is no plugin `none`"), "{ran:?}");
    let waited = folder.run(&["invoke", "a-slow.act"]);
    assert_eq!(waited.good().stdout.trim(), "2");
    assert!(waited.stderr.contains("starting: compiling "), "{waited:?}");
    host.until("the host is ready", |host| {
        host.stdout()
            .contains("ready: 6 plugins, 0 broken")
            .then_some(())
    });
    for name in ["b", "c", "d", "e"] {
        let answer = control.invoke(&format!("{name}.act"), &json!({}));
        assert_eq!(answer, Answer::Done(json!(3)), "{name}");
    }
    host.end();
}

#[test]
fn a_manifest_that_is_removed_while_others_compile_denies_at_once() {
    let folder = Folder::apart(&embedded("emulator"));
    let host = cold(&folder);
    let control = Control::of(&folder);
    assert_eq!(
        control.invoke("quick.act", &json!({})),
        Answer::Done(json!(1))
    );
    std::fs::remove_file(folder.path().join("plugins/quick.toml")).unwrap();
    wait_until("it is gone", || {
        let answer = control.invoke("quick.act", &json!({}));
        matches!(answer, Answer::Failed(why) if why.contains("no plugin `quick`")).then_some(())
    });
    assert!(!host.stdout().contains("ready"), "{}", host.stdout());
    host.end();
}

#[test]
fn a_halt_before_the_state_is_open_holds_from_the_first_call_on() {
    let cloud = Cloud::start();
    let folder = Folder::new(&embedded(cloud.url()));
    let project = json!({ "name": "Lab/x", "language": "Py" }).to_string();
    let writer = caller(1, &[("create_project", Some(project.as_str()))]);
    plugin(&folder, "writer", &writer, &format!("{GRANT}{PROJECTS}"));
    let first = folder.serve(&["run"]);
    first.end();

    let locker = lock_database(&folder.path().join("data/state.db"), folder.path());
    let mut host = folder.start(&["run"]);
    wait_for_file(&folder.path().join("data/control.sock"));
    let halted = folder.run(&["halt", "--reason", "too early"]);
    assert!(
        halted.good().stdout.contains("halted: everything"),
        "{halted:?}"
    );
    assert!(halted.stdout.contains("the host is starting"), "{halted:?}");
    assert!(
        halted.stderr.contains("is starting: opening the state"),
        "{halted:?}"
    );
    assert!(!host.stdout().contains("ready"), "{}", host.stdout());
    drop(locker);
    host.until("the host is ready", |host| {
        host.stdout().contains("ready").then_some(())
    });
    let ran = folder.run(&["invoke", "writer.act"]);
    assert!(ran.error().contains("halted"), "{ran:?}");
    assert!(cloud.requests_to("/projects/create").is_empty());
    wait_until("it is stored", || {
        let listed = folder.run(&["halt", "--list"]);
        listed.good().stdout.contains("too early").then_some(())
    });
    host.end();
}

#[test]
fn a_second_host_is_told_in_one_sentence_what_the_first_is_at() {
    let folder = Folder::apart(&embedded("emulator"));
    let first = cold(&folder);
    let second = || folder.run(&["run"]).error().to_owned();
    let pid = first.id();
    let error = second();
    assert!(
        error.contains(&format!("the host with process id {pid} uses data already"))
            && error.contains("qchost.toml, and is starting: ")
            && error.contains(&format!("end it (kill {pid})")),
        "{error}"
    );
    drop(first);

    // The files of a killed host do not stop another one, even if another process has its pid now.
    let lock = folder.path().join("data/host.lock");
    std::fs::write(&lock, "1\n").unwrap();
    let host = folder.serve(&["run"]);
    let pid = host.id();
    let error = second();
    assert!(
        error.contains(&format!(
            "a host with process id {pid} uses data already, with the configuration"
        )),
        "{error}"
    );
    // Stopped as by Ctrl-Z, it does not answer, and the error says so.
    crate::process::signal(pid, rustix::process::Signal::STOP);
    let error = second();
    crate::process::signal(pid, rustix::process::Signal::CONT);
    assert!(
        error.contains(&format!(
            "the host with process id {pid} uses data, and does not answer"
        )),
        "{error}"
    );
    host.end();

    // Neither a host nor a command: another program holds the lock.
    std::fs::write(&lock, "999999999\n").unwrap();
    let mut command = Command::new("flock");
    command
        .arg(&lock)
        .args(["sh", "-c", "echo locked; exec sleep 600"]);
    let mut other = Process::start(command, folder.path());
    other.until("it is locked", |it| {
        it.stdout().contains("locked").then_some(())
    });
    let error = second();
    assert!(
        error.contains("a process that is no host has locked data/host.lock")
            && error.contains("fuser"),
        "{error}"
    );
    let error = folder.run(&["halt", "--list"]).error().to_owned();
    assert!(
        error.contains("a process that is no host has locked"),
        "{error}"
    );
    // A command of `qchost` that holds the lock is named as one.
    std::fs::write(&lock, format!("{}\n", other.id())).unwrap();
    let error = second();
    assert!(
        error.contains(&format!(
            "a command of qchost with process id {} is at work in data",
            other.id()
        )),
        "{error}"
    );
}

#[test]
fn a_host_that_ends_says_so_to_those_who_come() {
    let cloud = Cloud::with(|builder| {
        builder.timing(qchost_emulator::Timing {
            backtest: std::time::Duration::from_secs(60),
            ..qchost_emulator::Timing::default().faster(10)
        })
    });
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &crate::common::strategy_lab());
    let mut host = folder.serve(&["--log", "host=info", "run", "--drain", "40"]);
    let running = folder.start(&["invoke", "strategy-lab.backtest"]);
    wait_until("the backtest is running", || {
        (!cloud.created_backtests().is_empty()).then_some(())
    });
    host.terminate();
    host.until("the host drains", |host| {
        host.stderr().contains("shutdown requested").then_some(())
    });
    let listed = folder.run(&["halt", "--list"]);
    assert!(listed.good().stderr.contains("is ending: "), "{listed:?}");
    let error = folder.run(&["run"]).error().to_owned();
    assert!(
        error.contains(&format!(
            "the host with process id {} still uses data, and is ending",
            host.id()
        )) && error.contains("when it has ended"),
        "{error}"
    );
    drop(running);
    host.wait().good();
}

/// No pool of instances fits into 8 GiB.
#[test]
fn a_host_with_little_address_space_starts_and_says_once_that_it_has_no_pool() {
    let folder = Folder::embedded("emulator");
    let command = folder.limited("ulimit -v 8388608", &["call", "read_account"]);
    let ran = Process::start(command, folder.path()).wait();
    let said = &ran.good().stderr;
    let count = said.matches("does not fit into the address space").count();
    assert_eq!(count, 1, "{said}");
}

#[test]
fn a_socket_of_another_user_is_not_taken_away() {
    let Some(desk) = crate::desk::Desk::new("", str::to_owned) else {
        return;
    };
    let socket = desk.folder.path().join("run/control.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    std::os::unix::fs::chown(&socket, Some(64_009), None).unwrap();
    let error = desk.folder.run(&["run"]).error().to_owned();
    assert!(
        error.contains("is a socket of uid 64009") && error.contains("rm "),
        "{error}"
    );
    std::os::unix::fs::chown(&socket, Some(0), None).unwrap();
    let host = desk.serve();
    // Two hosts at one socket: the other one is named.
    let other = desk.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o700)).unwrap();
    let error = desk
        .folder
        .run(&["--data", "other", "run"])
        .error()
        .to_owned();
    assert!(
        error.contains(&format!(
            "another host (process id {}) listens at",
            host.id()
        )),
        "{error}"
    );
    host.end();
}
