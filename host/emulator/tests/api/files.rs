//! Files and patches.

use serde_json::{Value, json};

use crate::client::{Cloud, cloud};

async fn content(cloud: &Cloud, project: u64, name: &str) -> Value {
    let read = cloud
        .ok("/files/read", json!({"projectId": project, "name": name}))
        .await;
    read["files"][0]["content"].clone()
}

#[tokio::test]
async fn a_file_is_created_read_renamed_and_deleted() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let body = json!({"projectId": id, "name": "lib/util.py", "content": "x = 1\n"});
    cloud.ok("/files/create", body).await;
    assert_eq!(content(&cloud, id, "lib/util.py").await, "x = 1\n");
    let body = json!({"projectId": id, "name": "lib/util.py", "newName": "util.py"});
    cloud.ok("/files/update", body).await;
    cloud
        .refused(
            "/files/read",
            json!({"projectId": id, "name": "lib/util.py"}),
        )
        .await;
    let body = json!({"projectId": id, "name": "util.py", "content": "x = 2\n"});
    cloud.ok("/files/update", body).await;
    assert_eq!(content(&cloud, id, "util.py").await, "x = 2\n");
    cloud
        .ok("/files/delete", json!({"projectId": id, "name": "util.py"}))
        .await;
    cloud
        .refused("/files/delete", json!({"projectId": id, "name": "util.py"}))
        .await;
}

#[tokio::test]
async fn a_file_without_content_is_empty() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    cloud
        .ok("/files/create", json!({"projectId": id, "name": "a.py"}))
        .await;
    assert_eq!(content(&cloud, id, "a.py").await, "");
}

#[tokio::test]
async fn bad_files_are_refused_and_change_nothing() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    for body in [
        json!({"projectId": id}),
        json!({"projectId": id, "name": "main.py", "content": "again"}),
        json!({"projectId": id, "name": "a.py", "content": ""}),
        json!({"projectId": id, "name": "a.py", "content": 7}),
        json!({"projectId": id, "name": "../a.py", "content": "x"}),
        json!({"projectId": id, "name": "/a.py", "content": "x"}),
        json!({"projectId": id, "name": "a//b.py", "content": "x"}),
        json!({"projectId": id, "name": "a\u{0}.py", "content": "x"}),
        json!({"projectId": id, "name": "a.py", "content": "x".repeat(1_000_001)}),
        json!({"projectId": 7, "name": "a.py", "content": "x"}),
    ] {
        cloud.refused("/files/create", body).await;
    }
    for body in [
        json!({"projectId": id, "name": "main.py"}),
        json!({"projectId": id, "name": "main.py", "content": ""}),
        json!({"projectId": id, "name": "main.py", "newName": "research.ipynb"}),
        json!({"projectId": id, "name": "none.py", "content": "x"}),
        json!({"projectId": id, "name": "none.py", "newName": "some.py"}),
    ] {
        cloud.refused("/files/update", body).await;
    }
    let files = cloud.ok("/files/read", json!({"projectId": id})).await;
    assert_eq!(files["files"].as_array().unwrap().len(), 2);
    assert_eq!(content(&cloud, id, "main.py").await, "code");
}

#[tokio::test]
async fn a_patch_is_applied_whole_or_not_at_all() {
    let cloud = cloud().await;
    let id = cloud.project("a = 1\nb = 2\nc = 3\n").await;
    let patch = "--- a/main.py\n+++ b/main.py\n@@ -1,3 +1,3 @@\n a = 1\n-b = 2\n+b = 20\n c = 3\n";
    cloud
        .ok("/files/patch", json!({"projectId": id, "patch": patch}))
        .await;
    assert_eq!(
        content(&cloud, id, "main.py").await,
        "a = 1\nb = 20\nc = 3\n"
    );

    let added = "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n";
    let half = format!("{added}{patch}");
    let error = cloud
        .refused("/files/patch", json!({"projectId": id, "patch": half}))
        .await;
    assert!(error.starts_with("Invalid patch"), "{error}");
    cloud
        .refused("/files/read", json!({"projectId": id, "name": "new.py"}))
        .await;
    for patch in [
        " ",
        "no diff",
        "--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n",
    ] {
        cloud
            .refused("/files/patch", json!({"projectId": id, "patch": patch}))
            .await;
    }
    cloud
        .ok("/files/patch", json!({"projectId": id, "patch": added}))
        .await;
    assert_eq!(content(&cloud, id, "new.py").await, "x = 1\n");
}
