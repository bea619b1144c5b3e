//! Backtests, optimisations, compile jobs and deployments: to which project they belong, and what it costs to
//! find out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{ACCOUNT, MINE, OTHER, PLUGIN, World, allowed, answered, operation, scope, touch};
use qchost_catalog::Failure;
use qchost_scope::{Child, ScopeError};
use serde_json::{Value, json};

/// Operations on a child of a project, with their other arguments.
fn with_child() -> Vec<(&'static str, &'static str, Value)> {
    let grid = json!({
        "name": "g", "target": "t", "targetTo": "max", "strategy": "s", "parameters": [{"name": "p"}],
        "estimatedCost": 0, "nodeType": "O4-12", "parallelNodes": 1,
    });
    let page = json!({"start": 0, "end": 10});
    vec![
        ("backtests/read-backtest-orders", "backtestId", page.clone()),
        (
            "backtests/read-backtest-insights",
            "backtestId",
            page.clone(),
        ),
        (
            "backtests/read-backtest-chart",
            "backtestId",
            json!({"name": "n", "count": 1, "start": 0, "end": 1}),
        ),
        (
            "backtests/update-backtest",
            "backtestId",
            json!({"name": "n"}),
        ),
        ("backtests/delete-backtest", "backtestId", json!({})),
        (
            "backtests/create-backtest",
            "compileId",
            json!({"backtestName": "n"}),
        ),
        ("optimizations/create-optimization", "compileId", grid),
        (
            "live/create-live-algorithm",
            "compileId",
            json!({"versionId": "1", "nodeId": "n", "brokerage": "paper"}),
        ),
        (
            "live/read-live-logs",
            "algorithmId",
            json!({"startLine": 0, "endLine": 1}),
        ),
        (
            "backtests/filter-backtest-orders",
            "backtestId",
            page.clone(),
        ),
        ("backtests/read-backtest-trades", "backtestId", page.clone()),
        ("backtests/read-backtest-logs", "backtestId", page),
        ("backtests/read-backtest-report", "backtestId", json!({})),
        (
            "backtests/update-backtest-tags",
            "backtestId",
            json!({"tags": []}),
        ),
        ("exports/export-backtest-orders", "backtestId", json!({})),
        ("exports/export-backtest-trades", "backtestId", json!({})),
        ("exports/export-backtest-insights", "backtestId", json!({})),
        ("exports/export-backtest-logs", "backtestId", json!({})),
        ("exports/export-live-insights", "deployId", json!({})),
        ("exports/export-live-logs", "deployId", json!({})),
    ]
}

fn prefix(argument: &str) -> &'static str {
    match argument {
        "backtestId" => "bt",
        "compileId" => "co",
        "optimizationId" => "opt",
        _ => "L",
    }
}

fn arguments(project: u32, argument: &str, id: &str, rest: &Value) -> Value {
    let mut all = common::object(rest.clone());
    all.insert("projectId".to_owned(), json!(project));
    all.insert(argument.to_owned(), json!(id));
    Value::Object(all)
}

#[tokio::test]
async fn a_child_of_another_project_is_denied_before_anything_is_sent() {
    for (name, argument, rest) in with_child() {
        let (scope, world) = (scope(), World::default());
        let id = |project: u32| format!("{}-{project}", prefix(argument));
        let own = arguments(MINE, argument, &id(MINE), &rest);
        let touched = touch(&scope, &world, name, own).await;
        let touched = touched.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(touched.facts.iter().all(allowed), "{name}");

        for (project, child) in [(MINE, OTHER), (MINE, 12), (OTHER, MINE)] {
            let swapped = arguments(project, argument, &id(child), &rest);
            let error = touch(&scope, &world, name, swapped).await.unwrap_err();
            let ScopeError::Denied(why) = &error else {
                panic!("{name}: {error}");
            };
            // A strict server refuses a child of another project; a lenient one answers with its real
            // project.
            assert!(
                why.contains("does not belong to project") || why.contains("cannot be resolved"),
                "{name}: {why}"
            );
            assert!(!why.contains("Private"), "{name}: {why}");
        }
        let missing = arguments(MINE, argument, "unknown", &rest);
        let error = touch(&scope, &world, name, missing).await.unwrap_err();
        assert!(matches!(error, ScopeError::Denied(_)), "{name}: {error}");
        for bad in [
            json!(5),
            json!(["bt-11"]),
            json!(""),
            json!("bt 11"),
            json!("../bt-11"),
        ] {
            let mut wrong = common::object(arguments(MINE, argument, "x", &rest));
            wrong.insert(argument.to_owned(), bad);
            let error = touch(&scope, &world, name, Value::Object(wrong))
                .await
                .unwrap_err();
            assert!(matches!(error, ScopeError::Invalid(_)), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn the_answer_of_a_read_that_says_whose_it_is_is_enough() {
    let (scope, world) = (scope(), World::default());
    let read = "backtests/read-backtest";
    let own = json!({"projectId": MINE, "backtestId": "bt-11"});
    let (body, _) = answered(&scope, &world, read, own).await.unwrap();
    assert_eq!(body["backtest"]["name"], "of 11");
    assert_eq!(world.drain(), ["projects/read-project"]);

    let others = json!({"projectId": MINE, "backtestId": "bt-22"});
    let error = answered(&scope, &world, read, others).await.unwrap_err();
    assert!(
        matches!(&error, ScopeError::Denied(why) if why.contains("does not belong to project 11")),
        "{error}"
    );

    // If only the answer can name the project, it has to.
    let arguments = common::object(json!({"projectId": MINE, "backtestId": "bt-12"}));
    let touched = common::resolve(&scope, &world, operation(read), &arguments)
        .await
        .unwrap();
    for silent in [
        json!({"backtest": {"backtestId": "bt-12"}}),
        json!({"backtest": {"projectId": MINE}}),
        json!({"backtest": {"projectId": MINE, "backtestId": "bt-11"}}),
        json!({"backtest": {"projectId": "x", "backtestId": "bt-12"}}),
        json!({"backtest": null}),
        json!({}),
    ] {
        let answer = scope
            .answer(
                &world,
                ACCOUNT,
                PLUGIN,
                operation(read),
                &touched,
                silent.clone(),
                &allowed,
            )
            .await;
        assert!(matches!(answer, Err(ScopeError::Denied(_))), "{silent}");
    }
}

#[tokio::test]
async fn an_optimisation_is_resolved_first() {
    for name in [
        "read-optimization",
        "read-optimization-analysis",
        "update-optimization",
        "abort-optimization",
        "delete-optimization",
    ] {
        let (scope, world) = (scope(), World::default());
        let name = format!("optimizations/{name}");
        let arguments = |id: &str| match name.as_str() {
            "optimizations/update-optimization" => json!({"optimizationId": id, "name": "n"}),
            _ => json!({"optimizationId": id}),
        };
        let own = touch(&scope, &world, &name, arguments("opt-11"))
            .await
            .unwrap();
        assert_eq!(own.project, Some((MINE, "Lab/mine".to_owned())), "{name}");
        assert!(own.facts.iter().all(allowed), "{name}");
        let other = touch(&scope, &world, &name, arguments("opt-22"))
            .await
            .unwrap();
        assert!(!other.facts.iter().all(allowed), "{name}");
        let error = touch(&scope, &world, &name, arguments("opt-99"))
            .await
            .unwrap_err();
        assert!(matches!(error, ScopeError::Denied(_)), "{name}: {error}");
        let reads = world.drain();
        assert!(
            reads.contains(&"optimizations/read-optimization"),
            "{name}: {reads:?}"
        );
    }
}

#[tokio::test]
async fn a_poll_loop_costs_at_most_one_read() {
    let (scope, world) = (scope(), World::default());
    let compile = json!({"projectId": MINE});
    let (compile, learned) = answered(&scope, &world, "compile/create-compile", compile)
        .await
        .unwrap();
    let compile = &compile["compileId"];
    assert_eq!(
        learned.compile,
        Some((MINE, compile.as_str().unwrap().to_owned()))
    );
    for _ in 0..20 {
        let read = json!({"projectId": MINE, "compileId": compile});
        answered(&scope, &world, "compile/read-compile", read)
            .await
            .unwrap();
    }
    let create = json!({"projectId": MINE, "compileId": compile, "backtestName": "b"});
    let (backtest, _) = answered(&scope, &world, "backtests/create-backtest", create)
        .await
        .unwrap();
    let backtest = &backtest["backtest"]["backtestId"];
    for _ in 0..20 {
        let read = json!({"projectId": MINE, "backtestId": backtest});
        answered(&scope, &world, "backtests/read-backtest", read)
            .await
            .unwrap();
        let read = json!({"projectId": MINE, "backtestId": backtest, "start": 0, "end": 9});
        answered(&scope, &world, "backtests/read-backtest-orders", read)
            .await
            .unwrap();
    }
    assert_eq!(world.drain(), ["projects/read-project"]);
}

#[tokio::test]
async fn a_poll_loop_on_what_was_there_before_costs_at_most_one_read_more() {
    let (scope, world) = (scope(), World::default());
    for _ in 0..20 {
        let read = json!({"optimizationId": "opt-11"});
        answered(&scope, &world, "optimizations/read-optimization", read)
            .await
            .unwrap();
        let logs = json!({"projectId": MINE, "algorithmId": "L-11", "startLine": 0, "endLine": 9});
        answered(&scope, &world, "live/read-live-logs", logs)
            .await
            .unwrap();
    }
    let mut reads = world.drain();
    reads.sort_unstable();
    assert_eq!(
        reads,
        [
            "live/list-live-algorithms",
            "optimizations/read-optimization",
            "projects/read-project"
        ]
    );
}

#[tokio::test]
async fn what_the_ledger_remembers_need_not_be_read() {
    let (scope, world) = (scope(), World::default());
    let missing = Failure::NotFound("the server has forgotten it".to_owned());
    *world.broken.lock() = Some(("compile/read-compile", missing));
    let create = || json!({"projectId": MINE, "compileId": "co-old", "backtestName": "b"});
    let error = touch(&scope, &world, "backtests/create-backtest", create())
        .await
        .unwrap_err();
    assert!(matches!(error, ScopeError::Denied(_)), "{error}");
    scope.remember_child(ACCOUNT, Child::Compile, "co-old", MINE);
    touch(&scope, &world, "backtests/create-backtest", create())
        .await
        .unwrap();
    scope.remember_child(ACCOUNT, Child::Compile, "co-old", OTHER);
    let error = touch(&scope, &world, "backtests/create-backtest", create())
        .await
        .unwrap_err();
    assert!(matches!(error, ScopeError::Denied(_)), "{error}");
}

#[tokio::test]
async fn items_and_answers_of_other_projects_are_not_shown() {
    let (scope, world) = (scope(), World::default());
    let check = async |name: &str, body: Value| {
        let arguments = common::object(json!({"projectId": MINE}));
        let touched = common::resolve(&scope, &world, operation(name), &arguments)
            .await
            .unwrap();
        let answer = scope
            .answer(
                &world,
                ACCOUNT,
                PLUGIN,
                operation(name),
                &touched,
                body,
                &allowed,
            )
            .await;
        answer.map(|(body, _)| body)
    };
    let body = check("backtests/list-backtests", json!({"count": 3, "backtests": [
        {"backtestId": "a"}, {"backtestId": "b", "projectId": OTHER}, {"backtestId": "c", "projectId": MINE},
    ]})).await.unwrap();
    assert_eq!(
        body,
        json!({"count": 2, "backtests": [{"backtestId": "a"}, {"backtestId": "c", "projectId": MINE}]})
    );
    let body = check(
        "optimizations/list-optimizations",
        json!({"optimizations": [
            {"optimizationId": "a", "projectId": MINE}, {"optimizationId": "b", "projectId": "22"},
        ]}),
    )
    .await
    .unwrap();
    assert_eq!(body["optimizations"].as_array().unwrap().len(), 1);
    for (name, body) in [
        (
            "backtests/list-backtests",
            json!({"backtests": [{"backtestId": "b", "projectId": OTHER}]}),
        ),
        (
            "live/read-live-algorithm",
            json!({"projectId": OTHER, "deployId": "L-22"}),
        ),
        (
            "projects/read-project",
            json!({"projects": [{"projectId": OTHER, "name": "Private/SECRET"}]}),
        ),
        (
            "compile/create-compile",
            json!({"projectId": [MINE], "compileId": "c"}),
        ),
    ] {
        let answer = check(name, body).await;
        assert!(
            matches!(answer, Err(ScopeError::Denied(_))),
            "{name}: {answer:?}"
        );
    }
}
