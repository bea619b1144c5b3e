//! `qchost halt` in broken situations: each time the halt is in force and answered within a second. Unless
//! `QCHOST_STRICT=1` demands that second, the limit grows by the time that the busy machine takes to start and end the
//! same binary and to store a file.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qchost_emulator::{Fault, FaultKind};
use qchost_testing::{Mounted, can_change_user};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::json;

use crate::cloud::Cloud;
use crate::common::{BINARY, Folder, embedded, wait_for_file};
use crate::desk::{Desk, OPERATOR, VIEWER};
use crate::discovery::HARMS;
use crate::guests::{caller, insistent, long, worker};
use crate::process::{BOUND, Process, command_line, signal, tree, wait_until};
use crate::running::{GRANT, PROJECTS, Running, plugin, serve};
use crate::socket::{Answer, Control};
use crate::starting::lock_database;
use crate::steady::resident;

/// A broken situation: its name, and what is tried in it.
type Situation = (&'static str, fn(&str));

const FILES: [Situation; 9] = [
    ("the plugins' folder is gone", plugins_gone),
    ("a guardrail is no Cedar", guardrail_broken),
    ("guardrails are many and deep", guardrails_many),
    (
        "guardrails are many and deep, and no host runs",
        guardrails_many_and_no_host,
    ),
    ("a manifest is no TOML", manifest_broken),
    ("the configuration names another data folder", data_changed),
    ("host.json is gone", announcement_gone),
    ("host.lock is gone", lock_gone),
    ("the audit's folder is gone", audit_gone),
];
const STATES: [Situation; 7] = [
    ("the host starts and compiles", starting),
    ("the host starts and its state is not open", opening),
    ("the host drains", draining),
    ("a reload compiles", reloading),
    ("writes that were sent are not answered", hanging),
    ("the host sleeps", asleep),
    ("the host wakes", slept),
];
const LOADS: [Situation; 4] = [
    ("10,000 invocations", invocations),
    ("workers are held by hostile text", hostile_text),
    ("2,000 half-open connections", half_open),
    ("100 halts at once", halts_at_once),
];
const RESOURCES: [Situation; 6] = [
    ("no file descriptor is left", descriptors),
    ("the database is locked by another process", database_locked),
    ("the disk is full", disk_full),
    ("the log is not read", log_blocked),
    ("the clock jumped a year ahead", clock_ahead),
    ("the clock jumped a year back", clock_back),
];
const VIEWERS: [Situation; 5] = [
    ("a viewer's denied requests", viewer_denied),
    ("a viewer's request of 58 MB", viewer_large),
    ("a viewer's unread exports", viewer_unread),
    ("a viewer's half-open connections", viewer_silent),
    ("a viewer's requests without end", viewer_flood),
];

#[test]
fn there_are_at_least_25_situations() {
    let all = FILES.len() + STATES.len() + LOADS.len() + RESOURCES.len() + VIEWERS.len();
    assert!(HARMS.len() + all >= 25, "{all}");
}

#[test]
fn whatever_became_of_the_configuration_a_halt_is_set() {
    let running = host("");
    let path = running.path("qchost.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    for (name, harm) in HARMS {
        harm(&path);
        halts(name, &running, &["--data", "data"]);
        crate::discovery::mend(&path, &good);
        is_halted(name, &running);
        running.folder.run(&["resume"]).good();
    }
}

#[test]
fn whatever_became_of_the_files_a_halt_is_set() {
    FILES.iter().for_each(|(name, tried)| tried(name));
}

#[test]
fn whatever_the_host_is_at_a_halt_is_set() {
    STATES.iter().for_each(|(name, tried)| tried(name));
}

#[test]
fn however_busy_the_host_is_a_halt_is_set() {
    LOADS.iter().for_each(|(name, tried)| tried(name));
}

#[test]
fn whatever_the_host_lacks_a_halt_is_set() {
    RESOURCES.iter().for_each(|(name, tried)| tried(name));
}

#[test]
fn whatever_a_viewer_does_a_halt_is_set() {
    VIEWERS.iter().for_each(|(name, tried)| tried(name));
}

/// A host with a plugin that writes, and makes calls that take a while.
fn host(configuration: &str) -> Running {
    let (folder, cloud) = prepared(configuration);
    Running::of(serve(&folder), folder, cloud)
}

fn prepared(configuration: &str) -> (Folder, Cloud) {
    let cloud = Cloud::start();
    let folder = Folder::new(&format!("{configuration}\n{}", embedded(cloud.url())));
    let project = json!({ "name": "Lab/x", "language": "Py" }).to_string();
    let writer = caller(1, &[("create_project", Some(project.as_str()))]);
    let lines = format!("{GRANT}{PROJECTS}[limits]\nwall = \"10m\"\n");
    plugin(&folder, "writer", &writer, &lines);
    let slow = worker(2, ("read_account", Some("{}")));
    plugin(&folder, "slow", &slow, &lines);
    (folder, cloud)
}

/// How long a halt may take.
fn bound() -> Duration {
    let second = Duration::from_secs(1);
    match std::env::var("QCHOST_STRICT") {
        Ok(_) => second,
        Err(_) => second + 20 * (nothing_takes() + a_file_takes()).max(Duration::from_millis(100)),
    }
}

/// How long the binary takes at present to start, print a text and end.
pub fn nothing_takes() -> Duration {
    median(|| {
        let ran = Command::new(BINARY).args(["schema", "manifest"]).output();
        assert!(ran.is_ok_and(|ran| ran.status.success()));
    })
}

/// How long the disk takes at present to store a file.
fn a_file_takes() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    median(|| {
        let mut file = File::create(folder.path().join("file")).unwrap();
        file.write_all(b"halted").unwrap();
        file.sync_all().unwrap();
    })
}

fn median(once: impl Fn()) -> Duration {
    let mut times = [(); 3].map(|()| {
        let begun = Instant::now();
        once();
        begun.elapsed()
    });
    times.sort_unstable();
    times[1]
}

fn in_time(name: &str, begun: Instant) {
    let took = begun.elapsed();
    let bound = bound();
    eprintln!("{name}: {took:?} of {bound:?}");
    assert!(took < bound, "{name}: it took {took:?} of {bound:?}");
}

/// Halts within the limit.
fn halts(name: &str, running: &Running, arguments: &[&str]) {
    halt_in(name, &running.folder, arguments);
}

fn halt_in(name: &str, folder: &Folder, arguments: &[&str]) {
    let begun = Instant::now();
    let ran = folder.run(&[arguments, &["halt", "--reason", name]].concat());
    in_time(name, begun);
    assert!(ran.status.success(), "{name}: {ran:?}");
    assert!(ran.stdout.contains("halted: everything"), "{name}: {ran:?}");
}

/// Checks that no write is sent any more.
fn is_halted(name: &str, running: &Running) {
    let before = running.cloud.requests_to("/projects/create").len();
    let answer = running.act("writer");
    assert!(
        matches!(&answer, Answer::Failed(why) if why.contains("halted")),
        "{name}: {answer:?}"
    );
    let after = running.cloud.requests_to("/projects/create").len();
    assert_eq!(before, after, "{name}");
}

/// Whether the halt is listed, for cases in which no write can be tried.
fn is_listed(name: &str, folder: &Folder) {
    let listed = folder.run(&["halt", "--list"]);
    // A halt that the host is too busy to accept on its socket is made by the file `halt`.
    let stands = [name, "by the file `halt`"].map(|words| listed.good().stdout.contains(words));
    assert!(stands.contains(&true), "{name}: {listed:?}");
}

fn plugins_gone(name: &str) {
    let running = host("");
    std::fs::rename(running.path("plugins"), running.path("gone")).unwrap();
    halts(name, &running, &[]);
    std::fs::rename(running.path("gone"), running.path("plugins")).unwrap();
    running.until(
        "writer",
        |answer| matches!(answer, Answer::Failed(why) if why.contains("halted")),
    );
    is_halted(name, &running);
}

fn guardrail_broken(name: &str) {
    let running = host("");
    std::fs::create_dir(running.path("policies")).unwrap();
    std::fs::write(running.path("policies/a.cedar"), "forbid (").unwrap();
    halts(name, &running, &[]);
    is_halted(name, &running);
}

/// A few simple rules, deep enough for a stack that was not sized for them; then more and deeper ones.
fn guardrails_many(name: &str) {
    let running = host("");
    let policies = running.path("policies");
    std::fs::create_dir(&policies).unwrap();
    let names: Vec<_> = (0..6)
        .map(|at| format!("resource.name == \"Lab/p{at}\""))
        .collect();
    let ordinary = format!(
        "@id(\"named\")\nforbid (principal, action, resource is Project) when {{ {} || resource.name == \"Lab/x\" }};\n\
         @id(\"live\")\nforbid (principal, action in Action::\"trade\", resource is Project) when {{ {} }};\n",
        names.join(" || "),
        ["context has live && context.live"; 10].join(" && ")
    );
    std::fs::write(policies.join("a.cedar"), ordinary).unwrap();
    running.until(
        "writer",
        |answer| matches!(answer, Answer::Failed(why) if why.contains("`named`")),
    );
    many_and_deep(&policies);
    halts(name, &running, &[]);
    is_halted(name, &running);
    let reload = running.folder.run(&["reload"]);
    assert!(
        !reload.status.success() && reload.stdout.contains("more than"),
        "{reload:?}"
    );
}

fn many_and_deep(policies: &Path) {
    let rule = |at| format!("forbid (principal == Plugin::\"p{at}\", action, resource);\n");
    let many: String = (0..8000).map(rule).collect();
    std::fs::write(policies.join("many.cedar"), many).unwrap();
    for (file, open, close, count) in [
        ("brackets", "(", ")", 3000),
        ("or", "context.live || ", "", 80),
        ("and", "context.live && ", "", 2000),
        ("if", "if context.live then ", " else false", 3000),
        ("sets", "[", "] == []", 3000),
    ] {
        let (open, close) = (open.repeat(count), close.repeat(count));
        let deep = format!(
            "forbid (principal, action, resource is Project) when {{ {open}true{close} }};\n"
        );
        std::fs::write(policies.join(format!("{file}.cedar")), deep).unwrap();
    }
}

fn guardrails_many_and_no_host(name: &str) {
    for arguments in [&["--data", "data"][..], &[]] {
        let (folder, _cloud) = prepared("");
        let host = serve(&folder);
        host.end();
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        many_and_deep(&policies);
        halt_in(name, &folder, arguments);
        is_listed(name, &folder);
        // Neither the host that cannot start nor a command that reads them crashes.
        for arguments in [
            &["run"][..],
            &["validate", "policies/brackets.cedar"],
            &["validate", "policies/many.cedar"],
        ] {
            let ran = folder.run(arguments);
            assert_eq!(ran.status.code(), Some(1), "{arguments:?}: {ran:?}");
        }
    }
}

fn manifest_broken(name: &str) {
    let running = host("");
    std::fs::write(running.path("plugins/slow.toml"), "[[[").unwrap();
    halts(name, &running, &[]);
    is_halted(name, &running);
}

fn data_changed(name: &str) {
    for arguments in [&["--data", "data"][..], &[]] {
        let running = host("");
        running.configure("data = \"data\"", "data = \"other\"");
        halts(name, &running, arguments);
        running.configure("data = \"other\"", "data = \"data\"");
        is_halted(name, &running);
    }
}

fn announcement_gone(name: &str) {
    let running = host("");
    std::fs::remove_file(running.path("data/host.json")).unwrap();
    halts(name, &running, &[]);
    is_halted(name, &running);
}

fn lock_gone(name: &str) {
    let running = host("");
    std::fs::remove_file(running.path("data/host.lock")).unwrap();
    halts(name, &running, &[]);
    is_halted(name, &running);
}

fn audit_gone(name: &str) {
    let running = host("");
    std::fs::rename(running.path("data/audit"), running.path("data/gone")).unwrap();
    std::fs::write(running.path("data/audit"), "").unwrap();
    halts(name, &running, &[]);
    is_halted(name, &running);
}

/// A host that has to compile something before it is ready.
fn starting(name: &str) {
    let cloud = Cloud::start();
    let folder = Folder::apart(&embedded(cloud.url()));
    plugin(&folder, "lab", &long(7), "");
    let mut host = folder.start(&["run"]);
    compiles(&mut host);
    halt_in(name, &folder, &[]);
    assert!(
        !host.stdout().contains("ready"),
        "{name}: {}",
        host.stdout()
    );
    is_listed(name, &folder);
}

fn compiles(host: &mut Process) {
    host.until("it compiles", |host| {
        let mut processes = tree(host.id()).into_iter();
        processes
            .any(|process| command_line(process).contains("compile-component"))
            .then_some(())
    });
}

fn opening(name: &str) {
    let (folder, cloud) = prepared("");
    let first = serve(&folder);
    first.end();
    let locker = lock_database(&folder.path().join("data/state.db"), folder.path());
    let mut host = folder.start(&["run"]);
    wait_for_file(&folder.path().join("data/control.sock"));
    halt_in(name, &folder, &[]);
    drop(locker);
    host.until("it is ready", |host| {
        host.stdout().contains("ready").then_some(())
    });
    let running = Running::of(host, folder, cloud);
    is_halted(name, &running);
}

fn latency(cloud: &Cloud, path: &str, latency: Duration) {
    let fault = Fault::at(path, FaultKind::Latency(latency));
    cloud.emulator().set_faults(vec![fault]);
}

fn draining(name: &str) {
    let running = host("");
    latency(&running.cloud, "/account/read", Duration::from_secs(8));
    let invoke = json!({ "verb": "invoke", "action": "slow.slow", "input": {} });
    let _slow = running.control.begin(&invoke);
    wait_until("it runs", || {
        (!running.cloud.requests_to("/account/read").is_empty()).then_some(())
    });
    running.host.terminate();
    wait_until("it drains", || {
        running
            .host
            .stderr()
            .contains("shutdown requested")
            .then_some(())
    });
    halts(name, &running, &[]);
    is_listed(name, &running.folder);
}

fn reloading(name: &str) {
    let mut running = host("");
    plugin(&running.folder, "lab", &fresh(), "");
    compiles(&mut running.host);
    let reload = running.folder.start(&["reload"]);
    halts(name, &running, &[]);
    is_halted(name, &running);
    drop(reload);
}

/// A component that no run before has compiled.
fn fresh() -> Vec<u8> {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    crate::guests::long_marked(9, &since.as_nanos().to_string())
}

fn hanging(name: &str) {
    let running = host("");
    latency(&running.cloud, "/projects/create", Duration::from_secs(20));
    let invoke = json!({ "verb": "invoke", "action": "writer.act", "input": {} });
    let _write = running.control.begin(&invoke);
    wait_until("it is sent", || {
        (!running.cloud.requests_to("/projects/create").is_empty()).then_some(())
    });
    halts(name, &running, &[]);
    is_halted(name, &running);
}

fn asleep(name: &str) {
    let running = host("");
    let host = running.host.id();
    signal(host, rustix::process::Signal::STOP);
    halts(name, &running, &[]);
    signal(host, rustix::process::Signal::CONT);
    is_halted(name, &running);
}

fn slept(name: &str) {
    let running = host("");
    let host = running.host.id();
    signal(host, rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    let halting = running.folder.start(&["halt", "--reason", name]);
    signal(host, rustix::process::Signal::CONT);
    let ran = halting.wait();
    in_time(name, begun);
    assert!(
        ran.good().stdout.contains("halted: everything"),
        "{name}: {ran:?}"
    );
    is_halted(name, &running);
}

/// Raises this process's limit of open files for the connections of the test.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).unwrap();
}

/// Operators who together have as many invocations as the host allows.
const CALLERS: std::ops::Range<u32> = 64_010..64_015;
/// Invocations of each: slightly more than a fifth, since some end meanwhile.
const CALLS: usize = 2_050;
const OUTSTANDING: u64 = 10_000;

/// The program that each of them runs: it requests invocations and reads no answers.
const CALLER_SCRIPT: &str = r#"
import json, resource, socket, sys, time
path, config, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
body = json.dumps({"verb": "invoke", "action": "slow.slow", "input": {}}).encode()
head = {"config": config, "verb": "invoke", "about": "slow", "bytes": len(body)}
head = json.dumps({"version": 4, "message": head}).encode()
held = []
for n in range(count):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(head + b"\n" + body)
    held.append(s)
print("asked", flush=True)
time.sleep(600)
"#;

fn invocations(name: &str) {
    if !can_change_user() {
        return;
    }
    allow_files();
    assert!(
        getrlimit(Resource::Nofile)
            .maximum
            .is_none_or(|files| files >= 20_000),
        "this test holds 10,000 connections, so its processes must be allowed 20,000 files: ulimit -Hn"
    );
    let (group, gid) = crate::desk::some_group();
    let callers: String = CALLERS
        .map(|uid| format!("[people.c{uid}]\nuid = {uid}\nroles = [\"operator\"]\n"))
        .collect();
    let me = rustix::process::geteuid().as_raw();
    let (folder, cloud) = prepared(&format!(
        "limits = {{ research = {{ per-minute = 100000 }} }}\nengine = {{ queue = {} }}\n\
         control = {{ socket = \"run/control.sock\", group = \"{group}\" }}\n\
         [people.me]\nuid = {me}\nroles = [\"admin\"]\n{callers}",
        2 * OUTSTANDING
    ));
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(folder.path().join("run")).unwrap();
    open(folder.path(), 0o755);
    open(&folder.path().join("run"), 0o755);
    let script = folder.path().join("caller.py");
    std::fs::write(&script, CALLER_SCRIPT).unwrap();
    open(&script, 0o644);
    latency(&cloud, "/account/read", Duration::from_secs(600));
    let running = Running {
        host: serve(&folder),
        control: Control::at(&folder, "run/control.sock"),
        folder,
        cloud,
    };
    let callers: Vec<Process> = CALLERS
        .map(|uid| {
            let mut command = Command::new("python3");
            command
                .arg(&script)
                .arg(running.path("run/control.sock"))
                .arg(running.path("qchost.toml").canonicalize().unwrap())
                .arg(CALLS.to_string())
                .uid(uid)
                .gid(gid);
            Process::start(command, running.folder.path())
        })
        .collect();
    let outstanding = || {
        let rows = running.control.plugins();
        let slow = rows.iter().find(|row| row["plugin"] == "slow").unwrap();
        slow["waiting"].as_u64().unwrap() + slow["running"].as_u64().unwrap()
    };
    let begun = Instant::now();
    while outstanding() < OUTSTANDING {
        assert!(begun.elapsed() < 4 * BOUND, "{name}: {}", outstanding());
        std::thread::sleep(Duration::from_millis(200));
    }
    halts(name, &running, &[]);
    assert!(outstanding() >= OUTSTANDING, "{name}");
    is_listed(name, &running.folder);
    drop(callers);
    running.until(
        "writer",
        |answer| matches!(answer, Answer::Failed(why) if why.contains("halted")),
    );
    is_halted(name, &running);
}

/// CPU time of a process's threads with this name, in ticks.
fn ticks(process: u32, name: &str) -> std::collections::BTreeMap<String, u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let stats = threads.filter_map(|thread| {
        let path = thread.unwrap().path();
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<u64> = rest
            .split(' ')
            .map(|field| field.trim().parse().unwrap_or_default())
            .collect();
        let thread = path.file_name()?.to_str()?.to_owned();
        head.ends_with(name)
            .then_some((thread, fields[11] + fields[12]))
    });
    stats.collect()
}

/// A plugin has as many invocations as it may, which repeatedly pass hostile text or count.
fn hostile_text(name: &str) {
    const WORKER: &str = "tokio-rt-worker";
    let (folder, cloud) = prepared("limits = { research = { per-minute = 100000 } }");
    let files = "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"*\"]\n";
    let lines = format!(
        "{GRANT}{PROJECTS}{files}[limits]\ncpu = \"10m\"\nwall = \"10m\"\nconcurrency = 32\n"
    );
    plugin(&folder, "hostile", &insistent("patch_file"), &lines);
    let running = Running::of(serve(&folder), folder, cloud);
    let made = running.folder.call(
        "create_project",
        &json!({ "name": "Lab/x", "language": "Py" }),
    );
    let project = &made["projects"][0]["projectId"];
    let input = json!({ "projectId": project, "patch": "\n".repeat(300_000) });
    let invoke = |action: &str| json!({ "verb": "invoke", "action": action, "input": input });
    let held: Vec<_> = ["hostile.act", "hostile.count"]
        .repeat(8)
        .into_iter()
        .map(|action| running.control.begin(&invoke(action)))
        .collect();
    let host = running.host.id();
    let before = ticks(host, WORKER);
    assert!(!before.is_empty(), "{name}: no thread is a {WORKER}");
    wait_until("every worker is busy", || {
        let now = ticks(host, WORKER);
        // Each takes a quarter of a second.
        before
            .iter()
            .all(|(thread, ticks)| now.get(thread).is_some_and(|now| now - ticks >= 25))
            .then_some(())
    });
    let busy = |running: &Running| {
        let rows = running.control.plugins();
        let row = rows.iter().find(|row| row["plugin"] == "hostile").unwrap();
        row["running"].as_u64().unwrap()
    };
    halts(name, &running, &[]);
    assert_eq!(busy(&running), 16, "{name}");
    is_listed(name, &running.folder);
    drop(held);
    is_halted(name, &running);
}

fn half_open(name: &str) {
    allow_files();
    let running = host("");
    let socket = running.path("data/control.sock");
    let silent: Vec<_> = (0..2_000)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    halts(name, &running, &[]);
    is_halted(name, &running);
    drop(silent);
}

fn halts_at_once(name: &str) {
    let running = host("");
    let halt = json!({ "verb": "halt", "account": null, "plugin": null, "reason": "many", "liquidate": false });
    let many: Vec<_> = (0..100).map(|_| running.control.begin(&halt)).collect();
    halts(name, &running, &[]);
    is_halted(name, &running);
    drop(many);
}

fn descriptors(name: &str) {
    let running = host("");
    let process = running.host.id();
    let files = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .count() as u64;
    let limit = Rlimit {
        current: Some(files + 4),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let pid = Pid::from_raw(process.try_into().unwrap());
    let before = prlimit(pid, Resource::Nofile, limit).unwrap();
    // Clients that have made a request, so they are not dropped to make room.
    latency(&running.cloud, "/account/read", Duration::from_secs(30));
    let invoke = json!({ "verb": "invoke", "action": "slow.slow", "input": {} });
    let held: Vec<_> = (0..40).map(|_| running.control.connect(&invoke)).collect();
    wait_until("no file is left", || {
        let words = "no further client of the control socket for now";
        running.host.stderr().contains(words).then_some(())
    });
    halts(name, &running, &[]);
    is_listed(name, &running.folder);
    drop(held);
    prlimit(pid, Resource::Nofile, before).unwrap();
    // Clients that connected when the host was full have been dropped by then.
    running.until(
        "writer",
        |answer| matches!(answer, Answer::Failed(why) if why.contains("halted")),
    );
    is_halted(name, &running);
}

fn database_locked(name: &str) {
    let running = host("");
    let locker = lock_database(&running.path("data/state.db"), running.folder.path());
    halts(name, &running, &[]);
    is_listed(name, &running.folder);
    drop(locker);
    is_halted(name, &running);
}

fn disk_full(name: &str) {
    let (folder, cloud) = prepared("[audit]\nreserve = \"1MiB\"");
    let data = folder.path().join("data");
    let key = std::fs::read(data.join("host.key")).unwrap();
    let Some(_mounted) = Mounted::at(&data, "16m") else {
        return;
    };
    crate::common::private_file(&data.join("host.key"), key);
    let running = Running::of(serve(&folder), folder, cloud);
    let mut ballast = File::create(data.join("ballast")).unwrap();
    let piece = vec![0_u8; 1 << 12];
    while std::io::Write::write_all(&mut ballast, &piece).is_ok() {}
    halts(name, &running, &[]);
    is_listed(name, &running.folder);
    is_halted(name, &running);
    drop(running);
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn log_blocked(name: &str) {
    let (folder, _cloud) = prepared("");
    let child = folder
        .command(&["--log", "trace", "run"])
        .stdin(Stdio::null())
        .stdout(File::create(folder.path().join("out")).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _host = Killed(child);
    wait_until("it is ready", || {
        let out = std::fs::read_to_string(folder.path().join("out")).unwrap();
        out.contains("ready").then_some(())
    });
    let control = Control::of(&folder);
    // More than the pipe can buffer.
    for _ in 0..100 {
        assert_eq!(
            control.invoke("slow.act", &json!({})),
            Answer::Done(json!(2))
        );
    }
    halt_in(name, &folder, &[]);
    is_listed(name, &folder);
}

/// Shifts the clock that a process sees by the number of seconds in a file.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile long *offset;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    void *at = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) offset = at;
}
int clock_gettime(clockid_t id, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, time);
    if (offset && id == CLOCK_REALTIME) time->tv_sec += *offset;
    return result;
}
"#;

fn clock_ahead(name: &str) {
    clock(name, 365 * 24 * 3600);
}

fn clock_back(name: &str) {
    clock(name, -365 * 24 * 3600);
}

fn clock(name: &str, jump: i64) {
    let (folder, cloud) = prepared("");
    let [source, library, offset] =
        ["clock.c", "clock.so", "offset"].map(|file| folder.path().join(file));
    std::fs::write(&source, CLOCK).unwrap();
    std::fs::write(&offset, 0_i64.to_ne_bytes()).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(
        made.is_ok_and(|it| it.success()),
        "this test needs a C compiler, as linking does"
    );
    let mut command = folder.command(&["run"]);
    command
        .env("LD_PRELOAD", &library)
        .env("CLOCK_OFFSET", &offset);
    let mut host = Process::start(command, folder.path());
    host.until("it is ready", |host| {
        host.stdout().contains("ready").then_some(())
    });
    let running = Running::of(host, folder, cloud);
    // Written in place, since the process has mapped the file.
    let file = File::options().write(true).open(&offset).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &jump.to_ne_bytes(), 0).unwrap();
    halts(name, &running, &[]);
    is_listed(name, &running.folder);
    // The host noticed: by its clock the halt is a year away.
    let halts = running.folder.run(&["--json", "halt", "--list"]).json();
    let since: jiff::Timestamp = halts[0]["since"].as_str().unwrap().parse().unwrap();
    let away = since.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((away - jump).abs() < 3600, "{name}: {away}");
    is_halted(name, &running);
}

/// What a viewer does, in another process under another user. It reports when it has started.
const VIEWER_SCRIPT: &str = r#"
import json, resource, socket, sys, threading, time
path, kind = sys.argv[1:]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
def begin(verb, about=None, body=b"", size=None):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    head = {"config": "/x", "verb": verb, "about": about, "bytes": len(body) if size is None else size}
    s.sendall(json.dumps({"version": 4, "message": head}).encode() + b"\n" + body)
    return s
held = []
if kind == "denied":
    for n in range(100000):
        s = begin("halt", "x" * 300)
        while s.recv(65536): pass
        s.close()
        if n == 500: print("ready", flush=True)
elif kind == "large":
    piece = b"[" * (1 << 20)
    for n in range(8):
        s = begin("invoke", "every-category", size=58 << 20)
        try:
            for _ in range(58): s.sendall(piece)
        except OSError: pass
        held.append(s)
    print("ready", flush=True)
elif kind == "unread":
    export = json.dumps({"verb": "export-audit", "format": "json", "query": {}}).encode()
    follow = json.dumps({"verb": "tail-audit", "lines": 1000, "follow": True}).encode()
    for n in range(600):
        try: held.append(begin("tail-audit", None, follow) if n % 2 else begin("export-audit", None, export))
        except OSError: pass
    print("ready", flush=True)
elif kind == "flood":
    # Allowed, and answered; the answers are not read.
    def flood():
        mine = []
        while True:
            try: mine.append(begin("halts", None, b'{"verb": "halts"}'))
            except OSError: pass
            held.append(None)
            if len(mine) > 300: mine.pop(0).close()
    for n in range(4): threading.Thread(target=flood, daemon=True).start()
    while len(held) < 3000: time.sleep(0.01)
    print("ready", flush=True)
else:
    for n in range(3000):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        held.append(s)
    print("ready", flush=True)
time.sleep(600)
"#;

/// A desk with a viewer who does this.
fn viewed(name: &str, kind: &str, also: impl FnOnce(&Desk, &Process)) {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    let prepared = desk.prepare(OPERATOR);
    let socket = desk.folder.path().join("run/control.sock");
    let script = desk.folder.path().join("viewer.py");
    std::fs::write(&script, VIEWER_SCRIPT).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o644)).unwrap();
    let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&socket).unwrap());
    let mut command = Command::new("python3");
    command
        .arg(&script)
        .arg(&socket)
        .arg(kind)
        .uid(VIEWER)
        .gid(group);
    let mut viewer = Process::start(command, desk.folder.path());
    viewer.until("the viewer has started", |it| {
        it.stdout().contains("ready").then_some(())
    });
    let begun = Instant::now();
    let ran = desk.run_as(OPERATOR, &["halt", "--reason", name]);
    in_time(name, begun);
    assert!(
        ran.good().stdout.contains("halted: everything"),
        "{name}: {ran:?}"
    );
    // Requests of others are answered, too.
    for verb in [
        &["audit", "tail"][..],
        &["plugin", "list"],
        &["halt", "--list"],
    ] {
        let ran = desk.run_as(OPERATOR, verb);
        assert!(ran.status.success(), "{name}: {verb:?}: {ran:?}");
    }
    let write = ["invoke", "every-category.slow-write", &prepared.to_string()];
    let ran = desk.run_as(OPERATOR, &write);
    assert!(ran.error().contains("halted"), "{name}: {ran:?}");
    assert!(desk.cloud.created_backtests().is_empty());
    also(&desk, &host);
    drop(viewer);
    host.end();
}

fn viewer_denied(name: &str) {
    viewed(name, "denied", |desk, _| {
        // More than 500 denials become a few records.
        let query = ["--json", "audit", "query", "--kind", "admin"];
        let records = desk.run_as(OPERATOR, &query);
        let denied = records.good().stdout.lines();
        let denied = denied.filter(|line| line.contains("denied") && line.contains("viewer"));
        let count = denied.clone().count();
        assert!((1..=9).contains(&count), "{count}");
        let bytes: usize = denied.map(str::len).sum();
        assert!(bytes < 20_000, "{bytes}");
    });
}

fn viewer_large(name: &str) {
    viewed(name, "large", |_, host| {
        // Parsed, 58 MB of brackets would take gigabytes.
        let kib = resident(host.id());
        assert!(kib < 600 << 10, "{kib} KiB");
    });
}

fn viewer_unread(name: &str) {
    viewed(name, "unread", |_, host| {
        let threads = std::fs::read_dir(format!("/proc/{}/task", host.id())).unwrap();
        let threads = threads.count();
        assert!(threads < 100, "{threads}");
    });
}

fn viewer_flood(name: &str) {
    viewed(name, "flood", |_, _| ());
}

fn viewer_silent(name: &str) {
    viewed(name, "silent", |_, host| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", host.id())).unwrap();
        let files = files.count();
        assert!(files < 500, "{files}");
    });
}
