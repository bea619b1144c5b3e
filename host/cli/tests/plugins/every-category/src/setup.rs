//! Set-up that most checks share: a project with an algorithm, a compile of it, a deployment.

use std::time::Duration;

use qchost_sdk::live::{Deployment, LiveStatus};
use qchost_sdk::prelude::*;
use qchost_sdk::types::{CompileId, Language, NodeId, ProjectId};

/// The algorithm of the test projects: two parameters, and one more that makes it fail.
pub(crate) const ALGORITHM: &str = include_str!("algorithm.py");
/// Time limit of waiting for a result.
const LONGEST: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Repeats a call until there is a result.
pub(crate) fn until<T>(
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let mut waited = Duration::ZERO;
    while waited < LONGEST {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
    Err(Error::TimedOut(format!(
        "{what} after {} s",
        LONGEST.as_secs()
    )))
}

/// A new project with the algorithm in it.
pub(crate) fn project(name: &str) -> Result<ProjectId, Error> {
    let project = projects::create_project(&format!("Every/{name}"), &Language::Python, None)?;
    files::update_file_contents(project.project_id, "main.py", ALGORITHM, None)?;
    Ok(project.project_id)
}

/// Compiles the project; returns the finished job.
pub(crate) fn compiled(project: ProjectId) -> Result<compile::Outcome, Error> {
    let job = compile::create_compile(project)?;
    until("the compile job did not end", || {
        let outcome = compile::read_compile(project, &job.compile_id)?;
        Ok(Some(outcome).filter(|it| it.state != compile::State::InQueue))
    })
}

/// A new project with the algorithm in it, and a compile that succeeded.
pub(crate) fn built(name: &str) -> Result<(ProjectId, CompileId), Error> {
    let project = project(name)?;
    let outcome = compiled(project)?;
    match outcome.state {
        compile::State::BuildSuccess => Ok((project, outcome.compile_id)),
        _ => Err(Error::Rejected(outcome.logs)),
    }
}

/// A free live node.
pub(crate) fn idle_node(project: ProjectId) -> Result<NodeId, Error> {
    until("no live node became idle", || {
        let live = nodes::read_project_nodes(project)?.nodes.live;
        let idle = live.into_iter().find(|it| it.busy != Some(true));
        Ok(idle.and_then(|it| it.id))
    })
}

/// The arguments that deploy the project by a profile.
pub(crate) fn deployment(
    project: ProjectId,
    compile: &str,
    profile: &str,
) -> Result<Deployment, Error> {
    Ok(Deployment {
        version_id: "-1".into(),
        project_id: project,
        compile_id: compile.into(),
        node_id: idle_node(project)?,
        brokerage: profile.into(),
        data_providers: None,
    })
}

/// Waits until the project's deployment runs: the named one, or the only one.
pub(crate) fn running(
    project: ProjectId,
    deploy_id: Option<&str>,
) -> Result<live::LiveAlgorithm, Error> {
    until("the deployment did not come to run", || {
        let algorithm = live::read_live_algorithm(project, deploy_id)?;
        match &algorithm.status {
            Some(LiveStatus::Running) => Ok(Some(algorithm)),
            Some(LiveStatus::LoggingIn | LiveStatus::Initializing | LiveStatus::InQueue) => {
                Ok(None)
            }
            other => Err(Error::Rejected(vec![format!(
                "the deployment is {other:?}: {:?}",
                algorithm.message
            )])),
        }
    })
}

/// The preferred organisation.
pub(crate) fn organization() -> Result<String, Error> {
    let organization = account::read_account()?.organization_id;
    organization
        .ok_or_else(|| Error::UnexpectedResponse("the account names no organisation".into()))
}
