//! `qchost audit`: what was done is recorded, and changes of the record are detected.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::categories::serving;
use crate::cloud::Cloud;
use crate::common::Folder;

/// The segment files of the audit, in order.
fn segments(folder: &Folder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join("data/audit")).unwrap();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn records(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// A host with a few records: of reads, writes and refusals.
fn used() -> (Cloud, Folder, Value) {
    let (cloud, folder, host) = serving();
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    folder
        .run(&["invoke", "every-category.slow-write", &prepared.to_string()])
        .good();
    folder.run(&["halt"]).good();
    let ran = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert_eq!(ran.status.code(), Some(5), "{ran:?}");
    folder.run(&["resume"]).good();
    host.end();
    (cloud, folder, prepared)
}

#[test]
fn the_record_is_asked_by_what_was_done() {
    let (_cloud, folder, prepared) = used();
    let query = |arguments: &[&str]| {
        let oldest_first = ["--json", "audit", "query", "--oldest-first"];
        let ran = folder.run(&[&oldest_first, arguments].concat());
        records(&ran.good().stdout)
    };
    let created = query(&[
        "--operation",
        "backtests/create-backtest",
        "--kind",
        "intent",
    ]);
    assert_eq!(created.len(), 1, "{created:#?}");
    let intent = &created[0];
    assert_eq!(intent["plugin"], "every-category");
    assert_eq!(intent["project"]["id"], prepared["project_id"]);
    assert_eq!(intent["project"]["name"], "Every/prepared");
    let call = &intent["call"];
    let outcomes = query(&[
        "--operation",
        "backtests/create-backtest",
        "--kind",
        "outcome",
    ]);
    assert!(
        outcomes.iter().any(|outcome| outcome["call"] == *call),
        "{outcomes:#?}"
    );
    let denied = query(&["--kind", "denied", "--plugin", "every-category"]);
    assert!(
        denied
            .iter()
            .any(|record| record.to_string().contains("halted")),
        "{denied:#?}"
    );
    assert_eq!(query(&["--plugin", "no-such-plugin"]), Vec::<Value>::new());
    assert_eq!(query(&["--limit", "2"]).len(), 2);
    assert!(!query(&["--from", "1h"]).is_empty());
    assert!(query(&["--to", "1h"]).is_empty());
    // By the names that they have elsewhere.
    assert!(!query(&["--since", "1h"]).is_empty());
    assert!(query(&["--until", "1h"]).is_empty());
    assert!(!query(&["--project", "Every/prepared"]).is_empty());
    // Outcomes are found by what the call touched, and by the call's id.
    let ended = query(&["--project", "Every/prepared", "--kind", "outcome"]);
    assert!(
        ended.iter().any(|record| record["call"] == *call),
        "{ended:#?}"
    );
    let of_call = query(&["--call", call.as_str().unwrap()]);
    let kinds: Vec<_> = of_call.iter().map(|record| &record["kind"]).collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    for (option, name) in [
        ("--invocation", "invocation"),
        ("--grant", "grants"),
        ("--digest", "manifest"),
    ] {
        let wanted = intent[name].as_str().or(intent[name][0].as_str()).unwrap();
        let found = query(&[option, wanted]);
        assert!(
            found.iter().any(|record| record["call"] == *call),
            "{option} {wanted}"
        );
        assert_eq!(query(&[option, "another"]), Vec::<Value>::new());
    }
    // The newest come first by default.
    let newest = folder.run(&["--json", "audit", "query", "--limit", "3"]);
    let mut newest = records(&newest.good().stdout);
    newest.reverse();
    let all = query(&[]);
    assert_eq!(newest, all[all.len() - 3..]);
    // A filter that no record can match is an error, not an empty result.
    for (option, known) in [
        ("--kind", "intent"),
        ("--decision", "allowed"),
        ("--access", "trade"),
        ("--outcome", "unknown-outcome"),
    ] {
        let ran = folder.run(&["audit", "query", option, "nonsense"]);
        let error = ran.error();
        assert!(
            error.contains("nonsense") && error.contains(known),
            "{error}"
        );
    }
    let ran = folder.run(&["audit", "query", "--from", "yesterday"]);
    assert!(ran.error().contains("--from yesterday"), "{ran:?}");

    // People get a table with one record a line.
    let text = folder.run(&["audit", "query", "--kind", "intent"]);
    let lines: Vec<&str> = text.good().stdout.lines().collect();
    assert!(
        lines[0].starts_with("TIME ") && lines[0].contains("OPERATION"),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("backtests/create-backtest")),
        "{lines:?}"
    );

    let tail = folder.run(&["--json", "audit", "tail", "-n", "3"]);
    let last = records(&tail.good().stdout);
    assert_eq!(last.len(), 3);
    let all = query(&[]);
    assert_eq!(last, all[all.len() - 3..]);
    let ran = folder.run(&["audit", "tail", "-f"]);
    assert!(ran.error().contains("qchost run"), "{ran:?}");
}

/// An unknown word of the host's own is an error; an unknown name that users choose freely gives a warning.
#[test]
fn what_cannot_be_found_is_told_from_what_is_not_there() {
    let (_cloud, folder, _prepared) = used();
    let query = |arguments: &[&str]| folder.run(&[&["audit", "query"], arguments].concat());
    let wrong = [
        (
            "--operation",
            "backtests/create-backtst",
            "`backtests/create-backtest`",
        ),
        (
            "--operation",
            "create_backtest",
            "`backtests/create-backtest`",
        ),
        ("--operation", "foo/bar", "no record can have it"),
        ("--what", "aprove", "`approve`"),
        ("--what", "nonsense", "there are: approve, refuse, "),
        ("--kind", "intents", "`intent`"),
        ("--decision", "denyed", "`denied`"),
        ("--access", "writes", "`write`"),
        ("--outcome", "answerd", "`answered`"),
    ];
    for (option, word, said) in wrong {
        let ran = query(&[option, word]);
        let error = ran.error();
        assert!(error.contains(option) && error.contains(said), "{error}");
        assert_eq!(ran.stdout, "", "{ran:?}");
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    }
    for (option, what, name) in [
        ("--account", "account", "nosuch"),
        ("--plugin", "plugin", "nosuch"),
        ("--person", "person", "nobody"),
        ("--grant", "grant", "nosuch"),
        ("--project", "project", "99999"),
        ("--project", "project", "Lab/nosuch"),
    ] {
        for verb in [
            &["audit", "query"][..],
            &["audit", "export", "--format", "json"],
        ] {
            let ran = folder.run(&[verb, &[option, name]].concat());
            let said = format!("no record matches; no record names the {what} `{name}`");
            assert!(ran.good().stderr.contains(&said), "{option}: {ran:?}");
        }
        // With `--json` the answer stands alone.
        let ran = folder.run(&["--json", "audit", "query", option, name]);
        assert_eq!(
            (ran.good().stdout.as_str(), ran.stderr.as_str()),
            ("", ""),
            "{ran:?}"
        );
    }
    // A valid filter without a match is no error, and known names give no warning.
    for arguments in [
        &["--what", "revoke"][..],
        &["--operation", "raw/some_tool"],
        &["--operation", "live/create-live-algorithm"],
        &[
            "--plugin",
            "every-category",
            "--kind",
            "change",
            "--to",
            "2001-01-01",
        ],
    ] {
        let ran = query(arguments);
        assert!(
            ran.good().stderr.ends_with("no record matches\n"),
            "{ran:?}"
        );
    }
    // The twin.
    let ran = query(&["--plugin", "every-category"]);
    assert_eq!(ran.good().stderr, "", "{ran:?}");
}

#[test]
fn the_record_is_exported_whole() {
    let (_cloud, folder, _) = used();
    let query = ["--json", "audit", "query", "--oldest-first"];
    let all = records(&folder.run(&query).good().stdout);
    let json = folder.run(&["audit", "export", "--format", "json"]);
    let exported: Vec<Value> = serde_json::from_str(&json.good().stdout).unwrap();
    assert_eq!(exported, all);
    let lines = folder.run(&["audit", "export", "--format", "jsonl"]);
    assert_eq!(records(&lines.good().stdout), all);
    let csv = folder.run(&["audit", "export", "--format", "csv", "--kind", "intent"]);
    let lines: Vec<&str> = csv.good().stdout.lines().collect();
    assert!(
        lines[0].contains("seq") && lines[0].contains("operation"),
        "{}",
        lines[0]
    );
    let intents = all.iter().filter(|record| record["kind"] == "intent");
    assert_eq!(lines.len() - 1, intents.count());
}

#[test]
fn a_change_of_the_record_is_found_and_named() {
    let (_cloud, folder, _) = used();
    let verified = folder.run(&["audit", "verify"]);
    assert!(
        verified.good().stdout.contains("are as they were recorded"),
        "{verified:?}"
    );
    let report = folder.run(&["--json", "audit", "verify"]).json();
    let head = folder
        .run(&["audit", "head"])
        .good()
        .stdout
        .trim()
        .to_owned();
    assert_eq!(report["head"], head.as_str(), "{report}");
    folder.run(&["audit", "verify", "--since", &head]).good();

    let segment = segments(&folder).remove(0);
    let text = std::fs::read_to_string(&segment).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 8);
    let without = |at: usize| {
        let mut left = lines.clone();
        left.remove(at);
        left.join("\n") + "\n"
    };
    let swapped = {
        let mut swapped = lines.clone();
        swapped.swap(3, 4);
        swapped.join("\n") + "\n"
    };
    let changed = text.replacen("every-category", "every-cathedral", 1);
    assert_ne!(changed, text);
    let cut = lines[..lines.len() - 1].join("\n") + "\n";
    for (what, altered) in [
        ("changed", changed),
        ("dropped", without(2)),
        ("swapped", swapped),
        ("cut", cut),
    ] {
        std::fs::write(&segment, altered).unwrap();
        let ran = folder.run(&["audit", "verify"]);
        assert!(ran.error().contains("is not whole"), "{what}: {ran:?}");
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(ran.stdout.contains(name), "{what}: {}", ran.stdout);
        assert!(!ran.stdout.contains("older record"), "{what}: {ran:?}");
        let ran = folder.run(&["--json", "audit", "verify"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(
            !report["problems"].as_array().unwrap().is_empty(),
            "{what}: {report}"
        );
    }
    std::fs::write(&segment, &text).unwrap();
    folder.run(&["audit", "verify"]).good();
    let ran = folder.run(&["audit", "verify", "--since", "no head at all"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
}

#[test]
fn a_record_is_seen_as_it_is_made() {
    let (_cloud, folder, host) = serving();
    folder.run(&["halt"]).good();
    let mut tail = folder.start(&["--json", "audit", "tail", "-f"]);
    tail.until("the halt is shown", |tail| {
        tail.stdout().contains("\"halt\"").then_some(())
    });
    let before = tail.stdout().lines().count();
    folder.run(&["resume"]).good();
    tail.until("its end is shown", |tail| {
        (tail.stdout().lines().count() > before).then_some(())
    });
    // Every record once, in order.
    let numbers: Vec<u64> = records(&tail.stdout())
        .iter()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{numbers:?}"
    );
    // While a host runs, it verifies its own audit.
    folder.run(&["audit", "verify"]).good();
    host.end();
    let ended = tail.wait();
    assert!(matches!(ended.status.code(), Some(1 | 7)), "{ended:?}");
}

#[test]
fn what_is_settled_needs_no_reconciling() {
    let (_cloud, folder, _) = used();
    let found = folder.run(&["--json", "audit", "reconcile"]).json();
    assert_eq!(found, json!([]));
    let text = folder.run(&["audit", "reconcile"]);
    assert_eq!(text.good().stdout.trim(), "every call has its outcome");
}
