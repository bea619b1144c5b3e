//! `/compile/…`: a compile job and what it found.
//!
//! The engine looks at the sources at once, because the answer to `/compile/create` already
//! lists the parameters; the verdict is shown when the clock says that the job is done.
//!
//! A log line about a source line has the form
//! `Build Error: File: main.py Line:3 Column:5 - message`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::Arguments;
use crate::auth::hex;
use crate::engine::{Compilation, Diagnostic, Language, SourceFile};
use crate::limits;
use crate::router::Work;
use crate::state::{Cloud, State};

/// One compile job with the sources as they were.
#[derive(Debug)]
pub(crate) struct Compile {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) language: Language,
    pub(crate) files: Vec<SourceFile>,
    compilation: Compilation,
    requested: Instant,
}

impl Compile {
    fn state(&self, duration: Duration) -> &'static str {
        if self.requested.elapsed() < duration {
            "InQueue"
        } else if self.compilation.errors.is_empty() {
            "BuildSuccess"
        } else {
            "BuildError"
        }
    }

    fn logs(&self, duration: Duration) -> Vec<String> {
        let line = |kind: &str, diagnostic: &Diagnostic| {
            let Diagnostic {
                file,
                line,
                column,
                message,
            } = diagnostic;
            format!("{kind}: File: {file} Line:{line} Column:{column} - {message}")
        };
        let warnings = self.compilation.warnings.iter();
        let mut logs: Vec<String> = warnings.map(|it| line("Build Warning", it)).collect();
        match self.state(duration) {
            "InQueue" => return Vec::new(),
            "BuildSuccess" => logs.push(format!(
                "Build Request Successful for Project ID: {}, with CompileID: {}",
                self.project_id, self.id
            )),
            _ => {
                let errors = self.compilation.errors.iter();
                logs.extend(errors.map(|it| line("Build Error", it)));
            }
        }
        logs
    }

    /// Detected parameters, grouped by file in the order of the source.
    fn parameters(&self) -> Vec<Value> {
        let found = &self.compilation.parameters;
        let mut files: Vec<&str> = Vec::new();
        for parameter in found {
            if !files.contains(&parameter.file.as_str()) {
                files.push(&parameter.file);
            }
        }
        let in_file = |file: &str| -> Vec<Value> {
            found
                .iter()
                .filter(|parameter| parameter.file == file)
                .map(|parameter| {
                    let call = match &parameter.default {
                        Some(default) => format!("{} = {default}", parameter.name),
                        None => parameter.name.clone(),
                    };
                    json!({"line": parameter.line, "type": call})
                })
                .collect()
        };
        files
            .into_iter()
            .map(|file| json!({"file": file, "parameters": in_file(file)}))
            .collect()
    }

    /// How many parameters the sources read.
    pub(crate) fn parameter_count(&self) -> usize {
        self.compilation.parameters.len()
    }
}

/// Runs the engine's check off the server's threads.
pub(crate) async fn check(
    cloud: &Arc<Cloud>,
    language: Language,
    files: Vec<SourceFile>,
) -> Result<(Compilation, Vec<SourceFile>), Refusal> {
    let engine = Arc::clone(&cloud.engine);
    tokio::task::spawn_blocking(move || (engine.compile(language, &files), files))
        .await
        .map_err(|_| Refusal::because("The emulator's engine failed on these sources"))
}

pub(crate) fn create(cloud: Arc<Cloud>, arguments: Arguments) -> Work {
    Box::pin(async move {
        let (project_id, language, files) = {
            let state = cloud.state();
            let project = state.project(&arguments)?;
            (project.id, project.language, project.sources())
        };
        let (compilation, files) = check(&cloud, language, files).await?;
        let mut state = cloud.state();
        let id = format!("{}-{}", state.next_id(), state.next_id());
        let compile = Compile {
            id,
            project_id,
            language,
            files,
            compilation,
            requested: Instant::now(),
        };
        let order: Vec<&str> = compile
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        let answer = Reply::success(json!({
            "compileId": compile.id,
            "state": "InQueue",
            "parameters": compile.parameters(),
            "projectId": project_id,
            "signature": signature(&compile.files),
            "signatureOrder": order,
        }));
        if state.compiles.len() >= limits::COMPILES {
            state.compiles.pop_front();
        }
        state.compiles.push_back(compile);
        answer
    })
}

pub(crate) fn read(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let compile = state.compile(arguments)?;
    let duration = cloud.settings.timing.compile;
    Reply::success(json!({
        "compileId": compile.id,
        "projectId": compile.project_id,
        "state": compile.state(duration),
        "logs": compile.logs(duration),
    }))
}

impl State {
    /// The job that `compileId` names, if it belongs to the project that `projectId` names.
    fn compile(&self, arguments: &Arguments) -> Result<&Compile, Refusal> {
        let project = self.project(arguments)?.id;
        let id = arguments.text("compileId")?;
        self.compiles
            .iter()
            .find(|compile| compile.id == id && compile.project_id == project)
            .ok_or_else(|| Refusal::not_found("Compile", id))
    }

    /// The same, for a job that was built successfully.
    pub(crate) fn built(
        &self,
        arguments: &Arguments,
        duration: Duration,
    ) -> Result<&Compile, Refusal> {
        let compile = self.compile(arguments)?;
        match compile.state(duration) {
            "BuildSuccess" => Ok(compile),
            "InQueue" => Err(Refusal::because(format!(
                "The compile {} is not finished yet",
                compile.id
            ))),
            _ => Err(Refusal::because(format!(
                "The compile {} ended in a build error",
                compile.id
            ))),
        }
    }
}

fn signature(files: &[SourceFile]) -> String {
    let mut digest = Sha256::new();
    for file in files {
        for part in [&file.name, &file.content] {
            digest.update(part.len().to_le_bytes());
            digest.update(part.as_bytes());
        }
    }
    hex(&digest.finalize())
}
