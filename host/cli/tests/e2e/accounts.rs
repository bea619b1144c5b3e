//! Accounts: what is kept of their answers and counted, several endpoints of one, and several of them side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{ALGORITHM, Folder, USER, embedded, private_file};
use crate::printed::shell;
use crate::process::{Process, Ran, wait_until};

/// The records of the audit that a query finds, the oldest first.
fn records(ran: &Ran) -> Vec<Value> {
    let lines = ran.good().stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The row of an account, whatever its state.
fn status(folder: &Folder, account: &str) -> Value {
    let ran = folder.run(&["--json", "account", "status", account]);
    let rows: Value = serde_json::from_str(&ran.stdout).unwrap();
    rows[0].clone()
}

#[test]
fn a_kept_answer_is_decided_and_recorded_like_one_that_was_sent() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let _host = folder.serve(&["run"]);
    let first = folder.call("read_lean_versions", &json!({}));
    for _ in 0..2 {
        assert_eq!(folder.call("read_lean_versions", &json!({})), first);
    }
    assert_eq!(cloud.requests_to("/lean/versions/read").len(), 1);
    let query = folder.run(&[
        "--json",
        "audit",
        "query",
        "--oldest-first",
        "--operation",
        "lean-versions/read-lean-versions",
    ]);
    let records = records(&query);
    assert_eq!(records.len(), 3);
    assert_eq!(records[0]["sends"], 1);
    assert_eq!(records[0].get("cached-ms"), None);
    for kept in &records[1..] {
        assert_eq!(kept["sends"], 0);
        assert!(kept["cached-ms"].is_u64(), "{kept:#}");
        // Everything else is the same.
        for same in [
            "kind",
            "decision",
            "grants",
            "outcome",
            "arguments",
            "manifest",
            "response-hash",
        ] {
            assert_eq!(kept.get(same), records[0].get(same), "{same}");
        }
        let call = kept["call"].as_str().unwrap();
        let why = folder.run(&["audit", "why", call]);
        assert!(why.good().stdout.contains("from the cache"), "{why:?}");
    }
    let row = status(&folder, "research");
    let figures = &row["figures"]["since-start"];
    assert_eq!(
        (&figures["hits"], &figures["saved"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(figures["error-rate"], 0.0);
    assert!(figures["p99-ms"].as_f64().unwrap() > 0.0);
    assert_eq!(row["figures"]["last-hour"]["hits"], 2);
    let shown = folder.run(&["account", "status"]);
    let shown = &shown.good().stdout;
    assert!(shown.contains("2 answered from the cache"), "{shown}");
}

#[test]
fn the_share_of_backtests_and_optimisations_that_completed_is_shown() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let _host = folder.serve(&["run"]);
    let project = json!({ "name": "Lab/shares", "language": "Py" });
    let project = folder.call("create_project", &project)["projects"][0]["projectId"].clone();
    let source = json!({ "projectId": project, "name": "main.py", "content": ALGORITHM });
    folder.call("update_file_contents", &source);
    let compile = folder.compile(&project);

    let backtest = json!({ "projectId": project, "compileId": compile, "backtestName": "one" });
    let backtest = folder.call("create_backtest", &backtest)["backtest"]["backtestId"].clone();
    wait_until("the backtest completed", || {
        let read = json!({ "projectId": project, "backtestId": backtest });
        let read = folder.call("read_backtest", &read);
        (read["backtest"]["status"] == "Completed.").then_some(())
    });
    // The one that is aborted would take long.
    let [completed, aborted] = [("completed", 10), ("aborted", 500)].map(|(name, max)| {
        let optimization = json!({
            "projectId": project, "name": name, "target": "TotalPerformance.PortfolioStatistics.SharpeRatio",
            "targetTo": "max", "strategy": "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy",
            "compileId": compile, "parameters": [{ "name": "fast", "min": 5, "max": max, "step": 5 }],
            "estimatedCost": 1, "nodeType": "O2-8", "parallelNodes": 1,
        });
        let made = folder.call("create_optimization", &optimization);
        let id = json!({ "optimizationId": made["optimizations"][0]["optimizationId"] });
        if name == "aborted" {
            folder.call("abort_optimization", &id);
        }
        id
    });
    for (id, status) in [(completed, "completed"), (aborted, "aborted")] {
        wait_until(status, || {
            let read = folder.call("read_optimization", &id);
            (read["optimization"]["status"] == status).then_some(())
        });
    }
    let row = status(&folder, "research");
    for period in ["since-start", "last-hour"] {
        let figures = &row["figures"][period];
        let of_one = |completed: u64, failed: u64, rate: f64| json!({ "completed": completed, "failed": failed, "rate": rate });
        assert_eq!(figures["backtests"], of_one(1, 0, 1.0), "{period}");
        assert_eq!(figures["optimizations"], of_one(1, 1, 0.5), "{period}");
    }
    let shown = folder.run(&["account", "status", "research"]);
    let shown = &shown.good().stdout;
    assert!(shown.contains("1 completed, 1 failed: 50.0 %"), "{shown}");
}

#[test]
fn an_account_that_keeps_no_answers_sends_each_read() {
    let cloud = Cloud::start();
    let configuration = format!("{}keep-answers = false\n", embedded(cloud.url()));
    let folder = Folder::new(&configuration);
    let _host = folder.serve(&["run"]);
    for _ in 0..2 {
        folder.call("read_lean_versions", &json!({}));
    }
    assert_eq!(cloud.requests_to("/lean/versions/read").len(), 2);
    let figures = &status(&folder, "research")["figures"]["since-start"];
    assert_eq!(figures["hits"], 0, "{figures:#}");
}

#[test]
fn a_profile_that_a_deployment_said_is_live_is_shown_for_good() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let host = folder.serve(&["run"]);
    let shown = || {
        let ran = folder.run(&["--json", "doctor"]);
        let checks: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
        let of_profile = |check: &Value| check["what"] == "brokerage profile practice";
        checks.into_iter().find(of_profile)
    };
    assert_eq!(shown(), None);
    let of_account = |row: &Value| row["live-profiles"].as_array().unwrap().len();
    assert_eq!(of_account(&status(&folder, "research")), 0);
    host.end();
    rusqlite::Connection::open(folder.path().join("data/state.db"))
        .unwrap()
        .execute_batch("INSERT INTO live_profiles VALUES ('practice', 'research', 'L-7', 0);")
        .unwrap();
    let check = |without: &str| {
        let check = shown().unwrap_or_else(|| panic!("{without}"));
        assert_eq!(check["mark"], "warning", "{check}");
        let finding = check["finding"].as_str().unwrap();
        assert!(
            finding.contains("L-7") && finding.contains("1970-01-01"),
            "{finding}"
        );
    };
    check("without a host");
    let _host = folder.serve(&["run"]);
    check("of a host");
    let row = status(&folder, "research");
    assert_eq!(of_account(&row), 1, "{row:#}");
    assert_eq!(row["live-profiles"][0]["profile"], "practice");
    let text = folder.run(&["account", "status", "research"]);
    assert!(text.good().stdout.contains("real money"), "{text:?}");
}

#[test]
fn a_write_of_the_account_is_seen_by_the_next_read() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let _host = folder.serve(&["run"]);
    let names = || -> Vec<String> {
        let listed = folder.call("list_projects", &json!({}));
        let projects = listed["projects"].as_array().unwrap();
        let name = |project: &Value| project["name"].as_str().unwrap().to_owned();
        projects.iter().map(name).collect()
    };
    assert_eq!(names(), Vec::<String>::new());
    for name in ["Lab/one", "Lab/two"] {
        folder.call("create_project", &json!({ "name": name, "language": "Py" }));
        assert!(names().contains(&name.to_owned()), "{name}");
    }
}

#[test]
fn two_endpoints_of_one_account_are_proved_and_one_takes_over_from_the_other() {
    let cloud = Cloud::start();
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&is_broken);
    let first = cloud.altered(move |_, body| match broken.load(Ordering::Relaxed) {
        true => "<html>no</html>".to_owned(),
        false => body.to_string(),
    });
    let configuration = format!(
        "{}[[account.research.endpoint]]\nconnection = \"embedded\"\ncloud = \"{}\"\n",
        embedded(&first),
        cloud.url()
    );
    let folder = Folder::new(&configuration);
    // Without a project there is nothing to compare.
    let project = json!({ "name": "Lab/one", "language": "Py" });
    folder.call("create_project", &project);
    let _host = folder.serve(&["run"]);
    let row = status(&folder, "research");
    let endpoints = row["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 2, "{row:#}");
    for endpoint in endpoints {
        assert_eq!(endpoint["status"], "connected", "{row:#}");
    }
    is_broken.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        folder.call("read_account", &json!({}));
    }
    let figures = &status(&folder, "research")["figures"]["since-start"];
    assert_eq!(figures["errors"], 0, "{figures:#}");
    assert!(figures["retries"].as_u64().unwrap() >= 1, "{figures:#}");
    let shown = folder.run(&["account", "status"]);
    let shown = &shown.good().stdout;
    assert!(shown.contains("endpoint 2"), "{shown}");
}

/// The configuration of an account with two endpoints at these addresses.
fn two_endpoints(first: &str, second: &str) -> String {
    format!(
        "{}[[account.research.endpoint]]\nconnection = \"embedded\"\ncloud = \"{second}\"\n",
        embedded(first)
    )
}

/// The address of a cloud that does not answer: a port that is never handed out, so no other test's cloud is there.
fn nowhere() -> String {
    "http://127.0.0.1:9/api/v2".to_owned()
}

#[test]
fn an_account_whose_first_endpoint_is_down_at_the_start_is_served_by_one_that_it_remembers() {
    let (cloud, other) = (Cloud::start(), Cloud::start());
    let folder = Folder::new(&two_endpoints(cloud.url(), cloud.url()));
    let configure = |first: &str, second: &str| {
        let file = folder.path().join("qchost.toml");
        let text = format!("data = \"data\"\n{}", two_endpoints(first, second));
        std::fs::write(file, text).unwrap();
    };
    let create = |name: &str| {
        let arguments = json!({ "name": name, "language": "Py" }).to_string();
        folder.run(&["call", "create_project", &arguments])
    };
    let created = || [&cloud, &other].map(|cloud| cloud.requests_to("/projects/create").len());
    create("Lab/zero").good();
    // Nothing is remembered yet in a fresh folder.
    let fresh = Folder::new(&two_endpoints(&nowhere(), cloud.url()));
    let host = fresh.serve(&["run"]);
    let waits = "endpoint 1 has to answer once";
    let refused = fresh.run(&["call", "read_account"]);
    assert!(refused.error().contains(waits), "{refused:?}");
    let arguments = json!({ "name": "Lab/none", "language": "Py" }).to_string();
    let refused = fresh.run(&["call", "create_project", &arguments]);
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(created(), [1, 0]);
    let row = status(&fresh, "research");
    let problem = row["problem"].as_str().unwrap();
    assert!(problem.contains(waits), "{row:#}");
    host.end();

    // Both answer once.
    let host = folder.serve(&["run"]);
    create("Lab/one").good();
    wait_until("it is remembered whose the account is", || {
        let database = rusqlite::Connection::open(folder.path().join("data/state.db")).ok()?;
        let kept: String = database
            .query_row("SELECT identity FROM identities", [], |row| row.get(0))
            .ok()?;
        kept.contains("Lab/zero").then_some(())
    });
    let row = status(&folder, "research");
    assert_eq!(row["endpoints"][1]["status"], "connected", "{row:#}");
    host.end();
    assert_eq!(created(), [2, 0]);

    configure(&nowhere(), cloud.url());
    let host = folder.serve(&["run"]);
    // The host gives the first one some seconds to answer.
    wait_until("the second one is in its place", || {
        let row = status(&folder, "research");
        (row["endpoints"][1]["status"] == "connected").then_some(())
    });
    create("Lab/two").good();
    assert_eq!(created(), [3, 0]);
    let row = status(&folder, "research");
    assert_eq!(row["status"], "connected", "{row:#}");
    assert_eq!(row["endpoints"][0]["status"], "unreachable", "{row:#}");
    assert_eq!(row["endpoints"][1]["status"], "connected", "{row:#}");
    host.end();

    // Another user's takes no place of it.
    configure(&nowhere(), other.url());
    let host = folder.serve(&["run"]);
    let refused = create("Lab/three");
    assert!(!refused.status.success(), "{refused:?}");
    let row = status(&folder, "research");
    assert_eq!(row["endpoints"][1]["status"], "unauthorized", "{row:#}");
    assert_eq!(created(), [3, 0]);
    host.end();
}

#[test]
fn an_endpoint_of_another_organisation_is_not_used() {
    let (cloud, other) = (Cloud::start(), Cloud::start());
    let configuration = format!(
        "{}[[account.research.endpoint]]\nconnection = \"embedded\"\ncloud = \"{}\"\n",
        embedded(cloud.url()),
        other.url()
    );
    let folder = Folder::new(&configuration);
    folder.call(
        "create_project",
        &json!({ "name": "Lab/zero", "language": "Py" }),
    );
    let _host = folder.serve(&["run"]);
    for name in ["Lab/one", "Lab/two"] {
        folder.call("create_project", &json!({ "name": name, "language": "Py" }));
    }
    assert_eq!(cloud.requests_to("/projects/create").len(), 3);
    assert_eq!(other.requests_to("/projects/create").len(), 0);
    let row = status(&folder, "research");
    assert_eq!(row["status"], "connected", "{row:#}");
    assert_eq!(row["endpoints"][1]["status"], "unauthorized", "{row:#}");
}

/// The checks of `doctor`, whether or not one failed.
fn doctor(folder: &Folder) -> Vec<Value> {
    let ran = folder.run(&["--json", "doctor"]);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))
}

fn check<'a>(checks: &'a [Value], what: &str) -> &'a Value {
    let found = checks.iter().find(|check| check["what"] == what);
    found.unwrap_or_else(|| panic!("{what}: {checks:#?}"))
}

fn failed(checks: &[Value]) -> Vec<&str> {
    let failed = checks.iter().filter(|check| check["mark"] == "failed");
    failed
        .map(|check| check["what"].as_str().unwrap())
        .collect()
}

#[test]
fn an_endpoint_without_a_project_to_compare_is_used_after_the_command_that_doctor_prints() {
    const ENDPOINT: &str = "account research: endpoint 2";
    let cloud = Cloud::start();
    let folder = Folder::new(&two_endpoints(cloud.url(), cloud.url()));
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), [ENDPOINT], "{checks:#?}");
    let found = check(&checks, ENDPOINT);
    let finding = found["finding"].as_str().unwrap();
    assert!(
        finding.contains("no project to compare") && !finding.contains("unauthorized"),
        "{found}"
    );
    let fix = found["fix"].as_str().unwrap();
    let at = fix.find("qchost call create_project").unwrap();
    shell(&folder, folder.path(), &fix[at..]).wait().good();
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), [""; 0], "{checks:#?}");
    assert_eq!(check(&checks, ENDPOINT)["mark"], "ok");
}

#[test]
fn an_endpoint_is_judged_apart_from_a_first_one_that_is_down_and_told_from_another_users() {
    const ENDPOINT: &str = "account research: endpoint 2";
    let (cloud, other) = (Cloud::start(), Cloud::start());
    let project = json!({ "name": "Lab/one", "language": "Py" });
    Folder::embedded(cloud.url()).call("create_project", &project);
    let checks = doctor(&Folder::new(&two_endpoints(&nowhere(), cloud.url())));
    assert_eq!(failed(&checks), ["account research: cloud"], "{checks:#?}");
    assert_eq!(check(&checks, ENDPOINT)["mark"], "unknown", "{checks:#?}");
    let checks = doctor(&Folder::new(&two_endpoints(cloud.url(), other.url())));
    assert_eq!(failed(&checks), [ENDPOINT], "{checks:#?}");
    let fix = check(&checks, ENDPOINT)["fix"].as_str().unwrap();
    assert!(fix.contains("credentials of the account's user"), "{fix}");
}

#[test]
fn an_account_that_becomes_another_users_is_recorded_and_shown_until_the_next_start() {
    let (own, other) = (Cloud::start(), Cloud::start());
    for (cloud, name) in [(&own, "Lab/own"), (&other, "Lab/other")] {
        let project = json!({ "name": name, "language": "Py" });
        Folder::embedded(cloud.url()).call("create_project", &project);
    }
    let folder = Folder::new(&two_endpoints(own.url(), own.url()));
    let host = folder.serve(&["run"]);
    let recorded = || {
        let query = folder.run(&["--json", "audit", "query", "--limit", "1000"]);
        let mut found = records(&query);
        found.retain(|record| record.to_string().contains("\"account-identity-changed\""));
        found
    };
    let warned = || {
        let checks = doctor(&folder);
        let of_user = |check: &&Value| check["what"] == "account research: identity";
        checks.iter().find(of_user).cloned()
    };
    wait_until("it is connected", || {
        (status(&folder, "research")["status"] == "connected").then_some(())
    });
    // The twin: as long as it is the same user's, nothing is said.
    assert_eq!(status(&folder, "research")["identity-changed"], Value::Null);
    assert_eq!(warned(), None);
    assert!(recorded().is_empty());

    let replaced = format!(
        "data = \"data\"\n{}",
        two_endpoints(other.url(), other.url())
    );
    std::fs::write(folder.path().join("qchost.toml"), replaced).unwrap();
    folder.run(&["reload"]).good();
    let said = wait_until("the change is shown", || {
        let row = status(&folder, "research");
        row["identity-changed"].as_str().map(str::to_owned)
    });
    assert!(said.contains("organisation was"), "{said}");
    let shown = folder.run(&["account", "status", "research"]);
    assert!(shown.stdout.contains("warning"), "{shown:?}");
    let check = warned().unwrap();
    assert_eq!(check["mark"], "warning", "{check}");
    wait_until("it is recorded", || (recorded().len() == 1).then_some(()));
    host.end();
    let _host = folder.serve(&["run"]);
    assert_eq!(status(&folder, "research")["identity-changed"], Value::Null);
    assert_eq!(recorded().len(), 1, "it is recorded once");
}

#[test]
fn a_server_that_wants_a_login_is_moved_by_the_lines_that_doctor_prints() {
    let cloud = crate::ways::cloud();
    let url = cloud.emulator().remote_url().unwrap();
    let lines = format!("[account.research.remote]\nurl = \"{url}\"");
    let embedded = embedded(cloud.url());
    for (configuration, what) in [
        (
            format!(
                "{embedded}[[account.research.endpoint]]\nconnection = \"http\"\nurl = \"{url}\"\n"
            ),
            "account research: endpoint 2",
        ),
        (
            format!("[account.research]\nconnection = \"http\"\nurl = \"{url}\"\n"),
            "account research: connection",
        ),
    ] {
        let checks = doctor(&Folder::new(&configuration));
        assert_eq!(failed(&checks), [what], "{checks:#?}");
        let found = check(&checks, what);
        let finding = found["finding"].as_str().unwrap();
        assert!(
            finding.contains("OAuth") && !finding.contains("401"),
            "{found}"
        );
        let fix = found["fix"].as_str().unwrap();
        assert!(
            fix.ends_with(&lines) && fix.contains("qchost account login research"),
            "{found}"
        );
    }
    // A running host says the same of its account.
    let folder = Folder::new(&format!(
        "[account.research]\nconnection = \"http\"\nurl = \"{url}\"\n"
    ));
    let _host = folder.serve(&["run"]);
    let row = status(&folder, "research");
    let fix = row["fix"].as_str().unwrap();
    assert!(
        fix.contains("OAuth") && !fix.contains("API token"),
        "{row:#}"
    );
    // In their place they say what is left to do, once.
    let checks = doctor(&Folder::new(&format!("{embedded}{lines}\n")));
    let login = "account research: authorization";
    assert_eq!(failed(&checks), [login], "{checks:#?}");
    assert_eq!(
        check(&checks, login)["fix"],
        "qchost account login research"
    );
    let connection = check(&checks, "account research.remote: connection");
    assert_eq!(connection["mark"], "unknown", "{connection}");
}

#[test]
fn why_an_endpoint_cannot_be_used_is_said_once() {
    let cloud = Cloud::start();
    let folder = Folder::new(&format!(
        "{}[[account.research.endpoint]]\nconnection = \"http\"\nurl = \"http://127.0.0.1:9/\"\nheaders = {{ X-Key = {{ file = \"gone\" }} }}\n",
        embedded(cloud.url())
    ));
    let _host = folder.serve(&["run"]);
    let shown = folder.run(&["account", "status", "research"]);
    let shown: Vec<&str> = shown.good().stdout.split_whitespace().collect();
    let shown = shown.join(" ");
    assert_eq!(
        shown.matches("cannot read the secret").count(),
        1,
        "{shown}"
    );
    let checks = doctor(&folder);
    let found = check(&checks, "account research: endpoint 2");
    let text = found.to_string();
    assert_eq!(text.matches("cannot read the secret").count(), 1, "{text}");
}

const NAMES: [&str; 3] = ["ann", "ben", "eve"];

/// The binary without credentials in its environment.
fn start(folder: &Folder, arguments: &[&str]) -> Process {
    let mut command = folder.command(arguments);
    command
        .env_remove("QUANTCONNECT_USER_ID")
        .env_remove("QUANTCONNECT_API_TOKEN");
    Process::start(command, folder.path())
}

#[test]
fn three_accounts_side_by_side_have_their_own_credentials_limits_halts_and_records() {
    let token = |name: &str| format!("token-of-{name}-alone");
    let clouds = NAMES.map(|name| Cloud::with(|builder| builder.credentials(USER, token(name))));
    let account = |(name, cloud): (&&str, &Cloud)| {
        format!(
            "[account.{name}]\nconnection = \"embedded\"\ncloud = \"{}\"\ncredentials-file = \"{name}.json\"\n",
            cloud.url()
        )
    };
    let accounts: String = NAMES.iter().zip(&clouds).map(account).collect();
    // One of them may be asked once in three seconds.
    let folder = Folder::new(&format!("{accounts}[limits.ben]\nper-minute = 20\n"));
    for name in NAMES {
        let text = json!({ "user-id": USER, "api-token": token(name) }).to_string();
        private_file(&folder.path().join(format!("{name}.json")), text);
    }
    let mut host = start(&folder, &["--json", "run"]);
    host.until("the host is ready", |host| {
        host.stdout().contains("\"ready\":true").then_some(())
    });
    let create = |name: &str, project: &str| {
        let arguments = json!({ "name": project, "language": "Py" }).to_string();
        folder.run(&["call", "create_project", &arguments, "--account", name])
    };
    let created = |index: usize| clouds[index].requests_to("/projects/create").len();
    // Each cloud refuses the credentials of the others.
    for name in NAMES {
        create(name, &format!("Lab/{name}")).good();
    }
    assert_eq!([0, 1, 2].map(created), [1, 1, 1]);

    let timed = |name: &str| {
        let begun = Instant::now();
        for _ in 0..2 {
            folder
                .run(&["call", "read_account", "--account", name])
                .good();
        }
        begun.elapsed()
    };
    let (ann, ben, eve) = (timed("ann"), timed("ben"), timed("eve"));
    assert!(ben > Duration::from_millis(2_500), "{ben:?}");
    assert!(ann < ben && eve < ben, "{ann:?} {ben:?} {eve:?}");

    folder
        .run(&["halt", "--account", "ann", "--reason", "for a test"])
        .good();
    let refused = create("ann", "Lab/halted");
    assert!(refused.error().contains("for a test"), "{refused:?}");
    for name in ["ben", "eve"] {
        create(name, "Lab/while another is halted").good();
    }
    assert_eq!([0, 1, 2].map(created), [1, 2, 2]);

    let of = |name: &str| {
        let query = folder.run(&["--json", "audit", "query", "--account", name]);
        records(&query)
    };
    for name in NAMES {
        let records = of(name);
        assert!(!records.is_empty());
        for record in &records {
            assert_eq!(record["account"], name, "{record:#}");
            let text = record.to_string();
            for other in NAMES.iter().filter(|other| **other != name) {
                assert!(!text.contains(&format!("Lab/{other}")), "{text}");
            }
        }
        let outcomes = records.iter().filter(|record| record["kind"] == "outcome");
        assert_eq!(
            outcomes.count(),
            if name == "ann" { 1 } else { 2 },
            "{name}"
        );
        let figures = &status(&folder, name)["figures"]["since-start"];
        assert_eq!(figures["errors"], 0, "{name}: {figures:#}");
        assert!(
            figures["calls"].as_u64().unwrap() >= 3,
            "{name}: {figures:#}"
        );
    }
}
