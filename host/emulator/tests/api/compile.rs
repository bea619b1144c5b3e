//! Compile jobs.

use serde_json::json;

use crate::client::{cloud, slow_cloud};

#[tokio::test]
async fn a_compile_waits_in_the_queue_and_then_succeeds() {
    let cloud = slow_cloud().await;
    let id = cloud
        .project("PARAMETER fast\nPARAMETER slow\nWARNING\n")
        .await;
    let created = cloud.ok("/compile/create", json!({"projectId": id})).await;
    assert_eq!(created["state"], "InQueue");
    assert_eq!(created["projectId"], id);
    assert_eq!(
        created["parameters"],
        json!([{"file": "main.py", "parameters": [
            {"line": 1, "type": "fast = 10"},
            {"line": 2, "type": "slow = 10"},
        ]}])
    );
    let body = json!({"projectId": id, "compileId": created["compileId"]});
    let queued = cloud.ok("/compile/read", body.clone()).await;
    assert_eq!(queued["state"], "InQueue");
    assert_eq!(queued["logs"], json!([]));
    let done = cloud
        .until("/compile/read", body, |it| it["state"] != "InQueue")
        .await;
    assert_eq!(done["state"], "BuildSuccess");
    let logs = done["logs"].as_array().unwrap();
    assert_eq!(
        logs[0],
        "Build Warning: File: main.py Line:3 Column:1 - unused variable"
    );
    assert!(
        logs[1]
            .as_str()
            .unwrap()
            .starts_with("Build Request Successful")
    );
}

#[tokio::test]
async fn an_error_names_file_and_line_and_nothing_can_be_run() {
    let cloud = cloud().await;
    let id = cloud.project("fine\nSYNTAX ERROR\n").await;
    let created = cloud.ok("/compile/create", json!({"projectId": id})).await;
    let body = json!({"projectId": id, "compileId": created["compileId"]});
    let done = cloud
        .until("/compile/read", body.clone(), |it| it["state"] != "InQueue")
        .await;
    assert_eq!(done["state"], "BuildError");
    assert_eq!(
        done["logs"],
        json!(["Build Error: File: main.py Line:2 Column:1 - invalid syntax"])
    );
    let mut body = body;
    body["backtestName"] = json!("Run");
    let error = cloud.refused("/backtests/create", body).await;
    assert!(error.contains("build error"), "{error}");
}

#[tokio::test]
async fn a_compile_belongs_to_its_project() {
    let cloud = cloud().await;
    let mine = cloud.project("code").await;
    let other = cloud.project("code").await;
    let compile = cloud.built(mine).await;
    let body = json!({"projectId": other, "compileId": compile});
    cloud.refused("/compile/read", body.clone()).await;
    let mut body = body;
    body["backtestName"] = json!("Run");
    cloud.refused("/backtests/create", body).await;
    for body in [
        json!({}),
        json!({"projectId": mine}),
        json!({"projectId": mine, "compileId": " "}),
        json!({"projectId": mine, "compileId": 7}),
        json!({"projectId": -1, "compileId": compile}),
    ] {
        cloud.refused("/compile/read", body).await;
    }
    cloud
        .refused("/compile/create", json!({"projectId": "x"}))
        .await;
}

#[tokio::test]
async fn an_engine_that_fails_is_an_error_in_the_answer() {
    let cloud = cloud().await;
    let id = cloud.project("PANIC ON COMPILE").await;
    let error = cloud
        .refused("/compile/create", json!({"projectId": id}))
        .await;
    assert!(error.contains("engine"), "{error}");
    cloud.ok("/projects/read", json!({"projectId": id})).await;
}
