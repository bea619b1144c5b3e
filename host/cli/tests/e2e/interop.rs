//! QuantConnect's own MCP server between the host and the REST API, over standard input and output and over HTTP.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use qchost_emulator::{Fault, FaultKind, Timing};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::categories::PAPER;
use crate::cloud::Cloud;
use crate::common::{ALGORITHM, Folder, TOKEN, USER, embedded, repository, strategy_lab};
use crate::process::{Process, Ran, command_line, signal, tree};
use crate::ways;

const SCRIPT: &str = "host/cli/tests/setup/official_server.py";

/// The Python interpreter of the environment in which the official server is installed.
fn python() -> String {
    let root = repository(".");
    let path = root.join(".venv/official/bin/python");
    assert!(
        path.exists(),
        "{} is missing; run: make setup-test",
        path.display()
    );
    path.display().to_string()
}

/// The lines of an account that leads to the official server as a child of the host.
pub fn stdio(cloud: &str) -> String {
    format!(
        "[account.research]\nconnection = \"stdio\"\ncommand = \"{}\"\nargs = [\"{}\", \"--base\", \"{cloud}\", \"--transport\", \"stdio\"]\n",
        python(),
        repository(SCRIPT).display()
    )
}

/// The lines of an account that leads to a server over HTTP.
pub fn http(url: &str) -> String {
    format!("[account.research]\nconnection = \"http\"\nurl = \"{url}\"\n")
}

/// The official server, serving HTTP, and its address. With port 0 the system chooses one.
pub fn http_server(cloud: &str, port: u16, folder: &std::path::Path) -> (Process, u16) {
    let mut command = Command::new(python());
    command
        .arg(repository(SCRIPT))
        .args([
            "--base",
            cloud,
            "--transport",
            "http",
            "--port",
            &port.to_string(),
        ])
        .current_dir(folder)
        .env("QUANTCONNECT_USER_ID", USER.to_string())
        .env("QUANTCONNECT_API_TOKEN", TOKEN);
    let mut server = Process::start(command, folder);
    let port = server.until("the official server listens", |server| {
        let text = server.stderr();
        let (_, after) = text.split_once("Uvicorn running on http://127.0.0.1:")?;
        after
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    });
    (server, port)
}

pub fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}/mcp")
}

fn sweep() -> Value {
    json!({ "project": "Lab/interop", "grid": { "fast": [10, 20, 30], "slow": [60, 100, 150] } })
}

/// The ranking without the ids that each cloud gives.
fn ranking(result: &Value) -> Vec<Value> {
    assert_eq!(result["failures"], json!([]), "{result}");
    let mut rows = result["ranking"].as_array().unwrap().clone();
    for row in &mut rows {
        row.as_object_mut().unwrap().remove("backtest_id");
    }
    assert_eq!(rows.len(), 9, "{result}");
    rows
}

fn folder(account: &str) -> Folder {
    let folder = Folder::new(account);
    folder.manifest("strategy-lab", &strategy_lab());
    folder
}

#[test]
fn a_sweep_gives_the_same_ranking_over_every_connection() {
    let cloud = Cloud::start();
    let embedded = folder(&crate::common::embedded(cloud.url()));
    let expected = ranking(&embedded.invoke("strategy-lab.sweep", &sweep()));

    let cloud = Cloud::start();
    let child = folder(&stdio(cloud.url()));
    assert_eq!(
        ranking(&child.invoke("strategy-lab.sweep", &sweep())),
        expected
    );
    assert_eq!(cloud.requests_to("/backtests/create").len(), 9);

    let cloud = Cloud::start();
    let own = folder(&crate::common::served(cloud.url()));
    assert_eq!(
        ranking(&own.invoke("strategy-lab.sweep", &sweep())),
        expected
    );
    assert_eq!(cloud.requests_to("/backtests/create").len(), 9);

    let cloud = Cloud::start();
    let remote = Folder::new("");
    let (_server, port) = http_server(cloud.url(), 0, remote.path());
    let remote = folder(&http(&address(port)));
    assert_eq!(
        ranking(&remote.invoke("strategy-lab.sweep", &sweep())),
        expected
    );
    assert_eq!(cloud.requests_to("/backtests/create").len(), 9);

    // With QuantConnect's remote server beside it, nothing of it goes there.
    let cloud = ways::cloud();
    let account = crate::common::embedded(cloud.url()) + &ways::remote(&cloud);
    let mixed = ways::folder(&cloud, &account);
    mixed.manifest("strategy-lab", &strategy_lab());
    assert_eq!(
        ranking(&mixed.invoke("strategy-lab.sweep", &sweep())),
        expected
    );
    assert_eq!(cloud.requests_to("/backtests/create").len(), 9);
    let requests = cloud.emulator().requests();
    let mut paths = requests.iter().map(|request| &request.path);
    assert!(paths.all(|path| !path.starts_with("/mcp/")));
}

/// Calls the five tools whose names the remote server has with another meaning, and checks that each does what it does by
/// the REST API.
/// `is_official`: the server's model of an optimisation has no place for the points of a curve, so that it refuses the answer.
fn call_shared_names(cloud: &Cloud, folder: &Folder, is_official: bool) {
    let host = folder.serve(&["run"]);
    let project = json!({ "name": "Lab/names", "language": "Py" });
    let project = folder.call("create_project", &project)["projects"][0]["projectId"].clone();
    let source = json!({ "projectId": project, "name": "main.py", "content": ALGORITHM });
    folder.call("update_file_contents", &source);

    // A file that is there is not replaced.
    let file =
        |content: &str| json!({ "projectId": project, "name": "signals.py", "content": content });
    folder.call("create_file", &file("x = 1\n"));
    let again = file("x = 2\n").to_string();
    let again = folder.run(&["--json", "call", "create_file", &again]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let name = json!({ "projectId": project, "name": "signals.py" });
    let kept = folder.call("read_file", &name);
    assert_eq!(kept["files"][0]["content"], "x = 1\n", "{kept:#}");

    // What runs is the compile that is named, and not what the project has by now.
    let compile = folder.compile(&project);
    let [first, second] = ["first", "second"].map(|name| {
        // The official server refuses the empty list that QuantConnect answers in place of no parameters.
        let backtest = json!({
            "projectId": project, "compileId": compile, "backtestName": name, "parameters": { "fast": 5 },
        });
        let made = folder.call("create_backtest", &backtest);
        made["backtest"]["backtestId"].clone()
    });
    for request in cloud.requests_to("/backtests/create") {
        assert_eq!(request.body["compileId"], compile, "{request:?}");
    }

    // The backtest that is named is renamed, and not the latest.
    let renamed = json!({ "projectId": project, "backtestId": first, "name": "renamed" });
    folder.call("update_backtest", &renamed);
    for (backtest, name) in [(&first, "renamed"), (&second, "second")] {
        let read = json!({ "projectId": project, "backtestId": backtest });
        let read = folder.call("read_backtest", &read);
        assert_eq!(read["backtest"]["name"], name, "{backtest}");
    }

    // An optimisation is read as a table, and not as prose.
    let optimization = json!({
        "projectId": project, "name": "grid", "target": "TotalPerformance.PortfolioStatistics.SharpeRatio",
        "targetTo": "max", "strategy": "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy",
        "compileId": compile, "parameters": [{ "name": "fast", "min": 5, "max": 10, "step": 5 }],
        "estimatedCost": 1, "nodeType": "O2-8", "parallelNodes": 1,
    });
    let made = folder.call("create_optimization", &optimization);
    let id = json!({ "optimizationId": made["optimizations"][0]["optimizationId"] });
    let ran = folder.run(&["call", "read_optimization", &id.to_string()]);
    for request in cloud.requests_to("/optimizations/read") {
        assert_eq!(
            request.body["optimizationId"], id["optimizationId"],
            "{request:?}"
        );
    }
    if is_official {
        let is_as_told = ran.status.success() || ran.error().contains(".equity.0.0");
        assert!(is_as_told, "{ran:?}");
    } else {
        let read = &ran.json()["optimization"];
        assert_eq!(read["optimizationId"], id["optimizationId"], "{read:#}");
        assert_eq!(read["parameters"][0]["name"], "fast", "{read:#}");
    }

    // What is deployed goes to the node and the brokerage that are named.
    let nodes = folder.call("read_project_nodes", &json!({ "projectId": project }));
    let deployment = json!({
        "versionId": "-1", "projectId": project, "compileId": compile,
        "nodeId": nodes["nodes"]["live"][0]["id"], "brokerage": "paper",
    });
    let launched = folder.call("create_live_algorithm", &deployment);
    assert!(launched["deployId"].is_string(), "{launched:#}");
    let sent = cloud.requests_to("/live/create");
    assert_eq!(sent[0].body["nodeId"], deployment["nodeId"]);
    assert_eq!(sent[0].body["brokerage"]["id"], "QuantConnectBrokerage");

    let sent = |path: &str| cloud.requests_to(path).len();
    for (path, times) in [
        ("/files/create", 2),
        ("/backtests/create", 2),
        ("/backtests/update", 1),
        ("/optimizations/create", 1),
        ("/live/create", 1),
    ] {
        assert_eq!(sent(path), times, "{path}");
    }
    assert!(sent("/optimizations/read") >= 1);
    // The remote server got none of them.
    for name in [
        "create_file",
        "create_backtest",
        "update_backtest",
        "read_optimization",
        "create_live_algorithm",
    ] {
        assert_eq!(sent(&format!("/mcp/{name}")), 0, "{name}");
    }
    host.end();
}

#[test]
fn shared_names_do_the_same_on_each_account_that_has_the_rest_api() {
    let cloud = Cloud::start();
    let official = Folder::new(&(stdio(cloud.url()) + PAPER));
    call_shared_names(&cloud, &official, true);

    let cloud = Cloud::start();
    let rest = Folder::new(&(embedded(cloud.url()) + PAPER));
    call_shared_names(&cloud, &rest, false);

    let cloud = ways::cloud();
    let account = embedded(cloud.url()) + &ways::remote(&cloud) + PAPER;
    let mixed = ways::folder(&cloud, &account);
    call_shared_names(&cloud, &mixed, false);
}

/// Takes long enough to be killed in the middle.
fn slow_cloud() -> Cloud {
    Cloud::with(|builder| {
        builder.backtest_nodes(2).timing(Timing {
            backtest: Duration::from_millis(700),
            ..Timing::default().faster(10)
        })
    })
}

/// How many backtests ended, as the sweep itself reports it.
fn ended(sweep: &Process) -> usize {
    let text = sweep.stderr();
    let reports = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let messages =
        reports.filter_map(|report| report["progress"]["message"].as_str().map(str::to_owned));
    let counts =
        messages.filter_map(|message| message.split_once(" of 9 backtests ended")?.0.parse().ok());
    counts.max().unwrap_or(0)
}

fn start_sweep(folder: &Folder) -> Process {
    folder.start(&[
        "--json",
        "invoke",
        "strategy-lab.sweep",
        &sweep().to_string(),
    ])
}

/// No finished result is lost, each missing one has the right error, and nothing was sent twice.
fn judge(ran: &Ran, ended_before: usize, cloud: &Cloud) {
    let result = ran.json();
    let (ranking, failures) = (
        result["ranking"].as_array().unwrap(),
        result["failures"].as_array().unwrap(),
    );
    assert_eq!(ranking.len() + failures.len(), 9, "{result:#}");
    assert!(
        ranking.len() >= ended_before,
        "{ended_before} had ended: {result:#}"
    );
    for failure in failures {
        let reason = failure["reason"].as_str().unwrap();
        assert!(reason.starts_with("unknown outcome: "), "{result:#}");
    }
    let names = cloud.created_backtests();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(
        distinct.len(),
        names.len(),
        "a backtest was created twice: {names:?}"
    );
}

/// Kills the official servers that descend from a process.
fn kill_servers(host: &Process) {
    let servers: Vec<u32> = tree(host.id())
        .into_iter()
        .filter(|process| command_line(*process).contains("official_server.py"))
        .collect();
    assert!(!servers.is_empty(), "the host has no child");
    for server in &servers {
        signal(*server, Signal::KILL);
    }
}

#[test]
fn killing_the_child_in_mid_sweep_loses_no_finished_result() {
    let cloud = slow_cloud();
    let folder = folder(&stdio(cloud.url()));
    let mut sweep = start_sweep(&folder);
    let before = sweep.until("some backtests ended", |sweep| {
        Some(ended(sweep)).filter(|count| *count >= 2)
    });
    kill_servers(&sweep);
    let ran = sweep.wait();
    judge(&ran, before, &cloud);
}

#[test]
fn a_creation_under_way_when_the_child_is_killed_is_unknown_and_never_repeated() {
    let cloud = slow_cloud();
    // The first four are created at once; then each takes long enough for the server to be killed meanwhile.
    let slow = FaultKind::Latency(Duration::from_secs(2));
    cloud
        .emulator()
        .set_faults(vec![Fault::at("/backtests/create", slow).after(4)]);
    let folder = folder(&stdio(cloud.url()));
    let mut sweep = start_sweep(&folder);
    sweep.until("a slow creation is under way", |_| {
        let requests = cloud.requests_to("/backtests/create");
        requests
            .iter()
            .skip(4)
            .any(|request| request.status.is_none())
            .then_some(())
    });
    kill_servers(&sweep);
    let ran = sweep.wait();
    judge(&ran, 0, &cloud);
    let failures = ran.json()["failures"].as_array().unwrap().len();
    assert!(failures > 0, "nothing was unknown: {ran:?}");
}

#[test]
fn killing_and_restarting_the_http_server_in_mid_sweep_loses_no_finished_result() {
    let cloud = slow_cloud();
    let outside = Folder::new("");
    let (server, port) = http_server(cloud.url(), 0, outside.path());
    let folder = folder(&http(&address(port)));
    let mut sweep = start_sweep(&folder);
    let before = sweep.until("some backtests ended", |sweep| {
        Some(ended(sweep)).filter(|count| *count >= 2)
    });
    drop(server);
    let (_server, again) = http_server(cloud.url(), port, outside.path());
    assert_eq!(again, port);
    let ran = sweep.wait();
    judge(&ran, before, &cloud);
}

#[test]
fn doctor_asks_through_the_server_whether_the_token_is_good() {
    let cloud = Cloud::start();
    let folder = folder(&stdio(cloud.url()));
    let finding = |ran: &Ran| {
        let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
        let mut checks = checks.as_array().unwrap().iter();
        let what = "account research: authentication";
        checks.find(|check| check["what"] == what).unwrap().clone()
    };
    let ran = folder.run(&["--json", "doctor"]);
    assert_eq!(finding(&ran)["mark"], "ok", "{ran:?}");

    let mut command = folder.command(&["--json", "doctor"]);
    command.env("QUANTCONNECT_API_TOKEN", "another-token");
    let ran = Process::start(command, folder.path()).wait();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let failed = finding(&ran);
    assert_eq!(failed["mark"], "failed", "{failed}");
    assert!(
        failed["fix"].as_str().unwrap().contains("API token"),
        "{failed}"
    );
}
