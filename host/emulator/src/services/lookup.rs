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
    pub(crate) fn project(&self, arguments: &Arguments) -> Result<&Project, Refusal> {
        self.project_with(arguments.integer("projectId")?)
    }

    /// The same, to change it.
    pub(crate) fn project_mut(&mut self, arguments: &Arguments) -> Result<&mut Project, Refusal> {
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

    /// The deployments of a project, the latest first.
    pub(super) fn deployments_of(&self, project: u32) -> impl Iterator<Item = &Deployment> {
        let recent = self.deployments.iter().rev().map(Kept::value);
        recent.filter(move |deployment| deployment.project_id == project)
    }

    /// The latest deployment of the project that `projectId` names.
    pub(super) fn deployment(&self, arguments: &Arguments) -> Result<&Deployment, Refusal> {
        let project = self.project(arguments)?.id;
        let latest = self.deployments_of(project).next();
        latest.ok_or_else(|| not_deployed(project))
    }

    /// The deployment of the project that `field` names, or its latest if the field is left out.
    pub(super) fn deployment_named(
        &self,
        arguments: &Arguments,
        field: &str,
    ) -> Result<&Deployment, Refusal> {
        let Some(id) = arguments.optional(field, Arguments::text)? else {
            return self.deployment(arguments);
        };
        let project = self.project(arguments)?.id;
        let found = self.deployments_of(project).find(|it| it.id == id);
        found.ok_or_else(|| Refusal::not_found("Live algorithm", id))
    }

    /// The deployment of the project that a stop, a liquidation or a command is for, to change it: the latest of those
    /// that run, or the latest if none runs.
    pub(super) fn deployment_mut(
        &mut self,
        arguments: &Arguments,
    ) -> Result<&mut Deployment, Refusal> {
        let project = self.project(arguments)?.id;
        let runs = self.deployments_of(project).find(|it| it.stopped.is_none());
        let chosen = runs.or_else(|| self.deployments_of(project).next());
        let chosen = chosen.map(|it| it.id.clone());
        let mut all = self.deployments.iter_mut();
        let found = all.find(|it| chosen.as_ref() == Some(&it.id));
        let found = found.map(Kept::value_mut);
        found.ok_or_else(|| not_deployed(project))
    }
}

fn not_deployed(project: u32) -> Refusal {
    Refusal::not_found("Live algorithm of project", project)
}
