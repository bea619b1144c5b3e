//! What `record` promises: when it answers, the record and the head that signs it are on the
//! disk; and when a sync fails, nothing is believed.

use qchost_audit::faults::{Drive, Event, Torn};
use qchost_audit::{Audit, AuditError, Kind};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{all, checked, entry, intent, kinds, open, outcome, segments, until};

/// Holds the writer in the sync of a record, until the syncs are let go.
async fn held(
    drive: &Drive,
    audit: &Audit,
    call: &'static str,
) -> JoinHandle<Result<u64, AuditError>> {
    drive.hold_syncs();
    let audit = audit.clone();
    let held = tokio::spawn(async move { audit.record(intent(call)).await });
    until("the writer syncs", || drive.waiting_syncs() == 1).await;
    held
}

#[tokio::test]
async fn no_record_returns_before_it_is_synced_and_signed() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    drive.remember();
    let calls: Vec<_> = (0..200)
        .map(|index| {
            let (audit, drive) = (audit.clone(), drive.clone());
            tokio::spawn(async move {
                let sequence = audit.record(intent(&format!("c{index}"))).await.unwrap();
                drive.mark(sequence.to_string());
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let mut written = 0;
    let mut synced = 0;
    let mut head_written = 0;
    let mut signed = 0;
    let mut returned = 0;
    for event in drive.events() {
        match event {
            Event::Written { name, bytes, .. } if name == "head" => {
                let text = String::from_utf8(bytes).unwrap();
                head_written = text.split(':').nth(1).unwrap().parse().unwrap();
                assert!(head_written <= synced, "a head before its records");
            }
            Event::Written { name, bytes, .. } if name.ends_with(".jsonl") => {
                assert_eq!(signed, written, "a group before the head of the one before");
                written += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
            Event::Synced(name) if name == "head" => signed = head_written,
            Event::Synced(name) if name.ends_with(".jsonl") => synced = written,
            Event::Mark(sequence) => {
                let sequence: u64 = sequence.parse().unwrap();
                assert!(
                    sequence <= synced,
                    "record {sequence} returned before its sync"
                );
                assert!(
                    sequence <= signed,
                    "record {sequence} returned before its head"
                );
                returned += 1;
            }
            Event::Written { .. } | Event::Synced(_) | Event::FolderSynced => {}
        }
    }
    assert_eq!(returned, 200);
}

#[tokio::test]
async fn a_sync_that_takes_long_keeps_its_callers_waiting_and_no_note() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let waiting = held(&drive, &audit, "a").await;
    for index in 0..1000 {
        audit.note(crate::support::read(index));
    }
    assert!(!waiting.is_finished());
    drive.let_syncs_go();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    audit.flush().await.unwrap();
    assert_eq!(
        all(&drive)
            .iter()
            .filter(|record| record.kind_word() == Some("read"))
            .count(),
        1000
    );
    audit.close().await;
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn callers_at_the_same_time_share_a_sync() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let first = held(&drive, &audit, "first").await;
    let others: Vec<_> = (0..64)
        .map(|index| {
            let audit = audit.clone();
            tokio::spawn(async move { audit.record(intent(&format!("c{index}"))).await })
        })
        .collect();
    // All of them have run up to their wait when the runtime comes back here.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drive.remember();
    drive.let_syncs_go();
    first.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    let syncs = drive
        .events()
        .iter()
        .filter(|event| matches!(event, Event::Synced(name) if name.ends_with(".jsonl")))
        .count();
    assert!(syncs <= 4, "65 records in {syncs} syncs");
}

#[tokio::test]
async fn a_failed_sync_fails_its_callers_and_leaves_no_trace_of_their_records() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("good")).await.unwrap();
    drive.fail_next_sync("0000");
    let error = audit.record(intent("lost")).await.unwrap_err();
    assert!(matches!(error, AuditError::Write { .. }), "{error}");
    assert!(
        error.to_string().contains("nothing was recorded"),
        "{error}"
    );
    assert_eq!(audit.record(outcome("good")).await.unwrap(), 3);
    audit.close().await;
    let records = all(&drive);
    assert_eq!(kinds(&records), ["intent", "gap", "outcome"]);
    assert_eq!(records[1].fields["refused"], json!(1));
    assert!(checked(&drive).sound());
    let after = drive.restart(Torn::Nothing);
    assert_eq!(all(&after), records);
}

#[tokio::test]
async fn a_failed_sync_that_lost_older_records_poisons() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    for call in ["a", "b", "c"] {
        audit.record(intent(call)).await.unwrap();
    }
    drive.fail_next_sync("0000");
    // The disk lost more than the group: the second line is not what it was.
    let path = crate::support::folder().join(&segments(&drive)[0]);
    drive.tamper(&path, |bytes| bytes[400] ^= 1).unwrap();
    let error = audit.record(intent("d")).await.unwrap_err();
    assert!(matches!(error, AuditError::Poisoned { .. }), "{error}");
    let error = audit.record(intent("e")).await.unwrap_err();
    assert!(
        error.to_string().contains("refuses every further entry"),
        "{error}"
    );
    assert!(audit.flush().await.is_err());
}

/// The system shows what it failed to write, and a process that starts then must not believe it.
#[tokio::test]
async fn a_failed_sync_and_a_kill_leave_nothing_to_believe() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("a")).await.unwrap();
    drive.fail_next_sync("0000");
    // The write, the sync that fails, and then the process is gone.
    drive.lose_power_at(drive.operations() + 3);
    assert!(audit.record(outcome("a")).await.is_err());
    let drive = drive.after_kill();
    assert_eq!(kinds(&all(&drive)), ["intent", "outcome"]);
    let (audit, opening) = open(&drive).unwrap();
    assert_eq!((opening.recovered, opening.unsettled.len()), (0, 1));
    audit.record(outcome("a")).await.unwrap();
    let after = drive.restart(Torn::Nothing);
    let (audit, _) = open(&after).unwrap();
    audit.close().await;
    assert!(checked(&after).sound());
}

#[tokio::test]
async fn a_head_whose_sync_failed_is_made_again() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("a")).await.unwrap();
    drive.fail_next_sync("head");
    assert_eq!(audit.record(outcome("a")).await.unwrap(), 2);
    let after = drive.restart(Torn::Nothing);
    assert_eq!(kinds(&all(&after)), ["intent", "outcome"]);
    let report = checked(&after);
    assert!(report.sound(), "{report}");
    assert_eq!(report.sequence, 2);
}

#[tokio::test]
async fn a_head_that_cannot_be_written_at_all_poisons_and_the_next_start_recovers() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("a")).await.unwrap();
    drive.fail_next_sync("head");
    drive.fail_next_sync("head.new");
    let error = audit.record(outcome("a")).await.unwrap_err();
    assert!(matches!(error, AuditError::Poisoned { .. }), "{error}");
    audit.close().await;
    let (audit, opening) = open(&drive).unwrap();
    // Whether the second head got there or not, the record did.
    assert!(opening.recovered <= 1);
    assert!(opening.unsettled.is_empty());
    audit.close().await;
    assert!(checked(&drive).sound());
}

#[tokio::test]
async fn a_line_of_another_program_poisons() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("a")).await.unwrap();
    let path = crate::support::folder().join(&segments(&drive)[0]);
    drive
        .tamper(&path, |bytes| bytes.extend_from_slice(b"{}\n"))
        .unwrap();
    let error = audit.record(intent("b")).await.unwrap_err();
    assert!(
        error.to_string().contains("another program wrote"),
        "{error}"
    );
}

#[tokio::test]
async fn a_failed_write_is_undone_and_the_next_one_goes_on() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.record(intent("a")).await.unwrap();
    drive.fail_next_write("0000");
    let error = audit.record(intent("b")).await.unwrap_err();
    assert!(matches!(error, AuditError::Write { .. }), "{error}");
    audit.record(outcome("a")).await.unwrap();
    audit.close().await;
    assert!(checked(&drive).sound());
    assert_eq!(kinds(&all(&drive)), ["intent", "gap", "outcome"]);
}

#[tokio::test]
async fn an_entry_that_never_fits_is_refused_by_itself() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    // However slow the machine is, the writer does not get to them one by one.
    let held = held(&drive, &audit, "first").await;
    for body in [
        json!({"seq": 1}),
        json!({"time": "now"}),
        json!({"big": "x".repeat(qchost_audit::MAX_BODY)}),
    ] {
        let error = audit
            .record(entry(Kind::Admin, body.clone()))
            .await
            .unwrap_err();
        assert!(matches!(error, AuditError::Unfit(_)), "{error}");
        audit.note(entry(Kind::Read, body));
    }
    drive.let_syncs_go();
    held.await.unwrap().unwrap();
    audit.record(intent("a")).await.unwrap();
    let records = all(&drive);
    assert_eq!(kinds(&records), ["intent", "gap", "read", "intent"]);
    assert_eq!(records[1].fields["notes"], json!(2));
    // An entry that is only too long is shortened and noted, so that padding does not keep it out.
    let bytes = qchost_audit::MAX_BODY + 2;
    assert_eq!(records[2].fields["big"]["bytes"], json!(bytes));
}

#[tokio::test]
async fn followers_see_lines_when_they_are_durable() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let mut lines = audit.follow();
    drive.hold_syncs();
    audit.note(crate::support::read(1));
    let flush = tokio::spawn({
        let audit = audit.clone();
        async move { audit.flush().await }
    });
    until("the writer syncs", || drive.waiting_syncs() == 1).await;
    assert!(lines.try_recv().is_err());
    drive.let_syncs_go();
    flush.await.unwrap().unwrap();
    let line = lines.recv().await.unwrap();
    assert_eq!(*line, *all(&drive)[0].line);
}

#[tokio::test]
async fn a_closed_audit_says_so() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    audit.note(crate::support::read(1));
    audit.close().await;
    assert_eq!(kinds(&all(&drive)), ["read"]);
    let error = audit.record(intent("a")).await.unwrap_err();
    assert!(matches!(error, AuditError::Closed), "{error}");
    audit.close().await;
}

#[tokio::test]
async fn a_short_key_is_refused() {
    let mut options = crate::support::options(Drive::new());
    options.key = vec![1; 8].into();
    let error = qchost_audit::Audit::open(options, None).unwrap_err();
    assert!(error.to_string().contains("8 bytes"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_into_the_buffer_is_counted() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let held = held(&drive, &audit, "a").await;
    let long = "x".repeat(100_000);
    for _ in 0..100 {
        audit.note(entry(Kind::Read, json!({"long": long})));
    }
    drive.let_syncs_go();
    held.await.unwrap().unwrap();
    audit.flush().await.unwrap();
    audit.close().await;
    let records = all(&drive);
    let noted = records
        .iter()
        .filter(|record| record.kind_word() == Some("read"))
        .count();
    let dropped: u64 = records
        .iter()
        .filter(|record| record.kind_word() == Some("gap"))
        .map(|record| record.fields["notes"].as_u64().unwrap())
        .sum();
    assert!(
        noted > 30 && dropped > 30,
        "{noted} noted, {dropped} dropped"
    );
    assert_eq!(noted as u64 + dropped, 100);
}
