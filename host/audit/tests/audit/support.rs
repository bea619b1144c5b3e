//! An audit on a drive in memory, and entries to put into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_audit::faults::Drive;
use qchost_audit::{
    Audit, AuditError, Entry, Files, Filter, Kind, Opening, Options, Record, Report, query, verify,
};
use secrecy::SecretSlice;
use serde_json::Value;

pub const FOLDER: &str = "/audit";

pub fn key() -> SecretSlice<u8> {
    SecretSlice::from(vec![7; 32])
}

pub fn folder() -> PathBuf {
    PathBuf::from(FOLDER)
}

/// Options for a drive: segments of 4 KiB, no retention, a reserve of 16 KiB.
pub fn options(files: impl Files + 'static) -> Options {
    Options {
        folder: folder(),
        key: key(),
        segment_bytes: 4096,
        keep: None,
        reserve_bytes: 16 * 1024,
        anchor: None,
        files: Arc::new(files),
    }
}

pub fn open(drive: &Drive) -> Result<(Audit, Opening), AuditError> {
    Audit::open(options(drive.clone()), None)
}

pub fn entry(kind: Kind, body: Value) -> Entry {
    let Value::Object(body) = body else {
        panic!("a body is an object: {body}");
    };
    Entry {
        kind,
        essential: false,
        body,
    }
}

pub fn intent(call: &str) -> Entry {
    entry(
        Kind::Intent,
        serde_json::json!({
            "call": call, "plugin": "lab", "account": "research", "decision": "allowed",
            "operation": "backtests/create-backtest", "project": {"id": 12, "name": "Lab/one"},
        }),
    )
}

pub fn outcome(call: &str) -> Entry {
    entry(
        Kind::Outcome,
        serde_json::json!({"call": call, "outcome": "ok", "latency-us": 1200}),
    )
}

pub fn read(index: u64) -> Entry {
    entry(
        Kind::Read,
        serde_json::json!({"call": format!("read-{index}"), "plugin": "lab"}),
    )
}

/// A drive with `count` records in it, in groups of one, closed in order.
pub async fn sample(count: u64) -> Drive {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    for index in 0..count {
        let call = format!("call-{}", index / 2);
        let entry = if index % 2 == 0 {
            intent(&call)
        } else {
            outcome(&call)
        };
        audit.record(entry).await.unwrap();
    }
    audit.close().await;
    drive
}

pub fn checked(drive: &Drive) -> Report {
    verify(drive, Path::new(FOLDER), &key(), None).unwrap()
}

pub fn all(drive: &Drive) -> Vec<Record> {
    query(
        Arc::new(drive.clone()),
        Path::new(FOLDER),
        Filter::default(),
    )
    .unwrap()
    .collect::<Result<_, _>>()
    .unwrap()
}

pub fn kinds(records: &[Record]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record.kind_word().unwrap())
        .collect()
}

/// The segments of a drive, in order.
pub fn segments(drive: &Drive) -> Vec<String> {
    let mut names = drive.list(Path::new(FOLDER)).unwrap();
    names.retain(|name| name.ends_with(".jsonl"));
    names.sort();
    names
}

pub fn text(drive: &Drive, name: &str) -> Vec<u8> {
    let mut text = Vec::new();
    drive
        .tamper(&folder().join(name), |bytes| text.clone_from(bytes))
        .unwrap();
    text
}

/// Waits until something holds, at most ten seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
