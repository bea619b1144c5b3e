//! Queries, the tail, traces and exports.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use qchost_audit::faults::Drive;
use qchost_audit::{Files, Filter, Format, Kind, Record, export, query, tail, trace};
use serde_json::{Value, json};

use crate::support::{FOLDER, all, entry, folder, intent, open, outcome, sample};

async fn mixed() -> Arc<dyn Files> {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    for index in 0..40_u64 {
        let body = json!({
            "plugin": if index % 2 == 0 { "lab" } else { "risk" },
            "account": if index % 5 == 0 { "live" } else { "research" },
            "operation": if index % 3 == 0 { "live/stop" } else { "files/read-file" },
            "project": {"id": index % 4, "name": format!("Lab/{}", index % 4)},
            "decision": if index % 10 == 0 { "denied" } else { "allowed" },
        });
        let kind = if index % 10 == 0 {
            Kind::Denied
        } else {
            Kind::Read
        };
        audit.record(entry(kind, body)).await.unwrap();
    }
    audit.close().await;
    Arc::new(drive)
}

fn count(files: &Arc<dyn Files>, filter: Filter) -> usize {
    query(Arc::clone(files), Path::new(FOLDER), filter)
        .unwrap()
        .map(Result::unwrap)
        .count()
}

#[tokio::test]
async fn each_filter_gives_what_fits_and_nothing_else() {
    let files = mixed().await;
    let some = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    let by = [
        (
            Filter {
                plugin: some("risk"),
                ..none()
            },
            20,
        ),
        (
            Filter {
                plugin: some("nobody"),
                ..none()
            },
            0,
        ),
        (
            Filter {
                account: some("live"),
                ..none()
            },
            8,
        ),
        (
            Filter {
                operation: some("live/stop"),
                ..none()
            },
            14,
        ),
        (
            Filter {
                project: some("3"),
                ..none()
            },
            10,
        ),
        (
            Filter {
                project: some("Lab/3"),
                ..none()
            },
            10,
        ),
        (
            Filter {
                project: some("Lab"),
                ..none()
            },
            0,
        ),
        (
            Filter {
                decision: some("denied"),
                ..none()
            },
            4,
        ),
        (
            Filter {
                kind: Some(Kind::Denied),
                ..none()
            },
            4,
        ),
        (
            Filter {
                kind: Some(Kind::Read),
                ..none()
            },
            36,
        ),
        (
            Filter {
                limit: Some(7),
                ..none()
            },
            7,
        ),
        (
            Filter {
                plugin: some("lab"),
                account: some("live"),
                ..none()
            },
            4,
        ),
    ];
    for (filter, expected) in by {
        let words = format!("{filter:?}");
        assert_eq!(count(&files, filter), expected, "{words}");
    }
}

#[tokio::test]
async fn times_include_their_beginning_and_not_their_end() {
    let files = mixed().await;
    let times: Vec<Timestamp> = query(Arc::clone(&files), Path::new(FOLDER), Filter::default())
        .unwrap()
        .map(|record| record.unwrap().time().unwrap())
        .collect();
    let middle = times[20];
    let before = times.iter().filter(|time| **time < middle).count();
    let filter = |from, to| Filter {
        from,
        to,
        ..Filter::default()
    };
    assert_eq!(count(&files, filter(None, Some(middle))), before);
    assert_eq!(
        count(&files, filter(Some(middle), None)),
        times.len() - before
    );
    let later = Timestamp::now() + SignedDuration::from_secs(60);
    assert_eq!(count(&files, filter(Some(later), None)), 0);
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_an_error_in_its_place() {
    let drive = sample(6).await;
    let path = folder().join("00000000000000000001.jsonl");
    drive.tamper(&path, |bytes| bytes[0] = b'x').unwrap();
    let files: Arc<dyn Files> = Arc::new(drive.clone());
    let results: Vec<_> = query(Arc::clone(&files), Path::new(FOLDER), Filter::default())
        .unwrap()
        .collect();
    assert_eq!(results.len(), 6);
    let error = results[0].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("00000000000000000001.jsonl line 1 (record 1)"),
        "{error}"
    );
    assert!(results[1..].iter().all(Result::is_ok));
    let mut text = Vec::new();
    assert!(export(results.into_iter(), Format::Json, &mut text).is_err());
}

#[tokio::test]
async fn the_tail_is_the_last_records_over_segments() {
    let drive = sample(30).await;
    let whole = all(&drive);
    let files: Arc<dyn Files> = Arc::new(drive);
    for count in [0, 1, 5, 20, 1000] {
        let last = tail(&files, Path::new(FOLDER), count).unwrap();
        assert_eq!(last, whole[whole.len().saturating_sub(count)..]);
    }
}

#[tokio::test]
async fn a_trace_tells_what_is_recorded_of_a_call() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let begun = Timestamp::now();
    audit.record(intent("settled")).await.unwrap();
    audit.record(intent("open")).await.unwrap();
    audit.record(outcome("settled")).await.unwrap();
    for index in 0..30 {
        audit.record(outcome(&format!("{index}"))).await.unwrap();
    }
    let calls: HashSet<String> = ["settled", "open", "unknown"].map(str::to_owned).into();
    let traces = trace(audit.files(), audit.folder(), &calls, begun).unwrap();
    assert_eq!(traces.len(), 2);
    assert_eq!(
        traces["settled"].outcome.as_ref().unwrap().fields["outcome"],
        json!("ok")
    );
    assert!(traces["open"].intent.is_some() && traces["open"].outcome.is_none());
    // Nothing before the last segment is read for calls that began after it.
    let now = Timestamp::now();
    assert!(
        trace(audit.files(), audit.folder(), &calls, now)
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn an_export_has_every_record() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    let text = "=cmd|' /c calc'!A1, \"quoted\"\nand a line";
    audit
        .record(entry(
            Kind::Denied,
            json!({"reason": text, "grants": ["a", "b"], "extra": {"x": 1}}),
        ))
        .await
        .unwrap();
    audit.record(outcome("a")).await.unwrap();
    audit.close().await;
    let records = all(&drive);
    let files: Arc<dyn Files> = Arc::new(drive);
    let run = |format| {
        let mut text = Vec::new();
        let found = query(Arc::clone(&files), Path::new(FOLDER), Filter::default()).unwrap();
        assert_eq!(export(found, format, &mut text).unwrap(), 2);
        text
    };
    let json: Vec<Value> = serde_json::from_slice(&run(Format::Json)).unwrap();
    assert_eq!(json.len(), 2);
    assert_eq!(json[0], Value::Object(records[0].fields.clone()));
    let table = run(Format::Csv);
    let mut table = csv::Reader::from_reader(table.as_slice());
    let heading = table.headers().unwrap().clone();
    let rows: Vec<_> = table.records().map(Result::unwrap).collect();
    let column = |row: usize, name: &str| {
        let index = heading.iter().position(|column| column == name).unwrap();
        rows[row][index].to_owned()
    };
    assert_eq!(rows.len(), 2);
    assert_eq!(column(0, "reason"), format!("'{text}"));
    assert_eq!(column(0, "grants"), "[\"a\",\"b\"]");
    let other: Value = serde_json::from_str(&column(0, "other")).unwrap();
    assert_eq!(other["extra"], json!({"x": 1}));
    assert_eq!(column(1, "seq"), "2");
    assert_eq!(column(1, "latency-us"), "1200");
    let mut empty = Vec::new();
    export(std::iter::empty(), Format::Json, &mut empty).unwrap();
    assert_eq!(empty, b"[]\n");
}

/// The records in one of the formats.
fn exported(records: &[Record], format: Format) -> String {
    let mut written = Vec::new();
    let count = export(records.iter().cloned().map(Ok), format, &mut written).unwrap();
    assert_eq!(count, u64::try_from(records.len()).unwrap());
    String::from_utf8(written).unwrap()
}

#[test]
fn a_text_like_a_formula_gets_an_apostrophe_inside_quotes_and_a_number_none() {
    let fields = json!({
        "plugin": "=1+1",
        "person": "-5",
        "operation": "\n@SUM(A1)",
        "reason": "'as said'",
        "outcome": "\u{ff1d}1",
        "latency-us": -5,
    });
    let record = Record::parse(fields.to_string()).unwrap();
    let table = exported(&[record], Format::Csv);
    for cell in [
        r#","'=1+1","#,
        r#","'-5","#,
        ",\"'\n@SUM(A1)\",",
        r#","''as said'","#,
        ",\"'\u{ff1d}1\",",
        ",-5,",
    ] {
        assert!(table.contains(cell), "{cell} in {table}");
    }
}

/// What makes a formula in a spreadsheet, at the beginning of a cell.
const FORMULA: [char; 11] = [
    '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

/// Texts with what spreadsheets, separators and quotes act on, and any others.
fn texts() -> impl Strategy<Value = String> {
    let acting = "[-=+@\t\r\n\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}',;\"1a ]{0,6}";
    prop_oneof![acting, any::<String>()]
}

proptest! {
    #[test]
    fn every_export_is_safe_in_a_spreadsheet_and_reads_back(
        rows in prop::collection::vec((texts(), any::<i64>()), 0..6)
    ) {
        let fields = rows.iter().map(|(text, number)| {
            json!({"reason": text, "latency-us": number, "more": text})
        });
        let records: Vec<Record> = fields.map(|it| Record::parse(it.to_string()).unwrap()).collect();
        for format in [Format::Csv, Format::Json, Format::JsonLines] {
            let written = exported(&records, format);
            match format {
                Format::Csv => {
                    let mut table = csv::Reader::from_reader(written.as_bytes());
                    let heading = table.headers().unwrap().clone();
                    let column = |name: &str| heading.iter().position(|it| it == name).unwrap();
                    let found: Vec<_> = table.records().map(Result::unwrap).collect();
                    prop_assert_eq!(found.len(), rows.len());
                    for (row, (text, number)) in found.iter().zip(&rows) {
                        prop_assert_eq!(&row[column("latency-us")], number.to_string());
                        for (index, cell) in row.iter().enumerate() {
                            let safe = index == column("latency-us") || !cell.starts_with(FORMULA);
                            prop_assert!(safe, "{:?}", cell);
                        }
                        let cell = &row[column("reason")];
                        prop_assert_eq!(cell.strip_prefix('\'').unwrap_or(cell), text);
                        let other: Value = serde_json::from_str(&row[column("other")]).unwrap();
                        prop_assert_eq!(other, json!({"more": text}));
                    }
                }
                Format::Json => {
                    let found: Vec<Value> = serde_json::from_str(&written).unwrap();
                    let recorded: Vec<Value> = records.iter().map(|it| Value::Object(it.fields.clone())).collect();
                    prop_assert_eq!(found, recorded);
                }
                Format::JsonLines => {
                    let found: Vec<&str> = written.lines().collect();
                    let recorded: Vec<&str> = records.iter().map(|it| it.line.as_str()).collect();
                    prop_assert_eq!(found, recorded);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_newest_records_come_first_across_segments_and_a_limit_takes_those() {
    let files = mixed().await;
    let read = |filter: Filter| {
        let records = query(Arc::clone(&files), Path::new(FOLDER), filter).unwrap();
        records
            .map(|record| record.unwrap().line)
            .collect::<Vec<_>>()
    };
    let lab = || Filter {
        plugin: Some("lab".to_owned()),
        ..Filter::default()
    };
    let mut oldest_first = read(lab());
    oldest_first.reverse();
    let newest = |limit| Filter {
        newest_first: true,
        limit,
        ..lab()
    };
    assert_eq!(read(newest(None)), oldest_first);
    for limit in [0, 1, 7, 1000] {
        let most = limit.min(oldest_first.len());
        assert_eq!(read(newest(Some(limit))), oldest_first[..most], "{limit}");
    }
    let names = files.list(Path::new(FOLDER)).unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".jsonl"));
    assert!(segments.count() > 1, "{names:?}");
}
