//! `/agents/…`: agents, their tasks and their deployments.
//!
//! The forms of requests are from the documentation, which has none of most answers; these are from its examples, and the
//! rest is a guess. There is no model behind an agent: a deployment does nothing, says nothing, and runs until it is
//! stopped. The token of a model's provider is taken, as in the cloud, and thrown away.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::{Arguments, at_most};
use super::cloud::Cloud;
use crate::store::assistance::{Agent, AgentDeployment, AgentTask};
use crate::store::kept::Kept;
use crate::store::{State, limits};

/// Settings that are texts.
const TEXTS: [&str; 8] = [
    "name",
    "description",
    "profileImage",
    "systemPrompt",
    "reasoningEffort",
    "toolChoice",
    "model",
    "pipeline",
];
const EFFORTS: [&str; 3] = ["low", "medium", "high"];
const PREFERENCES: [&str; 2] = ["project-each-task-deployment", "project-for-task"];

pub(crate) fn create(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    arguments.name("name")?;
    let settings = settings(state, arguments)?;
    if state.agents.agents.len() >= limits::AGENTS {
        return Err(Refusal::full(limits::AGENTS, "agents"));
    }
    let agent = Agent {
        id: state.next_number(),
        settings,
    };
    let shown = agent_json(&agent);
    state.agents.agents.insert(agent.id, agent.into());
    Reply::success(json!({ "agent": shown }))
}

pub(crate) fn read(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = agent(state, arguments, "agentId")?;
    Reply::success(json!({ "agent": shown(state, id) }))
}

pub(crate) fn update(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = agent(state, arguments, "agentId")?;
    let settings = settings(state, arguments)?;
    if let Some(agent) = state.agents.agents.get_mut(&id) {
        agent.settings.extend(settings);
    }
    Reply::success(json!({ "agent": shown(state, id) }))
}

pub(crate) fn delete(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = agent(state, arguments, "agentId")?;
    state.agents.remove_agent(id);
    Reply::done()
}

pub(crate) fn list(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let agents = state.agents.agents.values();
    let agents: Vec<Value> = agents.map(Kept::value).map(agent_json).collect();
    Reply::success(json!({ "agents": agents }))
}

pub(crate) fn create_task(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let agent = agent(state, arguments, "agentId")?;
    let name = arguments.name("name")?.to_owned();
    arguments.filled_text("prompt")?;
    let prompt = arguments.note("prompt")?.to_owned();
    let preference = arguments.text("projectPreference")?;
    if !PREFERENCES.contains(&preference) {
        return Err(Refusal::invalid(
            "projectPreference",
            &PREFERENCES.join(" or "),
        ));
    }
    if state.agents.tasks.len() >= limits::AGENT_TASKS {
        return Err(Refusal::full(limits::AGENT_TASKS, "tasks of agents"));
    }
    let task = AgentTask {
        id: state.next_number(),
        agent,
        name,
        prompt,
        preference: preference.to_owned(),
    };
    let shown = task_json(&task);
    state.agents.tasks.insert(task.id, task.into());
    Reply::success(json!({ "task": shown }))
}

pub(crate) fn read_task(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let task = task(state, arguments)?;
    Reply::success(json!({ "task": task_json(task) }))
}

pub(crate) fn update_task(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = task(state, arguments)?.id;
    let name = arguments.optional("name", Arguments::name)?;
    let task = state.agents.tasks.get_mut(&id);
    let task = task.ok_or_else(|| Refusal::not_found("Task", id))?;
    if let Some(name) = name {
        name.clone_into(&mut task.name);
    }
    Reply::success(json!({ "task": task_json(task) }))
}

pub(crate) fn delete_task(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = task(state, arguments)?.id;
    state.agents.remove_task(id);
    Reply::done()
}

pub(crate) fn list_tasks(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let tasks = state.agents.tasks.values();
    let tasks: Vec<Value> = tasks.map(Kept::value).map(task_json).collect();
    Reply::success(json!({ "tasks": tasks }))
}

pub(crate) fn deploy(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let (task, prompt) = {
        let task = task(state, arguments)?;
        (task.id, task.prompt.clone())
    };
    if state.agents.deployments.len() >= limits::AGENT_DEPLOYMENTS {
        return Err(Refusal::full(
            limits::AGENT_DEPLOYMENTS,
            "deployments of agents",
        ));
    }
    let deployment = AgentDeployment {
        id: format!("A-{}", state.next_id()),
        task,
        stopped: false,
        prompts: vec![prompt],
    };
    let shown = deployment_json(&deployment);
    let id = deployment.id.clone();
    state.agents.deployments.insert(id, deployment.into());
    Reply::success(json!({ "deployment": shown }))
}

pub(crate) fn read_deployment(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = deployment(state, arguments)?;
    Reply::success(json!({ "deployment": deployment_json(deployment) }))
}

pub(crate) fn prompt(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    arguments.filled_text("prompt")?;
    let prompt = arguments.note("prompt")?;
    let deployment = deployment_mut(state, arguments)?;
    if deployment.stopped {
        refuse!("The deployment is stopped");
    }
    if deployment.prompts.len() >= limits::PROMPTS {
        return Err(Refusal::full(limits::PROMPTS, "prompts of a deployment"));
    }
    deployment.prompts.push(prompt.to_owned());
    Reply::done()
}

pub(crate) fn list_deployments(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let task = task(state, arguments)?.id;
    let deployments = state.agents.deployments.values();
    let deployments: Vec<Value> = deployments
        .map(Kept::value)
        .filter(|deployment| deployment.task == task)
        .map(deployment_json)
        .collect();
    Reply::success(json!({ "deployments": deployments }))
}

pub(crate) fn stop(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = deployment_mut(state, arguments)?;
    if deployment.stopped {
        refuse!("The deployment is stopped already");
    }
    deployment.stopped = true;
    Reply::done()
}

pub(crate) fn delete_deployment(
    _: &Arc<Cloud>,
    state: &mut State,
    arguments: &Arguments,
) -> Answer {
    let id = deployment(state, arguments)?.id.clone();
    state.agents.deployments.remove(&id);
    Reply::done()
}

pub(crate) fn conversation(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = deployment(state, arguments)?;
    if let Some(callable) = arguments.optional("callableId", Arguments::text)? {
        return Err(Refusal::not_found("Callable", callable));
    }
    let message =
        |prompt: &String| json!({ "role": "user", "parts": [{ "type": "text", "text": prompt }] });
    let messages: Vec<Value> = deployment.prompts.iter().map(message).collect();
    Reply::success(json!({
        "conversation": { "inputTokens": 0, "outputTokens": 0, "messages": messages },
    }))
}

/// The settings that a request gives.
fn settings(state: &State, arguments: &Arguments) -> Result<Map<String, Value>, Refusal> {
    let mut settings = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        settings.extend(value.map(|value| (name.to_owned(), value)));
    };
    for name in TEXTS {
        let text = arguments.optional(name, Arguments::note)?;
        set(name, text.map(Value::from));
    }
    if let Some(effort) = arguments.optional("reasoningEffort", Arguments::text)?
        && !EFFORTS.contains(&effort)
    {
        return Err(Refusal::invalid("reasoningEffort", &EFFORTS.join(", ")));
    }
    let turns = arguments.optional("maxTurns", Arguments::integer)?;
    if turns.is_some_and(|turns| turns < 1) {
        return Err(Refusal::invalid("maxTurns", "a positive number"));
    }
    set("maxTurns", turns.map(Value::from));
    for name in ["public", "useQCC"] {
        let flag = arguments.optional(name, Arguments::flag)?;
        set(name, flag.map(Value::from));
    }
    set("tools", arguments.optional("tools", tools)?);
    for name in ["chainedAgents", "subAgents"] {
        let agents = arguments.optional(name, |arguments, name| others(state, arguments, name))?;
        set(name, agents);
    }
    Ok(settings)
}

fn tools(arguments: &Arguments, field: &str) -> Result<Value, Refusal> {
    let list = arguments.list(field)?;
    let name = |tool: &Value| {
        let tool = tool.as_str();
        let tool = tool.ok_or_else(|| Refusal::invalid(field, "a list of names"))?;
        at_most(limits::NAME_LENGTH, field, tool).map(Value::from)
    };
    if list.len() > limits::AGENTS {
        return Err(Refusal::invalid(field, "at most 100 names"));
    }
    let names: Result<Vec<Value>, Refusal> = list.iter().map(name).collect();
    names.map(Value::from)
}

/// Other agents that one uses, with the two numbers that are known of each.
fn others(state: &State, arguments: &Arguments, field: &str) -> Result<Value, Refusal> {
    let list = arguments.list(field)?;
    if list.len() > limits::AGENTS {
        return Err(Refusal::invalid(field, "at most 100 agents"));
    }
    let number = |item: &Value, name: &str| item.get(name).and_then(Value::as_u64);
    let other = |item: &Value| {
        let id =
            number(item, "agentId").ok_or_else(|| Refusal::invalid(field, "an agentId each"))?;
        if !state.agents.agents.contains_key(&id) {
            return Err(Refusal::not_found("Agent", id));
        }
        Ok(json!({
            "agentId": id,
            "step": number(item, "step"),
            "callableCount": number(item, "callableCount"),
        }))
    };
    let others: Result<Vec<Value>, Refusal> = list.iter().map(other).collect();
    others.map(Value::from)
}

fn agent(state: &State, arguments: &Arguments, field: &str) -> Result<u64, Refusal> {
    let id = arguments.integer(field)?;
    let known = u64::try_from(id)
        .ok()
        .filter(|id| state.agents.agents.contains_key(id));
    known.ok_or_else(|| Refusal::not_found("Agent", id))
}

fn task<'s>(state: &'s State, arguments: &Arguments) -> Result<&'s AgentTask, Refusal> {
    let id = arguments.integer("taskId")?;
    let known = u64::try_from(id).ok();
    let known = known.and_then(|id| state.agents.tasks.get(&id));
    let known = known.map(Kept::value);
    known.ok_or_else(|| Refusal::not_found("Task", id))
}

fn deployment<'s>(state: &'s State, arguments: &Arguments) -> Result<&'s AgentDeployment, Refusal> {
    let id = arguments.text("deploymentId")?;
    let found = state.agents.deployments.get(id).map(Kept::value);
    found.ok_or_else(|| Refusal::not_found("Deployment", id))
}

fn deployment_mut<'s>(
    state: &'s mut State,
    arguments: &Arguments,
) -> Result<&'s mut AgentDeployment, Refusal> {
    let id = arguments.text("deploymentId")?;
    let found = state.agents.deployments.get_mut(id);
    let found = found.map(Kept::value_mut);
    found.ok_or_else(|| Refusal::not_found("Deployment", id))
}

fn shown(state: &State, id: u64) -> Option<Value> {
    let agent = state.agents.agents.get(&id)?;
    Some(agent_json(agent))
}

fn agent_json(agent: &Agent) -> Value {
    let mut shown = agent.settings.clone();
    shown.insert("id".to_owned(), agent.id.into());
    Value::Object(shown)
}

fn task_json(task: &AgentTask) -> Value {
    json!({
        "id": task.id,
        "agentId": task.agent,
        "name": task.name,
        "prompt": task.prompt,
        "projectPreference": task.preference,
    })
}

fn deployment_json(deployment: &AgentDeployment) -> Value {
    let status = if deployment.stopped {
        "Stopped"
    } else {
        "Running"
    };
    json!({ "deploymentId": deployment.id, "taskId": deployment.task, "status": status })
}
