//! Every operation of the catalog touches something that can be decided about.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{ACCOUNT, MINE, ORGANIZATION, PLUGIN, World, answered, object, resolve, scope};
use qchost_catalog::{Access, OPERATIONS, Operation, Selector};
use qchost_policy::{Facts, Project, Resource};
use serde_json::{Map, Value, json};

/// Valid values for all arguments.
fn sensible(operation: &Operation) -> Map<String, Value> {
    let properties = operation.input_schema()["properties"].as_object().unwrap();
    let value = |name: &str, schema: &Value| match name {
        "projectId" | "excludeProjectId" | "libraryId" | "select-project" => json!(MINE),
        "files" if operation.tool == "replace_project_files" => {
            json!([{"name": "notes/a.md", "content": "c"}])
        }
        "backtestId" | "select-backtest" => json!("bt-11"),
        "optimizationId" => json!("opt-11"),
        "compileId" => json!("co-11"),
        "algorithmId" | "deployId" => json!("L-11"),
        "organizationId" => json!(ORGANIZATION),
        "keys" => json!(["lab/data"]),
        "key" => json!("lab/data"),
        "path" => json!("lab"),
        "brokerage" => json!("paper"),
        "dataProviders" => json!(["data"]),
        "patch" => json!("--- a/notes/a.md\n+++ b/notes/a.md\n@@ -1 +1 @@\n-a\n+b\n"),
        "nodeType" => json!("O2-8"),
        _ => match schema["type"].as_str() {
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            Some("object") => json!({}),
            _ => json!("text"),
        },
    };
    let mut all: Map<String, Value> = properties
        .iter()
        .map(|(name, schema)| (name.clone(), value(name, schema)))
        .collect();
    all.remove("objectDataBase64");
    all
}

#[tokio::test]
async fn every_operation_touches_something() {
    for operation in OPERATIONS {
        let (scope, world) = (scope(), World::default());
        let mut arguments = sensible(operation);
        if operation.tool == "read_object_store_file_download_url" {
            let begin = "object-store/read-object-store-file-job-id";
            let keys = json!({"organizationId": ORGANIZATION, "keys": ["lab/data"]});
            let (job, _) = answered(&scope, &world, begin, keys).await.unwrap();
            arguments.insert("jobId".to_owned(), job["jobId"].clone());
        }
        let touched = resolve(&scope, &world, operation, &arguments).await;
        let touched = touched.unwrap_or_else(|error| panic!("{}: {error}", operation.name));
        assert!(!touched.facts.is_empty(), "{}", operation.name);

        let of_project = |selector: &Selector| {
            matches!(selector, Selector::Project(_) | Selector::Optimization(_))
        };
        for Facts { resource, .. } in &touched.facts {
            if operation.selectors.iter().any(of_project) {
                let is_mine = matches!(
                    resource,
                    Resource::Project(Project {
                        id: None | Some(MINE),
                        ..
                    })
                );
                assert!(is_mine, "{}: {resource:?}", operation.name);
                assert_eq!(touched.project, Some((MINE, "Lab/mine".to_owned())));
            }
        }
        let reads_only = operation.access != Access::Read || !touched.listing;
        let lists = [
            "projects/find-projects",
            "projects/list-projects",
            "object-store/list-object-store-files",
        ];
        assert_eq!(
            !reads_only,
            lists.contains(&operation.name),
            "{}",
            operation.name
        );
    }
}

#[tokio::test]
async fn an_argument_that_an_operation_does_not_have_is_refused() {
    let (scope, world) = (scope(), World::default());
    for operation in OPERATIONS {
        // An agent of QuantConnect's has a model.
        let is_own = |extra: &&str| *extra == "model" && operation.interface() == "agents";
        let extras = ["model", "ProjectId", "project_id", "whatever"];
        for extra in extras.into_iter().filter(|extra| !is_own(extra)) {
            let mut arguments = sensible(operation);
            arguments.insert(extra.to_owned(), json!({"projectId": 22}));
            let refused = resolve(&scope, &world, operation, &arguments).await;
            let error = refused.unwrap_err().to_string();
            assert!(
                error.contains("there is no argument"),
                "{}: {error}",
                operation.name
            );
        }
    }
    assert_eq!(world.count(), 0);
}

#[tokio::test]
async fn tools_that_the_catalog_does_not_know_touch_the_account() {
    let touched = scope().unknown_tool("new_tool");
    assert_eq!(touched.facts[0].resource, Resource::Account);
    assert_eq!(touched.facts[0].context.tool.as_deref(), Some("new_tool"));
    assert!(touched.facts[0].context.live, "nothing says that it is not");
}

#[tokio::test]
async fn names_are_known_without_a_read_where_they_are() {
    let (scope, world) = (scope(), World::default());
    assert_eq!(scope.project_name_cached(ACCOUNT, MINE), None);
    let arguments = object(json!({"projectId": MINE}));
    resolve(
        &scope,
        &world,
        common::operation("files/read-file"),
        &arguments,
    )
    .await
    .unwrap();
    assert_eq!(
        scope.project_name_cached(ACCOUNT, MINE).as_deref(),
        Some("Lab/mine")
    );
    assert_eq!(scope.project_name_cached("other", MINE), None);
    assert_eq!(scope.project_name_cached(PLUGIN, MINE), None);
}
