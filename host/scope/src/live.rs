//! Whether real money, or rights over it, may be at stake.
//!
//! Invariant: it may, unless something that the host itself knows or has read proves otherwise.

use qchost_catalog::host_calls::READ_LIVE_ALGORITHM;
use serde_json::{Map, Value};

use crate::error::{ScopeError, shown};
use crate::reads::{Carried, Reader, project_in, read};

/// The names in a deployment's answer for a brokerage without real money.
const PAPER: [&str; 2] = ["PaperBrokerage", "QuantConnectBrokerage"];

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

/// Whether the project's deployment trades without real money.
pub(crate) async fn on_paper(reader: &dyn Reader, project: u32) -> Result<bool, ScopeError> {
    let arguments = Map::from_iter([("projectId".to_owned(), Value::from(project))]);
    let what = format!("the deployment of project {project}");
    match read(reader, READ_LIVE_ALGORITHM, arguments, &what).await {
        Ok(answer) => {
            let brokerage = answer.get("brokerage").and_then(Value::as_str);
            let of_this = match project_in(&answer) {
                Carried::Nothing => true,
                carried => carried == Carried::Project(project),
            };
            Ok(of_this && brokerage.is_some_and(|brokerage| PAPER.contains(&brokerage)))
        }
        // No known deployment proves nothing.
        Err(ScopeError::Denied(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
