//! Which of several deployments of a project a call is about.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{ACCOUNT, MINE, World, answered, operation, scope, touch};
use qchost_scope::ScopeError;
use serde_json::{Value, json};

/// Calls that are about one deployment and do not name it, and the argument by which they could.
fn unnamed() -> Vec<(&'static str, Value, Option<&'static str>)> {
    let page = json!({"projectId": MINE, "start": 0, "end": 9});
    let chart = json!({"projectId": MINE, "name": "x", "count": 9, "start": 0, "end": 9});
    vec![
        (
            "live/read-live-algorithm",
            json!({"projectId": MINE}),
            Some("deployId"),
        ),
        (
            "live/read-live-details",
            json!({"projectId": MINE}),
            Some("deployId"),
        ),
        ("live/read-live-insights", page.clone(), Some("algorithmId")),
        ("live/read-live-portfolio", json!({"projectId": MINE}), None),
        ("live/read-live-orders", page, None),
        ("live/read-live-chart", chart, None),
        (
            "live-commands/create-live-command",
            json!({"projectId": MINE, "command": {"$type": "OrderCommand"}}),
            None,
        ),
    ]
}

async fn checked(world: &World, name: &str, arguments: Value) -> Result<(), ScopeError> {
    let scope = scope();
    let touched = touch(&scope, world, name, arguments).await.unwrap();
    scope
        .check_deployment(world, ACCOUNT, operation(name), &touched)
        .await
}

#[tokio::test]
async fn of_several_that_run_one_has_to_be_named() {
    for (name, arguments, argument) in unnamed() {
        let world = World::default();
        checked(&world, name, arguments.clone()).await.unwrap();
        world.beside(MINE, "Running", "PaperBrokerage");
        let refused = checked(&world, name, arguments.clone()).await;
        let Err(ScopeError::Invalid(why)) = refused else {
            panic!("{name}: {refused:?}")
        };
        for word in ["\"L-11\"", "\"L-11b\"", "that run"] {
            assert!(why.contains(word), "{name}: {why}");
        }
        let Some(argument) = argument else {
            assert!(why.contains("nothing was sent"), "{name}: {why}");
            continue;
        };
        assert!(why.contains(argument), "{name}: {why}");
        let mut named = arguments;
        named[argument] = json!("L-11b");
        checked(&world, name, named).await.unwrap();
    }
}

#[tokio::test]
async fn the_one_that_runs_is_meant_and_of_ended_ones_one_has_to_be_named() {
    for (name, arguments, argument) in unnamed() {
        let world = World::default();
        world.beside(MINE, "Stopped", "PaperBrokerage");
        checked(&world, name, arguments.clone()).await.unwrap();
        // The first one has no status, which is no evidence that it has ended.
        let ended = |project: u32, id: &str| json!({"projectId": project, "deployId": id, "status": "Stopped"});
        let rows = json!([ended(MINE, "L-11"), ended(MINE, "L-11b")]);
        *world.listed.lock() = Some(rows);
        let checked = checked(&world, name, arguments).await;
        assert_eq!(checked.is_err(), argument.is_some(), "{name}: {checked:?}");
    }
}

#[tokio::test]
async fn a_call_that_names_one_or_is_about_all_lists_nothing() {
    let (scope, world) = (scope(), World::default());
    world.beside(MINE, "Running", "PaperBrokerage");
    let name = "live/read-live-trades";
    let page = json!({"projectId": MINE, "start": 0, "end": 9});
    let touched = touch(&scope, &world, name, page).await.unwrap();
    world.drain();
    scope
        .check_deployment(&world, ACCOUNT, operation(name), &touched)
        .await
        .unwrap();
    assert_eq!(world.count(), 0);
}

#[tokio::test]
async fn an_answer_about_another_deployment_than_the_named_one_is_withheld() {
    for name in ["live/read-live-algorithm", "live/read-live-details"] {
        let (scope, world) = (scope(), World::default());
        let named = json!({"projectId": MINE, "deployId": "L-11b"});
        world.beside(MINE, "Running", "PaperBrokerage");
        let (body, _) = answered(&scope, &world, name, named.clone()).await.unwrap();
        assert_eq!(body["deployId"], "L-11b");
        // As a server does that does not know the argument.
        world.state.lock().beside.clear();
        let withheld = answered(&scope, &world, name, named).await;
        assert!(
            matches!(withheld, Err(ScopeError::Denied(_))),
            "{withheld:?}"
        );
    }
}
