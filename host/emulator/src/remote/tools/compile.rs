//! `create_compile`, and the compile that other tools begin with.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::rest;
use super::workspace::Workspace;
use crate::services::answer::{Answer, Refusal, Reply};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::services::compile as jobs;

/// What the log calls a line about an error.
const ERROR: &str = "Build Error";

/// A compile that is over.
pub(super) struct Compiled {
    pub(super) id: String,
    state: String,
    logs: Vec<String>,
}

impl Compiled {
    fn is_success(&self) -> bool {
        self.state == "BuildSuccess"
    }

    /// The lines about errors.
    fn errors(&self) -> Vec<String> {
        let errors = self.logs.iter().filter(|line| line.starts_with(ERROR));
        errors.cloned().collect()
    }

    /// What a tool says that wrote a file: the file is written whether or not the project compiles.
    pub(super) fn after_write(&self) -> Value {
        json!({
            "compileId": self.id,
            "state": self.state,
            "compileErrors": self.errors(),
        })
    }
}

/// Compiles a project and waits for the end.
pub(super) async fn compile(cloud: &Arc<Cloud>, project: &Value) -> Result<Compiled, Refusal> {
    let asked = rest::arguments(json!({"projectId": project}));
    let created = rest::answered(jobs::create(Arc::clone(cloud), asked).await)?;
    let id = created.get("compileId").and_then(Value::as_str);
    let id = id.unwrap_or_default().to_owned();
    let asked = rest::arguments(json!({"projectId": project, "compileId": id}));
    loop {
        sleep(cloud.settings.timing.compile).await;
        let read = rest::answered(jobs::read(cloud, &mut cloud.state(), &asked))?;
        let state = read.get("state").and_then(Value::as_str);
        let state = state.unwrap_or_default();
        if state == "InQueue" {
            continue;
        }
        let logs = read.get("logs").and_then(Value::as_array);
        let logs = logs.into_iter().flatten().filter_map(Value::as_str);
        return Ok(Compiled {
            id,
            state: state.to_owned(),
            logs: logs.map(str::to_owned).collect(),
        });
    }
}

/// The id of a successful compile; build errors are a refusal.
pub(super) async fn built(cloud: &Arc<Cloud>, project: &Value) -> Result<String, Refusal> {
    let compiled = compile(cloud, project).await?;
    if compiled.is_success() {
        return Ok(compiled.id);
    }
    Err(Refusal(compiled.errors()))
}

/// Compiles, and answers with the result. There is no job to read.
pub(super) async fn create(workspace: Arc<Workspace>, arguments: Arguments) -> Answer {
    let project = project_of(&arguments)?;
    let compiled = compile(&workspace.cloud, &project).await?;
    if !compiled.is_success() {
        return Err(Refusal(compiled.errors()));
    }
    Reply::success(json!({
        "compileId": compiled.id,
        "state": compiled.state,
        "logs": compiled.logs,
    }))
}

/// The project of a call, as it was sent.
pub(super) fn project_of(arguments: &Arguments) -> Result<Value, Refusal> {
    arguments.integer("projectId").map(Value::from)
}
