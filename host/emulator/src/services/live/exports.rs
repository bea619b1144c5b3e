//! `/live/export/…`: what all deployments of a project have shown so far, as files.
//!
//! Of the fields of an insight the file has those that the model knows. `deploy_id` is the place of the deployment among
//! all of the project's; the cloud has a number of its own there.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::view::LiveView;
use crate::services::answer::{Answer, Refusal, refuse};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::services::exports::{insights_file, logs_file, orders_file, trades_file};
use crate::store::State;

/// Seconds of the longest range of orders: 750 days.
const LONGEST: i64 = 750 * 86_400;

pub(crate) fn orders(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let views = views(cloud, state, state.project(arguments)?.id);
    let end = arguments.optional("end", Arguments::integer)?;
    let end = end.unwrap_or(i64::MAX);
    let start = arguments.optional("start", Arguments::integer)?;
    let start = start.unwrap_or(i64::MIN);
    if start > end {
        refuse!("Invalid range: start must not be after end");
    }
    let mut orders: Vec<(i64, Value)> = views
        .iter()
        .flat_map(|view| view.orders())
        .map(|order| (instant(&order, "time"), order))
        .filter(|(time, _)| (start..=end).contains(time))
        .collect();
    orders.sort_by_key(|(time, _)| *time);
    let last = orders.last().map_or(0, |(time, _)| *time);
    orders.retain(|(time, _)| last - time <= LONGEST);
    orders_file(orders.iter().map(|(_, order)| order))
}

pub(crate) fn trades(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let views = views(cloud, state, state.project(arguments)?.id);
    let start = arguments.optional("start", Arguments::integer)?;
    let start = start.unwrap_or(i64::MIN);
    let mut trades: Vec<Value> = views.iter().flat_map(|view| view.trades()).collect();
    trades.retain(|trade| instant(trade, "entryTime") >= start);
    trades.sort_by_key(|trade| instant(trade, "entryTime"));
    trades_file(&trades)
}

pub(crate) fn insights(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = project_of(state, arguments)?;
    let mut rows: Vec<Value> = Vec::new();
    for (number, view) in (1_u32..).zip(views(cloud, state, project)) {
        rows.extend(view.insights().iter().map(|insight| {
            json!({
                "project_id": project,
                "deploy_id": number,
                "insight_id": insight.get("id"),
                "source_model": insight.get("sourceModel"),
                "symbol_id": insight.get("symbol"),
                "ticker": insight.get("ticker"),
                "generated_time": insight.get("generatedTime"),
                "close_time": insight.get("closeTime"),
                "type": insight.get("type"),
                "direction": insight.get("direction"),
                "period": insight.get("period"),
                "weight": insight.get("weight"),
            })
        }));
    }
    rows.sort_by_key(|row| row.get("generated_time").and_then(Value::as_i64));
    insights_file(&rows)
}

pub(crate) fn logs(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = project_of(state, arguments)?;
    let views = views(cloud, state, project);
    let lines: Vec<String> = views.iter().flat_map(|view| view.logs()).collect();
    logs_file("application/octet-stream", &lines)
}

/// The project of the deployment that `deployId` names, which has to be given.
fn project_of(state: &State, arguments: &Arguments) -> Result<u32, Refusal> {
    let id = arguments.text("deployId")?;
    if arguments.get("projectId").is_some() {
        return Ok(state.deployment_named(arguments, "deployId")?.project_id);
    }
    let mut all = state.deployments.iter();
    let found = all.find(|deployment| deployment.id == id);
    let found = found.map(|deployment| deployment.project_id);
    found.ok_or_else(|| Refusal::not_found("Live algorithm", id))
}

/// What the deployments of a project show now, the first one first.
fn views<'s>(cloud: &Cloud, state: &'s State, project: u32) -> Vec<LiveView<'s>> {
    let all = state.deployments.iter();
    let own = all.filter(|deployment| deployment.project_id == project);
    own.map(|deployment| LiveView::of(cloud, deployment))
        .collect()
}

/// Unix seconds of an instant of an entry; 0 if it has none.
fn instant(entry: &Value, field: &str) -> i64 {
    let text = entry.get(field).and_then(Value::as_str);
    let time = text.and_then(|text| text.parse::<Timestamp>().ok());
    time.map_or(0, Timestamp::as_second)
}
