//! Comparisons of the bounds of grants.
//!
//! Invariant: what cannot be proven to be within is not within.

use qchost_catalog::is_deleted_project;

use crate::glob::Glob;
use crate::manifest::{BROKERAGES, Grant, HttpGrant, Prefix, ProjectScope};

/// Whether one bound is no larger; `None` means unbounded.
pub(super) fn at_most<T: Ord>(one: Option<T>, other: Option<T>) -> bool {
    match (one, other) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(one), Some(other)) => one <= other,
    }
}

/// Whether the other glob covers everything that the one does: a star matches a star like any character.
pub(super) fn glob_within(one: &Glob, other: &Glob) -> bool {
    one == other || other.matches(one.as_str())
}

/// How the patterns of a scope are compared.
pub(super) fn scope_within(key: &str) -> fn(&Glob, &Glob) -> bool {
    match key {
        BROKERAGES => brokerage_within,
        _ => glob_within,
    }
}

/// A star covers paper profiles only, so it is not wider than a name.
fn brokerage_within(one: &Glob, other: &Glob) -> bool {
    one == other || (!one.names_in_full() && !other.names_in_full() && glob_within(one, other))
}

pub(super) fn project_within(one: &ProjectScope, other: &ProjectScope) -> bool {
    match (one, other) {
        // A pattern covers no deleted project, so it is not wider than the name of one.
        (ProjectScope::Name(one), ProjectScope::Name(other))
            if is_deleted_project(one.as_str()) && one.names_in_full() =>
        {
            one == other
        }
        (ProjectScope::Name(one), ProjectScope::Name(other)) => glob_within(one, other),
        (_, ProjectScope::Name(other)) => other.as_str().bytes().all(|b| b == b'*'),
        (one, other) => one == other,
    }
}

/// Whether two grants are the same but for their names.
pub(super) fn is_same(one: &Grant, other: &Grant) -> bool {
    // Lists every field, so that a new one has to be considered here and in `within`.
    let Grant {
        name: _,
        allow,
        projects,
        organizations,
        keys,
        brokerages,
        data_providers,
        commands,
        collaborators,
        recipients,
        files,
        charts,
        nodes,
        max_cost,
        max_parameters,
        limits,
        approval,
    } = one;
    *allow == other.allow
        && *projects == other.projects
        && *organizations == other.organizations
        && *keys == other.keys
        && *brokerages == other.brokerages
        && *data_providers == other.data_providers
        && *commands == other.commands
        && *collaborators == other.collaborators
        && *recipients == other.recipients
        && *files == other.files
        && *charts == other.charts
        && *nodes == other.nodes
        && *max_cost == other.max_cost
        && *max_parameters == other.max_parameters
        && *limits == other.limits
        && *approval == other.approval
}

/// Whether one request may be covered by both.
pub(super) fn is_beside(one: &HttpGrant, other: &HttpGrant) -> bool {
    prefix_within(&one.url, &other.url) || prefix_within(&other.url, &one.url)
}

pub(super) fn prefix_within(one: &Prefix, other: &Prefix) -> bool {
    let below = one.path.strip_prefix(&other.path);
    let below = below
        .is_some_and(|rest| rest.is_empty() || other.path.ends_with('/') || rest.starts_with('/'));
    (&one.scheme, &one.host, one.port) == (&other.scheme, &other.host, other.port) && below
}
