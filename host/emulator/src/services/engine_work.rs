//! The engine at work for a service: on a thread of its own, so that it holds up no request.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::task::spawn_blocking;
use tokio::time::sleep_until;

use super::answer::Refusal;
use super::cloud::Cloud;
use crate::engine::{Compilation, Engine, Job, Language, RuntimeError, SourceFile};
use crate::store::backtest::Outcome;
use crate::store::compile::CompileJob;
use crate::store::project::Project;

/// Compiles sources and gives them back.
pub(super) async fn check(
    cloud: &Cloud,
    language: Language,
    files: Vec<SourceFile>,
) -> Result<(Compilation, Vec<SourceFile>), Refusal> {
    let engine = Arc::clone(&cloud.engine);
    spawn_blocking(move || (engine.compile(language, &files), files))
        .await
        .map_err(|_| panicked())
}

/// A run of a project's compiled sources with the parameters of the project.
pub(super) fn job_of(compile: &CompileJob, project: &Project) -> Job {
    Job {
        language: compile.language,
        files: compile.files.clone(),
        parameters: project.parameters.iter().cloned().collect(),
    }
}

/// Runs a job.
pub(super) async fn run(engine: Arc<dyn Engine>, job: Arc<Job>) -> Result<Outcome, Refusal> {
    spawn_blocking(move || engine.run(&job))
        .await
        .map_err(|_| panicked())
}

fn panicked() -> Refusal {
    Refusal::because("The emulator's engine failed on these sources")
}

/// Runs a job and gives its outcome, not before `earliest`; `None` if the cloud was dropped
/// before the run started.
pub(super) async fn execute(
    cloud: &Weak<Cloud>,
    job: Arc<Job>,
    earliest: Instant,
) -> Option<Outcome> {
    let engine = Arc::clone(&cloud.upgrade()?.engine);
    let outcome = run(engine, job).await;
    sleep_until(earliest.into()).await;
    Some(outcome.unwrap_or_else(|_| {
        Err(RuntimeError {
            message: "The emulator's engine failed on this algorithm".to_owned(),
            stacktrace: String::new(),
            in_initialize: false,
        })
    }))
}
