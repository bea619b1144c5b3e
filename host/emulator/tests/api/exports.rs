//! Exports: everything at once, as files.

use serde_json::{Value, json};

use crate::client::{Cloud, cloud, slow_cloud};
use crate::engine::DAYS;

/// The type and the text of a file.
async fn file(cloud: &Cloud, path: &str, body: &Value) -> (String, String) {
    let response = cloud.send(path, body).await;
    assert_eq!(response.status(), 200, "{path}");
    let media_type = response.headers()["content-type"].to_str().unwrap();
    let media_type = media_type.to_owned();
    (media_type, response.text().await.unwrap())
}

#[tokio::test]
async fn the_results_of_a_backtest_are_exported_as_a_whole() {
    let cloud = slow_cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    let body = json!({"projectId": id, "backtestId": backtest});
    for what in ["orders", "trades", "insights", "logs"] {
        let path = format!("/backtests/export/{what}");
        let loading = cloud.ok(&path, body.clone()).await;
        assert_eq!(loading["status"], "loading", "{path}");
    }
    cloud.result(id, &backtest).await;
    for (what, header) in [
        ("orders", "Time,Symbol,"),
        ("trades", "Entry Time,Symbols,"),
    ] {
        let path = format!("/backtests/export/{what}");
        let (media_type, csv) = file(&cloud, &path, &body).await;
        assert_eq!(media_type, "text/csv");
        assert_eq!(csv.lines().count(), DAYS + 1, "{what}");
        assert!(csv.starts_with(header), "{csv}");
        // The documentation names the backtest alone.
        let alone = json!({"backtestId": backtest});
        assert_eq!(file(&cloud, &path, &alone).await.1, csv);
    }
    let (media_type, insights) = file(&cloud, "/backtests/export/insights", &body).await;
    assert_eq!(media_type, "application/json");
    let insights: Value = serde_json::from_str(&insights).unwrap();
    assert_eq!(insights.as_array().unwrap().len(), DAYS);
    let (media_type, log) = file(&cloud, "/backtests/export/logs", &body).await;
    assert!(media_type.starts_with("text/plain"), "{media_type}");
    assert!(log.starts_with("day 0\nday 1\n"), "{log}");
    assert_eq!(log.lines().count(), DAYS);
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused_in_json() {
    let cloud = cloud().await;
    let id = cloud.project("FAIL LATER").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    cloud.result(id, &backtest).await;
    let body = json!({"projectId": id, "backtestId": backtest});
    for what in ["orders", "trades", "insights"] {
        let error = cloud
            .refused(&format!("/backtests/export/{what}"), body.clone())
            .await;
        assert!(error.contains("nothing to export"), "{error}");
    }
    let (_, log) = file(&cloud, "/backtests/export/logs", &body).await;
    assert_eq!(log, "Runtime Error: division by zero\n");
    for path in ["/backtests/export/orders", "/backtests/export/logs"] {
        let unknown = json!({"projectId": id, "backtestId": "none"});
        let error = cloud.refused(path, unknown).await;
        assert!(error.starts_with("Backtest not found"), "{error}");
    }
    for what in ["insights", "logs"] {
        let unknown = json!({"projectId": id, "deployId": "none"});
        let error = cloud
            .refused(&format!("/live/export/{what}"), unknown)
            .await;
        assert!(error.starts_with("Live algorithm not found"), "{error}");
    }
    let backwards = json!({"projectId": id, "start": 2, "end": 1});
    cloud.refused("/live/export/orders", backwards).await;
}

#[tokio::test]
async fn the_deployments_of_a_project_are_exported_together() {
    let cloud = cloud().await;
    let (project, deployment) = cloud.deployed(json!({"id": "QuantConnectBrokerage"})).await;
    let page = json!({"projectId": project, "start": 0, "end": 100});
    cloud
        .until("/live/orders/read", page, |it| it["length"] != 0)
        .await;
    let of = json!({"projectId": project});
    cloud.ok("/live/update/stop", of.clone()).await;
    let page = json!({"projectId": project, "start": 0, "end": 1_000});
    let orders = cloud.ok("/live/orders/read", page).await;
    let shown = orders["orders"].as_array().unwrap().len();
    let (media_type, csv) = file(&cloud, "/live/export/orders", &of).await;
    assert_eq!(media_type, "text/csv");
    assert_eq!(csv.lines().count(), shown + 1);
    let (_, trades) = file(&cloud, "/live/export/trades", &of).await;
    assert!(trades.starts_with("Entry Time,Symbols,"), "{trades}");
    let named = json!({"projectId": project, "deployId": deployment});
    let (media_type, log) = file(&cloud, "/live/export/logs", &named).await;
    assert_eq!(media_type, "application/octet-stream");
    assert!(log.starts_with("day 0\n"), "{log}");
    let alone = json!({"deployId": deployment});
    let (_, insights) = file(&cloud, "/live/export/insights", &alone).await;
    let insights: Value = serde_json::from_str(&insights).unwrap();
    assert_eq!(insights[0]["project_id"], project);
    assert_eq!(insights[0]["deploy_id"], 1);
}
