//! Live deployments.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::body::{Body as _, ensure};
use crate::setup::{EVER, UNKNOWN};

fn of(project: &Value) -> Value {
    json!({ "projectId": project })
}

/// The arguments for a range of the orders or insights of a deployment.
fn slice(project: &Value, start: u32, end: u32) -> Value {
    json!({ "projectId": project, "start": start, "end": end })
}

fn chart(project: &Value, name: &str, points: u32) -> Value {
    let (start, end) = EVER;
    json!({ "projectId": project, "name": name, "count": points, "start": start, "end": end })
}

fn lines(project: &Value, deployment: &str, start: u32, end: u32) -> Value {
    json!({
        "projectId": project, "algorithmId": deployment, "startLine": start, "endLine": end,
        "format": "json",
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = deployments();
    cases.extend(views());
    cases
}

fn deployments() -> Vec<Case> {
    vec![
        valid("authorize_connection", |b| {
            Box::pin(async move {
                let ask = json!({ "brokerage": "alpaca" });
                let body = b.call("authorize_connection", ask.clone()).await?;
                let url = body.text("/authorization/url")?;
                let again = b.call("authorize_connection", ask.clone()).await?;
                ensure!(
                    again.text("/authorization/url")? == url,
                    "polling voids the address"
                );
                // A person opens the address in a browser.
                let page = reqwest::get(&url)
                    .await
                    .map_err(|error| error.to_string())?;
                ensure!(
                    page.status().is_success(),
                    "{url} answers {}",
                    page.status()
                );
                let body = b.call("authorize_connection", ask).await?;
                ensure!(
                    !body.text("/authorization/alpaca-access-token")?.is_empty(),
                    "no token"
                );
                ensure!(
                    body.at("/authorization/url").is_err(),
                    "still asked for: {body}"
                );
                Ok(())
            })
        }),
        invalid("authorize_connection", |b| {
            Box::pin(async move {
                let bad = [json!({ "brokerage": "nobody" }), json!({ "brokerage": "" })];
                b.rejects(
                    "authorize_connection",
                    json!({ "brokerage": "alpaca" }),
                    &bad,
                )
                .await
            })
        }),
        valid("create_live_algorithm", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let arguments = b.deployment_of(&project, &compile).await?;
                let body = b.call("create_live_algorithm", arguments).await?;
                let deployment = body.text("/deployId")?;
                body.equals("/projectId", project.clone())?;
                let read = b.call("read_live_algorithm", of(&project)).await?;
                read.equals("/deployId", deployment)?;
                let nodes = b.call("read_project_nodes", of(&project)).await?;
                nodes.equals("/nodes/live/0/busy", true)
            })
        }),
        invalid("create_live_algorithm", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let good = b.deployment_of(&project, &compile).await?;
                let with = |name: &str, value: Value| {
                    let mut arguments = good.clone();
                    arguments[name] = value;
                    arguments
                };
                let bad = [
                    with("projectId", json!(UNKNOWN)),
                    with("compileId", json!("nothing")),
                    with("nodeId", json!("LN-nobody")),
                    with("versionId", json!("7")),
                    with("brokerage", json!({ "id": "" })),
                    with("dataProviders", json!({ "X": {} })),
                ];
                b.rejects("create_live_algorithm", good.clone(), &bad).await
            })
        }),
        valid("read_live_algorithm", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let body = b.call("read_live_algorithm", of(&project)).await?;
                body.equals("/deployId", deployment)?;
                body.equals("/status", "Running")?;
                body.equals("/projectName", "Suite/One")?;
                body.find("/files", "name", "main.py")?;
                ensure!(
                    body.text("/runtimeStatistics/Equity")?.starts_with('$'),
                    "no equity: {body}"
                );
                Ok(())
            })
        }),
        invalid("read_live_algorithm", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                // The project has no deployment.
                let bad = [of(&json!(UNKNOWN)), of(&project)];
                b.rejects("read_live_algorithm", of(&project), &bad).await
            })
        }),
        valid("read_live_details", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let ask = json!({ "projectId": project, "deployId": deployment });
                let body = b.call("read_live_details", ask).await?;
                body.equals("/deployId", deployment)?;
                body.equals("/brokerage", "PaperBrokerage")?;
                body.text("/serverStatistics/Up Time").map(drop)
            })
        }),
        invalid("read_live_details", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let ask =
                    |project: &Value, id: &str| json!({ "projectId": project, "deployId": id });
                let bad = [
                    ask(&json!(UNKNOWN), &deployment),
                    ask(&project, "L-nothing"),
                ];
                b.rejects("read_live_details", ask(&project, &deployment), &bad)
                    .await
            })
        }),
        valid("list_latest_live_algorithms", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                b.call("stop_live_algorithm", of(&project)).await?;
                let compile = b.compile_of(&project).await?.text("/compileId")?;
                let arguments = b.deployment_of(&project, &compile).await?;
                let body = b.call("create_live_algorithm", arguments).await?;
                let body_of = b.call("list_latest_live_algorithms", of(&project)).await?;
                let listed = body_of.list("/live")?.len();
                ensure!(listed == 1, "{listed} are listed: {body_of}");
                body_of.equals("/live/0/deployId", body.text("/deployId")?)
            })
        }),
        invalid("list_latest_live_algorithms", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let good = json!({ "projectId": project, "status": "Running" });
                let bad = [
                    json!({ "projectId": UNKNOWN }),
                    json!({ "status": "Dreaming" }),
                ];
                b.rejects("list_latest_live_algorithms", good, &bad).await
            })
        }),
        valid("list_live_algorithms", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let all = b.call("list_live_algorithms", json!({})).await?;
                let listed = all.find("/live", "deployId", deployment)?;
                listed.equals("/projectId", project.clone())?;
                listed.equals("/status", "Running")?;
                let ask = json!({ "projectId": project, "status": "Stopped" });
                b.call("list_live_algorithms", ask)
                    .await?
                    .equals("/live", json!([]))
            })
        }),
        invalid("list_live_algorithms", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let good = json!({ "projectId": project, "status": "Running" });
                let bad = [
                    json!({ "projectId": UNKNOWN }),
                    json!({ "status": "Dreaming" }),
                ];
                b.rejects("list_live_algorithms", good, &bad).await
            })
        }),
        valid("stop_live_algorithm", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                b.call("stop_live_algorithm", of(&project)).await?;
                let status = b.live_status(&project).await?;
                ensure!(status == "Stopped", "it is {status}");
                let nodes = b.call("read_project_nodes", of(&project)).await?;
                nodes.equals("/nodes/live/0/busy", false)
            })
        }),
        invalid("stop_live_algorithm", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let bad = [of(&json!(UNKNOWN)), of(&project)];
                b.rejects("stop_live_algorithm", of(&project), &bad).await
            })
        }),
        valid("liquidate_live_algorithm", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let held = |body: &Value| {
                    let holdings = body.at("/portfolio/holdings")?.as_object().cloned();
                    Ok(!holdings.unwrap_or_default().is_empty())
                };
                b.until("read_live_portfolio", of(&project), held).await?;
                b.call("liquidate_live_algorithm", of(&project)).await?;
                let status = b.live_status(&project).await?;
                ensure!(status == "Liquidated", "it is {status}");
                let body = b.call("read_live_portfolio", of(&project)).await?;
                ensure!(!held(&body)?, "positions are still open: {body}");
                Ok(())
            })
        }),
        invalid("liquidate_live_algorithm", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                b.call("stop_live_algorithm", of(&project)).await?;
                // A stopped deployment cannot sell anything.
                let bad = [of(&json!(UNKNOWN)), of(&project)];
                b.rejects("liquidate_live_algorithm", of(&project), &bad)
                    .await
            })
        }),
    ]
}

fn views() -> Vec<Case> {
    vec![
        valid("read_live_chart", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let ask = chart(&project, "Strategy Equity", 1_000);
                let body = b
                    .until("read_live_chart", ask, |body| {
                        Ok(body.list("/chart/series/Equity/values")?.len() > 3)
                    })
                    .await?;
                body.equals("/chart/name", "Strategy Equity")?;
                ensure!(
                    body.number("/chart/series/Equity/values/0/1")? > 0.0,
                    "no money: {body}"
                );
                Ok(())
            })
        }),
        invalid("read_live_chart", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let bad = [
                    chart(&json!(UNKNOWN), "Strategy Equity", 10),
                    chart(&project, "No Such Chart", 10),
                    chart(&project, "Strategy Equity", 0),
                ];
                b.rejects(
                    "read_live_chart",
                    chart(&project, "Strategy Equity", 10),
                    &bad,
                )
                .await
            })
        }),
        valid("read_live_logs", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let command =
                    json!({ "projectId": project, "command": { "$type": "Ping", "n": 7 } });
                b.call("create_live_command", command).await?;
                let body = b
                    .call("read_live_logs", lines(&project, &deployment, 0, 250))
                    .await?;
                let logs = body.list("/logs")?;
                ensure!(body.number("/length")? >= 1.0, "no length: {body}");
                let told = logs
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|line| line.contains("\"Ping\""));
                ensure!(told, "the command is not in the log: {body}");
                Ok(())
            })
        }),
        invalid("read_live_logs", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let bad = [
                    lines(&json!(UNKNOWN), &deployment, 0, 10),
                    lines(&project, "L-nothing", 0, 10),
                    lines(&project, &deployment, 5, 2),
                    lines(&project, &deployment, 0, 1_000),
                ];
                b.rejects("read_live_logs", lines(&project, &deployment, 0, 10), &bad)
                    .await
            })
        }),
        valid("search_live_logs", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                for number in [7, 8] {
                    let command = json!({ "$type": "Ping", "n": number });
                    let command = json!({ "projectId": project, "command": command });
                    b.call("create_live_command", command).await?;
                }
                let mut ask = lines(&project, &deployment, 0, 250);
                ask["query"] = json!("\"N\":8");
                ask["deploymentLogs"] = json!(true);
                let body = b.call("search_live_logs", ask).await?;
                body.equals("/length", 1)?;
                let line = body.text("/logs/0")?;
                ensure!(line.contains("\"n\":8"), "another line: {line}");
                Ok(())
            })
        }),
        invalid("search_live_logs", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let bad = [
                    lines(&json!(UNKNOWN), &deployment, 0, 10),
                    lines(&project, "L-nothing", 0, 10),
                    lines(&project, &deployment, 5, 2),
                    lines(&project, &deployment, 0, 1_000),
                ];
                let mut good = lines(&project, &deployment, 0, 10);
                good["query"] = json!("day");
                good["deploymentLogs"] = json!(false);
                b.rejects("search_live_logs", good, &bad).await
            })
        }),
        valid("read_live_trades", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let mut ask = slice(&project, 0, 100);
                let body = b
                    .until("read_live_trades", ask.clone(), |body| {
                        Ok(!body.list("/trades")?.is_empty())
                    })
                    .await?;
                body.equals("/trades/0/symbols/0/value", "SPY")?;
                ensure!(body.number("/length")? >= 1.0, "no length: {body}");
                let first = body.at("/trades/0/id")?.clone();
                ask["deployId"] = json!(deployment);
                b.call("read_live_trades", ask)
                    .await?
                    .equals("/trades/0/id", first)
            })
        }),
        invalid("read_live_trades", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let mut good = slice(&project, 0, 10);
                good["deployId"] = json!(deployment);
                let mut unknown = good.clone();
                unknown["deployId"] = json!("L-nothing");
                let bad = [
                    slice(&json!(UNKNOWN), 0, 10),
                    slice(&project, 5, 2),
                    slice(&project, 0, 2_000),
                    unknown,
                ];
                b.rejects("read_live_trades", good, &bad).await
            })
        }),
        valid("read_live_portfolio", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let mut arguments = b.deployment_of(&project, &compile).await?;
                arguments["brokerage"] = json!({
                    "id": "QuantConnectBrokerage",
                    "cash": [{ "currency": "USD", "amount": 5000 }],
                    "holdings": [{
                        "symbolId": "XYZ 1", "symbol": "XYZ", "quantity": 3, "averagePrice": 10,
                    }],
                });
                b.call("create_live_algorithm", arguments).await?;
                let body = b.call("read_live_portfolio", of(&project)).await?;
                ensure!(
                    body.number("/portfolio/cash/USD/amount")? >= 5000.0,
                    "no cash: {body}"
                );
                body.equals("/portfolio/holdings/XYZ 1/q", 3)?;
                body.equals("/portfolio/holdings/XYZ 1/a", 10)?;
                body.equals("/portfolio/holdings/XYZ 1/v", 30)
            })
        }),
        invalid("read_live_portfolio", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let bad = [of(&json!(UNKNOWN)), of(&project)];
                b.rejects("read_live_portfolio", of(&project), &bad).await
            })
        }),
        valid("read_live_orders", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let body = b
                    .until("read_live_orders", slice(&project, 0, 100), |body| {
                        Ok(!body.list("/orders")?.is_empty())
                    })
                    .await?;
                body.equals("/orders/0/symbol/value", "SPY")?;
                ensure!(
                    body.number("/orders/0/quantity")? > 0.0,
                    "it begins by buying: {body}"
                );
                ensure!(body.number("/length")? >= 1.0, "no length: {body}");
                let none = b.call("read_live_orders", slice(&project, 0, 0)).await?;
                none.equals("/orders", json!([]))
            })
        }),
        invalid("read_live_orders", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let bad = [
                    slice(&json!(UNKNOWN), 0, 10),
                    slice(&project, 5, 2),
                    slice(&project, 0, 2_000),
                ];
                b.rejects("read_live_orders", slice(&project, 0, 10), &bad)
                    .await
            })
        }),
        valid("read_live_insights", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let body = b
                    .until("read_live_insights", slice(&project, 0, 50), |body| {
                        Ok(!body.list("/insights")?.is_empty())
                    })
                    .await?;
                body.equals("/insights/0/ticker", "SPY")?;
                ensure!(body.number("/length")? >= 1.0, "no length: {body}");
                // `start` is optional.
                let ask = json!({ "projectId": project, "end": 50 });
                let first = body.at("/insights/0/id")?.clone();
                b.call("read_live_insights", ask)
                    .await?
                    .equals("/insights/0/id", first)
            })
        }),
        invalid("read_live_insights", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let bad = [
                    slice(&json!(UNKNOWN), 0, 10),
                    slice(&project, 5, 2),
                    slice(&project, 0, 1_000),
                ];
                b.rejects("read_live_insights", slice(&project, 0, 10), &bad)
                    .await
            })
        }),
    ]
}
