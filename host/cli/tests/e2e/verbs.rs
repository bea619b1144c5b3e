//! The verbs besides `run`: what they show, with and without `--json`, and how they fail.

use qchost_testing::Guest;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{
    ALGORITHM, Folder, TOKEN, TRADE, component, embedded, repository, strategy_lab, unpinned,
    wait_for_file,
};
use crate::process::Process;
use crate::restarts::entries;

#[test]
fn in_production_a_plugin_that_may_trade_is_pinned() {
    let folder = unpinned();
    let ran = folder.run(&["invoke", "strategy-lab.compile", "{\"source\": \"x = 1\"}"]);
    let error = ran.error();
    assert!(
        error.starts_with("plugins/strategy-lab.toml: digest: ")
            && error.contains("`live/create-live-algorithm`"),
        "{error}"
    );

    // The allowed twins: with its digest, or without the trade.
    let file = component("plugins/strategy-lab");
    let found = folder
        .run(&["--json", "plugin", "inspect", file.to_str().unwrap()])
        .json();
    let digest = found["digest"].as_str().unwrap();
    folder.manifest(
        "strategy-lab",
        &format!("digest = \"{digest}\"\n{}\n{TRADE}", strategy_lab()),
    );
    folder.invoke("strategy-lab.compile", &json!({ "source": ALGORITHM }));
    folder.manifest("strategy-lab", &strategy_lab());
    folder.invoke("strategy-lab.compile", &json!({ "source": ALGORITHM }));
}

#[test]
fn what_was_compiled_for_one_look_is_not_compiled_again() {
    let folder = Folder::apart(&embedded("emulator"));
    let file = folder.path().join("echo.wasm");
    std::fs::write(&file, Guest::echo().build()).unwrap();
    let file = file.to_str().unwrap();
    for first in [["plugin", "inspect", file].as_slice(), &["validate", file]] {
        folder.run(first).good();
        // Compiled code gets another inode whenever it is written.
        let code = entries(&folder);
        assert!(code.len() >= 2, "its code and its description: {code:?}");
        folder.run(&["plugin", "inspect", file]).good();
        folder.run(&["validate", file]).good();
        assert_eq!(entries(&folder), code, "it compiled again");
        // Nor is it for the host.
        folder.manifest(
            "echo",
            &format!("plugin = \"echo\"\ncomponent = \"{file}\"\naccount = \"research\"\n"),
        );
        let listed = folder.run(&["--json", "plugin", "list"]).json();
        assert_eq!(listed[0]["status"], "ready", "{listed}");
        assert_eq!(entries(&folder), code, "the host compiled again");
        std::fs::remove_dir_all(folder.path().join("data/cache")).unwrap();
    }
}

#[test]
fn a_look_needs_no_cache_and_makes_no_folder_of_a_host() {
    let folder = Folder::apart(&embedded("emulator"));
    let file = folder.path().join("echo.wasm");
    std::fs::write(&file, Guest::echo().build()).unwrap();
    let file = file.to_str().unwrap();
    let data = folder.path().join("data");
    // The cache cannot be made, and then there is no data folder.
    std::fs::write(data.join("cache"), "").unwrap();
    for _ in 0..2 {
        for look in [["plugin", "inspect", file].as_slice(), &["validate", file]] {
            let ran = folder.run(look);
            assert_eq!(ran.good().stderr, "", "{ran:?}");
        }
        drop(std::fs::remove_dir_all(&data));
    }
    assert!(!data.exists());
}

#[test]
fn list_and_inspect_show_what_a_plugin_is() {
    let folder = Folder::embedded("emulator");
    folder.manifest("strategy-lab", &strategy_lab());
    let file = component("plugins/strategy-lab");

    let listed = folder.run(&["--json", "plugin", "list"]).json();
    assert_eq!(listed[0]["plugin"], "strategy-lab");
    assert_eq!(
        listed[0]["actions"],
        json!([
            "sweep",
            "compile",
            "backtest",
            "robustness",
            "compare",
            "report",
            "create-project",
            "copy-project",
            "archive-project",
            "logs",
            "orders",
            "trades",
            "check",
            "search",
            "walk-forward",
            "optimize",
        ]),
        "{listed}"
    );
    let text = folder.run(&["plugin", "list"]);
    assert!(
        text.good().stdout.contains("strategy-lab") && text.stdout.contains("ready"),
        "{text:?}"
    );

    let found = folder
        .run(&["--json", "plugin", "inspect", file.to_str().unwrap()])
        .json();
    assert!(
        found["digest"].as_str().unwrap().starts_with("sha256:"),
        "{found}"
    );
    assert_eq!(found["size"], std::fs::metadata(&file).unwrap().len());
    assert_eq!(found["description"]["name"], "strategy-lab");
    let sweep = &found["description"]["actions"][0];
    assert_eq!(sweep["name"], "sweep");
    assert!(sweep.to_string().contains("\"grid\""), "{sweep}");
    let imports: Vec<_> = found["imports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert!(
        imports.contains(&"quantconnect:api/backtests@0.1.0"),
        "{imports:?}"
    );
    // The grants that it lists as needed are enough to load it.
    let needs = &found["needs"];
    assert!(
        needs.as_array().unwrap().contains(&json!("workflow")),
        "{needs}"
    );
    let manifest = format!(
        "plugin = \"strategy-lab\"\ncomponent = \"{}\"\naccount = \"research\"\n[[grant]]\nname = \"all\"\nallow = {needs}\n",
        file.display()
    );
    folder.manifest("strategy-lab", &manifest);
    assert_eq!(
        folder.run(&["--json", "plugin", "list"]).json()[0]["status"],
        "ready"
    );
    let text = folder.run(&["plugin", "inspect", file.to_str().unwrap()]);
    for words in [
        "strategy-lab",
        "sha256:",
        "sweep",
        "quantconnect:api/backtests",
        "[[grant]]",
    ] {
        assert!(
            text.good().stdout.contains(words),
            "{words}: {}",
            text.stdout
        );
    }
}

#[test]
fn validate_checks_every_file_and_fails_for_one_bad() {
    let folder = Folder::embedded("emulator");
    let good = folder.manifest("strategy-lab", &strategy_lab());
    let bad = folder.manifest("bad", "plugin = \"bad\"\n");
    let file = component("plugins/strategy-lab");
    let files = [folder.path().join("qchost.toml"), good.clone(), file];
    let files: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let verdicts = folder
        .run(&[&["--json", "validate"], &files[..]].concat())
        .json();
    let kinds: Vec<_> = verdicts
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["configuration", "manifest", "component"],
        "{verdicts}"
    );

    let ran = folder.run(&["validate", good.to_str().unwrap(), bad.to_str().unwrap()]);
    assert!(
        ran.error().contains("1 of 2 files are not valid"),
        "{}",
        ran.error()
    );
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(
        lines[0].starts_with("ok ")
            && lines[1].starts_with("FAILED ")
            && lines[1].contains("component"),
        "{lines:?}"
    );
}

/// The checks of `doctor`, by the ends of their names.
fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let found = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["what"].as_str().unwrap().ends_with(name));
    found.unwrap_or_else(|| panic!("no check of {name}: {checks:#}"))
}

#[test]
fn doctor_finds_what_works_and_for_what_does_not_cause_and_fix() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    let checks = folder.run(&["--json", "doctor"]).json();
    for name in [
        "version",
        "configuration",
        "data folder",
        "data: disk space",
        "data: inodes",
        "open files",
        "running host",
        "cache",
        "plugin strategy-lab",
        "authentication",
        "clock",
        "rate limit",
        "connection",
    ] {
        assert_eq!(check(&checks, name)["mark"], "ok", "{name}: {checks:#}");
    }
    let text = folder.run(&["doctor"]);
    assert!(
        text.good().stdout.contains("authentication") && !text.stdout.contains("FAILED"),
        "{}",
        text.stdout
    );

    // A wrong token: the cloud refuses it, and the fix names the page that has the right one.
    let mut command = folder.command(&["--json", "doctor"]);
    command.env("QUANTCONNECT_API_TOKEN", "another-token");
    let ran = Process::start(command, folder.path()).wait();
    assert!(ran.json_error().contains("checks failed"), "{ran:?}");
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
    let failed = check(&checks, "authentication");
    assert_eq!(failed["mark"], "failed");
    assert!(
        failed["finding"]
            .as_str()
            .unwrap()
            .contains("Hash doesn't match"),
        "{failed}"
    );
    assert!(
        failed["fix"].as_str().unwrap().contains("API token"),
        "{failed}"
    );
    assert!(!ran.stdout.contains("another-token") && !ran.stdout.contains(TOKEN));

    // No token at all.
    let mut command = folder.command(&["doctor"]);
    command.env_remove("QUANTCONNECT_API_TOKEN");
    let ran = Process::start(command, folder.path()).wait();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(
        ran.stdout.contains("QUANTCONNECT_API_TOKEN"),
        "{}",
        ran.stdout
    );

    // No listener: the port was bound and closed again.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = Folder::embedded(&format!("http://{free}/api/v2"));
    let ran = gone.run(&["--json", "doctor"]);
    assert!(ran.json_error().contains("checks failed"), "{ran:?}");
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
    let failed = check(&checks, "cloud");
    assert_eq!(failed["mark"], "failed");
    assert!(
        failed["fix"].as_str().unwrap().contains("network"),
        "{failed}"
    );

    // A broken manifest and a broken configuration are findings like any other.
    folder.manifest("broken", "plugin = 7\n");
    let ran = folder.run(&["--json", "doctor"]);
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        check(&checks, "broken.toml")["mark"],
        "failed",
        "{checks:#}"
    );
    std::fs::write(folder.path().join("qchost.toml"), "modus = 1\n").unwrap();
    let ran = folder.run(&["--json", "doctor"]);
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(
        check(&checks, "configuration")["fix"]
            .as_str()
            .unwrap()
            .contains("qchost init"),
        "{checks:#}"
    );
}

#[test]
fn init_writes_what_doctor_accepts_and_never_over_a_file() {
    let folder = Folder::new("");
    folder.run(&["init", "fresh"]).good();
    let fresh = folder.path().join("fresh");
    for file in ["qchost.toml", "plugins/strategy-lab.toml"] {
        wait_for_file(&fresh.join(file));
    }
    std::fs::copy(
        component("plugins/strategy-lab"),
        fresh.join("plugins/strategy_lab.wasm"),
    )
    .unwrap();
    let config = fresh.join("qchost.toml");
    let config = config.to_str().unwrap();
    let mut command = folder.command(&["--json", "--config", config, "doctor"]);
    command.env("XDG_STATE_HOME", folder.path().join("state"));
    let checks = Process::start(command, folder.path()).wait().json();
    assert!(
        checks
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["mark"] == "ok"
                || (check["what"] == "time source" && check["mark"] == "unknown")),
        "{checks:#}"
    );

    std::fs::write(config, "# mine\n").unwrap();
    let ran = folder.run(&["--json", "init", "fresh"]);
    assert!(
        ran.json_error()
            .contains("exists already; nothing was written"),
        "{ran:?}"
    );
    assert_eq!(std::fs::read_to_string(config).unwrap(), "# mine\n");

    // Nor through a link that leads nowhere.
    let (linked, target) = (folder.path().join("linked"), folder.path().join("target"));
    std::fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink(&target, linked.join("qchost.toml")).unwrap();
    let ran = folder.run(&["init", "linked"]);
    assert!(ran.error().contains("exists already"), "{ran:?}");
    assert!(!target.exists());
}

/// Every verb that help lists, in its order.
pub fn all(folder: &Folder) -> Vec<Vec<String>> {
    let verbs = |of: &[&str]| -> Vec<String> {
        let text = folder
            .run(&[of, &["--help"]].concat())
            .good()
            .stdout
            .clone();
        let (_, commands) = text
            .split_once("Commands:\n")
            .unwrap_or_else(|| panic!("{text}"));
        let commands = commands.lines().take_while(|line| !line.is_empty());
        let names = commands.filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))
        });
        let names = names.filter_map(|line| line.split_whitespace().next());
        names
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect()
    };
    let mut all: Vec<Vec<String>> = Vec::new();
    for verb in verbs(&[]) {
        let has_verbs = [
            "plugin",
            "account",
            "approvals",
            "audit",
            "policy",
            "schema",
            "emulator",
        ];
        let has_verbs = has_verbs.contains(&verb.as_str());
        if !has_verbs || verb == "emulator" {
            all.push(vec![verb.clone()]);
        }
        if has_verbs {
            let inner = verbs(&[&verb]).into_iter();
            all.extend(inner.map(|name| vec![verb.clone(), name]));
        }
    }
    all
}

#[test]
fn every_verb_has_an_example_in_its_help() {
    let folder = Folder::new("");
    let all = all(&folder);
    assert!(all.len() >= 31, "{all:?}");
    for verb in all {
        let mut arguments: Vec<&str> = verb.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = folder.run(&arguments).good().stdout.clone();
        let (_, example) = help
            .split_once("Example")
            .unwrap_or_else(|| panic!("{verb:?} has no example: {help}"));
        assert!(
            example.contains(&format!("qchost {}", verb.join(" "))),
            "{verb:?}: {help}"
        );
    }
}

#[test]
fn the_emulator_serves_until_sigterm() {
    let folder = Folder::new("");
    let mut command = folder.command(&[
        "--json",
        "--data",
        "nowhere",
        "emulator",
        "--listen",
        "127.0.0.1:0",
        "--user-id",
        "7",
    ]);
    command.env("QCHOST_EMULATOR_TOKEN", "a-token-of-the-test");
    let mut emulator = Process::start(command, folder.path());
    let ready: Value = emulator.until("the emulator is ready", |emulator| {
        serde_json::from_str(&emulator.stdout()).ok()
    });
    let client = Folder::embedded(ready["base-url"].as_str().unwrap());
    let read = |token: &str| {
        let mut command = client.command(&["--json", "call", "read_account"]);
        command
            .env("QUANTCONNECT_USER_ID", "7")
            .env("QUANTCONNECT_API_TOKEN", token);
        Process::start(command, client.path()).wait()
    };
    assert_eq!(
        read("a-token-of-the-test").json()["organizationId"],
        ready["organization-id"]
    );
    assert!(read("another").json_error().contains("Hash doesn't match"));
    assert_eq!(ready.get("remote-url"), None);
    // A token that is not known to everyone is not shown.
    assert_eq!(ready.get("api-token"), None);
    assert!(!emulator.stdout().contains("a-token-of-the-test"));
    emulator.end();

    let ran = folder.run(&["emulator", "--listen", "0.0.0.0:0"]);
    assert!(ran.error().contains("loopback"), "{}", ran.error());
}

#[test]
fn the_emulator_says_its_token_and_two_users_have_two_organizations() {
    let folder = Folder::new("");
    let organization = |user: &str| {
        let arguments = ["--json", "emulator", "--listen", "127.0.0.1:0", "--user-id"];
        let arguments = [arguments.as_slice(), &[user]].concat();
        let mut command = folder.command(&arguments);
        command.env_remove("QCHOST_EMULATOR_TOKEN");
        let mut emulator = Process::start(command, folder.path());
        let ready: Value = emulator.until("the emulator is ready", |emulator| {
            serde_json::from_str(&emulator.stdout()).ok()
        });
        // The token that is said is the one that is taken.
        let client = Folder::embedded(ready["base-url"].as_str().unwrap());
        let mut command = client.command(&["--json", "call", "read_account"]);
        command.env("QUANTCONNECT_USER_ID", user).env(
            "QUANTCONNECT_API_TOKEN",
            ready["api-token"].as_str().unwrap(),
        );
        let account = Process::start(command, client.path()).wait().json();
        assert_eq!(account["organizationId"], ready["organization-id"]);
        emulator.end();
        account["organizationId"].as_str().unwrap().to_owned()
    };
    assert_ne!(organization("1"), organization("2"));
}

#[test]
fn the_emulator_says_where_its_remote_server_is_which_wants_a_token() {
    let folder = Folder::new("");
    let mut emulator = folder.start(&["--json", "emulator", "--listen", "127.0.0.1:0", "--remote"]);
    let ready: Value = emulator.until("the emulator is ready", |emulator| {
        serde_json::from_str(&emulator.stdout()).ok()
    });
    let url = ready["remote-url"].as_str().unwrap();
    let base = ready["base-url"].as_str().unwrap();
    assert_eq!(url, format!("{base}/mcp"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let status = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        client.post(url).json(&list).send().await.unwrap().status()
    });
    assert_eq!(status, 401);
    emulator.end();
}

#[test]
fn a_folder_that_is_no_plugin_is_not_built() {
    let folder = Folder::new("");
    let ran = folder.run(&["plugin", "build", "."]);
    assert!(ran.error().contains("has no Cargo.toml"), "{}", ran.error());
    let workspace = repository(".");
    let ran = folder.run(&[
        "--json",
        "plugin",
        "inspect",
        workspace.join("Cargo.toml").to_str().unwrap(),
    ]);
    assert!(ran.json_error().contains("Cargo.toml"), "{ran:?}");
}

#[test]
fn a_component_takes_the_place_of_a_file_alone() {
    let folder = Folder::new("");
    let plugin = repository("plugins/strategy-lab");
    // Nor does it change that of a device, such as `/dev/null`.
    let ran = folder.run(&["plugin", "build", plugin.to_str().unwrap(), "--output", "."]);
    let said = ran.error();
    assert!(said.contains("`.` is no regular file"), "{said}");
}

#[test]
fn a_component_is_inspected_by_its_file_or_by_the_name_of_its_plugin() {
    let folder =
        Folder::new("[account.research]\nconnection = \"embedded\"\ncloud = \"emulator\"\n");
    folder.manifest("strategy-lab", &strategy_lab());
    let file = component("plugins/strategy-lab");
    let inspect = |what: &str| folder.run(&["plugin", "inspect", what]);
    let by_file = inspect(file.to_str().unwrap());
    assert_eq!(inspect("strategy-lab").good().stdout, by_file.good().stdout);
    let ran = inspect("strategy-lib");
    let error = ran.error();
    assert!(
        error.contains("no file strategy-lib here") && error.contains("there are: strategy-lab"),
        "{error}"
    );
}
