//! The operations, as people who write calls and grants find them.

use qchost_catalog::OPERATIONS;
use serde_json::json;

use crate::cloud::Cloud;
use crate::common::{Folder, embedded};

#[test]
fn every_operation_is_listed_without_a_host_or_a_configuration() {
    let folder = Folder::new("");
    std::fs::remove_file(folder.path().join("qchost.toml")).unwrap();
    let all = folder.run(&["--json", "--data", "nowhere", "tools"]).json();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), OPERATIONS.len());
    let deploy = all
        .iter()
        .find(|tool| tool["name"] == "live/create-live-algorithm")
        .unwrap();
    assert_eq!(deploy["class"], "trade", "{deploy:#}");
    assert_eq!(deploy["money"], true, "{deploy:#}");
    assert_eq!(deploy["by-pattern"], false, "{deploy:#}");
    let text = folder.run(&["tools"]);
    let lines: Vec<&str> = text.good().stdout.lines().collect();
    assert_eq!(lines.len(), OPERATIONS.len() + 1, "{text:?}");
    assert!(
        lines.iter().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some("live/create-live-algorithm") && words.next() == Some("trade")
        }),
        "{text:?}"
    );
}

#[test]
fn words_narrow_the_list_and_a_name_shows_one_operation_whole() {
    let folder = Folder::new("");
    let names = |words: &[&str]| -> Vec<String> {
        let found = folder.run(&[&["--json", "tools"], words].concat()).json();
        let names = found.as_array().unwrap().iter();
        names
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let orders = names(&["ORDERS", "backtest"]);
    assert!(
        orders.contains(&"backtests/read-backtest-orders".to_owned()),
        "{orders:?}"
    );
    assert!(orders.len() < 64, "{orders:?}");
    // Others begin with the same words.
    for name in ["backtests/read-backtest", "read_backtest"] {
        assert_eq!(names(&[name]), ["backtests/read-backtest"]);
    }
    let shown = folder.run(&["tools", "read_backtest"]);
    let shown = &shown.good().stdout;
    for words in [
        "backtests/read-backtest\n",
        "Read a backtest at any time",
        "class    read: changes nothing",
        "granted  by its name, or by a pattern with a star",
        "touches  project (projectId), backtest (backtestId)",
        "projectId",
        "integer",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn a_word_that_no_operation_has_is_answered_by_the_nearest_name() {
    let folder = Folder::new("");
    for (word, near) in [
        ("read_bactest", "did you mean `read_backtest`?"),
        (
            "backtest/read-backtest",
            "did you mean `backtests/read-backtest`?",
        ),
        ("frobnicate-everything", "list them: qchost tools"),
    ] {
        let ran = folder.run(&["tools", word]);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert!(ran.error().contains(near), "{ran:?}");
    }
}

/// The name of the list is taken by `call` and by a manifest.
#[test]
fn the_name_of_an_operation_calls_and_grants_it() {
    let cloud = Cloud::start();
    let folder = Folder::new(&embedded(cloud.url()));
    let listed = folder.run(&["--json", "tools", "read_account"]).json();
    let name = listed[0]["name"].as_str().unwrap();
    let called = folder.run(&["--json", "call", name]).json();
    assert_eq!(called, folder.call("read_account", &json!({})));
    let allow = |name: &str| {
        let head = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n";
        let grant = format!("[[grant]]\nname = \"all\"\nallow = [\"{name}\"]\n");
        let manifest = folder.manifest("lab", &format!("{head}{grant}"));
        let ran = folder.run(&["validate", manifest.to_str().unwrap()]);
        format!("{}{}", ran.stdout, ran.stderr)
    };
    assert!(
        !allow(name).contains("names no operation"),
        "{}",
        allow(name)
    );
    assert!(allow("account/read").contains("names no operation"));
}
