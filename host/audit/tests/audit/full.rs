//! A full disk: writes are refused with a clear error, reads go on, and what is essential is
//! still recorded.

use qchost_audit::faults::Drive;
use qchost_audit::{Audit, AuditError, Disk, Entry, Kind, Options, verify};
use qchost_testing::Mounted;
use serde_json::json;

use crate::support::{all, checked, entry, intent, key, kinds, open, options, outcome, read};

fn halt(index: u64) -> Entry {
    Entry {
        essential: true,
        ..entry(Kind::Halt, json!({"scope": format!("account-{index}")}))
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_when_there_is_space() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("a")).await.unwrap();
    drive.set_capacity(Some(drive.used() + 100));
    for index in 0..3 {
        let error = audit
            .record(intent(&format!("b{index}")))
            .await
            .unwrap_err();
        assert!(matches!(error, AuditError::DiskFull { .. }), "{error}");
        let words = error.to_string();
        assert!(
            words.contains("/audit is full") && words.contains("free some space"),
            "{words}"
        );
        audit.note(read(index));
    }
    // The part that was written is gone, and the chain ends in a whole record.
    assert!(checked(&drive).sound());
    assert_eq!(kinds(&all(&drive)), ["intent"]);
    drive.set_capacity(None);
    audit.record(outcome("a")).await.unwrap();
    audit.close().await;
    let records = all(&drive);
    let gap = records
        .iter()
        .find(|record| record.kind_word() == Some("gap"))
        .unwrap();
    assert_eq!(gap.fields["refused"], json!(3));
    assert_eq!(gap.fields["reason"], json!("the disk was full"));
    let noted = records
        .iter()
        .filter(|record| record.kind_word() == Some("read"))
        .count() as u64;
    assert_eq!(gap.fields["notes"].as_u64().unwrap() + noted, 3);
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn the_reserve_is_for_what_is_essential_and_is_made_again() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("a")).await.unwrap();
    drive.set_capacity(Some(drive.used()));
    assert!(audit.record(intent("b")).await.is_err());
    for index in 0..10 {
        audit.record(halt(index)).await.unwrap();
        // The space that the reserve gave up is not for others.
        let error = audit.record(intent("c")).await.unwrap_err();
        assert!(matches!(error, AuditError::DiskFull { .. }), "{error}");
    }
    assert!(checked(&drive).sound());
    let reserve = || crate::support::text(&drive, "reserve").len();
    drive.set_capacity(None);
    audit.record(outcome("a")).await.unwrap();
    assert_eq!(reserve(), 16 * 1024);
    drive.set_capacity(Some(drive.used()));
    audit.record(halt(11)).await.unwrap();
    audit.close().await;
    let records = all(&drive);
    assert_eq!(
        records
            .iter()
            .filter(|record| record.kind_word() == Some("halt"))
            .count(),
        11
    );
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn a_reserve_that_is_used_up_refuses_what_is_essential_too() {
    let drive = Drive::new();
    let mut small = options(drive.clone());
    small.reserve_bytes = 2000;
    let (audit, _) = Audit::open(small, None).unwrap();
    drive.set_capacity(Some(drive.used()));
    let mut recorded = 0;
    let error = loop {
        match audit.record(halt(recorded)).await {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
    };
    assert!(recorded >= 4, "{recorded}");
    assert!(matches!(error, AuditError::DiskFull { .. }), "{error}");
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn a_gap_is_recorded_when_there_is_space_though_nothing_else_happens() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    drive.set_capacity(Some(drive.used()));
    audit.note(read(1));
    assert!(audit.flush().await.is_err());
    drive.set_capacity(None);
    crate::support::until("the gap is recorded", || kinds(&all(&drive)) == ["gap"]).await;
    audit.close().await;
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn a_start_on_a_full_disk_records_what_is_essential() {
    let drive = crate::support::sample(4).await;
    drive.set_capacity(Some(drive.used()));
    let (audit, _) = open(&drive).unwrap();
    assert!(audit.record(intent("x")).await.is_err());
    audit.record(halt(0)).await.unwrap();
    audit.close().await;
    // The next start has no reserve to begin with.
    let (audit, _) = open(&drive).unwrap();
    audit.record(halt(1)).await.unwrap();
    assert!(audit.record(intent("x")).await.is_err());
    audit.close().await;
    assert!(checked(&drive).sound());
}

/// The same on a real file system of 4 MiB, where the process may mount one.
#[tokio::test]
async fn a_real_full_disk() {
    let place = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::at(place.path(), "4m") else {
        return;
    };
    let folder = place.path().join("audit");
    let (audit, _) = Audit::open(
        Options {
            folder: folder.clone(),
            key: key(),
            segment_bytes: 256 * 1024,
            keep: None,
            reserve_bytes: 512 * 1024,
            anchor: None,
            files: std::sync::Arc::new(Disk),
        },
        None,
    )
    .unwrap();
    let ballast = place.path().join("ballast");
    let mut recorded = 0;
    std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]).unwrap();
    let long = "x".repeat(10_000);
    let error = loop {
        let entry = entry(Kind::Admin, json!({"what": long}));
        match audit.record(entry).await {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
        assert!(recorded < 1000, "the disk never fills");
    };
    assert!(matches!(error, AuditError::DiskFull { .. }), "{error}");
    // What is left takes shorter records still; and then only the reserve.
    while audit.record(intent("x")).await.is_ok() {
        recorded += 1;
        assert!(recorded < 10_000, "the disk never fills");
    }
    for index in 0..20 {
        audit.record(halt(index)).await.unwrap();
    }
    assert!(audit.record(intent("x")).await.is_err());
    let report = verify(&Disk, &folder, &key(), None).unwrap();
    assert!(report.sound(), "{report}");
    std::fs::remove_file(&ballast).unwrap();
    audit.record(intent("y")).await.unwrap();
    audit.close().await;
    drop(audit);
    let report = verify(&Disk, &folder, &key(), None).unwrap();
    assert!(
        report.sound() && report.sequence >= recorded + 21,
        "{report}"
    );
}
