//! Exports of backtests and deployments.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::bench::Bench;
use crate::body::{Body as _, Check, ensure};
use crate::setup::UNKNOWN;

fn of(project: &Value, field: &str, id: &str) -> Value {
    json!({ "projectId": project, field: id })
}

/// Exports the results of a backtest; returns the file, the project and the backtest.
async fn exported(
    b: &Bench,
    tool: &'static str,
    media_type: &str,
) -> Check<(String, Value, String)> {
    let (project, id) = b.backtest().await?;
    let body = b.call(tool, of(&project, "backtestId", &id)).await?;
    body.equals("/mediaType", media_type)?;
    Ok((body.text("/content")?, project, id))
}

/// What cannot be exported of a backtest.
async fn rejects_backtests(b: &Bench, tool: &'static str) -> Check {
    let (project, id) = b.backtest().await?;
    let bad = [
        of(&json!(UNKNOWN), "backtestId", &id),
        of(&project, "backtestId", "nothing"),
    ];
    b.rejects(tool, of(&project, "backtestId", &id), &bad).await
}

/// What cannot be exported of a deployment.
async fn rejects_deployments(b: &Bench, tool: &'static str) -> Check {
    let (project, id) = b.deployed().await?;
    let bad = [
        of(&json!(UNKNOWN), "deployId", &id),
        of(&project, "deployId", "nothing"),
    ];
    b.rejects(tool, of(&project, "deployId", &id), &bad).await
}

pub fn cases() -> Vec<Case> {
    let mut cases = backtests();
    cases.extend(deployments());
    cases
}

fn backtests() -> Vec<Case> {
    vec![
        valid("export_backtest_orders", |b| {
            Box::pin(async move {
                let (csv, project, id) = exported(b, "export_backtest_orders", "text/csv").await?;
                let read = b
                    .call("read_backtest", of(&project, "backtestId", &id))
                    .await?;
                let total = read.text("/backtest/statistics/Total Orders")?;
                let rows = csv.lines().count().saturating_sub(1);
                ensure!(total == rows.to_string(), "{total} orders in {csv}");
                ensure!(csv.contains("SPY"), "{csv}");
                Ok(())
            })
        }),
        invalid("export_backtest_orders", |b| {
            Box::pin(rejects_backtests(b, "export_backtest_orders"))
        }),
        valid("export_backtest_trades", |b| {
            Box::pin(async move {
                let (csv, project, id) = exported(b, "export_backtest_trades", "text/csv").await?;
                let read = b
                    .call("read_backtest", of(&project, "backtestId", &id))
                    .await?;
                let trades = read.list("/backtest/totalPerformance/closedTrades")?;
                let rows: Vec<&str> = csv.lines().skip(1).collect();
                ensure!(rows.len() == trades.len(), "{csv}");
                let first = rows.first().ok_or("no trades")?;
                ensure!(
                    first.contains(",SPY,") && first.contains(",Buy,") && first.contains('\t'),
                    "{first}"
                );
                Ok(())
            })
        }),
        invalid("export_backtest_trades", |b| {
            Box::pin(rejects_backtests(b, "export_backtest_trades"))
        }),
        valid("export_backtest_insights", |b| {
            Box::pin(async move {
                let (text, project, id) =
                    exported(b, "export_backtest_insights", "application/json").await?;
                let insights: Value =
                    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
                let mut page = of(&project, "backtestId", &id);
                page["start"] = json!(0);
                page["end"] = json!(100);
                let read = b.call("read_backtest_insights", page).await?;
                ensure!(insights == read["insights"], "{text}");
                Ok(())
            })
        }),
        invalid("export_backtest_insights", |b| {
            Box::pin(rejects_backtests(b, "export_backtest_insights"))
        }),
        valid("export_backtest_logs", |b| {
            Box::pin(async move {
                let (log, ..) = exported(b, "export_backtest_logs", "text/plain").await?;
                ensure!(log.contains("not LEAN"), "{log}");
                Ok(())
            })
        }),
        invalid("export_backtest_logs", |b| {
            Box::pin(rejects_backtests(b, "export_backtest_logs"))
        }),
    ]
}

fn deployments() -> Vec<Case> {
    vec![
        valid("export_live_orders", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let page = json!({ "projectId": project, "start": 0, "end": 100 });
                b.until("read_live_orders", page, |body| {
                    Ok(!body.list("/orders")?.is_empty())
                })
                .await?;
                let body = b
                    .call("export_live_orders", json!({ "projectId": project }))
                    .await?;
                body.equals("/mediaType", "text/csv")?;
                ensure!(body.text("/content")?.contains("SPY"), "{body}");
                // The simulated days are long before this range.
                let now = json!({ "projectId": project, "start": 4_000_000_000_u32 });
                let body = b.call("export_live_orders", now).await?;
                ensure!(body.text("/content")?.lines().count() == 1, "{body}");
                Ok(())
            })
        }),
        invalid("export_live_orders", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let ask = |project: &Value, start: u32, end: u32| json!({ "projectId": project, "start": start, "end": end });
                let bad = [ask(&json!(UNKNOWN), 0, 1), ask(&project, 2, 1)];
                b.rejects("export_live_orders", ask(&project, 0, 1), &bad)
                    .await
            })
        }),
        valid("export_live_trades", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let all = json!({ "projectId": project });
                let body = b
                    .until("export_live_trades", all, |body| {
                        Ok(body.text("/content")?.lines().count() > 1)
                    })
                    .await?;
                body.equals("/mediaType", "text/csv")?;
                let later = json!({ "projectId": project, "start": 4_000_000_000_u32 });
                let body = b.call("export_live_trades", later).await?;
                ensure!(body.text("/content")?.lines().count() == 1, "{body}");
                Ok(())
            })
        }),
        invalid("export_live_trades", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let ask = |project: &Value| json!({ "projectId": project, "start": 0 });
                let bad = [ask(&json!(UNKNOWN))];
                b.rejects("export_live_trades", ask(&project), &bad).await
            })
        }),
        valid("export_live_insights", |b| {
            Box::pin(async move {
                let (project, id) = b.deployed().await?;
                let named = of(&project, "deployId", &id);
                let body = b
                    .until("export_live_insights", named, |body| {
                        Ok(body.text("/content")?.contains("\"ticker\":\"SPY\""))
                    })
                    .await?;
                body.equals("/mediaType", "application/json")
            })
        }),
        invalid("export_live_insights", |b| {
            Box::pin(rejects_deployments(b, "export_live_insights"))
        }),
        valid("export_live_logs", |b| {
            Box::pin(async move {
                let (project, id) = b.deployed().await?;
                let named = of(&project, "deployId", &id);
                let body = b.call("export_live_logs", named).await?;
                body.equals("/mediaType", "application/octet-stream")?;
                ensure!(body.text("/content")?.contains("not LEAN"), "{body}");
                Ok(())
            })
        }),
        invalid("export_live_logs", |b| {
            Box::pin(rejects_deployments(b, "export_live_logs"))
        }),
    ]
}
