//! What people read is as wide as their terminal, whatever is in it.

use serde_json::json;
use unicode_width::UnicodeWidthStr as _;

use crate::categories::{EVERY, PAPER};
use crate::cloud::Cloud;
use crate::common::{Folder, bundled, component};
use crate::process::{Process, Ran};

const ACCOUNT: &str = "the-account-of-the-research-department-and-of-everyone-else";
const GUARDRAIL: &str = r#"@id("no-live-trading-whatever-the-manifests-of-the-plugins-say")
forbid (principal, action in [Action::"live/create-live-algorithm", Action::"live-commands/create-live-command"], resource);
"#;

/// Runs a command whose output is for a terminal of 80 columns.
fn narrow(folder: &Folder, arguments: &[&str]) -> Ran {
    let mut command = folder.command(arguments);
    command.env("COLUMNS", "80");
    Process::start(command, folder.path()).wait()
}

/// Checks the width of each line, and that the words are there.
fn check(folder: &Folder, arguments: &[&str], words: &[&str]) {
    let ran = narrow(folder, arguments);
    // What follows is for a manifest, and keeps its lines.
    let text = ran.stdout.split("\n[[grant]]").next().unwrap();
    assert!(!text.is_empty(), "{arguments:?}: {ran:?}");
    for line in text.lines() {
        let width = line.width();
        assert!(
            width <= 80,
            "{arguments:?}: {width} columns: {line}\n{ran:?}"
        );
    }
    for word in words {
        assert!(text.contains(word), "{arguments:?}: {word}: {ran:?}");
    }
}

#[test]
fn no_table_is_wider_than_the_terminal() {
    let cloud = Cloud::start();
    let account = format!(
        "[account.{ACCOUNT}]\nconnection = \"embedded\"\ncloud = \"{}\"\n",
        cloud.url()
    );
    let folder = Folder::new(&format!("policies = \"policies\"\n{account}{PAPER}"));
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/no.cedar"), GUARDRAIL).unwrap();
    let asks = "[[grant]]\nname = \"asks\"\nallow = [\"backtests/create-backtest\"]\nprojects = [\"*\"]\napproval = \"operator\"\n";
    let manifest = bundled(EVERY)
        .replacen("[limits]", &format!("{asks}\n[limits]"), 1)
        .replace(
            "account = \"research\"",
            &format!("account = \"{ACCOUNT}\""),
        )
        .replace(
            "account   = \"research\"",
            &format!("account = \"{ACCOUNT}\""),
        );
    folder.manifest("every-category", &manifest);

    let host = folder.serve(&["run"]);
    let prepared = folder.invoke("every-category.prepare", &json!({}));
    let asked = folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()]);
    assert!(asked.error().contains("approval"), "{asked:?}");
    let reason = format!("{} {} \u{1b}[2J end", "日本 ".repeat(40), "x".repeat(100));
    folder.run(&["halt", "--reason", &reason]).good();
    let project = json!({ "name": "Lab/x", "language": "Py" }).to_string();
    let halted = folder.run(&["call", "create_project", &project]);
    assert_eq!(halted.status.code(), Some(5), "{halted:?}");

    let approvals = folder.run(&["--json", "approvals", "list"]).json();
    let id = approvals[0]["id"].as_str().unwrap();
    let denied = folder.run(&["--json", "audit", "query", "--decision", "halted"]);
    let record: serde_json::Value =
        serde_json::from_str(denied.good().stdout.lines().next().unwrap()).unwrap();
    let call = record["call"].as_str().unwrap();
    check(&folder, &["tools"], &["live/create-live-algorithm"]);
    check(
        &folder,
        &["tools", "live/create-live-algorithm"],
        &["trade"],
    );
    check(&folder, &["plugin", "list"], &["every-category", "ready"]);
    check(&folder, &["plugin", "grants", "every-category"], &["asks"]);
    check(&folder, &["approvals", "list"], &[id]);
    check(&folder, &["halt", "--list"], &["end"]);
    // What is looked up by its id can be copied.
    check(
        &folder,
        &["audit", "query", "--decision", "halted"],
        &[call],
    );
    check(&folder, &["audit", "tail"], &[call]);
    check(&folder, &["policy", "coverage"], &["no-live-trading"]);
    let explain = [
        "policy",
        "explain",
        "every-category",
        "account/read-account",
    ];
    check(&folder, &explain, &["allowed"]);
    check(&folder, &["reload"], &["plugins/every-category.toml"]);
    // What mends a check is a line to copy.
    let doctor = narrow(&folder, &["doctor"]);
    let checks = doctor.stdout.lines().filter(|line| {
        ["CHECK ", "FINDING ", " "]
            .iter()
            .any(|start| line.starts_with(start))
    });
    let checks: Vec<&str> = checks.collect();
    assert!(checks.len() > 10, "{doctor:?}");
    assert!(checks.iter().all(|line| line.width() <= 80), "{doctor:?}");
    let file = component(EVERY);
    check(
        &folder,
        &["plugin", "inspect", file.to_str().unwrap()],
        &["slow-write", "DESCRIPTION", "It can make every call"],
    );
    let shown = narrow(&folder, &["approvals", "show", id]);
    let (fields, _) = shown.good().stdout.split_once("\n\n").unwrap();
    assert!(fields.lines().all(|line| line.width() <= 80), "{shown:?}");

    let mut command = folder.command(&["audit", "verify"]);
    command.env("COLUMNS", "60");
    let verified = Process::start(command, folder.path()).wait();
    let (verdict, head) = verified.good().stdout.split_once("\nhead: ").unwrap();
    assert!(verdict.contains("recorded"), "{verified:?}");
    assert!(verdict.lines().count() > 1, "{verified:?}");
    assert!(
        verdict.lines().all(|line| line.width() <= 60),
        "{verified:?}"
    );
    assert_eq!(head.lines().count(), 1, "{verified:?}");

    // A file and a program get whole values.
    let wide = folder.run(&["audit", "query", "--decision", "halted"]);
    assert!(
        wide.good()
            .stdout
            .lines()
            .any(|line| line.width() > 80 && line.contains(call)),
        "{wide:?}"
    );
    let listed = narrow(&folder, &["--json", "halt", "--list"]);
    assert!(
        listed.good().stdout.contains(&"x".repeat(100)),
        "{listed:?}"
    );
    host.end();
}

#[test]
fn records_that_are_followed_are_as_wide_as_the_terminal() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let host = folder.serve(&["run"]);
    folder.call("read_account", &json!({}));
    let mut command = folder.command(&["audit", "tail", "-f"]);
    command.env("COLUMNS", "80");
    let mut following = Process::start(command, folder.path());
    let shown = following.until("a call is shown", |it| {
        let shown = it.stdout();
        let is_whole = shown.contains("account/read-account") && shown.contains("CALL ");
        is_whole.then_some(shown)
    });
    assert!(shown.lines().all(|line| line.width() <= 80), "{shown}");
    drop(following);
    host.end();
}

#[test]
fn lines_for_a_manifest_are_in_no_table_and_whole_on_a_narrow_terminal() {
    let folder = Folder::embedded("emulator");
    let file = component("plugins/strategy-lab");
    let head = format!(
        "plugin = \"strategy-lab\"\ncomponent = \"{}\"\naccount = \"research\"\n",
        file.display()
    );
    folder.manifest("strategy-lab", &head);
    let inspected = narrow(&folder, &["plugin", "inspect", file.to_str().unwrap()]);
    let (_, lines) = inspected.good().stdout.split_once("\n[[grant]]\n").unwrap();
    let lines: Vec<&str> = lines.trim_end().lines().collect();
    let host = folder.serve(&["run"]);
    for verb in [&["reload"][..], &["plugin", "list"], &["doctor"]] {
        let ran = narrow(&folder, verb);
        let mut all = ran.stdout.lines();
        let before: Vec<&str> = all
            .by_ref()
            .take_while(|line| *line != "    [[grant]]")
            .collect();
        let after = all.take_while(|line| line.is_empty() || line.starts_with("    "));
        let pasted: Vec<&str> = after
            .map(|line| line.get(4..).unwrap_or_default())
            .collect();
        assert_eq!(pasted, lines, "{verb:?}: {ran:?}");
        // What mends another check is a line to copy.
        let is_narrow = before.iter().all(|line| line.width() <= 80);
        assert!(is_narrow || verb == ["doctor"], "{verb:?}: {ran:?}");
    }
    host.end();
}
