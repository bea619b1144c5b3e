//! What a guardrail can affect: the form of the names in it, and the operations that it can forbid.
//!
//! Cedar checks types only, and accepts any text as an entity's name: `Project::"Lab/a"` is well formed but can never
//! exist. So the names are checked here.

use std::str::FromStr as _;

use cedar_policy::{PolicySet, ValidationMode, ValidationWarning};
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{PolicyError, actions, with_room};
use crate::guardrails::{Guardrail, Guardrails, names, parts, validator};
use crate::manifest::is_name;
use crate::people::Verb;

/// What one guardrail can affect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Its id.
    pub guardrail: String,
    /// Where it begins: `trading.cedar:12`.
    pub at: String,
    /// The operations that it can forbid, by name: of plugins, and `person/…` of people, without those that no
    /// guardrail can deny.
    pub operations: Vec<String>,
}

impl Guardrails {
    /// What each guardrail can affect, in the order of the files. It asks Cedar about every operation, which takes a
    /// millisecond or more for each guardrail and operation.
    ///
    /// # Errors
    /// When the schema of guardrails cannot be used.
    pub fn coverage(&self) -> Result<Vec<Coverage>, PolicyError> {
        with_room(|| self.iter().map(|guardrail| guardrail.coverage()).collect())
    }
}

impl Guardrail {
    pub(crate) fn coverage(&self) -> Result<Coverage, PolicyError> {
        let failed = |message: String| PolicyError::Compile {
            what: format!("the guardrail `{}`", self.id),
            message,
        };
        let validator = validator()?;
        let policy = self
            .policy()
            .ok_or_else(|| failed("there is no policy".to_owned()))?;
        let parts =
            parts(&self.text).ok_or_else(|| failed("it cannot be taken apart".to_owned()))?;
        let constraint = policy.action_constraint();
        let of_plugins = actions()
            .iter()
            .map(|action| (action.name, action.groups.as_slice()));
        let of_people = Verb::ALL
            .iter()
            .filter(|verb| !verb.is_always_allowed())
            .map(|verb| (verb.action(), &["person"][..]));
        let mut operations = Vec::new();
        for (name, groups) in of_plugins.chain(of_people) {
            if !names(&constraint, name, groups) {
                continue;
            }
            let narrowed = format!(
                "forbid ({}, action == Action::{}, {}) {}",
                parts.principal,
                json!(name),
                parts.resource,
                parts.conditions
            );
            let set = PolicySet::from_str(&narrowed).map_err(|error| failed(error.to_string()))?;
            let checked = validator.validate(&set, ValidationMode::Strict);
            let never = |warning: &ValidationWarning| {
                matches!(
                    warning,
                    ValidationWarning::ImpossiblePolicy(_)
                        | ValidationWarning::InvalidActionApplication(_)
                )
            };
            if checked.validation_errors().next().is_none()
                && !checked.validation_warnings().any(never)
            {
                operations.push(name.to_owned());
            }
        }
        Ok(Coverage {
            guardrail: self.id.clone(),
            at: self.at.clone(),
            operations,
        })
    }
}

/// Checks the form of every entity in a policy, given in Cedar's JSON. The error explains the correct form.
pub(crate) fn check_ids(policy: &Value) -> Result<(), String> {
    match policy {
        Value::Array(items) => items.iter().try_for_each(check_ids),
        Value::Object(fields) => {
            if let (Some(of), Some(id)) = (fields.get("type"), fields.get("id"))
                && let (Some(of), Some(id)) = (of.as_str(), id.as_str())
            {
                check_id(of, id)?;
            }
            fields.values().try_for_each(check_ids)
        }
        _ => Ok(()),
    }
}

fn check_id(of: &str, id: &str) -> Result<(), String> {
    let (fits, form) = match of {
        "Plugin" => (
            is_name(id)
                || id
                    .strip_prefix("operator@")
                    .is_some_and(|rest| !rest.is_empty()),
            "the id of a plugin is its name in its manifest: letters, digits and dashes".to_owned(),
        ),
        "Project" => (
            id == "new"
                || id
                    .parse::<u32>()
                    .is_ok_and(|number| number.to_string() == id),
            format!(
                "the id of a project is its number; for its name, write: resource is Project) when {{ resource.name == {} }}",
                json!(id)
            ),
        ),
        "Organization" => (
            !id.is_empty()
                && id
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)),
            "the id of an organisation has letters, digits, `-`, `_`, `.` and `:`".to_owned(),
        ),
        "Object" => (
            id.split_once('/').is_some_and(|(organization, key)| {
                !organization.is_empty() && !key.is_empty() && !key.starts_with('/')
            }),
            "the id of an object is its organisation's, `/` and its key".to_owned(),
        ),
        "Url" => (
            is_address(id),
            "the id of an address is SCHEME://HOST:PORT/PATH, with its port and without a query"
                .to_owned(),
        ),
        "Account" | "Person" => (!id.is_empty(), "it is empty".to_owned()),
        // Cedar itself checks all others.
        _ => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    Err(format!(
        "can never apply: there is no {of}::{}; {form}",
        json!(id)
    ))
}

fn is_address(id: &str) -> bool {
    let Some((scheme, rest)) = id.split_once("://") else {
        return false;
    };
    let Some((host, rest)) = rest
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains('/'))
    else {
        return false;
    };
    let port = rest.split('/').next().unwrap_or_default();
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && port.parse::<u16>().is_ok()
        && rest.contains('/')
        && !rest.contains(['?', '#'])
}
