//! The crate's interface to Cedar: the schema, the conversion of a grant to Cedar's JSON, and the
//! evaluation of a question.
//!
//! Invariant: policies are built as JSON, never by concatenating texts, so a name in a manifest cannot
//! become syntax; and Cedar itself decides which policies apply to a question.

mod actions;
mod attributes;
mod conditions;
mod question;
mod quick;
mod schema;
mod stack;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use actions::{Action, Form, Kind, actions, by_name};
pub(crate) use attributes::{AttributeValue, Bound, attributes};
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
        /// The cause.
        source: std::io::Error,
    },
    /// A guardrail is not a policy, violates the schema, or permits.
    #[error("{}:{line}: {message}", path.display())]
    Guardrail {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The problem and the remedy.
        message: String,
    },
    /// Cedar rejects a grant. This is a defect of the host: a manifest that was parsed compiles.
    #[error("{what} cannot be compiled: {message}")]
    Compile {
        /// The grant.
        what: String,
        /// Cedar's message.
        message: String,
    },
}

/// A single policy, ready to be evaluated. The slice that it is in implies the scope of a grant.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Rules out, without Cedar, policies that certainly do not apply.
    pub(crate) quick: Deep<Quick>,
    /// The policy, for Cedar; shared by all kinds of resources.
    pub(crate) policy: Arc<Deep<PolicySet>>,
}

impl Compiled {
    /// Compiles a policy of this effect and these conditions, given as Cedar's JSON, for resources of a
    /// kind. Cedar takes time cubic in the depth for that, so it is used for the host's own policies, which
    /// are flat.
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

    /// Wraps a parsed policy with its scope and conditions, at most `depth` deep, for resources of a kind.
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

    /// Whether evaluating it needs extra stack.
    pub(crate) fn is_deep(&self) -> bool {
        self.quick.is_deep()
    }
}
