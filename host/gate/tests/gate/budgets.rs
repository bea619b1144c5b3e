//! Budgets and rates as a plugin meets them: the typed error, nothing sent, and no refill by an edit, a
//! failure or a restart.

use crate::support::{Cloud, Setup, call, caller, parse};
use qchost_catalog::Failure;
use qchost_gate::Refusal;
use serde_json::json;

const BACKTESTS: &str =
    "[[grant]]\nname = \"tests\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\n";

const FILES: &str = "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\n";

fn file(name: &str) -> serde_json::Value {
    json!({ "projectId": 1, "name": name, "content": "" })
}

fn backtest(name: &str) -> serde_json::Value {
    json!({ "projectId": 1, "compileId": "c1", "backtestName": name })
}

#[tokio::test]
async fn a_day_has_as_many_calls_as_the_grant_says_also_after_a_restart() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-day = 3 }}\n"));
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let gate = setup.open_in(folder.path(), &cloud).await;
    let create = async |gate: &qchost_gate::Gate| {
        call(
            gate,
            &caller("lab"),
            "backtests/create-backtest",
            backtest("x"),
        )
        .await
    };
    create(&gate).await.unwrap();
    create(&gate).await.unwrap();
    gate.idle().await;
    drop(gate);

    let gate = setup.open_in(folder.path(), &cloud).await;
    create(&gate).await.unwrap();
    // Neither an edit nor another order of the grants refills it.
    gate.install(parse(&format!(
        "{}limits = {{ per-day = 3, concurrent = 9 }}\n",
        setup.manifest.split("limits").next().unwrap()
    )))
    .unwrap();
    let refused = create(&gate).await.unwrap_err();
    let Refusal::Exhausted {
        grant,
        budget,
        resets_in,
        ..
    } = &refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((grant.as_str(), *budget), ("tests", "per-day"));
    assert!(resets_in.unwrap().as_secs() <= 24 * 3600);
    let created = cloud
        .sent()
        .iter()
        .filter(|tool| *tool == "create_backtest")
        .count();
    assert_eq!(created, 3);
}

#[tokio::test]
async fn what_was_not_done_is_given_back() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-day = 1 }}\n"));
    let world = setup.open().await;
    for failure in [
        Failure::Rejected(vec!["no".to_owned()]),
        Failure::RateLimited { retry_after: None },
        Failure::Unavailable("down".to_owned()),
    ] {
        let answer = failure.clone();
        world
            .cloud
            .hook(move |tool, _| (tool == "create_backtest").then(|| Err(answer.clone())));
        let refused = world.call("backtests/create-backtest", backtest("x")).await;
        assert_eq!(refused.unwrap_err(), Refusal::Failed(failure));
    }
    // An answer that was lost may stand for something that was done.
    world.cloud.hook(|tool, _| {
        (tool == "create_backtest").then(|| Err(Failure::UnknownOutcome("lost".to_owned())))
    });
    world
        .call("backtests/create-backtest", backtest("x"))
        .await
        .unwrap_err();
    let sent = world.cloud.sent().len();
    let refused = world.call("backtests/create-backtest", backtest("x")).await;
    assert!(
        matches!(refused, Err(Refusal::Exhausted { .. })),
        "{refused:?}"
    );
    assert_eq!(world.cloud.sent().len(), sent);
}

#[tokio::test]
async fn reads_are_counted_too() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-day = 2 }}\n"));
    let world = setup.open().await;
    let read = async || {
        world
            .call("backtests/list-backtests", json!({ "projectId": 1 }))
            .await
    };
    read().await.unwrap();
    read().await.unwrap();
    let sent = world.cloud.sent();
    assert!(matches!(read().await, Err(Refusal::Exhausted { .. })));
    assert_eq!(world.cloud.sent(), sent);
}

#[tokio::test]
async fn only_so_many_at_a_time() {
    let setup = Setup::grants(&format!("{FILES}limits = {{ concurrent = 1 }}\n"));
    let world = setup.open().await;
    world
        .call("files/read-file", json!({ "projectId": 1 }))
        .await
        .unwrap();
    world.cloud.may_answer.forget_permits(1_000_000);
    let first = tokio::spawn({
        let (gate, caller) = (world.gate.clone(), world.caller.clone());
        async move { call(&gate, &caller, "files/create-file", file("x")).await }
    });
    let sent = async || {
        while !world.cloud.sent().contains(&"create_file".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), sent())
        .await
        .unwrap();
    let second = world.call("files/create-file", file("y")).await;
    let Err(Refusal::Exhausted { budget, .. }) = second else {
        panic!("{second:?}")
    };
    assert_eq!(budget, "concurrent");
    world.cloud.may_answer.add_permits(1_000_000);
    first.await.unwrap().unwrap();
    world.gate.idle().await;
    world.call("files/create-file", file("z")).await.unwrap();
}

#[tokio::test]
async fn too_fast_is_told_to_wait() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-minute = 2 }}\n"));
    let world = setup.open().await;
    let read = async || {
        world
            .call("backtests/list-backtests", json!({ "projectId": 1 }))
            .await
    };
    read().await.unwrap();
    read().await.unwrap();
    let sent = world.cloud.sent();
    let Err(Refusal::RateLimited(wait)) = read().await else {
        panic!("not limited")
    };
    assert!(wait.as_secs() <= 60 && !wait.is_zero(), "{wait:?}");
    assert_eq!(world.cloud.sent(), sent);
}

#[tokio::test]
async fn a_plugin_that_claims_a_cost_of_nothing_pays_what_the_host_estimates() {
    let grants = "[[grant]]\nname = \"optimise\"\nallow = [\"optimizations/create-optimization\"]\nprojects = [\"Lab/*\"]\nmax-cost = 5.0\nlimits = { cost-per-day = 6.0 }\n";
    let world = Setup::grants(grants).open().await;
    let optimise = async |hours: f64, claimed: serde_json::Value| {
        let seconds = hours * 3600.0;
        world.cloud.hook(move |tool, _| {
            (tool == "estimate_optimization_time").then(|| {
                Ok(json!({ "success": true, "estimate": { "estimateId": "", "time": seconds, "balance": 0 } }))
            })
        });
        let arguments = json!({
            "projectId": 1, "name": "o", "target": "Sharpe", "targetTo": "max", "strategy": "grid", "compileId": "c1",
            "parameters": [{ "name": "fast", "min": 1, "max": 2, "step": 1 }], "estimatedCost": claimed,
            "nodeType": "O2-8", "parallelNodes": 4,
        });
        world
            .call("optimizations/create-optimization", arguments)
            .await
    };
    let created = || {
        world
            .cloud
            .sent()
            .iter()
            .filter(|tool| *tool == "create_optimization")
            .count()
    };
    // 0.06 dollars an hour, four nodes: 25 hours are 6 dollars, whatever the plugin says.
    let refused = optimise(25.0, json!(0)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Denied(_)), "{refused:?}");
    assert_eq!(created(), 0);
    // 15 hours are 3.60.
    optimise(15.0, json!(0)).await.unwrap();
    let refused = optimise(15.0, json!(0)).await.unwrap_err();
    assert!(
        matches!(
            &refused,
            Refusal::Exhausted {
                budget: "cost-per-day",
                ..
            }
        ),
        "{refused:?}"
    );
    // What the plugin says counts if it is more.
    let refused = optimise(1.0, json!(5.1)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Denied(_)), "{refused:?}");
    let refused = optimise(1.0, json!(-1)).await.unwrap_err();
    assert!(
        matches!(refused, Refusal::Failed(Failure::InvalidArgument(_))),
        "{refused:?}"
    );
    assert_eq!(created(), 1);
    optimise(1.0, json!(0)).await.unwrap();
    assert_eq!(created(), 2);
}
