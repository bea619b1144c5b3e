//! One question to Cedar: principal, action, resource and context.
//!
//! The constant part is created once: the action with its groups. The plugin, the resource and the context are
//! created when the first policy has to be evaluated, and reused for all others of the decision.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression,
};

use super::actions::{Kind, actions};
use super::attributes::{AttributeValue, attributes};
use super::compiled::Compiled;
use super::prefilter::View;
use crate::facts::Resource;

/// A question.
pub(crate) struct Question {
    request: Request,
    entities: Entities,
}

/// Cedar's verdict on one policy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Evaluation {
    /// It applies.
    Applies,
    /// It does not apply.
    DoesNot,
    /// It cannot be evaluated, with the reason.
    Failed(String),
}

/// The entity types by name. A name that Cedar rejects is missing, so that no question about it can be asked.
static TYPES: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
    let kinds = Kind::ALL.iter().copied().map(Kind::entity);
    kinds
        .chain(["Action", "Plugin", "Person", "Role", "Host"])
        .filter_map(|name| Some((name, name.parse().ok()?)))
        .collect()
});

/// The actions in the order of [`actions`], each as an entity with its groups.
static ACTIONS: LazyLock<Result<Vec<(EntityUid, Entities)>, String>> = LazyLock::new(|| {
    actions()
        .iter()
        .map(|action| {
            let this = uid("Action", action.name)?;
            let groups = action.groups.iter().map(|group| uid("Action", group));
            let groups: HashSet<_> = groups.collect::<Result<_, _>>()?;
            let entity = Entity::new_no_attrs(this.clone(), groups);
            let entities =
                Entities::from_entities([entity], None).map_err(|error| error.to_string())?;
            Ok((this, entities))
        })
        .collect()
});

static AUTHORIZER: LazyLock<Authorizer> = LazyLock::new(Authorizer::new);

/// The name of an entity.
pub(crate) fn uid(of: &str, id: &str) -> Result<EntityUid, String> {
    let of = TYPES
        .get(of)
        .ok_or_else(|| format!("there is no entity type {of}"))?;
    Ok(EntityUid::from_type_name_and_id(
        of.clone(),
        EntityId::new(id),
    ))
}

impl Question {
    /// A question about a plugin's call of the action with this index.
    pub(crate) fn new(action: usize, principal: &Entity, view: &View<'_>) -> Result<Self, String> {
        let actions = ACTIONS.as_ref().map_err(Clone::clone)?;
        let (action, entities) = actions.get(action).ok_or("there is no such action")?;
        let resource = resource(view)?;
        let request = Request::new(
            principal.uid(),
            action.clone(),
            resource.uid(),
            context(view)?,
            None,
        )
        .map_err(|error| error.to_string())?;
        let entities = entities
            .clone()
            .add_entities([principal.clone(), resource], None)
            .map_err(|error| error.to_string())?;
        Ok(Self { request, entities })
    }

    /// Whether a policy applies.
    pub(crate) fn evaluate(&self, compiled: &Compiled) -> Evaluation {
        let answer = AUTHORIZER.is_authorized(&self.request, &compiled.policy, &self.entities);
        if let Some(error) = answer.diagnostics().errors().next() {
            return Evaluation::Failed(error.to_string());
        }
        if answer.diagnostics().reason().next().is_some() {
            Evaluation::Applies
        } else {
            Evaluation::DoesNot
        }
    }
}

/// The entity of a plugin running this code.
pub(crate) fn principal(plugin: &str, account: &str, digest: &str) -> Result<Entity, String> {
    entity(
        "Plugin",
        plugin,
        [
            ("name", text(plugin)),
            ("account", text(account)),
            ("digest", text(digest)),
        ],
    )
}

fn resource(view: &View<'_>) -> Result<Entity, String> {
    match &view.facts.resource {
        Resource::Account => entity("Account", view.account, [("name", text(view.account))]),
        Resource::Organization(id) => entity("Organization", id, [("id", text(id))]),
        Resource::Project(project) => {
            let name = ("name", text(&project.name));
            let created = (
                "created",
                RestrictedExpression::new_bool(project.is_created()),
            );
            match project.id {
                Some(id) => {
                    let number = ("id", RestrictedExpression::new_long(id.into()));
                    entity("Project", &id.to_string(), [name, created, number])
                }
                // Not a number, so that it is never taken for an existing project.
                None => entity("Project", "new", [name, created]),
            }
        }
        Resource::Object { organization, key } => entity(
            "Object",
            &format!("{organization}/{key}"),
            [("organization", text(organization)), ("key", text(key))],
        ),
        Resource::Url {
            scheme,
            host,
            port,
            path,
            method,
        } => entity(
            "Url",
            &format!("{scheme}://{host}:{port}{path}"),
            [
                ("scheme", text(scheme)),
                ("host", text(host)),
                ("port", RestrictedExpression::new_long((*port).into())),
                ("path", text(path)),
                ("method", text(method)),
            ],
        ),
    }
}

fn context(view: &View<'_>) -> Result<Context, String> {
    let facts = &view.facts.context;
    let mut pairs = vec![(
        "live".to_owned(),
        RestrictedExpression::new_bool(facts.live),
    )];
    for attribute in attributes() {
        let value = match (attribute.value)(facts) {
            None => continue,
            Some(AttributeValue::Text(value)) => text(value),
            Some(AttributeValue::Number(value)) => RestrictedExpression::new_long(value.into()),
            Some(AttributeValue::Flag(value)) => RestrictedExpression::new_bool(value),
            Some(AttributeValue::Amount(value)) => {
                RestrictedExpression::new_decimal(value.decimal())
            }
            Some(AttributeValue::Brokerage(brokerage)) => {
                let live = RestrictedExpression::new_bool(brokerage.live);
                let profile = ("profile".to_owned(), text(&brokerage.profile));
                RestrictedExpression::new_record([profile, ("live".to_owned(), live)])
                    .map_err(|error| error.to_string())?
            }
            Some(AttributeValue::Evidence(evidence)) => {
                let trials = RestrictedExpression::new_long(evidence.trials.into());
                RestrictedExpression::new_record([("trials".to_owned(), trials)])
                    .map_err(|error| error.to_string())?
            }
        };
        pairs.push((attribute.name.to_owned(), value));
    }
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}

fn entity<const N: usize>(
    of: &str,
    id: &str,
    attributes: [(&str, RestrictedExpression); N],
) -> Result<Entity, String> {
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
    Entity::new_with_tags(uid(of, id)?, attributes, [], []).map_err(|error| error.to_string())
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}
