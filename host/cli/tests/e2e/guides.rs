//! The guides: every block of code in a document is run as it is printed, or parsed, or says why it is not.

use std::path::{Path, PathBuf};

use qchost_policy::Guardrails;
use qchost_testing::DOCUMENTS;
use serde_json::{Value, json};
use wit_parser::Resolve;

use crate::common::{BINARY, Folder, component, embedded, repository};
use crate::printed::{IDS, shell};
use crate::process::{Process, Ran};

const README: &str = "README.md";
const OPERATING: &str = "host/OPERATING.md";
const CONTRIBUTING: &str = "host/CONTRIBUTING.md";
const SDK: &str = "sdk/README.md";
const PLUGINS: &str = "plugins/README.md";
const DATA_EDGE: &str = "plugins/data-edge/README.md";
const QUANTCONNECT: &str = "plugins/quantconnect/README.md";
const LAB: &str = "plugins/strategy-lab/README.md";
const WIT: &str = "wit/README.md";

/// The plugin of the guide to the SDK.
const BEST_OF: &str = "host/cli/tests/plugins/best-of";
/// What the project of a sweep is called in an emulator that had none.
const PROJECT: u32 = 20_000_001;

/// The blocks that are run, each with its document and the beginning of its first line. The first one is run by a test of
/// `printed`, those of an upgrade and of the way back by one of `upgrades`, and all others by one of this file.
const RUN: [(&str, &str); 14] = [
    (README, "export PATH="),
    (OPERATING, "make install "),
    (OPERATING, "qchost run --log info &"),
    (OPERATING, "cp /usr/local/bin/qchost "),
    (OPERATING, "kill "),
    (OPERATING, "qchost approvals list"),
    (WIT, "mkdir -p "),
    (SDK, "cargo new "),
    (SDK, "export PATH="),
    (SDK, "cd ../my-host"),
    (PLUGINS, "qchost plugin build "),
    (DATA_EDGE, "qchost plugin build "),
    (QUANTCONNECT, "qchost plugin build "),
    (LAB, "cd ../my-host"),
];
/// The blocks that are not run, each with the reason that its fence names.
const NOT_RUN: [(&str, &str); 6] = [
    (README, "it installs, and it is what runs the tests"),
    (README, "it builds the release for minutes"),
    (OPERATING, "it needs root and systemd"),
    (OPERATING, "a person consents in a browser"),
    (CONTRIBUTING, "it builds and runs the tests"),
    (CONTRIBUTING, "it builds for minutes, as make test does"),
];

/// A fenced block.
struct Block {
    /// What follows the fence: the language, and why it is not run.
    info: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(repository(document)).unwrap();
    let fenced = text.split("\n```").skip(1).step_by(2).map(|block| {
        let (info, text) = block.split_once('\n').unwrap();
        Block {
            info: info.to_owned(),
            text: format!("{text}\n"),
        }
    });
    fenced.collect()
}

/// The text of the block of a document that begins like this.
fn block(document: &str, info: &str, begins: &str) -> String {
    let mut found = blocks(document)
        .into_iter()
        .filter(|block| block.info == info && block.text.starts_with(begins));
    let block = found.next();
    let block = block.unwrap_or_else(|| panic!("{document} has no {info} of {begins}"));
    assert!(found.next().is_none(), "{document}: two of {begins}");
    block.text
}

/// The commands of a block that is run.
fn commands(document: &str, begins: &str) -> String {
    assert!(RUN.contains(&(document, begins)), "{document}: {begins}");
    block(document, "sh", begins)
}

/// The same without what takes minutes: `make test` built these plugins and the host before.
fn built(commands: &str) -> String {
    let builds = ["make install ", "qchost plugin build "];
    let lines = commands.lines();
    let lines = lines.filter(|line| !builds.iter().any(|build| line.starts_with(build)));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_block_of_a_document_is_run_or_parsed_or_says_why_it_is_not() {
    let (mut run, mut not_run) = (Vec::new(), Vec::new());
    for document in DOCUMENTS {
        for Block { info, text } in blocks(document) {
            match info.as_str() {
                "sh" => run.push((document, text)),
                "toml" => {
                    if let Err(error) = text.parse::<toml::Table>() {
                        panic!("{document}: {error}: {text}");
                    }
                }
                "json" => {
                    if let Err(error) = serde_json::from_str::<Value>(&text) {
                        panic!("{document}: {error}: {text}");
                    }
                }
                "cedar" => {
                    Guardrails::read(&[("guide.cedar".into(), text.clone())])
                        .unwrap_or_else(|error| panic!("{document}: {error}: {text}"));
                }
                // Compiled, or parsed with what it includes, by the tests below.
                "rust" => assert_eq!(document, SDK, "{text}"),
                "wit" => assert_eq!(document, WIT, "{text}"),
                // A drawing.
                "" => assert_eq!(document, "host/README.md", "{text}"),
                other => match other.split_once(" not run: ") {
                    Some((_, reason)) => not_run.push((document, reason.to_owned())),
                    None => panic!("{document}: no test knows blocks of `{other}`"),
                },
            }
        }
    }
    for (document, text) in &run {
        let is_known = |(of, begins): &(&str, &str)| of == document && text.starts_with(begins);
        assert!(RUN.iter().any(is_known), "no test runs {document}: {text}");
    }
    assert_eq!(run.len(), RUN.len());
    let not_run: Vec<_> = not_run
        .iter()
        .map(|(document, reason)| (*document, reason.as_str()))
        .collect();
    assert_eq!(not_run, NOT_RUN);
}

/// A clone of the repository as far as the guides use it, in a folder beside which a reader makes others.
fn clone(folder: &Folder) -> PathBuf {
    let clone = folder.path().join("qchost");
    std::fs::create_dir_all(clone.join("target")).unwrap();
    let link = |to: &Path, name: &str| {
        std::os::unix::fs::symlink(to, clone.join(name)).unwrap();
    };
    link(Path::new(BINARY).parent().unwrap(), "target/debug");
    for name in ["plugins", "sdk", "wit"] {
        link(&repository(name), name);
    }
    clone
}

/// The host of the guides, `../my-host`, made by their first commands.
fn my_host(folder: &Folder, clone: &Path) -> PathBuf {
    component("plugins/strategy-lab");
    let commands = commands(README, "export PATH=");
    let (first, _) = commands.split_once("cd ../my-host\n").unwrap();
    shell(folder, clone, &format!("set -e\n{first}"))
        .wait()
        .good();
    folder.path().join("my-host")
}

fn until_ready(host: &mut Process) {
    host.until("the host is ready", |host| {
        host.stdout().contains("ready: ").then_some(())
    });
}

/// Runs a block that starts a host in the background, and ends it by its last command. What comes after the start waits
/// until the host is ready, as a reader who types it does.
fn beside_a_host(folder: &Folder, within: &Path, commands: &str) -> Ran {
    let (before, after) = commands.split_once("qchost run").unwrap();
    let within = match before.trim().strip_prefix("cd ") {
        Some(to) => within.join(to),
        None => within.to_owned(),
    };
    let (options, after) = after.split_once('&').unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    let mut host = shell(folder, &within, &format!("exec qchost run{options}"));
    until_ready(&mut host);
    let ran = shell(folder, &within, &format!("set -e\n{after}")).wait();
    ran.good();
    host.wait().good();
    ran
}

#[test]
fn the_operators_guide_begins_like_the_readme() {
    // Once the host is in the path.
    let plain = |document, begins| {
        let commands = built(&commands(document, begins));
        let lines = commands.lines();
        let lines = lines.skip_while(|line| !line.starts_with("qchost init "));
        let lines = lines.map(|line| line.split(" #").next().unwrap().trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    let readme = plain(README, "export PATH=");
    assert!(readme.len() >= 5, "{readme:?}");
    assert_eq!(plain(OPERATING, "make install "), readme);
}

#[test]
fn a_running_host_is_changed_by_the_commands_of_the_guide() {
    let folder = Folder::new("");
    let my_host = my_host(&folder, &clone(&folder));
    let ran = beside_a_host(
        &folder,
        &my_host,
        &commands(OPERATING, "qchost run --log info &"),
    );
    assert!(ran.stdout.contains("strategy-lab"), "{ran:?}");
}

#[test]
fn a_host_is_operated_by_the_commands_of_the_guide() {
    let folder = Folder::new("");
    let my_host = my_host(&folder, &clone(&folder));
    let mut host = shell(&folder, &my_host, "exec qchost run");
    until_ready(&mut host);
    let here = folder.path().to_str().unwrap();
    let mut digest = String::new();
    for line in commands(OPERATING, "qchost approvals list").lines() {
        // Places of the reader's machine.
        let script = line
            .replace("/srv/backups", here)
            .replace("/var/lib/qchost", &format!("{here}/restored"))
            .replace("sha256:…", &digest);
        let ran = shell(&folder, &my_host, &script).wait();
        if let Some(id) = IDS.iter().find(|id| line.contains(**id)) {
            assert!(!ran.status.success(), "{script}: {ran:?}");
            assert!(ran.stderr.contains(id), "{script}: {ran:?}");
        } else {
            assert!(ran.status.success(), "{script}: {ran:?}");
        }
        let mut printed = ran.stdout.lines();
        if let Some(made) = printed.find_map(|line| line.strip_prefix("digest: ")) {
            digest = made.to_owned();
        }
    }
    assert!(!digest.is_empty());
    host.end();
}

#[test]
fn the_first_plugin_of_an_author_is_granted_and_invoked_by_the_guide() {
    let folder = Folder::new("");
    let clone = clone(&folder);
    let my_host = my_host(&folder, &clone);

    // The crate, as the guide writes it.
    let cargo = Path::new(env!("CARGO")).parent().unwrap().display();
    let script = format!("PATH=\"{cargo}:$PATH\"\n{}", commands(SDK, "cargo new "));
    shell(&folder, &clone, &script).wait().good();
    let best_of = folder.path().join("best-of");
    let manifest = block(SDK, "toml", "[package]");
    let source = block(SDK, "rust", "use qchost_sdk::prelude::*;");
    std::fs::write(best_of.join("Cargo.toml"), &manifest).unwrap();
    std::fs::write(best_of.join("src/lib.rs"), &source).unwrap();
    let script = format!("PATH=\"{cargo}:$PATH\"\ncargo metadata --no-deps --offline");
    let ran = shell(&folder, &best_of, &script).wait();
    assert!(ran.good().stdout.contains("cdylib"), "{ran:?}");
    let manifest: toml::Table = manifest.parse().unwrap();
    let sdk = manifest["dependencies"]["qchost-sdk"]["path"].as_str();
    assert!(best_of.join(sdk.unwrap()).join("Cargo.toml").is_file());

    // `make test` built the same source.
    let compiled = std::fs::read_to_string(repository(BEST_OF).join("src/lib.rs")).unwrap();
    assert_eq!(source, compiled, "{SDK} and {BEST_OF} differ");
    std::fs::copy(component(BEST_OF), best_of.join("best_of.wasm")).unwrap();
    let inspect = built(&commands(SDK, "export PATH="));
    let ran = shell(&folder, &clone, &format!("set -e\n{inspect}")).wait();
    assert!(
        ran.good().stdout.contains("\"backtests/list-backtests\""),
        "{ran:?}"
    );

    let granted = block(SDK, "toml", "plugin ");
    std::fs::write(my_host.join("plugins/best-of.toml"), granted).unwrap();
    let ran = beside_a_host(&folder, &clone, &commands(SDK, "cd ../my-host"));
    assert!(ran.stdout.contains("\"sharpe_ratio\""), "{ran:?}");
    assert!(ran.stdout.contains(&PROJECT.to_string()), "{ran:?}");
}

#[test]
fn the_manifest_of_the_operators_guide_is_one_that_a_host_loads() {
    let folder = Folder::embedded("emulator");
    folder.manifest("best-of", &block(OPERATING, "toml", "plugin "));
    let component = component(BEST_OF);
    std::fs::copy(component, folder.path().join("plugins/best_of.wasm")).unwrap();
    let listed = folder.run(&["--json", "plugin", "list"]).json();
    assert_eq!(listed[0]["status"], "ready", "{listed}");
    assert_eq!(listed[0]["actions"], json!(["best"]), "{listed}");
}

#[test]
fn the_seed_of_the_operators_guide_is_what_an_emulator_begins_with() {
    let folder = Folder::new(&format!("{}seed = \"seed.toml\"\n", embedded("emulator")));
    let seed = block(OPERATING, "toml", "[objects]");
    std::fs::write(folder.path().join("seed.toml"), seed).unwrap();
    let listed = folder.call("list_projects", &json!({}));
    let project = &listed["projects"][0];
    assert_eq!(project["name"], "Lab/first", "{listed}");
    let read = json!({ "projectId": project["projectId"], "name": "main.py" });
    let main = folder.call("read_file", &read);
    assert_eq!(
        main["files"][0]["content"],
        "from AlgorithmImports import *"
    );
}

#[test]
fn the_bundled_plugin_is_run_by_the_commands_of_its_guide() {
    let folder = Folder::new("");
    component("plugins/strategy-lab");
    let commands = built(&commands(PLUGINS, "qchost plugin build "));
    let ran = shell(&folder, &repository("."), &format!("set -e\n{commands}")).wait();
    assert!(ran.good().stdout.contains("SHARPE"), "{ran:?}");
}

#[test]
fn a_newcomer_gets_from_a_folder_to_a_backtest_by_the_commands_of_the_guide_to_quantconnect() {
    let folder = Folder::new("");
    let clone = clone(&folder);
    my_host(&folder, &clone);
    component("plugins/quantconnect");
    let commands = built(&commands(QUANTCONNECT, "qchost plugin build "));
    let ran = shell(&folder, &clone, &format!("set -e\n{commands}")).wait();
    assert!(ran.good().stdout.contains("Sharpe Ratio"), "{ran:?}");
    let pulled = folder.path().join("algorithms/research.ipynb");
    assert!(pulled.is_file(), "{ran:?}");
}

#[test]
fn a_newcomer_gets_from_a_project_to_a_walk_forward_by_the_commands_of_the_guide_to_strategy_lab() {
    let folder = Folder::new("");
    let clone = clone(&folder);
    my_host(&folder, &clone);
    let script = format!("set -e\n{}", commands(LAB, "cd ../my-host"));
    let ran = shell(&folder, &clone, &script).wait();
    for part in [
        "\"moving-average-crossover\"",
        "\"sharpe_ratio\"",
        "\"ranking\"",
        "\"deflated_sharpe_ratio\"",
        "\"drift\"",
    ] {
        assert!(ran.good().stdout.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn a_newcomer_gets_from_a_folder_to_two_versions_by_the_commands_of_the_guide_to_data_edge() {
    let folder = Folder::new("");
    let clone = clone(&folder);
    my_host(&folder, &clone);
    component("plugins/data-edge");
    let commands = built(&commands(DATA_EDGE, "qchost plugin build "));
    let ran = shell(&folder, &clone, &format!("set -e\n{commands}")).wait();
    let shown = &ran.good().stdout;
    assert!(shown.contains("by the hours of the market"), "{shown}");
    // The newest version is listed first, with one row more.
    let (_, listed) = shown.rsplit_once("\"sets\"").unwrap();
    let rows = |number: u32| listed.find(&format!("\"rows\": {number}")).unwrap();
    assert!(rows(4) < rows(3), "{shown}");
}

#[test]
fn the_world_of_an_agent_in_another_language_is_one_that_toolchains_read() {
    let folder = Folder::new("");
    let clone = clone(&folder);
    let script = format!("set -e\n{}", commands(WIT, "mkdir -p "));
    shell(&folder, &clone, &script).wait().good();
    let wit = folder.path().join("best-of-js/wit");
    std::fs::write(wit.join("best-of.wit"), block(WIT, "wit", "package ")).unwrap();

    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&wit).unwrap();
    let world = resolve.select_world(&[package], Some("best-of")).unwrap();
    let world = &resolve.worlds[world];
    let names = |key| resolve.name_world_key(key);
    let imports: Vec<String> = world.imports.keys().map(names).collect();
    assert!(
        imports.contains(&"quantconnect:api/backtests@0.1.0".to_owned()),
        "{imports:?}"
    );
    // An interface that the manifest does not grant would keep it from being loaded.
    let ungranted = |name: &&String| name.starts_with("quantconnect:");
    let of_quantconnect: Vec<_> = imports.iter().filter(ungranted).collect();
    assert!(of_quantconnect.len() <= 2, "{imports:?}");
    let exports: Vec<String> = world.exports.keys().map(names).collect();
    assert_eq!(exports, ["qchost:agent/guest@0.1.0"]);
}
