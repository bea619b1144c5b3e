//! The denied twin: a component that imports what its manifest does not grant is not loaded, a call that is
//! not granted is not sent.

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, component};

/// What strategy-lab needs in addition to backtests.
const OTHERS: &str = r#"
[[grant]]
name  = "projects"
allow = ["projects/list-projects", "projects/create-project", "files/read-file", "files/create-file", "files/update-file-contents"]
projects = ["Lab/*"]
[[grant]]
name  = "compiling"
allow = ["compile/*", "workflow", "evidence"]
projects = ["Lab/*"]
[[grant]]
name  = "others"
allow = ["ai/check-syntax", "optimizations/read-optimization"]
projects = ["Lab/*"]
[[grant]]
name  = "reports"
allow = ["object-store/upload-object"]
keys  = ["reports/*"]
organizations = ["*"]
"#;

fn manifest(grants: &str) -> String {
    let component = component("plugins/strategy-lab");
    format!(
        "plugin = \"strategy-lab\"\ncomponent = \"{}\"\naccount = \"research\"\n{OTHERS}\n{grants}",
        component.display()
    )
}

fn backtest() -> Value {
    json!({ "project": "Lab/denied", "name": "twin" })
}

#[test]
fn a_component_that_imports_what_no_grant_mentions_does_not_load_until_the_printed_lines_are_pasted()
 {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &manifest(""));

    let ran = folder.run(&["invoke", "strategy-lab.backtest", &backtest().to_string()]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(
        ran.stderr
            .contains("`strategy-lab` imports backtests, which no grant mentions"),
        "{}",
        ran.stderr
    );
    // The proposed lines are valid TOML.
    let (_, lines) = ran
        .stderr
        .split_once("add to the manifest:\n")
        .unwrap_or_else(|| panic!("{}", ran.stderr));
    let missing: toml::Table = lines
        .parse()
        .unwrap_or_else(|error| panic!("{error}:\n{lines}"));
    // They are those that an inspection prints for this interface.
    let file = component("plugins/strategy-lab");
    let inspected = folder.run(&["--json", "plugin", "inspect", file.to_str().unwrap()]);
    let needs = inspected.json()["needs"].clone();
    let needs = needs.as_array().unwrap().iter();
    let needs = needs.filter(|need| need.as_str().unwrap().starts_with("backtests/"));
    let needs: Vec<&str> = needs.map(|need| need.as_str().unwrap()).collect();
    let allowed = missing["grant"][0]["allow"].as_array().unwrap().iter();
    let allowed: Vec<&str> = allowed.map(|entry| entry.as_str().unwrap()).collect();
    assert_eq!(allowed, needs);
    assert!(!needs.contains(&"backtests/*"), "{needs:?}");
    assert_eq!(cloud.emulator().requests(), [], "something was sent");

    // `plugin list` shows the same, with a count.
    let listed = folder.run(&["--json", "plugin", "list"]);
    assert!(
        listed.json_error().contains("1 of 1 plugin is broken"),
        "{listed:?}"
    );
    let rows: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert!(
        rows[0]["error"]
            .as_str()
            .unwrap()
            .contains("imports backtests"),
        "{rows}"
    );

    // People can paste the lines as they are shown, too.
    for verb in [&["plugin", "list"][..], &["reload"]] {
        let host = (verb == ["reload"]).then(|| folder.serve(&["run"]));
        let ran = folder.run(verb);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert!(!ran.stdout.contains("\\n"), "{ran:?}");
        let (_, shown) = ran.stdout.split_once("add to the manifest:\n").unwrap();
        let shown = shown.lines().take_while(|line| !line.contains("account "));
        let shown = shown.collect::<Vec<_>>().join("\n");
        let shown: toml::Table = shown
            .parse()
            .unwrap_or_else(|error| panic!("{error}:\n{shown}"));
        assert_eq!(shown, missing, "{ran:?}");
        if let Some(host) = host {
            host.terminate();
            host.wait();
        }
    }

    // They cover every project; the operator narrows them.
    let scoped = |projects: &str| {
        let scoped = lines.replace(
            "projects = [\"*\"]",
            &format!("projects = [\"{projects}\"]"),
        );
        assert_ne!(scoped, lines);
        folder.manifest("strategy-lab", &manifest(&scoped));
    };
    scoped("Prod/*");
    let ran = folder.run(&["invoke", "strategy-lab.backtest", &backtest().to_string()]);
    assert!(
        ran.stderr
            .contains("grant `backtests` covers backtests/create-backtest but not the project"),
        "{}",
        ran.stderr
    );
    assert_eq!(cloud.created_backtests(), Vec::<String>::new());
    scoped("Lab/*");
    let summary = folder.invoke("strategy-lab.backtest", &backtest());
    assert!(summary["sharpe_ratio"].is_f64(), "{summary}");
    assert_eq!(cloud.created_backtests(), ["twin"]);
    // Pasted unchanged, they allow the call as well.
    folder.manifest("strategy-lab", &manifest(lines));
    folder.invoke("strategy-lab.backtest", &backtest());
    assert_eq!(cloud.created_backtests(), ["twin", "twin"]);
}

#[test]
fn with_reading_alone_creating_is_denied_and_nothing_is_sent() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let reading =
        "[[grant]]\nname = \"reading\"\nallow = [\"backtests/read-*\"]\nprojects = [\"Lab/*\"]\n";
    folder.manifest("strategy-lab", &manifest(reading));

    let ran = folder.run(&[
        "--json",
        "invoke",
        "strategy-lab.backtest",
        &backtest().to_string(),
    ]);
    let error = ran.json_error();
    assert!(error.contains("denied"), "{error}");
    assert!(
        error.contains("no grant of `strategy-lab` allows `backtests/create-backtest` (write)"),
        "{error}"
    );
    assert!(
        error.contains("= [\"backtests/create-backtest\"]"),
        "{error}"
    );
    assert_eq!(cloud.created_backtests(), Vec::<String>::new());
    // The calls before it were granted and made.
    assert_eq!(cloud.requests_to("/compile/create").len(), 1);

    // The allowed twin differs in one entry.
    let both = "[[grant]]\nname = \"reading\"\nallow = [\"backtests/read-*\", \"backtests/create-backtest\"]\nprojects = [\"Lab/*\"]\n";
    folder.manifest("strategy-lab", &manifest(both));
    let summary = folder.invoke("strategy-lab.backtest", &backtest());
    assert!(summary["sharpe_ratio"].is_f64(), "{summary}");
    assert_eq!(cloud.created_backtests(), ["twin"]);

    // So do the lines that the denial printed, pasted below what there was.
    folder.manifest("strategy-lab", &manifest(&pasted(reading, &error)));
    folder.invoke("strategy-lab.backtest", &backtest());
    assert_eq!(cloud.created_backtests(), ["twin", "twin"]);
}

/// Grants with the lines that a message prints below.
fn pasted(grants: &str, message: &str) -> String {
    let (_, lines) = message
        .split_once("add to the manifest:\n")
        .unwrap_or_else(|| panic!("{message}"));
    format!("{grants}\n{lines}\n")
}

#[test]
fn the_lines_that_an_explanation_prints_allow_what_it_is_about() {
    let folder = Folder::embedded("emulator");
    let reading =
        "[[grant]]\nname = \"reading\"\nallow = [\"backtests/read-*\"]\nprojects = [\"Lab/*\"]\n";
    let explain = || {
        let ran = folder.run(&[
            "policy",
            "explain",
            "strategy-lab",
            "backtests/list-backtests",
            "{\"projectId\": 1}",
            "--project",
            "Lab/denied",
        ]);
        ran.good().stdout.clone()
    };
    folder.manifest("strategy-lab", &manifest(reading));
    let denied = explain();
    assert!(denied.starts_with("denied\n"), "{denied}");
    assert_eq!(denied.matches("denied\n").count(), 1, "{denied}");
    assert!(!denied.contains("denied: "), "{denied}");
    folder.manifest("strategy-lab", &manifest(&pasted(reading, &denied)));
    let allowed = explain();
    assert!(allowed.starts_with("allowed"), "{allowed}");
}
