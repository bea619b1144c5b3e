//! `kill -9` at random moments of a real process that records to a real disk: after every kill
//! everything that it had been told is there, and the chain verifies.
//!
//! The binary runs itself again as the process that is killed. `QCHOST_KILLS` says how often;
//! 20 times if it does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qchost_audit::{Audit, Disk, Entry, Filter, Kind, Options, query, verify};
use qchost_testing::is_listing;
use serde_json::json;

const CHILD: &str = "QCHOST_AUDIT_CHILD";

fn options(folder: &Path) -> Options {
    Options {
        folder: folder.to_owned(),
        key: vec![3; 32].into(),
        segment_bytes: 32 * 1024,
        keep: None,
        reserve_bytes: 64 * 1024,
        anchor: None,
        files: Arc::new(Disk),
    }
}

fn entry(kind: Kind, call: &str) -> Entry {
    let body = json!({"call": call, "plugin": "lab"});
    Entry {
        kind,
        essential: false,
        body: body.as_object().unwrap().clone(),
    }
}

/// Records until it is killed, and says each sequence that it was told.
async fn child(folder: &Path) {
    let (audit, opening) = Audit::open(options(folder), None).unwrap();
    println!("opened {}", opening.recovered);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let audit = audit.clone();
            tokio::spawn(async move {
                for index in 0_u64.. {
                    let call = format!("{}-{task}-{index}", std::process::id());
                    for kind in [Kind::Intent, Kind::Outcome] {
                        let sequence = audit.record(entry(kind, &call)).await.unwrap();
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "{sequence} {} {call}", kind.word()).unwrap();
                        out.flush().unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn main() {
    if is_listing("killed") {
        return;
    }
    if let Some(folder) = std::env::var_os(CHILD) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(child(Path::new(&folder)));
    }
    let kills: u32 = match std::env::var("QCHOST_KILLS") {
        Ok(text) => text.parse().expect("QCHOST_KILLS is a number"),
        Err(_) => 20,
    };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("audit");
    let mut told: Vec<(u64, String)> = Vec::new();
    let mut recovered = 0;
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, &folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let opened = lines.next().unwrap().unwrap();
        recovered += opened
            .strip_prefix("opened ")
            .unwrap()
            .parse::<u64>()
            .unwrap();
        // Somewhere in the next 60 ms, at no moment that the test chooses.
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let reader =
            std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<String>>());
        std::thread::sleep(Duration::from_micros(u64::from(now % 60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            // The last line may be cut off by the kill.
            if let Some((sequence, rest)) = line.split_once(' ')
                && rest.matches('-').count() == 2
            {
                told.push((sequence.parse().unwrap(), rest.to_owned()));
            }
        }
        let (audit, opening) = Audit::open(options(&folder), None)
            .unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        recovered += opening.recovered;
        drop(audit);
        let report = verify(&Disk, &folder, &vec![3; 32].into(), None).unwrap();
        assert!(report.sound(), "kill {kill}: {report}");
        let records: Vec<_> = query(Arc::new(Disk), &folder, Filter::default())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for (sequence, what) in &told {
            let record = &records[usize::try_from(*sequence).unwrap() - 1];
            let call = record.call().unwrap_or_default();
            let there = format!("{} {call}", record.kind_word().unwrap());
            // The call's end may be missing in what a killed process said.
            assert!(
                there.starts_with(what),
                "kill {kill}: {sequence} is {there}, not {what}"
            );
        }
        for body in &opening.unsettled {
            assert!(body["call"].as_str().is_some(), "kill {kill}");
        }
    }
    assert!(
        told.len() > 100,
        "only {} records were acknowledged",
        told.len()
    );
    println!(
        "killed {kills} times: {} acknowledged records are all there, {recovered} were recovered",
        told.len()
    );
}
