//! Output that people read, whole: help, tables, a denial, schemas.
//!
//! The expected texts are in `snapshots`, without what differs from run to run. After a wanted change,
//! `INSTA_UPDATE=always cargo test -p qchost --test e2e snapshots::` writes them again.

use insta::{assert_snapshot, with_settings};
use serde_json::{Value, json};

use crate::categories::{EVERY, PAPER};
use crate::cloud::Cloud;
use crate::common::{Folder, bundled, embedded, repository};
use crate::process::Ran;

/// What differs from run to run, and what stands in its place.
const FILTERS: [(&str, &str); 12] = [
    (r"http://127\.0\.0\.1:\d+", "http://ADDRESS"),
    (r"sha256:[0-9a-f]{64}", "sha256:DIGEST"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\bap-[a-z0-9]{10}\b", "ap-ID"),
    (r"\bpm-[a-z0-9]+\b", "pm-ID"),
    (r"\b[0-9a-f]{11,}-\d+\b", "CALL"),
    (r"\bprocess \d+", "process PID"),
    (r"\buid \d+", "uid UID"),
    // What each machine has, and how fast it is.
    (
        r"[-+]?\d+(\.\d+)? (ms|s|KiB|MiB|GiB|KB|MB|GB|TB)\b",
        "N UNIT",
    ),
    (
        r"(?m)^\S+ +(files|open files|time source|clock|.*: disk space|.*: inodes|.*: writing)  .*\n",
        "",
    ),
    (r"\.tmp[A-Za-z0-9]{6}", "FOLDER"),
    // A column is as wide as what was replaced in it.
    (r"([A-Z]{2,}) {2,}", "$1  "),
];

/// Compares what a command printed with the snapshot of this name.
fn check(name: &str, folder: &Folder, text: &str) {
    let text = text
        .replace(folder.path().to_str().unwrap(), "FOLDER")
        .replace(env!("CARGO_TARGET_TMPDIR"), "TARGET")
        .replace(repository(".").to_str().unwrap(), "REPOSITORY");
    with_settings!({ filters => FILTERS, omit_expression => true, prepend_module_to_snapshot => false }, {
        assert_snapshot!(name, text);
    });
}

/// Standard output and error of a command.
fn both(ran: &Ran) -> String {
    format!(
        "exit status {}\n\n{}\n{}",
        ran.status.code().unwrap(),
        ran.stdout,
        ran.stderr
    )
}

/// A folder with a plugin whose backtests need an approval.
fn folder(cloud: &Cloud) -> Folder {
    let folder = Folder::new(&format!("{}{PAPER}", embedded(cloud.url())));
    let asks = "[[grant]]\nname = \"asks\"\nallow = [\"backtests/create-backtest\"]\nprojects = [\"*\"]\napproval = \"operator\"\n";
    let manifest = bundled(EVERY).replacen("[limits]", &format!("{asks}\n[limits]"), 1);
    folder.manifest("every-category", &manifest);
    folder
}

fn ask_for_a_backtest(folder: &Folder) -> Value {
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    let ran = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert!(ran.error().contains("approval"), "{ran:?}");
    prepared
}

#[test]
fn the_help_of_every_verb() {
    let folder = Folder::new("");
    let mut text = String::new();
    let mut verbs = vec![Vec::new()];
    while let Some(verb) = verbs.pop() {
        let arguments: Vec<&str> = verb.iter().map(String::as_str).chain(["--help"]).collect();
        let help = folder.run(&arguments).good().stdout.clone();
        text += &format!("$ qchost {}\n{help}\n", arguments.join(" "));
        let commands = help.split_once("Commands:\n").map(|(_, it)| it);
        let commands = commands.unwrap_or_default().lines();
        let names = commands
            .take_while(|line| !line.is_empty())
            .filter(|line| !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        let inner: Vec<Vec<String>> = names
            .map(|name| verb.iter().cloned().chain([name.to_owned()]).collect())
            .collect();
        verbs.extend(inner.into_iter().rev());
    }
    check("help", &folder, &text);
}

#[test]
fn the_printed_schemas() {
    let folder = Folder::new("");
    for schema in ["manifest", "guardrails"] {
        let ran = folder.run(&["schema", schema]);
        check(&format!("schema-{schema}"), &folder, &ran.good().stdout);
    }
}

#[test]
fn the_list_of_plugins() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    folder.manifest("broken", "plugin = \"broken\"\nfrobnicate = 1\n");
    check(
        "plugin-list",
        &folder,
        &both(&folder.run(&["plugin", "list"])),
    );
    let grants = folder.run(&["plugin", "grants", "every-category"]);
    check("plugin-grants", &folder, &grants.good().stdout);
}

#[test]
fn a_request_for_an_approval_and_a_denial() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let host = folder.serve(&["run"]);
    let none = folder.run(&["approvals", "list"]);
    check("approvals-none", &folder, &none.good().stdout);
    let prepared = ask_for_a_backtest(&folder);
    let listed = folder.run(&["approvals", "list"]);
    check("approvals-list", &folder, &listed.good().stdout);

    // Of the approval alone: the verbs that decide it say its id.
    let id = listed.stdout.lines().nth(1).unwrap();
    let id = id.split_whitespace().next().unwrap();
    let refused = folder.run(&["approvals", "refuse", id, "--reason", "not today"]);
    check("approvals-refuse", &folder, &refused.good().stdout);
    let denied = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    check("refused-call", &folder, &both(&denied));
    let explained = folder.run(&[
        "policy",
        "explain",
        "every-category",
        "live/liquidate-live-algorithm",
        "{\"projectId\": 1}",
        "--project",
        "Lab/x",
    ]);
    check("policy-explain", &folder, &both(&explained));
    host.end();
}

#[test]
fn the_record_and_the_halts() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let host = folder.serve(&["run"]);
    folder.call("read_account", &json!({}));
    check(
        "halt-list-none",
        &folder,
        &folder.run(&["halt", "--list"]).good().stdout,
    );
    let halted = folder.run(&["halt", "--reason", "a drill"]);
    check("halt", &folder, &halted.good().stdout);
    check(
        "halt-list",
        &folder,
        &folder.run(&["halt", "--list"]).good().stdout,
    );
    let refused = folder.run(&[
        "call",
        "create_project",
        "{\"name\": \"x\", \"language\": \"Py\"}",
    ]);
    check("halted-call", &folder, &both(&refused));
    check("resume", &folder, &folder.run(&["resume"]).good().stdout);
    let tail = folder.run(&["audit", "tail", "-n", "3"]);
    check("audit-tail", &folder, &tail.good().stdout);
    let query = folder.run(&["audit", "query", "--kind", "denied"]);
    check("audit-query", &folder, &query.good().stdout);
    let nothing = folder.run(&["audit", "query", "--plugin", "nowhere"]);
    check("audit-query-none", &folder, &both(&nothing));
    let verified = folder.run(&["audit", "verify"]);
    assert!(verified.good().stdout.contains("head: "), "{verified:?}");
    host.end();
}

#[test]
fn the_checks_of_the_doctor() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    check("doctor", &folder, &folder.run(&["doctor"]).stdout);
}
