//! Tampering with every record of a sample: each is found, and the right record is named.

use proptest::prelude::*;
use qchost_audit::faults::Drive;
use qchost_audit::{Fault, Report, verify};
use serde_json::Value;

use crate::support::{FOLDER, checked, folder, intent, key, open, sample, segments, text};

const RECORDS: u64 = 60;

/// A folder's content: its segments with their lines, and the head.
#[derive(Clone)]
struct Copy {
    segments: Vec<(String, Vec<Vec<u8>>)>,
    head: Vec<u8>,
}

impl Copy {
    fn of(drive: &Drive) -> Self {
        let lines = |name: &String| {
            let text = text(drive, name);
            let lines = text
                .split_inclusive(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec);
            (name.clone(), lines.collect())
        };
        Self {
            segments: segments(drive).iter().map(lines).collect(),
            head: text(drive, "head"),
        }
    }

    fn check(&self, drive: &Drive) -> Report {
        for (name, lines) in &self.segments {
            drive
                .tamper(&folder().join(name), |bytes| *bytes = lines.concat())
                .unwrap();
        }
        drive
            .tamper(&folder().join("head"), |bytes| bytes.clone_from(&self.head))
            .unwrap();
        checked(drive)
    }

    /// Where each record is: segment and line, by index.
    fn places(&self) -> Vec<(usize, usize)> {
        let lines = self.segments.iter().enumerate();
        lines
            .flat_map(|(segment, (_, lines))| (0..lines.len()).map(move |line| (segment, line)))
            .collect()
    }
}

fn names(report: &Report, sequence: u64) -> bool {
    report
        .problems
        .iter()
        .any(|problem| problem.sequence == sequence)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[tokio::test]
async fn what_was_not_touched_verifies() {
    let drive = sample(RECORDS).await;
    let report = checked(&drive);
    assert!(report.sound(), "{report}");
    assert_eq!(report.sequence, report.records);
    assert!(
        report.records >= RECORDS && report.segments >= 4,
        "{report}"
    );
}

#[tokio::test]
async fn a_flipped_bit_is_found_in_every_byte_of_a_record_and_in_every_record() {
    let drive = sample(RECORDS).await;
    let whole = Copy::of(&drive);
    for (index, (segment, line)) in whole.places().into_iter().enumerate() {
        let sequence = index as u64 + 1;
        let length = whole.segments[segment].1[line].len();
        // Every byte of three records, the newline included, and every seventh of the others.
        let step = if index % 20 == 0 { 1 } else { 7 };
        for byte in (index % step..length).step_by(step) {
            let mut changed = whole.clone();
            changed.segments[segment].1[line][byte] ^= 1 << (byte % 8);
            let report = changed.check(&drive);
            assert!(
                names(&report, sequence),
                "byte {byte} of {sequence}: {report}"
            );
        }
    }
    assert!(whole.check(&drive).sound());
}

#[tokio::test]
async fn a_removed_line_is_found() {
    let drive = sample(RECORDS).await;
    let whole = Copy::of(&drive);
    for (index, (segment, line)) in whole.places().into_iter().enumerate() {
        let sequence = index as u64 + 1;
        let mut changed = whole.clone();
        changed.segments[segment].1.remove(line);
        let report = changed.check(&drive);
        let problem = report.problems.iter().find(|problem| {
            problem.sequence == sequence
                && matches!(problem.fault, Fault::Missing | Fault::Truncated)
        });
        assert!(problem.is_some(), "{sequence}: {report}");
    }
}

#[tokio::test]
async fn two_swapped_lines_are_found() {
    let drive = sample(RECORDS).await;
    let whole = Copy::of(&drive);
    let places = whole.places();
    for first in 0..places.len() {
        for second in [first + 1, (first + 13) % places.len()] {
            if second >= places.len() || first == second {
                continue;
            }
            let mut changed = whole.clone();
            let [(a, b), (c, d)] = [places[first], places[second]];
            let other = whole.segments[c].1[d].clone();
            changed.segments[c].1[d] = std::mem::replace(&mut changed.segments[a].1[b], other);
            let report = changed.check(&drive);
            let earlier = first.min(second) as u64 + 1;
            assert!(names(&report, earlier), "{first} and {second}: {report}");
            assert!(
                report
                    .problems
                    .iter()
                    .any(|problem| problem.fault == Fault::Moved),
                "{report}"
            );
        }
    }
}

#[tokio::test]
async fn a_truncated_tail_is_found() {
    let drive = sample(RECORDS).await;
    let whole = Copy::of(&drive);
    for (index, (segment, line)) in whole.places().into_iter().enumerate() {
        let sequence = index as u64 + 1;
        for part in [0, 1, 30] {
            let mut changed = whole.clone();
            changed.segments[segment].1.truncate(line + 1);
            changed.segments[segment].1[line].truncate(part);
            for (_, lines) in changed.segments.iter_mut().skip(segment + 1) {
                lines.clear();
            }
            let report = changed.check(&drive);
            assert!(names(&report, sequence), "{sequence}, {part}: {report}");
        }
    }
}

#[tokio::test]
async fn a_removed_segment_is_found() {
    let whole = segments(&sample(RECORDS).await);
    for name in whole {
        let drive = sample(RECORDS).await;
        let first: u64 = name[..20].parse().unwrap();
        qchost_audit::Files::remove(&drive, &folder().join(&name)).unwrap();
        let report = checked(&drive);
        assert!(names(&report, first), "{name}: {report}");
    }
}

#[tokio::test]
async fn a_forged_head_is_found_in_every_byte() {
    let drive = sample(8).await;
    let whole = Copy::of(&drive);
    for byte in 0..whole.head.len() {
        // The rest of a slot is blank, and is never read.
        if byte % 4096 >= 512 || whole.head[byte] == b' ' || whole.head[byte] == b'\n' {
            continue;
        }
        let mut changed = whole.clone();
        changed.head[byte] ^= 1 << (byte % 7);
        let report = changed.check(&drive);
        assert!(
            report
                .problems
                .iter()
                .any(|problem| problem.fault == Fault::Head),
            "byte {byte}: {report}"
        );
    }
    let mut gone = whole.clone();
    gone.head.clear();
    assert!(!gone.check(&drive).sound());
    qchost_audit::Files::remove(&drive, &folder().join("head")).unwrap();
    let report = checked(&drive);
    assert_eq!(report.problems[0].fault, Fault::Head, "{report}");
}

#[tokio::test]
async fn a_head_by_another_key_is_no_head() {
    let drive = sample(4).await;
    let report = verify(&drive, FOLDER.as_ref(), &vec![8; 32].into(), None).unwrap();
    assert!(
        report
            .problems
            .iter()
            .all(|problem| problem.fault == Fault::Head)
    );
    assert!(!report.sound());
}

/// Records are rewritten from one on with correct hashes, which is possible without the key.
#[tokio::test]
async fn records_that_were_made_again_do_not_fit_the_head() {
    let drive = sample(10).await;
    let whole = Copy::of(&drive);
    let other = Drive::new();
    let (audit, _) = open(&other).unwrap();
    for index in 0..10 {
        audit
            .record(intent(&format!("forged-{index}")))
            .await
            .unwrap();
    }
    audit.close().await;
    let mut changed = whole.clone();
    changed.segments = Copy::of(&other).segments;
    let report = changed.check(&drive);
    assert!(names(&report, report.sequence), "{report}");
}

#[tokio::test]
async fn an_added_record_is_found() {
    let drive = sample(9).await;
    let longer = Copy::of(&sample(10).await);
    let mut changed = Copy::of(&drive);
    let added = longer.segments.last().unwrap().1.last().unwrap().clone();
    changed.segments.last_mut().unwrap().1.push(added);
    let report = changed.check(&drive);
    assert_eq!(report.problems.len(), 1, "{report}");
    assert_eq!(report.problems[0].fault, Fault::Unsigned);
}

#[tokio::test]
async fn a_line_longer_than_any_record_is_found_without_being_loaded() {
    let drive = sample(6).await;
    let mut changed = Copy::of(&drive);
    let line = &mut changed.segments[0].1[2];
    line.pop();
    line.resize(20 * 1024 * 1024, b'x');
    line.push(b'\n');
    let report = changed.check(&drive);
    assert_eq!(report.problems.len(), 1, "{report}");
    assert_eq!(
        (report.problems[0].sequence, report.problems[0].line),
        (3, 3)
    );
    assert!(
        report.problems[0].what.contains("longer than any record"),
        "{report}"
    );
    assert_eq!(report.records, 5);
}

#[tokio::test]
async fn an_older_head_must_lie_on_the_chain() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let mut heads = vec![audit.head()];
    for index in 0..20 {
        audit.record(intent(&format!("c{index}"))).await.unwrap();
        heads.push(audit.head());
    }
    audit.close().await;
    for head in &heads {
        let report = verify(&drive, FOLDER.as_ref(), &key(), Some(head)).unwrap();
        assert!(report.sound(), "{report}");
        assert_eq!(report.head.as_ref(), heads.last());
    }
    // Another audit by the same key, and an older state of this one.
    let other = sample(24).await;
    let old = sample(4).await;
    let newest = heads.last().map(String::as_str);
    for drive in [other, old] {
        let report = verify(&drive, FOLDER.as_ref(), &key(), newest).unwrap();
        assert_eq!(report.problems.len(), 1, "{report}");
        assert_eq!(report.problems[0].fault, Fault::Since);
        assert_eq!(report.problems[0].sequence, audit_sequence(newest));
    }
    assert!(verify(&drive, FOLDER.as_ref(), &key(), Some("nonsense")).is_err());
}

fn audit_sequence(head: Option<&str>) -> u64 {
    head.unwrap().split(':').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_report_reads_well_and_is_json() {
    let drive = sample(10).await;
    let mut changed = Copy::of(&drive);
    changed.segments[0].1.remove(2);
    let report = changed.check(&drive);
    assert_eq!(
        report.to_string().lines().next(),
        Some("00000000000000000001.jsonl line 3, record 3: it is missing")
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["problems"][0]["sequence"], Value::from(3));
    assert_eq!(json["problems"][0]["fault"], Value::from("missing"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random groups, then any number of random changes: found unless they undo each other.
    #[test]
    fn no_random_tampering_goes_unnoticed(
        groups in prop::collection::vec(1_usize..6, 1..12),
        changes in prop::collection::vec((any::<u16>(), any::<u16>(), 0_u8..5), 1..6),
    ) {
        let runtime = runtime();
        let drive = Drive::new();
        runtime.block_on(async {
            let (audit, _) = open(&drive).unwrap();
            for (group, size) in groups.iter().enumerate() {
                let calls: Vec<_> = (0..*size).map(|index| {
                    let audit = audit.clone();
                    tokio::spawn(async move { audit.record(intent(&format!("{group}-{index}"))).await })
                }).collect();
                for call in calls {
                    call.await.unwrap().unwrap();
                }
            }
            audit.close().await;
        });
        prop_assert!(checked(&drive).sound());
        let whole = Copy::of(&drive);
        let mut changed = whole.clone();
        for (where_, what, how) in changes {
            let places = changed.places();
            if places.is_empty() {
                break;
            }
            let (segment, line) = places[usize::from(where_) % places.len()];
            let lines = &mut changed.segments[segment].1;
            match how {
                0 => {
                    let length = lines[line].len();
                    lines[line][usize::from(what) % length] ^= 1 << (what % 8);
                }
                1 => drop(lines.remove(line)),
                2 => {
                    let other = usize::from(what) % lines.len();
                    lines.swap(line, other);
                }
                3 => lines.truncate(line),
                _ => {
                    let copy = lines[line].clone();
                    let place = usize::from(what) % lines.len();
                    lines.insert(place, copy);
                }
            }
            if lines.iter().any(Vec::is_empty) {
                lines.retain(|line| !line.is_empty());
            }
        }
        let untouched = whole.segments.iter().zip(&changed.segments).all(|(a, b)| a.1.concat() == b.1.concat());
        prop_assert_eq!(changed.check(&drive).sound(), untouched);
    }
}
