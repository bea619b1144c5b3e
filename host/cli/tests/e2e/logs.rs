//! What a plugin logs and reports reaches the person who invokes it, and those who may read its log: all of it, or the number
//! of what is missing.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};

use crate::common::{Folder, embedded};
use crate::guests;
use crate::process::{BOUND, Ran, wait_until};
use crate::socket::Control;

/// More lines than the host writes to its own log at once.
const LINES: u32 = 2_543;

/// A folder with a plugin that logs a line this number of times.
fn folder(configuration: &str, lines: u32) -> Folder {
    let folder = Folder::new(&format!("{configuration}{}", embedded("emulator")));
    std::fs::write(
        folder.path().join("plugins/logger.wasm"),
        guests::logger(lines),
    )
    .unwrap();
    folder.manifest(
        "logger",
        "plugin = \"logger\"\ncomponent = \"logger.wasm\"\naccount = \"research\"\n[limits]\ncpu = \"60s\"\n",
    );
    folder
}

/// The objects on standard error that have this key.
fn objects(ran: &Ran, key: &str) -> Vec<Value> {
    let lines = ran.stderr.lines();
    let objects = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects
        .filter_map(|object| object.get(key).cloned())
        .collect()
}

#[test]
fn who_invokes_gets_every_line_and_the_last_progress_with_a_host_and_without() {
    let folder = folder("", LINES);
    let check = || {
        let ran = folder.run(&["--json", "invoke", "logger.act", "--logs"]);
        assert_eq!(ran.json(), 1);
        let rows = objects(&ran, "log");
        assert_eq!(rows.len(), usize::try_from(LINES).unwrap(), "{ran:?}");
        for row in &rows {
            assert_eq!(row["message"], "again", "{row}");
            assert_eq!(row["level"], "debug", "{row}");
            assert_eq!(row["plugin"], "logger", "{row}");
            assert_eq!(row["invocation"], rows[0]["invocation"], "{row}");
        }
        let steps = objects(&ran, "progress");
        assert_eq!(steps.last().unwrap()["fraction"], 1.0, "{steps:?}");

        let text = folder.run(&["invoke", "logger.act", "--logs"]);
        let shown = text.good().stderr.lines();
        let shown = shown.filter(|line| line.trim() == "DEBUG again").count();
        assert_eq!(shown, rows.len());
        assert!(text.stderr.contains("100% again"), "{text:?}");
        // The log is not sent unless it is asked for.
        let none = folder.run(&["--json", "invoke", "logger.act"]);
        assert!(objects(&none, "log").is_empty(), "{none:?}");
        assert_eq!(
            objects(&none, "progress").last().unwrap()["fraction"],
            1.0,
            "{none:?}"
        );
    };
    check();
    let host = folder.serve(&["run"]);
    check();
    host.end();
}

#[test]
fn the_lines_that_the_hosts_log_leaves_out_are_counted_exactly_and_told_once() {
    let folder = folder("", LINES);
    let ran = folder.run(&["--log", "plugin=debug", "invoke", "logger.act"]);
    let written = ran.good().stderr.matches("plugin: again").count();
    let notices: Vec<u32> = ran
        .stderr
        .lines()
        .filter_map(|line| {
            line.split_once("left_out=")?
                .1
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    let [left_out] = notices.as_slice() else {
        panic!("{notices:?}: {ran:?}");
    };
    assert!(written >= 100, "{written}");
    assert_eq!(u32::try_from(written).unwrap() + left_out, LINES);
}

#[test]
fn a_client_that_reads_late_gets_the_last_progress_and_the_number_of_the_lines_that_it_missed() {
    /// More than the host keeps for a client.
    const MANY: u64 = 30_000;
    let folder = folder("", u32::try_from(MANY).unwrap());
    let host = folder.serve(&["run"]);
    let invoke = json!({ "verb": "invoke", "action": "logger.act", "input": {}, "logs": true });
    let client = Control::of(&folder).begin(&invoke);
    wait_until("the invocation has ended", || {
        let last = folder.run(&["--json", "plugin", "logs", "logger", "-n", "1"]);
        last.good().stdout.contains("left-out").then_some(())
    });
    client.set_read_timeout(Some(BOUND)).unwrap();
    let (mut shown, mut left_out, mut fraction) = (0, Vec::new(), None);
    for line in BufReader::new(client).lines() {
        let envelope: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let message = &envelope["message"];
        shown += u64::from(message["log"].is_object());
        left_out.extend(message["log-left-out"].as_u64());
        fraction = message["progress"]["fraction"].as_f64().or(fraction);
        if !message["done"].is_null() {
            break;
        }
    }
    let [left_out] = left_out.as_slice() else {
        panic!("{left_out:?}");
    };
    assert!(shown > 0 && *left_out > 0, "{shown} and {left_out}");
    assert_eq!(shown + left_out, MANY);
    assert_eq!(fraction, Some(1.0));
    host.end();
}

#[test]
fn the_recent_lines_of_a_plugin_are_read_from_its_host_and_followed_to_its_end() {
    let folder = folder("", 3);
    let logs = |more: &[&str]| folder.run(&[&["plugin", "logs", "logger"], more].concat());
    let host = folder.serve(&["run"]);
    assert_eq!(logs(&[]).good().stdout, "");
    folder.run(&["invoke", "logger.act"]).good();
    assert_eq!(logs(&[]).good().stdout.lines().count(), 3);
    let text = logs(&["-n", "1"]);
    assert!(text.good().stdout.ends_with(" DEBUG again\n"), "{text:?}");
    let rows = logs(&["-n", "2", "--json"]);
    let rows: Vec<Value> = rows
        .good()
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["message"], "again");

    let mut following = folder.start(&["plugin", "logs", "logger", "-n", "1", "-f"]);
    let mut shows = |lines: usize| {
        following.until("the lines are shown", |it| {
            (it.stdout().lines().count() == lines).then_some(())
        });
    };
    shows(1);
    folder.run(&["invoke", "logger.act"]).good();
    shows(4);

    let unknown = folder.run(&["plugin", "logs", "no-such-plugin"]);
    assert!(
        unknown
            .error()
            .contains("there is no plugin `no-such-plugin`"),
        "{unknown:?}"
    );
    host.end();
    following.wait().good();

    let none = logs(&[]);
    assert_eq!(none.status.code(), Some(7), "{none:?}");
    assert!(none.error().contains("`qchost run`"), "{none:?}");
}

#[test]
fn who_has_no_role_reads_no_log() {
    let me = rustix::process::geteuid().as_raw();
    let other = format!(
        "people.other = {{ uid = {}, roles = [\"admin\"] }}\n",
        me + 1
    );
    let folder = folder(&other, 3);
    let host = folder.serve(&["run"]);
    for verb in [
        &["plugin", "logs", "logger"][..],
        &["plugin", "logs", "logger", "-f"],
    ] {
        let ran = folder.run(verb);
        assert_eq!(ran.status.code(), Some(3), "{ran:?}");
        assert!(
            ran.stderr.contains("is not a person of this host"),
            "{ran:?}"
        );
        assert_eq!(ran.stdout, "");
    }
    host.end();
}
