//! Backtests: create, read, list, change, delete, and the search in their orders and logs.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::compile::{built, project_of};
use super::rest;
use super::workspace::Workspace;
use crate::services::answer::{Answer, Refusal, Reply, refuse};
use crate::services::arguments::Arguments;
use crate::services::backtests;
use crate::store::State;

/// Orders in one answer.
const ORDERS_PAGE: usize = 50;
/// Lines in one answer.
const MAX_LINES: usize = 200;
/// What the services give in one window.
const ORDERS_WINDOW: usize = 100;

/// Compiles, and queues a backtest. That it is over is nowhere announced: a client has to ask.
pub(super) async fn create(workspace: Arc<Workspace>, arguments: Arguments) -> Answer {
    let project = project_of(&arguments)?;
    let name = arguments.optional("name", Arguments::name)?;
    let name = name.unwrap_or("Remote backtest").to_owned();
    let compile = built(&workspace.cloud, &project).await?;
    let asked = rest::arguments(json!({
        "projectId": project,
        "compileId": compile,
        "backtestName": name,
    }));
    let mut state = workspace.cloud.state();
    let created = rest::answered(backtests::create(&workspace.cloud, &mut state, &asked))?;
    let id = created.get("backtest");
    let id = id.and_then(|backtest| backtest.get("backtestId"));
    Reply::success(json!({"backtestId": id, "projectId": project, "name": name}))
}

pub(super) fn read(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    backtests::read(&workspace.cloud, state, arguments)
}

pub(super) fn list(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    backtests::list(&workspace.cloud, state, arguments)
}

/// Renames a backtest or changes its note; the project's latest one, if none is named.
pub(super) fn update(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    if arguments.get("name").is_none() && arguments.get("note").is_none() {
        refuse!("Missing required field: name or note");
    }
    let mut arguments = arguments.clone();
    if arguments.get("backtestId").is_none() {
        let project = state.project(&arguments)?.id;
        let mut recent = state.backtests.iter().rev();
        let latest = recent.find(|backtest| backtest.project_id == project);
        let latest = latest.ok_or_else(|| Refusal::because("The project has no backtest"))?;
        let id = latest.id.clone();
        arguments.fields.insert("backtestId".to_owned(), id.into());
    }
    backtests::update(&workspace.cloud, state, &arguments)
}

pub(super) fn delete(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    backtests::delete(&workspace.cloud, state, arguments)
}

/// The orders that match every filter that is given.
pub(super) fn orders(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let orders = match rest::all(
        (&workspace.cloud, state),
        backtests::orders,
        &named(arguments)?,
        ("start", "end"),
        ("orders", ORDERS_WINDOW),
    )? {
        Ok(orders) => orders,
        Err(loading) => return Ok(loading),
    };
    let filters = ["tag", "symbol", "type", "id", "date"];
    let matches = |order: &Value| {
        let mut given = filters.iter();
        given.all(|name| {
            arguments
                .get(name)
                .is_none_or(|wanted| fits(order, name, wanted))
        })
    };
    let found: Vec<Value> = orders.into_iter().filter(matches).collect();
    let show = |order: &Value| Ok(order.clone());
    Reply::success(rest::page(arguments, "orders", &found, ORDERS_PAGE, show)?)
}

/// Whether an order has a value: of a symbol its ticker or its id, of a date the day in UTC.
fn fits(order: &Value, name: &str, wanted: &Value) -> bool {
    let text = wanted.as_str().unwrap_or_default();
    match name {
        "symbol" => ["value", "id"].iter().any(|part| {
            let symbol = order.get("symbol").and_then(|symbol| symbol.get(part));
            symbol.and_then(Value::as_str) == Some(text)
        }),
        "date" => {
            let time = order.get("time").and_then(Value::as_str);
            time.is_some_and(|time| !text.is_empty() && time.starts_with(text))
        }
        _ => order.get(name) == Some(wanted),
    }
}

/// The lines of a backtest's log that contain a text.
pub(super) fn logs(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let query = arguments.text("query")?;
    let lines = match rest::all(
        (&workspace.cloud, state),
        backtests::log,
        &named(arguments)?,
        ("start", "end"),
        ("logs", MAX_LINES),
    )? {
        Ok(lines) => lines,
        Err(loading) => return Ok(loading),
    };
    found_lines(&lines, query)
}

/// The lines that contain a text, as both logs answer them.
pub(super) fn found_lines(lines: &[Value], query: &str) -> Answer {
    let lines = lines.iter().filter_map(Value::as_str);
    let found: Vec<&str> = lines.filter(|line| rest::contains(line, query)).collect();
    let shown: Vec<&&str> = found.iter().take(MAX_LINES).collect();
    Reply::success(json!({"logs": shown, "length": found.len()}))
}

/// What names a backtest.
fn named(arguments: &Arguments) -> Result<Map<String, Value>, Refusal> {
    let mut named = Map::new();
    named.insert("projectId".to_owned(), project_of(arguments)?);
    let id = arguments.text("backtestId")?.to_owned();
    named.insert("backtestId".to_owned(), id.into());
    Ok(named)
}
