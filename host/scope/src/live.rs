//! Whether real money, or rights over it, may be at stake.
//!
//! Invariant: it may, unless something that the host itself knows or has read proves otherwise.

use qchost_catalog::deployment::{Environment, environment_of_deployment};
use qchost_catalog::host_calls::READ_LIVE_ALGORITHM;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::deployments::{Deployments, id_in, listed, runs};
use crate::error::{ScopeError, shown};
use crate::reads::{Carried, Reader, project_in, read};

/// Deployments of one project that are read at most; of a project with more, real money is at stake.
const MAX_READ: usize = 8;

/// Tells whether a brokerage or data-provider profile is live; `None` for one that is not
/// configured.
pub type LiveProfile<'a> = &'a (dyn Fn(&str) -> Option<bool> + Send + Sync);

/// Whether the profile is live; an error if no profile of this name is configured.
pub(crate) fn is_live(profiles: LiveProfile<'_>, name: &str) -> Result<bool, ScopeError> {
    profiles(name).ok_or_else(|| {
        ScopeError::Invalid(format!(
            "there is no profile {} in the host's configuration",
            shown(name)
        ))
    })
}

/// The kind of a command: its `$type`, or an empty text. A second spelling of the key, which a
/// case-insensitive parser would accept, is rejected.
pub(crate) fn command(argument: &str, command: &Map<String, Value>) -> Result<String, ScopeError> {
    let invalid = |why: &str| ScopeError::Invalid(format!("`{argument}`: {why}"));
    let spelt = |key: &&String| *key != "$type" && key.trim().eq_ignore_ascii_case("$type");
    if command.keys().any(|key| spelt(&key)) {
        return Err(invalid("the kind of a command is `$type`, spelt so"));
    }
    match command.get("$type") {
        None => Ok(String::new()),
        Some(Value::String(kind)) => Ok(kind.clone()),
        Some(_) => Err(invalid("`$type` must be a string")),
    }
}

/// Whether all deployments of the project that run trade without real money, as each says of itself. Adds those that say
/// the opposite to `live`.
pub(crate) async fn on_paper(
    reader: &dyn Reader,
    account: &str,
    deployments: &Deployments,
    project: u32,
    live: &mut Vec<String>,
) -> Result<bool, ScopeError> {
    let begun = Instant::now();
    let rows = match listed(reader, project).await {
        Ok(rows) => rows,
        // No known deployment proves nothing.
        Err(ScopeError::Denied(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let running: Vec<&Value> = rows.iter().filter(|row| runs(row)).collect();
    // Which one a command is for is decided by this list, and not by an earlier one.
    match running.len() == 1 || rows.len() < 2 {
        true => deployments.learn_sole(account, project, begun),
        false => deployments.forget(account, project),
    }
    if running.is_empty() || running.len() > MAX_READ {
        return Ok(false);
    }
    for row in running {
        let Some(id) = id_in(row) else {
            return Ok(false);
        };
        // Some servers take no id: where there is only one deployment, none is needed.
        let named = Some(id).filter(|_| rows.len() > 1);
        match environment(reader, project, id, named).await? {
            Environment::Paper => {}
            Environment::Unknown => return Ok(false),
            Environment::Live => {
                live.push(id.to_owned());
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// What a deployment of the project says of itself.
async fn environment(
    reader: &dyn Reader,
    project: u32,
    id: &str,
    named: Option<&str>,
) -> Result<Environment, ScopeError> {
    let mut arguments = Map::from_iter([("projectId".to_owned(), Value::from(project))]);
    arguments.extend(named.map(|id| ("deployId".to_owned(), Value::from(id))));
    let what = format!("the deployment {} of project {project}", shown(id));
    let answer = match read(reader, READ_LIVE_ALGORITHM, arguments, &what).await {
        Ok(answer) => answer,
        Err(ScopeError::Denied(_)) => return Ok(Environment::Unknown),
        Err(error) => return Err(error),
    };
    let of_this = match project_in(&answer) {
        Carried::Nothing => true,
        carried => carried == Carried::Project(project),
    };
    // Without an id, the answer is about the latest deployment.
    if !of_this || id_in(&answer) != Some(id) {
        return Ok(Environment::Unknown);
    }
    Ok(environment_of_deployment(&answer))
}

/// The deployment that an answer is about, if it says of itself that it trades with real money.
pub(crate) fn reported_live(body: &Value) -> Option<String> {
    let is_live = environment_of_deployment(body) == Environment::Live;
    id_in(body).filter(|_| is_live).map(str::to_owned)
}
