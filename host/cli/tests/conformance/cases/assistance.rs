//! QuantConnect's agents with their tasks and deployments, issues of data, and tickets of the support.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::bench::{Bench, ORGANIZATION};
use crate::body::{Body as _, Check, ensure};
use crate::setup::UNKNOWN;

pub fn cases() -> Vec<Case> {
    let mut cases = agents();
    cases.extend(tasks());
    cases.extend(deployments());
    cases.extend(issues());
    cases.extend(tickets());
    cases
}

fn new_agent(name: &str) -> Value {
    json!({ "organizationId": ORGANIZATION, "name": name, "maxTurns": 3, "useQCC": true })
}

/// Creates an agent; returns its id.
async fn agent(b: &Bench) -> Check<Value> {
    let body = b.call("create_agent", new_agent("Reader")).await?;
    Ok(body.at("/agent/id")?.clone())
}

fn new_task(agent: &Value, preference: &str) -> Value {
    json!({
        "organizationId": ORGANIZATION, "agentId": agent, "name": "Read", "prompt": "Read the logs.",
        "projectPreference": preference,
    })
}

/// Creates a task of a new agent; returns its id.
async fn task(b: &Bench) -> Check<Value> {
    let agent = agent(b).await?;
    let arguments = new_task(&agent, "project-for-task");
    let body = b.call("create_agent_task", arguments).await?;
    Ok(body.at("/task/id")?.clone())
}

/// Deploys a new task; returns the deployment's id.
async fn deployment(b: &Bench) -> Check<String> {
    let arguments = json!({ "taskId": task(b).await? });
    let body = b.call("create_agent_deployment", arguments).await?;
    body.text("/deployment/deploymentId")
}

fn agents() -> Vec<Case> {
    vec![
        valid("create_agent", |b| {
            Box::pin(async move {
                let helper = agent(b).await?;
                let mut arguments = new_agent("Leader");
                arguments["subAgents"] = json!([{ "agentId": helper, "callableCount": 2 }]);
                let body = b.call("create_agent", arguments).await?;
                let id = body.at("/agent/id")?;
                let read = b.call("read_agent", json!({ "agentId": id })).await?;
                read.equals("/agent/name", "Leader")?;
                read.equals("/agent/maxTurns", 3)?;
                read.equals("/agent/subAgents/0/callableCount", 2)
            })
        }),
        invalid("create_agent", |b| {
            Box::pin(async move {
                let mut foreign = new_agent("Reader");
                foreign["organizationId"] = json!("nobody");
                let mut effort = new_agent("Reader");
                effort["reasoningEffort"] = json!("none");
                let mut chain = new_agent("Reader");
                chain["chainedAgents"] = json!([{ "agentId": UNKNOWN, "step": 1 }]);
                b.rejects(
                    "create_agent",
                    new_agent("Reader"),
                    &[foreign, effort, chain],
                )
                .await
            })
        }),
        valid("read_agent", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                let body = b.call("read_agent", json!({ "agentId": id })).await?;
                body.equals("/agent/id", id)?;
                body.equals("/agent/useQCC", true)
            })
        }),
        invalid("read_agent", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                let bad = [json!({ "agentId": UNKNOWN })];
                b.rejects("read_agent", json!({ "agentId": id }), &bad)
                    .await
            })
        }),
        valid("update_agent", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                let change = json!({ "agentId": id, "name": "Writer", "tools": ["read_file"] });
                b.call("update_agent", change).await?;
                let read = b.call("read_agent", json!({ "agentId": id })).await?;
                read.equals("/agent/name", "Writer")?;
                read.equals("/agent/tools/0", "read_file")?;
                read.equals("/agent/maxTurns", 3)
            })
        }),
        invalid("update_agent", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                let change = |id: &Value, turns: u32| json!({ "agentId": id, "maxTurns": turns });
                let bad = [change(&json!(UNKNOWN), 1), change(&id, 0)];
                b.rejects("update_agent", change(&id, 1), &bad).await
            })
        }),
        valid("delete_agent", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                b.call("delete_agent", json!({ "agentId": id })).await?;
                b.refused("read_agent", json!({ "agentId": id }))
                    .await
                    .map(drop)
            })
        }),
        invalid("delete_agent", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                let bad = [json!({ "agentId": UNKNOWN })];
                b.rejects("delete_agent", json!({ "agentId": id }), &bad)
                    .await
            })
        }),
        valid("list_agents", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                let arguments = json!({ "organizationId": ORGANIZATION });
                let body = b.call("list_agents", arguments).await?;
                body.find("/agents", "id", id)?.equals("/name", "Reader")
            })
        }),
        invalid("list_agents", |b| {
            Box::pin(of_organization(b, "list_agents"))
        }),
    ]
}

/// Checks that another organisation's list is refused.
async fn of_organization(b: &Bench, tool: &'static str) -> Check {
    let good = json!({ "organizationId": ORGANIZATION });
    let bad = [json!({ "organizationId": "nobody" })];
    b.rejects(tool, good, &bad).await
}

fn tasks() -> Vec<Case> {
    vec![
        valid("create_agent_task", |b| {
            Box::pin(async move {
                let id = task(b).await?;
                let read = b.call("read_agent_task", json!({ "taskId": id })).await?;
                read.equals("/task/prompt", "Read the logs.")
            })
        }),
        invalid("create_agent_task", |b| {
            Box::pin(async move {
                let id = agent(b).await?;
                let bad = [
                    new_task(&json!(UNKNOWN), "project-for-task"),
                    new_task(&id, "any"),
                ];
                b.rejects("create_agent_task", new_task(&id, "project-for-task"), &bad)
                    .await
            })
        }),
        valid("read_agent_task", |b| {
            Box::pin(async move {
                let id = task(b).await?;
                let read = b.call("read_agent_task", json!({ "taskId": id })).await?;
                read.equals("/task/id", id)?;
                read.equals("/task/name", "Read")
            })
        }),
        invalid("read_agent_task", |b| {
            Box::pin(of_task(b, "read_agent_task"))
        }),
        valid("update_agent_task", |b| {
            Box::pin(async move {
                let id = task(b).await?;
                b.call("update_agent_task", json!({ "taskId": id, "name": "Look" }))
                    .await?;
                let read = b.call("read_agent_task", json!({ "taskId": id })).await?;
                read.equals("/task/name", "Look")
            })
        }),
        invalid("update_agent_task", |b| {
            Box::pin(of_task(b, "update_agent_task"))
        }),
        valid("delete_agent_task", |b| {
            Box::pin(async move {
                let id = task(b).await?;
                b.call("delete_agent_task", json!({ "taskId": id })).await?;
                b.refused("read_agent_task", json!({ "taskId": id }))
                    .await
                    .map(drop)
            })
        }),
        invalid("delete_agent_task", |b| {
            Box::pin(of_task(b, "delete_agent_task"))
        }),
        valid("list_agent_tasks", |b| {
            Box::pin(async move {
                let id = task(b).await?;
                let arguments = json!({ "organizationId": ORGANIZATION });
                let body = b.call("list_agent_tasks", arguments).await?;
                body.find("/tasks", "id", id)?.equals("/name", "Read")
            })
        }),
        invalid("list_agent_tasks", |b| {
            Box::pin(of_organization(b, "list_agent_tasks"))
        }),
    ]
}

/// Checks that a task that is not there is refused.
async fn of_task(b: &Bench, tool: &'static str) -> Check {
    let good = json!({ "taskId": task(b).await? });
    b.rejects(tool, good, &[json!({ "taskId": UNKNOWN })]).await
}

/// Checks that a deployment that is not there is refused.
async fn of_deployment(b: &Bench, tool: &'static str) -> Check {
    let good = json!({ "deploymentId": deployment(b).await? });
    b.rejects(tool, good, &[json!({ "deploymentId": "A-0" })])
        .await
}

fn deployments() -> Vec<Case> {
    vec![
        valid("create_agent_deployment", |b| {
            Box::pin(async move {
                let id = deployment(b).await?;
                let read = b
                    .call("read_agent_deployment", json!({ "deploymentId": id }))
                    .await?;
                read.equals("/deployment/status", "Running")
            })
        }),
        invalid("create_agent_deployment", |b| {
            Box::pin(of_task(b, "create_agent_deployment"))
        }),
        valid("read_agent_deployment", |b| {
            Box::pin(async move {
                let id = deployment(b).await?;
                let read = b
                    .call("read_agent_deployment", json!({ "deploymentId": id }))
                    .await?;
                read.equals("/deployment/deploymentId", id)
            })
        }),
        invalid("read_agent_deployment", |b| {
            Box::pin(of_deployment(b, "read_agent_deployment"))
        }),
        valid("prompt_agent_deployment", |b| {
            Box::pin(async move {
                let id = deployment(b).await?;
                let prompt = json!({ "deploymentId": id, "prompt": "Go on." });
                b.call("prompt_agent_deployment", prompt).await?;
                let body = b
                    .call("read_agent_conversation", json!({ "deploymentId": id }))
                    .await?;
                body.equals("/conversation/messages/1/parts/0/text", "Go on.")
            })
        }),
        invalid("prompt_agent_deployment", |b| {
            Box::pin(async move {
                let id = deployment(b).await?;
                let prompt = |id: &str, text: &str| json!({ "deploymentId": id, "prompt": text });
                let bad = [prompt("A-0", "Go on."), prompt(&id, " ")];
                b.rejects("prompt_agent_deployment", prompt(&id, "Go on."), &bad)
                    .await
            })
        }),
        valid("list_agent_deployments", |b| {
            Box::pin(async move {
                let task = task(b).await?;
                let arguments = json!({ "taskId": task });
                let body = b.call("create_agent_deployment", arguments.clone()).await?;
                let id = body.text("/deployment/deploymentId")?;
                let body = b.call("list_agent_deployments", arguments).await?;
                body.find("/deployments", "deploymentId", id).map(drop)
            })
        }),
        invalid("list_agent_deployments", |b| {
            Box::pin(of_task(b, "list_agent_deployments"))
        }),
        valid("stop_agent_deployment", |b| {
            Box::pin(async move {
                let id = deployment(b).await?;
                let arguments = json!({ "deploymentId": id });
                b.call("stop_agent_deployment", arguments.clone()).await?;
                let read = b.call("read_agent_deployment", arguments).await?;
                read.equals("/deployment/status", "Stopped")
            })
        }),
        invalid("stop_agent_deployment", |b| {
            Box::pin(of_deployment(b, "stop_agent_deployment"))
        }),
        valid("delete_agent_deployment", |b| {
            Box::pin(async move {
                let arguments = json!({ "deploymentId": deployment(b).await? });
                b.call("delete_agent_deployment", arguments.clone()).await?;
                b.refused("read_agent_deployment", arguments)
                    .await
                    .map(drop)
            })
        }),
        invalid("delete_agent_deployment", |b| {
            Box::pin(of_deployment(b, "delete_agent_deployment"))
        }),
        valid("read_agent_conversation", |b| {
            Box::pin(async move {
                let arguments = json!({ "deploymentId": deployment(b).await? });
                let body = b.call("read_agent_conversation", arguments).await?;
                let messages = body.list("/conversation/messages")?;
                ensure!(messages.len() == 1, "it was told one thing: {body}");
                body.equals("/conversation/messages/0/parts/0/text", "Read the logs.")
            })
        }),
        invalid("read_agent_conversation", |b| {
            Box::pin(of_deployment(b, "read_agent_conversation"))
        }),
    ]
}

fn issue(ticker: &str) -> Value {
    json!({
        "ticker": ticker, "security": "Equity", "market": "usa", "resolution": "Daily",
        "from-date": "2024-01-02", "to-date": "2024-01-03", "content": "<p>A day is missing.</p>",
        "missing-points": "Missing points",
    })
}

fn issues() -> Vec<Case> {
    vec![
        valid("create_data_issue", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let mut arguments = issue("SPY");
                arguments["select-project"] = project;
                let body = b.call("create_data_issue", arguments).await?;
                let id = body.at("/discussionId")?.clone();
                let list = b
                    .call("list_data_issues", json!({ "search": "SPY" }))
                    .await?;
                let listed = list.find("/results", "discussionId", id)?;
                listed.equals("/missingPoints", true)?;
                listed.equals("/wrongValues", false)
            })
        }),
        invalid("create_data_issue", |b| {
            Box::pin(async move {
                let mut security = issue("SPY");
                security["security"] = json!("House");
                let mut project = issue("SPY");
                project["select-project"] = json!(UNKNOWN);
                b.rejects("create_data_issue", issue("SPY"), &[security, project])
                    .await
            })
        }),
        valid("list_data_issues", |b| {
            Box::pin(async move {
                for ticker in ["SPY", "QQQ", "SPY"] {
                    b.call("create_data_issue", issue(ticker)).await?;
                }
                let search = json!({ "status": "open", "search": "SPY", "start": 0, "end": 1 });
                let body = b.call("list_data_issues", search).await?;
                ensure!(
                    body.list("/results")?.len() == 1,
                    "one was asked for: {body}"
                );
                body.equals("/resultsFound", 2)
            })
        }),
        invalid("list_data_issues", |b| {
            Box::pin(async move {
                let good = json!({ "status": "open", "start": 0, "end": 1 });
                let bad = [
                    json!({ "status": "sometimes" }),
                    json!({ "start": 5, "end": 2 }),
                ];
                b.rejects("list_data_issues", good, &bad).await
            })
        }),
    ]
}

fn ticket(subject: &str) -> Value {
    json!({ "organizationId": ORGANIZATION, "message": "<p>Why?</p>", "subject": subject })
}

fn tickets() -> Vec<Case> {
    vec![
        valid("create_support_ticket", |b| {
            Box::pin(async move {
                let mut arguments = ticket("A question");
                arguments["projectId"] = b.project().await?;
                let hash = b
                    .call("create_support_ticket", arguments)
                    .await?
                    .text("/hash")?;
                let comment = json!({
                    "organizationId": ORGANIZATION, "message": "Never mind.", "hash": hash, "close": true,
                });
                b.call("create_support_ticket", comment).await?;
                let list = json!({ "organizationId": ORGANIZATION });
                let list = b.call("list_support_tickets", list).await?;
                list.find("/closed", "hash", hash)?
                    .equals("/title", "A question")?;
                list.equals("/remaining", 3)
            })
        }),
        invalid("create_support_ticket", |b| {
            Box::pin(async move {
                let mut foreign = ticket("A question");
                foreign["organizationId"] = json!("nobody");
                let mut project = ticket("A question");
                project["projectId"] = json!(UNKNOWN);
                let mut comment = ticket("A question");
                comment["hash"] = json!("none");
                let good = ticket("A question");
                b.rejects("create_support_ticket", good, &[foreign, project, comment])
                    .await
            })
        }),
        valid("read_support_ticket", |b| {
            Box::pin(async move {
                let body = b
                    .call("create_support_ticket", ticket("A question"))
                    .await?;
                let hash = body.text("/hash")?;
                let read = json!({ "organizationId": ORGANIZATION, "hash": hash });
                let read = b.call("read_support_ticket", read).await?;
                read.equals("/messages/0/message", "<p>Why?</p>")?;
                read.equals("/messages/0/myself", true)
            })
        }),
        invalid("read_support_ticket", |b| {
            Box::pin(async move {
                let read = |hash: &str| json!({ "organizationId": ORGANIZATION, "hash": hash });
                b.rejects("read_support_ticket", read("x"), &[read("none")])
                    .await
            })
        }),
        valid("list_support_tickets", |b| {
            Box::pin(async move {
                b.call("create_support_ticket", ticket("A question"))
                    .await?;
                let list = json!({ "organizationId": ORGANIZATION });
                let body = b.call("list_support_tickets", list).await?;
                body.equals("/open/0/title", "A question")?;
                body.equals("/totalClosed", 0)
            })
        }),
        invalid("list_support_tickets", |b| {
            Box::pin(of_organization(b, "list_support_tickets"))
        }),
    ]
}
