//! The gate seen from inside Wasm, through the real host: each refusal is the right typed error, and the
//! cloud's request log shows that nothing was sent. Each has a twin that is allowed.

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, component, embedded};
use crate::desk::approval;

const PROBE: &str = "host/cli/tests/plugins/any-tool";
const PAPER: &str = "[brokerage.paper]\nid = \"QuantConnectBrokerage\"\n";

/// A host with the test agent, and projects in its scope and out of it.
struct Scene {
    cloud: Cloud,
    folder: Folder,
    /// `Lab/a`, in scope.
    lab: u64,
    /// `Prod/b`, out of scope.
    prod: u64,
}

impl Scene {
    fn new(configuration: &str, grants: &str) -> Self {
        let cloud = Cloud::start();
        let folder = Folder::new(&format!(
            "{configuration}\n{}{PAPER}",
            embedded(cloud.url())
        ));
        folder.manifest("any-tool", &manifest(grants));
        let create = |name: &str| {
            let made = folder.call("create_project", &json!({ "name": name, "language": "Py" }));
            made["projects"][0]["projectId"].as_u64().unwrap()
        };
        let (lab, prod) = (create("Lab/a"), create("Prod/b"));
        Self {
            cloud,
            folder,
            lab,
            prod,
        }
    }

    /// Has the agent make calls, and returns their results.
    fn calls(&self, calls: &[(&str, Value)]) -> Vec<Value> {
        let calls: Vec<Value> = calls
            .iter()
            .map(|(tool, arguments)| json!({ "tool": tool, "arguments": arguments }))
            .collect();
        let reports = self
            .folder
            .invoke("any-tool.call", &json!({ "calls": calls }));
        reports.as_array().unwrap().clone()
    }

    fn call(&self, tool: &str, arguments: Value) -> Value {
        self.calls(&[(tool, arguments)]).remove(0)
    }

    /// Compiles a project as the operator and waits until it is built.
    fn compiled(&self, project: u64) -> String {
        let compile = self.folder.compile(&json!(project));
        compile.as_str().unwrap().to_owned()
    }

    fn sent(&self, path: &str) -> usize {
        self.cloud.requests_to(path).len()
    }
}

fn manifest(grants: &str) -> String {
    format!(
        "plugin = \"any-tool\"\ncomponent = \"{}\"\naccount = \"research\"\n{grants}",
        component(PROBE).display()
    )
}

fn refused(report: &Value, outcome: &str) {
    assert_eq!(report["outcome"], outcome, "{report}");
}

const LAB: &str = "[[grant]]\nname = \"lab\"\nallow = [\"raw/*\", \"projects/*\", \"files/*\", \"compile/*\", \"backtests/*\", \"backtests/delete-backtest\"]\nprojects = [\"Lab/*\"]\nfiles = [\"*.py\"]\n";

#[test]
fn a_project_out_of_scope_is_reached_neither_by_its_id_nor_by_a_childs_nor_by_a_rename() {
    let scene = Scene::new("", LAB);
    let (lab, prod) = (scene.lab, scene.prod);
    let compile = scene.compiled(prod);
    let made = scene.folder.call(
        "create_backtest",
        &json!({ "projectId": prod, "compileId": compile, "backtestName": "secret" }),
    );
    let backtest = made["backtest"]["backtestId"].clone();
    let before = |path: &str| scene.sent(path);
    let (files, deleted, renamed, created) = (
        before("/files/read"),
        before("/backtests/delete"),
        before("/projects/update"),
        before("/backtests/create"),
    );
    let reports = scene.calls(&[
        ("read_file", json!({ "projectId": prod, "name": "main.py" })),
        (
            "delete_backtest",
            json!({ "projectId": lab, "backtestId": backtest }),
        ),
        (
            "delete_backtest",
            json!({ "projectId": prod, "backtestId": backtest }),
        ),
        (
            "create_backtest",
            json!({ "projectId": lab, "compileId": compile, "backtestName": "x" }),
        ),
        (
            "read_backtest",
            json!({ "projectId": lab, "backtestId": backtest }),
        ),
        (
            "update_project",
            json!({ "projectId": prod, "name": "Lab/taken" }),
        ),
        (
            "update_project",
            json!({ "projectId": lab, "name": "Prod/given" }),
        ),
        (
            "create_project",
            json!({ "name": "Prod/new", "language": "Py" }),
        ),
    ]);
    for report in &reports {
        refused(report, "denied");
    }
    for (path, was) in [
        ("/files/read", files),
        ("/backtests/delete", deleted),
        ("/projects/update", renamed),
        ("/backtests/create", created),
    ] {
        assert_eq!(scene.sent(path), was, "{path}");
    }
    let smuggled = scene.calls(&[
        (
            "read_file",
            json!({ "projectId": prod.to_string(), "name": "main.py" }),
        ),
        ("read_file", json!({ "model": { "projectId": prod } })),
    ]);
    for report in &smuggled {
        refused(report, "invalid-argument");
    }
    assert_eq!(scene.sent("/files/read"), files);

    let reports = scene.calls(&[
        ("read_file", json!({ "projectId": lab, "name": "main.py" })),
        (
            "update_project",
            json!({ "projectId": lab, "name": "Lab/renamed" }),
        ),
        ("list_projects", json!({})),
    ]);
    for report in &reports {
        refused(report, "answered");
    }
    let listed = reports[2]["answer"]["projects"].to_string();
    assert!(
        listed.contains("Lab/renamed") && !listed.contains("Prod/b"),
        "{listed}"
    );
}

#[test]
fn a_file_out_of_scope_is_not_written() {
    let scene = Scene::new("", LAB);
    let file = |name: &str| json!({ "projectId": scene.lab, "name": name, "content": "x = 1\n" });
    let reports = scene.calls(&[
        ("create_file", file("secrets.json")),
        ("create_file", file("../other/main.py")),
        ("create_file", file("helper.py")),
        (
            "update_file_name",
            json!({ "projectId": scene.lab, "name": "helper.py", "newName": "helper.json" }),
        ),
    ]);
    refused(&reports[0], "denied");
    refused(&reports[1], "invalid-argument");
    refused(&reports[2], "answered");
    refused(&reports[3], "denied");
    assert_eq!(scene.sent("/files/create"), 1);
    assert_eq!(scene.sent("/files/update"), 0);
}

#[test]
fn a_budget_and_a_rate_hold_from_one_invocation_to_the_next() {
    let grants = "[[grant]]\nname = \"day\"\nallow = [\"raw/*\", \"files/*\"]\nprojects = [\"Lab/*\"]\nlimits = { per-day = 3 }\n\
                  [[grant]]\nname = \"pace\"\nallow = [\"backtests/list-backtests\"]\nprojects = [\"Lab/*\"]\nlimits = { per-minute = 2 }\n";
    let scene = Scene::new("", grants);
    let file = |name: &str| {
        (
            "create_file",
            json!({ "projectId": scene.lab, "name": name, "content": "x = 1\n" }),
        )
    };
    for report in scene.calls(&[file("a.py"), file("b.py")]) {
        refused(&report, "answered");
    }
    // Each invocation here starts a host: a restart refills nothing.
    let reports = scene.calls(&[file("c.py"), file("d.py"), file("e.py")]);
    refused(&reports[0], "answered");
    refused(&reports[1], "budget-exhausted");
    refused(&reports[2], "budget-exhausted");
    assert!(
        reports[1]["error"].as_str().unwrap().contains("day"),
        "{}",
        reports[1]
    );
    assert_eq!(scene.sent("/files/create"), 3);

    let list = ("list_backtests", json!({ "projectId": scene.lab }));
    let reports = scene.calls(&[list.clone(), list.clone(), list.clone()]);
    refused(&reports[1], "answered");
    refused(&reports[2], "rate-limited");
    refused(&scene.calls(&[list])[0], "rate-limited");
    // The second one was answered from the cache, and was charged all the same.
    assert_eq!(scene.sent("/backtests/list"), 1);
}

#[test]
fn a_plugin_that_claims_a_cost_of_nothing_is_charged_what_the_host_estimates() {
    let grants = "[[grant]]\nname = \"build\"\nallow = [\"raw/*\", \"compile/*\"]\nprojects = [\"Lab/*\"]\n\
                  [[grant]]\nname = \"optimise\"\nallow = [\"optimizations/create-optimization\"]\nprojects = [\"Lab/*\"]\nmax-cost = 5.0\n";
    for (price, outcome, sent) in [("100000.0", "denied", 0), ("0.01", "answered", 1)] {
        let scene = Scene::new(&format!("node-prices = {{ \"O2-8\" = {price} }}"), grants);
        let source = json!({ "projectId": scene.lab, "name": "main.py", "content": crate::common::ALGORITHM });
        scene.folder.call("update_file_contents", &source);
        let compile = scene.compiled(scene.lab);
        let optimisation = json!({
            "projectId": scene.lab, "name": "free", "target": "TotalPerformance.PortfolioStatistics.SharpeRatio",
            "targetTo": "max", "strategy": "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy",
            "compileId": compile, "parameters": [{ "name": "fast", "min": 5, "max": 10, "step": 5 }],
            "estimatedCost": 0, "nodeType": "O2-8", "parallelNodes": 4,
        });
        refused(&scene.call("create_optimization", optimisation), outcome);
        assert_eq!(scene.sent("/optimizations/create"), sent);
    }
}

/// The arguments of a paper deployment of the project in scope.
fn deployment(scene: &Scene, node: &str) -> Value {
    let compile = scene.compiled(scene.lab);
    json!({
        "versionId": "-1", "projectId": scene.lab, "compileId": compile, "nodeId": node, "brokerage": "paper", "dataProviders": [],
    })
}

fn live_node(scene: &Scene) -> String {
    let nodes = scene
        .folder
        .call("read_project_nodes", &json!({ "projectId": scene.lab }));
    nodes["nodes"]["live"][0]["id"].as_str().unwrap().to_owned()
}

const DEPLOY: &str = "[[grant]]\nname = \"look\"\nallow = [\"raw/*\"]\n\
                      [[grant]]\nname = \"paper\"\nallow = [\"live/create-live-algorithm\", \"live/read-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\napproval = \"operator\"\n";

#[test]
fn what_a_person_did_not_approve_is_not_deployed() {
    let scene = Scene::new("approvals = { permit = \"2s\" }", DEPLOY);
    let arguments = deployment(&scene, &live_node(&scene));
    let ask = |arguments: &Value| scene.call("create_live_algorithm", arguments.clone());
    let unapproved = ask(&arguments);
    refused(&unapproved, "approval-required");
    let id = approval(unapproved["error"].as_str().unwrap());
    assert_eq!(scene.sent("/live/create"), 0);

    // Approved, but with other arguments: not the call that was approved.
    scene.folder.run(&["approvals", "approve", &id]).good();
    let mut changed = arguments.clone();
    changed["versionId"] = json!("16000");
    refused(&ask(&changed), "approval-required");
    assert_eq!(scene.sent("/live/create"), 0);
    // An expired approval permits nothing either.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let expired = ask(&arguments);
    refused(&expired, "approval-required");
    assert_eq!(scene.sent("/live/create"), 0);

    let id = approval(expired["error"].as_str().unwrap());
    scene.folder.run(&["approvals", "approve", &id]).good();
    refused(&ask(&arguments), "answered");
    assert_eq!(scene.sent("/live/create"), 1);
}

#[test]
fn a_component_that_changed_does_not_inherit_what_was_approved_nor_the_right_to_trade() {
    let scene = Scene::new("", DEPLOY);
    let arguments = deployment(&scene, &live_node(&scene));
    let first = scene.call("create_live_algorithm", arguments.clone());
    let id = approval(first["error"].as_str().unwrap());
    scene.folder.run(&["approvals", "approve", &id]).good();
    // The same code with one more custom section is another component.
    let mut bytes = std::fs::read(component(PROBE)).unwrap();
    bytes.extend([0, 2, 1, b'x']);
    std::fs::write(scene.folder.path().join("plugins/changed.wasm"), bytes).unwrap();
    let text = manifest(DEPLOY);
    let component = component(PROBE);
    scene.folder.manifest(
        "any-tool",
        &text.replace(&component.display().to_string(), "changed.wasm"),
    );
    let changed = scene.call("create_live_algorithm", arguments.clone());
    refused(&changed, "approval-required");
    assert_ne!(approval(changed["error"].as_str().unwrap()), id);
    assert_eq!(scene.sent("/live/create"), 0);
    // The component that was approved still can.
    scene.folder.manifest("any-tool", &text);
    refused(&scene.call("create_live_algorithm", arguments), "answered");
    assert_eq!(scene.sent("/live/create"), 1);
}

#[test]
fn while_halted_stop_and_liquidate_work_and_nothing_else_is_sent() {
    let grants = "[[grant]]\nname = \"lab\"\nallow = [\"raw/*\", \"files/*\", \"live/*\", \"projects/list-projects\"]\nprojects = [\"Lab/*\"]\n";
    let scene = Scene::new("", grants);
    let node = live_node(&scene);
    let deployed = deployment(&scene, &node);
    scene.folder.call("create_live_algorithm", &deployed);
    scene.folder.run(&["halt", "--reason", "a drill"]).good();
    let file = (
        "create_file",
        json!({ "projectId": scene.lab, "name": "a.py", "content": "x = 1\n" }),
    );
    let project = json!({ "projectId": scene.lab });
    let reports = scene.calls(&[
        file.clone(),
        ("list_projects", json!({})),
        ("liquidate_live_algorithm", project.clone()),
        ("stop_live_algorithm", project),
    ]);
    refused(&reports[0], "halted");
    assert_eq!(scene.sent("/files/create"), 0);
    refused(&reports[1], "answered");
    refused(&reports[2], "answered");
    assert_eq!(scene.sent("/live/update/liquidate"), 1);
    assert_eq!(scene.sent("/live/update/stop"), 1, "{}", reports[3]);
    scene.folder.run(&["resume"]).good();
    refused(&scene.calls(&[file])[0], "answered");
}
