//! Projects: ids are read strictly, names come from the account and are cached for a limited time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::time::Duration;

use common::{ACCOUNT, MINE, OTHER, PLUGIN, World, allowed, answered, configured, scope, touch};
use qchost_catalog::Failure;
use qchost_policy::{Facts, Project, Resource};
use qchost_scope::{Scope, ScopeError, Touched};
use serde_json::{Value, json};

const NAME: &str = "projects/read-project";

fn project(facts: &Facts) -> &Project {
    match &facts.resource {
        Resource::Project(project) => project,
        other => panic!("{other:?}"),
    }
}

async fn denied(scope: &Scope, world: &World, name: &str, arguments: Value) -> String {
    match touch(scope, world, name, arguments).await {
        Err(ScopeError::Denied(why)) => why,
        other => panic!("{name}: {other:?}"),
    }
}

async fn invalid(scope: &Scope, world: &World, name: &str, arguments: Value) -> String {
    match touch(scope, world, name, arguments).await {
        Err(ScopeError::Invalid(why)) => why,
        other => panic!("{name}: {other:?}"),
    }
}

async fn touched(scope: &Scope, world: &World, name: &str, arguments: Value) -> Touched {
    touch(scope, world, name, arguments).await.unwrap()
}

#[tokio::test]
async fn an_id_is_a_whole_number_and_nothing_else() {
    let (scope, world) = (scope(), World::default());
    for bad in [
        json!("11"),
        json!(11.0),
        json!(11.5),
        json!(true),
        json!([11]),
        json!({"id": 11}),
        json!(0),
        json!(-11),
        json!(4_294_967_307_u64),
        json!(""),
        json!(null),
    ] {
        for name in [
            "backtests/list-backtests",
            "projects/delete-project",
            "files/read-file",
        ] {
            let error = invalid(&scope, &world, name, json!({"projectId": bad})).await;
            assert!(error.contains("`projectId`"), "{bad}: {error}");
        }
    }
    assert_eq!(world.count(), 0, "nothing is read for what is invalid");
    let found = touched(
        &scope,
        &world,
        "backtests/list-backtests",
        json!({"projectId": 11}),
    )
    .await;
    assert_eq!(found.project, Some((MINE, "Lab/mine".to_owned())));
    assert_eq!(
        found.facts.iter().map(project).collect::<Vec<_>>(),
        [&Project {
            id: Some(MINE),
            name: "Lab/mine".to_owned(),
            created: false
        }]
    );
}

#[tokio::test]
async fn without_an_id_only_listings_mean_all() {
    let (scope, world) = (scope(), World::default());
    for name in [NAME, "live/list-live-algorithms", "projects/list-projects"] {
        let found = touched(&scope, &world, name, json!({})).await;
        assert!(found.listing, "{name}");
        assert_eq!(found.facts, [Facts::of(Resource::Account)], "{name}");
    }
    for name in [
        "live/read-live-algorithm",
        "projects/update-project",
        "compile/create-compile",
    ] {
        let error = invalid(&scope, &world, name, json!({})).await;
        assert_eq!(error, "`projectId` is missing", "{name}");
    }
    let found = touched(&scope, &world, NAME, json!({"projectId": OTHER})).await;
    assert!(!found.listing);
    assert!(!allowed(&found.facts[0]), "it is out of scope");
}

#[tokio::test]
async fn what_does_not_exist_is_denied_and_what_cannot_be_asked_failed() {
    let (scope, world) = (scope(), World::default());
    let why = denied(&scope, &world, "files/read-file", json!({"projectId": 99})).await;
    assert!(why.starts_with("project 99 cannot be resolved"), "{why}");

    let asked = async |failure: Failure| {
        *world.broken.lock() = Some((NAME, failure));
        touch(&scope, &world, "files/read-file", json!({"projectId": 99}))
            .await
            .unwrap_err()
    };
    // Without a usable answer nothing is known: the call is not denied, and the error names the cause.
    for (failure, cause) in [
        (Failure::UnexpectedResponse("a page".to_owned()), "a page"),
        // A refusal that does not say that the project is missing may have any reason.
        (
            Failure::Rejected(vec!["Internal server error.".to_owned()]),
            "Internal server error.",
        ),
        (
            Failure::Unavailable("the server refuses the credentials".to_owned()),
            "refuses the credentials",
        ),
    ] {
        let ScopeError::Failed(Failure::Unavailable(why)) = asked(failure).await else {
            panic!("{cause}")
        };
        assert!(why.starts_with("project 99 cannot be resolved"), "{why}");
        // If no server may have answered, the error does not mention an answer.
        let is_answer = why.contains("because the server gave no usable answer");
        assert_eq!(is_answer, cause != "refuses the credentials", "{why}");
        assert!(why.contains(cause), "{why}");
    }
    for failure in [
        Failure::RateLimited { retry_after: None },
        Failure::TimedOut {
            after: std::time::Duration::from_secs(1),
        },
    ] {
        assert_eq!(asked(failure.clone()).await, ScopeError::Failed(failure));
    }
}

#[tokio::test]
async fn an_answer_about_another_project_is_no_answer() {
    struct Wrong;
    impl qchost_scope::Reader for Wrong {
        fn read<'a>(
            &'a self,
            _: &'static qchost_catalog::Operation,
            _: serde_json::Map<String, Value>,
        ) -> qchost_catalog::BoxFuture<'a, qchost_catalog::Outcome> {
            Box::pin(async { Ok(json!({"projects": [{"projectId": 12, "name": "Lab/second"}]})) })
        }
    }
    let (scope, arguments) = (scope(), common::object(json!({"projectId": MINE})));
    let operation = common::operation("files/read-file");
    let error = scope
        .resolve(&Wrong, configured(), ACCOUNT, PLUGIN, operation, &arguments)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ScopeError::Failed(Failure::Unavailable(why)) if why.contains("not about it")),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_is_believed_for_a_minute_and_not_for_what_cannot_be_undone() {
    let (scope, world) = (scope(), World::default());
    let arguments = || json!({"projectId": MINE});
    let list = "backtests/list-backtests";
    touched(&scope, &world, list, arguments()).await;
    assert_eq!(world.drain(), [NAME]);
    world.rename(MINE, "Private/moved");
    tokio::time::advance(Duration::from_secs(60)).await;
    let found = touched(&scope, &world, list, arguments()).await;
    assert_eq!(project(&found.facts[0]).name, "Lab/mine");
    assert_eq!(world.count(), 0);

    for name in [
        "projects/delete-project",
        "live/create-live-algorithm",
        "files/delete-file",
    ] {
        let mut all = common::object(arguments());
        match name {
            "files/delete-file" => drop(all.insert("name".to_owned(), json!("notes/a.md"))),
            "live/create-live-algorithm" => all.extend(common::object(json!({
                "versionId": "1", "compileId": "co-11", "nodeId": "n", "brokerage": "paper",
            }))),
            _ => {}
        }
        let found = touched(&scope, &world, name, Value::Object(all)).await;
        assert_eq!(project(&found.facts[0]).name, "Private/moved", "{name}");
        assert!(
            world.drain().contains(&NAME),
            "{name} reads the name afresh"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_minute_the_name_is_read_again() {
    let (scope, world) = (scope(), World::default());
    let list = "backtests/list-backtests";
    touched(&scope, &world, list, json!({"projectId": MINE})).await;
    world.rename(MINE, "Private/moved");
    tokio::time::advance(Duration::from_secs(61)).await;
    let found = touched(&scope, &world, list, json!({"projectId": MINE})).await;
    assert_eq!(project(&found.facts[0]).name, "Private/moved");
    assert_eq!(world.drain(), [NAME, NAME]);
}

#[tokio::test(start_paused = true)]
async fn those_that_ask_at_the_same_time_share_one_read() {
    let scope = scope();
    let mut world = World {
        slow: true,
        ..World::default()
    };
    let both = async |id: u32| {
        let list = "backtests/list-backtests";
        let arguments = || json!({"projectId": id});
        tokio::join!(
            touch(&scope, &world, list, arguments()),
            touch(&scope, &world, list, arguments()),
            touch(&scope, &world, list, arguments()),
        )
    };
    let (one, two, three) = both(MINE).await;
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(world.count(), 1);
    let (one, two, three) = both(99).await;
    assert!(one.is_err() && two.is_err() && three.is_err());
    assert_eq!(
        world.count(),
        2,
        "a failure is shared by those that waited for it"
    );
    world.slow = false;
}

#[tokio::test]
async fn a_new_project_is_judged_by_its_name() {
    let (scope, world) = (scope(), World::default());
    let create = "projects/create-project";
    for (name, fine) in [("Lab/new", true), ("Private/new", false)] {
        let found = touched(
            &scope,
            &world,
            create,
            json!({"name": name, "language": "Py"}),
        )
        .await;
        assert_eq!(
            project(&found.facts[0]),
            &Project {
                id: None,
                name: name.to_owned(),
                created: false
            }
        );
        assert_eq!(found.facts.iter().all(allowed), fine, "{name}");
        assert_eq!(found.project, None);
    }
    for name in [
        "",
        "/Lab/x",
        "Lab/x/",
        "Lab//x",
        "Lab/../Private/x",
        " Lab/x",
        "Lab/x\n",
        "Lab\\x",
    ] {
        invalid(
            &scope,
            &world,
            create,
            json!({"name": name, "language": "Py"}),
        )
        .await;
    }
    invalid(&scope, &world, create, json!({"name": 5, "language": "Py"})).await;
    assert_eq!(world.count(), 0);

    let (_, learned) = answered(
        &scope,
        &world,
        create,
        json!({"name": "Lab/new", "language": "Py"}),
    )
    .await
    .unwrap();
    let id = learned.created.expect("the new project");
    let found = touched(&scope, &world, "files/read-file", json!({"projectId": id})).await;
    assert!(project(&found.facts[0]).created);
    assert_eq!(world.count(), 0, "its name is known from the answer");
    // To another plugin it is a project like any other.
    let other = scope
        .resolve(
            &world,
            configured(),
            ACCOUNT,
            "other",
            common::operation("files/read-file"),
            &common::object(json!({"projectId": id})),
        )
        .await
        .unwrap();
    assert!(!project(&other.facts[0]).created);
    scope.remember_created(ACCOUNT, "other", id);
    let other = scope
        .resolve(
            &world,
            configured(),
            ACCOUNT,
            "other",
            common::operation("files/read-file"),
            &common::object(json!({"projectId": id})),
        )
        .await
        .unwrap();
    assert!(project(&other.facts[0]).created);
}

#[tokio::test]
async fn a_rename_is_about_both_names() {
    let (scope, world) = (scope(), World::default());
    let update = "projects/update-project";
    for (id, name, fine) in [
        (MINE, "Lab/renamed", true),
        (MINE, "Private/renamed", false),
        (OTHER, "Lab/stolen", false),
    ] {
        let found = touched(
            &scope,
            &world,
            update,
            json!({"projectId": id, "name": name}),
        )
        .await;
        assert_eq!(found.facts.len(), 2, "{name}");
        assert_eq!(project(&found.facts[0]).id, Some(id));
        assert_eq!(
            project(&found.facts[1]),
            &Project {
                id: None,
                name: name.to_owned(),
                created: false
            }
        );
        assert_eq!(found.facts.iter().all(allowed), fine, "{id} {name}");
    }
    let found = touched(
        &scope,
        &world,
        update,
        json!({"projectId": MINE, "description": "d"}),
    )
    .await;
    assert_eq!(found.facts.len(), 1);
    let found = touched(
        &scope,
        &world,
        update,
        json!({"projectId": MINE, "name": "Lab/mine"}),
    )
    .await;
    assert_eq!(found.facts.len(), 1, "the name that it has is no new one");
    invalid(
        &scope,
        &world,
        update,
        json!({"projectId": MINE, "name": "Lab/../x"}),
    )
    .await;
}

#[tokio::test]
async fn after_a_rename_the_old_name_is_not_believed() {
    let (scope, world) = (scope(), World::default());
    touched(
        &scope,
        &world,
        "files/read-file",
        json!({"projectId": MINE}),
    )
    .await;
    let rename = json!({"projectId": MINE, "name": "Lab/renamed"});
    answered(&scope, &world, "projects/update-project", rename)
        .await
        .unwrap();
    let found = touched(
        &scope,
        &world,
        "files/read-file",
        json!({"projectId": MINE}),
    )
    .await;
    assert_eq!(project(&found.facts[0]).name, "Lab/renamed");
}

#[tokio::test]
async fn a_listing_shows_what_is_allowed_and_counts_no_more() {
    let (scope, world) = (scope(), World::default());
    for name in ["projects/list-projects", NAME] {
        let (body, _) = answered(&scope, &world, name, json!({})).await.unwrap();
        let names: Vec<_> = body["projects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert_eq!(names, ["Lab/mine", "Lab/second"], "{name}");
    }
    world.drain();
    let live = "live/list-live-algorithms";
    let (body, _) = answered(&scope, &world, live, json!({})).await.unwrap();
    let ids: Vec<_> = body["live"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["projectId"])
        .collect();
    assert_eq!(ids, [11, 12]);
    assert_eq!(
        world.count(),
        0,
        "the names are known from the list of projects"
    );
}

/// A row that cannot be identified is hidden and counted.
#[tokio::test]
async fn a_row_that_cannot_be_told_is_shown_as_one_that_cannot_be_read() {
    let (scope, world) = (scope(), World::default());
    let list = common::operation("projects/list-projects");
    let touched = touch(&scope, &world, list.name, json!({})).await.unwrap();
    let body = json!({ "projects": [
        { "projectId": MINE, "name": "Lab/mine" },
        { "projectId": "zz", "name": "Lab/odd" },
        { "projectId": 12 },
        { "projectId": OTHER, "name": "Private/SECRET" },
        5,
    ], "success": true });
    let (body, _) = scope
        .answer(&world, ACCOUNT, PLUGIN, list, &touched, body, &allowed)
        .await
        .unwrap();
    let mine = json!({ "projectId": MINE, "name": "Lab/mine" });
    assert_eq!(body["projects"], json!([mine, false, false, false]));
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_kept_answer_expires_a_minute_after_it_was_read() {
    let list = common::operation("projects/list-projects");
    for (age, read) in [(0, 0), (5, 1)] {
        let (scope, world) = (scope(), World::default());
        let mut listed = touch(&scope, &world, list.name, json!({})).await.unwrap();
        listed.answered_earlier(Duration::from_secs(age));
        let body =
            json!({ "projects": [{ "projectId": MINE, "name": "Lab/mine" }], "success": true });
        scope
            .answer(&world, ACCOUNT, PLUGIN, list, &listed, body, &allowed)
            .await
            .unwrap();
        world.drain();
        tokio::time::advance(Duration::from_secs(58)).await;
        let arguments = json!({ "projectId": MINE });
        touched(&scope, &world, "backtests/list-backtests", arguments).await;
        assert_eq!(world.count(), read, "{age} s");
    }
}

#[tokio::test]
async fn many_unknown_names_are_read_at_once() {
    let (scope, world) = (scope(), World::default());
    for id in 30..60 {
        world.rename(id, &format!("Lab/{id}"));
    }
    let (body, _) = answered(&scope, &world, "live/list-live-algorithms", json!({}))
        .await
        .unwrap();
    assert_eq!(body["live"].as_array().unwrap().len(), 32);
    assert_eq!(world.drain(), ["projects/list-projects"]);
}

#[tokio::test]
async fn nodes_do_not_say_what_other_projects_do() {
    let (scope, world) = (scope(), World::default());
    let nodes = "nodes/read-project-nodes";
    let (body, _) = answered(&scope, &world, nodes, json!({"projectId": MINE}))
        .await
        .unwrap();
    let backtest = &body["nodes"]["backtest"];
    assert_eq!(backtest[0]["projectId"], MINE);
    assert_eq!(backtest[1]["projectId"], Value::Null);
    assert_eq!(backtest[1]["projectName"], Value::Null);
    assert_eq!(
        backtest[1]["id"], "n2",
        "the node itself is the organisation's"
    );
}

/// Projects in scope, and everything of organisations.
fn in_lab(facts: &Facts) -> bool {
    match &facts.resource {
        Resource::Organization(_) => true,
        _ => allowed(facts),
    }
}

#[tokio::test]
async fn the_nodes_of_an_organisation_do_not_say_what_hidden_projects_do() {
    let (scope, world) = (scope(), World::default());
    let nodes = common::operation("nodes/read-organization-nodes");
    let arguments = json!({"organizationId": common::ORGANIZATION});
    let arguments = common::object(arguments);
    let answer = common::call(&scope, &world, nodes, &arguments, &in_lab).await;
    let common::Ended::Sent(_, Ok((body, _))) = answer else {
        panic!("it was not answered");
    };
    assert!(!body.to_string().contains("SECRET"), "{body}");
    assert_eq!(body["backtest"][0]["projectName"], "Lab/mine");
    assert_eq!(body["backtest"][1]["projectId"], Value::Null);
    assert_eq!(
        body["live"][0]["projectName"], "Lab/mine",
        "by its name alone"
    );
    assert_eq!(body["live"][1]["projectName"], Value::Null);
    assert_eq!(body["live"][1]["id"], "n4");
    assert_eq!(body["live"][2]["projectName"], Value::Null);
}

#[tokio::test]
async fn a_library_is_a_project_that_is_touched_too() {
    let (scope, world) = (scope(), World::default());
    let add = "libraries/add-library";
    let pair = |library: u32| json!({"projectId": MINE, "libraryId": library});
    let touched = touch(&scope, &world, add, pair(12)).await.unwrap();
    assert_eq!(touched.facts.len(), 2);
    assert!(touched.facts.iter().all(allowed));
    let touched = touch(&scope, &world, add, pair(OTHER)).await.unwrap();
    assert!(
        !touched.facts.iter().all(allowed),
        "its files would be readable"
    );
    let why = denied(&scope, &world, add, pair(99)).await;
    assert!(why.contains("project 99 cannot be resolved"), "{why}");
    for library in [json!("12"), json!(0), json!(null)] {
        let arguments = json!({"projectId": MINE, "libraryId": library});
        let refused = touch(&scope, &world, add, arguments).await;
        let invalid = matches!(refused, Err(ScopeError::Invalid(_)));
        assert!(invalid, "{refused:?}");
    }
}

#[tokio::test]
async fn a_deleted_project_is_in_no_list() {
    let (scope, world) = (scope(), World::default());
    world.rename(12, "Recycle Bin/Lab/second");
    let everything = |_: &Facts| true;
    let no_arguments = serde_json::Map::new();
    for name in ["projects/list-projects", "projects/find-projects"] {
        let list = common::operation(name);
        let answer = common::call(&scope, &world, list, &no_arguments, &everything).await;
        let common::Ended::Sent(_, Ok((body, _))) = answer else {
            panic!("{name} was not answered");
        };
        let projects = body["projects"].as_array().unwrap();
        let names: Vec<_> = projects.iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["Lab/mine", "Private/SECRET"], "{name}");
    }
}
