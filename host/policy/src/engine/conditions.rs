//! Converts a grant to the conditions of a Cedar policy, in Cedar's JSON.
//!
//! Invariant: an empty scope covers nothing. If it is the scope of the resource, there is no
//! policy; if it is one of the context, the policy applies only to calls without such an attribute.

use qchost_catalog::RECYCLE_BIN;
use serde_json::{Value, json};

use super::actions::{Action, Kind};
use super::attributes::Bound;
use crate::glob::Glob;
use crate::grantable::RAW;
use crate::manifest::{Grant, HttpGrant, ProjectScope};

/// The conditions under which a grant allows an action on resources of a kind, or `None` if it
/// never does. The caller checks that the grant's patterns cover the action; `tools` are those that
/// a raw call may use.
pub(crate) fn grant_conditions(
    grant: &Grant,
    action: &Action,
    kind: Kind,
    tools: &[&str],
) -> Option<Value> {
    let mut all = Vec::new();
    match kind {
        Kind::Account => {}
        Kind::Organization => all.push(covered(&resource("id"), &grant.organizations)?),
        Kind::Project => all.push(projects(&grant.projects)?),
        Kind::Object => {
            all.push(covered(&resource("key"), &grant.keys)?);
            all.push(covered(&resource("organization"), &grant.organizations)?);
        }
        Kind::Url => return None,
    }
    match action.lists_beside(kind) {
        Some(Kind::Project) if grant.projects.is_empty() => return None,
        Some(Kind::Object) if grant.keys.is_empty() => return None,
        _ => {}
    }
    if !action.reaches(grant) {
        return None;
    }
    if action.name == RAW {
        let named = tools.iter().map(|tool| equals(context("tool"), tool));
        all.push(and(has("tool"), any(named)?));
    }
    for (attribute, has_it) in action.attributes.each() {
        let name = attribute.name;
        match attribute.bound {
            Bound::Scope(_, globs) if has_it => {
                all.push(absent_or(name, covered(&context(name), globs(grant))));
            }
            Bound::Profiles(_, globs) if has_it => {
                all.push(absent_or(name, brokerages(globs(grant))));
            }
            // A call without such an attribute passes; one that has it is denied before.
            Bound::Scope(..) | Bound::Profiles(..) | Bound::None => {}
            Bound::Patterns(_, globs) => {
                let globs = globs(grant).map(|globs| covered(&context(name), globs));
                all.extend(globs.map(|covered| absent_or(name, covered)));
            }
            Bound::Maximum(_, maximum) => all.extend(maximum(grant).map(|maximum| {
                let right = json!({ "Value": maximum });
                let within_limit = json!({ "<=": { "left": context(name), "right": right } });
                absent_or(name, Some(within_limit))
            })),
            Bound::Amount(_, maximum, budget) => {
                let within_limit = maximum(grant).map(|maximum| {
                    let maximum = json!({ "decimal": [{ "Value": maximum.decimal() }] });
                    json!({ "lessThanOrEqual": [context(name), maximum] })
                });
                match (has_it, within_limit) {
                    (true, Some(within_limit)) => all.push(and(has(name), within_limit)),
                    (true, None) => all.extend(budget(grant).map(|_| has(name))),
                    (false, within_limit) => all.extend(
                        within_limit.map(|within_limit| absent_or(name, Some(within_limit))),
                    ),
                }
            }
        }
    }
    Some(when(all))
}

/// The conditions under which an `[[http]]` allows a request.
pub(crate) fn http_conditions(grant: &HttpGrant) -> Option<Value> {
    let methods = any(grant
        .methods
        .iter()
        .map(|method| equals(resource("method"), method)))?;
    let prefix = &grant.url;
    let path = resource("path");
    let mut below = vec![json!({ "Literal": prefix.path }), json!("Wildcard")];
    let mut paths = Vec::new();
    if !prefix.path.ends_with('/') {
        // `/qc` itself is covered, and everything below it.
        paths.push(equals(path.clone(), &prefix.path));
        below.insert(1, json!({ "Literal": "/" }));
    }
    paths.push(json!({ "like": { "left": path, "pattern": below } }));
    Some(when(vec![
        equals(resource("host"), &prefix.host),
        any(paths)?,
        equals(resource("scheme"), &prefix.scheme),
        json!({ "==": { "left": resource("port"), "right": { "Value": prefix.port } } }),
        methods,
    ]))
}

fn projects(scopes: &[ProjectScope]) -> Option<Value> {
    let known = json!({ "has": { "left": { "Var": "resource" }, "attr": "id" } });
    let condition = |scope: &ProjectScope| match scope {
        ProjectScope::Id(id) => and(
            known.clone(),
            json!({ "==": { "left": resource("id"), "right": { "Value": id } } }),
        ),
        ProjectScope::Name(glob) => like(resource("name"), glob),
        ProjectScope::Created => and(known.clone(), resource("created")),
    };
    let (named, others): (Vec<_>, Vec<_>) = scopes.iter().partition(|scope| scope.names_in_full());
    let named = any(named.into_iter().map(condition));
    let others = any(others.into_iter().map(condition));
    let others = others.map(|others| and(not(deleted()), others));
    any(named.into_iter().chain(others))
}

/// A star covers paper profiles only: real money has to be granted by name.
fn brokerages(globs: &[Glob]) -> Option<Value> {
    let part = |attr: &str| json!({ ".": { "left": context("brokerage"), "attr": attr } });
    any(globs.iter().map(|glob| {
        let named = like(part("profile"), glob);
        if glob.names_in_full() {
            named
        } else {
            and(named, not(part("live")))
        }
    }))
}

/// Whether the project is a deleted one, which is covered only by its name in full.
fn deleted() -> Value {
    let pattern = json!([{ "Literal": RECYCLE_BIN }, "Wildcard"]);
    json!({ "like": { "left": resource("name"), "pattern": pattern } })
}

fn covered(value: &Value, globs: &[Glob]) -> Option<Value> {
    any(globs.iter().map(|glob| like(value.clone(), glob)))
}

fn like(value: Value, glob: &Glob) -> Value {
    json!({ "like": { "left": value, "pattern": glob.pattern() } })
}

fn equals(value: Value, text: &str) -> Value {
    json!({ "==": { "left": value, "right": { "Value": text } } })
}

fn absent_or(name: &str, condition: Option<Value>) -> Value {
    let absent = not(has(name));
    match condition {
        Some(condition) => json!({ "||": { "left": absent, "right": condition } }),
        None => absent,
    }
}

fn not(condition: Value) -> Value {
    json!({ "!": { "arg": condition } })
}

fn and(left: Value, right: Value) -> Value {
    json!({ "&&": { "left": left, "right": right } })
}

/// A disjunction as a tree that is as flat as possible, since Cedar evaluates by recursion.
fn any(conditions: impl IntoIterator<Item = Value>) -> Option<Value> {
    let mut row: Vec<Value> = conditions.into_iter().collect();
    while row.len() > 1 {
        let mut next = Vec::with_capacity(row.len().div_ceil(2));
        let mut pairs = row.into_iter();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => json!({ "||": { "left": left, "right": right } }),
                None => left,
            });
        }
        row = next;
    }
    row.pop()
}

fn when(conditions: Vec<Value>) -> Value {
    conditions
        .into_iter()
        .map(|body| json!({ "kind": "when", "body": body }))
        .collect()
}

fn context(name: &str) -> Value {
    json!({ ".": { "left": { "Var": "context" }, "attr": name } })
}

fn resource(name: &str) -> Value {
    json!({ ".": { "left": { "Var": "resource" }, "attr": name } })
}

fn has(name: &str) -> Value {
    json!({ "has": { "left": { "Var": "context" }, "attr": name } })
}
