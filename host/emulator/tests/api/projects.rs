//! Projects, their libraries and their nodes.

use qchost_emulator::Emulator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Cloud, cloud};

async fn read(cloud: &Cloud, project: u64) -> Value {
    let read = cloud
        .ok("/projects/read", json!({"projectId": project}))
        .await;
    read["projects"][0].clone()
}

#[tokio::test]
async fn a_new_project_has_a_code_file_and_a_notebook() {
    let cloud = cloud().await;
    for (language, expected) in [
        ("Py", ["main.py", "research.ipynb"]),
        ("C#", ["Main.cs", "Research.ipynb"]),
    ] {
        let body = json!({"name": "Alpha/One", "language": language});
        let created = cloud.ok("/projects/create", body).await;
        let project = &created["projects"][0];
        assert_eq!(project["language"], language);
        let body = json!({"projectId": project["projectId"]});
        let files = cloud.ok("/files/read", body).await;
        let names: Vec<&str> = files["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn a_taken_name_gets_a_number_and_cannot_be_renamed_to() {
    let cloud = cloud().await;
    let body = json!({"name": "Same", "language": "Py"});
    let first = cloud.ok("/projects/create", body.clone()).await;
    let second = cloud.ok("/projects/create", body).await;
    assert_eq!(first["projects"][0]["name"], "Same");
    assert_eq!(second["projects"][0]["name"], "Same 1");
    let id = second["projects"][0]["projectId"].as_u64().unwrap();
    let error = cloud
        .refused("/projects/update", json!({"projectId": id, "name": "Same"}))
        .await;
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(read(&cloud, id).await["name"], "Same 1");
}

#[tokio::test]
async fn bad_projects_are_refused() {
    let cloud = cloud().await;
    for body in [
        json!({}),
        json!({"name": "A"}),
        json!({"name": "A", "language": "Rust"}),
        json!({"name": "A", "language": 3}),
        json!({"name": " ", "language": "Py"}),
        json!({"name": "../A", "language": "Py"}),
        json!({"name": "a".repeat(300), "language": "Py"}),
        json!({"name": ["A"], "language": "Py"}),
        json!({"name": "A", "language": "Py", "organizationId": "other"}),
    ] {
        cloud.refused("/projects/create", body).await;
    }
    let list = cloud.ok("/projects/read", json!({})).await;
    assert_eq!(list["projects"], json!([]));
}

#[tokio::test]
async fn projects_are_read_one_by_one_and_in_pages() {
    let cloud = cloud().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(cloud.project("code").await);
    }
    let page = cloud
        .ok("/projects/read", json!({"start": 0, "end": 2}))
        .await;
    assert_eq!(page["projects"].as_array().unwrap().len(), 2);
    assert_eq!(page["projects"][0]["projectId"], ids[2]);
    for body in [
        json!({"projectId": -1}),
        json!({"projectId": 7}),
        json!({"projectId": "x"}),
        json!({"projectId": 1.5}),
        json!({"projectId": u64::MAX}),
        json!({"start": 1, "end": 1}),
        json!({"start": 1, "end": 0}),
        json!({"start": -1}),
    ] {
        cloud.refused("/projects/read", body).await;
    }
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let body = json!({"projectId": id, "description": "words"});
    cloud.ok("/projects/update", body).await;
    let body = json!({"projectId": id, "parameters": [{"key": "fast", "value": 5}]});
    cloud.ok("/projects/update", body).await;
    let project = read(&cloud, id).await;
    assert_eq!(project["name"], "Lab");
    assert_eq!(project["description"], "words");
    assert_eq!(
        project["parameters"],
        json!([{"key": "fast", "value": "5"}])
    );
    let bad = [
        json!({"projectId": id, "parameters": [{"key": "fast"}]}),
        json!({"projectId": id, "parameters": 7}),
        json!({"projectId": id, "description": 7}),
        json!({"projectId": id, "libraries": [id]}),
        json!({"projectId": id, "libraries": [7]}),
        json!({"projectId": id, "files": [{"name": "/etc/x", "content": ""}]}),
        json!({"name": "no id"}),
    ];
    for body in bad {
        cloud.refused("/projects/update", body).await;
    }
    assert_eq!(read(&cloud, id).await["parameters"], project["parameters"]);
}

#[tokio::test]
async fn a_form_replaces_all_files() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let form = [
        ("projectId", id.to_string()),
        ("files[0][name]", "main.py".to_owned()),
        ("files[0][content]", "new & shiny = 1\n".to_owned()),
        ("files[1][name]", "lib/__init__.py".to_owned()),
        ("files[1][content]", String::new()),
        ("parameters[0][key]", "slow".to_owned()),
        ("parameters[0][value]", "30".to_owned()),
    ];
    let encoded = form.iter().map(|(name, value)| {
        let escape =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        format!("{}={}", escape(name), escape(value))
    });
    let body = encoded.collect::<Vec<_>>().join("&");
    let request = cloud
        .request(Method::POST, "/projects/update")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["success"], true, "{answer}");
    let files = cloud.ok("/files/read", json!({"projectId": id})).await;
    assert_eq!(files["files"].as_array().unwrap().len(), 2);
    assert_eq!(files["files"][1]["content"], "new & shiny = 1\n");
    let project = read(&cloud, id).await;
    assert_eq!(
        project["parameters"],
        json!([{"key": "slow", "value": "30"}])
    );
}

#[tokio::test]
async fn libraries_are_added_and_removed() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let library = cloud.project("code").await;
    let body = json!({"projectId": id, "libraryId": library});
    cloud.ok("/projects/library/create", body.clone()).await;
    assert_eq!(read(&cloud, id).await["libraries"][0]["projectId"], library);
    cloud.ok("/projects/library/delete", body.clone()).await;
    assert_eq!(read(&cloud, id).await["libraries"], json!([]));
    cloud.refused("/projects/library/delete", body).await;
    let body = json!({"projectId": id, "libraryId": 7});
    cloud.refused("/projects/library/create", body).await;
}

#[tokio::test]
async fn a_deleted_project_is_gone_with_its_jobs() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    cloud.backtest(id, &compile).await;
    cloud.ok("/projects/delete", json!({"projectId": id})).await;
    for path in [
        "/projects/read",
        "/files/read",
        "/backtests/list",
        "/projects/delete",
    ] {
        let error = cloud.refused(path, json!({"projectId": id})).await;
        assert!(error.starts_with("Project not found"), "{error}");
    }
    // Its nodes are idle again.
    let other = cloud.project("code").await;
    let nodes = cloud
        .ok("/projects/nodes/read", json!({"projectId": other}))
        .await;
    assert_eq!(nodes["nodes"]["backtest"][0]["busy"], false);
}

#[tokio::test]
async fn nodes_are_chosen_for_a_project() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let nodes = cloud
        .ok("/projects/nodes/read", json!({"projectId": id}))
        .await;
    assert_eq!(nodes["autoSelectNode"], true);
    let node = nodes["nodes"]["backtest"][1]["id"].clone();
    let body = json!({"projectId": id, "nodes": [node]});
    let updated = cloud.ok("/projects/nodes/update", body).await;
    assert_eq!(updated["autoSelectNode"], false);
    assert_eq!(updated["nodes"]["backtest"][0]["active"], false);
    assert_eq!(updated["nodes"]["backtest"][1]["active"], true);
    let read = cloud
        .ok("/projects/nodes/read", json!({"projectId": id}))
        .await;
    assert_eq!(read["nodes"], updated["nodes"]);
    let body = json!({"projectId": id, "nodes": ["BN-unknown"]});
    cloud.refused("/projects/nodes/update", body).await;
    cloud
        .refused(
            "/projects/nodes/update",
            json!({"projectId": id, "nodes": [7]}),
        )
        .await;
    let cleared = cloud
        .ok("/projects/nodes/update", json!({"projectId": id}))
        .await;
    assert_eq!(cleared["autoSelectNode"], true);
}

#[tokio::test]
async fn every_endpoint_refuses_what_names_no_project_or_organization() {
    let cloud = cloud().await;
    let needs_nothing = [
        "/authenticate",
        "/account/read",
        "/user/read",
        "/organizations/list",
        "/organizations/read",
        "/lean/versions/read",
        "/lean/environments/read",
        "/services/terminal-news",
        "/market/data/list",
        "/projects/read",
        "/live/list",
        "/community/data-library/issues/list",
    ];
    for path in Emulator::endpoints() {
        if needs_nothing.contains(&path) {
            cloud.ok(path, json!({})).await;
        } else {
            cloud.refused(path, json!({})).await;
        }
    }
}
