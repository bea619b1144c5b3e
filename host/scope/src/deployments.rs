//! The live deployments of projects, as the account lists them.

use std::time::Duration;

use qchost_catalog::deployment::has_ended;
use qchost_catalog::host_calls::LIST_LIVE_ALGORITHMS;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::cache::PerAccount;
use crate::children::Child;
use crate::error::ScopeError;
use crate::reads::{Carried, Reader, project_in, read, unavailable};

/// How long a project is taken to have no second deployment.
const SOLE_TTL: Duration = Duration::from_secs(5);
const MAX_PROJECTS: usize = 10_000;

/// The instants at which projects were found to have at most one deployment, by account.
pub(crate) struct Deployments(PerAccount<u32, Instant>);

impl Deployments {
    pub(crate) fn new() -> Self {
        Self(PerAccount::new(MAX_PROJECTS))
    }

    pub(crate) fn is_sole(&self, account: &str, project: u32) -> bool {
        let seen = self.0.with(account, |seen| seen.get(&project).copied());
        seen.is_some_and(|seen| seen.elapsed() <= SOLE_TTL)
    }

    /// The project had at most one candidate at an instant.
    pub(crate) fn learn_sole(&self, account: &str, project: u32, at: Instant) {
        self.0.with(account, |seen| seen.put(project, at));
    }

    /// A deployment of the project was or may have been started.
    pub(crate) fn forget(&self, account: &str, project: u32) {
        self.0.with(account, |seen| seen.pop(&project));
    }
}

/// The rows of the list of a project's deployments.
pub(crate) async fn listed(reader: &dyn Reader, project: u32) -> Result<Vec<Value>, ScopeError> {
    let what = format!("the deployments of project {project}");
    let arguments = Map::from_iter([("projectId".to_owned(), Value::from(project))]);
    let mut answer = read(reader, LIST_LIVE_ALGORITHMS, arguments, &what).await?;
    let Some(Value::Array(mut rows)) = answer.get_mut("live").map(Value::take) else {
        return Err(unavailable(&what, "the answer has no list of them"));
    };
    // One that does not say of which project it is may be of this one.
    rows.retain(|row| !matches!(project_in(row), Carried::Project(of) if of != project));
    Ok(rows)
}

/// Whether a row of the list has not ended.
pub(crate) fn runs(row: &Value) -> bool {
    !has_ended(row.get("status").and_then(Value::as_str))
}

/// The id in a row.
pub(crate) fn id_in(row: &Value) -> Option<&str> {
    row.get(Child::Deployment.field()).and_then(Value::as_str)
}
