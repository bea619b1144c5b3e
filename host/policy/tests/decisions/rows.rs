//! Rows of decisions, and how they are checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qchost_catalog::{Access, by_name};
use qchost_policy::{
    Authority, Brokerage, Context, Facts, Guardrails, Manifest, Project, Resource,
};

/// A call and its expected decision.
pub struct Row {
    operation: String,
    facts: Facts,
    expected: Expected,
}

enum Expected {
    Allowed(Vec<String>),
    Denied(String),
    Forbidden(Vec<String>),
}

/// Allowed by exactly these grants.
pub fn allowed(operation: &str, facts: Facts, grants: &[&str]) -> Row {
    let grants = grants.iter().map(ToString::to_string).collect();
    Row::new(operation, facts, Expected::Allowed(grants))
}

/// Denied with a reason that contains this text.
pub fn denied(operation: &str, facts: Facts, reason: &str) -> Row {
    Row::new(operation, facts, Expected::Denied(reason.to_owned()))
}

/// Denied by exactly these guardrails.
pub fn forbidden(operation: &str, facts: Facts, guardrails: &[&str]) -> Row {
    let guardrails = guardrails.iter().map(ToString::to_string).collect();
    Row::new(operation, facts, Expected::Forbidden(guardrails))
}

impl Row {
    fn new(operation: &str, facts: Facts, expected: Expected) -> Self {
        Self {
            operation: operation.to_owned(),
            facts,
            expected,
        }
    }
}

/// A manifest of the plugin `plugin` of the account `research`.
pub fn manifest(grants: &str) -> Manifest {
    let head = "plugin = \"plugin\"\ncomponent = \"p.wasm\"\naccount = \"research\"\negress = \"licensed\"\n";
    let text = format!("{head}{grants}");
    Manifest::parse(&text, Path::new("plugin.toml"))
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn guardrails(texts: &[&str]) -> Guardrails {
    let files: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| {
            (
                PathBuf::from(format!("rails-{at}.cedar")),
                (*text).to_owned(),
            )
        })
        .collect();
    Guardrails::read(&files).unwrap_or_else(|error| panic!("{error}"))
}

pub fn authority(grants: &str, texts: &[&str]) -> Authority {
    Authority::new(Arc::new(manifest(grants)), &guardrails(texts)).unwrap()
}

/// The class of an operation, as the gate passes it.
pub fn access(operation: &str) -> Access {
    match by_name(operation) {
        Some(known) => known.access,
        None if operation.starts_with("raw/") => Access::Trade,
        None => Access::Read,
    }
}

/// Checks every row. Also checks that the lines which a denial proposes allow the call.
pub fn check(grants: &str, texts: &[&str], rows: &[Row]) {
    let authority = authority(grants, texts);
    for Row {
        operation,
        facts,
        expected,
    } in rows
    {
        let decision = authority.decide("sha256:00", operation, access(operation), facts);
        let what = format!("{operation} on {facts:?} under {grants} and {texts:?}: {decision:#?}");
        let names: Vec<_> = decision
            .grants
            .iter()
            .map(|at| match operation.as_str() {
                "http/request" => authority.manifest().http[*at].name.clone(),
                _ => authority.manifest().grants[*at].name.clone(),
            })
            .collect();
        match expected {
            Expected::Allowed(grants) => {
                assert!(decision.allowed && decision.denial.is_none(), "{what}");
                assert!(decision.guardrails.is_empty(), "{what}");
                assert_eq!(&names, grants, "{what}");
            }
            Expected::Denied(reason) => {
                assert!(!decision.allowed, "{what}");
                let denial = decision.denial.as_ref().expect("a denial");
                assert!(denial.reason.contains(reason), "{reason}: {what}");
                if let Some(remedy) = &denial.remedy {
                    let more = format!("{grants}\n{remedy}");
                    let healed = self::authority(&more, texts);
                    let again = healed.decide("sha256:00", operation, access(operation), facts);
                    assert!(
                        again.allowed,
                        "its own remedy does not help: {more}\n{what}"
                    );
                }
            }
            Expected::Forbidden(guardrails) => {
                assert!(!decision.allowed, "{what}");
                assert_eq!(&decision.guardrails, guardrails, "{what}");
                let denial = decision.denial.as_ref().expect("a denial");
                assert!(denial.reason.contains(&guardrails[0]), "{what}");
                assert!(denial.remedy.is_none(), "{what}");
            }
        }
    }
}

pub fn project(id: u32, name: &str) -> Facts {
    Facts::of(Resource::Project(Project {
        id: Some(id),
        name: name.to_owned(),
        created: false,
    }))
}

/// The name of a project that does not exist yet.
pub fn named(name: &str) -> Facts {
    Facts::of(Resource::Project(Project {
        id: None,
        name: name.to_owned(),
        created: false,
    }))
}

pub fn object(organization: &str, key: &str) -> Facts {
    Facts::of(Resource::Object {
        organization: organization.to_owned(),
        key: key.to_owned(),
    })
}

pub fn organization(id: &str) -> Facts {
    Facts::of(Resource::Organization(id.to_owned()))
}

pub fn http(method: &str, scheme: &str, host: &str, port: u16, path: &str) -> Facts {
    Facts::of(Resource::Url {
        scheme: scheme.to_owned(),
        host: host.to_owned(),
        port,
        path: path.to_owned(),
        method: method.to_owned(),
    })
}

/// A project that this plugin created.
pub fn own(id: u32, name: &str) -> Facts {
    let mut facts = project(id, name);
    if let Resource::Project(project) = &mut facts.resource {
        project.created = true;
    }
    facts
}

/// The same facts with another context.
pub fn with(facts: Facts, change: impl FnOnce(&mut Context)) -> Facts {
    let mut facts = facts;
    change(&mut facts.context);
    facts
}

/// A deployment of a project in the folder `Lab`.
pub fn deploy(profile: &str, live: bool) -> Facts {
    with(project(12, "Lab/x"), |context| {
        context.live = live;
        context.brokerage = Some(Brokerage {
            profile: profile.to_owned(),
            live,
        });
    })
}
