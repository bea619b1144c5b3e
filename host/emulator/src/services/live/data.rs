//! What a deployment shows: chart, log, portfolio, orders, insights.

use std::sync::Arc;

use serde_json::json;

use super::view::LiveView;
use crate::services::answer::{Answer, Refusal, Reply};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::services::pages::{
    ChartRequest, MAX_LIVE_INSIGHTS, MAX_LIVE_LINES, MAX_LIVE_ORDERS, Window,
};
use crate::store::State;

/// A chart of a deployment that does not run yet is still loading.
pub(crate) fn chart(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment(arguments)?;
    let request = ChartRequest::read(arguments)?;
    let view = LiveView::of(cloud, deployment);
    match view.report() {
        Some(report) => Reply::success(json!({"chart": request.of(&report.charts, view.until())?})),
        None if deployment.stopped.is_some() => Err(Refusal::because(
            "The live algorithm never ran: it has no charts",
        )),
        None => Reply::loading(0.0),
    }
}

pub(crate) fn logs(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project(arguments)?.id;
    let id = arguments.text("algorithmId")?;
    let deployment = state
        .deployments
        .iter()
        .find(|deployment| deployment.id == id && deployment.project_id == project)
        .ok_or_else(|| Refusal::not_found("Live algorithm", id))?;
    let window = Window::read(arguments, ("startLine", "endLine"), false, MAX_LIVE_LINES)?;
    let lines = LiveView::of(cloud, deployment).logs();
    Reply::success(json!({
        "logs": window.of(&lines),
        "length": lines.len(),
        "deploymentOffset": 0,
    }))
}

pub(crate) fn portfolio(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let view = LiveView::of(cloud, state.deployment(arguments)?);
    Reply::success(json!({"portfolio": view.portfolio()}))
}

pub(crate) fn orders(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment(arguments)?;
    let window = Window::read(arguments, ("start", "end"), false, MAX_LIVE_ORDERS)?;
    window.answer("orders", &LiveView::of(cloud, deployment).orders())
}

pub(crate) fn insights(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment(arguments)?;
    let window = Window::read(arguments, ("start", "end"), true, MAX_LIVE_INSIGHTS)?;
    window.answer("insights", LiveView::of(cloud, deployment).insights())
}
