//! Every change of what is in force is recorded: by whom, from which text to which, and with which effect.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::categories::EVERY;
use crate::common::bundled;
use crate::desk::{ADMIN, Desk, OPERATOR, VIEWER};

/// A secret that an operator put into the manifest against the rules.
const SECRET: &str = "hunter2-in-a-manifest";

/// The recorded changes of one subject, oldest first.
fn changes(desk: &Desk, what: &str) -> Vec<Value> {
    let query = [
        "--json",
        "audit",
        "query",
        "--oldest-first",
        "--kind",
        "change",
        "--what",
        what,
    ];
    let ran = desk.run_as(ADMIN, &query);
    let lines = ran.good().stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn reload(desk: &Desk) {
    desk.run_as(ADMIN, &["reload"]).good();
}

fn difference(change: &Value) -> String {
    change["difference"].to_string()
}

#[test]
fn a_widened_manifest_and_a_new_admin_are_on_record_with_what_they_gain() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    let first = changes(&desk, "manifest");
    assert_eq!(first.len(), 1, "{first:#?}");
    assert_eq!(first[0]["plugin"], "every-category");
    assert_eq!(first[0]["owners"], serde_json::json!([0]));
    assert!(first[0].get("digest-before").is_none(), "{first:#?}");
    assert_eq!(changes(&desk, "component").len(), 1);
    assert_eq!(changes(&desk, "guardrails").len(), 1);

    let wider = format!(
        "egress = \"licensed\"\n{}\n[[grant]]\nname = \"wider\"\nallow = [\"projects/*\"]\nprojects = [\"*\"]\n[[http]]\nallow = \"https://hooks.example.com/qc/\"\nheaders = {{ Authorization = \"{SECRET}\" }}\n",
        bundled(EVERY)
    );
    desk.folder.manifest("every-category", &wider);
    reload(&desk);
    let manifests: Vec<Value> = changes(&desk, "manifest")
        .into_iter()
        .filter(|change| change["pending"].is_null())
        .collect();
    let [_, widened] = manifests.as_slice() else {
        panic!("{manifests:#?}")
    };
    assert_eq!(widened["digest-before"], first[0]["digest-after"]);
    let lines = difference(widened);
    assert!(
        lines.contains("added: ") && lines.contains("wider"),
        "{lines}"
    );
    assert!(!lines.contains(SECRET), "{lines}");

    let path = desk.folder.path().join("qchost.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!("{text}\n[people.eve]\nuid = 64007\nroles = [\"admin\"]\n"),
    )
    .unwrap();
    reload(&desk);
    let people = changes(&desk, "people");
    let eve = people.last().unwrap();
    assert!(
        difference(eve).contains("people.eve.roles = [\\\"admin\\\"]"),
        "{eve:#}"
    );
    assert_ne!(eve["digest-before"], eve["digest-after"]);

    // The table for people shows who owns the file, both versions, and the effect.
    let shown = desk.run_as(ADMIN, &["audit", "query", "--kind", "change"]);
    let shown = &shown.good().stdout;
    for words in [
        "every-category.toml of uid 0 asked for by uid ",
        "people.eve.roles",
        eve["digest-after"].as_str().unwrap(),
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    // The texts are stored by digest, readable only for the host's user, and without the secret.
    let texts = desk.folder.path().join("data/texts");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&texts), 0o700);
    for change in [widened, eve] {
        let name = change["digest-after"].as_str().unwrap().replace(':', "-");
        assert_eq!(mode(&texts.join(&name)), 0o600);
        let text = fs::read_to_string(texts.join(&name)).unwrap();
        assert!(
            text.contains("wider") || text.contains("[people.eve]"),
            "{text}"
        );
        assert!(!text.contains(SECRET), "{text}");
    }

    // Removing a file is also a change.
    fs::remove_file(desk.folder.path().join("plugins/every-category.toml")).unwrap();
    reload(&desk);
    let gone = changes(&desk, "manifest");
    let gone = gone.last().unwrap();
    assert_eq!(gone["digest-before"], widened["digest-after"]);
    assert!(gone.get("digest-after").is_none(), "{gone:#}");
    host.end();

    // So is a change while no host runs.
    desk.folder.manifest("every-category", &bundled(EVERY));
    fs::write(&path, text).unwrap();
    let host = desk.serve();
    let people = changes(&desk, "people");
    let eve = people.last().unwrap();
    assert_eq!(eve["at-start"], true, "{eve:#}");
    assert!(difference(eve).contains("- people.eve.roles"), "{eve:#}");
    host.end();
    // A file that is unchanged at the next start is no change.
    let before = changes_now(&desk);
    let host = desk.serve();
    assert_eq!(changes_now(&desk), before);
    desk.run_as(ADMIN, &["audit", "verify"]).good();
    host.end();
}

/// The number of recorded changes, read from the files.
fn changes_now(desk: &Desk) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(desk.folder.path().join("data/audit")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|is| is == "jsonl") {
            let text = fs::read_to_string(path).unwrap();
            count += text.matches("\"kind\":\"change\"").count();
        }
    }
    count
}

#[test]
fn why_a_call_was_made_is_told_with_the_grant_as_it_was_and_to_viewers_by_differences() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    desk.prepare(OPERATOR);
    let query = [
        "--json", "audit", "query", "--kind", "intent", "--limit", "1",
    ];
    let intent: Value =
        serde_json::from_str(desk.run_as(ADMIN, &query).good().stdout.trim()).unwrap();
    let call = intent["call"].as_str().unwrap();
    let grant = intent["grants"][0].as_str().unwrap();
    // The text that a decision was based on can be shown even when it is no longer in force.
    fs::remove_file(desk.folder.path().join("plugins/every-category.toml")).unwrap();
    reload(&desk);

    let why = desk
        .run_as(OPERATOR, &["--json", "audit", "why", call])
        .json();
    assert_eq!(why["decision"], "allowed");
    assert_eq!(why["person"], OPERATOR);
    assert_eq!(why["manifest"]["digest"], intent["manifest"]);
    assert_eq!(why["grants"][0]["name"], grant);
    let text = why["grants"][0]["text"].as_str().unwrap();
    assert!(
        text.contains(&format!("\"{grant}\"")) && text.contains("allow"),
        "{text}"
    );
    assert_eq!(why["outcome"]["outcome"], "answered");
    assert_eq!(why["sends"], 1);
    assert_eq!(why["manifest"]["change"]["owners"], serde_json::json!([0]));
    for text in ["guardrails", "configuration", "component"] {
        assert!(
            why[text]["digest"].as_str().unwrap().starts_with("sha256:"),
            "{why:#}"
        );
        assert!(why[text]["change"].is_object(), "{text}: {why:#}");
    }
    let shown = desk.run_as(OPERATOR, &["audit", "why", call]);
    let shown = &shown.good().stdout;
    assert!(
        shown.contains("allowed") && shown.contains("[[grant]]"),
        "{shown}"
    );

    let seen = desk
        .run_as(VIEWER, &["--json", "audit", "why", call])
        .json();
    let shown = desk.run_as(VIEWER, &["audit", "why", call]);
    for text in [&seen.to_string(), &shown.good().stdout] {
        assert!(
            !text.contains("[[grant]]") && !text.contains("allow ="),
            "{text}"
        );
    }
    assert!(
        !seen["manifest"]["change"]["difference"]
            .as_array()
            .unwrap()
            .is_empty(),
        "{seen:#}"
    );

    let ran = desk.run_as(ADMIN, &["audit", "why", "no-such-call"]);
    assert!(ran.error().contains("no call `no-such-call`"), "{ran:?}");
    host.end();
}
