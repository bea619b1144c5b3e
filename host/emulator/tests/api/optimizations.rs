//! Optimizations.

use serde_json::{Value, json};

use crate::client::{Cloud, cloud, slow_cloud, start};

const TARGET: &str = "TotalPerformance.PortfolioStatistics.SharpeRatio";
const DRAWDOWN: &str = "TotalPerformance.PortfolioStatistics.Drawdown";

/// A search of a grid of three by two points.
pub fn request(project: u64, compile: &str) -> Value {
    json!({
        "projectId": project,
        "compileId": compile,
        "name": "Search",
        "target": TARGET,
        "targetTo": "max",
        "strategy": "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy",
        "parameters": [
            {"name": "fast", "min": 1, "max": 3, "step": 1},
            {"name": "slow", "min": 0.1, "max": 0.2, "step": 0.1},
        ],
        "estimatedCost": 1,
        "nodeType": "O2-8",
        "parallelNodes": 2,
    })
}

/// Starts a search, and returns its id.
pub async fn create(cloud: &Cloud, body: Value) -> String {
    let created = cloud.ok("/optimizations/create", body).await;
    let summary = &created["optimizations"][0];
    assert_eq!(summary["status"], "new");
    summary["optimizationId"].as_str().unwrap().to_owned()
}

async fn finished(cloud: &Cloud, id: &str) -> Value {
    let over = |it: &Value| it["optimization"]["status"] == "completed";
    let body = json!({"optimizationId": id});
    cloud.until("/optimizations/read", body, over).await["optimization"].clone()
}

#[tokio::test]
async fn a_grid_is_searched_to_its_end() {
    let cloud = slow_cloud().await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let id = create(&cloud, request(project, &compile)).await;
    let body = json!({"optimizationId": id});
    let running = cloud
        .until("/optimizations/read", body, |it| {
            it["optimization"]["status"] == "running"
        })
        .await;
    let statistics = &running["optimization"]["runtimeStatistics"];
    assert_eq!(statistics["Total"], "6");
    let done = finished(&cloud, &id).await;
    assert_eq!(running["optimization"]["analysis"], Value::Null);
    assert_eq!(done["analysis"]["backtestCountUsed"], 6);
    assert_eq!(done["analysis"]["failedBacktests"], json!([]));
    let statistics = &done["runtimeStatistics"];
    assert_eq!(statistics["Completed"], "6");
    assert_eq!(statistics["In Queue"], "0");
    assert_eq!(statistics["Consumed"], "0.15");
    let backtests = done["backtests"].as_object().unwrap();
    assert_eq!(backtests.len(), 6);
    for (id, backtest) in backtests {
        assert_eq!(backtest["id"], *id);
        assert_eq!(backtest["exitCode"], 0);
        let numbers = backtest["statistics"].as_array().unwrap();
        assert_eq!(numbers.len(), 21);
        // The Sharpe ratio, which the engine takes from the parameter.
        let fast: f64 = backtest["parameterSet"]["fast"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(numbers[15], fast);
        assert_eq!(numbers[16], 1250.5);
    }
    let list = cloud
        .ok("/optimizations/list", json!({"projectId": project}))
        .await;
    assert_eq!(list["optimizations"][0]["status"], "completed");
    assert_eq!(list["optimizations"][0]["sharpeRatio"], 3.0);
    // Its backtests are among the project's.
    let list = cloud
        .ok("/backtests/list", json!({"projectId": project}))
        .await;
    assert_eq!(list["count"], 6);
    assert_eq!(list["backtests"][0]["optimizationId"], id);
    let account = cloud.ok("/account/read", json!({})).await;
    assert_eq!(account["creditBalance"], 9_999.85);
}

#[tokio::test]
async fn the_statistics_of_a_row_are_an_object_by_position_where_that_is_turned_on() {
    let cloud = start(|builder| builder.keyed_statistics(true)).await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let id = create(&cloud, request(project, &compile)).await;
    let done = finished(&cloud, &id).await;
    let backtests = done["backtests"].as_object().unwrap();
    assert_eq!(backtests.len(), 6);
    for backtest in backtests.values() {
        let fast: f64 = backtest["parameterSet"]["fast"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        // Net profit, Sharpe ratio, fees and orders: the engine has no others.
        let expected = json!({"12": 12.5, "15": fast, "16": 1250.5, "17": 150.0});
        assert_eq!(backtest["statistics"], expected);
    }
}

#[tokio::test]
async fn the_best_is_by_criterion_and_constraints() {
    let cloud = cloud().await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let mut body = request(project, &compile);
    body["targetTo"] = json!("min");
    body["constraints"] = json!([
        {"target": TARGET, "operator": "Greater", "targetValue": 1},
        {"target": DRAWDOWN, "operator": "LessOrEqual", "targetValue": 0.5},
    ]);
    let id = create(&cloud, body).await;
    let done = finished(&cloud, &id).await;
    assert_eq!(done["constraints"][0]["operator"], "Greater");
    let list = cloud
        .ok("/optimizations/list", json!({"projectId": project}))
        .await;
    assert_eq!(list["optimizations"][0]["sharpeRatio"], 2.0);
}

#[tokio::test]
async fn failures_are_counted() {
    let cloud = cloud().await;
    let project = cloud.project("FAIL LATER").await;
    let compile = cloud.built(project).await;
    let id = create(&cloud, request(project, &compile)).await;
    let done = finished(&cloud, &id).await;
    assert_eq!(done["runtimeStatistics"]["Failed"], "6");
    let backtests = done["backtests"].as_object().unwrap();
    assert!(backtests.values().all(|backtest| backtest["exitCode"] == 1));
}

#[tokio::test]
async fn an_aborted_optimization_starts_nothing_more() {
    let cloud = slow_cloud().await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let id = create(&cloud, request(project, &compile)).await;
    let body = json!({"optimizationId": id});
    let two = |it: &Value| it["optimization"]["runtimeStatistics"]["Running"] == "2";
    cloud.until("/optimizations/read", body.clone(), two).await;
    cloud.ok("/optimizations/abort", body.clone()).await;
    let idle = |it: &Value| it["optimization"]["runtimeStatistics"]["Running"] == "0";
    let aborted = cloud.until("/optimizations/read", body.clone(), idle).await;
    assert_eq!(aborted["optimization"]["status"], "aborted");
    assert_eq!(
        aborted["optimization"]["runtimeStatistics"]["Completed"],
        "2"
    );
    let error = cloud.refused("/optimizations/abort", body).await;
    assert!(error.contains("aborted already"), "{error}");
}

#[tokio::test]
async fn an_optimization_is_renamed_and_deleted_with_its_backtests() {
    let cloud = cloud().await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let id = create(&cloud, request(project, &compile)).await;
    let body = json!({"optimizationId": id, "name": "Renamed"});
    cloud.ok("/optimizations/update", body).await;
    assert_eq!(finished(&cloud, &id).await["name"], "Renamed");
    let error = cloud
        .refused("/optimizations/abort", json!({"optimizationId": id}))
        .await;
    assert!(error.contains("completed already"), "{error}");
    cloud
        .ok("/optimizations/delete", json!({"optimizationId": id}))
        .await;
    for path in ["read", "update", "abort", "delete"] {
        let body = json!({"optimizationId": id, "name": "x"});
        cloud.refused(&format!("/optimizations/{path}"), body).await;
    }
    let list = cloud
        .ok("/backtests/list", json!({"projectId": project}))
        .await;
    assert_eq!(list["count"], 0);
}

#[tokio::test]
async fn the_estimate_is_the_time_of_one_backtest() {
    let cloud = cloud().await;
    let project = cloud.project("code").await;
    let mut body = request(project, "");
    body.as_object_mut().unwrap().remove("compileId");
    let estimate = cloud.ok("/optimizations/estimate", body.clone()).await;
    assert_eq!(estimate["estimate"]["time"], 6);
    assert_eq!(estimate["estimate"]["balance"], 10_000);
    body["parameters"][0]["max"] = json!(6);
    let estimate = cloud.ok("/optimizations/estimate", body).await;
    assert_eq!(estimate["estimate"]["time"], 6);
}

#[tokio::test]
async fn bad_optimizations_are_refused() {
    let cloud = start(|builder| builder.credit(5.0)).await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let valid = request(project, &compile);
    for (field, value) in [
        ("projectId", json!(-1)),
        ("compileId", json!(" ")),
        ("name", json!("")),
        ("target", json!("Sharpe")),
        ("targetTo", json!("up")),
        ("targetValue", json!("much")),
        ("strategy", json!("Euler")),
        ("parameters", json!([])),
        ("parameters", json!({})),
        (
            "parameters",
            json!([{"name": "p", "min": 1, "max": 0, "step": 1}]),
        ),
        (
            "parameters",
            json!([{"name": "p", "min": 0, "max": 1, "step": 0}]),
        ),
        (
            "parameters",
            json!([{"name": "p", "min": 0, "max": 1e12, "step": 1e-9}]),
        ),
        ("parameters", json!([{"min": 0, "max": 1, "step": 1}])),
        ("parameters", json!([7])),
        (
            "constraints",
            json!([{"target": TARGET, "operator": "Near", "targetValue": 1}]),
        ),
        ("nodeType", json!("O1-1")),
        ("parallelNodes", json!(0)),
        ("parallelNodes", json!(25)),
        ("estimatedCost", json!(-1)),
        ("estimatedCost", json!(6)),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        cloud.refused("/optimizations/create", body).await;
    }
    let list = cloud
        .ok("/optimizations/list", json!({"projectId": project}))
        .await;
    assert_eq!(list["optimizations"], json!([]));
    for field in [
        "parameters",
        "target",
        "targetTo",
        "strategy",
        "name",
        "projectId",
    ] {
        let mut body = valid.clone();
        body.as_object_mut().unwrap().remove(field);
        cloud.refused("/optimizations/estimate", body).await;
    }
}
