//! The bundled plugin strategy-lab, action by action, against an emulated cloud; with the denied twin where an action needs a
//! grant of its own. Sweeps that a demonstration makes are in `demo`, robustness in a module of its own.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{ALGORITHM, FAILING, Folder, strategy_lab};
use crate::desk::approval;
use crate::process::{Ran, wait_until};

/// A host with strategy-lab under its bundled manifest.
pub fn lab(cloud: &Cloud) -> Folder {
    lab_with(cloud, &strategy_lab())
}

/// The same under another manifest.
fn lab_with(cloud: &Cloud, manifest: &str) -> Folder {
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", manifest);
    folder
}

/// The bundled manifest without one operation.
fn without(operation: &str) -> String {
    let whole = strategy_lab();
    let left = whole.replace(&format!("    \"{operation}\",\n"), "");
    assert_ne!(left, whole, "{operation}");
    left
}

fn invoke(folder: &Folder, action: &str, input: &Value) -> Value {
    folder.invoke(&format!("strategy-lab.{action}"), input)
}

fn try_invoke(folder: &Folder, action: &str, input: &Value) -> Ran {
    let action = format!("strategy-lab.{action}");
    folder.run(&["invoke", &action, &input.to_string()])
}

/// The names of all projects of the cloud.
fn names(folder: &Folder) -> BTreeSet<String> {
    let listed = folder.call("list_projects", &json!({}));
    let projects = listed["projects"].as_array().unwrap().iter();
    projects
        .map(|project| project["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The text of a file of a project.
fn text(folder: &Folder, project: &Value, name: &str) -> Value {
    let read = json!({ "projectId": project, "name": name });
    folder.call("read_file", &read)["files"][0]["content"].clone()
}

fn parameters(cloud: &Cloud, name: &str) -> Vec<String> {
    let requests = cloud.requests_to("/backtests/create");
    let value = |body: &Value| body["parameters"][name].as_str().map(str::to_owned);
    let found = requests.iter().filter_map(|request| value(&request.body));
    found.collect()
}

#[test]
fn a_project_is_created_copied_and_put_aside_and_nothing_is_deleted() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let made = invoke(
        &folder,
        "create-project",
        &json!({ "name": "Lab/one", "source": ALGORITHM }),
    );
    let project = &made["project_id"];
    assert_eq!(made["project"], "Lab/one", "{made}");
    assert_eq!(text(&folder, project, "main.py"), ALGORITHM);
    let module = json!({ "projectId": project, "name": "lib/signals.py", "content": "x = 1\n" });
    folder.call("create_file", &module);
    // A second one of the same name is none.
    let ran = try_invoke(&folder, "create-project", &json!({ "name": "Lab/one" }));
    assert!(ran.error().contains("there is a project"), "{ran:?}");

    let copied = invoke(
        &folder,
        "copy-project",
        &json!({ "project": "Lab/one", "name": "Lab/two" }),
    );
    assert_eq!(copied["from_project_id"], *project, "{copied}");
    for (name, expected) in [("main.py", ALGORITHM), ("lib/signals.py", "x = 1\n")] {
        assert_eq!(text(&folder, &copied["project_id"], name), expected);
        let files = copied["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["name"] == name);
        assert_eq!(file.unwrap()["bytes"], expected.len(), "{copied}");
    }

    let archived = invoke(&folder, "archive-project", &json!({ "project": "Lab/one" }));
    assert_eq!(archived["project"], "Archive/Lab/one", "{archived}");
    assert_eq!(archived["project_id"], *project, "{archived}");
    let names = names(&folder);
    assert!(names.contains("Archive/Lab/one") && names.contains("Lab/two"));
    assert!(!names.contains("Lab/one"), "{names:?}");
    assert_eq!(text(&folder, project, "lib/signals.py"), "x = 1\n");
    for path in ["/projects/delete", "/files/delete"] {
        assert!(cloud.requests_to(path).is_empty(), "{path}");
    }
}

#[test]
fn without_the_grant_to_rename_nothing_is_put_aside() {
    let cloud = Cloud::start();
    let folder = lab_with(&cloud, &without("projects/update-project"));
    invoke(&folder, "create-project", &json!({ "name": "Lab/one" }));
    let ran = try_invoke(&folder, "archive-project", &json!({ "project": "Lab/one" }));
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(ran.stderr.contains("projects/update-project"), "{ran:?}");
    assert!(cloud.requests_to("/projects/update").is_empty());
    assert!(names(&folder).contains("Lab/one"));
}

#[test]
fn the_compiler_s_words_come_in_the_form_that_an_editor_takes() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let broken = format!("{ALGORITHM}\n\ndef broken(:\n    pass\n");
    let verdict = invoke(&folder, "compile", &json!({ "source": broken }));
    assert_eq!(verdict["success"], false, "{verdict}");
    let found = &verdict["diagnostics"][0];
    let added = u64::try_from(ALGORITHM.lines().count()).unwrap();
    assert_eq!(found["file"], "main.py", "{verdict}");
    assert!(found["line"].as_u64().unwrap() > added, "{verdict}");
    assert!(found["column"].as_u64().unwrap() >= 1, "{verdict}");
    assert_eq!(found["severity"], "error", "{verdict}");
    assert!(!found["message"].as_str().unwrap().is_empty(), "{verdict}");
    let code = found.as_object().unwrap().get("code");
    assert!(code.is_some_and(|it| it.is_null() || it.is_string()));
}

#[test]
fn logs_orders_and_trades_of_the_newest_backtest_come_in_pages() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let cash = "        self.set_cash(100_000)\n";
    let logging = "        self.log(\"first tally\")\n        self.log(\"second tally\")\n";
    let source = ALGORITHM.replace(cash, &format!("{cash}{logging}"));
    assert_ne!(source, ALGORITHM);
    let run =
        json!({ "project": "Lab/run", "source": source, "parameters": { "fast": 10, "slow": 50 } });
    let summary = invoke(&folder, "backtest", &run);
    let of = |action: &str, more: &str| {
        let input = format!("{{\"project\": \"Lab/run\"{more}}}");
        invoke(&folder, action, &serde_json::from_str(&input).unwrap())
    };

    let lines = of("logs", ", \"query\": \"TALLY\"");
    assert_eq!(lines["backtest_id"], summary["backtest_id"], "{lines}");
    assert_eq!(lines["total"], 2, "{lines}");
    let first = of("logs", ", \"query\": \"tally\", \"count\": 1");
    assert!(
        first["lines"][0].as_str().unwrap().contains("first tally"),
        "{first}"
    );
    assert_eq!(first["next"], 1, "{first}");

    let all = of("orders", ", \"count\": 200");
    let orders = all["orders"].as_array().unwrap();
    assert_eq!(all["total"], orders.len(), "{all}");
    assert!(orders.len() > 1, "{all}");
    let page = of("orders", ", \"start\": 1, \"count\": 1");
    assert_eq!(page["orders"][0], orders[1], "{page}");
    let of_type = of(
        "orders",
        ", \"type\": \"market-on-open\", \"symbol\": \"spy\"",
    );
    assert_eq!(of_type["orders"].as_array().unwrap().len(), orders.len());
    let none = of("orders", ", \"type\": \"limit\"");
    assert_eq!(none["orders"], json!([]), "{none}");
    let ran = try_invoke(
        &folder,
        "orders",
        &json!({ "project": "Lab/run", "type": "stop" }),
    );
    assert!(ran.error().contains("no type of orders"), "{ran:?}");

    let all = of("trades", ", \"count\": 200");
    let wins = of("trades", ", \"win\": true, \"count\": 200");
    let losses = of("trades", ", \"win\": false, \"count\": 200");
    let count = |listed: &Value| listed["trades"].as_array().unwrap().len();
    assert!(count(&all) > 1, "{all}");
    assert_eq!(count(&wins) + count(&losses), count(&all));
    let page = of("trades", ", \"count\": 1");
    assert_eq!(page["next"], 1, "{page}");
    assert_eq!(page["trades"][0], all["trades"][0], "{page}");
    // Another project has no backtest.
    invoke(&folder, "create-project", &json!({ "name": "Lab/empty" }));
    let ran = try_invoke(&folder, "logs", &json!({ "project": "Lab/empty" }));
    assert!(ran.error().contains("has no backtest"), "{ran:?}");
}

#[test]
fn a_sweep_chooses_by_chance_or_evenly_and_repeats_its_choice() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let grid = json!({ "fast": { "min": 5, "max": 40, "step": 5 }, "slow": { "min": 50, "max": 200, "log": 4 } });
    let swept = |method: Value| {
        let input = json!({ "project": "Lab/swept", "grid": grid, "method": method });
        let swept = invoke(&folder, "sweep", &input);
        assert_eq!(swept["failures"], json!([]), "{swept}");
        let rows = swept["ranking"].as_array().unwrap().iter();
        let chosen: BTreeSet<String> = rows.map(|row| row["parameters"].to_string()).collect();
        assert_eq!(swept["combinations"], chosen.len(), "{swept}");
        chosen
    };
    let chance = swept(json!({ "kind": "random", "samples": 4, "seed": 7 }));
    assert_eq!(chance.len(), 4);
    assert_eq!(
        swept(json!({ "kind": "random", "samples": 4, "seed": 7 })),
        chance
    );
    assert_eq!(swept(json!({ "kind": "sobol", "samples": 4 })).len(), 4);
}

#[test]
fn halving_lets_the_best_go_on_with_a_longer_window_within_its_budget() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let input = |budget: u32| {
        json!({
            "project": "Lab/halved", "grid": { "fast": [5, 10, 20, 30] }, "budget": budget,
            "method": { "kind": "halving", "rungs": 2, "eta": 2 },
            "window": { "from": "2019-01-01", "to": "2020-12-31" },
        })
    };
    let ran = try_invoke(&folder, "sweep", &input(5));
    assert!(ran.error().contains("takes 6 backtests"), "{ran:?}");
    assert!(cloud.requests_to("/projects/create").is_empty());

    let swept = invoke(&folder, "sweep", &input(6));
    let rounds = swept["rounds"].as_array().unwrap();
    let shown: Vec<_> = rounds
        .iter()
        .map(|round| (round["window"]["first"].clone(), round["backtests"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            (json!("2020-01-02"), json!(4)),
            (json!("2019-01-01"), json!(2))
        ]
    );
    assert_eq!(swept["ranking"].as_array().unwrap().len(), 2, "{swept}");
    let starts = parameters(&cloud, "start");
    let begun = |day: &str| starts.iter().filter(|start| *start == day).count();
    assert_eq!((begun("2020-01-02"), begun("2019-01-01")), (4, 2));
    assert_eq!(
        swept["ranking"][0]["parameters"].as_object().unwrap().len(),
        1
    );
}

#[test]
fn a_walk_forward_proves_the_best_of_each_window_in_the_period_after_it() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let input = |budget: u32| {
        json!({
            "project": "Lab/walked", "grid": { "fast": [5, 20] }, "budget": budget,
            "window": { "from": "2018-01-01", "to": "2019-12-31" },
            "plan": { "kind": "rolling", "in_sample_days": 365, "out_of_sample_days": 182 },
        })
    };
    let ran = try_invoke(&folder, "walk-forward", &input(5));
    assert!(ran.error().contains("takes 6 backtests"), "{ran:?}");
    assert!(cloud.requests_to("/projects/create").is_empty());

    let walked = invoke(&folder, "walk-forward", &input(6));
    assert_eq!(walked["backtests"], 6, "{walked}");
    let windows = walked["windows"].as_array().unwrap();
    let days: Vec<_> = windows
        .iter()
        .map(|window| {
            (
                window["in_sample"]["last"].clone(),
                window["out_of_sample"]["first"].clone(),
            )
        })
        .collect();
    assert_eq!(
        days,
        [
            (json!("2018-12-31"), json!("2019-01-01")),
            (json!("2019-07-01"), json!("2019-07-02"))
        ]
    );
    for window in windows {
        assert_eq!(window["failure"], Value::Null, "{window}");
        assert_eq!(window["chosen"]["parameters"], window["parameters"]);
        assert_eq!(window["proved"]["parameters"], window["parameters"]);
        assert_ne!(
            window["proved"]["backtest_id"],
            window["chosen"]["backtest_id"]
        );
    }
    assert_eq!(
        walked["drift"]["fast"]["values"].as_array().unwrap().len(),
        2
    );
    assert_eq!(parameters(&cloud, "start").len(), 6);
    assert_eq!(cloud.created_backtests().len(), 6);
}

fn optimization() -> Value {
    json!({
        "project": "Lab/optimised", "nodes": 2,
        "grid": { "fast": { "min": 5, "max": 10, "step": 5 } },
    })
}

#[test]
fn an_optimisation_waits_for_the_approval_of_its_cost_and_is_followed_again_by_its_id() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let ran = try_invoke(&folder, "optimize", &optimization());
    assert_eq!(ran.status.code(), Some(4), "{ran:?}");
    let id = approval(&ran.stderr);
    // The same input is the same request, of the same compile.
    let ran = try_invoke(&folder, "optimize", &optimization());
    assert_eq!(approval(&ran.stderr), id, "{ran:?}");
    assert!(cloud.requests_to("/optimizations/create").is_empty());
    assert_eq!(cloud.requests_to("/compile/create").len(), 1);

    folder.run(&["approvals", "approve", &id]).good();
    let optimized = invoke(&folder, "optimize", &optimization());
    assert_eq!(optimized["state"], "completed", "{optimized}");
    assert_eq!(optimized["completed"], 2, "{optimized}");
    assert_eq!(optimized["estimate"]["backtests"], 2, "{optimized}");
    assert_eq!(optimized["ranking"][0]["rank"], 1, "{optimized}");
    assert_eq!(optimized["best"], optimized["ranking"][0]["parameters"]);
    assert_eq!(cloud.requests_to("/optimizations/create").len(), 1);

    let again = json!({ "optimization": optimized["optimization_id"] });
    let followed = invoke(&folder, "optimize", &again);
    assert_eq!(followed["ranking"], optimized["ranking"], "{followed}");
    assert_eq!(followed["estimate"], Value::Null, "{followed}");
    assert_eq!(cloud.requests_to("/optimizations/create").len(), 1);
    // One that costs more than the caller allows is not asked for.
    let mut dear = optimization();
    dear["max_cost"] = json!(0.0);
    let ran = try_invoke(&folder, "optimize", &dear);
    assert!(ran.error().contains("`max_cost` is $0.00"), "{ran:?}");
    assert_eq!(cloud.requests_to("/optimizations/create").len(), 1);
}

#[test]
fn an_invocation_waits_for_the_approval_of_its_optimisation_where_a_host_runs() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let host = folder.serve(&["run"]);
    let mut input = optimization();
    input["wait_for_approval"] = json!(true);
    let input = input.to_string();
    let waiting = folder.start(&["--json", "invoke", "strategy-lab.optimize", &input]);
    let id = wait_until("an approval is asked for", || {
        let listed = folder.run(&["--json", "approvals", "list"]).json();
        listed[0]["id"].as_str().map(str::to_owned)
    });
    assert!(cloud.requests_to("/optimizations/create").is_empty());
    folder.run(&["approvals", "approve", &id]).good();
    let optimized = waiting.wait().json();
    assert_eq!(optimized["state"], "completed", "{optimized}");
    assert_eq!(cloud.requests_to("/optimizations/create").len(), 1);
    host.end();
}

#[test]
fn without_the_grant_no_optimisation_is_created() {
    let cloud = Cloud::start();
    let whole = strategy_lab();
    let manifest = whole.replace(
        "\"optimizations/create-optimization\"",
        "\"optimizations/update-optimization\"",
    );
    assert_ne!(manifest, whole);
    let folder = lab_with(&cloud, &manifest);
    let ran = try_invoke(&folder, "optimize", &optimization());
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("optimizations/create-optimization"),
        "{ran:?}"
    );
    assert!(cloud.requests_to("/optimizations/create").is_empty());
}

#[test]
fn code_is_checked_before_a_backtest_is_spent_on_it() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let good = invoke(&folder, "check", &json!({ "source": ALGORITHM }));
    assert_eq!(good["success"], true, "{good}");
    let broken = format!("{ALGORITHM}\n\ndef broken(:\n    pass\n");
    let found = invoke(&folder, "check", &json!({ "source": broken }));
    assert_eq!(found["success"], false, "{found}");
    assert_eq!(found["syntax"][0]["file"], "main.py", "{found}");
    assert!(found["syntax"][0]["line"].is_u64(), "{found}");
    let found = invoke(&folder, "check", &json!({ "source": FAILING }));
    assert_eq!(found["success"], false, "{found}");
    assert!(
        found["initialization"].as_str().unwrap().contains("zero"),
        "{found}"
    );
    assert!(found["explanation"].is_string(), "{found}");
    // A check of source code makes no project.
    assert!(cloud.requests_to("/projects/create").is_empty());

    let untidy = json!({
        "source": ALGORITHM.replace("fast = self", "fast=self"), "pep8": true, "error": { "message": "division by zero" },
    });
    let found = invoke(&folder, "check", &untidy);
    assert!(
        found["pep8"].is_array() && found["advice"].is_string(),
        "{found}"
    );

    for (action, more) in [
        ("backtest", json!({})),
        ("sweep", json!({ "grid": { "fast": [5, 10] } })),
    ] {
        let mut input = json!({ "project": "Lab/checked", "source": FAILING, "check": true });
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let ran = try_invoke(&folder, action, &input);
        assert!(ran.stderr.contains("nothing was run"), "{ran:?}");
        assert_eq!(cloud.created_backtests(), Vec::<String>::new());
        assert!(cloud.requests_to("/compile/create").is_empty());
    }
    // The allowed twin runs.
    let input = json!({ "project": "Lab/checked", "source": ALGORITHM, "check": true });
    invoke(&folder, "backtest", &input);
    assert_eq!(cloud.created_backtests(), ["strategy-lab"]);
}

#[test]
fn without_the_grant_no_code_is_sent_to_an_assistant() {
    let cloud = Cloud::start();
    let folder = lab_with(&cloud, &without("ai/check-syntax"));
    let ran = try_invoke(&folder, "check", &json!({ "source": ALGORITHM }));
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(ran.stderr.contains("ai/check-syntax"), "{ran:?}");
    assert!(cloud.requests_to("/ai/tools/syntax-check").is_empty());
    assert!(cloud.requests_to("/ai/tools/backtest-init").is_empty());
}

#[test]
fn a_search_gives_passages_of_each_collection() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let input = json!({ "query": "alpha model", "collections": ["docs", "forum"], "count": 2 });
    let found = invoke(&folder, "search", &input);
    let passages = found["passages"].as_array().unwrap();
    let of = |collection: &str| {
        passages
            .iter()
            .filter(|it| it["collection"] == collection)
            .count()
    };
    assert_eq!((of("docs"), of("forum")), (2, 2), "{found}");
    assert!(passages.iter().all(|it| it["text"].is_string()), "{found}");

    let denied = lab_with(&cloud, &without("ai/search-quantconnect"));
    let ran = try_invoke(&denied, "search", &input);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert_eq!(cloud.requests_to("/ai/tools/search").len(), 1);
}
