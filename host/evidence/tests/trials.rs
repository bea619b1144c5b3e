//! Trials as plugins and guardrails see them, counted by a gate on a cloud in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use qchost_catalog::{Failure, Outcome};
use qchost_evidence::Evidence;
use qchost_gate::{Gate, PluginCalls as _, Refusal};
use qchost_ledger::TrialCounts;
use qchost_policy::Guardrails;
use qchost_testing::cloud::{Cloud, Setup, call, parse, principal};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

const READS: &str = "\"evidence\", \"files/*\", \"backtests/*\", \"optimizations/*\"";
const LAB: &str = "[\"Lab/*\"]";

/// What the projects of the cloud hold and list.
#[derive(Default)]
struct Shown {
    code: BTreeMap<u64, String>,
    backtests: BTreeMap<u64, Vec<Value>>,
    /// By id: the project, the status, and how many backtests were started.
    optimizations: BTreeMap<String, (u64, &'static str, usize)>,
    /// A tool that gives no answer.
    broken: Option<&'static str>,
}

impl Shown {
    fn answer(&self, tool: &str, arguments: &Map<String, Value>) -> Option<Outcome> {
        if self.broken == Some(tool) {
            return Some(Err(Failure::Unavailable("no answer".to_owned())));
        }
        let project = arguments.get("projectId").and_then(Value::as_u64);
        let project = project.unwrap_or_default();
        let optimization = |id: &str| {
            let (project, status, started) = &self.optimizations[id];
            let backtests: Map<String, Value> = (0..*started)
                .map(|at| (format!("{at}"), json!({})))
                .collect();
            json!({ "optimizationId": id, "projectId": project, "status": status, "backtests": backtests })
        };
        Some(Ok(match tool {
            "read_file" => {
                let code = self.code.get(&project).cloned();
                let content = code.unwrap_or_else(|| format!("# {project}\n"));
                json!({ "success": true, "files": [{ "name": "main.py", "content": content }] })
            }
            "list_backtests" => {
                let listed = self.backtests.get(&project).cloned().unwrap_or_default();
                json!({ "success": true, "count": listed.len(), "backtests": listed })
            }
            "list_optimizations" => {
                let own = self.optimizations.iter();
                let own = own.filter(|(_, (of, ..))| *of == project);
                let listed: Vec<_> = own.map(|(id, _)| json!({ "optimizationId": id })).collect();
                json!({ "success": true, "optimizations": listed })
            }
            "read_optimization" => {
                let id = arguments["optimizationId"].as_str().unwrap();
                json!({ "success": true, "optimization": optimization(id) })
            }
            _ => return None,
        }))
    }
}

/// A host with one plugin.
struct World {
    setup: Setup,
    cloud: Arc<Cloud>,
    shown: Arc<Mutex<Shown>>,
    folder: TempDir,
    gate: Gate,
}

impl World {
    async fn new(allow: &str, projects: &str) -> Self {
        Self::under(allow, projects, "").await
    }

    async fn under(allow: &str, projects: &str, rule: &str) -> Self {
        let grants =
            format!("[[grant]]\nname = \"lab\"\nallow = [{allow}]\nprojects = {projects}\n");
        let mut setup = Setup::grants(&grants);
        setup.guardrails =
            Guardrails::read(&[(PathBuf::from("rails.cedar"), rule.to_owned())]).unwrap();
        let (cloud, shown) = (Cloud::new(), Arc::<Mutex<Shown>>::default());
        let answers = Arc::clone(&shown);
        cloud.hook(move |tool, arguments| answers.lock().answer(tool, arguments));
        let folder = tempfile::tempdir().unwrap();
        let gate = open(&setup, &cloud, folder.path()).await;
        Self {
            setup,
            cloud,
            shown,
            folder,
            gate,
        }
    }

    async fn restart(self) -> Self {
        self.gate.close().await;
        drop(self.gate);
        let gate = open(&self.setup, &self.cloud, self.folder.path()).await;
        Self { gate, ..self }
    }

    async fn counts(&self, project: u32) -> Result<TrialCounts, Refusal> {
        self.gate.count_trials(&principal("lab"), project).await
    }

    async fn total(&self, project: u32) -> u32 {
        self.counts(project).await.unwrap().total()
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<Value, Refusal> {
        call(&self.gate, &principal("lab"), name, arguments).await
    }

    /// Lists backtests of a project.
    fn list(&self, project: u64, ids: std::ops::Range<u32>) {
        let rows = ids
            .map(|id| json!({ "backtestId": format!("b-{id}") }))
            .collect();
        self.shown.lock().backtests.insert(project, rows);
    }
}

async fn open(setup: &Setup, cloud: &Arc<Cloud>, folder: &Path) -> Gate {
    let mut options = setup.options(folder).await;
    options.evidence = Some(Arc::new(Evidence::new(options.ledger.clone())));
    let gate = cloud.open(options).await;
    gate.policies.install(parse(&setup.manifest)).unwrap();
    gate
}

#[tokio::test]
async fn what_was_listed_once_counts_also_when_it_is_deleted_and_after_a_restart() {
    let world = World::new(READS, LAB).await;
    assert_eq!(world.total(1).await, 0);
    world.list(1, 0..5);
    assert_eq!(world.total(1).await, 5);
    world.list(1, 4..6);
    assert_eq!(world.total(1).await, 6);
    let world = world.restart().await;
    world.list(1, 0..0);
    assert_eq!(world.total(1).await, 6);
    assert_eq!(world.total(2).await, 0);
}

#[tokio::test]
async fn each_combination_of_an_optimisation_counts_and_its_backtests_do_not_count_again() {
    let world = World::new(READS, LAB).await;
    world.list(1, 0..2);
    {
        let mut shown = world.shown.lock();
        let child = json!({ "backtestId": "c", "optimizationId": "o" });
        shown.backtests.get_mut(&1).unwrap().push(child);
        shown
            .optimizations
            .insert("o".to_owned(), (1, "running", 1));
    }
    let counted = world.counts(1).await.unwrap();
    assert_eq!((counted.backtests, counted.combinations), (2, 1));
    world
        .shown
        .lock()
        .optimizations
        .insert("o".to_owned(), (1, "completed", 64));
    assert_eq!(world.counts(1).await.unwrap().combinations, 64);
    // It is read until it has ended.
    let read = world.cloud.count("read_optimization");
    assert_eq!(world.counts(1).await.unwrap().combinations, 64);
    assert_eq!(world.cloud.count("read_optimization"), read);
}

#[tokio::test]
async fn an_optimisation_made_through_the_host_has_all_its_combinations_until_it_ends() {
    let world = World::new(&format!("{READS}, \"compile/*\""), LAB).await;
    let compiled = world
        .call("compile/create-compile", json!({ "projectId": 1 }))
        .await;
    let axis = |name: &str| json!({ "name": name, "min": 1, "max": 10, "step": 1 });
    let request = json!({
        "projectId": 1, "name": "grid", "target": "TotalPerformance.PortfolioStatistics.SharpeRatio",
        "targetTo": "max", "strategy": "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy",
        "compileId": compiled.unwrap()["compileId"], "parameters": [axis("fast"), axis("slow")],
        "estimatedCost": 1, "nodeType": "O2-8", "parallelNodes": 4,
    });
    let made = world
        .call("optimizations/create-optimization", request)
        .await;
    let made = made.unwrap();
    let id = made["optimizations"][0]["optimizationId"].as_str().unwrap();
    // Nothing lists it yet.
    assert_eq!(world.counts(1).await.unwrap().combinations, 100);
    let state = |status, started| {
        let mut shown = world.shown.lock();
        shown
            .optimizations
            .insert(id.to_owned(), (1, status, started));
    };
    state("running", 30);
    assert_eq!(world.counts(1).await.unwrap().combinations, 100);
    state("aborted", 40);
    assert_eq!(world.counts(1).await.unwrap().combinations, 40);
}

#[tokio::test]
async fn a_copy_has_the_trials_of_the_project_that_it_was_copied_from() {
    let world = World::new(READS, LAB).await;
    world.list(1, 0..7);
    world.shown.lock().code.insert(1, "strategy()\n".to_owned());
    assert_eq!(world.total(1).await, 7);
    assert_eq!(world.total(2).await, 0);
    world.shown.lock().code.insert(2, "strategy()\n".to_owned());
    let expected = TrialCounts {
        backtests: 7,
        combinations: 0,
        inherited: 7,
    };
    assert_eq!(world.counts(2).await.unwrap(), expected);
    // It keeps them when it is changed.
    world.shown.lock().code.insert(2, "another()\n".to_owned());
    world.list(2, 7..10);
    assert_eq!(world.total(2).await, 10);
    assert_eq!(world.total(1).await, 10);
}

#[tokio::test]
async fn what_is_compiled_is_held_even_if_it_is_changed_before_anyone_counts() {
    let world = World::new(&format!("{READS}, \"compile/*\""), LAB).await;
    for project in [1, 2] {
        world
            .shown
            .lock()
            .code
            .insert(project, "strategy()\n".to_owned());
        let compile = json!({ "projectId": project });
        world.call("compile/create-compile", compile).await.unwrap();
        let changed = format!("changed({project})\n");
        world.shown.lock().code.insert(project, changed);
    }
    world.list(1, 0..3);
    assert_eq!(world.total(1).await, 3);
    assert_eq!(world.total(2).await, 3);
}

#[tokio::test]
async fn a_read_that_fails_is_an_error_and_no_smaller_number() {
    let world = World::new(READS, LAB).await;
    world.list(1, 0..3);
    world
        .shown
        .lock()
        .optimizations
        .insert("o".to_owned(), (1, "completed", 2));
    for tool in [
        "read_file",
        "list_backtests",
        "list_optimizations",
        "read_optimization",
    ] {
        world.shown.lock().broken = Some(tool);
        let refusal = world.counts(1).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Failed(_)), "{tool}: {refusal:?}");
    }
    world.shown.lock().broken = None;
    assert_eq!(world.total(1).await, 5);
}

#[tokio::test]
async fn trials_are_counted_only_where_the_grants_cover_the_project_and_the_reads() {
    let world = World::new(READS, LAB).await;
    world.counts(1).await.unwrap();
    // Out of scope, not there, and an id that no project has.
    let world = World::new(READS, LAB).await;
    for project in [9, 7, 0] {
        world.counts(project).await.unwrap_err();
    }
    assert!(world.cloud.sent().is_empty(), "{:?}", world.cloud.sent());
    for allow in [
        "\"files/*\", \"backtests/*\", \"optimizations/*\"",
        "\"evidence\", \"backtests/*\", \"optimizations/*\"",
        "\"evidence\", \"files/*\", \"optimizations/*\"",
        "\"evidence\", \"files/*\", \"backtests/*\", \"optimizations/list-*\"",
    ] {
        let world = World::new(allow, LAB).await;
        let refusal = world.counts(1).await.unwrap_err();
        assert!(
            matches!(refusal, Refusal::Denied(_)),
            "{allow}: {refusal:?}"
        );
        assert!(world.cloud.sent().is_empty(), "{:?}", world.cloud.sent());
    }
}

#[tokio::test]
async fn a_guardrail_forbids_what_was_tried_too_often_and_what_cannot_be_counted() {
    let rule = "forbid (principal, action == Action::\"backtests/create-backtest\", resource)
        unless { context has evidence && context.evidence.trials < 3 };";
    // The plugin needs no grant of the evidence for that.
    let world = World::under("\"backtests/*\", \"compile/*\"", LAB, rule).await;
    let compiled = world
        .call("compile/create-compile", json!({ "projectId": 1 }))
        .await;
    let compile = compiled.unwrap()["compileId"].clone();
    let create = async || {
        let request = json!({ "projectId": 1, "compileId": compile, "backtestName": "x" });
        world.call("backtests/create-backtest", request).await
    };
    world.list(1, 0..1);
    create().await.unwrap();
    world.shown.lock().broken = Some("list_backtests");
    assert!(matches!(create().await, Err(Refusal::Denied(_))));
    world.shown.lock().broken = None;
    create().await.unwrap();
    // What would be decided is said without a read.
    let request = json!({ "projectId": 1, "compileId": compile, "backtestName": "x" });
    let arguments = request.as_object().cloned().unwrap();
    let sent = world.cloud.calls().len();
    let name = Some("Lab/one".to_owned());
    let explained = world
        .gate
        .explain("lab", "backtests/create-backtest", arguments, name);
    let explained = explained.await.unwrap();
    assert_eq!(explained.decision, "denied");
    assert!(
        explained.assumed.iter().any(|what| what.contains("tried")),
        "{explained:?}"
    );
    assert_eq!(world.cloud.calls().len(), sent);
    // One is listed, and two were made that no list has.
    let made = world.cloud.count("create_backtest");
    assert!(matches!(create().await, Err(Refusal::Denied(_))));
    assert_eq!((made, world.cloud.count("create_backtest")), (2, 2));
}
