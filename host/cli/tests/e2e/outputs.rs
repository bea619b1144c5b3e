//! What `--json` prints is as `qchost schema output` says, for every verb.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::backups::key_of;
use crate::categories::{EVERY, PAPER};
use crate::cloud::Cloud;
use crate::common::{Folder, bundled, component, embedded, repository};
use crate::process::{Process, Ran};

/// Verbs whose result is not checked here, each with the reason. How they fail is.
const UNCHECKED: [(&str, &str); 3] = [
    (
        "plugin-build",
        "it needs a compiler for WebAssembly, which the tests do not",
    ),
    ("account-login", "it needs a person, as `logins.rs` has one"),
    (
        "account-logout",
        "it needs a person, as `logins.rs` has one",
    ),
];
/// The lines on standard error.
const ASIDE: [&str; 4] = ["error", "progress", "log", "remark"];

/// The schemas that the host prints, and what was checked against them.
struct Checked {
    schemas: BTreeMap<String, Validator>,
    seen: BTreeSet<String>,
}

impl Checked {
    fn new(folder: &Folder) -> Self {
        let mut document = folder.run(&["--json", "schema", "output"]).json();
        let definitions = document["$defs"].as_object().unwrap();
        // Those of types begin with a capital.
        let names = definitions
            .keys()
            .filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
        let names: Vec<String> = names.cloned().collect();
        let mut schemas = BTreeMap::new();
        for name in names {
            document["$ref"] = format!("#/$defs/{name}").into();
            schemas.insert(name, jsonschema::validator_for(&document).unwrap());
        }
        Self {
            schemas,
            seen: BTreeSet::new(),
        }
    }

    fn check(&mut self, name: &str, value: &Value) {
        let schema = self.schemas.get(name);
        let schema = schema.unwrap_or_else(|| panic!("there is no schema of {name}"));
        let problems: Vec<String> = schema
            .iter_errors(value)
            .map(|error| error.to_string())
            .collect();
        assert!(problems.is_empty(), "{name}: {problems:#?}\n{value:#}");
        self.seen.insert(name.to_owned());
    }

    /// Checks a run that prints a document, and returns it.
    fn document(&mut self, name: &str, ran: &Ran) -> Value {
        let document = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}: {ran:?}"));
        self.check(name, &document);
        self.aside(ran);
        document
    }

    /// Checks a run that prints a document a line, and returns these.
    fn lines(&mut self, name: &str, ran: &Ran) -> Vec<Value> {
        let lines = ran.good().stdout.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"))
        });
        let lines: Vec<Value> = lines.collect();
        assert!(!lines.is_empty(), "{name} prints nothing: {ran:?}");
        for line in &lines {
            self.check(name, line);
        }
        self.aside(ran);
        lines
    }

    /// Checks what a run prints beside its result. Lines of the log are text.
    fn aside(&mut self, ran: &Ran) {
        for line in ran.stderr.lines() {
            let Ok(value @ Value::Object(_)) = serde_json::from_str(line) else {
                continue;
            };
            let kinds = ASIDE.map(|kind| (kind, self.schemas[kind].is_valid(&value)));
            let kinds: Vec<&str> = kinds
                .iter()
                .filter_map(|(kind, fits)| fits.then_some(*kind))
                .collect();
            assert_eq!(kinds.len(), 1, "{line} is {kinds:?}");
            self.seen.extend(kinds.into_iter().map(str::to_owned));
        }
    }

    /// Checks a run that fails with an error of this kind.
    fn failure(&mut self, ran: &Ran, kind: &str, status: i32) {
        assert_eq!(ran.status.code(), Some(status), "{ran:?}");
        let last = ran.stderr.lines().last().unwrap_or_default();
        let error: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        self.check("error", &error);
        assert_eq!(error["kind"], kind, "{ran:?}");
        self.aside(ran);
    }
}

fn ask(folder: &Folder, arguments: &[&str]) -> Ran {
    folder.run(&[&["--json"], arguments].concat())
}

/// A folder with a plugin that has to ask for its writes, a guardrail, and expected decisions.
fn folder(cloud: &Cloud) -> Folder {
    let account = embedded(cloud.url());
    let folder = Folder::new(&format!("live-trading = true\n{account}{PAPER}"));
    let asks = "[[grant]]\nname = \"asks\"\nallow = [\"backtests/create-backtest\"]\nprojects = [\"*\"]\napproval = \"operator\"\n";
    let manifest = bundled(EVERY).replacen("[limits]", &format!("{asks}\n[limits]"), 1);
    folder.manifest("every-category", &manifest);
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    file(
        "policies/live.cedar",
        "@id(\"no-live\")\nforbid (principal, action == Action::\"live/create-live-algorithm\", resource);\n",
    );
    file(
        "cases.toml",
        "manifest = \"plugins/every-category.toml\"\n[[case]]\nname = \"it may list\"\noperation = \"projects/list-projects\"\nexpect = \"allowed\"\n",
    );
    folder
}

/// The verbs that ask a running host.
fn with_a_host(checked: &mut Checked, folder: &Folder) {
    let prepare = ask(folder, &["invoke", "every-category.prepare", "{}"]);
    let prepared = checked.document("invoke", &prepare).to_string();
    let write = || ask(folder, &["invoke", "every-category.slow-write", &prepared]);
    checked.document("call", &ask(folder, &["call", "read_account"]));
    checked.document("account-status", &ask(folder, &["account", "status"]));
    let listed = checked.document("plugin-list", &ask(folder, &["plugin", "list"]));
    assert_eq!(listed[0]["status"], "ready", "{listed}");
    let grants = ask(folder, &["plugin", "grants", "every-category"]);
    checked.document("plugin-grants", &grants);
    let signals = ask(folder, &["invoke", "every-category.signals", "--logs"]);
    checked.document("invoke", &signals);
    let logs = ask(folder, &["plugin", "logs", "every-category"]);
    checked.lines("plugin-logs", &logs);
    checked.document("reload", &ask(folder, &["reload"]));

    checked.failure(&write(), "approval-required", 4);
    let listed = checked.document("approvals-list", &ask(folder, &["approvals", "list"]));
    let id = listed[0]["id"].as_str().unwrap();
    for verb in ["show", "approve", "show", "revoke"] {
        let ran = ask(folder, &["approvals", verb, id]);
        let approval = checked.document(&format!("approvals-{verb}"), &ran);
        // Documents to read have no schema; their keys are like any.
        for document in [&approval["view"], &approval["contents"]] {
            let mut keys = document.as_object().into_iter().flat_map(|it| it.keys());
            assert!(keys.all(|key| !key.contains([' ', '_'])), "{approval}");
        }
    }
    checked.failure(&write(), "approval-required", 4);
    let listed = checked.document("approvals-list", &ask(folder, &["approvals", "list"]));
    let id = listed[0]["id"].as_str().unwrap();
    let refuse = ["approvals", "refuse", id, "--reason", "not today"];
    checked.document("approvals-refuse", &ask(folder, &refuse));
    let all = ask(folder, &["approvals", "list", "--all"]);
    let all = checked.document("approvals-list", &all);
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");

    let explain = |operation: &str, project: &str| {
        let assumed = ["--project", project];
        let call = ["policy", "explain", "every-category", operation];
        ask(
            folder,
            &[&call[..], &["{\"projectId\": 1}"], &assumed].concat(),
        )
    };
    for operation in ["files/read-file", "live/create-live-algorithm"] {
        checked.document("policy-explain", &explain(operation, "Lab/x"));
    }

    checked.document("halt", &ask(folder, &["halt", "--reason", "a drill"]));
    let halts = checked.document("halt", &ask(folder, &["halt", "--list"]));
    assert_eq!(halts[0]["reason"], "a drill", "{halts}");
    checked.document("resume", &ask(folder, &["resume"]));

    let reconciled = ask(folder, &["audit", "reconcile"]);
    checked.document("audit-reconcile", &reconciled);
    let backup = folder.path().join("backup");
    let backup = ask(folder, &["backup", backup.to_str().unwrap()]);
    checked.document("backup", &backup);
}

/// The verbs about the record.
fn the_record(checked: &mut Checked, folder: &Folder) {
    checked.document("audit-verify", &ask(folder, &["audit", "verify"]));
    checked.document("audit-head", &ask(folder, &["audit", "head"]));
    checked.lines("audit-tail", &ask(folder, &["audit", "tail"]));
    let records = checked.lines("audit-query", &ask(folder, &["audit", "query"]));
    let kinds: BTreeSet<&str> = records
        .iter()
        .map(|record| record["kind"].as_str().unwrap())
        .collect();
    for kind in ["read", "intent", "outcome", "approval", "halt", "admin"] {
        assert!(
            kinds.contains(kind),
            "no record is of kind {kind}: {kinds:?}"
        );
    }
    let outcomes = records.iter().filter(|record| record["kind"] == "outcome");
    for record in outcomes.take(3) {
        let call = record["call"].as_str().unwrap();
        checked.document("audit-why", &ask(folder, &["audit", "why", call]));
    }
    let export = |format| ask(folder, &["audit", "export", "--format", format]);
    let lines = checked.lines("audit-export", &export("jsonl"));
    let document = checked.document("audit-export", &export("json"));
    // A host may have added to the record meanwhile.
    assert!(document.as_array().unwrap().starts_with(&lines));
}

/// The verbs that need no host.
fn alone(checked: &mut Checked, folder: &Folder) {
    checked.document("init", &ask(folder, &["init", "new-host"]));
    let files = ["validate", "qchost.toml", "plugins/every-category.toml"];
    checked.document("validate", &ask(folder, &files));
    let file = component(EVERY);
    let inspect = ask(folder, &["plugin", "inspect", file.to_str().unwrap()]);
    checked.document("plugin-inspect", &inspect);
    let none = ask(folder, &["plugin", "inspect", "qchost.toml"]);
    checked.failure(&none, "failed", 1);
    let none = ask(folder, &["plugin", "build", "."]);
    checked.failure(&none, "failed", 1);
    checked.document("policy-coverage", &ask(folder, &["policy", "coverage"]));
    let cases = ask(folder, &["policy", "test", "cases.toml"]);
    checked.document("policy-test", &cases);
    for schema in ["manifest", "guardrails", "output"] {
        let ran = ask(folder, &["schema", schema]);
        checked.document(&format!("schema-{schema}"), &ran);
    }
    let tools = checked.document("tools", &ask(folder, &["tools", "backtest"]));
    assert!(tools.as_array().unwrap().len() > 1, "{tools}");
    checked.document("completions", &ask(folder, &["completions", "bash"]));
    checked.document("tools", &ask(folder, &["tools"]));
    checked.document("man", &ask(folder, &["man"]));
    checked.document("man", &ask(folder, &["man", "--output", "pages"]));
    // Of what this machine lacks, a check may fail.
    checked.document("doctor", &ask(folder, &["doctor"]));
    // It says that no host runs.
    checked.document("plugin-list", &ask(folder, &["plugin", "list"]));
    let key = key_of(&folder.path().join("backup"));
    let restore = ["--data", "restored", "restore", "backup", "--key", &key];
    checked.document("restore", &ask(folder, &restore));
    let manifest = repository("plugins/strategy-lab/manifest.toml");
    let demo = ["demo", "--manifest", manifest.to_str().unwrap()];
    checked.document("demo", &ask(folder, &demo));
    let emulator = ["--json", "emulator", "--listen", "127.0.0.1:0", "--remote"];
    let mut emulator = folder.start(&emulator);
    let ready: Value = emulator.until("the emulator is ready", |emulator: &Process| {
        serde_json::from_str(&emulator.stdout()).ok()
    });
    checked.check("emulator", &ready);
    emulator.end();
    let other = Folder::embedded("emulator");
    checked.document("emulator-reset", &ask(&other, &["emulator", "reset"]));
}

#[test]
fn what_every_verb_prints_is_as_its_schema_says() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    let mut checked = Checked::new(&folder);
    let host = folder.serve(&["run"]);
    with_a_host(&mut checked, &folder);
    the_record(&mut checked, &folder);
    host.terminate();
    checked.document("run", host.wait().good());
    the_record(&mut checked, &folder);
    alone(&mut checked, &folder);

    let skipped = UNCHECKED.map(|(verb, _)| verb.to_owned());
    let seen: BTreeSet<String> = checked.seen.into_iter().chain(skipped).collect();
    let known: BTreeSet<String> = checked.schemas.into_keys().collect();
    assert_eq!(seen, known);
}

#[test]
fn the_schema_of_a_verb_is_printed_by_its_words() {
    let folder = Folder::new("");
    let words = ask(&folder, &["schema", "output", "approvals", "list"]).json();
    assert_eq!(words["$ref"], "#/$defs/approvals-list", "{words}");
    let name = ask(&folder, &["schema", "output", "approvals-list"]).json();
    assert_eq!(words, name);
    assert!(jsonschema::is_valid(&words, &json!([])), "{words}");
    assert!(!jsonschema::is_valid(&words, &json!({})), "{words}");
    let mut checked = Checked::new(&folder);
    let unknown = ask(&folder, &["schema", "output", "approvals", "lst"]);
    checked.failure(&unknown, "not-found", 1);
    let said = unknown.json_error();
    assert!(said.contains("did you mean `approvals list`?"), "{said}");
}

#[test]
fn a_wrong_option_is_an_error_of_usage_for_every_verb() {
    let folder = Folder::new("");
    let mut checked = Checked::new(&folder);
    let verbs: Vec<String> = checked.schemas.keys().cloned().collect();
    for verb in verbs.iter().filter(|verb| !ASIDE.contains(&verb.as_str())) {
        let words: Vec<&str> = verb.split('-').collect();
        let ran = ask(&folder, &[&words[..], &["--no-such-option"]].concat());
        checked.failure(&ran, "usage", 2);
        assert_eq!(ran.stdout, "", "{ran:?}");
    }
}
