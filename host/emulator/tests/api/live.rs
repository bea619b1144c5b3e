//! Live deployments and commands.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Cloud, cloud, quick, slow_cloud, start};
use crate::engine::{DAY, START};

fn paper() -> Value {
    json!({"id": "QuantConnectBrokerage"})
}

async fn read(cloud: &Cloud, project: u64) -> Value {
    cloud.ok("/live/read", json!({"projectId": project})).await
}

#[tokio::test]
async fn a_deployment_logs_in_initialises_and_runs() {
    let cloud = slow_cloud().await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let body = cloud.deployment(project, &compile, paper()).await;
    let created = cloud.ok("/live/create", body.clone()).await;
    assert_eq!(created["source"], "api-v2");
    assert_eq!(created["live"]["brokerage"], "PaperBrokerage");
    assert_eq!(created["live"]["status"], "LoggingIn");
    let of = json!({"projectId": project});
    for status in ["Initializing", "Running"] {
        cloud
            .until("/live/read", of.clone(), |it| it["status"] == status)
            .await;
    }
    let live = read(&cloud, project).await;
    assert_eq!(live["deployId"], created["deployId"]);
    assert_eq!(live["stopped"], Value::Null);
    assert_eq!(live["files"][0]["name"], "main.py");
    assert!(live["datacenter"].as_str().unwrap().contains("not LEAN"));
    let nodes = cloud.ok("/projects/nodes/read", of.clone()).await;
    let node = nodes["nodes"]["live"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["id"] == body["nodeId"]);
    assert_eq!(node.unwrap()["busy"], true);
    // It keeps the project from being deleted, and its node from being used again.
    cloud.refused("/projects/delete", of.clone()).await;
    cloud.refused("/live/create", body).await;
    cloud.ok("/live/update/stop", of.clone()).await;
    cloud.ok("/projects/delete", of).await;
}

#[tokio::test]
async fn portfolio_orders_insights_logs_and_charts_move_with_time() {
    let cloud = cloud().await;
    let (project, deploy) = cloud.deployed(paper()).await;
    let of = json!({"projectId": project});
    let page = json!({"projectId": project, "start": 0, "end": 100});
    let price = |it: &Value| {
        it["portfolio"]["holdings"]["SPY R735QTJ8XC9X"]["p"]
            .as_f64()
            .unwrap()
    };
    let before = cloud.ok("/live/portfolio/read", of.clone()).await;
    let later = cloud
        .until("/live/portfolio/read", of.clone(), |it| {
            price(it) > price(&before)
        })
        .await;
    let holding = &later["portfolio"]["holdings"]["SPY R735QTJ8XC9X"];
    assert_eq!(holding["q"], 10.0);
    assert_eq!(holding["v"], price(&later) * 10.0);
    assert_eq!(later["portfolio"]["cash"]["USD"]["amount"], 90_000.0);

    let length = |it: &Value| it["length"].as_u64().unwrap();
    for path in ["/live/orders/read", "/live/insights/read"] {
        let first = cloud.ok(path, page.clone()).await;
        cloud
            .until(path, page.clone(), |it| length(it) > length(&first))
            .await;
    }
    let lines = json!({
        "projectId": project,
        "algorithmId": deploy,
        "startLine": 0,
        "endLine": 250,
    });
    let logs = cloud
        .until("/live/logs/read", lines, |it| length(it) > 2)
        .await;
    assert_eq!(logs["logs"][1], "day 1");
    assert_eq!(logs["deploymentOffset"], 0);

    let chart = json!({
        "projectId": project,
        "name": "Strategy Equity",
        "count": 1_000,
        "start": 0,
        "end": START + 1_000 * DAY,
    });
    let points = |it: &Value| {
        it["chart"]["series"]["Return"]["values"]
            .as_array()
            .unwrap()
            .len()
    };
    let first = cloud.ok("/live/chart/read", chart.clone()).await;
    assert!(points(&first) < 150);
    cloud
        .until("/live/chart/read", chart, |it| points(it) > points(&first))
        .await;
    let statistics = read(&cloud, project).await["runtimeStatistics"].clone();
    assert!(
        statistics["Equity"].as_str().unwrap().starts_with("$100,0"),
        "{statistics}"
    );
}

#[tokio::test]
async fn a_stopped_deployment_stands_still() {
    let cloud = cloud().await;
    let (project, _) = cloud.deployed(paper()).await;
    let of = json!({"projectId": project});
    cloud.ok("/live/update/stop", of.clone()).await;
    let live = read(&cloud, project).await;
    assert_eq!(live["status"], "Stopped");
    assert!(live["stopped"].is_string());
    let before = cloud.ok("/live/portfolio/read", of.clone()).await;
    assert_ne!(before["portfolio"]["holdings"], json!({}));
    tokio::time::sleep(3 * quick().live_day).await;
    let after = cloud.ok("/live/portfolio/read", of.clone()).await;
    assert_eq!(before, after);
    // Stopping again is a success; there is nothing left to liquidate.
    cloud.ok("/live/update/stop", of.clone()).await;
    cloud.refused("/live/update/liquidate", of).await;
}

#[tokio::test]
async fn a_liquidated_deployment_holds_cash_only() {
    let cloud = cloud().await;
    let given = json!({
        "id": "QuantConnectBrokerage",
        "cash": [{"amount": 500, "currency": "EUR"}],
        "holdings": [{
            "symbol": "BTCUSD",
            "symbolId": "BTCUSD 2XR",
            "quantity": 1,
            "averagePrice": 100_000,
        }],
    });
    let (project, _) = cloud.deployed(given).await;
    let of = json!({"projectId": project});
    let held = cloud.ok("/live/portfolio/read", of.clone()).await;
    assert_eq!(held["portfolio"]["holdings"]["BTCUSD 2XR"]["a"], 100_000.0);
    assert_eq!(held["portfolio"]["cash"]["EUR"]["amount"], 500.0);
    let page = json!({"projectId": project, "start": 0, "end": 1_000});
    cloud.ok("/live/update/liquidate", of.clone()).await;
    let live = read(&cloud, project).await;
    assert_eq!(live["status"], "Liquidated");
    let sold = cloud.ok("/live/portfolio/read", of.clone()).await;
    assert_eq!(sold["portfolio"]["holdings"], json!({}));
    assert!(sold["portfolio"]["cash"]["USD"]["amount"].as_f64().unwrap() >= 200_000.0);
    let orders = cloud.ok("/live/orders/read", page).await;
    let last = orders["orders"].as_array().unwrap().last().unwrap();
    assert_eq!(last["tag"], "Liquidated");
    assert_eq!(last["quantity"], -10.0);
    cloud.ok("/live/update/liquidate", of).await;
}

#[tokio::test]
async fn deployments_are_listed_by_project_and_status() {
    let cloud = cloud().await;
    let (first, _) = cloud.deployed(paper()).await;
    let (second, _) = cloud.deployed(paper()).await;
    cloud
        .ok("/live/update/stop", json!({"projectId": first}))
        .await;
    let listed = async |body: Value| -> Vec<u64> {
        let list = cloud.ok("/live/list", body).await;
        let live = list["live"].as_array().unwrap();
        live.iter()
            .map(|it| it["projectId"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(listed(json!({})).await, [second, first]);
    assert_eq!(listed(json!({"projectId": first})).await, [first]);
    assert_eq!(listed(json!({"status": "Running"})).await, [second]);
    assert_eq!(listed(json!({"status": "Stopped"})).await, [first]);
    cloud
        .refused("/live/list", json!({"status": "Asleep"}))
        .await;
    cloud.refused("/live/list", json!({"projectId": -1})).await;
}

#[tokio::test]
async fn an_algorithm_that_fails_ends_in_a_runtime_error() {
    let cloud = cloud().await;
    let project = cloud.project("FAIL IN INITIALIZE").await;
    let compile = cloud.built(project).await;
    let body = cloud.deployment(project, &compile, paper()).await;
    cloud.ok("/live/create", body).await;
    let of = json!({"projectId": project});
    let failed = cloud
        .until("/live/read", of.clone(), |it| {
            it["status"] == "RuntimeError"
        })
        .await;
    assert_eq!(failed["message"], "division by zero");
    let list = cloud
        .ok("/live/list", json!({"status": "RuntimeError"}))
        .await;
    assert_eq!(list["live"][0]["error"], "division by zero");
    // Its node is free again.
    let nodes = cloud.ok("/projects/nodes/read", of).await;
    let live = nodes["nodes"]["live"].as_array().unwrap();
    assert!(live.iter().all(|node| node["busy"] == false));
}

#[tokio::test]
async fn commands_reach_running_algorithms_only() {
    let cloud = cloud().await;
    let (first, deploy) = cloud.deployed(paper()).await;
    let (second, _) = cloud.deployed(paper()).await;
    let command = json!({"$type": "Order", "text": "foo"});
    let to = |project: u64| json!({"projectId": project, "command": command});
    cloud.ok("/live/commands/create", to(first)).await;
    let logged = async |project: u64, deploy: &str| -> usize {
        let body = json!({
            "projectId": project,
            "algorithmId": deploy,
            "startLine": 0,
            "endLine": 250,
        });
        let logs = cloud.ok("/live/logs/read", body).await;
        let lines = logs["logs"].as_array().unwrap();
        let arrived = lines
            .iter()
            .filter(|it| it.as_str().unwrap().contains("\"text\":\"foo\""));
        arrived.count()
    };
    assert_eq!(logged(first, &deploy).await, 1);
    let broadcast = json!({
        "organizationId": cloud.emulator.organization_id(),
        "excludeProjectId": second,
        "command": command,
    });
    cloud
        .ok("/live/commands/broadcast", broadcast.clone())
        .await;
    assert_eq!(logged(first, &deploy).await, 2);
    let live = read(&cloud, second).await;
    let other = live["deployId"].as_str().unwrap().to_owned();
    assert_eq!(logged(second, &other).await, 0);

    cloud
        .ok("/live/update/stop", json!({"projectId": first}))
        .await;
    let error = cloud.refused("/live/commands/create", to(first)).await;
    assert!(error.contains("not running"), "{error}");
    for body in [
        json!({"projectId": second}),
        json!({"projectId": second, "command": "text"}),
        json!({"projectId": -1, "command": command}),
        json!({"projectId": second, "command": {"big": "x".repeat(20_000)}}),
    ] {
        cloud.refused("/live/commands/create", body).await;
    }
    let mut body = broadcast;
    body["organizationId"] = json!("other");
    cloud.refused("/live/commands/broadcast", body).await;
}

#[tokio::test]
async fn windows_are_bounded() {
    let cloud = cloud().await;
    let (project, deploy) = cloud.deployed(paper()).await;
    let page = |start: i64, end: i64| json!({"projectId": project, "start": start, "end": end});
    cloud.ok("/live/orders/read", page(0, 1_000)).await;
    cloud.refused("/live/orders/read", page(0, 1_001)).await;
    cloud
        .ok(
            "/live/insights/read",
            json!({"projectId": project, "end": 100}),
        )
        .await;
    cloud.refused("/live/insights/read", page(0, 101)).await;
    let lines = |end: i64| json!({"projectId": project, "algorithmId": deploy, "startLine": 0, "endLine": end});
    cloud.ok("/live/logs/read", lines(250)).await;
    cloud.refused("/live/logs/read", lines(251)).await;
    let mut other = lines(10);
    other["algorithmId"] = json!("L-unknown");
    cloud.refused("/live/logs/read", other).await;
}

#[tokio::test]
async fn bad_deployments_are_refused() {
    let cloud = start(|builder| builder.live_nodes(1)).await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let valid = cloud.deployment(project, &compile, paper()).await;
    let of = json!({"projectId": project});
    let backtest_node = cloud.ok("/projects/nodes/read", of.clone()).await;
    let backtest_node = backtest_node["nodes"]["backtest"][0]["id"].clone();
    for (field, value) in [
        ("projectId", json!(-1)),
        ("compileId", json!(" ")),
        ("nodeId", json!(" ")),
        ("nodeId", backtest_node),
        ("versionId", json!("newest")),
        ("versionId", json!(3)),
        ("brokerage", json!({})),
        ("brokerage", json!("paper")),
        (
            "brokerage",
            json!({"id": "QuantConnectBrokerage", "cash": [{"amount": "x"}]}),
        ),
        (
            "brokerage",
            json!({"id": "QuantConnectBrokerage", "holdings": [{}]}),
        ),
        ("dataProviders", json!([])),
        ("dataProviders", json!({"X": {"key": "no id"}})),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        cloud.refused("/live/create", body).await;
    }
    for path in ["read", "portfolio/read", "update/stop", "update/liquidate"] {
        let error = cloud.refused(&format!("/live/{path}"), of.clone()).await;
        assert!(
            error.starts_with("Live algorithm of project not found"),
            "{error}"
        );
    }
    // The only node is taken by another project.
    cloud.ok("/live/create", valid.clone()).await;
    let other = cloud.project("code").await;
    let mut body = valid;
    body["projectId"] = json!(other);
    body["compileId"] = json!(cloud.built(other).await);
    let error = cloud.refused("/live/create", body).await;
    assert!(error.contains("busy"), "{error}");
}

#[tokio::test]
async fn before_it_runs_a_chart_is_loading() {
    let slow = |builder: qchost_emulator::Builder| {
        let mut timing = quick();
        timing.live_initialize = Duration::from_secs(20);
        builder.timing(timing)
    };
    let cloud = start(slow).await;
    let project = cloud.project("code").await;
    let compile = cloud.built(project).await;
    let body = cloud.deployment(project, &compile, paper()).await;
    cloud.ok("/live/create", body).await;
    let chart = json!({
        "projectId": project,
        "name": "Strategy Equity",
        "count": 10,
        "start": 0,
        "end": START,
    });
    let loading = cloud.ok("/live/chart/read", chart.clone()).await;
    assert_eq!(loading["status"], "loading");
    let to = json!({"projectId": project, "command": {"a": 1}});
    cloud.refused("/live/commands/create", to).await;
    cloud
        .ok("/live/update/stop", json!({"projectId": project}))
        .await;
    cloud.refused("/live/chart/read", chart).await;
}

/// A second deployment of a project that has one; its id.
async fn deploy_again(cloud: &Cloud, project: u64, brokerage: Value) -> String {
    let compile = cloud.built(project).await;
    let body = cloud.deployment(project, &compile, brokerage).await;
    let created = cloud.ok("/live/create", body).await;
    let deploy = created["deployId"].as_str().unwrap().to_owned();
    let of = json!({"projectId": project, "deployId": deploy});
    cloud
        .until("/live/read", of, |it| it["status"] == "Running")
        .await;
    deploy
}

#[tokio::test]
async fn two_deployments_of_a_project_run_side_by_side() {
    let cloud = cloud().await;
    let (project, first) = cloud.deployed(paper()).await;
    let second = deploy_again(&cloud, project, paper()).await;
    let statuses = async || -> Vec<(String, String)> {
        let list = cloud.ok("/live/list", json!({"projectId": project})).await;
        let live = list["live"].as_array().unwrap().clone();
        let text = |it: &Value, field: &str| it[field].as_str().unwrap().to_owned();
        live.iter()
            .map(|it| (text(it, "deployId"), text(it, "status")))
            .collect()
    };
    let both = |one: &str, other: &str| {
        let row = |id: &str, status: &str| (id.to_owned(), status.to_owned());
        vec![row(&second, one), row(&first, other)]
    };
    assert_eq!(statuses().await, both("Running", "Running"));
    let latest = cloud.ok("/live/list", json!({"latest": true})).await;
    assert_eq!(latest["live"].as_array().unwrap().len(), 1);
    assert_eq!(latest["live"][0]["deployId"], json!(second));

    let named = |field: &str, id: &str| json!({"projectId": project, field: id, "end": 10});
    for (path, field) in [
        ("/live/read", "deployId"),
        ("/live/insights/read", "algorithmId"),
    ] {
        cloud.ok(path, named(field, &first)).await;
        let error = cloud.refused(path, named(field, "L-none")).await;
        assert!(error.contains("not found"), "{error}");
    }
    let one = cloud.ok("/live/read", named("deployId", &first)).await;
    assert_eq!(one["deployId"], json!(first));
    assert_eq!(read(&cloud, project).await["deployId"], json!(second));

    // Each stop ends one of them.
    let of = json!({"projectId": project});
    cloud.ok("/live/update/stop", of.clone()).await;
    assert_eq!(statuses().await, both("Stopped", "Running"));
    cloud.ok("/live/update/liquidate", of.clone()).await;
    assert_eq!(statuses().await, both("Stopped", "Liquidated"));
    cloud.ok("/live/update/stop", of).await;
}

#[tokio::test]
async fn a_deployment_says_which_account_it_trades_with_and_nothing_secret() {
    let cloud = cloud().await;
    for (brokerage, details, environment) in [
        (paper(), json!([]), "paper"),
        (
            json!({
                "id": "InteractiveBrokersBrokerage", "ib-user-name": "ann", "ib-account": "DU123", "ib-password": "hush",
            }),
            json!({"ib-account": "DU123", "ib-user-name": "ann", "ib-trading-mode": "paper"}),
            "paper",
        ),
        (
            json!({"id": "InteractiveBrokersBrokerage", "ib-account": "U123", "ib-trading-mode": "paper"}),
            json!({"ib-account": "U123", "ib-trading-mode": "live"}),
            "live",
        ),
        (
            json!({"id": "TradierBrokerage", "tradier-environment": "paper", "tradier-access-token": "hush"}),
            json!({"tradier-environment": "paper"}),
            "paper",
        ),
        (
            json!({"id": "KrakenBrokerage", "kraken-api-secret": "hush"}),
            json!([]),
            "live",
        ),
    ] {
        let (project, _) = cloud.deployed(brokerage.clone()).await;
        let live = read(&cloud, project).await;
        assert_eq!(live["deploymentDetails"], details, "{brokerage}");
        assert!(live["serverStatistics"]["Up Time"].is_string(), "{live}");
        let list = cloud.ok("/live/list", json!({"projectId": project})).await;
        assert_eq!(list["live"][0]["environment"], environment, "{brokerage}");
        for answer in [live, list] {
            assert!(!answer.to_string().contains("hush"), "{brokerage}");
        }
        cloud
            .ok("/live/update/stop", json!({"projectId": project}))
            .await;
    }
}

#[tokio::test]
async fn a_log_is_searched_and_narrowed_to_one_deployment() {
    let cloud = cloud().await;
    let (project, first) = cloud.deployed(paper()).await;
    let length = |it: &Value| it["length"].as_u64().unwrap();
    let lines = |id: &str, more: Value| {
        let mut body = json!({
            "projectId": project, "algorithmId": id, "startLine": 0, "endLine": 250,
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let enough = |it: &Value| length(it) > 3;
    cloud
        .until("/live/logs/read", lines(&first, json!({})), enough)
        .await;
    cloud
        .ok("/live/update/stop", json!({"projectId": project}))
        .await;
    let former = cloud
        .ok("/live/logs/read", lines(&first, json!({"query": null})))
        .await;
    let found = cloud
        .ok("/live/logs/read", lines(&first, json!({"query": "DAY 0"})))
        .await;
    assert_eq!((length(&found), &found["logs"][0]), (1, &json!("day 0")));

    let second = deploy_again(&cloud, project, paper()).await;
    let all = cloud
        .until("/live/logs/read", lines(&second, json!({})), |it| {
            length(it) > length(&former)
        })
        .await;
    assert_eq!(all["deploymentOffset"], former["length"]);
    let own = json!({"deploymentLogs": true});
    let own = cloud.ok("/live/logs/read", lines(&second, own)).await;
    assert_eq!(own["deploymentOffset"], 0);
    assert_eq!(own["logs"][0], "day 0");
    assert!(length(&own) + length(&former) >= length(&all), "{own}");
}

#[tokio::test]
async fn a_deployment_takes_settings_besides_its_brokerage() {
    let cloud = cloud().await;
    let project = cloud.project("PARAMETER fast\n").await;
    let compile = cloud.built(project).await;
    let mut body = cloud.deployment(project, &compile, paper()).await;
    body["automaticRedeploy"] = json!(true);
    body["parameters"] = json!({"fast": 7});
    body["notification"] = json!({"events": ["insight"], "targets": [{"phoneNumber": "+1"}]});
    for (field, bad) in [
        ("automaticRedeploy", json!("perhaps")),
        ("parameters", json!([1])),
        ("notification", json!({"events": []})),
    ] {
        let mut body = body.clone();
        body[field] = bad;
        let error = cloud.refused("/live/create", body).await;
        assert!(error.contains(field), "{error}");
    }
    cloud.ok("/live/create", body).await;
}

#[tokio::test]
async fn closed_trades_are_of_one_deployment_or_of_all_of_a_project() {
    let cloud = cloud().await;
    let (project, first) = cloud.deployed(paper()).await;
    let page = |more: Value| {
        let mut body = json!({"projectId": project, "start": 0, "end": 1_000});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let length = async |body: Value| -> u64 {
        let page = cloud.ok("/live/trades/read", body).await;
        let shown = page["trades"].as_array().unwrap().len();
        assert_eq!(json!(shown), page["length"]);
        page["length"].as_u64().unwrap()
    };
    let one = length(page(json!({}))).await;
    assert!(one > 0);
    let second = deploy_again(&cloud, project, paper()).await;
    assert_eq!(length(page(json!({}))).await, 2 * one);
    for id in [&first, &second] {
        assert_eq!(length(page(json!({"deployId": id}))).await, one);
    }
    for bad in [
        json!({"deployId": null}),
        json!({"deployId": "L-none"}),
        json!({"end": 1_001}),
        json!({"projectId": -1}),
    ] {
        cloud.refused("/live/trades/read", page(bad)).await;
    }
}
