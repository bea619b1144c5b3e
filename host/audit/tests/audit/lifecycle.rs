//! Segments come and go, and the chain goes on.

use std::time::Duration;

use qchost_audit::faults::Drive;
use qchost_audit::{Anchor, Audit, Disk, Files, Options, verify};
use serde_json::json;

use crate::support::{
    FOLDER, all, checked, intent, key, kinds, open, options, outcome, segments, until,
};

#[tokio::test]
async fn the_chain_goes_on_over_segments_and_starts() {
    let drive = Drive::new();
    for start in 0..4 {
        let (audit, opening) = open(&drive).unwrap();
        assert_eq!(opening.recovered, 0);
        for index in 0..12 {
            audit
                .record(outcome(&format!("{start}-{index}")))
                .await
                .unwrap();
        }
        audit.close().await;
    }
    let report = checked(&drive);
    assert!(report.sound(), "{report}");
    assert!(report.segments > 3, "{report}");
    let records = all(&drive);
    assert_eq!(
        records
            .iter()
            .filter(|record| record.kind_word() == Some("outcome"))
            .count(),
        48
    );
    assert_eq!(records.last().unwrap().sequence(), records.len() as u64);
}

#[tokio::test]
async fn an_intent_stays_open_over_segments_until_its_outcome() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("old")).await.unwrap();
    for index in 0..60 {
        let call = format!("c{index}");
        audit.record(intent(&call)).await.unwrap();
        audit.record(outcome(&call)).await.unwrap();
    }
    audit.record(intent("new")).await.unwrap();
    audit.close().await;
    assert!(segments(&drive).len() > 5);
    let (audit, opening) = open(&drive).unwrap();
    let calls: Vec<_> = opening.unsettled.iter().map(|body| &body["call"]).collect();
    assert_eq!(calls, ["old", "new"]);
    let first = &opening.unsettled[0];
    assert_eq!(
        (&first["seq"], &first["project"]["id"]),
        (&json!(1), &json!(12))
    );
    assert!(first.contains_key("time") && !first.contains_key("prev"));
    audit.record(outcome("old")).await.unwrap();
    audit.close().await;
    let (_audit, opening) = open(&drive).unwrap();
    assert_eq!(opening.unsettled.len(), 1);
}

#[tokio::test]
async fn retention_removes_old_segments_and_the_rest_verifies() {
    let drive = Drive::new();
    let mut short = options(drive.clone());
    short.keep = Some(Duration::ZERO);
    let (audit, _) = Audit::open(short, None).unwrap();
    let early = audit.head();
    for index in 0..60 {
        audit.record(outcome(&format!("{index}"))).await.unwrap();
    }
    audit.close().await;
    let left = segments(&drive);
    assert!(left.len() <= 2, "{left:?}");
    let report = checked(&drive);
    assert!(report.sound() && report.removed > 20, "{report}");
    assert!(kinds(&all(&drive)).contains(&"retention"));
    // Retention is not a way to remove a segment unseen.
    drive
        .remove(&crate::support::folder().join(&left[0]))
        .unwrap();
    assert!(!checked(&drive).sound());
    let report = verify(&drive, FOLDER.as_ref(), &key(), Some(&early)).unwrap();
    assert!(!report.sound());
}

#[tokio::test]
async fn retention_keeps_what_is_young_and_what_is_unsettled() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    for index in 0..20 {
        audit.record(outcome(&format!("{index}"))).await.unwrap();
    }
    audit.record(intent("open")).await.unwrap();
    for index in 0..40 {
        audit.record(outcome(&format!("{index}"))).await.unwrap();
    }
    audit.close().await;
    let before = segments(&drive);
    let mut young = options(drive.clone());
    young.keep = Some(Duration::from_secs(3600));
    let (audit, _) = Audit::open(young, None).unwrap();
    audit.record(intent("x")).await.unwrap();
    audit.close().await;
    assert_eq!(segments(&drive)[..before.len()], before);
    let mut short = options(drive.clone());
    short.keep = Some(Duration::ZERO);
    let (audit, opening) = Audit::open(short, None).unwrap();
    assert_eq!(opening.unsettled.len(), 2);
    audit.record(intent("y")).await.unwrap();
    audit.close().await;
    let after = segments(&drive);
    assert!(after.len() < before.len() && after.len() > 2, "{after:?}");
    let (audit, opening) = open(&drive).unwrap();
    assert_eq!(opening.unsettled[0]["call"], json!("open"));
    audit.close().await;
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn notes_are_written_without_being_asked_for() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.note(crate::support::read(1));
    until("the note is there", || {
        !segments(&drive).is_empty() && all(&drive).len() == 1
    })
    .await;
    audit.close().await;
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn dropping_writes_the_notes() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.note(crate::support::read(1));
    drop(audit);
    assert_eq!(all(&drive).len(), 1);
    assert!(checked(&drive).sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_disk_with_an_anchor_and_a_verifier_beside_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("state/audit");
    let anchor = place.path().join("anchor");
    let options = || Options {
        folder: folder.clone(),
        key: key(),
        segment_bytes: 64 * 1024,
        keep: Some(Duration::ZERO),
        reserve_bytes: 1024 * 1024,
        anchor: Some(Anchor::File(anchor.clone())),
        files: std::sync::Arc::new(Disk),
    };
    let (audit, _) = Audit::open(options(), None).unwrap();
    let recording: Vec<_> = (0..16)
        .map(|task| {
            let audit = audit.clone();
            tokio::spawn(async move {
                for index in 0..30 {
                    let call = format!("{task}-{index}");
                    audit.record(intent(&call)).await.unwrap();
                    audit.record(outcome(&call)).await.unwrap();
                }
            })
        })
        .collect();
    let verifying = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || {
            let mut least = u64::MAX;
            for _ in 0..20 {
                let report = verify(&Disk, &folder, &key(), None).unwrap();
                assert!(report.sound(), "{report}");
                least = least.min(report.sequence);
            }
            least
        }
    });
    for task in recording {
        task.await.unwrap();
    }
    let least = verifying.await.unwrap();
    // What was only noted is written by now, so that no head comes after this one.
    audit.flush().await.unwrap();
    let head = audit.head();
    audit.close().await;
    drop(audit);
    let report = verify(&Disk, &folder, &key(), Some(&head)).unwrap();
    assert!(
        report.sound() && report.sequence >= 960 && least < report.sequence,
        "{report}"
    );
    let anchored = std::fs::read_to_string(&anchor).unwrap();
    assert_eq!(anchored.lines().last(), Some(head.as_str()));
    let (audit, opening) = Audit::open(options(), Some(&head)).unwrap();
    assert!(opening.unsettled.is_empty() && opening.recovered == 0);
    assert_eq!(audit.folder(), folder);
    audit.close().await;
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read it");
    }
}
