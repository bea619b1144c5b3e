//! Halts on the command line: no write or trade is sent any more, while operations that reduce risk continue.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use qchost_emulator::{Fault, FaultKind};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::categories::{self, PAPER, serving, with_cloud};
use crate::cloud::Cloud;
use crate::common::{Folder, embedded};
use crate::desk::{Desk, OPERATOR};
use crate::process::{BOUND, Process, Ran, signal, wait_until};
use crate::starting::lock_database;

fn write(folder: &Folder, prepared: &Value) -> Ran {
    folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()])
}

#[test]
fn what_is_halted_stays_halted_until_it_is_resumed() {
    let (cloud, folder) = with_cloud();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    // Halted without a host as well; the next host respects it.
    let halted = folder.run(&["halt", "--reason", "fills look wrong"]);
    assert!(
        halted.good().stdout.contains("halted: everything")
            && halted.stdout.contains("none runs there")
            && halted.stdout.contains("qchost resume")
            && halted.stderr.contains("no host runs")
            && !halted.stderr.contains("waiting for calls"),
        "{halted:?}"
    );
    let host = folder.serve(&["run"]);
    let refused = |folder: &Folder| {
        let ran = write(folder, &prepared);
        let error = ran.error();
        assert!(
            error.contains("halted") && error.contains("fills look wrong"),
            "{error}"
        );
        assert_eq!(cloud.created_backtests(), Vec::<String>::new());
    };
    refused(&folder);
    // Reads continue.
    folder.invoke("every-category.account", &json!({}));
    let halts = folder.run(&["--json", "halt", "--list"]).json();
    assert_eq!(halts.as_array().unwrap().len(), 1, "{halts}");
    assert_eq!(halts[0]["reason"], "fills look wrong");
    // A killed host is halted when it starts again.
    drop(host);
    let host = folder.serve(&["run"]);
    refused(&folder);

    // Only the same halt is lifted, and lifting none is no success.
    let ran = folder.run(&["resume", "--plugin", "every-category"]);
    assert!(ran.error().contains("halt --list"), "{ran:?}");
    refused(&folder);
    folder.run(&["resume"]).good();
    write(&folder, &prepared).good();
    assert_eq!(cloud.created_backtests(), ["slow write"]);
    assert_eq!(
        folder.run(&["halt", "--list"]).good().stdout.trim(),
        "nothing is halted"
    );

    // A halt of something else has no effect here; an unknown plugin or account cannot be halted.
    folder.run(&["halt", "--plugin", "every-category"]).good();
    let ran = write(&folder, &prepared);
    assert!(ran.error().contains("halted"), "{ran:?}");
    folder.run(&["resume", "--plugin", "every-category"]).good();
    folder.run(&["halt", "--account", "research"]).good();
    let ran = write(&folder, &prepared);
    assert!(ran.error().contains("halted"), "{ran:?}");
    folder.run(&["resume", "--account", "research"]).good();
    let ran = folder.run(&["halt", "--plugin", "every-categry"]);
    assert!(ran.error().contains("there are: every-category"), "{ran:?}");
    let ran = folder.run(&["halt", "--account", "reserch"]);
    assert!(ran.error().contains("configured are: research"), "{ran:?}");
    write(&folder, &prepared).good();
    host.end();
    let lines = folder.run(&["--json", "audit", "query", "--kind", "halt"]);
    assert!(lines.good().stdout.lines().count() >= 6, "{}", lines.stdout);
}

#[test]
fn liquidating_stops_what_runs_live_and_reports_each() {
    let (cloud, folder, host) = serving();
    folder.invoke("every-category.deploy-live", &json!({ "profile": "paper" }));
    let ran = folder.run(&["halt", "--account", "research", "--liquidate", "--json"]);
    let report = ran.json();
    let stopped = report["stopped"].as_array().unwrap();
    assert_eq!(stopped.len(), 1, "{report}");
    assert!(stopped[0]["project"].is_u64(), "{report}");
    assert_eq!(stopped[0]["result"], "liquidated", "{report}");
    assert_eq!(cloud.requests_to("/live/update/liquidate").len(), 1);
    // The host's own calls are recognised by the project's name.
    let query = |arguments: &[&str]| -> Vec<Value> {
        let ran = folder.run(&[&["--json", "audit", "query"], arguments].concat());
        let lines = ran.good().stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let deployed = query(&[
        "--operation",
        "live/create-live-algorithm",
        "--kind",
        "intent",
    ]);
    let name = deployed[0]["project"]["name"].as_str().unwrap();
    let reduced = query(&["--project", name, "--access", "reduce"]);
    assert!(
        reduced
            .iter()
            .any(|record| record["operation"] == "live/liquidate-live-algorithm"),
        "{reduced:#?}"
    );
    assert_eq!(
        query(&["--project", "another", "--access", "reduce"]),
        [Value::Null; 0]
    );
    // A stopped deployment is not stopped again, and a new one is refused.
    let report = folder
        .run(&["halt", "--account", "research", "--liquidate", "--json"])
        .json();
    assert_eq!(report["stopped"], json!([]), "{report}");
    let ran = folder.run(&["halt", "--liquidate"]);
    assert!(
        ran.good().stdout.contains("nothing to liquidate"),
        "{ran:?}"
    );
    // What a halt cannot end is said by each that liquidates, and by no other one.
    assert!(ran.stdout.contains("agents at work"), "{ran:?}");
    let note = report["note"].as_str().unwrap();
    assert!(note.contains("stop_agent_deployment"), "{report}");
    let plain = folder.run(&["halt", "--json"]).json();
    assert_eq!(plain["note"], Value::Null, "{plain}");
    let ran = folder.run(&[
        "invoke",
        "every-category.deploy-live",
        "{\"profile\": \"paper\"}",
    ]);
    assert!(ran.error().contains("halted"), "{ran:?}");
    assert_eq!(cloud.requests_to("/live/create").len(), 1);
    host.end();
}

/// QuantConnect ends one deployment of a project at a time.
#[test]
fn none_of_three_deployments_of_two_projects_runs_after_a_halt() {
    let cloud = Cloud::with(|builder| builder.live_nodes(3));
    let folder = categories::folder(&embedded(cloud.url()));
    let host = folder.serve(&["run"]);
    for times in [2, 1] {
        let deployment = json!({ "profile": "paper", "times": times });
        folder.invoke("every-category.deploy-live", &deployment);
    }
    let report = folder.run(&["halt", "--liquidate", "--json"]).json();
    let stopped = report["stopped"].as_array().unwrap();
    let mut deployments: Vec<usize> = stopped
        .iter()
        .map(|one| {
            assert_eq!(one["result"], "liquidated", "{report}");
            one["deployments"].as_array().unwrap().len()
        })
        .collect();
    deployments.sort_unstable();
    assert_eq!(deployments, [1, 2], "{report}");
    assert_eq!(cloud.requests_to("/live/update/liquidate").len(), 3);
    let listed = folder.run(&["--json", "call", "list_live_algorithms"]);
    let listed = listed.json();
    let live = listed["live"].as_array().unwrap();
    assert_eq!(live.len(), 3, "{listed}");
    assert!(
        live.iter().all(|one| one["status"] == "Liquidated"),
        "{listed}"
    );
    host.end();
}

/// The third one is started by another program, which knows of no halt, while the first two are closed.
#[test]
fn a_deployment_that_starts_during_a_halt_does_not_run_at_its_end() {
    let cloud = Cloud::with(|builder| builder.live_nodes(3));
    let folder = categories::folder(&embedded(cloud.url()));
    let host = folder.serve(&["run"]);
    let twice = json!({ "profile": "paper", "times": 2 });
    folder.invoke("every-category.deploy-live", &twice);

    let elsewhere = Folder::new(&(embedded(cloud.url()) + PAPER));
    let other = elsewhere.serve(&["run"]);
    let project = json!({ "name": "Lab/late", "language": "Py" });
    let project = elsewhere.call("create_project", &project)["projects"][0]["projectId"].clone();
    let of_project = json!({ "projectId": project });
    let compile = elsewhere.compile(&project);
    let nodes = elsewhere.call("read_project_nodes", &of_project);
    let mut nodes = nodes["nodes"]["live"].as_array().unwrap().iter();
    let node = nodes.find(|node| node["busy"] == false).unwrap();
    let deployment = json!({
        "versionId": "-1", "projectId": project, "compileId": compile, "nodeId": node["id"], "brokerage": "paper",
    });

    let slow = FaultKind::Latency(Duration::from_secs(3));
    let slow = Fault::at("/live/update/liquidate", slow).times(1);
    cloud.emulator().set_faults(vec![slow]);
    let halting = folder.start(&["--json", "halt", "--liquidate"]);
    wait_until("the first one is being closed", || {
        (!cloud.requests_to("/live/update/liquidate").is_empty()).then_some(())
    });
    elsewhere.call("create_live_algorithm", &deployment);
    let report = halting.wait().json();
    assert_eq!(report["stopped"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(cloud.requests_to("/live/create").len(), 3);
    let listed = folder.call("list_live_algorithms", &json!({}));
    let live = listed["live"].as_array().unwrap();
    assert_eq!(live.len(), 3, "{listed}");
    assert!(
        live.iter().all(|one| one["status"] == "Liquidated"),
        "{listed}"
    );
    other.end();
    host.end();
}

/// Halting does not require a correct file.
#[test]
fn a_host_that_runs_is_halted_also_when_its_configuration_was_broken_since() {
    let (_cloud, folder) = with_cloud();
    let path = folder.path().join("qchost.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let broken = format!("modus = 1\n{good}");
    // If no host runs there is nothing to halt, and the error is about the file.
    std::fs::write(&path, &broken).unwrap();
    let ran = folder.run(&["halt", "--reason", "x"]);
    assert!(ran.error().contains("unknown field `modus`"), "{ran:?}");

    std::fs::write(&path, &good).unwrap();
    let host = folder.serve(&["run"]);
    std::fs::write(&path, &broken).unwrap();
    let ran = folder.run(&["halt", "--reason", "fills look wrong"]);
    assert!(ran.good().stdout.contains("halted: everything"), "{ran:?}");
    assert!(ran.stderr.contains("modus"), "{ran:?}");
    std::fs::write(&path, &good).unwrap();
    let listed = folder.run(&["halt", "--list"]);
    assert!(
        listed.good().stdout.contains("fills look wrong"),
        "{listed:?}"
    );
    host.end();
}

/// `touch` over a remote shell: no binary, no configuration, no socket.
#[test]
fn a_file_in_the_data_folder_halts_until_it_is_resumed() {
    let (cloud, folder, host) = serving();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    let file = folder.path().join("data/halt");
    std::fs::write(&file, "").unwrap();
    let ran = write(&folder, &prepared);
    assert!(ran.error().contains("file DATA/halt"), "{ran:?}");
    crate::process::wait_until("the halt is in the database", || {
        let halts = folder.run(&["--json", "halt", "--list"]).json();
        assert_eq!(halts[0]["file"], true, "{halts}");
        (halts[0]["kept"] == "database").then_some(())
    });
    // Removing the file lifts nothing, not even after a restart.
    std::fs::remove_file(&file).unwrap();
    drop(host);
    let host = folder.serve(&["run"]);
    let ran = write(&folder, &prepared);
    assert!(ran.error().contains("file DATA/halt"), "{ran:?}");
    assert_eq!(cloud.created_backtests(), Vec::<String>::new());
    // A file that cannot be removed stays.
    std::fs::create_dir_all(file.join("notes")).unwrap();
    let ran = folder.run(&["resume"]);
    assert!(ran.error().contains("the halt stays"), "{ran:?}");
    std::fs::remove_dir(file.join("notes")).unwrap();
    let ran = folder.run(&["resume"]);
    assert!(
        ran.good().stdout.contains("nothing is halted"),
        "{}",
        ran.stdout
    );
    assert!(!file.exists());
    write(&folder, &prepared).good();
    host.end();
    // The next one is halted before it sends anything.
    std::os::unix::fs::symlink("/nowhere", &file).unwrap();
    let host = folder.serve(&["run"]);
    let ran = write(&folder, &prepared);
    assert!(ran.error().contains("halted"), "{ran:?}");
    host.end();
}

#[test]
fn a_resume_says_what_still_stands() {
    let (_cloud, folder, host) = serving();
    for scope in [
        &[][..],
        &["--account", "research"],
        &["--plugin", "every-category"],
    ] {
        let halted = folder.run(&[&["halt"], scope].concat());
        assert!(
            halted.good().stdout.contains("until resumed"),
            "{}",
            halted.stdout
        );
    }
    let ran = folder.run(&["resume"]);
    let text = &ran.good().stdout;
    assert!(
        text.contains("the halt of everything has ended; others stand")
            && text.contains("research")
            && text.contains("every-category"),
        "{text}"
    );
    // Repeated, it lifts nothing, and says so.
    let ran = folder.run(&["resume"]);
    assert!(ran.error().contains("no halt is for everything"), "{ran:?}");
    assert!(ran.stdout.contains("research"), "{ran:?}");
    let report = folder
        .run(&["--json", "resume", "--account", "research"])
        .json();
    assert_eq!(report["ended"], 1, "{report}");
    assert_eq!(report["halts"].as_array().unwrap().len(), 1, "{report}");
    let ran = folder.run(&["resume", "--plugin", "every-category"]);
    assert!(
        ran.good().stdout.contains("nothing is halted"),
        "{}",
        ran.stdout
    );
    host.end();
}

/// Makes the database refuse every change of its halts, as on a full disk.
#[test]
fn a_halt_that_cannot_be_stored_holds_and_a_resume_that_cannot_be_fails() {
    let (_cloud, folder, host) = serving();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    let database = rusqlite::Connection::open(folder.path().join("data/state.db")).unwrap();
    for (name, when) in [("full_in", "INSERT"), ("full_out", "DELETE")] {
        let trigger = format!(
            "CREATE TRIGGER {name} BEFORE {when} ON halts BEGIN SELECT RAISE(ABORT, 'no room'); END"
        );
        database.execute_batch(&trigger).unwrap();
    }
    let halted = folder.run(&["halt"]);
    assert!(
        halted.good().stdout.contains("in the reserve"),
        "{}",
        halted.stdout
    );
    database.execute_batch("DROP TRIGGER full_in").unwrap();
    // It is written to the database when there is room again, regardless of which user halts.
    crate::process::wait_until("the halt is in the database", || {
        let halts = folder.run(&["--json", "halt", "--list"]).json();
        (halts[0]["kept"] == "database").then_some(())
    });
    let ran = folder.run(&["resume"]);
    assert!(
        ran.error().contains("the halt stays") && ran.stderr.contains("no room"),
        "{ran:?}"
    );
    let refused = write(&folder, &prepared);
    assert!(refused.error().contains("halted"), "{refused:?}");
    database.execute_batch("DROP TRIGGER full_out").unwrap();
    folder.run(&["resume"]).good();
    write(&folder, &prepared).good();
    host.end();
}

/// The exit status shows it, the answer lists the positions, and the host keeps running.
#[test]
fn positions_that_stay_open_are_no_success_and_are_gone_on_with() {
    let (cloud, folder, host) = serving();
    folder.invoke("every-category.deploy-live", &json!({ "profile": "paper" }));
    let pretend = |path| Fault::at(path, FaultKind::Pretend);
    cloud.emulator().set_faults(vec![
        pretend("/live/update/liquidate"),
        pretend("/live/update/stop"),
    ]);
    let ran = folder.run(&["halt", "--liquidate", "--json"]);
    assert_eq!(ran.status.code(), Some(9), "{ran:?}");
    assert!(ran.stderr.contains("positions open"), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["stopped"][0]["open"], true, "{report}");
    let result = report["stopped"][0]["result"].as_str().unwrap();
    assert!(result.starts_with("running"), "{report}");
    let halts = folder.run(&["--json", "halt", "--list"]).json();
    assert_eq!(
        halts[0]["liquidating"].as_array().unwrap().len(),
        1,
        "{halts}"
    );
    let ran = folder.run(&["halt", "--list"]);
    assert!(
        ran.good().stdout.contains("still being liquidated"),
        "{}",
        ran.stdout
    );
    let ran = folder.run(&["doctor"]);
    assert!(ran.stdout.contains("positions open"), "{ran:?}");
    cloud.emulator().set_faults(Vec::new());
    crate::process::wait_until("it is liquidated", || {
        let halts = folder.run(&["--json", "halt", "--list"]).json();
        let open = halts[0]["liquidating"].as_array().unwrap();
        open.is_empty().then_some(())
    });
    // The twin: nothing runs, so this is a success.
    let report = folder.run(&["halt", "--liquidate", "--json"]).json();
    assert_eq!(report["stopped"], json!([]), "{report}");
    host.end();
}

/// A host that hangs, and one whose socket is gone.
#[test]
fn a_host_that_does_not_answer_is_halted_by_the_file() {
    let (_cloud, folder, host) = serving();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    let file = folder.path().join("data/halt");
    crate::process::signal(host.id(), rustix::process::Signal::STOP);
    let ran = folder.run(&["halt"]);
    crate::process::signal(host.id(), rustix::process::Signal::CONT);
    assert!(ran.good().stdout.contains("by the file"), "{ran:?}");
    assert!(ran.stderr.contains("does not answer"), "{ran:?}");
    assert!(file.exists());
    let refused = write(&folder, &prepared);
    assert!(refused.error().contains("halted"), "{refused:?}");
    folder.run(&["resume"]).good();
    assert!(!file.exists());
    // A host that answers needs no file.
    folder.run(&["halt"]).good();
    assert!(!file.exists());
    folder.run(&["resume"]).good();
    // The other parts of the request are not known to be done.
    std::fs::remove_file(folder.path().join("data/control.sock")).unwrap();
    let ran = folder.run(&["halt", "--liquidate"]);
    assert!(
        ran.error().contains("nothing is known to be liquidated"),
        "{ran:?}"
    );
    assert!(file.exists());
    host.end();
}

/// Maximum number of measurements: a busy machine is slow sometimes, not every time.
const TRIES: usize = 8;

/// A host that is silent for 0.6 s is halted by the file at that time, not later.
#[test]
fn the_file_is_made_when_a_host_has_been_silent_for_as_long_as_is_said() {
    let (_cloud, folder, host) = serving();
    let file = folder.path().join("data/halt");
    let said = Duration::from_millis(600);
    let mut measured = Vec::new();
    let in_time = (0..TRIES).any(|_| {
        let nothing = crate::broken::nothing_takes();
        let stopped = Stopped::new(&host);
        let begun = Instant::now();
        let ran = folder.run(&["halt"]);
        let took = begun.elapsed();
        assert!(ran.good().stdout.contains("by the file"), "{ran:?}");
        assert!(file.exists());
        assert!(took >= said, "it was not waited for: {took:?}");
        drop(stopped);
        folder.run(&["resume"]).good();
        measured.push((took, nothing));
        // It checks for the answer once more before it ends.
        took < said + Duration::from_millis(150) + 3 * nothing
    });
    assert!(in_time, "{measured:?}");
    host.end();
}

/// By the times of the file and of the host's log, which use the same clock.
#[test]
fn the_file_is_seen_within_a_second() {
    let (_cloud, folder, host) = serving();
    let file = folder.path().join("data/halt");
    let seen = || -> Vec<jiff::Timestamp> {
        let log = host.stderr();
        let lines = log
            .lines()
            .filter(|line| line.contains("the file `halt` is in the data folder"));
        let times = lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap());
        times.collect()
    };
    let mut measured = Vec::new();
    let in_time = (1..=TRIES).any(|times| {
        std::fs::write(&file, "").unwrap();
        let made = std::fs::metadata(&file).unwrap().modified().unwrap();
        let made = jiff::Timestamp::try_from(made).unwrap();
        let at = crate::process::wait_until("it is seen", || seen().get(times - 1).copied());
        folder.run(&["resume"]).good();
        let took = at.duration_since(made).as_secs_f64();
        measured.push(took);
        took < 1.0
    });
    assert!(in_time, "{measured:?}");
    host.end();
}

/// Stops a host as a debugger does, until this is dropped: it listens, and answers nothing.
struct Stopped<'a>(&'a Process);

impl<'a> Stopped<'a> {
    fn new(host: &'a Process) -> Self {
        signal(host.id(), Signal::STOP);
        Self(host)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        signal(self.0.id(), Signal::CONT);
    }
}

#[test]
fn a_host_whose_socket_was_named_is_halted_and_no_other() {
    let (_cloud, folder) = with_cloud();
    let [here, there] = ["data", "there"].map(|data| folder.path().join(data));
    std::fs::create_dir(&there).unwrap();
    std::fs::set_permissions(&there, Permissions::from_mode(0o700)).unwrap();
    let (ours, theirs) = (
        folder.serve(&["run"]),
        folder.serve(&["--data", "there", "run"]),
    );
    let named = || folder.run(&["--socket", "there/control.sock", "halt"]);
    let stopped = Stopped::new(&theirs);
    let ran = named();
    assert!(ran.good().stdout.contains("there/halt"), "{ran:?}");
    // If it does not name its data folder, none is assumed.
    std::fs::remove_file(there.join("halt")).unwrap();
    std::fs::remove_file(there.join("host.json")).unwrap();
    let ran = named();
    assert!(
        ran.error().contains("its data folder is not known"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("halted"), "{ran:?}");
    assert!(!here.join("halt").exists() && !there.join("halt").exists());
    let halts = folder.run(&["halt", "--list"]);
    assert!(
        halts.good().stdout.contains("nothing is halted"),
        "{halts:?}"
    );
    drop(stopped);
    for host in [ours, theirs] {
        host.end();
    }
}

/// The content of its lock file does not matter.
#[test]
fn a_host_that_hangs_is_halted_by_the_file_also_without_its_number() {
    let (_cloud, folder, host) = serving();
    let (lock, file) = (
        folder.path().join("data/host.lock"),
        folder.path().join("data/halt"),
    );
    std::fs::write(&lock, "").unwrap();
    for _ in 0..2 {
        let stopped = Stopped::new(&host);
        let ran = folder.run(&["halt"]);
        assert!(ran.good().stdout.contains("by the file"), "{ran:?}");
        assert!(file.exists());
        drop(stopped);
        folder.run(&["resume"]).good();
        drop(std::fs::remove_file(&lock));
    }
    host.end();
}

#[test]
fn an_operator_who_cannot_write_to_the_folder_is_told_how_to_halt_a_host_that_hangs() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    let stopped = Stopped::new(&host);
    let begun = Instant::now();
    let ran = desk.run_as(OPERATOR, &["halt"]);
    assert!(begun.elapsed() < BOUND / 3);
    let touch = format!("touch {}/data/halt", desk.folder.path().display());
    assert!(ran.error().contains(&touch), "{touch}: {ran:?}");
    assert!(!ran.stdout.contains("halted"), "{ran:?}");
    // Reported at once; a late answer is still accepted.
    let mut waiting = desk.start_as(OPERATOR, &["halt", "--reason", "late"]);
    waiting.until("it is told", |it| {
        it.stderr().contains(&touch).then_some(())
    });
    drop(stopped);
    let ran = waiting.wait();
    assert!(ran.good().stdout.contains("halted: everything"), "{ran:?}");
    host.end();
}

#[test]
fn a_halt_that_is_to_liquidate_too_outlasts_a_host_that_does_not_start() {
    let (cloud, folder) = with_cloud();
    let data = folder.path().join("data");
    let first = folder.serve(&["run"]);
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    folder.invoke("every-category.deploy-live", &json!({ "profile": "paper" }));
    first.end();
    let opening = || {
        let locker = lock_database(&data.join("state.db"), folder.path());
        let host = folder.start(&["run"]);
        crate::common::wait_for_file(&data.join("control.sock"));
        let mut halting = folder.start(&["halt", "--liquidate"]);
        halting.until("it is halted", |it| {
            it.stderr().contains("halted: everything").then_some(())
        });
        assert!(data.join("halt").exists());
        (locker, host, halting)
    };
    let (locker, host, halting) = opening();
    drop(host);
    let ran = halting.wait();
    assert!(!ran.status.success(), "{ran:?}");
    drop(locker);
    std::fs::remove_file(data.join("control.sock")).unwrap();
    let host = folder.serve(&["run"]);
    let refused = write(&folder, &prepared);
    assert!(refused.error().contains("halted"), "{refused:?}");
    assert!(cloud.requests_to("/live/update/liquidate").is_empty());
    folder.run(&["resume"]).good();
    host.end();
    // The twin: a deployment that starts is liquidated.
    let (locker, mut host, halting) = opening();
    drop(locker);
    let ran = halting.wait();
    assert!(ran.good().stdout.contains("liquidated"), "{ran:?}");
    assert_eq!(cloud.requests_to("/live/update/liquidate").len(), 1);
    host.until("it is ready", |host| {
        host.stdout().contains("ready").then_some(())
    });
    host.end();
}
