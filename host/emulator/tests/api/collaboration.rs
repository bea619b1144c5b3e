//! Collaborators and the lock.

use serde_json::json;

use crate::client::cloud;

#[tokio::test]
async fn a_collaborator_is_added_changed_and_removed() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let body = json!({
        "projectId": id,
        "collaboratorUserId": "ab12",
        "collaborationLiveControl": false,
        "collaborationWrite": true,
    });
    cloud
        .ok("/projects/collaboration/create", body.clone())
        .await;
    let read = cloud
        .ok("/projects/collaboration/read", json!({"projectId": id}))
        .await;
    assert_eq!(read["userPermissions"], "write");
    assert_eq!(read["collaborators"][0]["owner"], true);
    assert_eq!(read["collaborators"][1]["publicId"], "ab12");
    assert_eq!(read["collaborators"][1]["permission"], "write");
    assert_eq!(read["collaborators"][1]["liveControl"], false);
    cloud.refused("/projects/collaboration/create", body).await;

    let body = json!({
        "projectId": id,
        "collaboratorUserId": "ab12",
        "liveControl": true,
        "write": false,
    });
    cloud.ok("/projects/collaboration/update", body).await;
    let read = cloud
        .ok("/projects/collaboration/read", json!({"projectId": id}))
        .await;
    assert_eq!(read["collaborators"][1]["permission"], "read");
    assert_eq!(read["collaborators"][1]["liveControl"], true);

    let body = json!({"projectId": id, "collaboratorId": "ab12"});
    cloud
        .ok("/projects/collaboration/delete", body.clone())
        .await;
    let read = cloud
        .ok("/projects/collaboration/read", json!({"projectId": id}))
        .await;
    assert_eq!(read["collaborators"].as_array().unwrap().len(), 1);
    cloud.refused("/projects/collaboration/delete", body).await;
}

#[tokio::test]
async fn bad_collaborators_are_refused() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let valid = json!({
        "projectId": id,
        "collaboratorUserId": "ab12",
        "collaborationLiveControl": true,
        "collaborationWrite": true,
    });
    for (field, value) in [
        ("projectId", json!(-1)),
        ("collaboratorUserId", json!(" ")),
        ("collaboratorUserId", json!("<b>")),
        ("collaborationWrite", json!("maybe")),
        ("collaborationLiveControl", json!(null)),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        cloud.refused("/projects/collaboration/create", body).await;
    }
    let body = json!({
        "projectId": id,
        "collaboratorUserId": "stranger",
        "liveControl": true,
        "write": true,
    });
    cloud.refused("/projects/collaboration/update", body).await;
}

#[tokio::test]
async fn edits_of_another_code_source_wait_for_the_lock() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let edit = |source: &str| {
        json!({
            "projectId": id,
            "name": "main.py",
            "content": source,
            "codeSourceId": source,
        })
    };
    cloud.ok("/files/update", edit("another")).await;
    let lock = |source: &str| json!({"projectId": id, "codeSourceId": source});
    cloud
        .ok("/projects/collaboration/lock/acquire", lock("mine"))
        .await;
    let error = cloud.refused("/files/update", edit("theirs")).await;
    assert!(error.contains("locked"), "{error}");
    for path in [
        "/files/create",
        "/files/delete",
        "/files/patch",
        "/projects/update",
    ] {
        cloud.refused(path, edit("theirs")).await;
    }
    cloud.ok("/files/update", edit("mine")).await;
    cloud
        .ok("/projects/collaboration/lock/acquire", lock("theirs"))
        .await;
    cloud.ok("/files/update", edit("theirs")).await;
    cloud.refused("/files/update", edit("mine")).await;
    let read = cloud
        .ok("/files/read", json!({"projectId": id, "name": "main.py"}))
        .await;
    assert_eq!(read["files"][0]["content"], "theirs");
    cloud
        .refused(
            "/projects/collaboration/lock/acquire",
            json!({"projectId": id}),
        )
        .await;
}
