//! Finds in the store what a request names by its ids.
//!
//! Invariant: a job, backtest or deployment is found only through the project that it belongs to.

use std::time::Duration;

use super::answer::Refusal;
use super::arguments::Arguments;
use crate::store::State;
use crate::store::backtest::Backtest;
use crate::store::compile::CompileJob;
use crate::store::deployment::Deployment;
use crate::store::kept::Kept;
use crate::store::optimization::Optimization;
use crate::store::project::Project;

impl State {
    /// The project with an id.
    pub(super) fn project_with(&self, id: i64) -> Result<&Project, Refusal> {
        u32::try_from(id)
            .ok()
            .and_then(|id| self.projects.get(&id))
            .map(Kept::value)
            .ok_or_else(|| Refusal::not_found("Project", id))
    }

    /// The project that `projectId` names.
    pub(super) fn project(&self, arguments: &Arguments) -> Result<&Project, Refusal> {
        self.project_with(arguments.integer("projectId")?)
    }

    /// The same, to change it.
    pub(super) fn project_mut(&mut self, arguments: &Arguments) -> Result<&mut Project, Refusal> {
        let id = self.project(arguments)?.id;
        let project = self.projects.get_mut(&id).map(Kept::value_mut);
        project.ok_or_else(|| Refusal::not_found("Project", id))
    }

    /// The same, unless a code source other than the request's `codeSourceId` holds the lock. A
    /// request that names no code source is let through: that is how the `lean` command line
    /// forces a push.
    pub(super) fn unlocked_project(
        &mut self,
        arguments: &Arguments,
    ) -> Result<&mut Project, Refusal> {
        let project = self.project_mut(arguments)?;
        let source = arguments.optional("codeSourceId", Arguments::text)?;
        match (&project.lock, source) {
            (Some(holder), Some(source)) if holder != source => Err(Refusal::because(format!(
                "The project is locked by another code source: '{holder}'. Acquire the lock first"
            ))),
            _ => Ok(project),
        }
    }

    /// The compile job that `compileId` names.
    pub(super) fn compile(&self, arguments: &Arguments) -> Result<&CompileJob, Refusal> {
        let project = self.project(arguments)?.id;
        let id = arguments.text("compileId")?;
        let mut compiles = self.compiles.iter();
        let found = compiles.find(|it| it.id == id && it.project_id == project);
        let found = found.map(Kept::value);
        found.ok_or_else(|| Refusal::not_found("Compile", id))
    }

    /// The same, for a job that was built successfully; `duration` is how long a compile takes.
    pub(super) fn built(
        &self,
        arguments: &Arguments,
        duration: Duration,
    ) -> Result<&CompileJob, Refusal> {
        let compile = self.compile(arguments)?;
        let problem = match compile.state(duration) {
            "BuildSuccess" => return Ok(compile),
            "InQueue" => "is not finished yet",
            _ => "ended in a build error",
        };
        let id = &compile.id;
        Err(Refusal::because(format!("The compile {id} {problem}")))
    }

    /// The backtest that `backtestId` names.
    pub(super) fn backtest(&self, arguments: &Arguments) -> Result<&Backtest, Refusal> {
        let project = self.project(arguments)?.id;
        let id = arguments.text("backtestId")?;
        let mut backtests = self.backtests.iter();
        let found = backtests.find(|it| it.id == id && it.project_id == project);
        let found = found.map(Kept::value);
        found.ok_or_else(|| Refusal::not_found("Backtest", id))
    }

    /// The optimization that `optimizationId` names.
    pub(super) fn optimization(&self, arguments: &Arguments) -> Result<&Optimization, Refusal> {
        let id = arguments.text("optimizationId")?;
        let found = self.optimizations.iter().find(|it| it.id == id);
        let found = found.map(Kept::value);
        found.ok_or_else(|| Refusal::not_found("Optimization", id))
    }

    /// The same, to change it.
    pub(super) fn optimization_mut(
        &mut self,
        arguments: &Arguments,
    ) -> Result<&mut Optimization, Refusal> {
        let id = self.optimization(arguments)?.id.clone();
        let found = self.optimizations.iter_mut().find(|it| it.id == id);
        let found = found.map(Kept::value_mut);
        found.ok_or_else(|| Refusal::not_found("Optimization", id))
    }

    /// The latest deployment of the project that `projectId` names.
    pub(super) fn deployment(&self, arguments: &Arguments) -> Result<&Deployment, Refusal> {
        let project = self.project(arguments)?.id;
        let mut recent = self.deployments.iter().rev();
        let found = recent.find(|deployment| deployment.project_id == project);
        let found = found.map(Kept::value);
        found.ok_or_else(|| Refusal::not_found("Live algorithm of project", project))
    }

    /// The same, to change it.
    pub(super) fn deployment_mut(
        &mut self,
        arguments: &Arguments,
    ) -> Result<&mut Deployment, Refusal> {
        let id = self.deployment(arguments)?.id.clone();
        let found = self.deployments.iter_mut().find(|it| it.id == id);
        let found = found.map(Kept::value_mut);
        found.ok_or_else(|| Refusal::not_found("Live algorithm", id))
    }
}
