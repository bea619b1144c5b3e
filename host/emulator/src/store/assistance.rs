//! What people write down for others to act on: QuantConnect's agents with their tasks, issues of data, and tickets of
//! its support.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kept::Kept;

/// The agents of the organisation.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    pub(crate) agents: BTreeMap<u64, Kept<Agent>>,
    pub(crate) tasks: BTreeMap<u64, Kept<AgentTask>>,
    pub(crate) deployments: BTreeMap<String, Kept<AgentDeployment>>,
}

/// An agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) id: u64,
    /// Under the request's names.
    pub(crate) settings: Map<String, Value>,
}

/// What an agent is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AgentTask {
    pub(crate) id: u64,
    pub(crate) agent: u64,
    pub(crate) name: String,
    pub(crate) prompt: String,
    pub(crate) preference: String,
}

/// An agent at work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AgentDeployment {
    pub(crate) id: String,
    pub(crate) task: u64,
    pub(crate) stopped: bool,
    /// What it was told, the task's prompt first.
    pub(crate) prompts: Vec<String>,
}

impl Agents {
    /// Removes a task with its deployments.
    pub(crate) fn remove_task(&mut self, id: u64) {
        self.tasks.remove(&id);
        self.deployments
            .retain(|_, deployment| deployment.task != id);
    }

    /// Removes an agent with its tasks.
    pub(crate) fn remove_agent(&mut self, id: u64) {
        self.agents.remove(&id);
        let tasks = self.tasks.iter().filter(|(_, task)| task.agent == id);
        let tasks: Vec<u64> = tasks.map(|(task, _)| *task).collect();
        for task in tasks {
            self.remove_task(task);
        }
    }
}

/// An issue of a dataset.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DataIssue {
    pub(crate) id: u64,
    /// What was reported, under the request's names.
    pub(crate) fields: Map<String, Value>,
}

/// A ticket of the support.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(crate) hash: String,
    pub(crate) subject: String,
    pub(crate) closed: bool,
    pub(crate) messages: Vec<String>,
    /// What was attached, under the request's names.
    pub(crate) attached: Map<String, Value>,
}
