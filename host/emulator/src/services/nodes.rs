//! `/nodes/…` and `/projects/nodes/…`: the machines of the organisation, which of them a project
//! may use, and which are busy.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{Answer, Refusal, Reply};
use super::arguments::Arguments;
use super::backtests::dispatch;
use super::cloud::Cloud;
use super::organizations::USER_NAME;
use crate::store::State;
use crate::store::node::{Node, NodeKind};
use crate::store::project::Project;

pub(crate) fn read(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    project_nodes(state, state.project(arguments)?)
}

/// Chooses the nodes of a project; no list or an empty one leaves the choice to the cloud.
pub(crate) fn update(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    state.project(arguments)?;
    let mut chosen = BTreeSet::new();
    let items = arguments.optional("nodes", Arguments::list)?;
    for item in items.unwrap_or_default() {
        let node = item.as_str();
        let node = node.ok_or_else(|| Refusal::invalid("nodes", "a list of node ids"))?;
        if !state.nodes.iter().any(|known| known.id == node) {
            return Err(Refusal::not_found("Node", node));
        }
        chosen.insert(node.to_owned());
    }
    state.project_mut(arguments)?.nodes = chosen;
    dispatch(cloud, state);
    project_nodes(state, state.project(arguments)?)
}

/// All nodes of the organisation, in the form that the `lean` command line reads.
pub(crate) fn organization(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    Reply::success(by_kind(state, &BTreeSet::new()))
}

fn project_nodes(state: &State, project: &Project) -> Answer {
    Reply::success(json!({
        "nodes": by_kind(state, &project.nodes),
        "autoSelectNode": project.nodes.is_empty(),
    }))
}

/// All nodes by what they are for; those that a project has chosen are marked as active.
fn by_kind(state: &State, chosen: &BTreeSet<String>) -> Value {
    let nodes = |kind| -> Vec<Value> {
        let of_kind = state.nodes.iter().filter(|node| node.kind == kind);
        of_kind
            .map(|node| node_json(state, node, chosen.contains(&node.id)))
            .collect()
    };
    json!({
        "backtest": nodes(NodeKind::Backtest),
        "live": nodes(NodeKind::Live),
        "research": nodes(NodeKind::Research),
    })
}

fn node_json(state: &State, node: &Node, active: bool) -> Value {
    let user = state.user_of(&node.id);
    let (cpu, ram, monthly) = node.size;
    json!({
        "id": node.id,
        "name": node.name,
        "sku": node.sku,
        "description": "A node of the emulator",
        "speed": 1.0,
        "cpu": cpu,
        "ram": ram,
        "assets": 0,
        "hasGpu": 0,
        "host": null,
        "price": {"monthly": monthly, "yearly": monthly * 10},
        "busy": user.is_some(),
        "usedBy": if user.is_some() { USER_NAME } else { "" },
        "userProfile": "",
        "projectName": user.map_or("", |project| project.name.as_str()),
        "projectId": user.map(|project| project.id),
        "active": active,
    })
}
