//! The data of the emulated cloud and the operations on it that need nothing else.
//!
//! Layers of the crate, each of which uses only those before it:
//!
//! 1. [`crate::text`] and [`crate::engine`]: text forms; compiling and running algorithms.
//! 2. `store`: everything that the cloud remembers.
//! 3. [`crate::services`]: the endpoints, as functions of a request's arguments.
//! 4. `remote`: the remote MCP server with its authorisation server.
//! 5. [`crate::http`]: authentication, encodings, faults, request log and the endpoint table.
//!
//! All of it is in memory. [`disk`] keeps a copy in a file, if the emulator is to go on where it ended.
//!
//! Invariant: nothing here waits, spawns a task or knows HTTP. Identifiers are counted and hashed,
//! not drawn, so the same requests in the same order get the same identifiers.

pub(crate) mod assistance;
pub(crate) mod backtest;
pub(crate) mod clock;
pub(crate) mod compile;
pub(crate) mod deployment;
pub(crate) mod disk;
pub(crate) mod kept;
pub(crate) mod limits;
pub(crate) mod node;
pub(crate) mod object;
pub(crate) mod optimization;
pub mod patch;
pub(crate) mod project;
pub(crate) mod settings;
pub(crate) mod timing;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::assistance::{Agents, DataIssue, Ticket};
use self::backtest::Backtest;
use self::compile::CompileJob;
use self::deployment::Deployment;
use self::kept::{Entry, Kept};
use self::node::{Node, NodeKind};
use self::object::ObjectStore;
use self::optimization::Optimization;
use self::project::Project;
use crate::text::digest_id;

/// The first project's identifier.
const FIRST_PROJECT: u32 = 20_000_001;

/// The connection to a brokerage that is authorised in a browser.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Connection {
    /// The name under which clients ask for it.
    pub(crate) brokerage: String,
    /// What the address of the consent page ends with.
    pub(crate) grant: String,
    /// When the consent was given.
    pub(crate) authorized: Option<Timestamp>,
}

/// What is counted rather than listed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counters {
    /// Numbers that were given.
    pub(crate) count: u64,
    pub(crate) next_project: u32,
    /// QuantConnect Credit spent so far.
    pub(crate) spent: f64,
}

/// Everything that requests change.
#[derive(Debug, Default)]
pub(crate) struct State {
    count: u64,
    next_project: u32,
    pub(crate) projects: BTreeMap<u32, Kept<Project>>,
    /// Oldest first.
    pub(crate) compiles: VecDeque<Kept<CompileJob>>,
    /// Oldest first.
    pub(crate) backtests: Vec<Kept<Backtest>>,
    /// Oldest first.
    pub(crate) optimizations: Vec<Kept<Optimization>>,
    /// Oldest first.
    pub(crate) deployments: Vec<Kept<Deployment>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) objects: ObjectStore,
    /// By the brokerage's name.
    pub(crate) connections: BTreeMap<String, Kept<Connection>>,
    /// QuantConnect Credit spent so far.
    pub(crate) spent: f64,
    pub(crate) agents: Agents,
    /// Oldest first.
    pub(crate) issues: Vec<Kept<DataIssue>>,
    /// Oldest first.
    pub(crate) tickets: Vec<Kept<Ticket>>,
}

impl State {
    /// An empty cloud with its nodes.
    pub(crate) fn new(nodes: Vec<Node>) -> Self {
        Self {
            next_project: FIRST_PROJECT,
            nodes,
            ..Self::default()
        }
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            count: self.count,
            next_project: self.next_project,
            spent: self.spent,
        }
    }

    /// Goes on counting where another state ended.
    pub(crate) fn count_from(&mut self, counters: Counters) {
        self.count = counters.count;
        self.next_project = counters.next_project;
        self.spent = counters.spent;
    }

    /// Everything but nodes and counters; the entries of one kind in the order in which they are kept.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &dyn Entry> {
        let downloads = self.objects.downloads.iter();
        kept::entries(self.projects.values())
            .chain(kept::entries(self.compiles.iter()))
            .chain(kept::entries(self.backtests.iter()))
            .chain(kept::entries(self.optimizations.iter()))
            .chain(kept::entries(self.deployments.iter()))
            .chain(kept::entries(self.objects.objects.values()))
            .chain(kept::entries(downloads))
            .chain(kept::entries(self.connections.values()))
            .chain(kept::entries(self.agents.agents.values()))
            .chain(kept::entries(self.agents.tasks.values()))
            .chain(kept::entries(self.agents.deployments.values()))
            .chain(kept::entries(self.issues.iter()))
            .chain(kept::entries(self.tickets.iter()))
    }

    /// A number that was never given before.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// 32 hexadecimal digits that were never given before.
    pub(crate) fn next_id(&mut self) -> String {
        let number = self.next_number();
        digest_id(&format!("emulator/{number}"))
    }

    /// The next project's identifier.
    pub(crate) fn next_project_id(&mut self) -> u32 {
        let id = self.next_project;
        self.next_project = id.saturating_add(1);
        id
    }

    /// Removes a project with its jobs, and from the libraries of others.
    pub(crate) fn remove_project(&mut self, id: u32) {
        self.projects.remove(&id);
        self.compiles.retain(|it| it.project_id != id);
        self.backtests.retain(|it| it.project_id != id);
        self.optimizations.retain(|it| it.project_id != id);
        self.deployments.retain(|it| it.project_id != id);
        let users = self.projects.values_mut();
        for project in users.filter(|project| project.libraries.contains(&id)) {
            project.libraries.remove(&id);
        }
    }

    /// A backtest by its id alone; `None` once it is deleted.
    pub(crate) fn backtest_named(&self, id: &str) -> Option<&Backtest> {
        let found = self.backtests.iter().find(|backtest| backtest.id == id);
        found.map(Kept::value)
    }

    /// The same, to change it.
    pub(crate) fn backtest_mut(&mut self, id: &str) -> Option<&mut Backtest> {
        let found = self.backtests.iter_mut().find(|backtest| backtest.id == id);
        found.map(Kept::value_mut)
    }

    /// Whether a deployment of the project has not stopped.
    pub(crate) fn trades_live(&self, project: u32) -> bool {
        let trades = |it: &Kept<Deployment>| it.project_id == project && it.stopped.is_none();
        self.deployments.iter().any(trades)
    }

    /// The project whose backtest or deployment runs on a node.
    ///
    /// Whether a node is busy is never stored; it follows from what runs on it.
    pub(crate) fn user_of(&self, node: &str) -> Option<&Project> {
        let backtests = self.backtests.iter();
        let backtests = backtests.filter(|backtest| backtest.running_on() == Some(node));
        let deployments = self.deployments.iter();
        let deployments = deployments.filter(|it| it.stopped.is_none() && it.node == node);
        let mut projects = backtests
            .map(|backtest| backtest.project_id)
            .chain(deployments.map(|deployment| deployment.project_id));
        self.projects.get(&projects.next()?).map(Kept::value)
    }

    /// A backtest node that is idle and that the project may use. A choice that names no
    /// backtest node restricts nothing.
    pub(crate) fn idle_backtest_node(&self, project: &Project) -> Option<Node> {
        let nodes = self.nodes.iter();
        let nodes = nodes.filter(|node| node.kind == NodeKind::Backtest);
        let mine = |node: &Node| project.nodes.contains(&node.id);
        let chosen = nodes.clone().any(mine);
        let mut nodes = nodes.filter(|node| !chosen || mine(node));
        nodes.find(|node| self.user_of(&node.id).is_none()).cloned()
    }
}
