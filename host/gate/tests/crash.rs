//! Kills the host at random points with `kill -9` during a mix of writes, and checks what is left: no budget
//! refilled, no permit used twice, an audit that verifies, and every sent write recorded.
//!
//! Not under the test harness, since it starts itself again as the host that is killed. `QCHOST_RUNS` sets
//! the number of runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::Failure;
use qchost_gate::{Gate, Refusal};
use qchost_testing::cloud::{
    Cloud, Setup, approve, call, file, person, principal, records, required,
};
use qchost_testing::is_listing;
use serde_json::{Value, json};

const FOLDER: &str = "QCHOST_CRASH_FOLDER";
const RUN: &str = "QCHOST_CRASH_RUN";
const RUNS: &str = "QCHOST_RUNS";
const PER_DAY: u32 = 100_000;
/// Milliseconds after which a host is killed at the latest, while it does much.
const LONGEST_LIFE: u64 = 120;

fn setup() -> Setup {
    let grants = format!(
        "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\nlimits = {{ per-day = {PER_DAY} }}\n\
         [[grant]]\nname = \"paper\"\nallow = [\"live-commands/create-live-command\"]\nprojects = [\"Lab/*\"]\ncommands = [\"*\"]\napproval = \"operator\"\n"
    );
    Setup::grants(&grants)
}

fn main() {
    if is_listing("crash") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(folder) = std::env::var_os(FOLDER) {
        runtime.block_on(host(Path::new(&folder)));
        return;
    }
    let runs: u32 = std::env::var(RUNS).map_or(25, |runs| runs.parse().unwrap());
    let power = power_loss_shim();
    for (what, shim) in [("kill -9", None), ("power loss", Some(power.as_path()))] {
        let begun = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Seen::default();
        let did_much = |seen: &Seen| seen.files > u64::from(runs) && !seen.commands.is_empty();
        // On a busy machine a host does little before it is killed: more of them are needed, and they live longer.
        let mut run = 0;
        while run < runs || (run < 8 * runs && !did_much(&seen)) {
            crash(folder.path(), run, 1 + run / runs, shim);
            runtime.block_on(check(folder.path(), &mut seen));
            run += 1;
        }
        println!(
            "crash: {run} times {what}: {} writes sent, {} permits used, {} intents left open; {:.1} s",
            seen.files,
            seen.commands.len(),
            seen.open,
            begun.elapsed().as_secs_f64()
        );
        assert!(did_much(&seen), "the hosts did nothing");
    }
}

/// What earlier runs left behind.
#[derive(Default)]
struct Seen {
    files: u64,
    used: u64,
    day: Option<u64>,
    commands: BTreeSet<String>,
    open: u64,
}

/// A host that writes until it is killed.
async fn host(folder: &Path) {
    let run = std::env::var(RUN).unwrap();
    let cloud = Cloud::new();
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.with_extension("sent"))
        .unwrap();
    cloud.hook(move |tool, arguments| {
        let what = match tool {
            "create_file" => arguments["name"].as_str().unwrap(),
            "create_live_command" => arguments["command"]["order"].as_str().unwrap(),
            _ => return None,
        };
        // A single write, so that a line is either complete or absent.
        (&log)
            .write_all(format!("{tool} {what}\n").as_bytes())
            .unwrap();
        Some(Ok(json!({ "success": true })))
    });
    let gate = setup().open_in(folder, &cloud).await;
    // Pending approvals of earlier runs: a plugin may not have too many of them.
    let waiting = qchost_ledger::ApprovalFilter {
        all: false,
        after: None,
        limit: 1000,
    };
    for approval in gate.approvals.list(waiting).await.unwrap().approvals {
        let ann = person(7, "ann");
        drop(gate.approvals.refuse(&approval.id, &ann, "too late").await);
    }
    println!("ready");
    let files = (0..8).map(|task| write_files(gate.clone(), format!("{run}-{task}")));
    let commands = (0..2).map(|task| command(gate.clone(), format!("{run}-{task}")));
    tokio::join!(
        futures::future::join_all(files),
        futures::future::join_all(commands)
    );
}

async fn write_files(gate: Gate, name: String) {
    for number in 0.. {
        let file = file(&format!("f{name}-{number}"));
        let answer = call(&gate, &principal("lab"), "files/create-file", file).await;
        assert!(
            matches!(
                answer,
                Ok(_)
                    | Err(Refusal::Failed(
                        Failure::Rejected(_) | Failure::UnknownOutcome(_)
                    ))
            ),
            "{answer:?}"
        );
    }
}

/// Requests an approval, approves it, and tries to use the permit three times.
async fn command(gate: Gate, name: String) {
    for number in 0.. {
        let command = json!({ "projectId": 1, "command": { "$type": "Order", "order": format!("o{name}-{number}") } });
        let send = async || {
            let (lab, order) = (principal("lab"), command.clone());
            call(&gate, &lab, "live-commands/create-live-command", order).await
        };
        let id = required(send().await);
        approve(&gate, &id, &person(7, "ann")).await;
        let answers = tokio::join!(send(), send(), send());
        let answers = [answers.0, answers.1, answers.2];
        // A refusal by the cloud releases the permit, so that another of the three may use it.
        let used = answers.iter().filter(|answer| {
            matches!(
                answer,
                Ok(_) | Err(Refusal::Failed(Failure::UnknownOutcome(_)))
            )
        });
        let refused = answers
            .iter()
            .any(|answer| matches!(answer, Err(Refusal::Failed(Failure::Rejected(_)))));
        let used = used.count();
        assert!(used == 1 || (used == 0 && refused), "{answers:?}");
    }
}

/// Starts a host, and kills it shortly after it is ready.
fn crash(folder: &Path, run: u32, patience: u32, shim: Option<&Path>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(FOLDER, folder.join("data"))
        .env(RUN, run.to_string())
        .stdout(Stdio::piped())
        .process_group(0);
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let shadow = folder.join("shadow");
    if let Some(shim) = shim {
        // What is there now is on disk: the last read of it was not cut short.
        drop(std::fs::remove_dir_all(&shadow));
        copy(&folder.join("data"), &shadow);
        let inodes = shadow.with_extension("inodes");
        drop(std::fs::remove_dir_all(&inodes));
        std::fs::create_dir_all(&inodes).unwrap();
        keep_by_inode(&folder.join("data"), &inodes);
        command
            .env("LD_PRELOAD", shim)
            .env("POWER_LOSS_FOLDER", folder.join("data"))
            .env("POWER_LOSS_SHADOW", &shadow);
    }
    let mut child = command.spawn().unwrap();
    wait_ready(&mut child);
    // Each run lives for a different time, so that the kill hits a random point of the host's work.
    std::thread::sleep(patience * Duration::from_millis(u64::from(run) * 37 % LONGEST_LIFE));
    child.kill().unwrap();
    child.wait().unwrap();
    if shim.is_some() {
        lose_power(&folder.join("data"), &shadow);
    }
}

fn wait_ready(child: &mut Child) {
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "ready\n");
}

/// Replaces the data by the part of it that had been synced.
fn lose_power(data: &Path, shadow: &Path) {
    std::fs::remove_dir_all(data).unwrap();
    copy(shadow, data);
}

/// Stores the bytes of files by inode, as the shim expects them.
fn keep_by_inode(folder: &Path, inodes: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            keep_by_inode(&entry.path(), inodes);
        } else {
            std::fs::copy(entry.path(), inodes.join(metadata.ino().to_string())).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Builds the library that tracks what is synced.
fn power_loss_shim() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_loss.c");
    let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power_loss.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&shim)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("no C compiler; install one with: apt-get install gcc");
    assert!(built.success());
    shim
}

/// Opens what the killed host left and checks it.
async fn check(folder: &Path, seen: &mut Seen) {
    let data = folder.join("data");
    let cloud = Cloud::new();
    let gate = setup().open_in(&data, &cloud).await;
    let sent = std::fs::read_to_string(data.with_extension("sent")).unwrap_or_default();
    let mut files = 0;
    let mut commands = BTreeMap::<&str, u32>::new();
    for line in sent.lines() {
        match line.split_once(' ').unwrap() {
            ("create_file", _) => files += 1,
            (_, order) => *commands.entry(order).or_default() += 1,
        }
    }
    let twice: Vec<_> = commands.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "permits used twice: {twice:?}");

    let report = gate.reporter.grants("lab").await.unwrap().unwrap();
    let used = json!(report.grants[0].obligations)["per-day"]["used"]
        .as_u64()
        .unwrap();
    // Each day has its own budget, so a run across midnight is inconclusive.
    let day = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    let same_day = *seen.day.get_or_insert(day) == day;
    if same_day {
        assert!(used >= files, "{files} were sent and {used} are counted");
        assert!(used >= seen.used, "refilled from {} to {used}", seen.used);
    }

    gate.idle().await;
    let records = records(&data);
    let mut intents = BTreeMap::<String, &Value>::new();
    let mut settled = BTreeSet::new();
    for record in &records {
        match record["kind"].as_str().unwrap() {
            "intent" => {
                intents.insert(record["call"].as_str().unwrap().to_owned(), record);
            }
            "outcome" => {
                settled.insert(record["call"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
    }
    let of_files = |intent: &&&Value| intent["operation"] == "files/create-file";
    let intended = intents.values().filter(of_files).count();
    assert!(
        used <= u64::try_from(intended).unwrap(),
        "{used} are counted of {intended}"
    );
    let intended: BTreeSet<&str> = intents
        .values()
        .map(|intent| {
            let arguments = &intent["arguments"];
            let name = arguments["name"].as_str();
            name.or(arguments["command"]["order"].as_str()).unwrap()
        })
        .collect();
    for line in sent.lines() {
        let (_, what) = line.split_once(' ').unwrap();
        assert!(intended.contains(what), "{what} was sent without a record");
    }
    let open: BTreeSet<String> = intents
        .keys()
        .filter(|call| !settled.contains(*call))
        .cloned()
        .collect();
    let ann = person(7, "ann");
    let listed = gate.reconciler.reconcile(&ann, &[]).await.unwrap();
    let listed: BTreeSet<String> = listed.into_iter().map(|one| one.call).collect();
    assert_eq!(open, listed, "what has no outcome is listed");
    seen.files = files;
    seen.used = used;
    seen.commands = commands.into_keys().map(str::to_owned).collect();
    seen.open = u64::try_from(listed.len()).unwrap();
    drop(gate);
    drop(Arc::clone(&cloud));
}
