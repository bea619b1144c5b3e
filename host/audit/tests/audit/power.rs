//! Power loss at every kind of moment: what was acknowledged is there, the chain verifies, and
//! what was recovered is marked.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qchost_audit::faults::{Drive, Torn};
use qchost_audit::{Audit, AuditError, verify};

use crate::support::{FOLDER, all, checked, intent, key, open, options, outcome, read};

const RUNS: u64 = 240;
const TASKS: u64 = 8;
const CALLS: u64 = 6;

/// What callers were told: sequence → (call, kind).
type Told = Arc<Mutex<BTreeMap<u64, (String, &'static str)>>>;

/// Eight tasks that record intents and outcomes until they are done or the power is lost.
/// Returns the last head that the host saw.
async fn work(drive: &Drive, keep: Option<Duration>, told: &Told) -> Option<String> {
    let mut options = options(drive.clone());
    options.keep = keep;
    options.segment_bytes = 3000;
    let (audit, _) = Audit::open(options, None).ok()?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (audit, told) = (audit.clone(), Arc::clone(told));
            tokio::spawn(async move {
                for index in 0..CALLS {
                    let call = format!("{task}-{index}");
                    audit.note(read(index));
                    for (entry, kind) in [(intent(&call), "intent"), (outcome(&call), "outcome")] {
                        let Ok(sequence) = audit.record(entry).await else {
                            return;
                        };
                        told.lock().insert(sequence, (call.clone(), kind));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let head = audit.head();
    audit.close().await;
    Some(head)
}

/// Checks what is there against what was told. Returns how many records were recovered.
async fn after(drive: &Drive, head: Option<&str>, told: &Told, what: &str) -> u64 {
    let told = told.lock().clone();
    let opened = Audit::open(options(drive.clone()), head);
    let (audit, opening) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let report = verify(drive, Path::new(FOLDER), &key(), head).unwrap();
    assert!(report.sound(), "{what}: {report}");
    let records = all(drive);
    let by_sequence: BTreeMap<u64, _> = records
        .iter()
        .map(|record| (record.sequence(), record))
        .collect();
    for (sequence, (call, kind)) in told.range(report.removed + 1..) {
        let record = by_sequence.get(sequence);
        let record = record.unwrap_or_else(|| panic!("{what}: {sequence} was told and is gone"));
        assert_eq!(record.call(), Some(call.as_str()), "{what}");
        assert_eq!(record.kind_word(), Some(*kind), "{what}");
    }
    let mut open_calls = BTreeMap::new();
    for record in &records {
        match record.kind_word().unwrap() {
            "intent" => drop(open_calls.insert(record.call().unwrap(), record.sequence())),
            "outcome" => drop(open_calls.remove(record.call().unwrap())),
            _ => {}
        }
    }
    let mut expected: Vec<u64> = open_calls.into_values().collect();
    expected.sort_unstable();
    let unsettled: Vec<u64> = opening
        .unsettled
        .iter()
        .map(|body| body["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(unsettled, expected, "{what}");
    let last = records
        .iter()
        .rfind(|record| record.kind_word() != Some("retention"));
    let marked = last.filter(|record| record.kind_word() == Some("recovered"));
    if opening.recovered + opening.cut > 0 {
        let marked = marked.unwrap_or_else(|| panic!("{what}: recovered, and no mark of it"));
        assert_eq!(
            marked.fields["recovered"].as_u64(),
            Some(opening.recovered),
            "{what}"
        );
        assert_eq!(
            marked.fields["cut-bytes"].as_u64(),
            Some(opening.cut),
            "{what}"
        );
    }
    audit.record(intent("afterwards")).await.unwrap();
    let head = audit.head();
    audit.close().await;
    let (audit, again) = Audit::open(options(drive.clone()), Some(&head)).unwrap();
    assert_eq!((again.recovered, again.cut), (0, 0), "{what}");
    audit.close().await;
    assert!(checked(drive).sound(), "{what}");
    opening.recovered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_loss_at_any_moment() {
    let whole = Drive::new();
    work(&whole, None, &Told::default()).await;
    let operations = whole.operations();
    assert!(
        operations > 40,
        "too short to be cut at many points: {operations}"
    );
    let mut recovered = 0;
    let mut acknowledged = 0;
    for run in 0..RUNS {
        let told = Told::default();
        let drive = Drive::new();
        drive.lose_power_at(1 + run * operations / RUNS + run % 3);
        let keep = (run % 2 == 0).then_some(Duration::ZERO);
        let head = work(&drive, keep, &told).await;
        let torn = if run % 4 == 0 {
            Torn::Nothing
        } else {
            Torn::Some(run)
        };
        let mut drive = drive.restart(torn);
        let what = format!("run {run}");
        // Now and then the power is lost again while the audit opens.
        if run % 3 == 0 {
            drive.lose_power_at(run % 13);
            if let Ok((audit, _)) = open(&drive) {
                audit.close().await;
            }
            drive = drive.restart(Torn::Some(run + 1));
        }
        recovered += after(&drive, head.as_deref(), &told, &what).await;
        acknowledged += told.lock().len();
    }
    assert!(
        recovered > 0,
        "no run left records past the head: the test tests too little"
    );
    assert!(
        acknowledged > 1000,
        "only {acknowledged} records were acknowledged"
    );
}

/// A process that is killed leaves behind what it wrote and did not sync: the next one must not
/// take it for durable when the power is lost after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_and_then_power_loss() {
    let whole = Drive::new();
    work(&whole, None, &Told::default()).await;
    let operations = whole.operations();
    for run in 0..RUNS {
        let told = Told::default();
        let drive = Drive::new();
        drive.lose_power_at(1 + run * operations / RUNS);
        work(&drive, None, &told).await;
        let drive = drive.after_kill();
        drive.lose_power_at(1 + run % 17);
        let head = work(&drive, None, &told).await;
        let torn = if run % 2 == 0 {
            Torn::Nothing
        } else {
            Torn::Some(run)
        };
        let drive = drive.restart(torn);
        after(&drive, head.as_deref(), &told, &format!("run {run}")).await;
    }
}

/// The layer itself: it must lose what was not synced, or the test above shows nothing.
#[tokio::test]
async fn the_drive_loses_what_was_not_synced() {
    use qchost_audit::{Files, Mode};
    let drive = Drive::new();
    let folder = Path::new("/f");
    drive.create_folder(folder).unwrap();
    let mut file = drive.open(&folder.join("a"), Mode::Create).unwrap();
    file.write_at(b"kept", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(
        drive.restart(Torn::Nothing).list(folder).unwrap(),
        Vec::<String>::new()
    );
    let drive = Drive::new();
    drive.create_folder(folder).unwrap();
    let mut file = drive.open(&folder.join("a"), Mode::Create).unwrap();
    drive.sync_folder(folder).unwrap();
    file.write_at(b"kept", 0).unwrap();
    file.sync().unwrap();
    file.write_at(b" and lost", 4).unwrap();
    drive.rename(&folder.join("a"), &folder.join("b")).unwrap();
    let after = drive.restart(Torn::Nothing);
    assert_eq!(after.list(folder).unwrap(), ["a"]);
    assert_eq!(
        after
            .open(&folder.join("a"), Mode::Read)
            .unwrap()
            .size()
            .unwrap(),
        4
    );
    assert!(file.write_at(b"x", 0).is_err(), "the old drive stays off");
}

#[tokio::test]
async fn a_torn_line_past_the_head_is_cut_and_said() {
    let drive = crate::support::sample(3).await;
    let path = crate::support::folder().join("00000000000000000001.jsonl");
    drive
        .tamper(&path, |bytes| bytes.extend_from_slice(b"{\"call\":\"half"))
        .unwrap();
    let (audit, opening) = open(&drive).unwrap();
    assert_eq!((opening.recovered, opening.cut), (0, 13));
    audit.close().await;
    let records = all(&drive);
    assert_eq!(records.last().unwrap().kind_word(), Some("recovered"));
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn a_torn_slot_of_the_head_leaves_the_other() {
    for slot in [0, 4096] {
        let drive = crate::support::sample(5).await;
        let head = crate::support::folder().join("head");
        drive.tamper(&head, |bytes| bytes[slot + 20] ^= 1).unwrap();
        assert!(!checked(&drive).sound());
        let (audit, opening) = open(&drive).unwrap();
        assert!(opening.recovered <= 1);
        audit.close().await;
        assert!(checked(&drive).sound());
        let last = all(&drive).pop().unwrap();
        assert_eq!(last.fields["torn-head"], serde_json::json!(true));
    }
}

#[tokio::test]
async fn two_groups_past_the_head_are_not_of_a_crash() {
    let drive = crate::support::sample(5).await;
    let old = crate::support::text(&drive, "head");
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("x")).await.unwrap();
    audit.record(intent("y")).await.unwrap();
    audit.close().await;
    let head = crate::support::folder().join("head");
    drive.tamper(&head, |bytes| *bytes = old).unwrap();
    let error = open(&drive).unwrap_err();
    assert!(matches!(error, AuditError::Unsigned { .. }), "{error}");
}
