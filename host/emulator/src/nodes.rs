//! Nodes: the machines of the organisation, which of them a project may use, and which are
//! busy.
//!
//! Invariant: whether a node is busy is never stored; it follows from the backtests and
//! deployments that run on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::Arguments;
use crate::organizations::USER_NAME;
use crate::project::Project;
use crate::state::{Cloud, State, digest_id};

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Backtest,
    Live,
    Research,
}

/// One node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// The nodes of a new organisation.
pub(crate) fn fleet(backtest: u32, live: u32) -> Vec<Node> {
    let kinds = [
        (Kind::Backtest, backtest),
        (Kind::Live, live),
        (Kind::Research, 1),
    ];
    kinds
        .into_iter()
        .flat_map(|(kind, count)| (1..=count).map(move |number| Node::new(kind, number)))
        .collect()
}

impl Node {
    fn new(kind: Kind, number: u32) -> Self {
        let sku = kind.sku();
        Self {
            id: format!(
                "{}-{}",
                kind.prefix(),
                digest_id(&format!("{sku}/{number}"))
            ),
            name: format!("{sku} node {number}"),
            kind,
        }
    }

    fn json(&self, state: &State, active: bool) -> Value {
        let user = state.user_of(&self.id);
        let (cpu, ram, monthly) = self.kind.size();
        json!({
            "id": self.id,
            "name": self.name,
            "sku": self.kind.sku(),
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
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Backtest => "BN",
            Self::Live => "LN",
            Self::Research => "RN",
        }
    }

    fn sku(self) -> &'static str {
        match self {
            Self::Backtest => "B2-8",
            Self::Live => "L1-2",
            Self::Research => "R1-4",
        }
    }

    /// Cores, gigabytes, and the price in US dollars a month, which nobody is charged.
    fn size(self) -> (u32, f64, u32) {
        match self {
            Self::Backtest => (2, 8.0, 14),
            Self::Live => (1, 2.0, 24),
            Self::Research => (1, 4.0, 14),
        }
    }
}

impl State {
    /// The node with an id, whatever it is for.
    pub(crate) fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The project that keeps a node busy.
    pub(crate) fn user_of(&self, node: &str) -> Option<&Project> {
        let backtest = self
            .backtests
            .iter()
            .find(|backtest| backtest.running_on() == Some(node))
            .map(|backtest| backtest.project_id);
        let deployment = || {
            self.deployments
                .iter()
                .find(|deployment| deployment.stopped.is_none() && deployment.node == node)
                .map(|deployment| deployment.project_id)
        };
        self.projects.get(&backtest.or_else(deployment)?)
    }

    /// A backtest node that is idle and that the project may use. A choice that names no
    /// backtest node restricts nothing.
    pub(crate) fn idle_backtest_node(&self, project: &Project) -> Option<Node> {
        let of_kind = || self.nodes.iter().filter(|node| node.kind == Kind::Backtest);
        let chosen = of_kind().any(|node| project.nodes.contains(&node.id));
        of_kind()
            .filter(|node| !chosen || project.nodes.contains(&node.id))
            .find(|node| self.user_of(&node.id).is_none())
            .cloned()
    }

    fn nodes_json(&self, kind: Kind, chosen: &BTreeSet<String>) -> Vec<Value> {
        self.nodes
            .iter()
            .filter(|node| node.kind == kind)
            .map(|node| node.json(self, chosen.contains(&node.id)))
            .collect()
    }
}

pub(crate) fn read(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    project_nodes(&state, state.project(arguments)?)
}

/// Chooses the nodes of a project; no list or an empty one leaves the choice to the cloud.
pub(crate) fn update(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let id = state.project(arguments)?.id;
    let mut chosen = BTreeSet::new();
    for item in arguments.optional_list("nodes")?.unwrap_or_default() {
        let node = item
            .as_str()
            .ok_or_else(|| Refusal::invalid("nodes", "a list of node ids"))?;
        if state.node(node).is_none() {
            return Err(Refusal::not_found("Node", node));
        }
        chosen.insert(node.to_owned());
    }
    state.project_mut(arguments)?.nodes = chosen;
    crate::backtests::dispatch(cloud, &mut state);
    let project = state
        .projects
        .get(&id)
        .ok_or_else(|| Refusal::not_found("Project", id))?;
    project_nodes(&state, project)
}

/// All nodes of the organisation, in the form that the `lean` command line reads.
pub(crate) fn organization(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments.text("organizationId")?)?;
    let state = cloud.state();
    let chosen = BTreeSet::new();
    Reply::success(json!({
        "backtest": state.nodes_json(Kind::Backtest, &chosen),
        "live": state.nodes_json(Kind::Live, &chosen),
        "research": state.nodes_json(Kind::Research, &chosen),
    }))
}

fn project_nodes(state: &State, project: &Project) -> Answer {
    Reply::success(json!({
        "nodes": {
            "backtest": state.nodes_json(Kind::Backtest, &project.nodes),
            "live": state.nodes_json(Kind::Live, &project.nodes),
            "research": state.nodes_json(Kind::Research, &project.nodes),
        },
        "autoSelectNode": project.nodes.is_empty(),
    }))
}
