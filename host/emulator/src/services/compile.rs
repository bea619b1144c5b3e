//! `/compile/…`: compiling a project.
//!
//! The engine looks at the sources at once, because the answer to `/compile/create` already
//! lists the parameters; the result is shown once [`crate::Timing::compile`] has passed.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::answer::{Answer, Reply};
use super::arguments::Arguments;
use super::cloud::{Cloud, check};
use crate::engine::DetectedParameter;
use crate::store::compile::CompileJob;
use crate::store::{State, limits};

pub(crate) async fn create(cloud: Arc<Cloud>, arguments: Arguments) -> Answer {
    let (project_id, language, files) = {
        let state = cloud.state();
        let project = state.project(&arguments)?;
        (project.id, project.language, project.sources())
    };
    let (compilation, files) = check(&cloud, language, files).await?;
    let mut state = cloud.state();
    let compile = CompileJob {
        id: format!("{}-{}", state.next_id(), state.next_id()),
        project_id,
        language,
        files,
        compilation,
        requested: Instant::now(),
    };
    let order: Vec<&String> = compile.files.iter().map(|file| &file.name).collect();
    let answer = Reply::success(json!({
        "compileId": compile.id,
        "state": "InQueue",
        "parameters": parameters_json(&compile.compilation.parameters),
        "projectId": project_id,
        "signature": compile.signature(),
        "signatureOrder": order,
    }));
    if state.compiles.len() >= limits::COMPILES {
        state.compiles.pop_front();
    }
    state.compiles.push_back(compile.into());
    answer
}

pub(crate) fn read(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let compile = state.compile(arguments)?;
    let duration = cloud.settings.timing.compile;
    Reply::success(json!({
        "compileId": compile.id,
        "projectId": compile.project_id,
        "state": compile.state(duration),
        "logs": compile.logs(duration),
    }))
}

/// Detected parameters, grouped by file in the order of the source.
fn parameters_json(found: &[DetectedParameter]) -> Vec<Value> {
    let parameter = |parameter: &DetectedParameter| {
        let call = match &parameter.default {
            Some(default) => format!("{} = {default}", parameter.name),
            None => parameter.name.clone(),
        };
        json!({"line": parameter.line, "type": call})
    };
    // The engine lists them file by file.
    found
        .chunk_by(|one, next| one.file == next.file)
        .filter_map(|of_file| {
            let parameters: Vec<Value> = of_file.iter().map(parameter).collect();
            Some(json!({"file": of_file.first()?.file, "parameters": parameters}))
        })
        .collect()
}
