//! What an operator can do if no host answers: none is running, or the one that is running is stopped.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use qchost_emulator::{Fault, FaultKind};
use qchost_testing::Mounted;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::categories::{folder, serving};
use crate::cloud::Cloud;
use crate::common::{Folder, embedded, private_file};
use crate::policies::GUARDRAIL;
use crate::process::{BOUND, signal, wait_until};

/// Uses up all free space in the data folder.
fn fill(folder: &Folder) {
    let path = folder.path().join("data/ballast");
    let mut ballast = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    let piece = vec![0_u8; 1 << 12];
    while ballast.write_all(&piece).is_ok() {}
}

fn empty(folder: &Folder) {
    std::fs::remove_file(folder.path().join("data/ballast")).unwrap();
}

/// A process that only halts reads no guardrails, so it must not record that they changed.
#[test]
fn a_halt_without_a_host_is_no_change_of_the_guardrails() {
    let cloud = Cloud::start();
    let folder = folder(&embedded(cloud.url()));
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/hours.cedar"), GUARDRAIL).unwrap();
    let changes = || {
        let query = ["audit", "query", "--kind", "change", "--json"];
        folder.run(&query).good().stdout.clone()
    };
    folder.run(&["call", "read_account"]).good();
    let recorded = changes();
    assert!(recorded.contains("no-nights"), "{recorded}");
    folder.run(&["halt"]).good();
    folder.run(&["resume"]).good();
    folder.run(&["call", "read_account"]).good();
    assert_eq!(changes(), recorded);
}

#[test]
fn a_full_disk_without_a_host_keeps_no_operator_from_halting_and_from_seeing_what_is_halted() {
    let cloud = Cloud::start();
    let folder = folder(&format!(
        "[audit]\nreserve = \"1MiB\"\n{}",
        embedded(cloud.url())
    ));
    let data = folder.path().join("data");
    let key = std::fs::read(data.join("host.key")).unwrap();
    let Some(_mounted) = Mounted::at(&data, "16m") else {
        return;
    };
    private_file(&data.join("host.key"), key);
    let host = folder.serve(&["run"]);
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    folder.run(&["halt", "--account", "research"]).good();
    // The database does not store this halt, and the host is killed before it can. A checkpoint of the database may free
    // space after the disk was filled; then that is used up as well.
    let halted = wait_until("a halt that only the reserve holds", || {
        fill(&folder);
        let halted = folder.run(&["halt", "--plugin", "every-category"]);
        if halted.stdout.contains("in the reserve") {
            return Some(halted);
        }
        folder.run(&["resume", "--plugin", "every-category"]);
        None
    });
    halted.good();
    drop(host);

    let listed = folder.run(&["halt", "--list"]);
    let text = &listed.good().stdout;
    assert!(
        text.contains("research") && text.contains("in the reserve"),
        "{listed:?}"
    );
    assert!(!text.contains("UNTIL THE HOST ENDS"), "{text}");
    let ran = folder.run(&["halt"]);
    assert!(
        ran.good()
            .stdout
            .contains("halted: everything, by the file"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("the halt cannot be stored") && ran.stderr.contains("full"),
        "{ran:?}"
    );
    assert_eq!(std::fs::metadata(data.join("halt")).unwrap().len(), 0);
    // Nothing is known to be liquidated, so the exit status is no success.
    let ran = folder.run(&["halt", "--liquidate"]);
    assert!(ran.error().contains("nothing is liquidated"), "{ran:?}");
    let halts = folder.run(&["--json", "halt", "--list"]).json();
    let halts = halts.as_array().unwrap().iter();
    let mut kept: Vec<_> = halts.map(|it| it["kept"].as_str().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["database", "file", "reserve"]);
    let listed = folder.run(&["halt", "--list"]);
    assert!(
        !listed.good().stdout.contains("UNTIL THE HOST ENDS"),
        "{listed:?}"
    );
    let ran = folder.run(&["resume"]);
    assert!(
        ran.error().contains("what is halted stays halted"),
        "{ran:?}"
    );
    assert!(data.join("halt").exists());

    // A narrower halt becomes one of everything, since accounts and plugins cannot be looked up.
    std::fs::remove_file(data.join("halt")).unwrap();
    let ran = folder.run(&["halt", "--plugin", "nosuch"]);
    ran.good();
    empty(&folder);
    let host = folder.serve(&["run"]);
    let ran = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert!(ran.error().contains("halted"), "{ran:?}");
    assert_eq!(cloud.created_backtests(), Vec::<String>::new());
    folder.run(&["resume"]).good();
    assert!(!data.join("halt").exists());
    host.end();
}

/// Verbs with an effect, each with a way to see whether it was carried out.
const ACTING: [(&[&str], &str); 9] = [
    (&["resume"], "qchost halt --list"),
    (
        &["approvals", "approve", "ap-1"],
        "qchost approvals list --all",
    ),
    (
        &["approvals", "refuse", "ap-1", "--reason", "no"],
        "qchost approvals list --all",
    ),
    (
        &["approvals", "revoke", "ap-1"],
        "qchost approvals list --all",
    ),
    (&["reload"], "qchost plugin list"),
    (&["invoke", "every-category.account"], "qchost audit query"),
    (&["call", "read_account"], "qchost audit query"),
    (&["audit", "reconcile"], "qchost audit query"),
    (&["backup", "copy"], "qchost audit query"),
];

#[test]
fn what_acts_is_given_up_where_the_host_is_stopped_and_not_where_it_takes_long() {
    let cloud = Cloud::start();
    let slow = Cloud::start();
    let [stopped, busy] = [&cloud, &slow].map(|cloud| folder(&embedded(cloud.url())));
    let (host, other) = (stopped.serve(&["run"]), busy.serve(&["run"]));
    stopped.run(&["halt"]).good();
    let takes = |cloud: &Cloud, path: &str, seconds| {
        let latency = FaultKind::Latency(std::time::Duration::from_secs(seconds));
        cloud.emulator().set_faults(vec![Fault::at(path, latency)]);
    };
    // The twin: takes longer than a silent host is waited for.
    takes(&slow, "/lean/versions/read", 40);
    let long = busy.start(&["call", "read_lean_versions"]);
    // A host that received the request, and is stopped in the middle.
    takes(&cloud, "/lean/versions/read", 60);
    let heard = stopped.start(&["call", "read_lean_versions"]);
    wait_until("it is sent", || {
        (!cloud.requests_to("/lean/versions/read").is_empty()).then_some(())
    });
    signal(host.id(), Signal::STOP);
    let begun = Instant::now();
    let started: Vec<_> = ACTING
        .iter()
        .map(|(verb, shown)| (stopped.start(verb), *verb, *shown))
        .collect();
    let says = format!(
        "no answer from the host (process {}): it may still be",
        host.id()
    );
    let waited = started
        .into_iter()
        .chain([(heard, &["call"][..], "qchost audit query")]);
    for (process, verb, shown) in waited {
        let ran = process.wait();
        let error = ran.error();
        assert!(
            error.contains(&says) && error.contains(shown),
            "{verb:?}: {error}"
        );
    }
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    signal(host.id(), Signal::CONT);
    long.wait().good();
    // The effect can be read back.
    stopped.run(&["halt", "--list"]).good();
    drop((host, other));
}

#[test]
fn a_missing_key_is_named_by_every_verb_and_replaced_by_none() {
    let (_cloud, folder, host) = serving();
    host.end();
    let key = folder.path().join("data/host.key");
    let was = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    for verb in [
        &["plugin", "list"][..],
        &["plugin", "grants", "every-category"],
        &["approvals", "list"],
        &["call", "read_account"],
        &["resume"],
        &["audit", "verify"],
        &["run"],
    ] {
        let ran = folder.run(verb);
        let error = ran.error();
        assert!(
            error.contains("host.key is missing") && error.contains("qchost restore"),
            "{verb:?}: {error}"
        );
        assert!(!key.exists(), "{verb:?}");
    }
    // Neither halting nor reading halts needs a key.
    let listed = folder.run(&["halt", "--list"]);
    assert!(
        listed.good().stdout.contains("nothing is halted"),
        "{listed:?}"
    );
    let ran = folder.run(&["halt"]);
    assert!(ran.good().stdout.contains("by the file"), "{ran:?}");
    assert!(ran.stderr.contains("host.key is missing"), "{ran:?}");
    let ran = folder.run(&["--json", "doctor"]);
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
    let check = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["what"] == "host key");
    let check = check.unwrap_or_else(|| panic!("{checks}"));
    assert_eq!(check["mark"], "failed", "{check}");
    assert!(check["fix"].as_str().unwrap().contains("backup"), "{check}");
    assert!(!key.exists());
    private_file(&key, was);
    folder.run(&["audit", "verify"]).good();
    folder.run(&["resume"]).good();
}

/// The process that holds the lock is no host, so it is not waited for and not reported as silent.
#[test]
fn a_lock_that_no_host_has_is_not_taken_for_a_host_that_does_not_answer() {
    let (_cloud, folder, host) = serving();
    host.end();
    let script = format!(
        "import fcntl,time\nf=open({:?},'r+')\nfcntl.flock(f,fcntl.LOCK_EX)\nprint('locked',flush=True)\ntime.sleep(600)",
        folder.path().join("data/host.lock").to_str().unwrap()
    );
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &script]);
    let mut locker = crate::process::Process::start(command, folder.path());
    locker.until("it is locked", |it| {
        it.stdout().contains("locked").then_some(())
    });
    let ran = folder.run(&["halt"]);
    assert!(ran.good().stdout.contains("by the file"), "{ran:?}");
    assert!(
        ran.stderr.contains("a process that is no host has locked")
            && !ran.stderr.contains("does not answer"),
        "{ran:?}"
    );
}

/// The package may be replaced by another version while the host runs.
#[test]
fn a_host_that_speaks_another_version_is_halted_by_the_file() {
    let folder = Folder::embedded("emulator");
    let data = folder.path().join("data");
    let listener = UnixListener::bind(data.join("control.sock")).unwrap();
    let answers = [
        "{\"failed\":\"what is this?\"}\n",
        "{\"version\":4,\"message\":{\"stopped\":true}}\n",
        "{\"version\":3,\"message\":{\"unheard-of\":true}}\n",
    ];
    let other = std::thread::spawn(move || {
        for answer in answers.into_iter().chain([answers[0]]) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for answer in answers {
        let ran = folder.run(&["halt", "--account", "research"]);
        assert!(
            ran.good()
                .stdout
                .contains("halted: everything, by the file"),
            "{answer}: {ran:?}"
        );
        assert!(
            ran.stderr.contains("it cannot be read") || ran.stderr.contains("version 3"),
            "{answer}: {ran:?}"
        );
        std::fs::remove_file(data.join("halt")).unwrap();
    }
    let ran = folder.run(&["halt", "--liquidate"]);
    assert!(
        ran.error().contains("nothing is known to be liquidated"),
        "{ran:?}"
    );
    assert!(data.join("halt").exists());
    other.join().unwrap();
}
