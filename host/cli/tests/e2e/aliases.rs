//! Aliases of actions: what they invoke, who has a name, and what the record has of them.

use std::fs;

use serde_json::{Value, json};

use crate::guests::{caller, version};
use crate::process::wait_until;
use crate::running::{GRANT, Running, manifest, plugin, replace};
use crate::socket::Answer;

fn alias(name: &str) -> String {
    format!("[[alias]]\nname = \"{name}\"\naction = \"act\"\n")
}

fn invoke(running: &Running, name: &str) -> Answer {
    running.control.invoke(name, &json!({}))
}

/// Waits until an action answers this number by a name.
fn until(running: &Running, name: &str, number: u32) {
    let answers = || (invoke(running, name) == Answer::Done(json!(number))).then_some(());
    wait_until(&format!("{name} answers {number}"), answers);
}

#[test]
fn an_action_is_invoked_by_its_alias_and_the_record_has_both() {
    let name = "quantconnect.account.read";
    let lines = format!("{GRANT}{}", alias(name));
    let component = caller(3, &[("read_account", Some("{}"))]);
    let running = Running::with_lab(&component, &lines);
    assert_eq!(invoke(&running, name), Answer::Done(json!(3)));
    running.is_version("lab", 3);
    // Neither is another name.
    for (other, words) in [
        ("quantconnect.account", "there is no plugin `quantconnect`"),
        ("quantconnect", "nor an alias"),
        ("quantconnect_account_read", "nor an alias"),
    ] {
        match invoke(&running, other) {
            Answer::Failed(why) => assert!(why.contains(words), "{other}: {why}"),
            answer => panic!("{other}: {answer:?}"),
        }
    }

    let folder = &running.folder;
    let aliases = json!({ name: "act" });
    let listed = folder.run(&["--json", "plugin", "list"]).json();
    assert_eq!(listed[0]["aliases"], aliases, "{listed}");
    let grants = folder.run(&["--json", "plugin", "grants", "lab"]).json();
    assert_eq!(grants["aliases"], aliases, "{grants}");
    let inspected = folder.run(&["--json", "plugin", "inspect", "lab"]).json();
    assert_eq!(inspected["aliases"], aliases, "{inspected}");
    for verb in [
        &["plugin", "list"][..],
        &["plugin", "grants", "lab"],
        &["plugin", "inspect", "lab"],
    ] {
        let ran = folder.run(verb);
        assert!(ran.good().stdout.contains(name), "{verb:?}: {ran:?}");
    }

    let query = folder.run(&["--json", "audit", "query", "--plugin", "lab"]);
    let records = query.good().stdout.lines();
    let records: Vec<Value> = records
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &Value| record["operation"] == "account/read-account")
        .collect();
    for (invoked_by, wanted) in [("its alias", json!(name)), ("its own name", Value::Null)] {
        let found = records
            .iter()
            .any(|record| record["action"] == "act" && record["alias"] == wanted);
        assert!(found, "{invoked_by}: {records:#?}");
    }
    running.end();
}

#[test]
fn without_a_host_an_alias_is_invoked_too() {
    let running = Running::with_lab(&version(1), &alias("lab.alias"));
    let Running { host, folder, .. } = running;
    host.end();
    assert_eq!(folder.invoke("lab.alias", &json!({})), json!(1));
}

#[test]
fn of_two_that_want_a_name_the_later_one_is_refused_until_it_is_free() {
    let running = Running::with_lab(&version(1), &alias("shared"));
    assert_eq!(invoke(&running, "shared"), Answer::Done(json!(1)));
    plugin(&running.folder, "late", &version(2), &alias("shared"));
    let why = running.until_status("late", "broken");
    let taken = "`shared` is taken: it is an alias of the plugin `lab`";
    assert!(why.contains(taken), "{why}");
    assert_eq!(invoke(&running, "shared"), Answer::Done(json!(1)));
    running.is_version("lab", 1);

    // The one that has it gives it up: both serve.
    let free = manifest("lab", "../builds/lab.wasm", "");
    replace(&running.path("plugins/lab.toml"), free);
    until(&running, "shared", 2);
    running.is_version("lab", 1);
    running.until_status("late", "ready");

    // The other order: the action of a plugin that comes has the name of an alias.
    plugin(&running.folder, "late", &version(2), &alias("new.act"));
    until(&running, "new.act", 2);
    assert!(matches!(invoke(&running, "shared"), Answer::Failed(_)));
    plugin(&running.folder, "new", &version(3), "");
    let why = running.until_status("new", "broken");
    let taken = "`new.act` is taken: it is an alias of the plugin `late`";
    assert!(why.contains(taken), "{why}");
    assert_eq!(invoke(&running, "new.act"), Answer::Done(json!(2)));
    fs::remove_file(running.path("plugins/late.toml")).unwrap();
    running.until_version("new", 3);

    // An alias that cannot be leaves what serves as it is.
    let lines = "[[alias]]\nname = \"more\"\naction = \"atc\"\n";
    let unfit = manifest("new", "../builds/new.wasm", lines);
    replace(&running.path("plugins/new.toml"), unfit);
    running.until_reason("new", "did you mean `act`?");
    running.is_version("new", 3);
    assert!(matches!(invoke(&running, "more"), Answer::Failed(_)));
    running.end();
}

#[test]
fn who_may_not_invoke_a_plugin_may_not_invoke_it_by_an_alias() {
    let me = rustix::process::geteuid().as_raw();
    let people = format!("people.me = {{ uid = {me}, roles = [\"operator\"] }}");
    let rule = "@id(\"not-lab\")\n\
        forbid (principal is Person, action == Action::\"person/invoke\", resource)\n\
        when { context has target && context.target == \"lab\" };\n";
    let running = Running::start(&people, |folder| {
        let policies = folder.path().join("policies");
        fs::create_dir(&policies).unwrap();
        fs::write(policies.join("people.cedar"), rule).unwrap();
        plugin(folder, "lab", &version(1), &alias("free.run"));
        plugin(folder, "free", &version(2), &alias("free.other"));
    });
    for name in ["lab.act", "free.run"] {
        match invoke(&running, name) {
            Answer::Failed(why) => assert!(why.contains("not-lab"), "{name}: {why}"),
            answer => panic!("{name}: {answer:?}"),
        }
    }
    for name in ["free.act", "free.other"] {
        assert_eq!(invoke(&running, name), Answer::Done(json!(2)), "{name}");
    }
    running.end();
}

#[test]
fn settings_that_do_not_fit_or_look_like_secrets_are_refused_with_file_and_line() {
    let running = Running::with_lab(&version(1), "");
    let settings = qchost_testing::Guest::new("(call $digit (i32.const 2))")
        .config(r#"{ "properties": { "days": { "type": "integer" } }, "required": ["days"] }"#)
        .build();
    // The first three lines of a manifest are those that each has.
    plugin(
        &running.folder,
        "lab",
        &settings,
        "[config]\ndays = \"x4711\"\n",
    );
    running.until_reason("lab", "lab.toml:5: config.days: ");
    let why = running.until_status("lab", "degraded");
    assert!(!why.contains("x4711"), "{why}");
    assert_eq!(why.matches("lab.toml").count(), 1, "{why}");
    let secret = "[config]\ndays = 3\napi-key = \"hunter2\"\n";
    plugin(&running.folder, "lab", &settings, secret);
    running.until_reason("lab", "lab.toml:6: config.api-key: is named like a secret");
    running.is_version("lab", 1);
    assert!(!running.host.stderr().contains("hunter2"));
    plugin(&running.folder, "lab", &settings, "[config]\ndays = 3\n");
    running.until_version("lab", 2);
    running.end();
}
