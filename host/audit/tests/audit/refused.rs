//! States that no crash leaves: the audit does not open, and says what is wrong and what to do.

use qchost_audit::{Audit, AuditError, Files};

use crate::support::{folder, intent, open, options, outcome, sample, segments, text};

#[tokio::test]
async fn a_cut_tail_does_not_open() {
    let drive = sample(6).await;
    let path = folder().join("00000000000000000001.jsonl");
    drive
        .tamper(&path, |bytes| {
            let last = bytes[..bytes.len() - 1]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .unwrap();
            bytes.truncate(last + 1);
        })
        .unwrap();
    let error = open(&drive).unwrap_err();
    assert!(
        matches!(
            error,
            AuditError::TailCut {
                witness: "the signed head",
                head: 6,
                last: 5,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("restore the folder from a backup"),
        "{error}"
    );
}

#[tokio::test]
async fn a_tail_segment_that_is_gone_does_not_open() {
    let drive = sample(30).await;
    drive
        .remove(&folder().join(segments(&drive).last().unwrap()))
        .unwrap();
    let error = open(&drive).unwrap_err();
    assert!(matches!(error, AuditError::TailCut { .. }), "{error}");
}

#[tokio::test]
async fn a_changed_record_in_the_last_segment_does_not_open() {
    let drive = sample(4).await;
    let path = folder().join("00000000000000000001.jsonl");
    let place = text(&drive, "00000000000000000001.jsonl")
        .windows(8)
        .position(|window| window == b"research")
        .unwrap();
    drive.tamper(&path, |bytes| bytes[place] = b'R').unwrap();
    let error = open(&drive).unwrap_err();
    let AuditError::Broken {
        line: 1,
        sequence: 1,
        ..
    } = error
    else {
        panic!("{error}");
    };
}

#[tokio::test]
async fn no_head_or_a_forged_one_does_not_open() {
    let drive = sample(4).await;
    let mut other = options(drive.clone());
    other.key = vec![9; 32].into();
    let error = Audit::open(other, None).unwrap_err();
    assert!(matches!(error, AuditError::HeadForged { .. }), "{error}");
    drive.remove(&folder().join("head")).unwrap();
    let error = open(&drive).unwrap_err();
    assert!(matches!(error, AuditError::HeadMissing { .. }), "{error}");
}

#[tokio::test]
async fn an_old_head_put_back_does_not_open_beside_a_newer_one_in_the_database() {
    let drive = sample(4).await;
    let (head, lines) = (
        text(&drive, "head"),
        text(&drive, "00000000000000000001.jsonl"),
    );
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("x")).await.unwrap();
    let recorded = audit.head();
    audit.close().await;
    // As it is, the head in the database fits.
    let (audit, _) = Audit::open(options(drive.clone()), Some(&recorded)).unwrap();
    audit.close().await;
    // The whole folder is put back to what it was: it verifies in itself.
    drive
        .tamper(&folder().join("head"), |bytes| *bytes = head)
        .unwrap();
    let path = folder().join("00000000000000000001.jsonl");
    drive.tamper(&path, |bytes| *bytes = lines).unwrap();
    assert!(crate::support::checked(&drive).sound());
    let error = Audit::open(options(drive.clone()), Some(&recorded)).unwrap_err();
    assert!(
        matches!(
            error,
            AuditError::TailCut {
                witness: "the head in the database",
                head: 5,
                last: 4,
                ..
            }
        ),
        "{error}"
    );
    // And an empty folder is no way out.
    let empty = qchost_audit::faults::Drive::new();
    let error = Audit::open(options(empty), Some(&recorded)).unwrap_err();
    assert!(
        matches!(error, AuditError::TailCut { last: 0, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_head_in_the_database_must_be_of_this_chain() {
    let drive = sample(6).await;
    let other = sample(4).await;
    let (audit, _) = open(&other).unwrap();
    let recorded = audit.head();
    audit.close().await;
    let error = Audit::open(options(drive.clone()), Some(&recorded)).unwrap_err();
    assert!(matches!(error, AuditError::Recorded { .. }), "{error}");
    let forged = recorded.replace(":4:", ":3:");
    let error = Audit::open(options(drive), Some(&forged)).unwrap_err();
    assert!(matches!(error, AuditError::Recorded { .. }), "{error}");
}

#[tokio::test]
async fn an_older_head_in_the_database_fits_in_any_segment() {
    let drive = qchost_audit::faults::Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let mut heads = vec![audit.head()];
    for index in 0..20 {
        audit.record(outcome(&format!("{index}"))).await.unwrap();
        heads.push(audit.head());
    }
    audit.close().await;
    assert!(segments(&drive).len() > 1);
    for head in heads {
        let (audit, _) = Audit::open(options(drive.clone()), Some(&head)).unwrap();
        audit.close().await;
    }
}
