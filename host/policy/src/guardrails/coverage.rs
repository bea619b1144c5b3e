//! What a guardrail can affect: the operations that it can forbid.

use std::str::FromStr as _;

use cedar_policy::{PolicySet, ValidationMode, ValidationWarning};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::bounds::parts;
use super::guardrail::{Guardrail, names};
use super::valid::validator;
use crate::engine::{PolicyError, actions};
use crate::roles::{GROUP, Right};

/// What one guardrail can affect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Coverage {
    /// Its id.
    pub guardrail: String,
    /// Where it begins: `trading.cedar:12`.
    pub at: String,
    /// The operations that it can forbid, by name: of plugins, and `person/…` of people, without those that no
    /// guardrail can deny.
    pub operations: Vec<String>,
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
        let of_people = Right::ALL
            .iter()
            .filter(|right| !right.is_always_allowed())
            .map(|right| (right.action(), &[GROUP][..]));
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

    /// Whether it can forbid anything, if its scope leaves that open.
    pub(super) fn can_forbid(&self) -> Result<bool, PolicyError> {
        let of_plugins = self.concerns_plugins();
        if self.ineffective.is_none() || of_plugins {
            return Ok(true);
        }
        Ok(!self.coverage()?.operations.is_empty())
    }
}
