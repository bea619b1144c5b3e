//! What the rest of the crate knows of Cedar: the schema, how a grant is put into Cedar's JSON, and
//! how a question is asked.
//!
//! Invariant: policies are made as JSON, never by pasting texts together, so no name in a manifest can
//! become syntax; and whatever applies to a question is decided by Cedar itself.

mod actions;
mod conditions;
mod question;
mod quick;
mod schema;
mod stack;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use actions::{Action, Form, Kind, actions, by_name};
pub(crate) use conditions::{grant_conditions, http_conditions};
pub(crate) use question::{Asked, Question, principal, uid};
pub(crate) use quick::{Quick, View};
pub use schema::cedar_schema;
pub(crate) use schema::schema;
pub(crate) use stack::{Deep, with_room};

use cedar_policy::{Policy, PolicyId, PolicySet};
use serde_json::{Value, json};

/// Why a manifest or guardrails cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A folder or file of guardrails cannot be read.
    #[error("{}: cannot read the guardrails: {source}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A guardrail that is no policy, does not fit the schema, or permits.
    #[error("{}:{line}: {message}", path.display())]
    Guardrail {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// A grant that Cedar does not take. A defect of the host's: a manifest that was read compiles.
    #[error("{what} cannot be compiled: {message}")]
    Compile {
        /// The grant.
        what: String,
        /// Cedar's words.
        message: String,
    },
}

/// One policy on its own, ready to be asked. The scope of a grant is decided by the slice that it is in.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Rules out, without Cedar, what certainly does not apply.
    pub(crate) quick: Deep<Quick>,
    /// The policy, for Cedar. It is the same one for all kinds of resources.
    pub(crate) policy: Arc<Deep<PolicySet>>,
}

impl Compiled {
    /// Compiles a policy of this effect and these conditions, as Cedar's JSON has them, for
    /// resources of a kind. Cedar takes time by the cube of its depth for that, so it is for
    /// what the host makes, which is flat.
    pub(crate) fn new(
        effect: &str,
        resource: Value,
        conditions: Value,
        kind: Kind,
    ) -> Result<Self, String> {
        let quick = Quick::compile(&conditions, kind);
        let policy = Policy::from_json(
            Some(PolicyId::new("policy")),
            json!({
                "effect": effect,
                "principal": { "op": "All" },
                "action": { "op": "All" },
                "resource": resource,
                "conditions": conditions,
            }),
        )
        .map_err(|error| error.to_string())?;
        let alone = PolicySet::from_policies([policy]).map_err(|error| error.to_string())?;
        Ok(Self {
            quick: Deep::new(quick, 0),
            policy: Arc::new(Deep::new(alone, 0)),
        })
    }

    /// A policy as it is, with its scope, of these conditions and at most so deep, for resources of a kind.
    pub(crate) fn of(
        policy: &Arc<Deep<PolicySet>>,
        conditions: &Value,
        kind: Kind,
        depth: usize,
    ) -> Self {
        Self {
            quick: Deep::new(Quick::compile(conditions, kind), depth),
            policy: Arc::clone(policy),
        }
    }

    /// Whether it is to be asked with room on the stack only.
    pub(crate) fn is_deep(&self) -> bool {
        self.quick.is_deep()
    }
}
