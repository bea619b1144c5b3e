//! Properties of all manifests, guardrails and calls.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression,
    Schema,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use qchost_catalog::Access;
use qchost_policy::{
    Authority, Decision, Difference, Facts, Grant, Guardrails, Manifest, Resource, cedar_schema,
};

use crate::generate::{Call, call, glob, grant, oracle, reference, text, thing};
use crate::rows::{access, authority, manifest, project};

fn decide(grants: &str, rails: &[&str], call: &Call) -> Decision {
    authority(grants, rails).decide(
        "sha256:00",
        call.operation,
        access(call.operation),
        &call.facts,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_grants_that_count_are_those_that_cover_the_call(grants in vec(grant(), 0..5), call in call()) {
        let decision = decide(&text(&grants), &[], &call);
        let expected: Vec<_> = (0..grants.len()).filter(|at| oracle(&grants[*at], &call)).collect();
        prop_assert_eq!(decision.allowed, !expected.is_empty());
        prop_assert_eq!(decision.denial.is_none(), decision.allowed);
        if let Some(denial) = &decision.denial {
            prop_assert!(!denial.reason.ends_with("but not "), "{}", denial.reason);
        }
        prop_assert_eq!(decision.grants, expected);
    }

    #[test]
    fn adding_a_grant_never_denies(grants in vec(grant(), 0..4), more in grant(), call in call(), rail in rail()) {
        let mut grants = grants;
        let rails: &[&str] = if Guardrails::read(&[(PathBuf::from("a"), rail.clone())]).is_ok() { &[&rail] } else { &[] };
        let before = decide(&text(&grants), rails, &call);
        grants.push(more);
        let after = decide(&text(&grants), rails, &call);
        prop_assert!(after.allowed || !before.allowed);
        prop_assert!(before.grants.iter().all(|grant| after.grants.contains(grant)));
    }

    #[test]
    fn a_forbid_that_matches_always_denies(grants in vec(grant(), 0..4), call in call(), form in 0usize..6) {
        let (operation, class) = (call.operation, access(call.operation).word());
        let room = operation.split('/').next().unwrap();
        let kind = match &call.facts.resource {
            Resource::Account => "Account",
            Resource::Organization(_) => "Organization",
            Resource::Project(_) => "Project",
            Resource::Object { .. } => "Object",
            Resource::Url { .. } => "Url",
        };
        let forbid = match form {
            0 => "forbid (principal, action, resource);".to_owned(),
            1 => "forbid (principal == Plugin::\"plugin\", action, resource);".to_owned(),
            2 => format!("forbid (principal, action == Action::\"{operation}\", resource is {kind});"),
            3 => format!("forbid (principal, action in Action::\"{class}\", resource);"),
            4 => format!("forbid (principal, action in [Action::\"{room}\"], resource) when {{ principal.account == \"research\" }};"),
            _ => format!("forbid (principal is Plugin, action, resource is {kind}) unless {{ principal.digest like \"*1*\" }};"),
        };
        let rail = format!("@id(\"the-one\")\n{forbid}");
        let decision = decide(&text(&grants), &[&rail], &call);
        prop_assert!(!decision.allowed);
        prop_assert_eq!(decision.guardrails, ["the-one"]);
    }

    #[test]
    fn an_empty_manifest_allows_nothing(call in call()) {
        let decision = decide("", &[], &call);
        prop_assert!(!decision.allowed && decision.grants.is_empty() && decision.denial.is_some());
    }

    #[test]
    fn a_remedy_helps(grants in vec(grant(), 0..4), call in call()) {
        let manifest = text(&grants);
        let decision = decide(&manifest, &[], &call);
        if let Some(remedy) = decision.denial.and_then(|denial| denial.remedy) {
            let healed = decide(&format!("{manifest}\n{remedy}"), &[], &call);
            prop_assert!(healed.allowed, "{remedy}\n{:?}", healed.denial);
            prop_assert_eq!(healed.grants, [grants.len()]);
        }
    }

    #[test]
    fn what_does_not_widen_allows_no_more_and_limits_no_less(
        former in vec(bound_grant(), 0..4), edits in vec(edit(), 0..4), calls in vec(call(), 1..6),
    ) {
        let mut now = former.clone();
        for edit in edits {
            edit.apply(&mut now);
        }
        let (former, now) = (manifest(&bound_text(&former)), manifest(&bound_text(&now)));
        let difference = Difference::between(Some(&former), Some(&now));
        let authority = |manifest: &Manifest| Authority::new(Arc::new(manifest.clone()), &Guardrails::none()).unwrap();
        let (before, after) = (authority(&former), authority(&now));
        let decide = |authority: &Authority, call: &Call| {
            let decision = authority.decide("sha256:00", call.operation, access(call.operation), &call.facts);
            let grants: Vec<Grant> = decision.grants.iter().map(|at| authority.manifest().grants[*at].clone()).collect();
            (decision.allowed, grants)
        };
        let guarded = |call: &Call| matches!(access(call.operation), Access::Trade | Access::Destroy);
        let unsaid = |call: &Call| {
            let gained = difference.gains().contains(call.operation);
            !difference.widens() || (guarded(call) && !gained)
        };
        let mut held: Vec<(&Call, Vec<Grant>, Vec<Grant>)> = Vec::new();
        for call in calls.iter().filter(|call| unsaid(call)) {
            let (allowed_before, old) = decide(&before, call);
            let (allowed_after, new) = decide(&after, call);
            if !allowed_after {
                continue;
            }
            prop_assert!(allowed_before, "{:?} is allowed now: {:?}", call, difference);
            let approval = |grants: &[Grant]| grants.iter().map(|grant| grant.approval).max();
            prop_assert!(approval(&new) >= approval(&old), "{:?} takes no approval: {:?}", call, difference);
            held.push((call, old, new));
        }
        // Calls that shared one counter still share one, and its limit has not grown.
        for (_, old, _) in &held {
            for grant in old.iter().filter(|grant| grant.limits.per_day.is_some()) {
                let under = |grants: &[Grant]| grants.iter().any(|other| other.name == grant.name);
                let together: Vec<_> = held.iter().filter(|(_, old, _)| under(old)).collect();
                let counts = |successor: &Grant| successor.limits.per_day.is_some_and(|limit| Some(limit) <= grant.limits.per_day);
                let (_, _, first) = together[0];
                let one = first.iter().filter(|successor| counts(successor)).any(|successor| {
                    together.iter().all(|(_, _, new)| new.iter().any(|other| other.name == successor.name))
                });
                prop_assert!(one, "{} limits less: {:?}", grant.name, difference);
            }
        }
    }

    #[test]
    fn globs_match_by_the_book(pattern in glob(), name in thing(), other in "\\PC{0,6}") {
        let quoted = toml::Value::String(pattern.clone()).to_string();
        let manifest = format!("[[grant]]\nname = \"g\"\nallow = [\"files/read-file\"]\nprojects = [{quoted}]\n");
        let authority = authority(&manifest, &[]);
        // The pattern itself is also a name, so every star may match a star.
        for name in [name, other, pattern.clone(), pattern.replace('*', "")] {
            let decision = authority.decide("", "files/read-file", access("files/read-file"), &project(1, &name));
            prop_assert_eq!(decision.allowed, reference(&pattern, &name), "{:?} on {:?}", pattern, name);
        }
    }

    #[test]
    fn slices_decide_what_cedar_decides_on_the_whole(rails in vec(rail(), 1..5), call in call()) {
        let files: Vec<_> = rails.into_iter().enumerate().map(|(at, text)| (PathBuf::from(at.to_string()), text)).collect();
        let rails: Vec<_> = files.into_iter().filter(|file| Guardrails::read(std::slice::from_ref(file)).is_ok()).collect();
        let texts: Vec<_> = rails.iter().map(|(_, text)| text.as_str()).collect();
        let call = possible(call);
        let operation = call.operation;
        let scopes: String = ["projects", "organizations", "keys", "data-providers", "commands", "collaborators", "recipients"]
            .map(|scope| format!("{scope} = [\"*\"]\n"))
            .concat();
        let everything = format!("[[grant]]\nname = \"g\"\nallow = [\"{operation}\"]\nbrokerages = [\"paper\", \"ib\", \"ib-2\"]\n{scopes}");
        let decision = decide(&everything, &texts, &call);
        let whole = cedar(&texts, &call);
        prop_assert_eq!(decision.guardrails.len(), whole, "{:?} under {:?}", decision, texts);
        prop_assert_eq!(decision.allowed, whole == 0);
    }
}

/// A grant with its obligations, as the manifest writes it.
type Bound = (crate::generate::Grant, bool, Option<u32>);

fn bound_grant() -> impl Strategy<Value = Bound> {
    (grant(), any::<bool>(), proptest::option::of(1u32..4))
}

fn bound_text(grants: &[Bound]) -> String {
    let plain: Vec<_> = grants.iter().map(|(grant, ..)| grant.clone()).collect();
    let mut text = text(&plain);
    // From the end, so that the positions of the others stay valid.
    for (at, (_, asks, per_day)) in grants.iter().enumerate().rev() {
        let head = format!("name = \"g{at}\"\n");
        let place = text.find(&head).unwrap() + head.len();
        if *asks {
            text.insert_str(place, "approval = \"operator\"\n");
        }
        if let Some(per_day) = per_day {
            text.insert_str(place, &format!("limits = {{ per-day = {per_day} }}\n"));
        }
    }
    text
}

/// Edits that an operator may make. Most of them narrow the manifest, so that narrowing is tested often.
#[derive(Debug, Clone)]
enum Edit {
    Remove(usize),
    Add(Bound),
    Swap(usize),
    Drop(usize, usize),
    Approval(usize, bool),
    PerDay(usize, Option<u32>),
    Project(usize, String),
    Split(usize),
    Parameters(usize, u32),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = 0usize..4;
    prop_oneof![
        2 => at.clone().prop_map(Edit::Remove),
        1 => bound_grant().prop_map(Edit::Add),
        1 => at.clone().prop_map(Edit::Swap),
        3 => (at.clone(), 0usize..8).prop_map(|(at, one)| Edit::Drop(at, one)),
        2 => (at.clone(), any::<bool>()).prop_map(|(at, asks)| Edit::Approval(at, asks)),
        2 => (at.clone(), proptest::option::of(1u32..4)).prop_map(|(at, limit)| Edit::PerDay(at, limit)),
        2 => (at.clone(), glob()).prop_map(|(at, glob)| Edit::Project(at, glob)),
        1 => at.clone().prop_map(Edit::Split),
        1 => (at, 0u32..4).prop_map(|(at, count)| Edit::Parameters(at, count)),
    ]
}

impl Edit {
    fn apply(self, grants: &mut Vec<Bound>) {
        let (Self::Remove(at)
        | Self::Swap(at)
        | Self::Drop(at, _)
        | Self::Approval(at, _)
        | Self::PerDay(at, _)
        | Self::Project(at, _)
        | Self::Split(at)
        | Self::Parameters(at, _)) = &self
        else {
            if let Self::Add(grant) = self {
                grants.push(grant);
            }
            return;
        };
        let at = *at;
        let Some(bound) = grants.get_mut(at) else {
            return;
        };
        match self {
            Self::Remove(_) => drop(grants.remove(at)),
            Self::Swap(_) => grants.swap(at, 0),
            Self::Drop(_, one) if one < bound.0.allow.len() && bound.0.allow.len() > 1 => {
                bound.0.allow.remove(one);
            }
            Self::Drop(..) => {
                bound.0.projects.pop();
            }
            Self::Approval(_, asks) => bound.1 = asks,
            Self::PerDay(_, limit) => bound.2 = limit,
            Self::Project(_, glob) => bound.0.projects = vec![crate::generate::Scope::Name(glob)],
            Self::Parameters(_, count) => bound.0.max_parameters = Some(count),
            Self::Split(_) => {
                let mut other = bound.clone();
                if let Some(last) = bound.0.allow.pop().filter(|_| !bound.0.allow.is_empty()) {
                    other.0.allow = vec![last];
                    grants.push(other);
                } else {
                    *bound = other;
                }
            }
            Self::Add(_) => {}
        }
    }
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| cedar_schema().parse().unwrap());

fn uid(of: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.parse().unwrap(), cedar_policy::EntityId::new(id))
}

/// The call without the facts that the context of its operation cannot have.
fn possible(mut call: Call) -> Call {
    let action = uid("Action", call.operation);
    let has = |name: &str, value: RestrictedExpression| {
        let live = RestrictedExpression::new_bool(false);
        let pairs = [("live".to_owned(), live), (name.to_owned(), value)];
        let context = Context::from_pairs(pairs).unwrap();
        context.validate(&SCHEMA, &action).is_ok()
    };
    let text = || RestrictedExpression::new_string(String::new());
    let context = &mut call.facts.context;
    for (name, value) in [
        ("organization", &mut context.organization),
        ("file", &mut context.file),
        ("data_provider", &mut context.data_provider),
        ("command", &mut context.command),
        ("collaborator", &mut context.collaborator),
        ("recipient", &mut context.recipient),
    ] {
        value.take_if(|_| !has(name, text()));
    }
    let count = RestrictedExpression::new_long(1);
    context.parameters.take_if(|_| !has("parameters", count));
    let cost = RestrictedExpression::new_decimal("1.0000");
    context.cost.take_if(|_| !has("cost", cost));
    let brokerage = RestrictedExpression::new_record([
        ("profile".to_owned(), text()),
        ("live".to_owned(), RestrictedExpression::new_bool(false)),
    ]);
    context
        .brokerage
        .take_if(|_| !has("brokerage", brokerage.unwrap()));
    call
}

/// The number of these policies that forbid the call by Cedar's own authoriser, evaluating all of them.
fn cedar(rails: &[&str], call: &Call) -> usize {
    let forbids = rails.concat();
    let set: PolicySet = forbids.parse().unwrap();
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let plugin = Entity::new(
        uid("Plugin", "plugin"),
        HashMap::from([
            ("name".to_owned(), text("plugin")),
            ("account".to_owned(), text("research")),
            ("digest".to_owned(), text("sha256:00")),
        ]),
        HashSet::new(),
    );
    let Facts { resource, context } = &call.facts;
    let (resource, attributes) = match resource {
        Resource::Account => (uid("Account", "research"), vec![("name", text("research"))]),
        Resource::Organization(id) => (uid("Organization", id), vec![("id", text(id))]),
        Resource::Object { organization, key } => (
            uid("Object", &format!("{organization}/{key}")),
            vec![("organization", text(organization)), ("key", text(key))],
        ),
        Resource::Project(project) => {
            let id = project.id.map_or("new".to_owned(), |id| id.to_string());
            let created = project.created && project.id.is_some();
            let mut attributes = vec![
                ("name", text(&project.name)),
                ("created", RestrictedExpression::new_bool(created)),
            ];
            attributes.extend(
                project
                    .id
                    .map(|id| ("id", RestrictedExpression::new_long(id.into()))),
            );
            (uid("Project", &id), attributes)
        }
        Resource::Url { .. } => panic!("no call is to an address here"),
    };
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let thing = Entity::new(resource.clone(), attributes, HashSet::new());
    let mut pairs = vec![(
        "live".to_owned(),
        RestrictedExpression::new_bool(context.live),
    )];
    for (name, value) in [
        ("organization", &context.organization),
        ("file", &context.file),
        ("data_provider", &context.data_provider),
        ("command", &context.command),
        ("collaborator", &context.collaborator),
        ("recipient", &context.recipient),
    ] {
        pairs.extend(value.iter().map(|value| (name.to_owned(), text(value))));
    }
    if let Some(count) = context.parameters {
        pairs.push((
            "parameters".to_owned(),
            RestrictedExpression::new_long(count.into()),
        ));
    }
    if let Some(cost) = context.cost {
        let dollars = format!("{}.{:04}", cost.0 / 10_000, cost.0 % 10_000);
        pairs.push((
            "cost".to_owned(),
            RestrictedExpression::new_decimal(dollars),
        ));
    }
    if let Some(brokerage) = &context.brokerage {
        let record = RestrictedExpression::new_record([
            ("profile".to_owned(), text(&brokerage.profile)),
            (
                "live".to_owned(),
                RestrictedExpression::new_bool(brokerage.live),
            ),
        ]);
        pairs.push(("brokerage".to_owned(), record.unwrap()));
    }
    let context = Context::from_pairs(pairs).unwrap();
    let action = uid("Action", call.operation);
    let request = Request::new(
        uid("Plugin", "plugin"),
        action,
        resource,
        context,
        Some(&SCHEMA),
    )
    .unwrap();
    let entities =
        Entities::from_entities([plugin.unwrap(), thing.unwrap()], Some(&SCHEMA)).unwrap();
    let answer = Authorizer::new().is_authorized(&request, &set, &entities);
    answer.diagnostics().reason().count() + answer.diagnostics().errors().count()
}

/// A guardrail; some do not fit the schema.
fn rail() -> impl Strategy<Value = String> {
    let principal = select(vec![
        "principal is Plugin",
        "principal == Plugin::\"plugin\"",
        "principal == Plugin::\"other\"",
        "principal",
    ]);
    let action = select(vec![
        "action",
        "action in Action::\"write\"",
        "action in [Action::\"read\", Action::\"trade\"]",
        "action in Action::\"backtests\"",
        "action == Action::\"live/create-live-algorithm\"",
        "action in Action::\"object-store\"",
    ]);
    let resource = select(vec![
        "resource",
        "resource is Project",
        "resource is Object",
        "resource == Project::\"1\"",
        "resource is Account",
    ]);
    let clauses = vec((select(vec!["when", "unless"]), condition()), 0..3);
    (principal, action, resource, clauses).prop_map(|(principal, action, resource, clauses)| {
        let clauses: Vec<_> = clauses
            .iter()
            .map(|(word, body)| format!("{word} {{ {body} }}"))
            .collect();
        format!(
            "forbid ({principal}, {action}, {resource}) {};",
            clauses.join(" ")
        )
    })
}

fn condition() -> impl Strategy<Value = String> {
    let pattern = select(vec![
        "Lab/*", "*", "Prod/*", "*a*", "L\\*b", "*\\\"*", "*\\\\*", "", "Lab/a",
    ]);
    let leaf = (pattern, 0usize..18, 0u32..4).prop_map(|(pattern, form, number)| match form {
        0 => format!("resource.name like \"{pattern}\""),
        1 => "resource.created".to_owned(),
        2 => format!("resource has id && resource.id == {number}"),
        3 => format!("resource.key like \"{pattern}\""),
        4 => "context.live".to_owned(),
        5 => format!("context has file && context.file like \"{pattern}\""),
        6 => format!("context has parameters && context.parameters == {number}"),
        7 => format!("context has parameters && context.parameters > {number}"),
        8 => format!("context has cost && context.cost.lessThan(decimal(\"{number}.25\"))"),
        9 => "context has brokerage && context.brokerage.live".to_owned(),
        10 => "context has brokerage && context.brokerage.profile == \"ib\"".to_owned(),
        11 => "principal.account == \"research\"".to_owned(),
        12 => format!("principal.name like \"{pattern}\""),
        13 => "resource.name == \"Lab/a\"".to_owned(),
        14 => "context has command".to_owned(),
        15 => "\"Lab/a\" == resource.name".to_owned(),
        // Evaluation fails if the number is large enough.
        16 => "context has parameters && context.parameters * 4611686018427387904 > 7".to_owned(),
        _ => format!("resource.organization like \"{pattern}\""),
    });
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("if ({a}) then ({b}) else ({c})")),
        ]
    })
}
