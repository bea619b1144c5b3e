//! A policy in the form in which it is evaluated.

use std::sync::Arc;

use cedar_policy::{Policy, PolicyId, PolicySet};
use serde_json::{Value, json};

use super::actions::Kind;
use super::prefilter::Prefilter;
use super::stack::StackSafe;

/// A single policy, ready to be evaluated. The slice that it is in implies the scope of a grant.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Rules out, without Cedar, policies that certainly do not apply.
    pub(crate) prefilter: StackSafe<Prefilter>,
    /// The policy, for Cedar; shared by all kinds of resources.
    pub(crate) policy: Arc<StackSafe<PolicySet>>,
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
        let prefilter = Prefilter::compile(&conditions, kind);
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
            prefilter: StackSafe::new(prefilter, 0),
            policy: Arc::new(StackSafe::new(alone, 0)),
        })
    }

    /// Wraps a parsed policy with its scope and conditions, at most `depth` deep, for resources of a kind.
    pub(crate) fn of(
        policy: &Arc<StackSafe<PolicySet>>,
        conditions: &Value,
        kind: Kind,
        depth: usize,
    ) -> Self {
        Self {
            prefilter: StackSafe::new(Prefilter::compile(conditions, kind), depth),
            policy: Arc::clone(policy),
        }
    }

    /// Whether evaluating it needs extra stack.
    pub(crate) fn is_deep(&self) -> bool {
        self.prefilter.is_deep()
    }
}
