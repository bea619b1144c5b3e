//! How a command finds the running host although the configuration was changed or broken.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use qchost_testing::{can_change_user, in_own_run};
use serde_json::{Value, json};

use crate::categories::{serving, with_cloud};
use crate::common::Folder;
use crate::desk::{ADMIN, Desk, OPERATOR};
use crate::process::{Process, Ran};

/// Ways to make a configuration unusable, or another one.
pub type Harm = fn(&Path);

pub const HARMS: [(&str, Harm); 6] = [
    ("broken", |path| {
        let good = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, format!("modus = 1\n{good}")).unwrap();
    }),
    ("no TOML", |path| {
        std::fs::write(path, "data = \"data\"\n[[[").unwrap();
    }),
    ("another socket", |path| {
        let good = std::fs::read_to_string(path).unwrap();
        let other = format!("{good}[control]\nsocket = \"elsewhere.sock\"\n");
        std::fs::write(path, other).unwrap();
    }),
    ("missing", |path| std::fs::remove_file(path).unwrap()),
    ("a folder", |path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    }),
    ("a FIFO", |path| {
        std::fs::remove_file(path).unwrap();
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }),
];

/// Restores the configuration.
pub fn mend(path: &Path, good: &str) {
    if path.is_dir() {
        std::fs::remove_dir(path).unwrap();
    } else {
        drop(std::fs::remove_file(path));
    }
    std::fs::write(path, good).unwrap();
}

/// The verbs of an operator, each with a text that only a running host's answer contains.
fn verbs(backup: &str) -> Vec<(Vec<String>, &'static str)> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    vec![
        (words("halt --reason drill"), "halted: everything"),
        (words("halt --list"), "drill"),
        (words("resume"), "resumed"),
        (words("plugin list"), "every-category"),
        (words("plugin grants every-category"), "on account research"),
        (words("approvals list --all"), ""),
        (words("audit tail"), "halt"),
        (words("audit query --kind halt"), "halt"),
        (words("audit head"), ""),
        (words("audit verify"), ""),
        (words("audit reconcile"), "every call has its outcome"),
        (
            words("policy explain every-category account/read-account"),
            "allowed",
        ),
        (words(&format!("backup {backup}")), "copied to"),
    ]
}

#[test]
fn every_verb_of_an_operator_reaches_the_host_whatever_became_of_the_configuration() {
    let (_cloud, folder) = with_cloud();
    let path = folder.path().join("qchost.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let host = folder.serve(&["run"]);
    for (harm, make) in HARMS {
        make(&path);
        let backup = folder
            .path()
            .join(format!("backup {harm}").replace(' ', "-"));
        for (verb, shown) in verbs(backup.to_str().unwrap()) {
            let arguments: Vec<&str> = verb.iter().map(String::as_str).collect();
            let ran = folder.run(&[&["--data", "data"], &arguments[..]].concat());
            // Files that are not in effect give this one its exit status, once the host has noticed them.
            let is_list = arguments == ["plugin", "list"];
            assert!(ran.status.success() || is_list, "{harm}: {verb:?}: {ran:?}");
            assert!(ran.stdout.contains(shown), "{harm}: {verb:?}: {ran:?}");
            // If the configuration is another one or missing, the answer names the host's.
            let named = ran.stderr.contains(&format!(
                "the running host (process {}) was started with the configuration {}",
                host.id(),
                path.canonicalize()
                    .unwrap_or_else(|_| path.clone())
                    .display()
            ));
            assert_eq!(named, harm != "another socket", "{harm}: {verb:?}: {ran:?}");
        }
        // It reports that its file cannot be used, and still answers.
        let ran = folder.run(&["--json", "--data", "data", "reload"]);
        let rows: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        let first = &rows[0]["status"];
        let expected = if harm == "another socket" {
            "ready"
        } else {
            "degraded"
        };
        assert_eq!(first, expected, "{harm}: {rows}");
        let listed = folder.run(&["--data", "data", "plugin", "list"]);
        let in_effect = expected == "ready";
        assert_eq!(listed.status.success(), in_effect, "{harm}: {listed:?}");
        // `doctor` shows the state of the running host, beside the error in the file.
        let ran = folder.run(&["--data", "data", "doctor"]);
        assert!(ran.stdout.contains("every-category"), "{harm}: {ran:?}");
        // At the address where it listens, not the one that the file names now.
        let elsewhere = format!(
            "process {} serves with data/control.sock, and not at elsewhere.sock",
            host.id()
        );
        let said = ran
            .stdout
            .replace(&format!("{}/", folder.path().display()), "");
        assert_eq!(
            said.contains(&elsewhere),
            harm == "another socket",
            "{said}"
        );
        // A call works like the other verbs: the host keeps its accounts.
        let ran = folder.run(&["--data", "data", "call", "read_account"]);
        assert!(ran.status.success(), "{harm}: {ran:?}");
        mend(&path, &good);
    }
    // By the configuration's file alone, if what is left of it names the data folder.
    for (harm, make) in &HARMS[1..3] {
        make(&path);
        let ran = folder.run(&["halt", "--list"]);
        assert!(ran.status.success(), "{harm}: {ran:?}");
        mend(&path, &good);
    }
    host.end();
    assert!(!folder.path().join("data/host.json").exists());
}

#[test]
fn a_changed_data_folder_is_told_from_that_of_the_host_and_only_invocations_compare_configurations()
{
    let (cloud, folder, host) = serving();
    let path = folder.path().join("qchost.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("data = \"data\"", "data = \"other\"")).unwrap();
    // The host is found by its folder, and by the configuration that it was started with.
    for halt in [&["--data", "data", "halt"][..], &["halt"]] {
        let ran = folder.run(halt);
        assert!(ran.good().stdout.contains("halted: everything"), "{ran:?}");
        let halts = folder.run(&["--json", "--data", "data", "halt", "--list"]);
        assert_eq!(halts.json().as_array().unwrap().len(), 1, "{halts:?}");
        folder.run(&["--data", "data", "resume"]).good();
    }
    assert!(!folder.path().join("other").exists());
    // Another user does not find it. As no host is halted, this is no success, however often it is repeated.
    for halt in [&["halt"][..], &["halt"], &["halt", "--account", "research"]] {
        let mut command = folder.command(halt);
        command.env("HOME", folder.path().join("elsewhere"));
        let ran = Process::start(command, folder.path()).wait();
        let error = ran.error();
        assert!(
            error.contains("no running host was halted: none has ever run in other")
                && error.contains("--data FOLDER"),
            "{error}"
        );
        assert!(!ran.stdout.contains("halted"), "{ran:?}");
    }
    assert!(folder.path().join("other/halt").exists());
    let halts = folder.run(&["--data", "data", "halt", "--list"]);
    assert!(
        halts.good().stdout.contains("nothing is halted"),
        "{halts:?}"
    );
    std::fs::write(&path, &good).unwrap();

    let second = folder.path().join("second.toml");
    std::fs::write(&second, &good).unwrap();
    let ran = folder.run(&["--config", "second.toml", "--json", "halt", "--list"]);
    assert_eq!(ran.json(), json!([]));
    let note: Value = serde_json::from_str(ran.stderr.lines().next().unwrap()).unwrap();
    let note = note["note"].as_str().unwrap();
    assert!(
        note.contains("qchost.toml") && note.contains("not with second.toml"),
        "{note}"
    );
    let create = [
        "call",
        "create_project",
        "{\"name\": \"Lab/x\", \"language\": \"Py\"}",
    ];
    for verb in [&["invoke", "every-category.prepare"][..], &create] {
        let ran = folder.run(&[&["--config", "second.toml"], verb].concat());
        assert!(ran.error().contains("has another configuration"), "{ran:?}");
    }
    let ran = folder.run(&["--data", "data", "--config", "/none.toml", "invoke", "x.y"]);
    let error = ran.error();
    assert!(
        error.contains("is for /none.toml, which is not there; name the host's: --config /"),
        "{error}"
    );
    assert!(cloud.requests_to("/projects/create").is_empty());
    // The twin.
    folder.run(&create).good();
    assert_eq!(cloud.requests_to("/projects/create").len(), 1);

    // A socket that is named is the only one that is tried.
    let named =
        |path: &str| folder.run(&["--config", "none.toml", "--socket", path, "halt", "--list"]);
    named("data/control.sock").good();
    let ran = named("nothing.sock");
    assert!(
        ran.error().contains("no host listens at nothing.sock"),
        "{ran:?}"
    );
    host.end();
}

#[test]
fn a_host_in_the_usual_data_folder_is_found_without_a_configuration() {
    let (_cloud, folder) = with_cloud();
    let usual = folder.path().join(".local/state/qchost");
    std::fs::create_dir_all(usual.parent().unwrap()).unwrap();
    let host = folder.serve(&["--data", usual.to_str().unwrap(), "run"]);
    let ran = folder.run(&["--config", "none.toml", "halt"]);
    assert!(ran.good().stdout.contains("halted: everything"), "{ran:?}");
    assert!(
        ran.stderr
            .contains("cannot read the configuration none.toml"),
        "{ran:?}"
    );
    host.end();
    // If no host runs, the error is about the configuration.
    let ran = folder.run(&["--config", "none.toml", "halt", "--list"]);
    let error = ran.error();
    assert!(
        error.contains("cannot read the configuration none.toml") && error.contains("--data"),
        "{error}"
    );
}

#[test]
fn a_person_who_cannot_read_the_configuration_finds_the_host_by_the_file_beside_its_socket() {
    let left = format!("/run/qchost/left-by-{}", std::process::id());
    // Commands of other tests look for a host in the `/run` of the machine.
    in_own_run(|| {
        found_beside_its_socket();
        std::fs::write(&left, "").unwrap();
    });
    assert!(!Path::new(&left).exists());
}

fn found_beside_its_socket() {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir("/run/qchost").unwrap();
    // Whatever the umask of the tests.
    std::fs::set_permissions("/run/qchost", std::fs::Permissions::from_mode(0o755)).unwrap();
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let path = desk.folder.path().join("qchost.toml");
    let socket = "/run/qchost/control.sock";
    let good = std::fs::read_to_string(&path).unwrap();
    let good = good.replace("\"run/control.sock\"", &format!("\"{socket}\""));
    std::fs::write(&path, &good).unwrap();
    let host = desk.serve();
    let file = Path::new("/run/qchost/control.json");
    assert!(file.exists());
    // Unreadable to every user but root, and then removed.
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
    mode(0o600).unwrap();
    let ran = desk.run_as(OPERATOR, &["halt", "--reason", "fills look wrong"]);
    assert!(ran.good().stdout.contains("halted: everything"), "{ran:?}");
    std::fs::remove_file(&path).unwrap();
    let ran = desk.run_as(ADMIN, &["resume"]);
    assert!(ran.good().stdout.contains("resumed"), "{ran:?}");
    host.end();
    assert!(!file.exists());
}

/// A desk with the socket at another path, and with a data folder that its people cannot read.
#[test]
fn a_person_of_the_group_finds_the_host_wherever_the_files_lead_and_is_never_told_that_none_runs() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let path = desk.folder.path().join("qchost.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let host = desk.serve();
    let halts = |arguments: &[&str]| {
        let ran = desk.run_as(OPERATOR, &[arguments, &["halt"]].concat());
        assert!(
            ran.good().stdout.contains("halted: everything"),
            "{arguments:?}: {ran:?}"
        );
        let ran = desk.run_as(ADMIN, &[arguments, &["resume"]].concat());
        assert!(
            ran.good().stdout.contains("resumed"),
            "{arguments:?}: {ran:?}"
        );
    };
    halts(&[]);
    let data = desk.folder.path().join("data");
    let named = ["--data", data.to_str().unwrap()];
    halts(&named);
    // The host listens at the address with which it was started.
    std::fs::write(&path, good.replace("run/control.sock", "run/other.sock")).unwrap();
    halts(&[]);
    halts(&named);
    // Without a readable configuration the address is unknown; the error says so, and what to do.
    let harms: [(&str, Harm); 2] = [
        ("unreadable", |path| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("missing", |path| std::fs::remove_file(path).unwrap()),
    ];
    for (harm, make) in harms {
        std::fs::write(&path, &good).unwrap();
        make(&path);
        for arguments in [&[][..], &named] {
            for verb in [
                &["halt"][..],
                &["halt", "--list"],
                &["plugin", "list"],
                &["reload"],
            ] {
                let ran = desk.run_as(OPERATOR, &[arguments, verb].concat());
                let error = ran.error();
                assert!(
                    error.contains("was found") && error.contains("--socket PATH"),
                    "{harm}: {arguments:?} {verb:?}: {error}"
                );
                let wrong = ["start it", "qchost run", "no host runs", "qchost init"];
                let wrong = wrong.iter().filter(|words| {
                    error.contains(**words) && !(harm == "missing" && **words == "qchost init")
                });
                assert_eq!(wrong.count(), 0, "{harm}: {arguments:?} {verb:?}: {error}");
            }
        }
        // The error names the folder that they cannot read.
        let ran = desk.run_as(OPERATOR, &[&named[..], &["halt", "--list"]].concat());
        assert!(
            ran.error().contains("by this user") || ran.error().contains("to this user"),
            "{ran:?}"
        );
        halts(&["--socket", "run/control.sock"]);
        drop(std::fs::remove_file(&path));
    }
    host.end();
}

/// A process of another user that listens at the path of a control socket.
#[test]
fn nothing_is_asked_of_a_socket_at_which_another_user_listens() {
    const OTHER: u32 = 64_009;
    if !can_change_user() {
        return;
    }
    let folder = Folder::embedded("emulator");
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    std::os::unix::fs::chown(&run, Some(OTHER), None).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = run.join("control.sock");
    let script = format!(
        "import socket,time\ns=socket.socket(socket.AF_UNIX)\ns.bind({:?})\ns.listen(5)\nwhile True:\n c=s.accept()[0]\n print(c.recv(9999),flush=True)",
        socket.to_str().unwrap()
    );
    let mut command = Command::new("python3");
    command.args(["-c", &script]).uid(OTHER).gid(OTHER);
    let mut listener = Process::start(command, folder.path());
    crate::common::wait_for_file(&socket);
    let ask = || -> Ran { folder.run(&["--socket", socket.to_str().unwrap(), "halt"]) };
    // A socket at which its own user listens may be asked; one that was given to another user is not.
    std::os::unix::fs::chown(&socket, Some(0), None).unwrap();
    let ran = ask();
    let error = ran.error();
    assert!(
        error.contains(&format!("a process of uid {OTHER} listens at"))
            && error.contains("nothing was asked"),
        "{error}"
    );
    let heard = listener.until("it is left", |it| {
        Some(it.stdout()).filter(|out| !out.is_empty())
    });
    assert_eq!(heard, "b''\n");
}

#[test]
fn without_a_host_that_is_said_and_a_folder_that_is_not_there_is_none_of_a_host() {
    let (_cloud, folder) = with_cloud();
    for verb in [
        &["plugin", "list"][..],
        &["halt", "--list"],
        &["approvals", "list"],
    ] {
        let ran = folder.run(verb);
        assert!(ran.good().stderr.contains("no host runs"), "{ran:?}");
    }
    let ran = folder.run(&["resume"]);
    assert!(ran.error().contains("no halt is for everything"), "{ran:?}");
    assert_eq!(ran.stdout.trim(), "nothing is halted", "{ran:?}");
    for verb in [
        &["halt", "--list"][..],
        &["halt"],
        &["plugin", "list"],
        &["resume"],
    ] {
        let ran = folder.run(&[&["--data", "nowhere"], verb].concat());
        assert!(ran.error().contains("no such folder"), "{ran:?}");
    }
    assert!(!folder.path().join("nowhere").exists());
    std::fs::write(folder.path().join("qchost.toml"), "x = [").unwrap();
    let ran = folder.run(&["call", "read_account"]);
    let error = ran.error();
    assert!(
        error.contains("qchost.toml:1") && error.contains("no running host was found"),
        "{error}"
    );
}

#[test]
fn a_command_in_the_wrong_folder_says_where_it_looked() {
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().canonicalize().unwrap();
    let folder = Folder::embedded("emulator");
    let looked = place.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = folder.command(arguments);
        command.current_dir(&place);
        Process::start(command, folder.path()).wait()
    };
    for verb in [&["reload"][..], &["plugin", "list"], &["demo"]] {
        let ran = run(verb);
        assert!(ran.error().contains(looked), "{ran:?}");
    }
    let ran = run(&["--json", "doctor"]);
    assert!(ran.stdout.contains(looked), "{ran:?}");
    // Where there is a configuration and no host, the data folder is named too.
    let ran = folder.run(&["reload"]);
    let data = folder.path().canonicalize().unwrap().join("data");
    assert!(ran.error().contains(data.to_str().unwrap()), "{ran:?}");
}
