//! An emulator whose data is kept: what the next one finds.

use std::path::Path;
use std::time::Duration;

use qchost_emulator::{DataError, Emulator, Remote, Seed, SeedProject, StartError, Timing};
use serde_json::{Value, json};

use crate::client::{Cloud, quick, start};
use crate::optimizations;
use crate::remote_client;

async fn keeping(path: &Path) -> Cloud {
    keeping_with(path, quick()).await
}

async fn keeping_with(path: &Path, timing: Timing) -> Cloud {
    start(|builder| builder.timing(timing).keep(path)).await
}

/// The same with the remote server, whose notebooks print 1.
async fn serving(path: &Path) -> Cloud {
    let remote = Remote::new().cell_output("print(1)", "1");
    remote_client::with(remote, |builder| builder.keep(path)).await
}

async fn create(cloud: &Cloud, name: &str) -> u64 {
    let body = json!({"name": name, "language": "Py"});
    let created = cloud.ok("/projects/create", body).await;
    created["projects"][0]["projectId"].as_u64().unwrap()
}

/// Starts a search of five points, and returns the request that reads it.
async fn search(cloud: &Cloud, project: u64, compile: &str) -> Value {
    let mut body = optimizations::request(project, compile);
    body["parameters"] = json!([{"name": "fast", "min": 1, "max": 5, "step": 1}]);
    json!({"optimizationId": optimizations::create(cloud, body).await})
}

async fn names(cloud: &Cloud) -> Vec<String> {
    let read = cloud.ok("/projects/read", json!({})).await;
    let projects = read["projects"].as_array().unwrap();
    let names = projects
        .iter()
        .map(|it| it["name"].as_str().unwrap().to_owned());
    names.collect()
}

fn seed(name: &str) -> Seed {
    let project = SeedProject {
        name: name.to_owned(),
        language: "Py".to_owned(),
        description: "from a seed".to_owned(),
        parameters: [("fast".to_owned(), "10".to_owned())].into(),
        files: [("main.py".to_owned(), "code".to_owned())].into(),
    };
    Seed {
        project: vec![project],
        objects: [("models/one".to_owned(), "text".to_owned())].into(),
    }
}

/// A seed that no cloud accepts.
fn twice() -> Seed {
    Seed {
        project: [seed("Twice").project, seed("Twice").project].concat(),
        ..Seed::default()
    }
}

#[tokio::test]
async fn the_next_emulator_finds_what_the_last_one_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.db");
    let cloud = keeping(&path).await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let backtest = cloud.backtest(project, &compile).await;
    cloud.result(project, &backtest).await;
    let library = create(&cloud, "Library").await;
    let body = json!({"projectId": project, "libraryId": library});
    cloud.ok("/projects/library/create", body).await;
    let gone = create(&cloud, "Gone").await;
    cloud
        .ok("/projects/delete", json!({"projectId": gone}))
        .await;
    let reads = [
        ("/projects/read", json!({})),
        ("/files/read", json!({"projectId": project})),
        (
            "/compile/read",
            json!({"projectId": project, "compileId": compile}),
        ),
        (
            "/backtests/read",
            json!({"projectId": project, "backtestId": backtest}),
        ),
        ("/backtests/list", json!({"projectId": project})),
        (
            "/backtests/orders/read",
            json!({"projectId": project, "backtestId": backtest, "start": 0, "end": 100}),
        ),
    ];
    let mut before = Vec::new();
    for (path, body) in &reads {
        before.push(cloud.ok(path, body.clone()).await);
    }
    cloud.emulator.shutdown().await;

    let cloud = keeping(&path).await;
    for ((path, body), before) in reads.iter().zip(&before) {
        assert_eq!(cloud.ok(path, body.clone()).await, *before, "{path}");
    }
    // The id of the deleted project is not given again.
    assert!(create(&cloud, "Next").await > gone);
    cloud.emulator.shutdown().await;

    // The twin: without a file nothing is kept.
    let afresh = start(|builder| builder).await;
    assert_eq!(names(&afresh).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_next_emulator_finds_what_was_written_down_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.db");
    let cloud = keeping(&path).await;
    let organization = cloud.emulator.organization_id().to_owned();
    let of = |fields: Value| {
        let mut body = fields;
        body["organizationId"] = json!(organization);
        body
    };
    let agent = cloud
        .ok("/agents/create", of(json!({"name": "Reader"})))
        .await;
    let agent = &agent["agent"]["id"];
    let task = of(json!({
        "agentId": agent, "name": "Read", "prompt": "Read.", "projectPreference": "project-for-task",
    }));
    let task = cloud.ok("/agents/tasks/create", task).await["task"]["id"].clone();
    let deployed = cloud
        .ok("/agents/deployments/create", json!({"taskId": task}))
        .await;
    let id = deployed["deployment"]["deploymentId"].clone();
    let prompt = json!({"deploymentId": id, "prompt": "Go on."});
    cloud.ok("/agents/deployments/prompt", prompt).await;
    let ticket = of(json!({"subject": "Why?", "message": "Because."}));
    cloud
        .ok("/organizations/support/tickets/create", ticket)
        .await;
    let issue = json!({
        "ticker": "SPY", "security": "Equity", "market": "usa", "resolution": "Daily",
        "from-date": "2024-01-02", "to-date": "2024-01-03", "content": "A day is missing.",
        "missing-files": "Missing files",
    });
    cloud
        .ok("/community/data-library/issues/create", issue)
        .await;
    let reads = [
        ("/agents/list", of(json!({}))),
        ("/agents/tasks/list", of(json!({}))),
        ("/agents/deployments/list", json!({"taskId": task})),
        (
            "/agents/deployments/conversation/read",
            json!({"deploymentId": id}),
        ),
        ("/organizations/support/tickets/list", of(json!({}))),
        ("/community/data-library/issues/list", json!({})),
    ];
    let mut before = Vec::new();
    for (path, body) in &reads {
        before.push(cloud.ok(path, body.clone()).await);
    }
    assert_eq!(before[4]["open"][0]["title"], "Why?");
    cloud.emulator.shutdown().await;

    let cloud = keeping(&path).await;
    for ((path, body), before) in reads.iter().zip(&before) {
        assert_eq!(cloud.ok(path, body.clone()).await, *before, "{path}");
    }
    // What is deleted stays so, with what belongs to it.
    cloud.ok("/agents/delete", json!({"agentId": agent})).await;
    cloud.emulator.shutdown().await;
    let cloud = keeping(&path).await;
    let list = cloud.ok("/agents/list", of(json!({}))).await;
    assert_eq!(list["agents"], json!([]));
    let says = cloud
        .refused("/agents/deployments/read", json!({"deploymentId": id}))
        .await;
    assert!(says.contains("not found"), "{says}");
}

#[tokio::test]
async fn what_the_tools_of_the_remote_server_wrote_is_found_again_after_another_login() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.db");
    let cloud = serving(&path).await;
    let token = cloud.log_in().await;
    let files = json!([{"name": "main.py", "content": "code"}]);
    let asked = json!({"name": "Remote", "files": files});
    let made = cloud.done(&token, "create_project", asked).await;
    let project = made["project"]["projectId"].clone();
    let notebook = json!({"projectId": project, "notebook": r#"{"cells": []}"#});
    cloud
        .done(&token, "jupyter_create_notebook", notebook)
        .await;
    let cell = json!({"projectId": project, "source": "print(1)"});
    cloud.done(&token, "jupyter_create_cell", cell).await;
    let first = json!({"projectId": project, "index": 0});
    cloud
        .done(&token, "jupyter_execute_cell", first.clone())
        .await;
    let object = json!({"key": "models/one", "content": "text"});
    cloud.done(&token, "object_store_set", object).await;
    let before = cloud.done(&token, "jupyter_read_cell", first.clone()).await;
    assert_eq!(before["cell"]["outputs"][0]["text"], "1");
    cloud.emulator.shutdown().await;

    let cloud = serving(&path).await;
    let message = remote_client::call("jupyter_read_cell", first.clone());
    let answer = cloud.message(&token, &message).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let token = cloud.log_in().await;
    let after = cloud.done(&token, "jupyter_read_cell", first).await;
    assert_eq!(after, before);
    let body = json!({"organizationId": cloud.emulator.organization_id(), "key": "models/one"});
    let found = cloud.ok("/object/properties", body).await;
    assert_eq!(found["metadata"]["preview"], "text");
}

#[tokio::test]
async fn what_was_under_way_goes_on_by_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.db");
    // Nothing is over before the first emulator ends.
    let hour = Duration::from_secs(3_600);
    let slow = Timing {
        backtest: hour,
        optimization_backtest: hour,
        live_initialize: hour,
        ..quick()
    };
    let cloud = keeping_with(&path, slow).await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let backtest = cloud.backtest(project, &compile).await;
    let of_backtest = json!({"projectId": project, "backtestId": backtest});
    let runs = |it: &Value| it["backtest"]["status"] == "'Running: _%'";
    cloud
        .until("/backtests/read", of_backtest.clone(), runs)
        .await;
    let paper = json!({"id": "QuantConnectBrokerage"});
    let body = cloud.deployment(project, &compile, paper).await;
    cloud.ok("/live/create", body).await;
    let search = search(&cloud, project, &compile).await;
    let runs = |it: &Value| it["optimization"]["runtimeStatistics"]["Running"] == "2";
    cloud
        .until("/optimizations/read", search.clone(), runs)
        .await;
    cloud.emulator.shutdown().await;

    // A cloud with the same hours shows the same again, and one in which they have passed goes on.
    let cloud = keeping_with(&path, slow).await;
    let read = cloud.ok("/backtests/read", of_backtest.clone()).await;
    assert_eq!(read["backtest"]["status"], "'Running: _%'");
    let initializes = |it: &Value| it["status"] == "Initializing";
    let of_project = json!({"projectId": project});
    cloud.until("/live/read", of_project, initializes).await;
    let read = cloud.ok("/optimizations/read", search.clone()).await;
    let statistics = &read["optimization"]["runtimeStatistics"];
    assert_eq!(statistics["Running"], "2");
    assert_eq!(statistics["In Queue"], "3");
    // Aborted, it waits for what ran; the next emulator runs nothing else of it.
    cloud.ok("/optimizations/abort", search.clone()).await;
    cloud.emulator.shutdown().await;

    let cloud = keeping(&path).await;
    let runs = |it: &Value| it["status"] == "Running";
    let of_project = json!({"projectId": project});
    cloud.until("/live/read", of_project, runs).await;
    let read = cloud.ok("/optimizations/read", search).await;
    assert_eq!(read["optimization"]["status"], "aborted");
    let children = read["optimization"]["backtests"].as_object().unwrap();
    assert_eq!(children.len(), 2);
    cloud
        .ok("/live/update/stop", json!({"projectId": project}))
        .await;
    cloud.emulator.shutdown().await;

    let cloud = keeping(&path).await;
    let live = cloud.ok("/live/read", json!({"projectId": project})).await;
    assert_eq!(live["status"], "Stopped");
}

#[tokio::test]
async fn an_optimization_goes_on_with_the_rest_of_its_grid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.db");
    let slow = Timing {
        optimization_queue: Duration::from_secs(3_600),
        ..quick()
    };
    let cloud = keeping_with(&path, slow).await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let search = search(&cloud, project, &compile).await;
    cloud.emulator.shutdown().await;

    let cloud = keeping(&path).await;
    let over = |it: &Value| it["optimization"]["status"] == "completed";
    let done = cloud.until("/optimizations/read", search, over).await;
    let statistics = &done["optimization"]["runtimeStatistics"];
    assert_eq!(statistics["Completed"], "5");
}

#[tokio::test]
async fn a_seed_that_is_refused_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.db");
    let builder = Emulator::builder().any_port().keep(&path).seed(twice());
    let refused = builder.start().await.map(drop);
    assert!(matches!(refused, Err(StartError::Seed(_))), "{refused:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_reset_forgets_everything_but_the_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.db");
    let cloud = start(|builder| builder.keep(&path).seed(seed("Seeded"))).await;
    assert_eq!(names(&cloud).await, ["Seeded"]);
    let last = create(&cloud, "Own").await;
    let used = Emulator::reset(&path, &Seed::default());
    assert!(
        matches!(used, Err(StartError::Data(DataError::InUse { .. }))),
        "{used:?}"
    );
    cloud.emulator.shutdown().await;

    // A seed is for a cloud that begins afresh.
    let cloud = start(|builder| builder.keep(&path).seed(seed("Another"))).await;
    assert_eq!(names(&cloud).await, ["Own", "Seeded"]);
    cloud.emulator.shutdown().await;

    // A seed that breaks a limit takes nothing away.
    let refused = Emulator::reset(&path, &twice());
    assert!(matches!(refused, Err(StartError::Seed(_))), "{refused:?}");
    Emulator::reset(&path, &seed("Again")).unwrap();
    let cloud = keeping(&path).await;
    assert_eq!(names(&cloud).await, ["Again"]);
    let read = cloud.ok("/projects/read", json!({})).await;
    let project = &read["projects"][0];
    assert!(project["projectId"].as_u64().unwrap() > last);
    assert_eq!(
        project["parameters"],
        json!([{"key": "fast", "value": "10"}])
    );
    let body = json!({"projectId": project["projectId"], "name": "main.py"});
    let file = cloud.ok("/files/read", body).await;
    assert_eq!(file["files"][0]["content"], "code");
    let body = json!({"organizationId": cloud.emulator.organization_id(), "key": "models/one"});
    let found = cloud.ok("/object/properties", body).await;
    assert_eq!(found["metadata"]["preview"], "text");
    cloud.emulator.shutdown().await;
    Emulator::reset(&path, &Seed::default()).unwrap();
    let cloud = keeping(&path).await;
    assert_eq!(names(&cloud).await, Vec::<String>::new());
}
