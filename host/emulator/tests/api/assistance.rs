//! Agents with their tasks and deployments, issues of data, and tickets of the support.

use serde_json::{Value, json};

use crate::client::{Cloud, cloud};

impl Cloud {
    fn in_organization(&self, fields: Value) -> Value {
        let mut body = fields;
        body["organizationId"] = json!(self.emulator.organization_id());
        body
    }

    async fn agent(&self, fields: Value) -> Value {
        let body = self.in_organization(fields);
        self.ok("/agents/create", body).await["agent"].clone()
    }
}

#[tokio::test]
async fn an_agent_keeps_no_secret_and_is_deleted_with_its_tasks() {
    let cloud = cloud().await;
    let secret = json!({"llmApiTokenUser": "s3cret", "llmProviderApi": "any"});
    let agent = cloud
        .agent(json!({"name": "Reader", "token": secret}))
        .await;
    assert!(!agent.to_string().contains("s3cret"), "{agent}");
    let task = cloud.in_organization(json!({
        "agentId": agent["id"], "name": "Read", "prompt": "Read.", "projectPreference": "project-for-task",
    }));
    let task = cloud.ok("/agents/tasks/create", task).await["task"]["id"].clone();
    let deployed = cloud
        .ok("/agents/deployments/create", json!({"taskId": task}))
        .await;
    let id = deployed["deployment"]["deploymentId"].clone();
    assert!(id.as_str().unwrap().starts_with("A-"), "{id}");

    cloud
        .ok("/agents/delete", json!({"agentId": agent["id"]}))
        .await;
    for (path, body) in [
        ("/agents/read", json!({"agentId": agent["id"]})),
        ("/agents/tasks/read", json!({"taskId": task})),
        ("/agents/deployments/read", json!({"deploymentId": id})),
    ] {
        let says = cloud.refused(path, body).await;
        assert!(says.contains("not found"), "{path}: {says}");
    }
}

#[tokio::test]
async fn settings_of_an_agent_are_checked() {
    let cloud = cloud().await;
    for fields in [
        json!({"name": " "}),
        json!({"name": "a", "maxTurns": 0}),
        json!({"name": "a", "reasoningEffort": "none"}),
        json!({"name": "a", "tools": [7]}),
        json!({"name": "a", "subAgents": [{"agentId": 1}]}),
        json!({"name": "a", "public": "perhaps"}),
        json!({"name": "a", "systemPrompt": "x".repeat(10_001)}),
    ] {
        cloud
            .refused("/agents/create", cloud.in_organization(fields))
            .await;
    }
    let list = cloud
        .ok("/agents/list", cloud.in_organization(json!({})))
        .await;
    assert_eq!(list["agents"], json!([]));
}

#[tokio::test]
async fn a_stopped_deployment_is_told_nothing_more() {
    let cloud = cloud().await;
    let agent = cloud.agent(json!({"name": "Reader"})).await;
    let task = cloud.in_organization(json!({
        "agentId": agent["id"], "name": "Read", "prompt": "Read.",
        "projectPreference": "project-each-task-deployment",
    }));
    let task = cloud.ok("/agents/tasks/create", task).await["task"]["id"].clone();
    let deployed = cloud
        .ok("/agents/deployments/create", json!({"taskId": task}))
        .await;
    let id = json!({"deploymentId": deployed["deployment"]["deploymentId"]});
    cloud.ok("/agents/deployments/stop", id.clone()).await;
    cloud.refused("/agents/deployments/stop", id.clone()).await;
    let mut prompt = id;
    prompt["prompt"] = json!("Go on.");
    cloud.refused("/agents/deployments/prompt", prompt).await;
}

#[tokio::test]
async fn what_a_ticket_attaches_has_to_exist_and_four_tickets_are_all() {
    let cloud = cloud().await;
    let project = cloud.project("code").await;
    let ticket = |fields: Value| {
        let mut body = cloud.in_organization(json!({"subject": "Why?", "message": "Because."}));
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let create = "/organizations/support/tickets/create";
    for fields in [
        json!({"projectId": 7}),
        json!({"projectId": project, "backtestId": "none"}),
        json!({"projectId": project, "deployId": "none"}),
        json!({"close": true}),
        json!({"hash": "none"}),
    ] {
        cloud.refused(create, ticket(fields)).await;
    }
    for _ in 0..4 {
        cloud
            .ok(create, ticket(json!({"projectId": project})))
            .await;
    }
    cloud.refused(create, ticket(json!({}))).await;
    let list = cloud.in_organization(json!({}));
    let list = cloud.ok("/organizations/support/tickets/list", list).await;
    assert_eq!(list["open"].as_array().unwrap().len(), 4);
    assert_eq!(list["remaining"], 0);
}

#[tokio::test]
async fn an_issue_needs_a_kind_and_is_found_by_its_ticker() {
    let cloud = cloud().await;
    let issue = json!({
        "ticker": "SPY", "security": "Equity", "market": "usa", "resolution": "Daily",
        "from-date": "2024-01-02", "to-date": "2024-01-03", "content": "<p>A day is missing.</p>",
    });
    let create = "/community/data-library/issues/create";
    cloud.refused(create, issue.clone()).await;
    let mut whole = issue;
    whole["missing-files"] = json!("Missing files");
    cloud.ok(create, whole).await;
    let list = "/community/data-library/issues/list";
    let found = cloud.ok(list, json!({"search": "SPY"})).await;
    assert_eq!(found["resultsFound"], 1);
    assert_eq!(found["results"][0]["missingFile"], true);
    assert_eq!(found["results"][0]["content"], Value::Null);
    let none = cloud.ok(list, json!({"search": "spy"})).await;
    assert_eq!(none["resultsFound"], 0);
}
