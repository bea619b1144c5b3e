//! Backtests and their results.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::body::{Body as _, count, ensure};
use crate::setup::{EVER, UNKNOWN};

fn chart(project: &Value, backtest: &str, name: &str, points: u32) -> Value {
    let (start, end) = EVER;
    json!({
        "projectId": project, "backtestId": backtest, "name": name, "count": points,
        "start": start, "end": end,
    })
}

/// The arguments for a range of the orders or insights of a backtest.
fn slice(project: &Value, backtest: &str, start: u32, end: u32) -> Value {
    json!({ "projectId": project, "backtestId": backtest, "start": start, "end": end })
}

fn one(project: &Value, backtest: &str) -> Value {
    json!({ "projectId": project, "backtestId": backtest })
}

pub fn cases() -> Vec<Case> {
    let mut cases = jobs();
    cases.extend(results());
    cases
}

fn jobs() -> Vec<Case> {
    vec![
        valid("create_backtest", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let arguments = json!({
                    "projectId": project, "compileId": compile, "backtestName": "Named",
                    "parameters": { "fast": "7", "slow": 30 },
                });
                let body = b.call("create_backtest", arguments).await?;
                body.equals("/backtest/name", "Named")?;
                body.equals("/backtest/completed", false)?;
                let id = body.text("/backtest/backtestId")?;
                let body = b.finished(&project, &id).await?;
                body.equals("/backtest/name", "Named")?;
                body.equals("/backtest/parameterSet", json!({ "fast": "7", "slow": 30 }))?;
                body.equals("/backtest/progress", 1)
            })
        }),
        invalid("create_backtest", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let ask = |project: &Value, compile: &str, name: &str| {
                    json!({ "projectId": project, "compileId": compile, "backtestName": name,
                        "parameters": { "fast": 5 } })
                };
                let bad = [
                    ask(&json!(UNKNOWN), &compile, "A"),
                    ask(&project, "nothing", "A"),
                    ask(&project, &compile, ""),
                ];
                b.rejects("create_backtest", ask(&project, &compile, "A"), &bad)
                    .await
            })
        }),
        valid("read_backtest", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let body = b.call("read_backtest", one(&project, &id)).await?;
                body.equals("/backtest/backtestId", id)?;
                body.equals("/backtest/status", "Completed.")?;
                ensure!(
                    body.text("/backtest/backtestStart")?.starts_with("2023-01"),
                    "{body}"
                );
                ensure!(body.number("/backtest/tradeableDates")? > 200.0, "{body}");
                // The text of a statistic and its number agree.
                let text = body.text("/backtest/statistics/Sharpe Ratio")?;
                let told: f64 = text
                    .parse()
                    .map_err(|_| format!("Sharpe Ratio is {text}"))?;
                let number =
                    body.number("/backtest/totalPerformance/portfolioStatistics/sharpeRatio")?;
                ensure!(
                    (told - number).abs() < 0.01,
                    "Sharpe ratio: {told} and {number}"
                );
                Ok(())
            })
        }),
        invalid("read_backtest", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [one(&json!(UNKNOWN), &id), one(&project, "nothing")];
                b.rejects("read_backtest", one(&project, &id), &bad).await
            })
        }),
        valid("list_backtests", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let mut ids = Vec::new();
                for fast in [3, 5] {
                    let id = b.backtest_of(&project, &compile, fast).await?;
                    b.finished(&project, &id).await?;
                    ids.push(id);
                }
                let ask = |statistics: bool| json!({ "projectId": project, "includeStatistics": statistics });
                let body = b.call("list_backtests", ask(true)).await?;
                body.equals("/count", 2)?;
                for id in ids {
                    let listed = body.find("/backtests", "backtestId", id.clone())?;
                    let read = b.call("read_backtest", one(&project, &id)).await?;
                    let sharpe = "/backtest/totalPerformance/portfolioStatistics/sharpeRatio";
                    listed.equals("/sharpeRatio", read.at(sharpe)?.clone())?;
                }
                let body = b.call("list_backtests", ask(false)).await?;
                body.equals("/backtests/0/sharpeRatio", Value::Null)
            })
        }),
        invalid("list_backtests", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let good = json!({ "projectId": project, "includeStatistics": true });
                b.rejects("list_backtests", good, &[json!({ "projectId": UNKNOWN })])
                    .await
            })
        }),
        valid("update_backtest", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let change = json!({
                    "projectId": project, "backtestId": id, "name": "Renamed", "note": "Good",
                });
                b.call("update_backtest", change).await?;
                let body = b.call("read_backtest", one(&project, &id)).await?;
                body.equals("/backtest/name", "Renamed")?;
                body.equals("/backtest/note", "Good")
            })
        }),
        invalid("update_backtest", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let rename = |project: &Value, id: &str, name: &str| json!({ "projectId": project, "backtestId": id, "name": name });
                let bad = [
                    rename(&json!(UNKNOWN), &id, "A"),
                    rename(&project, "nothing", "A"),
                    rename(&project, &id, ""),
                ];
                b.rejects("update_backtest", rename(&project, &id, "A"), &bad)
                    .await
            })
        }),
        valid("update_backtest_tags", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                for tags in [json!(["good", "kept"]), json!([])] {
                    let change = json!({ "projectId": project, "backtestId": id, "tags": tags });
                    b.call("update_backtest_tags", change).await?;
                    let list = json!({ "projectId": project });
                    let body = b.call("list_backtests", list).await?;
                    body.equals("/backtests/0/tags", tags)?;
                }
                Ok(())
            })
        }),
        invalid("update_backtest_tags", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let tag = |project: &Value, id: &str, tags: Value| json!({ "projectId": project, "backtestId": id, "tags": tags });
                let bad = [
                    tag(&json!(UNKNOWN), &id, json!(["a"])),
                    tag(&project, "nothing", json!(["a"])),
                    tag(&project, &id, json!(["a".repeat(300)])),
                ];
                let good = tag(&project, &id, json!(["a"]));
                b.rejects("update_backtest_tags", good, &bad).await
            })
        }),
        valid("delete_backtest", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                b.call("delete_backtest", one(&project, &id)).await?;
                let body = b
                    .call("list_backtests", json!({ "projectId": project }))
                    .await?;
                body.equals("/count", 0)?;
                b.refused("read_backtest", one(&project, &id))
                    .await
                    .map(drop)
            })
        }),
        invalid("delete_backtest", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [one(&json!(UNKNOWN), &id), one(&project, "nothing")];
                b.rejects("delete_backtest", one(&project, &id), &bad).await
            })
        }),
    ]
}

fn results() -> Vec<Case> {
    vec![
        valid("read_backtest_chart", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let ask = chart(&project, &id, "Strategy Equity", 1_000);
                let body = b.call("read_backtest_chart", ask).await?;
                body.equals("/chart/name", "Strategy Equity")?;
                let points = body.list("/chart/series/Equity/values")?;
                ensure!(
                    points.len() > 200,
                    "{} points for a year of days",
                    points.len()
                );
                let read = b.call("read_backtest", one(&project, &id)).await?;
                let end = "/backtest/totalPerformance/portfolioStatistics/endEquity";
                let last = points[points.len() - 1].number("/1")?;
                let equity = read.number(end)?;
                ensure!(
                    (last - equity).abs() < 0.01,
                    "the chart ends at {last}, the result at {equity}"
                );
                Ok(())
            })
        }),
        invalid("read_backtest_chart", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let good = chart(&project, &id, "Strategy Equity", 100);
                let bad = [
                    chart(&json!(UNKNOWN), &id, "Strategy Equity", 100),
                    chart(&project, "nothing", "Strategy Equity", 100),
                    chart(&project, &id, "No Such Chart", 100),
                    chart(&project, &id, "Strategy Equity", 0),
                ];
                b.rejects("read_backtest_chart", good, &bad).await
            })
        }),
        valid("read_backtest_orders", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let body = b
                    .call("read_backtest_orders", slice(&project, &id, 0, 100))
                    .await?;
                let orders = body.list("/orders")?;
                body.equals("/length", count(orders.len()))?;
                ensure!(orders.len() > 2, "an algorithm that hardly trades: {body}");
                orders[0].equals("/symbol/value", "SPY")?;
                ensure!(
                    orders[0].number("/quantity")? > 0.0,
                    "it begins by buying: {}",
                    orders[0]
                );
                let read = b.call("read_backtest", one(&project, &id)).await?;
                let total = read.text("/backtest/statistics/Total Orders")?;
                ensure!(
                    total == orders.len().to_string(),
                    "{total} orders by the statistics"
                );
                let part = b
                    .call("read_backtest_orders", slice(&project, &id, 1, 2))
                    .await?;
                ensure!(
                    part.list("/orders")?.len() == 1,
                    "one was asked for: {part}"
                );
                part.equals("/orders/0/id", orders[1].at("/id")?.clone())
            })
        }),
        invalid("read_backtest_orders", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [
                    slice(&json!(UNKNOWN), &id, 0, 10),
                    slice(&project, "nothing", 0, 10),
                    slice(&project, &id, 5, 2),
                    slice(&project, &id, 0, 1_000),
                ];
                b.rejects("read_backtest_orders", slice(&project, &id, 0, 10), &bad)
                    .await
            })
        }),
        valid("filter_backtest_orders", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let page = slice(&project, &id, 0, 100);
                let all = b.call("read_backtest_orders", page.clone()).await?;
                let all = all.list("/orders")?.clone();
                let ask = |name: &str, value: Value| {
                    let mut ask = page.clone();
                    ask[name] = value;
                    ask
                };
                let (second, tool) = (all[1].clone(), "filter_backtest_orders");
                let body = b.call(tool, ask("id", second["id"].clone())).await?;
                body.equals("/orders", json!([second]))?;
                body.equals("/more", false)?;
                let date = second.text("/createdTime")?;
                let date = date.get(..10).ok_or("no date")?;
                let body = b.call(tool, ask("date", json!(date))).await?;
                body.find("/orders", "id", second["id"].clone())?;
                for (name, value, fit) in [
                    ("symbol", json!("spy"), true),
                    ("symbol", json!("QQQ"), false),
                    ("type", json!("4"), true),
                    ("type", json!("0"), false),
                    ("tag", json!("no such tag"), false),
                ] {
                    let body = b.call(tool, ask(name, value)).await?;
                    let fits = body.list("/orders")?.len();
                    let expected = if fit { all.len() } else { 0 };
                    ensure!(fits == expected, "{fits} orders by {name}");
                }
                let body = b.call(tool, slice(&project, &id, 1, 2)).await?;
                body.equals("/orders", json!([second]))?;
                body.equals("/more", true)
            })
        }),
        invalid("filter_backtest_orders", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [
                    slice(&json!(UNKNOWN), &id, 0, 10),
                    slice(&project, "nothing", 0, 10),
                ];
                let mut good = slice(&project, &id, 0, 10);
                good["date"] = json!("2023-01-31");
                b.rejects("filter_backtest_orders", good, &bad).await
            })
        }),
        valid("read_backtest_trades", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let all = slice(&project, &id, 0, 100);
                let body = b.call("read_backtest_trades", all).await?;
                let trades = body.list("/trades")?;
                body.equals("/length", count(trades.len()))?;
                ensure!(
                    trades.len() > 1,
                    "hardly anything was bought and sold: {body}"
                );
                trades[0].equals("/symbols/0/value", "SPY")?;
                let read = b.call("read_backtest", one(&project, &id)).await?;
                let closed = read.list("/backtest/totalPerformance/closedTrades")?;
                ensure!(closed == trades, "the trades of the result: {closed:?}");
                // A trade names the orders that opened and closed it.
                let orders = slice(&project, &id, 0, 100);
                let orders = b.call("read_backtest_orders", orders).await?;
                let opened = trades[0].at("/orderIds/0")?.clone();
                let order = orders.find("/orders", "id", opened)?;
                order.equals("/price", trades[0].at("/entryPrice")?.clone())?;
                let part = slice(&project, &id, 1, 2);
                let part = b.call("read_backtest_trades", part).await?;
                part.equals("/trades/0/id", trades[1].at("/id")?.clone())
            })
        }),
        invalid("read_backtest_trades", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [
                    slice(&json!(UNKNOWN), &id, 0, 10),
                    slice(&project, "nothing", 0, 10),
                    slice(&project, &id, 5, 2),
                ];
                b.rejects("read_backtest_trades", slice(&project, &id, 0, 10), &bad)
                    .await
            })
        }),
        valid("read_backtest_logs", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let mut ask = slice(&project, &id, 0, 200);
                let body = b.call("read_backtest_logs", ask.clone()).await?;
                let lines = body.list("/logs")?;
                body.equals("/length", count(lines.len()))?;
                ensure!(!lines.is_empty(), "the model says what it is: {body}");
                ask["query"] = json!("NOT lean");
                let body = b.call("read_backtest_logs", ask).await?;
                body.equals("/length", 1)?;
                body.equals("/logs/0", lines[0].clone())
            })
        }),
        invalid("read_backtest_logs", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [
                    slice(&json!(UNKNOWN), &id, 0, 10),
                    slice(&project, "nothing", 0, 10),
                    slice(&project, &id, 5, 2),
                    slice(&project, &id, 0, 201),
                ];
                let mut good = slice(&project, &id, 0, 10);
                good["query"] = json!("lean");
                b.rejects("read_backtest_logs", good, &bad).await
            })
        }),
        valid("read_backtest_report", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let body = b.call("read_backtest_report", one(&project, &id)).await?;
                let report = body.text("/report")?;
                let read = b.call("read_backtest", one(&project, &id)).await?;
                let profit = read.text("/backtest/statistics/Net Profit")?;
                ensure!(report.contains(&profit), "{profit} is not in {report}");
                Ok(())
            })
        }),
        invalid("read_backtest_report", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [one(&json!(UNKNOWN), &id), one(&project, "nothing")];
                b.rejects("read_backtest_report", one(&project, &id), &bad)
                    .await
            })
        }),
        valid("read_backtest_insights", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let body = b
                    .call("read_backtest_insights", slice(&project, &id, 0, 100))
                    .await?;
                let insights = body.list("/insights")?;
                ensure!(!insights.is_empty(), "it predicted nothing: {body}");
                body.equals("/length", count(insights.len()))?;
                insights[0].equals("/ticker", "SPY")?;
                insights[0].equals("/direction", "up")?;
                let part = slice(&project, &id, 1, 2);
                let part = b.call("read_backtest_insights", part).await?;
                ensure!(
                    part.list("/insights")?.len() == 1,
                    "one was asked for: {part}"
                );
                part.equals("/insights/0/id", insights[1].at("/id")?.clone())
            })
        }),
        invalid("read_backtest_insights", |b| {
            Box::pin(async move {
                let (project, id) = b.backtest().await?;
                let bad = [
                    slice(&json!(UNKNOWN), &id, 0, 10),
                    slice(&project, "nothing", 0, 10),
                    slice(&project, &id, 5, 2),
                    slice(&project, &id, 0, 1_000),
                ];
                b.rejects("read_backtest_insights", slice(&project, &id, 0, 10), &bad)
                    .await
            })
        }),
    ]
}
