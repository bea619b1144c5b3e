//! Durable records a second with 64 callers at a time, against the floor: writing the same
//! bytes in groups of 64 with one `fdatasync` each, and with two as the audit needs (records,
//! then head).
//!
//! `cargo bench -p qchost-audit` prints the numbers. Both run in the same folder in the same
//! run, by turns, because a disk has good and bad minutes; `QCHOST_BENCH_FOLDER` says where.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_audit::{Audit, Disk, Entry, Kind, Options};
use serde_json::json;

const IN_FLIGHT: u64 = 64;
const TIME: Duration = Duration::from_secs(3);
const ROUNDS: u32 = 4;

fn entry(call: &str) -> Entry {
    let body = json!({
        "call": call, "account": "research", "plugin": "strategy-lab",
        "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "invocation": "inv-000017", "operation": "backtests/create-backtest", "access": "write",
        "project": {"id": 12_345_678, "name": "Lab/momentum"},
        "arguments": {"projectId": 12_345_678, "compileId": "c-1", "backtestName": "sweep 17"},
        "arguments-hmac": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "decision": "allowed", "grants": ["lab-backtests"], "reservation": 17,
    });
    Entry {
        kind: Kind::Intent,
        essential: false,
        body: body.as_object().unwrap().clone(),
    }
}

/// Records until the time is over. Returns how many, and the length of a line.
async fn audit(folder: &Path) -> (u64, usize) {
    let (audit, _) = Audit::open(
        Options {
            folder: folder.to_owned(),
            key: vec![1; 32].into(),
            segment_bytes: 64 * 1024 * 1024,
            keep: None,
            reserve_bytes: 1024 * 1024,
            anchor: None,
            files: Arc::new(Disk),
        },
        None,
    )
    .unwrap();
    let end = Instant::now() + TIME;
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|task| {
            let audit = audit.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while Instant::now() < end {
                    audit
                        .record(entry(&format!("{task}-{count}")))
                        .await
                        .unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.unwrap();
    }
    audit.close().await;
    let last = qchost_audit::tail(audit.files(), audit.folder(), 1).unwrap();
    (
        count,
        last.first().map_or(0, |record| record.line.len() + 1),
    )
}

/// Writes groups of bytes until the time is over. Returns how many groups.
fn raw(folder: &Path, bytes: usize, with_head: bool) -> u64 {
    let open = |name: &str| -> File {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        options.open(folder.join(name)).unwrap()
    };
    let (records, head) = (open("raw"), open("raw-head"));
    head.write_all_at(&[b' '; 8192], 0).unwrap();
    head.sync_all().unwrap();
    let group = vec![b'x'; bytes];
    let end = Instant::now() + TIME;
    let mut groups = 0;
    while Instant::now() < end {
        records.write_all_at(&group, groups * bytes as u64).unwrap();
        records.sync_data().unwrap();
        if with_head {
            head.write_all_at(&[b'y'; 512], groups % 2 * 4096).unwrap();
            head.sync_data().unwrap();
        }
        groups += 1;
    }
    groups
}

fn main() {
    let place = match std::env::var_os("QCHOST_BENCH_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rate = |count: u64| count as f64 / TIME.as_secs_f64();
    println!(
        "records/s, {IN_FLIGHT} in flight, {} s each",
        TIME.as_secs()
    );
    for round in 0..ROUNDS {
        let folder = place.path().join(format!("audit-{round}"));
        let (records, line) = runtime.block_on(audit(&folder));
        let bytes = line * usize::try_from(IN_FLIGHT).unwrap();
        let one = rate(raw(place.path(), bytes, false) * IN_FLIGHT);
        let two = rate(raw(place.path(), bytes, true) * IN_FLIGHT);
        let records = rate(records);
        println!(
            "audit {records:>8.0}   one fdatasync a group {one:>8.0}   two {two:>8.0}   audit/two {:.2}   ({line} bytes a line)",
            records / two
        );
    }
}
