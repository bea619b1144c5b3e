//! Projects, their collaborators and their nodes.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::bench::{Bench, ORGANIZATION};
use crate::body::{Body as _, Check, ensure};
use crate::setup::UNKNOWN;

/// A user who has no access to the project.
const USER: &str = "1234";

async fn collaborate(b: &Bench, project: &Value) -> Check<Value> {
    let arguments = json!({
        "projectId": project, "collaboratorUserId": USER,
        "collaborationLiveControl": false, "collaborationWrite": true,
    });
    b.call("create_project_collaborator", arguments).await
}

async fn collaborators(b: &Bench, project: &Value) -> Check<Value> {
    b.call(
        "read_project_collaborators",
        json!({ "projectId": project }),
    )
    .await
}

pub fn cases() -> Vec<Case> {
    let mut cases = projects();
    cases.extend(whole_projects());
    cases.extend(libraries());
    cases.extend(collaboration());
    cases.extend(nodes());
    cases
}

fn projects() -> Vec<Case> {
    vec![
        valid("create_project", |b| {
            Box::pin(async move {
                let arguments = json!({
                    "name": "Lab/Alpha", "language": "C#", "organizationId": ORGANIZATION,
                });
                let body = b.call("create_project", arguments).await?;
                body.equals("/projects/0/name", "Lab/Alpha")?;
                body.equals("/projects/0/language", "C#")?;
                let id = body.at("/projects/0/projectId")?;
                let read = b.call("read_project", json!({ "projectId": id })).await?;
                read.equals("/projects/0/name", "Lab/Alpha")?;
                read.equals("/projects/0/organizationId", ORGANIZATION)
            })
        }),
        invalid("create_project", |b| {
            Box::pin(async move {
                let good = json!({ "name": "A", "language": "Py", "organizationId": ORGANIZATION });
                let bad = [
                    json!({ "name": "A", "language": "Cobol" }),
                    json!({ "name": "../A", "language": "Py" }),
                    json!({ "name": "", "language": "Py" }),
                    json!({ "name": "A", "language": "Py", "organizationId": "nobody" }),
                ];
                b.rejects("create_project", good, &bad).await
            })
        }),
        valid("read_project", |b| {
            Box::pin(async move {
                let first = b.project_called("One").await?;
                let second = b.project_called("Two").await?;
                let id = first.at("/projectId")?;
                let body = b.call("read_project", json!({ "projectId": id })).await?;
                ensure!(
                    body.list("/projects")?.len() == 1,
                    "one was asked for: {body}"
                );
                body.equals("/projects/0/name", "One")?;
                // Sorted by age, the newest first.
                let body = b
                    .call("read_project", json!({ "start": 0, "end": 1 }))
                    .await?;
                ensure!(
                    body.list("/projects")?.len() == 1,
                    "one was asked for: {body}"
                );
                body.equals("/projects/0/projectId", second.at("/projectId")?.clone())
            })
        }),
        invalid("read_project", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let bad = [
                    json!({ "projectId": UNKNOWN }),
                    json!({ "start": 5, "end": 2 }),
                ];
                b.rejects("read_project", json!({ "projectId": project }), &bad)
                    .await
            })
        }),
        valid("list_projects", |b| {
            Box::pin(async move {
                b.project_called("One").await?;
                b.project_called("Two").await?;
                let body = b.call("list_projects", json!({})).await?;
                ensure!(body.list("/projects")?.len() == 2, "two were made: {body}");
                body.find("/projects", "name", "One")?;
                body.find("/projects", "name", "Two").map(drop)
            })
        }),
        invalid("list_projects", |b| {
            Box::pin(b.rejects("list_projects", json!({}), &[]))
        }),
        valid("update_project", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let change = json!({ "projectId": id, "name": "Renamed", "description": "Why" });
                b.call("update_project", change).await?;
                let read = b.call("read_project", json!({ "projectId": id })).await?;
                read.equals("/projects/0/name", "Renamed")?;
                read.equals("/projects/0/description", "Why")
            })
        }),
        invalid("update_project", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                b.project_called("Taken").await?;
                let bad = [
                    json!({ "projectId": UNKNOWN, "name": "A" }),
                    json!({ "projectId": id, "name": "Taken" }),
                ];
                b.rejects(
                    "update_project",
                    json!({ "projectId": id, "name": "A" }),
                    &bad,
                )
                .await
            })
        }),
        valid("delete_project", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                b.call("delete_project", json!({ "projectId": id })).await?;
                let body = b.call("list_projects", json!({})).await?;
                body.lacks("/projects", "projectId", id.clone())?;
                b.refused("read_project", json!({ "projectId": id }))
                    .await
                    .map(drop)
            })
        }),
        invalid("delete_project", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let bad = [json!({ "projectId": UNKNOWN })];
                b.rejects("delete_project", json!({ "projectId": id }), &bad)
                    .await
            })
        }),
    ]
}

/// Pages, settings and all files of projects.
fn whole_projects() -> Vec<Case> {
    vec![
        valid("find_projects", |b| {
            Box::pin(async move {
                for name in ["Lab/One", "Lab/Two", "Lab/One more", "Recycle Bin/One"] {
                    b.project_called(name).await?;
                }
                let find = |start: u32, end: u32| json!({ "organizationId": ORGANIZATION, "query": "oNe", "start": start, "end": end });
                let first = b.call("find_projects", find(0, 1)).await?;
                ensure!(
                    first.list("/projects")?.len() == 1,
                    "one was asked for: {first}"
                );
                first.equals("/more", true)?;
                let all = b.call("find_projects", find(0, 9)).await?;
                ensure!(
                    all.list("/projects")?.len() == 2,
                    "two are called so: {all}"
                );
                all.find("/projects", "name", "Lab/One")?;
                all.find("/projects", "name", "Lab/One more")?;
                all.equals("/more", false)
            })
        }),
        invalid("find_projects", |b| {
            Box::pin(async move {
                b.project().await?;
                let good =
                    json!({ "organizationId": ORGANIZATION, "query": "a", "start": 0, "end": 9 });
                let bad = [json!({ "organizationId": "nobody" })];
                b.rejects("find_projects", good, &bad).await
            })
        }),
        valid("configure_project", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let version = 17_000;
                let change = json!({
                    "projectId": id, "parameters": { "fast": "5", "slow & long": "20" },
                    "versionId": version, "leanEnvironment": 1,
                });
                b.call("configure_project", change).await?;
                let read = b.call("read_project", json!({ "projectId": id })).await?;
                let parameters = read.list("/projects/0/parameters")?;
                ensure!(parameters.len() == 2, "two were set: {read}");
                read.find("/projects/0/parameters", "key", "slow & long")?
                    .equals("/value", "20")?;
                read.equals("/projects/0/leanVersionId", version)?;
                read.equals("/projects/0/leanEnvironment", 1)?;
                let clear = json!({ "projectId": id, "parameters": {}, "versionId": -1 });
                b.call("configure_project", clear).await?;
                let read = b.call("read_project", json!({ "projectId": id })).await?;
                read.equals("/projects/0/parameters", json!({}))?;
                read.equals("/projects/0/leanPinnedToMaster", true)
            })
        }),
        invalid("configure_project", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let change =
                    |project: &Value| json!({ "projectId": project, "parameters": { "a": "1" } });
                let bad = [
                    change(&json!(UNKNOWN)),
                    json!({ "projectId": id, "versionId": 3 }),
                ];
                b.rejects("configure_project", change(&id), &bad).await
            })
        }),
        valid("replace_project_files", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let files = json!([
                    { "name": "main.py", "content": "a = 1\n" },
                    { "name": "lib/é.py", "content": "b = \"&\"\n" },
                ]);
                let replace = json!({ "projectId": id, "files": files });
                b.call("replace_project_files", replace).await?;
                let all = b.call("read_file", json!({ "projectId": id })).await?;
                ensure!(all.list("/files")?.len() == 2, "the others are gone: {all}");
                ensure!(
                    b.content(&id, "lib/é.py").await? == "b = \"&\"\n",
                    "another content"
                );
                Ok(())
            })
        }),
        invalid("replace_project_files", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let replace = |project: &Value, names: &[&str]| {
                    let files: Vec<Value> = names
                        .iter()
                        .map(|name| json!({ "name": name, "content": "a = 1\n" }))
                        .collect();
                    json!({ "projectId": project, "files": files })
                };
                let bad = [
                    replace(&json!(UNKNOWN), &["main.py"]),
                    replace(&id, &["main.py", "main.py"]),
                    replace(&id, &["main.py", "../a.py"]),
                ];
                b.rejects("replace_project_files", replace(&id, &["main.py"]), &bad)
                    .await?;
                let all = b.call("read_file", json!({ "projectId": id })).await?;
                all.find("/files", "name", "research.ipynb").map(drop)
            })
        }),
    ]
}

fn libraries() -> Vec<Case> {
    vec![
        valid("add_library", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let library = b.project_called("Suite/Library").await?;
                let library = library.at("/projectId")?;
                let add = json!({ "projectId": id, "libraryId": library });
                b.call("add_library", add).await?;
                let read = b.call("read_project", json!({ "projectId": id })).await?;
                read.find("/projects/0/libraries", "projectId", library.clone())?
                    .equals("/libraryName", "Suite/Library")
            })
        }),
        invalid("add_library", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let add = |project: &Value, library: &Value| json!({ "projectId": project, "libraryId": library });
                let bad = [
                    add(&json!(UNKNOWN), &id),
                    add(&id, &json!(UNKNOWN)),
                    add(&id, &id),
                ];
                b.rejects("add_library", add(&id, &json!(UNKNOWN)), &bad)
                    .await
            })
        }),
        valid("remove_library", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let library = b.project_called("Suite/Library").await?;
                let library = library.at("/projectId")?;
                let both = json!({ "projectId": id, "libraryId": library });
                b.call("add_library", both.clone()).await?;
                b.call("remove_library", both).await?;
                let read = b.call("read_project", json!({ "projectId": id })).await?;
                read.lacks("/projects/0/libraries", "projectId", library.clone())
            })
        }),
        invalid("remove_library", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let library = b.project_called("Suite/Library").await?;
                let library = library.at("/projectId")?;
                let remove = |project: &Value, library: &Value| json!({ "projectId": project, "libraryId": library });
                // The last one is a project, and no library of this one.
                let bad = [
                    remove(&json!(UNKNOWN), library),
                    remove(&id, &json!(UNKNOWN)),
                    remove(&id, library),
                ];
                b.rejects("remove_library", remove(&id, library), &bad)
                    .await
            })
        }),
    ]
}

fn collaboration() -> Vec<Case> {
    vec![
        valid("create_project_collaborator", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let body = collaborate(b, &id).await?;
                for body in [body, collaborators(b, &id).await?] {
                    let user = body.find("/collaborators", "publicId", USER)?;
                    user.equals("/permission", "write")?;
                    user.equals("/liveControl", false)?;
                }
                Ok(())
            })
        }),
        invalid("create_project_collaborator", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let ask = |project: &Value, user: &str| {
                    json!({
                        "projectId": project, "collaboratorUserId": user,
                        "collaborationLiveControl": false, "collaborationWrite": true,
                    })
                };
                collaborate(b, &id).await?;
                let bad = [ask(&json!(UNKNOWN), USER), ask(&id, ""), ask(&id, USER)];
                b.rejects("create_project_collaborator", ask(&id, "5678"), &bad)
                    .await
            })
        }),
        valid("read_project_collaborators", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let body = collaborators(b, &id).await?;
                body.find("/collaborators", "owner", true)?
                    .equals("/permission", "write")?;
                body.equals("/userPermissions", "write")?;
                body.equals("/userLiveControl", true)?;
                collaborate(b, &id).await?;
                let body = collaborators(b, &id).await?;
                ensure!(
                    body.list("/collaborators")?.len() == 2,
                    "two work on it: {body}"
                );
                Ok(())
            })
        }),
        invalid("read_project_collaborators", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let bad = [json!({ "projectId": UNKNOWN })];
                b.rejects(
                    "read_project_collaborators",
                    json!({ "projectId": id }),
                    &bad,
                )
                .await
            })
        }),
        valid("update_project_collaborator", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                collaborate(b, &id).await?;
                let change = json!({
                    "projectId": id, "collaboratorUserId": USER, "liveControl": true, "write": false,
                });
                b.call("update_project_collaborator", change).await?;
                let body = collaborators(b, &id).await?;
                let user = body.find("/collaborators", "publicId", USER)?;
                user.equals("/permission", "read")?;
                user.equals("/liveControl", true)
            })
        }),
        invalid("update_project_collaborator", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                collaborate(b, &id).await?;
                let ask = |project: &Value, user: &str| {
                    json!({
                        "projectId": project, "collaboratorUserId": user,
                        "liveControl": true, "write": false,
                    })
                };
                let bad = [ask(&json!(UNKNOWN), USER), ask(&id, "5678")];
                b.rejects("update_project_collaborator", ask(&id, USER), &bad)
                    .await
            })
        }),
        valid("delete_project_collaborator", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                collaborate(b, &id).await?;
                let arguments = json!({ "projectId": id, "collaboratorId": USER });
                b.call("delete_project_collaborator", arguments).await?;
                collaborators(b, &id)
                    .await?
                    .lacks("/collaborators", "publicId", USER)
            })
        }),
        invalid("delete_project_collaborator", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                collaborate(b, &id).await?;
                let ask = |project: &Value, user: &str| json!({ "projectId": project, "collaboratorId": user });
                let bad = [ask(&json!(UNKNOWN), USER), ask(&id, "5678")];
                b.rejects("delete_project_collaborator", ask(&id, USER), &bad)
                    .await
            })
        }),
        valid("lock_project_with_collaborators", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let write = |source: &str| json!({ "projectId": id, "name": "main.py", "content": "a = 1\n", "codeSourceId": source });
                let lock = json!({ "projectId": id, "codeSourceId": "one" });
                b.call("lock_project_with_collaborators", lock).await?;
                // Collaborators with write access see the lock.
                b.refused("update_file_contents", write("two")).await?;
                b.call("update_file_contents", write("one")).await.map(drop)
            })
        }),
        invalid("lock_project_with_collaborators", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let ask = |project: &Value| json!({ "projectId": project, "codeSourceId": "one" });
                let bad = [ask(&json!(UNKNOWN))];
                b.rejects("lock_project_with_collaborators", ask(&id), &bad)
                    .await
            })
        }),
    ]
}

fn nodes() -> Vec<Case> {
    vec![
        valid("read_project_nodes", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let body = b
                    .call("read_project_nodes", json!({ "projectId": id }))
                    .await?;
                body.equals("/autoSelectNode", true)?;
                for kind in ["backtest", "live", "research"] {
                    let node = body.at(&format!("/nodes/{kind}/0"))?;
                    ensure!(!node.text("/id")?.is_empty(), "no id: {node}");
                    node.equals("/busy", false)?;
                }
                Ok(())
            })
        }),
        valid("read_organization_nodes", |b| {
            Box::pin(async move {
                let arguments = json!({ "organizationId": ORGANIZATION });
                let body = b.call("read_organization_nodes", arguments).await?;
                for kind in ["backtest", "live", "research"] {
                    let node = body.at(&format!("/{kind}/0"))?;
                    ensure!(!node.text("/id")?.is_empty(), "no id: {node}");
                    node.equals("/busy", false)?;
                }
                Ok(())
            })
        }),
        invalid("read_organization_nodes", |b| {
            Box::pin(async move {
                let good = json!({ "organizationId": ORGANIZATION });
                let bad = [json!({ "organizationId": "nobody" })];
                b.rejects("read_organization_nodes", good, &bad).await
            })
        }),
        invalid("read_project_nodes", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let bad = [json!({ "projectId": UNKNOWN })];
                b.rejects("read_project_nodes", json!({ "projectId": id }), &bad)
                    .await
            })
        }),
        valid("update_project_nodes", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let nodes = b
                    .call("read_project_nodes", json!({ "projectId": id }))
                    .await?;
                let node = nodes.text("/nodes/backtest/1/id")?;
                let choice = json!({ "projectId": id, "nodes": [node] });
                b.call("update_project_nodes", choice).await?;
                let nodes = b
                    .call("read_project_nodes", json!({ "projectId": id }))
                    .await?;
                nodes.equals("/autoSelectNode", false)?;
                nodes.equals("/nodes/backtest/0/active", false)?;
                nodes.equals("/nodes/backtest/1/active", true)
            })
        }),
        invalid("update_project_nodes", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let bad = [
                    json!({ "projectId": UNKNOWN, "nodes": [] }),
                    json!({ "projectId": id, "nodes": ["BN-nobody"] }),
                ];
                b.rejects(
                    "update_project_nodes",
                    json!({ "projectId": id, "nodes": [] }),
                    &bad,
                )
                .await
            })
        }),
    ]
}
