//! Every kind of bad input: one line with the problem and its place, exit status 1, and no other effect.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, component, embedded, strategy_lab};

/// Files that are no component of a plugin, each with a part of the error.
fn no_components() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = std::fs::read(component("plugins/strategy-lab")).unwrap();
    let wat = |text: &str| wat::parse_str(text).unwrap();
    vec![
        ("empty", Vec::new(), "not a WebAssembly component"),
        (
            "text",
            b"#!/bin/sh\necho component\n".to_vec(),
            "not a WebAssembly component",
        ),
        (
            "core-module",
            wat("(module (func (export \"run\")))"),
            "core module",
        ),
        ("truncated", good[..good.len() / 2].to_vec(), "truncated"),
        (
            "garbled",
            good.iter()
                .enumerate()
                .map(|(at, byte)| if at < 1000 { *byte } else { byte ^ 0x5a })
                .collect(),
            "",
        ),
        ("another-world", wat("(component)"), "qchost:agent/guest"),
        (
            "another-import",
            wat(
                "(component (import \"example:net/sockets@1.0.0\" (instance (export \"open\" (func)))))",
            ),
            "example:net/sockets",
        ),
    ]
}

fn write(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(format!("{name}.wasm"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn names(error: &str, path: &Path) -> bool {
    error.contains(path.file_name().unwrap().to_str().unwrap())
}

#[test]
fn what_is_no_component_is_refused_with_its_name_and_the_reason() {
    let folder = Folder::embedded("emulator");
    for (name, bytes, words) in no_components() {
        let path = write(&folder, name, &bytes);
        let file = path.to_str().unwrap();

        let ran = folder.run(&["plugin", "inspect", file]);
        assert!(
            names(ran.error(), &path) && ran.error().contains(words),
            "{name}: {}",
            ran.error()
        );
        let ran = folder.run(&["--json", "plugin", "inspect", file]);
        assert!(names(&ran.json_error(), &path), "{name}: {ran:?}");

        let ran = folder.run(&["--json", "validate", file]);
        assert!(
            ran.json_error().contains("1 of 1 file is not valid"),
            "{name}: {ran:?}"
        );
        let verdicts: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(
            verdicts[0]["error"].as_str().unwrap().contains(words),
            "{name}: {verdicts}"
        );

        // As a plugin's component it is refused as well, with the name of the manifest.
        let manifest = folder.manifest(
            "lab",
            &format!("plugin = \"lab\"\ncomponent = \"{file}\"\naccount = \"research\"\n"),
        );
        let ran = folder.run(&["invoke", "lab.sweep"]);
        assert!(
            names(ran.error(), &manifest) && ran.error().contains(words),
            "{name}: {}",
            ran.error()
        );
    }
}

#[test]
fn a_missing_component_or_a_component_with_another_digest_is_refused() {
    let folder = Folder::embedded("emulator");
    folder.manifest(
        "lab",
        "plugin = \"lab\"\ncomponent = \"not-there.wasm\"\naccount = \"research\"\n",
    );
    let ran = folder.run(&["invoke", "lab.sweep"]);
    assert!(ran.error().contains("not-there.wasm"), "{}", ran.error());

    let pinned = |digest: &str| format!("digest = \"{digest}\"\n{}", strategy_lab());
    folder.manifest("lab", &pinned(&format!("sha256:{}", "0".repeat(64))));
    let ran = folder.run(&["invoke", "strategy-lab.compile"]);
    let error = ran.error();
    assert!(
        error.contains(&format!("its manifest pins sha256:{}", "0".repeat(64))),
        "{error}"
    );

    // The allowed twin: the digest that `plugin inspect` shows.
    let file = component("plugins/strategy-lab");
    let found = folder
        .run(&["--json", "plugin", "inspect", file.to_str().unwrap()])
        .json();
    folder.manifest("lab", &pinned(found["digest"].as_str().unwrap()));
    let listed = folder.run(&["--json", "plugin", "list"]).json();
    assert_eq!(listed[0]["status"], "ready", "{listed}");
}

#[test]
fn a_manifest_that_is_wrong_is_refused_with_file_and_key() {
    let folder = Folder::embedded("emulator");
    let good = strategy_lab();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let line = 1 + good
        .lines()
        .take_while(|line| !line.starts_with("concurrency"))
        .count();
    let in_its_line = format!("lab.toml:{line}: limits.concurrency: ");
    for (text, words) in [
        (
            format!("colour = \"red\"\n{good}"),
            "lab.toml:1: colour: unknown key; ",
        ),
        (with("[limits]", "[limits]\nheat = \"1\""), "heat"),
        (
            with("concurrency = 4", "concurrency = \"four\""),
            &in_its_line,
        ),
        (with("account   = \"research\"", "account = 7"), "lab.toml:"),
        (with("account   = \"research\"", ""), "account"),
        (
            with("\"64MiB\"", "\"64 potatoes\""),
            "limits.memory: `64 potatoes` is not a size",
        ),
        (
            with("\"5s\"", "\"soon\""),
            "limits.cpu: `soon` is not a time",
        ),
        (
            with("\"compile/*\"", "\"compiles/*\""),
            "did you mean `compile/*`?",
        ),
        (
            with("name  = \"lab-backtests\"", "name = \"lab-projects\""),
            "two grants",
        ),
        (
            with(
                "name  = \"lab-backtests\"",
                "name = \"lab-backtests\"\nmax-cost = nan",
            ),
            "grant `lab-backtests`.max-cost: ",
        ),
        (
            with("[config]", "[[schedule]]\ncron = \"0 * * * * *\"\n[config]"),
            "not enforced by this version",
        ),
        (
            with("plugin    = \"strategy-lab\"", "plugin = \"Strategy Lab\""),
            "plugin",
        ),
        (
            with("account   = \"research\"", "account = \"elsewhere\""),
            "no account `elsewhere`; configured are: research",
        ),
        (
            format!("{good}\n[[http]]\nallow = \"https://hooks.example.com/\"\n"),
            "lab.toml:1: egress: the grant `lab-projects` covers `files/read-file`, whose answers may hold licensed data",
        ),
        ("plugin = ".to_owned(), "lab.toml:1:"),
        ("\u{0}\u{1}".to_owned(), "lab.toml:1:"),
    ] {
        let path = folder.manifest("lab", &text);
        let ran = folder.run(&["invoke", "strategy-lab.compile"]);
        // A plugin whose manifest cannot be read may have no known name.
        let listed = folder.run(&["--json", "plugin", "list"]);
        let rows: Value = serde_json::from_str(&listed.stdout).unwrap();
        let error = rows[0]["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{words}: {rows}"));
        assert!(
            names(error, &path) && error.contains(words) && !error.contains('\n'),
            "{words}: {error}"
        );
        assert!(!ran.error().is_empty());
    }
}

#[test]
fn two_manifests_for_a_plugin_are_both_refused() {
    let folder = Folder::embedded("emulator");
    folder.manifest("one", &strategy_lab());
    folder.manifest("two", &strategy_lab());
    let ran = folder.run(&["invoke", "strategy-lab.compile", "{}"]);
    assert!(ran.error().contains("strategy-lab"), "{}", ran.error());
    let listed = folder.run(&["--json", "plugin", "list"]);
    let rows: Value = serde_json::from_str(&listed.stdout).unwrap();
    for row in rows.as_array().unwrap() {
        assert!(
            row["error"]
                .as_str()
                .unwrap()
                .contains("another manifest is for the plugin `strategy-lab` too"),
            "{rows}"
        );
    }
}

#[test]
fn what_cannot_be_invoked_is_refused_before_anything_is_sent() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    for (action, input, words) in [
        ("strategy-lab.sweep", "{\"grid\": ", "not JSON"),
        ("strategy-lab.sweep", "", "not JSON"),
        ("strategy-lab.sweep", "[]", "object"),
        ("strategy-lab.sweep", "{}", "grid"),
        ("strategy-lab.sweep", "{\"grid\": 7}", "grid"),
        (
            "strategy-lab.sweep",
            "{\"grid\": {}, \"colour\": 1}",
            "colour",
        ),
        (
            "strategy-lab.sweep",
            "{\"grid\": {}, \"concurrency\": 1000}",
            "concurrency",
        ),
        ("strategy-lab.sweeep", "{}", "sweep"),
        ("strategy-labs.sweep", "{}", "strategy-lab"),
        ("sweep", "{}", "`sweep` is not PLUGIN.ACTION"),
        ("strategy-lab.", "{}", "strategy-lab"),
    ] {
        let ran = folder.run(&["invoke", action, input]);
        assert!(
            ran.error().contains(words),
            "{action} {input}: {}",
            ran.error()
        );
        let ran = folder.run(&["--json", "invoke", action, input]);
        assert!(
            ran.json_error().contains(words),
            "{action} {input}: {ran:?}"
        );
        // What the host finds wrong with the input before the plugin runs is a mistake of who invokes.
        if action == "strategy-lab.sweep" && words != "concurrency" {
            assert_eq!(ran.status.code(), Some(2), "{input}: {ran:?}");
        }
    }
    for (tool, arguments, words) in [
        ("read_account", "nothing", "not JSON"),
        ("read_account", "7", "JSON object"),
        ("read_acount", "{}", "did you mean `read_account`?"),
        ("frobnicate", "{}", "there is no tool `frobnicate`"),
    ] {
        let ran = folder.run(&["call", tool, arguments]);
        assert!(
            ran.error().contains(words),
            "{tool} {arguments}: {}",
            ran.error()
        );
    }
    let huge = "x".repeat(100_000);
    let ran = folder.run(&[
        "invoke",
        "strategy-lab.sweep",
        &json!({ "grid": {}, huge: 1 }).to_string(),
    ]);
    assert!(
        ran.error().len() < 10_000,
        "{} bytes of error",
        ran.error().len()
    );
    assert_eq!(cloud.emulator().requests(), [], "something was sent");
}

#[test]
fn an_operation_that_is_named_in_part_is_answered_with_its_full_name() {
    let folder = Folder::embedded("emulator");
    folder.manifest("strategy-lab", &strategy_lab());
    folder.run(&["call", "read_account"]).good();
    for verb in [
        &["policy", "explain", "strategy-lab", "create-backtest"][..],
        &["audit", "query", "--operation", "create-backtest"],
    ] {
        let ran = folder.run(verb);
        assert!(
            ran.error()
                .contains("did you mean `backtests/create-backtest`?"),
            "{ran:?}"
        );
    }
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_line() {
    for (text, words) in [
        (
            "modus = 1\n".to_owned() + &embedded("emulator"),
            "qchost.toml:3: unknown field `modus`",
        ),
        (
            embedded("emulator").replace("embedded", "pigeon"),
            "unknown variant `pigeon`",
        ),
        (embedded("not an address"), "not an address"),
        (
            "[account.research]\nconnection = \"stdio\"\ncommand = \"/not/there\"\n".to_owned(),
            "/not/there",
        ),
        (
            "[account.research]\nconnection = \"http\"\nurl = \"gopher://x\"\n".to_owned(),
            "gopher",
        ),
    ] {
        let folder = Folder::new(&text);
        let ran = folder.run(&["call", "read_account"]);
        assert!(ran.error().contains(words), "{words}: {}", ran.error());
        let ran = folder.run(&["--json", "call", "read_account"]);
        assert!(ran.json_error().contains(words), "{words}: {ran:?}");
    }
    let folder = Folder::new("");
    let ran = folder.run(&["--config", "elsewhere.toml", "call", "read_account"]);
    for words in [
        "elsewhere.toml in ",
        "; write one with `qchost init`: No such file",
    ] {
        assert!(ran.error().contains(words), "{}", ran.error());
    }
}

#[test]
fn a_command_line_that_is_wrong_ends_with_2() {
    let folder = Folder::new("");
    for arguments in [
        &["frobnicate"][..],
        &["invoke"],
        &["run", "--drain", "soon"],
        &[],
    ] {
        let ran = folder.run(arguments);
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {ran:?}");
    }
    let ran = folder.run(&["--log", "gate=loud", "call", "read_account"]);
    assert!(ran.error().contains("--log gate=loud"), "{}", ran.error());
}

#[test]
fn an_answer_that_does_not_fit_is_an_unexpected_response() {
    type Alter = fn(Value) -> String;
    let cloud = Cloud::start();
    let altered: [(&str, Alter, &str); 5] = [
        (
            "/compile/create",
            |mut body| {
                body["compileId"] = json!(["c"]);
                body.to_string()
            },
            "compileId",
        ),
        (
            "/compile/create",
            |mut body| {
                body["compileId"] = json!({ "id": "c" });
                body.to_string()
            },
            "compileId",
        ),
        // A write whose answer cannot be read has an unknown outcome; a read has not.
        (
            "/projects/read",
            |_| json!(["success"]).to_string(),
            "not a JSON object",
        ),
        ("/projects/read", |_| "<html>Sorry</html>".to_owned(), ""),
        ("/projects/read", |_| String::new(), ""),
    ];
    for (at, alter, words) in altered {
        let url = cloud.altered(move |path, body| {
            if path == at {
                alter(body)
            } else {
                body.to_string()
            }
        });
        let folder = Folder::embedded(&url);
        folder.manifest("strategy-lab", &strategy_lab());
        let ran = folder.run(&["invoke", "strategy-lab.backtest"]);
        assert_eq!(ran.status.code(), Some(1), "{words}: {ran:?}");
        let error = ran.error();
        assert!(
            error.contains("unexpected-response") && error.contains(words),
            "{words}: {error}"
        );
    }
}

#[test]
fn an_unknown_status_reaches_the_plugin_as_it_is() {
    let cloud = Cloud::start();
    let paused = cloud.altered(|path, mut body| {
        if path == "/backtests/read" && body["backtest"]["completed"] == true {
            body["backtest"]["status"] = "Paused For Review".into();
        }
        body.to_string()
    });
    let folder = Folder::embedded(&paused);
    folder.manifest("strategy-lab", &strategy_lab());
    let ran = folder.run(&["invoke", "strategy-lab.backtest"]);
    assert!(
        ran.error()
            .contains("the backtest ended as Paused For Review"),
        "{}",
        ran.error()
    );
}
