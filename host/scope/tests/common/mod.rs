//! A server that is as lenient as possible: it coerces numbers, accepts arguments in a wrapper or in another
//! spelling, finds a backtest regardless of the project given, and normalises paths. Everything out of scope
//! carries `SECRET` in all answers about it, and each call returns what it touched; tests compare both with
//! what was allowed.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use qchost_catalog::{Operation, by_name};
use qchost_policy::{Facts, Resource, Usd};
use qchost_scope::{Configured, Learned, Scope, ScopeError, Touched};
use serde_json::{Map, Value};

pub use world::{Effect, ORGANIZATION, World};

pub const ACCOUNT: &str = "research";
pub const PLUGIN: &str = "lab";

/// A project in scope, and one out of scope.
pub const MINE: u32 = 11;
pub const OTHER: u32 = 22;

/// An operation by the name of its tool.
pub fn operation(name: &str) -> &'static Operation {
    by_name(name).unwrap_or_else(|| panic!("no operation {name}"))
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

pub fn scope() -> Scope {
    Scope::new()
}

static NODE_PRICES: LazyLock<BTreeMap<String, Usd>> =
    LazyLock::new(|| BTreeMap::from([("O2-8".to_owned(), Usd(150_000))]));

static NODE_MAXIMA: LazyLock<BTreeMap<String, u32>> =
    LazyLock::new(|| BTreeMap::from([("O2-8".to_owned(), 24)]));

/// Profiles of both kinds, and price and maximum of one node type.
pub fn configured() -> Configured<'static> {
    Configured {
        live_profile: &|profile| match profile {
            "paper" | "data" => Some(false),
            "broker" => Some(true),
            _ => None,
        },
        node_prices: &NODE_PRICES,
        node_maxima: &NODE_MAXIMA,
    }
}

/// The projects `Lab/*`, their files `notes/*`, the keys `lab/*` and `shared`.
pub fn allowed(facts: &Facts) -> bool {
    let resource = match &facts.resource {
        Resource::Account => true,
        Resource::Project(project) => project.name.starts_with("Lab/"),
        Resource::Object { organization, key } => {
            organization == ORGANIZATION && (key.starts_with("lab/") || key == "shared")
        }
        Resource::Organization(_) | Resource::Url { .. } => false,
    };
    let file = facts.context.file.as_ref();
    resource && file.is_none_or(|file| file.starts_with("notes/"))
}

/// The outcome of a call.
#[derive(Debug)]
pub enum Ended {
    Refused(ScopeError),
    NotAllowed,
    /// Sent: what it touched, and the answer as the plugin sees it.
    Sent(Vec<Effect>, Result<(Value, Learned), ScopeError>),
}

/// Makes a call as the gate does: resolves it, decides, sends it and checks the answer.
pub async fn call(
    scope: &Scope,
    world: &World,
    operation: &'static Operation,
    arguments: &Map<String, Value>,
    allowed: &(dyn Fn(&Facts) -> bool + Send + Sync),
) -> Ended {
    let touched = match resolve(scope, world, operation, arguments).await {
        Ok(touched) => touched,
        Err(error) => return Ended::Refused(error),
    };
    assert!(
        !touched.facts.is_empty(),
        "{} touches nothing",
        operation.name
    );
    if !touched.facts.iter().all(allowed) {
        return Ended::NotAllowed;
    }
    let (effects, outcome) = world.execute(operation, arguments);
    let answer = match outcome {
        Ok(body) => {
            scope
                .answer(world, ACCOUNT, PLUGIN, operation, &touched, body, allowed)
                .await
        }
        Err(failure) => Err(ScopeError::Failed(failure)),
    };
    Ended::Sent(effects, answer)
}

pub async fn resolve(
    scope: &Scope,
    world: &World,
    operation: &'static Operation,
    arguments: &Map<String, Value>,
) -> Result<Touched, ScopeError> {
    scope
        .resolve(world, configured(), ACCOUNT, PLUGIN, operation, arguments)
        .await
}

/// Resolves a call by name.
pub async fn touch(
    scope: &Scope,
    world: &World,
    name: &str,
    arguments: Value,
) -> Result<Touched, ScopeError> {
    resolve(scope, world, operation(name), &object(arguments)).await
}

/// The answer to an allowed call.
pub async fn answered(
    scope: &Scope,
    world: &World,
    name: &str,
    arguments: Value,
) -> Result<(Value, Learned), ScopeError> {
    match call(scope, world, operation(name), &object(arguments), &allowed).await {
        Ended::Sent(_, answer) => answer,
        Ended::Refused(error) => Err(error),
        Ended::NotAllowed => panic!("{name} is not allowed"),
    }
}
