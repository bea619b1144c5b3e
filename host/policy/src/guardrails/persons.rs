//! What of a guardrail concerns people.

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use serde_json::Value;

use super::guardrail::names;
use crate::roles::{GROUP, Right};

/// Whether a guardrail explicitly concerns people.
pub(super) fn about_persons(policy: &Policy, conditions: &Value) -> bool {
    let of_person = |name: &str| matches!(name, "Person" | "Role");
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => false,
        PrincipalConstraint::Is(of) | PrincipalConstraint::IsIn(of, _) => of_person(of.basename()),
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) => {
            of_person(uid.type_name().basename())
        }
    };
    let action = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(uid) => is_of_persons(&uid),
        ActionConstraint::In(uids) => uids.iter().any(is_of_persons),
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => false,
        ResourceConstraint::Is(of) | ResourceConstraint::IsIn(of, _) => of.basename() == "Host",
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) => {
            uid.type_name().basename() == "Host"
        }
    };
    principal || action || resource || mentions_persons(conditions)
}

fn is_of_persons(action: &EntityUid) -> bool {
    let id: &str = action.id().as_ref();
    id == GROUP || id.starts_with("person/")
}

/// Whether a condition refers to attributes or entities of people.
fn mentions_persons(json: &Value) -> bool {
    match json {
        Value::Array(items) => items.iter().any(mentions_persons),
        Value::Object(members) => members.iter().any(|(key, value)| match value {
            Value::String(text) => match key.as_str() {
                "type" | "entity_type" => matches!(text.as_str(), "Person" | "Role" | "Host"),
                "attr" => matches!(text.as_str(), "uid" | "target"),
                _ => false,
            },
            other => mentions_persons(other),
        }),
        _ => false,
    }
}

/// What a guardrail about people covers without effect, by its actions and in words; `None` if nothing.
pub(super) fn ineffective(actions: &ActionConstraint) -> Option<String> {
    let (vain, limited): (Vec<&Right>, Vec<&Right>) = Right::ALL
        .iter()
        .filter(|right| names(actions, right.action(), &[GROUP]))
        .partition(|right| right.is_always_allowed());
    if vain.is_empty() {
        return None;
    }
    let words: Vec<_> = vain
        .into_iter()
        .map(|right| format!("`{}`", right.word()))
        .collect();
    let effect = match limited.is_empty() {
        true => "it limits persons in nothing",
        false => "it limits persons in the other verbs only",
    };
    Some(format!(
        "it covers {}, which no guardrail can deny to a person whose role allows it: {effect}",
        words.join(", ")
    ))
}
