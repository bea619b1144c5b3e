//! One guardrail, ready to be evaluated.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint};

use crate::engine::{Compiled, Kind, StackSafe};

/// A single forbidding policy.
#[derive(Debug, Clone)]
pub(crate) struct Guardrail {
    /// Its `@id`, or its file and line: `trading.cedar:12`.
    pub(crate) id: String,
    /// Where it begins: `trading.cedar:12`.
    pub(crate) at: String,
    /// The policy, in a set of its own.
    pub(super) policy: Arc<StackSafe<PolicySet>>,
    /// Its original text.
    pub(crate) text: String,
    /// Its meaning, independent of its id and layout.
    pub(super) shape: String,
    /// The plugins it concerns.
    pub(super) plugins: Plugins,
    /// Whether it explicitly concerns people.
    pub(crate) is_about_persons: bool,
    /// Whether it asks for evidence about the project.
    pub(crate) asks_evidence: bool,
    /// What it covers without effect, in words.
    pub(super) ineffective: Option<String>,
    /// The remaining conditions, for each action and kind of resource that it may apply to.
    pub(super) slices: HashMap<(usize, Kind), Arc<Compiled>>,
}

/// The plugins named in the scope of a guardrail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plugins {
    All,
    None,
    Only(String),
}

impl Guardrail {
    /// The conditions to evaluate when a plugin of this name does this on a resource of this kind.
    pub(crate) fn applies(
        &self,
        plugin: &str,
        action: usize,
        kind: Kind,
    ) -> Option<&Arc<Compiled>> {
        let concerns = match &self.plugins {
            Plugins::All => true,
            Plugins::None => false,
            Plugins::Only(name) => name == plugin,
        };
        concerns.then(|| self.slices.get(&(action, kind))).flatten()
    }

    /// Whether it concerns any call of a plugin.
    pub(super) fn concerns_plugins(&self) -> bool {
        self.plugins != Plugins::None && !self.slices.is_empty()
    }

    /// The policy. Use it with enough stack.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.policy.policies().next()
    }

    /// Whether it is deep, and with it every policy set that contains it.
    pub(crate) fn is_deep(&self) -> bool {
        self.policy.is_deep()
    }
}

impl Plugins {
    pub(super) fn of(constraint: &PrincipalConstraint) -> Self {
        match constraint {
            PrincipalConstraint::Any => Self::All,
            PrincipalConstraint::Is(of) if of.basename() == "Plugin" => Self::All,
            PrincipalConstraint::Is(_) => Self::None,
            // A plugin is in no group, so it is only in itself.
            PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::In(uid)
            | PrincipalConstraint::IsIn(_, uid) => {
                let id: &str = uid.id().as_ref();
                match uid.type_name().basename() {
                    "Plugin" => Self::Only(id.to_owned()),
                    _ => Self::None,
                }
            }
        }
    }
}

/// Whether the scope of a policy includes an action of this name and these groups.
pub(super) fn names(constraint: &ActionConstraint, name: &str, groups: &[&str]) -> bool {
    let names = |uid: &EntityUid| {
        let id: &str = uid.id().as_ref();
        id == name || groups.contains(&id)
    };
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => {
            let id: &str = uid.id().as_ref();
            id == name
        }
        ActionConstraint::In(uids) => uids.iter().any(names),
    }
}
