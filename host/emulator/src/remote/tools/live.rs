//! Live algorithms on QuantConnect's paper brokerage: deploy, read, search the log, stop and liquidate.
//!
//! There are no arguments for a brokerage, a node or a data provider, so nothing but paper can be deployed.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::backtests::found_lines;
use super::compile::{built, project_of};
use super::rest;
use super::workspace::Workspace;
use crate::services::answer::{Answer, Refusal, Reply};
use crate::services::arguments::Arguments;
use crate::services::live;
use crate::store::State;
use crate::store::node::NodeKind;

/// The id of QuantConnect's paper brokerage, which is also a data provider.
const PAPER: &str = "QuantConnectBrokerage";
/// Lines of a log that the services give in one window.
const LINES_WINDOW: usize = 250;

/// Compiles, and deploys to the paper brokerage on a free node.
pub(super) async fn create(workspace: Arc<Workspace>, arguments: Arguments) -> Answer {
    let project = project_of(&arguments)?;
    let compile = built(&workspace.cloud, &project).await?;
    let mut state = workspace.cloud.state();
    let mut nodes = state.nodes.iter();
    let free = nodes.find(|it| it.kind == NodeKind::Live && state.user_of(&it.id).is_none());
    let node = free.map(|node| node.id.clone());
    let node = node.ok_or_else(|| Refusal::because("No live node is free"))?;
    let asked = rest::arguments(json!({
        "projectId": project,
        "compileId": compile,
        "versionId": -1,
        "nodeId": node,
        "brokerage": {"id": PAPER, "cash": [], "holdings": []},
        "dataProviders": {PAPER: {"id": PAPER}},
    }));
    let created = rest::answered(live::create(&workspace.cloud, &mut state, &asked))?;
    Reply::success(json!({"deployId": created.get("deployId"), "projectId": project}))
}

/// The project's latest deployment.
pub(super) fn read(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    live::read(&workspace.cloud, state, arguments)
}

/// The positions of the latest deployment, without its cash.
pub(super) fn holdings(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let mut read = rest::answered(live::portfolio(&workspace.cloud, state, arguments))?;
    let portfolio = read.remove("portfolio").unwrap_or_default();
    Reply::success(json!({"holdings": portfolio.get("holdings")}))
}

/// The lines of a deployment's log that contain a text; of the latest deployment, if none is named.
pub(super) fn logs(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let query = arguments.text("query")?;
    let project = state.project(arguments)?.id;
    let id = match arguments.optional("deployId", Arguments::text)? {
        Some(id) => id.to_owned(),
        None => {
            let mut recent = state.deployments.iter().rev();
            let latest = recent.find(|deployment| deployment.project_id == project);
            let latest =
                latest.ok_or_else(|| Refusal::not_found("Live algorithm of project", project))?;
            latest.id.clone()
        }
    };
    let mut named = Map::new();
    named.insert("projectId".to_owned(), project.into());
    named.insert("algorithmId".to_owned(), Value::String(id));
    named.insert("deploymentLogs".to_owned(), true.into());
    let lines = rest::all(
        (&workspace.cloud, state),
        live::logs,
        &named,
        ("startLine", "endLine"),
        ("logs", LINES_WINDOW),
    )?;
    match lines {
        Ok(lines) => found_lines(&lines, query),
        Err(loading) => Ok(loading),
    }
}

pub(super) fn stop(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    live::stop(&workspace.cloud, state, arguments)
}

pub(super) fn liquidate(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    live::liquidate(&workspace.cloud, state, arguments)
}
