//! Commands to running algorithms.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::bench::{Bench, ORGANIZATION};
use crate::body::{Body as _, Check, ensure};
use crate::setup::UNKNOWN;

/// Whether the log of a deployment mentions a command.
async fn received(b: &Bench, project: &Value, deployment: &str, word: &str) -> Check<bool> {
    let arguments = json!({
        "projectId": project, "algorithmId": deployment, "startLine": 0, "endLine": 250,
    });
    let body = b.call("read_live_logs", arguments).await?;
    let logs = body.list("/logs")?;
    Ok(logs
        .iter()
        .filter_map(Value::as_str)
        .any(|line| line.contains(word)))
}

pub fn cases() -> Vec<Case> {
    vec![
        valid("create_live_command", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let command = json!({ "$type": "OrderCommand", "tag": "for-one", "limit": null });
                let ask = json!({ "projectId": project, "command": command });
                b.call("create_live_command", ask).await?;
                let seen = received(b, &project, &deployment, "for-one").await?;
                ensure!(seen, "the command did not arrive");
                Ok(())
            })
        }),
        invalid("create_live_command", |b| {
            Box::pin(async move {
                let (project, _) = b.deployed().await?;
                let idle = b.project_called("Idle").await?;
                let ask =
                    |project: &Value| json!({ "projectId": project, "command": { "$type": "X" } });
                let bad = [ask(&json!(UNKNOWN)), ask(idle.at("/projectId")?)];
                b.rejects("create_live_command", ask(&project), &bad).await
            })
        }),
        valid("broadcast_live_command", |b| {
            Box::pin(async move {
                let (project, deployment) = b.deployed().await?;
                let ask = |word: &str| json!({ "organizationId": ORGANIZATION, "command": { "$type": word } });
                b.call("broadcast_live_command", ask("for-all")).await?;
                let mut but_one = ask("for-others");
                but_one["excludeProjectId"] = project.clone();
                b.call("broadcast_live_command", but_one).await?;
                let seen = received(b, &project, &deployment, "for-all").await?;
                ensure!(seen, "the command did not arrive");
                let seen = received(b, &project, &deployment, "for-others").await?;
                ensure!(!seen, "the exclusion does not hold");
                Ok(())
            })
        }),
        invalid("broadcast_live_command", |b| {
            Box::pin(async move {
                let project = b.project().await?;
                let ask = |organization: &str, excluded: &Value| {
                    json!({
                        "organizationId": organization, "excludeProjectId": excluded,
                        "command": { "$type": "X" },
                    })
                };
                let bad = [ask("nobody", &project), ask(ORGANIZATION, &json!(UNKNOWN))];
                b.rejects("broadcast_live_command", ask(ORGANIZATION, &project), &bad)
                    .await
            })
        }),
    ]
}
