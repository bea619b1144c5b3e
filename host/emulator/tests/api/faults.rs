//! Faults and the request log.

use std::time::{Duration, Instant};

use qchost_emulator::{Fault, FaultKind, REDACTED};
use serde_json::json;

use crate::client::cloud;

#[tokio::test]
async fn every_kind_of_fault_strikes() {
    let cloud = cloud().await;
    let at = |kind| vec![Fault::at("/projects/read", kind)];
    cloud
        .emulator
        .set_faults(at(FaultKind::Refuse("no".to_owned())));
    assert_eq!(cloud.refused("/projects/read", json!({})).await, "no");

    cloud.emulator.set_faults(at(FaultKind::Status(503)));
    let response = cloud.send("/projects/read", &json!({})).await;
    assert_eq!(response.status(), 503);

    cloud.emulator.set_faults(at(FaultKind::TooManyRequests {
        retry_after: Duration::from_millis(1_500),
    }));
    let response = cloud.send("/projects/read", &json!({})).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "2");

    cloud
        .emulator
        .set_faults(at(FaultKind::Loading { progress: 0.25 }));
    let answer = cloud.ok("/projects/read", json!({})).await;
    assert_eq!(
        answer,
        json!({"progress": 0.25, "status": "loading", "success": true})
    );

    cloud
        .emulator
        .set_faults(vec![Fault::at("/projects/delete", FaultKind::Pretend)]);
    let project = json!({"name": "kept", "language": "Py"});
    let made = cloud.ok("/projects/create", project).await;
    let of = json!({"projectId": made["projects"][0]["projectId"]});
    cloud.ok("/projects/delete", of.clone()).await;
    cloud.ok("/projects/read", of).await;

    cloud
        .emulator
        .set_faults(at(FaultKind::Latency(Duration::from_millis(200))));
    let start = Instant::now();
    cloud.ok("/projects/read", json!({})).await;
    assert!(start.elapsed() >= Duration::from_millis(200));

    // Elsewhere nothing happens, and without faults nothing does.
    cloud.emulator.set_faults(at(FaultKind::Status(500)));
    cloud.ok("/account/read", json!({})).await;
    cloud.emulator.set_faults(Vec::new());
    cloud.ok("/projects/read", json!({})).await;
}

#[tokio::test]
async fn a_fault_strikes_by_count() {
    let cloud = cloud().await;
    cloud.emulator.set_faults(vec![
        Fault::everywhere(FaultKind::Status(500)).every(3).times(2),
    ]);
    let mut statuses = Vec::new();
    for _ in 0..9 {
        let response = cloud.send("/account/read", &json!({})).await;
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 500, 200, 200, 500, 200, 200, 200]);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_request_carried_out() {
    let cloud = cloud().await;
    let fault = Fault::at("/projects/create", FaultKind::LoseAnswer).times(1);
    cloud.emulator.set_faults(vec![fault]);
    let body = json!({"name": "Lost", "language": "Py"});
    let request = cloud
        .request(reqwest::Method::POST, "/projects/create")
        .json(&body);
    let error = request.send().await.unwrap_err();
    assert!(error.is_request(), "{error}");
    assert!(error.status().is_none());
    let list = cloud.ok("/projects/read", json!({})).await;
    assert_eq!(list["projects"][0]["name"], "Lost");
    let logged = cloud.emulator.requests_to("/projects/create");
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0].success, Some(true));
}

#[tokio::test]
async fn what_a_fault_keeps_from_being_carried_out_changes_nothing() {
    let cloud = cloud().await;
    cloud
        .emulator
        .set_faults(vec![Fault::at("/projects/create", FaultKind::Status(500))]);
    cloud
        .send("/projects/create", &json!({"name": "A", "language": "Py"}))
        .await;
    let list = cloud.ok("/projects/read", json!({})).await;
    assert_eq!(list["projects"], json!([]));
}

#[tokio::test]
async fn requests_are_logged_without_their_secrets() {
    let cloud = cloud().await;
    let project = cloud.project("code").await;
    cloud.emulator.clear_requests();
    let body = json!({
        "projectId": project,
        "brokerage": {"id": "XBrokerage", "x-password": "not-to-be-seen"},
        "dataProviders": {"Y": {"id": "Y", "y-user": "a-user"}},
    });
    cloud.refused("/live/create", body).await;
    cloud.send("/nowhere", &json!({"a": 1})).await;
    let requests = cloud.emulator.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].path, "/live/create");
    assert_eq!(requests[0].status, Some(200));
    assert_eq!(requests[0].success, Some(false));
    assert_eq!(
        requests[0].body,
        json!({
            "projectId": project,
            "brokerage": {"id": "XBrokerage", "x-password": REDACTED},
            "dataProviders": {"Y": {"id": "Y", "y-user": REDACTED}},
        })
    );
    assert_eq!(requests[1].path, "/nowhere");
    assert_eq!(requests[1].status, Some(404));
    assert!(requests[0].number < requests[1].number);
    let text = format!("{requests:?}");
    assert!(!text.contains("not-to-be-seen") && !text.contains(cloud.emulator.token()));
}
