//! Random calls, grants and guardrails, over so few names that they often meet.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use qchost_catalog::by_name;
use qchost_policy::{Brokerage, Context, Facts, Project, Resource, Usd};

/// A grant, as the oracle of the tests reads it.
#[derive(Debug, Clone)]
pub struct Grant {
    pub allow: Vec<String>,
    pub projects: Vec<Scope>,
    /// The other scopes, by their key.
    pub scopes: Vec<(&'static str, Vec<String>)>,
    pub files: Option<Vec<String>>,
    pub max_cost: Option<u32>,
    pub max_parameters: Option<u32>,
}

#[derive(Debug, Clone)]
pub enum Scope {
    Id(u32),
    Name(String),
    Created,
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    pub operation: &'static str,
    pub facts: Facts,
}

/// Operations that together touch every kind of resource.
pub const OPERATIONS: &[&str] = &[
    "account/read-account",
    "backtests/create-backtest",
    "backtests/delete-backtest",
    "collaboration/create-project-collaborator",
    "files/patch-file",
    "files/read-file",
    "live-commands/broadcast-live-command",
    "live-commands/create-live-command",
    "live/create-live-algorithm",
    "live/list-live-algorithms",
    "live/stop-live-algorithm",
    "notifications/send-email-notification",
    "object-store/delete-object",
    "object-store/download",
    "object-store/list-object-store-files",
    "optimizations/create-optimization",
    "projects/create-project",
    "projects/list-projects",
];

/// Names of resources, some of them unusual.
pub fn thing() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(vec!["Lab/a", "Lab/b", "Lab/a/b", "Prod/x", "Lab", "lab/a"]).prop_map(str::to_owned),
        1 => select(vec!["a\"b", "a\\b", "\\", "*", "a*b", "\\*", "\"", "'", "ß/é", "実験", "a\nb", "\u{202e}", "%", "_", "?", "${x}"])
            .prop_map(str::to_owned),
        1 => "\\PC{1,8}",
    ]
}

/// Globs, many of which cover some of the names.
pub fn glob() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(vec!["Lab/*", "*", "Prod/*", "*/a", "L*b/*", "*a*", "Lab/a", "**"]).prop_map(str::to_owned),
        3 => thing(),
        1 => (thing(), thing()).prop_map(|(a, b)| format!("{a}*{b}")),
    ]
}

fn project() -> impl Strategy<Value = Project> {
    (
        proptest::option::weighted(0.8, 0u32..4),
        thing(),
        any::<bool>(),
    )
        .prop_map(|(id, name, created)| Project { id, name, created })
}

prop_compose! {
    fn context()(
        organization in thing(),
        file in thing(),
        profile in select(vec!["paper", "ib", "ib-2"]),
        live in any::<bool>(),
        texts in (thing(), thing(), thing(), thing()),
        cost in proptest::option::of(0u64..40),
        parameters in proptest::option::of(0u32..4),
    ) -> Context {
        let (provider, command, collaborator, recipient) = texts;
        Context {
            organization: Some(organization),
            file: Some(file),
            brokerage: Some(Brokerage { profile: profile.to_owned(), live }),
            data_provider: Some(provider),
            command: Some(command),
            collaborator: Some(collaborator),
            recipient: Some(recipient),
            cost: cost.map(|quarters| Usd(quarters * 2_500)),
            parameters,
            live,
            ..Context::default()
        }
    }
}

prop_compose! {
    /// A call with some or all of the facts that its operation can have.
    pub fn call()(
        operation in select(OPERATIONS.to_vec()),
        project in project(),
        all in context(),
        less in proptest::collection::vec(any::<bool>(), 9),
        whole in any::<bool>(),
    ) -> Call {
        let has = |what: &str| scopes(operation).contains(&what);
        let keep = |at: usize, what: &str| has(what) && !less[at];
        let organization = all.organization.clone().unwrap();
        let key = all.file.clone().unwrap();
        let listing = has("listing") && whole;
        let resource = if has("projects") && !listing {
            Resource::Project(project)
        } else if has("keys") && !listing {
            Resource::Object { organization, key }
        } else if operation == "live-commands/broadcast-live-command" {
            Resource::Organization(organization)
        } else {
            Resource::Account
        };
        let context = Context {
            organization: all.organization.filter(|_| keep(0, "organizations")),
            file: all.file.filter(|_| !less[1]),
            brokerage: all.brokerage.filter(|_| keep(2, "brokerages")),
            data_provider: all.data_provider.filter(|_| keep(3, "data-providers")),
            command: all.command.filter(|_| keep(4, "commands")),
            collaborator: all.collaborator.filter(|_| keep(5, "collaborators")),
            recipient: all.recipient.filter(|_| keep(8, "recipients")),
            cost: all.cost.filter(|_| !less[6]),
            parameters: all.parameters.filter(|_| !less[7]),
            ..all
        };
        Call { operation, facts: Facts { resource, context } }
    }
}

/// What an operation touches.
pub fn scopes(operation: &str) -> &'static [&'static str] {
    match operation {
        "account/read-account" => &[],
        "collaboration/create-project-collaborator" => &["projects", "collaborators"],
        "live-commands/broadcast-live-command" => &["organizations", "commands"],
        "live-commands/create-live-command" => &["projects", "commands"],
        "notifications/send-email-notification" => &["recipients"],
        "live/create-live-algorithm" => &["projects", "brokerages", "data-providers"],
        "projects/list-projects" | "live/list-live-algorithms" => &["projects", "listing"],
        "object-store/list-object-store-files" => &["keys", "organizations", "listing"],
        "object-store/delete-object" | "object-store/download" => &["keys", "organizations"],
        "projects/create-project" => &["projects", "organizations"],
        _ => &["projects"],
    }
}

prop_compose! {
    pub fn grant()(
        named in subsequence(OPERATIONS.to_vec(), 1..8),
        pattern in proptest::option::of(select(vec!["*", "backtests/*", "*/read-*", "projects/*", "object-store/*"])),
        projects in proptest::collection::vec(
            prop_oneof![
                1 => (0u32..4).prop_map(Scope::Id),
                3 => glob().prop_map(Scope::Name),
                1 => Just(Scope::Created),
            ],
            0..3,
        ),
        lists in proptest::collection::vec(proptest::collection::vec(glob(), 0..3), 6),
        profiles in proptest::collection::vec(select(vec!["paper", "*", "ib", "ib*"]), 0..3),
        files in proptest::option::weighted(0.2, proptest::collection::vec(glob(), 0..3)),
        max_cost in proptest::option::weighted(0.2, 0u32..10),
        max_parameters in proptest::option::weighted(0.2, 0u32..4),
    ) -> Grant {
        let keys = ["organizations", "keys", "data-providers", "commands", "collaborators", "recipients"];
        let mut scopes: Vec<_> = keys.into_iter().zip(lists).collect();
        scopes.push(("brokerages", profiles.into_iter().map(str::to_owned).collect()));
        let allow = named.into_iter().chain(pattern).map(str::to_owned).collect();
        Grant { allow, projects, scopes, files, max_cost, max_parameters }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// The grants in the form of a manifest.
pub fn text(grants: &[Grant]) -> String {
    let mut text = String::new();
    for (at, grant) in grants.iter().enumerate() {
        let projects: Vec<_> = grant
            .projects
            .iter()
            .map(|scope| match scope {
                Scope::Id(id) => id.to_string(),
                Scope::Name(name) => quoted(name),
                Scope::Created => "{ created = true }".to_owned(),
            })
            .collect();
        let allow = list(&grant.allow);
        let projects = projects.join(", ");
        writeln!(
            text,
            "[[grant]]\nname = \"g{at}\"\nallow = {allow}\nprojects = [{projects}]"
        )
        .unwrap();
        for (key, globs) in &grant.scopes {
            writeln!(text, "{key} = {}", list(globs)).unwrap();
        }
        if let Some(files) = &grant.files {
            writeln!(text, "files = {}", list(files)).unwrap();
        }
        if let Some(cost) = grant.max_cost {
            writeln!(text, "max-cost = {cost}").unwrap();
        }
        if let Some(count) = grant.max_parameters {
            writeln!(text, "max-parameters = {count}").unwrap();
        }
    }
    text
}

/// Whether a glob covers a text, by definition: tries every way to expand the stars.
pub fn reference(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for c in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = if c == '*' {
                row[at] || (at > 0 && next[at - 1])
            } else {
                at > 0 && row[at - 1] && text[at - 1] == c
            };
        }
        row = next;
    }
    row[text.len()]
}

/// Whether a grant covers a call, computed from the specification and not from the code under test.
pub fn oracle(grant: &Grant, call: &Call) -> bool {
    let any = |globs: &[String], text: &str| globs.iter().any(|glob| reference(glob, text));
    let scope = |key: &str| {
        let found = grant.scopes.iter().find(|(name, _)| *name == key);
        found.map(|(_, globs)| globs.as_slice()).unwrap()
    };
    let named = grant.allow.iter().any(|entry| entry == call.operation);
    let access = by_name(call.operation).map_or("read", |operation| operation.access.word());
    let patterns = grant.allow.iter().filter(|entry| entry.contains('*'));
    let by_pattern = !matches!(access, "destroy" | "trade")
        && !call.operation.starts_with("notifications/")
        && patterns
            .clone()
            .any(|pattern| reference(pattern, call.operation));
    let context = &call.facts.context;
    let resource = match &call.facts.resource {
        Resource::Project(project) => grant.projects.iter().any(|scope| match scope {
            Scope::Id(id) => project.id == Some(*id),
            Scope::Name(glob) => reference(glob, &project.name),
            Scope::Created => project.created && project.id.is_some(),
        }),
        Resource::Object { organization, key } => {
            any(scope("keys"), key) && any(scope("organizations"), organization)
        }
        Resource::Organization(id) => any(scope("organizations"), id),
        _ if scopes(call.operation).contains(&"projects") => !grant.projects.is_empty(),
        _ if scopes(call.operation).contains(&"keys") => !scope("keys").is_empty(),
        _ => true,
    };
    let brokerage = context.brokerage.as_ref().is_none_or(|brokerage| {
        scope("brokerages").iter().any(|glob| {
            reference(glob, &brokerage.profile) && (!brokerage.live || !glob.contains('*'))
        })
    });
    let rest = [
        ("organizations", &context.organization),
        ("data-providers", &context.data_provider),
        ("commands", &context.command),
        ("collaborators", &context.collaborator),
        ("recipients", &context.recipient),
    ];
    let rest = rest
        .into_iter()
        .all(|(key, value)| value.as_ref().is_none_or(|value| any(scope(key), value)));
    let file = match (&grant.files, &context.file) {
        (Some(globs), Some(file)) => any(globs, file),
        _ => true,
    };
    let cost = match (grant.max_cost, context.cost) {
        (Some(most), Some(cost)) => cost.0 <= u64::from(most) * 10_000,
        (Some(_), None) => call.operation != "optimizations/create-optimization",
        _ => true,
    };
    let few = match (grant.max_parameters, context.parameters) {
        (Some(most), Some(count)) => count <= most,
        _ => true,
    };
    (named || by_pattern) && resource && brokerage && rest && file && cost && few
}
