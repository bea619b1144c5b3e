//! Exit statuses: what a script learns of how a command ended, with a running host and without one.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::net::UnixListener;

use qchost_emulator::{Fault, FaultKind};
use serde_json::{Value, json};

use crate::categories::{EVERY, with_cloud};
use crate::cloud::Cloud;
use crate::common::{Folder, bundled, component, embedded};
use crate::process::{Process, Ran};

/// How a folder differs from one in which a write is done, and the exit status of that write.
pub struct Situation {
    pub name: &'static str,
    pub make: fn(&Cloud, &Folder, &Value),
    pub status: i32,
}

/// Adds a grant that the write has to satisfy as well.
pub fn grant(folder: &Folder, line: &str) {
    let grant = format!(
        "[[grant]]\nname = \"more\"\nallow = [\"backtests/create-backtest\"]\nprojects = [\"*\"]\n{line}\n\n[limits]"
    );
    let manifest = bundled(EVERY).replacen("[limits]", &grant, 1);
    assert!(manifest.contains(line));
    folder.manifest("every-category", &manifest);
}

fn fault(cloud: &Cloud, kind: FaultKind) {
    let faults = vec![Fault::at("/backtests/create", kind)];
    cloud.emulator().set_faults(faults);
}

pub const SITUATIONS: [Situation; 8] = [
    Situation {
        name: "done",
        make: |_, _, _| {},
        status: 0,
    },
    Situation {
        name: "refused by QuantConnect",
        make: |cloud, _, _| fault(cloud, FaultKind::Refuse("no such compile job".to_owned())),
        status: 1,
    },
    Situation {
        name: "denied by a guardrail",
        make: |_, folder, _| {
            let policies = folder.path().join("policies");
            std::fs::create_dir(&policies).unwrap();
            std::fs::write(
                policies.join("none.cedar"),
                "@id(\"no-backtests\")\nforbid (principal, action == Action::\"backtests/create-backtest\", resource);\n",
            )
            .unwrap();
        },
        status: 3,
    },
    Situation {
        name: "waiting for an approval",
        make: |_, folder, _| grant(folder, "approval = \"operator\""),
        status: 4,
    },
    Situation {
        name: "halted",
        make: |_, folder, _| {
            folder.run(&["halt"]).good();
        },
        status: 5,
    },
    Situation {
        name: "over its budget",
        make: |_, folder, prepared| {
            grant(folder, "limits = { per-day = 1 }");
            write(folder, prepared).good();
        },
        status: 6,
    },
    Situation {
        name: "without an account that can be reached",
        make: |_, folder, _| {
            let file = folder.path().join("qchost.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            let (before, _) = text.split_once("cloud = ").unwrap();
            let rest = text.split_once("[brokerage").unwrap().1;
            let closed = "cloud = \"http://127.0.0.1:1/api/v2\"\n[brokerage";
            std::fs::write(&file, format!("{before}{closed}{rest}")).unwrap();
        },
        status: 7,
    },
    Situation {
        name: "with an answer that was lost",
        make: |cloud, _, _| fault(cloud, FaultKind::LoseAnswer),
        status: 8,
    },
];

fn write(folder: &Folder, prepared: &Value) -> Ran {
    folder.run(&["invoke", "every-category.slow-write", &prepared.to_string()])
}

#[test]
fn the_exit_status_says_how_an_invocation_ended_with_and_without_a_host() {
    for Situation { name, make, status } in &SITUATIONS {
        for serves in [false, true] {
            let (cloud, folder) = with_cloud();
            let prepared = folder.invoke("every-category.prepare", &json!({}));
            make(&cloud, &folder, &prepared);
            let host = serves.then(|| folder.serve(&["run"]));
            let ran = write(&folder, &prepared);
            assert_eq!(
                ran.status.code(),
                Some(*status),
                "{name}, with a host: {serves}: {ran:?}"
            );
            if let Some(host) = host {
                host.terminate();
                host.wait();
            }
        }
    }
}

#[test]
fn the_exit_status_of_a_call_is_that_of_its_refusal() {
    let (cloud, folder) = with_cloud();
    let create = |name: &str| {
        let project = json!({ "name": name, "language": "Py" }).to_string();
        folder.run(&["call", "create_project", &project])
    };
    let unauthorized = |arguments: &[&str]| {
        let mut command = folder.command(arguments);
        command.env("QUANTCONNECT_API_TOKEN", "another-token");
        Process::start(command, folder.path()).wait()
    };
    let cases: [(&[&str], i32); 13] = [
        (&["call", "read_account"], 0),
        (&["call", "no_such_tool"], 2),
        (&["call", "read_account", "nothing"], 2),
        (&["invoke", "every-category"], 2),
        (&["invoke", "every-category.slow-write", "{"], 2),
        (
            &[
                "policy",
                "explain",
                "every-category",
                "backtests/create-backtests",
            ],
            2,
        ),
        (
            &[
                "policy",
                "explain",
                "every-category",
                "projects/list-projects",
                "[]",
            ],
            2,
        ),
        (&["audit", "query", "--kind", "nosuch"], 2),
        (&["audit", "query", "--since", "yesterday"], 2),
        (&["invoke", "no-such-plugin.act"], 1),
        (&["call"], 2),
        (&["no-such-verb"], 2),
        (
            &[
                "--socket",
                "nothing.sock",
                "call",
                "read_account",
                "--account",
                "research",
            ],
            7,
        ),
    ];
    for (arguments, status) in cases {
        let ran = folder.run(arguments);
        assert_eq!(ran.status.code(), Some(status), "{arguments:?}: {ran:?}");
    }
    let ran = unauthorized(&["call", "read_account"]);
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    cloud
        .emulator()
        .set_faults(vec![Fault::at("/projects/create", FaultKind::LoseAnswer)]);
    let ran = create("Lab/one");
    assert_eq!(ran.status.code(), Some(8), "{ran:?}");
    cloud.emulator().set_faults(Vec::new());
    folder.run(&["halt"]).good();
    let ran = create("Lab/two");
    assert_eq!(ran.status.code(), Some(5), "{ran:?}");
}

#[test]
fn an_error_as_json_is_one_object_with_kind_message_and_hint() {
    let (_cloud, folder) = with_cloud();
    // A halt is stored where a host has run.
    folder.run(&["call", "read_account"]).good();
    folder.run(&["halt", "--reason", "a drill"]).good();
    let project = json!({ "name": "Lab/one", "language": "Py" }).to_string();
    let cases: [(&[&str], &str, &str, &str); 6] = [
        (
            &["--json", "call", "create_project", &project],
            "halted",
            "a drill",
            "qchost halt --list",
        ),
        (
            &["--json", "--socket", "nothing.sock", "halt", "--list"],
            "unavailable",
            "no host listens at nothing.sock",
            "qchost doctor",
        ),
        (
            &["no-such-verb", "--json"],
            "usage",
            "no-such-verb",
            "Usage: qchost",
        ),
        (&["call", "--json"], "usage", "<TOOL>", "Usage: qchost call"),
        (&["--json"], "usage", "subcommand", "Usage: qchost"),
        (
            &["--json", "plugin"],
            "usage",
            "a command is missing",
            "qchost --help",
        ),
    ];
    for (arguments, kind, message, hint) in cases {
        let ran = folder.run(arguments);
        let last = ran.stderr.lines().last().unwrap_or_default();
        let error: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 3, "{error}");
        assert_eq!(error["kind"], kind, "{error}");
        let text = |key: &str| error[key].as_str().unwrap().to_owned();
        assert!(text("message").contains(message), "{error}");
        assert!(text("hint").contains(hint), "{error}");
        assert_eq!(ran.stdout, "", "{ran:?}");
    }
    // The hint for a word that there is not is where those are that there are.
    let ran = folder.run(&["--json", "call", "no_such_tool"]);
    let error: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(error["kind"], "usage", "{error}");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.starts_with("qchost tools"), "{error}");
}

/// The kind of the error that ends a run, and its exit status.
fn kind(ran: &Ran) -> (String, i32) {
    let last = ran.stderr.lines().last().unwrap_or_default();
    let error: Value = serde_json::from_str(last).unwrap_or_else(|why| panic!("{why}: {ran:?}"));
    let kind = error["kind"].as_str().unwrap_or_else(|| panic!("{ran:?}"));
    (kind.to_owned(), ran.status.code().unwrap())
}

#[test]
fn an_import_that_no_grant_mentions_is_denied_with_and_without_a_host() {
    let folder = Folder::embedded("emulator");
    let manifest = format!(
        "plugin = \"strategy-lab\"\ncomponent = \"{}\"\naccount = \"research\"\n",
        component("plugins/strategy-lab").display()
    );
    folder.manifest("strategy-lab", &manifest);
    let invoke = || folder.run(&["--json", "invoke", "strategy-lab.backtest"]);
    let denied = ("denied".to_owned(), 3);
    assert_eq!(kind(&invoke()), denied);
    let host = folder.serve(&["run"]);
    assert_eq!(kind(&invoke()), denied);
    // Of a plugin that is not there, nothing is denied.
    let ran = folder.run(&["--json", "invoke", "no-such-plugin.act"]);
    assert_eq!(kind(&ran), ("not-found".to_owned(), 1));
    host.end();
}

#[test]
fn a_folder_that_a_host_has_is_unavailable_to_another() {
    let (_cloud, folder) = with_cloud();
    let host = folder.serve(&["run"]);
    let ran = folder.run(&["--json", "run"]);
    assert_eq!(kind(&ran), ("unavailable".to_owned(), 7), "{ran:?}");
    assert!(ran.json_error().contains("uses"), "{ran:?}");
    host.end();
}

#[test]
fn the_record_is_denied_to_a_stranger() {
    let other = rustix::process::geteuid().as_raw() + 1;
    let account = embedded("emulator");
    let folder = Folder::new(&format!(
        "people.other = {{ uid = {other}, roles = [\"viewer\"] }}\n{account}"
    ));
    for verb in [
        &["verify"][..],
        &["head"],
        &["tail"],
        &["query"],
        &["why", "19ad3b7c2f1-17"],
        &["export", "--format", "jsonl"],
    ] {
        let ran = folder.run(&[&["--json", "audit"], verb].concat());
        assert_eq!(kind(&ran), ("denied".to_owned(), 3), "{verb:?}");
        assert!(ran.json_error().contains("is not a person"), "{ran:?}");
    }
}

/// A host that ends before it answers, once it has read this many bytes of a request.
fn ends_early(folder: &Folder, requests: usize, bytes: usize) -> std::thread::JoinHandle<()> {
    let socket = folder.path().join("data/control.sock");
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut vec![0; bytes]).unwrap() > 0);
        }
    })
}

#[test]
fn a_host_that_ends_while_a_verb_waits_leaves_it_unavailable_or_its_outcome_unknown() {
    let call = ["call", "read_account"];
    let cases: [(&[&str], &str, i32); 4] = [
        (&["plugin", "list"], "unavailable", 7),
        (&["approvals", "list"], "unavailable", 7),
        (&call, "unknown-outcome", 8),
        (&["invoke", "lab.act"], "unknown-outcome", 8),
    ];
    // With the whole request read, and with most of it unread.
    for bytes in [1 << 16, 1] {
        let folder = Folder::embedded("emulator");
        let host = ends_early(&folder, cases.len(), bytes);
        for (arguments, expected, status) in cases {
            let ran = folder.run(&[&["--json"], arguments].concat());
            assert_eq!(kind(&ran), (expected.to_owned(), status), "{ran:?}");
        }
        host.join().unwrap();
    }
}

/// The verbs that ask no host.
const ALONE: [&str; 18] = [
    "completions",
    "demo",
    "doctor",
    "emulator",
    "emulator-reset",
    "init",
    "man",
    "plugin-build",
    "plugin-inspect",
    "policy-coverage",
    "policy-test",
    "restore",
    "run",
    "schema-guardrails",
    "schema-manifest",
    "schema-output",
    "tools",
    "validate",
];

#[test]
fn every_verb_that_asks_a_host_is_unavailable_where_none_is() {
    const ID: &str = "ap-abcdefghij";
    let (_cloud, folder) = with_cloud();
    let cases: [(&str, &[&str]); 27] = [
        ("account-login", &["account", "login", "research"]),
        ("account-logout", &["account", "logout", "research"]),
        ("account-status", &["account", "status"]),
        ("approvals-approve", &["approvals", "approve", ID]),
        ("approvals-list", &["approvals", "list"]),
        (
            "approvals-refuse",
            &["approvals", "refuse", ID, "--reason", "no"],
        ),
        ("approvals-revoke", &["approvals", "revoke", ID]),
        ("approvals-show", &["approvals", "show", ID]),
        ("audit-export", &["audit", "export", "--format", "jsonl"]),
        ("audit-head", &["audit", "head"]),
        ("audit-query", &["audit", "query"]),
        ("audit-reconcile", &["audit", "reconcile"]),
        ("audit-tail", &["audit", "tail"]),
        ("audit-tail", &["audit", "tail", "--follow"]),
        ("audit-verify", &["audit", "verify"]),
        ("audit-why", &["audit", "why", "19ad3b7c2f1-17"]),
        ("backup", &["backup", "copied"]),
        ("call", &["call", "read_account", "--account", "research"]),
        ("halt", &["halt"]),
        ("halt", &["halt", "--list"]),
        ("invoke", &["invoke", "lab.act"]),
        ("plugin-grants", &["plugin", "grants", "lab"]),
        ("plugin-list", &["plugin", "list"]),
        ("plugin-logs", &["plugin", "logs", "lab"]),
        (
            "policy-explain",
            &["policy", "explain", "lab", "projects/list-projects"],
        ),
        ("reload", &["reload"]),
        ("resume", &["resume"]),
    ];
    let mut asked: BTreeSet<&str> = ALONE.into();
    for (name, arguments) in cases {
        asked.insert(name);
        let without = [&["--json", "--socket", "nothing.sock"], arguments].concat();
        let ran = folder.run(&without);
        assert_eq!(kind(&ran), ("unavailable".to_owned(), 7), "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
    }
    // What follows the record needs a host wherever that is.
    folder.run(&["plugin", "list"]).good();
    let ran = folder.run(&["--json", "audit", "tail", "--follow"]);
    assert_eq!(kind(&ran), ("unavailable".to_owned(), 7), "{ran:?}");

    let schemas = folder.run(&["--json", "schema", "output"]).json();
    let names = schemas["$defs"].as_object().unwrap().keys();
    let verbs: BTreeSet<&str> = names
        .map(String::as_str)
        .filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter(|name| !["error", "progress", "log", "remark"].contains(name))
        .collect();
    assert_eq!(asked, verbs);
}
