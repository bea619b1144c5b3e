//! How a host ends under load, what the next one finds, and which of it the next one trusts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qchost_emulator::{Fault, FaultKind};
use qchost_testing::can_change_user;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

use crate::common::Folder;
use crate::guests::{caller, counter, long, marked, version, worker};
use crate::process::{command_line, tail, tree, wait_until};
use crate::running::{GRANT, PROJECTS, Running, plugin, replace, serve};
use crate::socket::Answer;
use crate::steady::Steady;

const ACCOUNT: (&str, Option<&str>) = ("read_account", Some("{}"));

/// Kills the host with SIGKILL, and starts it again.
fn killed(running: Running) -> Running {
    let Running {
        host,
        folder,
        cloud,
        ..
    } = running;
    drop(host);
    Running::of(serve(&folder), folder, cloud)
}

#[test]
fn a_shutdown_requested_under_load_answers_every_client() {
    const DRAIN: Duration = Duration::from_secs(10);
    let lines = format!("{GRANT}[limits]\nconcurrency = 64\n");
    let running = Running::start(
        "limits = { research = { per-minute = 100000 } }",
        |folder| {
            plugin(folder, "lab", &worker(1, ACCOUNT), &lines);
        },
    );
    let slow = FaultKind::Latency(Duration::from_millis(700));
    running
        .cloud
        .emulator()
        .set_faults(vec![Fault::at("/account/read", slow)]);
    let load = Steady::start(&running.control, "lab", 400, 20);
    wait_until("the load is there", || {
        (load.answered() > 400).then_some(())
    });
    let told = Instant::now();
    running.host.terminate();
    let ran = running.host.wait_for(DRAIN * 2);
    let took = told.elapsed();
    let (samples, _) = load.stop();
    // A clean end: everything running had time to finish.
    assert!(ran.status.success(), "{ran:?}");
    assert!(took < DRAIN, "it took {took:?}");

    let (mut done, mut late, mut nobody) = (0, 0, 0);
    for sample in &samples {
        match &sample.answer {
            Answer::Done(value) => {
                assert_eq!(*value, json!(1));
                done += 1;
            }
            // Requested after the shutdown began, and refused for that reason.
            Answer::Failed(why) => {
                assert!(why.contains("shuts down"), "{sample:?}");
                assert!(sample.answered >= told, "{sample:?}");
                late += 1;
            }
            Answer::Nobody => {
                assert!(sample.answered >= told, "{sample:?}");
                nobody += 1;
            }
            Answer::Lost(why) => panic!("{why}: {sample:?}"),
        }
    }
    eprintln!("{took:?} to drain; {done} answered, {late} refused, {nobody} found no host");
    let ran_on = samples
        .iter()
        .filter(|sample| sample.sent < told && sample.answered > told);
    assert!(ran_on.count() > 0, "nothing was under way");
}

/// The entries of the cache with their inodes: an entry that is written again has another one.
pub fn entries(folder: &Folder) -> BTreeMap<PathBuf, u64> {
    let files = fs::read_dir(folder.path().join("data/cache/components")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .map(|path| {
            let inode = fs::symlink_metadata(&path).unwrap().ino();
            (path, inode)
        })
        .collect()
}

#[test]
fn a_host_that_was_killed_finds_state_budgets_and_code_as_they_were() {
    let budget = "[[grant]]\nname = \"raw\"\nallow = [\"raw/*\"]\n\
        [[grant]]\nname = \"day\"\nallow = [\"projects/list-projects\"]\nprojects = [\"*\"]\nlimits = { per-day = 3 }\n";
    let mut running = Running::start("", |folder| {
        plugin(folder, "counter", &counter(), "");
        plugin(
            folder,
            "reader",
            &caller(1, &[("list_projects", Some("{}"))]),
            budget,
        );
    });
    let code = entries(&running.folder);
    assert!(code.len() >= 2, "{code:?}");
    for number in 1..=2 {
        running.is_version("counter", number);
        running.is_version("reader", 1);
    }
    running = killed(running);
    assert_eq!(entries(&running.folder), code, "it compiled again");
    running.is_version("counter", 3);
    running.is_version("reader", 1);
    let exhausted = |running: &Running| {
        let answer = running.act("reader");
        assert!(
            matches!(&answer, Answer::Failed(why) if why.contains("budget-exhausted")),
            "{answer:?}"
        );
        assert_eq!(running.cloud.requests_to("/projects/read").len(), 3);
    };
    exhausted(&running);
    // Killed in the middle of a load, a few times.
    for number in 4..=6 {
        let load = Steady::start(&running.control, "reader", 50, 0);
        wait_until("the load is there", || (load.answered() > 5).then_some(()));
        running = killed(running);
        load.stop();
        exhausted(&running);
        running.is_version("counter", number);
    }
    assert_eq!(entries(&running.folder), code, "it compiled again");
    let verified = running.folder.run(&["audit", "verify"]);
    verified.good();
    running.end();
}

#[test]
fn a_host_that_is_killed_while_it_writes_forgets_nothing_that_it_answered() {
    let limits = "limits = { research = { per-minute = 100000 } }";
    let mut running = Running::start(limits, |folder| plugin(folder, "counter", &counter(), ""));
    let project = json!({ "name": "Lab/written", "language": "Py" });
    let made = running.folder.call("create_project", &project);
    let arguments = json!({
        "projectId": made["projects"][0]["projectId"],
        "description": "written",
    });
    let arguments = arguments.to_string();
    let writer = caller(1, &[("update_project", Some(arguments.as_str()))]);
    let grants = format!("{GRANT}{PROJECTS}");
    plugin(&running.folder, "writer", &writer, &grants);
    running.until_version("writer", 1);

    let mut counted = Vec::new();
    for _ in 0..3 {
        let counting = Steady::start(&running.control, "counter", 100, 0);
        let writing = Steady::start(&running.control, "writer", 50, 0);
        wait_until("the load is there", || {
            (counting.answered() > 20 && writing.answered() > 10).then_some(())
        });
        running = killed(running);
        for sample in counting.stop().0 {
            match sample.answer {
                Answer::Done(number) => counted.push(number.as_u64().unwrap()),
                Answer::Lost(_) | Answer::Nobody => {}
                Answer::Failed(why) => panic!("{why}"),
            }
        }
        let answers = writing.stop().0;
        assert!(answers.iter().any(|it| it.answer == Answer::Done(json!(1))));
        // No id is used twice, and no id that a client got is lost.
        let Answer::Done(next) = running.act("counter") else {
            panic!("{:?}", running.act("counter"));
        };
        let next = next.as_u64().unwrap();
        assert!(counted.iter().all(|number| *number < next), "{next}");
        counted.push(next);
    }
    let answered = counted.len();
    counted.sort_unstable();
    counted.dedup();
    assert_eq!(counted.len(), answered, "a number was given twice");

    running.folder.run(&["audit", "verify"]).good();
    // Everything that reached QuantConnect had been recorded before.
    let operation = "projects/update-project";
    let query = [
        "--json",
        "audit",
        "query",
        "--kind",
        "intent",
        "--operation",
    ];
    let recorded = running.folder.run(&[&query[..], &[operation]].concat());
    let recorded = recorded.good().stdout.lines().count();
    let sent = running.cloud.requests_to("/projects/update").len();
    assert!(recorded >= sent, "{recorded} of {sent} were recorded");
    running.end();
}

#[test]
fn a_host_that_is_killed_while_it_compiles_starts_again_with_what_is_there() {
    let mut running = Running::start("", |folder| {
        plugin(folder, "lab", &version(1), "");
        plugin(folder, "other", &version(2), "");
    });
    let [lab, other] = ["lab", "other"].map(|name| running.path(&format!("builds/{name}.wasm")));
    let cached = entry(&running.folder, &other);
    let code = entries(&running.folder)[&cached];
    replace(&lab, long(3));
    let compiler = wait_until("it compiles", || {
        let mut processes = tree(running.host.id()).into_iter();
        processes.find(|process| command_line(*process).contains("compile-component"))
    });
    running.is_version("lab", 1);
    running = killed(running);
    running.is_version("lab", 3);
    running.is_version("other", 2);
    assert_eq!(entries(&running.folder)[&cached], code, "it compiled again");
    let log = running.host.stderr();
    assert!(!log.contains("an entry of the cache"), "{}", tail(&log));
    wait_until("the compiler of the former host is gone", || {
        let is_there = command_line(compiler).contains("compile-component");
        (!is_there).then_some(())
    });
    running.end();
}

#[test]
fn a_cached_component_that_is_not_as_the_host_wrote_it_is_not_run() {
    if !can_change_user() {
        return;
    }
    let names = ["one", "two"];
    let mut running = Running::start("", |folder| {
        for (number, name) in [(1, "one"), (2, "two")] {
            plugin(folder, name, &marked(number, name), "");
        }
    });
    type Harm = fn(&Path, &Path);
    let harms: [(&str, Harm); 8] = [
        ("a bit is turned", |one, _| {
            let mut bytes = fs::read(one).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(one, bytes).unwrap();
        }),
        ("the end is missing", |one, _| {
            let bytes = fs::read(one).unwrap();
            fs::write(one, &bytes[..bytes.len() - 100]).unwrap();
        }),
        ("nothing is left", |one, _| fs::write(one, "").unwrap()),
        ("they are swapped", |one, two| {
            let (first, second) = (fs::read(one).unwrap(), fs::read(two).unwrap());
            fs::write(one, second).unwrap();
            fs::write(two, first).unwrap();
        }),
        ("it is a link to the other", |one, two| {
            fs::remove_file(one).unwrap();
            symlink(two, one).unwrap();
        }),
        ("it belongs to another user", |one, _| {
            std::os::unix::fs::chown(one, Some(64_009), None).unwrap();
        }),
        ("others can write it", |one, _| {
            fs::set_permissions(one, fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("it is a folder", |one, _| {
            fs::remove_file(one).unwrap();
            fs::create_dir(one).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let mut name = String::new();
        running = running.restarted(|folder| {
            let [one, two] =
                names.map(|name| entry(folder, &folder.path().join(format!("builds/{name}.wasm"))));
            harm(&one, &two);
            name = one.file_name().unwrap().to_str().unwrap().to_owned();
        });
        // The right code answers, regardless of the file's content.
        running.is_version("one", 1);
        running.is_version("two", 2);
        let log = running.host.stderr();
        let warned = log.lines().any(|line| {
            line.contains("\"WARN\"")
                && line.contains("an entry of the cache")
                && line.contains(&name)
        });
        assert!(warned, "{what}:\n{}", tail(&log));
    }
    running.end();
}

/// The cache entry of a component, named by the component's digest and the compiler's settings.
fn entry(folder: &Folder, component: &Path) -> PathBuf {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(fs::read(component).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let found = entries(folder).into_keys().find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&digest)
    });
    found.unwrap_or_else(|| panic!("no entry for {digest}: {:?}", entries(folder)))
}

#[test]
fn a_cache_that_is_open_to_others_or_theirs_is_not_left_so() {
    if !can_change_user() {
        return;
    }
    let mut running = Running::start("", |folder| plugin(folder, "lab", &version(1), ""));
    let cache = running.path("data/cache/components");
    running = running.restarted(|_| {
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    });
    running.is_version("lab", 1);
    let mode = fs::metadata(&cache).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    // Owned by another user: the host reports it, and does not start.
    running = running.restarted(|folder| {
        let own = rustix::process::geteuid().as_raw();
        std::os::unix::fs::chown(&cache, Some(64_009), None).unwrap();
        let ran = folder.run(&["run"]);
        assert!(ran.error().contains("cache"), "{ran:?}");
        std::os::unix::fs::chown(&cache, Some(own), None).unwrap();
    });
    running.is_version("lab", 1);
    running.end();
}

#[test]
fn a_host_without_room_for_one_more_file_goes_on() {
    let mut running = Running::with_lab(&version(1), "");
    let process = running.host.id();
    let files = || fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as u64;
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(files() + 20),
        maximum: most,
    };
    let pid = Pid::from_raw(process.try_into().unwrap());
    let before = prlimit(pid, Resource::Nofile, limit).unwrap();
    assert_eq!(before.current, most, "it may open as many as it can");
    let socket = running.path("data/control.sock");
    let silent: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    wait_until("no further client is let in", || {
        running
            .host
            .stderr()
            .contains("no further client of the control socket for now")
            .then_some(())
    });
    assert!(running.host.runs());
    drop(silent);
    running.until_version("lab", 1);
    running.end();
}
