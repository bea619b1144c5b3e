//! Operations that put money at risk: deployments, commands, rights, and the cost of optimisations.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{MINE, ORGANIZATION, OTHER, World, scope, touch};
use qchost_catalog::Failure;
use qchost_policy::{Brokerage, Resource, Usd};
use qchost_scope::{ScopeError, Touched};
use serde_json::{Map, Value, json};

async fn with(name: &str, arguments: Value) -> Result<Touched, ScopeError> {
    touch(&scope(), &World::default(), name, arguments).await
}

async fn invalid(name: &str, arguments: Value) -> String {
    match with(name, arguments).await {
        Err(ScopeError::Invalid(why)) => why,
        other => panic!("{name}: {other:?}"),
    }
}

fn changed(base: &Value, changes: Value) -> Value {
    let mut all: Map<String, Value> = common::object(base.clone());
    all.extend(common::object(changes));
    Value::Object(all)
}

#[tokio::test]
async fn a_deployment_is_live_if_its_brokerage_is() {
    let deploy = "live/create-live-algorithm";
    let base = json!({"versionId": "1", "projectId": MINE, "compileId": "co-11", "nodeId": "LN-1", "brokerage": "paper"});
    for (name, live) in [("paper", false), ("broker", true)] {
        let touched = with(deploy, changed(&base, json!({"brokerage": name})))
            .await
            .unwrap();
        let [facts] = touched.facts.as_slice() else {
            panic!("{touched:?}")
        };
        assert_eq!(
            facts.context.brokerage,
            Some(Brokerage {
                profile: name.to_owned(),
                live
            })
        );
        assert_eq!(facts.context.live, live);
        assert_eq!(facts.context.node.as_deref(), Some("LN-1"));
    }
    let touched = with(
        deploy,
        changed(&base, json!({"dataProviders": ["data", "broker"]})),
    )
    .await
    .unwrap();
    let providers: Vec<_> = touched
        .facts
        .iter()
        .map(|it| it.context.data_provider.as_deref().unwrap())
        .collect();
    assert_eq!(providers, ["data", "broker"]);
    assert!(
        touched
            .facts
            .iter()
            .all(|it| it.context.brokerage.is_some() && !it.context.live)
    );
    for bad in [
        // The operator's profile gives these.
        json!({"parameters": {"fast": "7"}}),
        json!({"automaticRedeploy": true}),
        json!({"notification": {"events": [], "targets": []}}),
        json!({"brokerage": "unknown"}),
        json!({"brokerage": {"id": "PaperBrokerage"}}),
        json!({"brokerage": null}),
        json!({"dataProviders": ["unknown"]}),
        json!({"dataProviders": {"x": {}}}),
        json!({"dataProviders": "data"}),
        json!({"nodeId": ["LN-1"]}),
        json!({"nodeId": ""}),
    ] {
        let why = invalid(deploy, changed(&base, bad)).await;
        assert!(
            !why.contains("broker,") && !why.contains("paper,"),
            "names no profile: {why}"
        );
    }
}

#[tokio::test]
async fn a_command_is_on_paper_only_if_the_account_says_so() {
    let send = "live-commands/create-live-command";
    let command = |project: u32, command: Value| json!({"projectId": project, "command": command});
    let order = || json!({"$type": "OrderCommand", "quantity": 1});
    for (project, live) in [(MINE, false), (12, true), (OTHER, true)] {
        let touched = with(send, command(project, order())).await.unwrap();
        assert_eq!(touched.facts[0].context.live, live, "{project}");
        assert_eq!(
            touched.facts[0].context.command.as_deref(),
            Some("OrderCommand")
        );
    }
    let world = World::default();
    let status = "live/read-live-algorithm";
    *world.broken.lock() = Some((status, Failure::NotFound("none".to_owned())));
    let touched = touch(&scope(), &world, send, command(MINE, order()))
        .await
        .unwrap();
    assert!(
        touched.facts[0].context.live,
        "nothing proves that it is paper"
    );
    *world.broken.lock() = Some((status, Failure::Unavailable("down".to_owned())));
    let failed = touch(&scope(), &world, send, command(MINE, order())).await;
    assert!(matches!(failed, Err(ScopeError::Failed(_))), "{failed:?}");

    let touched = with(send, command(MINE, json!({}))).await.unwrap();
    assert_eq!(
        touched.facts[0].context.command.as_deref(),
        Some(""),
        "no kind is no wildcard"
    );
    for bad in [
        json!({"$type": 5}),
        json!({"$type": null}),
        json!({"$type": "Safe", "$Type": "OrderCommand"}),
        json!({"$TYPE": "OrderCommand"}),
        json!({" $type": "OrderCommand"}),
        json!("{\"$type\": \"x\"}"),
        json!([]),
    ] {
        invalid(send, command(MINE, bad)).await;
    }
}

#[tokio::test]
async fn a_command_is_on_paper_only_if_every_deployment_that_runs_is() {
    let send = "live-commands/create-live-command";
    let order = || json!({"projectId": MINE, "command": {"$type": "OrderCommand"}});
    for (status, brokerage, live) in [
        ("Running", "PaperBrokerage", false),
        ("Running", "InteractiveBrokersBrokerage", true),
        ("PendingInput", "KrakenBrokerage", true),
        ("Stopped", "InteractiveBrokersBrokerage", false),
    ] {
        let world = World::default();
        world.beside(MINE, status, brokerage);
        let touched = touch(&scope(), &world, send, order()).await.unwrap();
        assert_eq!(touched.facts[0].context.live, live, "{status} {brokerage}");
    }
    // One that has no id cannot be read.
    let world = World::default();
    *world.listed.lock() = Some(json!([{"projectId": MINE, "status": "Running"}]));
    let touched = touch(&scope(), &world, send, order()).await.unwrap();
    assert!(touched.facts[0].context.live);
}

#[tokio::test]
async fn a_broadcast_goes_to_the_organisation_and_is_live() {
    let send = "live-commands/broadcast-live-command";
    let base = json!({"organizationId": ORGANIZATION, "command": {"$type": "Stop"}});
    for arguments in [
        base.clone(),
        changed(&base, json!({"excludeProjectId": MINE})),
        changed(&base, json!({"excludeProjectId": null})),
    ] {
        let touched = with(send, arguments).await.unwrap();
        let [facts] = touched.facts.as_slice() else {
            panic!("{touched:?}")
        };
        assert_eq!(
            facts.resource,
            Resource::Organization(ORGANIZATION.to_owned()),
            "what is left out is not what is touched"
        );
        assert!(facts.context.live);
        assert_eq!(facts.context.command.as_deref(), Some("Stop"));
        assert_eq!(touched.project, None);
    }
    for bad in [json!("11"), json!(11.5), json!(0)] {
        invalid(send, changed(&base, json!({"excludeProjectId": bad}))).await;
    }
}

#[tokio::test]
async fn rights_to_trade_are_live() {
    for (name, control, write) in [
        (
            "collaboration/create-project-collaborator",
            "collaborationLiveControl",
            "collaborationWrite",
        ),
        (
            "collaboration/update-project-collaborator",
            "liveControl",
            "write",
        ),
    ] {
        let base =
            json!({"projectId": MINE, "collaboratorUserId": "mia-ai", control: false, write: true});
        for live in [false, true] {
            let touched = with(name, changed(&base, json!({control: live})))
                .await
                .unwrap();
            assert_eq!(touched.facts[0].context.live, live, "{name}");
            assert_eq!(
                touched.facts[0].context.collaborator.as_deref(),
                Some("mia-ai")
            );
        }
        for bad in [json!(null), json!("false"), json!(0)] {
            invalid(name, changed(&base, json!({control: bad}))).await;
        }
        for bad in [json!(5), json!(""), json!(" mia-ai"), json!(["mia-ai"])] {
            invalid(name, changed(&base, json!({"collaboratorUserId": bad}))).await;
        }
    }
}

#[tokio::test]
async fn what_makes_things_safer_is_not_live() {
    for name in ["live/stop-live-algorithm", "live/liquidate-live-algorithm"] {
        let touched = with(name, json!({"projectId": 12})).await.unwrap();
        assert!(!touched.facts[0].context.live, "{name}");
    }
}

#[tokio::test]
async fn authorising_a_brokerage_is_about_real_money() {
    let touched = with("live/authorize-connection", json!({"brokerage": "Alpaca"}))
        .await
        .unwrap();
    let [facts] = touched.facts.as_slice() else {
        panic!("{touched:?}")
    };
    assert_eq!(facts.resource, Resource::Account);
    assert_eq!(
        facts.context.brokerage,
        Some(Brokerage {
            profile: "Alpaca".to_owned(),
            live: true
        })
    );
    assert!(facts.context.live);
}

#[tokio::test]
async fn each_node_is_decided_about() {
    let update = "nodes/update-project-nodes";
    let touched = with(update, json!({"projectId": MINE, "nodes": ["a", "b"]}))
        .await
        .unwrap();
    let nodes: Vec<_> = touched
        .facts
        .iter()
        .map(|it| it.context.node.as_deref().unwrap())
        .collect();
    assert_eq!(nodes, ["a", "b"]);
    let touched = with(update, json!({"projectId": MINE})).await.unwrap();
    assert_eq!(touched.facts.len(), 1);
    for bad in [json!("a"), json!([5]), json!([""]), json!({})] {
        invalid(update, json!({"projectId": MINE, "nodes": bad})).await;
    }
}

fn grid() -> Value {
    json!({
        "projectId": MINE, "name": "g", "target": "t", "targetTo": "max", "strategy": "s",
        "compileId": "co-11",
        "parameters": [{"name": "a", "min": 1, "max": 10, "step": 1}, {"name": "b", "min": 2, "max": 2, "step": 1}],
        "estimatedCost": 0, "nodeType": "O2-8", "parallelNodes": 4,
    })
}

const OPTIMIZE: &str = "optimizations/create-optimization";

#[tokio::test]
async fn the_cost_is_the_larger_of_two() {
    // Ten times 30 s and one and a half times 36 s at $15 an hour, and half of that.
    for (claim, cost) in [
        (json!(0), 52_500),
        (json!(5.24999), 52_500),
        (json!(5.25001), 52_501),
        (json!(7.5), 75_000),
    ] {
        let touched = with(OPTIMIZE, changed(&grid(), json!({"estimatedCost": claim})))
            .await
            .unwrap();
        assert_eq!(touched.cost, Some(Usd(cost)), "{claim}");
        let context = &touched.facts[0].context;
        assert_eq!(context.cost, Some(Usd(cost)));
        assert_eq!(context.node_type.as_deref(), Some("O2-8"));
        assert_eq!(
            (context.parallel_nodes, context.parameters),
            (Some(4), Some(2))
        );
    }
    let world = World::default();
    let touched = touch(
        &scope(),
        &world,
        OPTIMIZE,
        changed(&grid(), json!({"nodeType": "O8-16", "estimatedCost": 1})),
    )
    .await
    .unwrap();
    assert_eq!(
        (touched.cost, touched.facts[0].context.cost),
        (None, None),
        "there is no price"
    );
    assert!(
        !world
            .drain()
            .contains(&"optimizations/estimate-optimization-time")
    );
}

#[tokio::test]
async fn the_estimate_is_asked_with_the_same_arguments() {
    let world = World::default();
    touch(&scope(), &world, OPTIMIZE, grid()).await.unwrap();
    let reads = world.reads.lock();
    let (_, asked) = reads
        .iter()
        .find(|(name, _)| name.ends_with("estimate-optimization-time"))
        .unwrap();
    let names: Vec<_> = asked.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "projectId",
            "name",
            "target",
            "targetTo",
            "strategy",
            "compileId",
            "parameters"
        ]
    );
}

#[tokio::test]
async fn a_claim_that_is_no_amount_is_invalid() {
    for bad in [
        json!(-1),
        json!("1"),
        json!("NaN"),
        json!(1e300),
        json!(null),
        json!([1]),
        json!(true),
    ] {
        let why = invalid(OPTIMIZE, changed(&grid(), json!({"estimatedCost": bad}))).await;
        assert!(why.contains("`estimatedCost`"), "{bad}: {why}");
    }
    for bad in [json!(0), json!(-1), json!("4"), json!(1.5), json!(null)] {
        let why = invalid(OPTIMIZE, changed(&grid(), json!({"parallelNodes": bad}))).await;
        assert!(why.contains("`parallelNodes`"), "{bad}: {why}");
    }
    for bad in [json!(""), json!(5), json!(["O2-8"]), json!(null)] {
        let why = invalid(OPTIMIZE, changed(&grid(), json!({"nodeType": bad}))).await;
        assert!(why.contains("`nodeType`"), "{bad}: {why}");
    }
    for bad in [json!({}), json!("p"), json!(null)] {
        let why = invalid(OPTIMIZE, changed(&grid(), json!({"parameters": bad}))).await;
        assert!(why.contains("`parameters`"), "{bad}: {why}");
    }
}

#[tokio::test]
async fn more_nodes_cost_no_more_and_have_a_maximum() {
    for nodes in [1, 24] {
        let touched = with(OPTIMIZE, changed(&grid(), json!({"parallelNodes": nodes})))
            .await
            .unwrap();
        assert_eq!(touched.cost, Some(Usd(52_500)), "{nodes}");
    }
    let world = World::default();
    let many = changed(&grid(), json!({"parallelNodes": 25}));
    match touch(&scope(), &world, OPTIMIZE, many).await {
        Err(ScopeError::Invalid(why)) => assert!(why.contains("at most 24 nodes"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(world.drain().is_empty(), "something was read");
}

#[tokio::test]
async fn without_the_time_of_one_backtest_or_a_grid_the_cost_is_unknown() {
    for estimate in [
        json!({}),
        json!({"time": null}),
        json!({"time": 0}),
        json!({"time": -1}),
        json!({"time": "36"}),
    ] {
        let world = World::default();
        *world.estimate.lock() = estimate.clone();
        let claim = changed(&grid(), json!({"estimatedCost": 7.5}));
        let touched = touch(&scope(), &world, OPTIMIZE, claim).await.unwrap();
        let context = &touched.facts[0].context;
        assert_eq!((touched.cost, context.cost), (None, None), "{estimate}");
    }
    for parameters in [
        json!([{"name": "a"}]),
        json!([{"name": "a", "min": 1, "max": 10, "step": 0}]),
        json!([{"name": "a", "min": 1, "max": 10, "step": 1, "Max": 1000}]),
    ] {
        let touched = with(
            OPTIMIZE,
            changed(&grid(), json!({"parameters": parameters})),
        )
        .await
        .unwrap();
        assert_eq!(touched.cost, None, "{parameters}");
        assert_eq!(touched.facts[0].context.parameters, Some(1));
    }
}

#[tokio::test]
async fn parameters_of_a_backtest_are_an_object() {
    let create = "backtests/create-backtest";
    let base = json!({"projectId": MINE, "compileId": "co-11", "backtestName": "b"});
    for (parameters, count) in [
        (json!({"a": 1, "b": "2"}), 2),
        (json!({}), 0),
        (json!(null), 0),
    ] {
        let touched = with(create, changed(&base, json!({"parameters": parameters})))
            .await
            .unwrap();
        assert_eq!(
            touched.facts[0].context.parameters,
            Some(count),
            "{parameters}"
        );
    }
    for bad in [json!([]), json!("a"), json!(1)] {
        invalid(create, changed(&base, json!({"parameters": bad}))).await;
    }
}

#[tokio::test]
async fn a_chart_is_decided_about_by_its_name() {
    let base = json!({"projectId": MINE, "name": "Prices", "count": 9, "start": 0, "end": 9});
    let backtest = changed(&base, json!({"backtestId": "bt-11"}));
    for (read, arguments) in [
        ("live/read-live-chart", base),
        ("backtests/read-backtest-chart", backtest),
    ] {
        let touched = with(read, arguments.clone()).await.unwrap();
        let chart = touched.facts[0].context.chart.as_deref();
        assert_eq!(chart, Some("Prices"), "{read}");
        let why = invalid(read, changed(&arguments, json!({"name": " Prices"}))).await;
        assert!(why.contains("`name`"), "{why}");
    }
}
