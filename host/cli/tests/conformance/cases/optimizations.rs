//! Optimisations.

use serde_json::{Map, Value, json};

use super::{Case, invalid, valid};
use crate::bench::Bench;
use crate::body::{Body as _, Check, ensure};
use crate::setup::UNKNOWN;

fn one(id: &str) -> Value {
    json!({ "optimizationId": id })
}

/// A request with one argument changed.
fn with(request: &Value, name: &str, value: Value) -> Value {
    let mut request = request.clone();
    request[name] = value;
    request
}

/// The arguments of a request that an estimate takes as well.
fn estimate_of(request: &Value) -> Value {
    let left_out = ["estimatedCost", "nodeType", "parallelNodes"];
    let kept: Map<_, _> = request
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !left_out.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(kept)
}

async fn done(b: &Bench, id: &str) -> Check<Value> {
    b.until("read_optimization", one(id), |body| {
        let status = body.text("/optimization/status")?;
        ensure!(
            ["new", "running", "completed"].contains(&status.as_str()),
            "it is {status}"
        );
        Ok(status == "completed")
    })
    .await
}

pub fn cases() -> Vec<Case> {
    vec![
        valid("estimate_optimization_time", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let request = estimate_of(&b.grid(&project, &compile));
                let body = b
                    .call("estimate_optimization_time", request.clone())
                    .await?;
                let time = body.number("/estimate/time")?;
                ensure!(time > 0.0, "no time: {body}");
                ensure!(
                    body.number("/estimate/balance")? > 0.0,
                    "no balance: {body}"
                );
                let wider = json!([{ "name": "fast", "min": 1, "max": 30, "step": 1 }]);
                let wider = with(&request, "parameters", wider);
                let body = b.call("estimate_optimization_time", wider).await?;
                ensure!(
                    (body.number("/estimate/time")? - time).abs() < f64::EPSILON,
                    "the time of one backtest: {body}"
                );
                Ok(())
            })
        }),
        invalid("estimate_optimization_time", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let good = estimate_of(&b.grid(&project, &compile));
                let bad = [
                    with(&good, "projectId", json!(UNKNOWN)),
                    with(&good, "compileId", json!("nothing")),
                    with(&good, "target", json!("Happiness")),
                    with(&good, "parameters", json!([])),
                ];
                b.rejects("estimate_optimization_time", good, &bad).await
            })
        }),
        valid("create_optimization", |b| {
            Box::pin(async move {
                let (project, id) = b.optimization().await?;
                let body = b
                    .call("list_optimizations", json!({ "projectId": project }))
                    .await?;
                let listed = body.find("/optimizations", "optimizationId", id.clone())?;
                listed.equals("/name", "Grid")?;
                listed.equals("/nodeType", "O2-8")?;
                let body = done(b, &id).await?;
                let runs = body
                    .at("/optimization/backtests")?
                    .as_object()
                    .map_or(0, Map::len);
                ensure!(runs == 3, "{runs} backtests for three values");
                Ok(())
            })
        }),
        invalid("create_optimization", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let good = b.grid(&project, &compile);
                let bad = [
                    with(&good, "projectId", json!(UNKNOWN)),
                    with(&good, "compileId", json!("nothing")),
                    with(&good, "nodeType", json!("O99")),
                    with(&good, "parallelNodes", json!(0)),
                    with(&good, "estimatedCost", json!(1e9)),
                    with(
                        &good,
                        "parameters",
                        json!([{ "name": "fast", "min": 9, "max": 3, "step": 3 }]),
                    ),
                ];
                b.rejects("create_optimization", good, &bad).await
            })
        }),
        valid("read_optimization", |b| {
            Box::pin(async move {
                let (project, id) = b.optimization().await?;
                let body = done(b, &id).await?;
                body.equals("/optimization/optimizationId", id)?;
                body.equals("/optimization/projectId", project.clone())?;
                body.equals("/optimization/parallelNodes", 2)?;
                let runs = body.at("/optimization/backtests")?.as_object().cloned();
                let mut fast = Vec::new();
                for (backtest, run) in runs.unwrap_or_default() {
                    fast.push(run.at("/parameterSet/fast")?.to_string());
                    // Each set of parameters is a backtest.
                    let arguments = json!({ "projectId": project, "backtestId": backtest });
                    let read = b.call("read_backtest", arguments).await?;
                    read.equals("/backtest/completed", true)?;
                }
                fast.sort();
                fast.dedup();
                ensure!(fast.len() == 3, "the values are {fast:?}");
                Ok(())
            })
        }),
        invalid("read_optimization", |b| {
            Box::pin(async move {
                let (_, id) = b.optimization().await?;
                b.rejects("read_optimization", one(&id), &[one("nothing")])
                    .await
            })
        }),
        valid("read_optimization_analysis", |b| {
            Box::pin(async move {
                let (_, id) = b.optimization().await?;
                done(b, &id).await?;
                let body = b.call("read_optimization_analysis", one(&id)).await?;
                body.equals("/optimization/status", "completed")?;
                body.equals("/optimization/analysis/backtestCountUsed", 3)
            })
        }),
        invalid("read_optimization_analysis", |b| {
            Box::pin(async move {
                let (_, id) = b.optimization().await?;
                b.rejects("read_optimization_analysis", one(&id), &[one("nothing")])
                    .await
            })
        }),
        valid("list_optimizations", |b| {
            Box::pin(async move {
                let (project, id) = b.optimization().await?;
                let body = b
                    .call("list_optimizations", json!({ "projectId": project }))
                    .await?;
                ensure!(
                    body.list("/optimizations")?.len() == 1,
                    "one was made: {body}"
                );
                body.equals("/optimizations/0/optimizationId", id)?;
                let other = b.project_called("Other").await?;
                let none = json!({ "projectId": other.at("/projectId")? });
                b.call("list_optimizations", none)
                    .await?
                    .equals("/optimizations", json!([]))
            })
        }),
        invalid("list_optimizations", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let bad = [json!({ "projectId": UNKNOWN })];
                b.rejects("list_optimizations", json!({ "projectId": project }), &bad)
                    .await
            })
        }),
        valid("update_optimization", |b| {
            Box::pin(async move {
                let (_, id) = b.optimization().await?;
                let rename = json!({ "optimizationId": id, "name": "Renamed" });
                b.call("update_optimization", rename).await?;
                b.call("read_optimization", one(&id))
                    .await?
                    .equals("/optimization/name", "Renamed")
            })
        }),
        invalid("update_optimization", |b| {
            Box::pin(async move {
                let (_, id) = b.optimization().await?;
                let rename = |id: &str, name: &str| json!({ "optimizationId": id, "name": name });
                let bad = [rename("nothing", "A"), rename(&id, "")];
                b.rejects("update_optimization", rename(&id, "A"), &bad)
                    .await
            })
        }),
        valid("abort_optimization", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                // Long enough to be aborted before it completes.
                let wide = json!([{ "name": "fast", "min": 1, "max": 200, "step": 1 }]);
                let request = with(&b.grid(&project, &compile), "parameters", wide);
                let request = with(&request, "parallelNodes", json!(1));
                let body = b.call("create_optimization", request).await?;
                let id = body.text("/optimizations/0/optimizationId")?;
                b.call("abort_optimization", one(&id)).await?;
                b.call("read_optimization", one(&id))
                    .await?
                    .equals("/optimization/status", "aborted")
            })
        }),
        invalid("abort_optimization", |b| {
            Box::pin(async move {
                let (_, id) = b.optimization().await?;
                done(b, &id).await?;
                // A completed optimisation cannot be aborted.
                b.rejects("abort_optimization", one(&id), &[one("nothing"), one(&id)])
                    .await
            })
        }),
        valid("delete_optimization", |b| {
            Box::pin(async move {
                let (project, id) = b.optimization().await?;
                b.call("delete_optimization", one(&id)).await?;
                let body = b
                    .call("list_optimizations", json!({ "projectId": project }))
                    .await?;
                body.equals("/optimizations", json!([]))?;
                b.refused("read_optimization", one(&id)).await.map(drop)
            })
        }),
        invalid("delete_optimization", |b| {
            Box::pin(async move {
                let (_, id) = b.optimization().await?;
                b.rejects("delete_optimization", one(&id), &[one("nothing")])
                    .await
            })
        }),
    ]
}
