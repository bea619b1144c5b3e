//! Rules out policies that certainly do not apply, without asking Cedar.
//!
//! Cedar's evaluator takes a microsecond per policy, and of a hundred grants and fifty guardrails
//! that mention an operation hardly any concerns the project at hand. So the conditions of each are
//! also kept in a form that only compares texts.
//!
//! Invariant: the answer is yes, no or unknown, and only a no is acted on. Whatever is not
//! supported here, or would be an error in Cedar, is unknown, and then Cedar is asked. It never
//! says no where Cedar says yes or fails.

use serde_json::Value;

use super::actions::Kind;
use super::attributes::AttributeValue::{self, Flag, Number, Text};
use super::attributes::{index_of, value_at};
use crate::facts::{Facts, Resource};

/// The values that conditions are compared with.
pub(crate) struct View<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) account: &'a str,
    pub(crate) facts: &'a Facts,
}

/// A condition, as far as it is supported.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Prefilter {
    #[default]
    Unknown,
    Known(bool),
    Has(Field),
    Flag(Field),
    Text(Field, String),
    Number(Field, i64),
    Like(Field, Like),
    Not(Box<Prefilter>),
    And(Box<Prefilter>, Box<Prefilter>),
    Or(Box<Prefilter>, Box<Prefilter>),
}

/// A pattern: the texts between its stars. Without a star there is a single one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Like {
    first: String,
    middle: Vec<String>,
    last: Option<String>,
}

/// An attribute that can be looked up in a [`View`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field {
    PluginName,
    PluginAccount,
    AccountName,
    OrganizationId,
    ProjectId,
    ProjectName,
    ProjectCreated,
    ObjectOrganization,
    ObjectKey,
    Scheme,
    Host,
    Port,
    Path,
    Method,
    Live,
    BrokerageProfile,
    BrokerageLive,
    /// An attribute of the context, by its index in the table.
    Attribute(usize),
}

impl View<'_> {
    fn get(&self, field: Field) -> Option<AttributeValue<'_>> {
        let context = &self.facts.context;
        match (field, &self.facts.resource) {
            (Field::PluginName, _) => Some(Text(self.plugin)),
            (Field::PluginAccount, _) | (Field::AccountName, Resource::Account) => {
                Some(Text(self.account))
            }
            (Field::OrganizationId, Resource::Organization(id)) => Some(Text(id)),
            (Field::ProjectId, Resource::Project(project)) => project.id.map(Number),
            (Field::ProjectName, Resource::Project(project)) => Some(Text(&project.name)),
            (Field::ProjectCreated, Resource::Project(project)) => Some(Flag(project.is_created())),
            (Field::ObjectOrganization, Resource::Object { organization, .. }) => {
                Some(Text(organization))
            }
            (Field::ObjectKey, Resource::Object { key, .. }) => Some(Text(key)),
            (Field::Scheme, Resource::Url { scheme, .. }) => Some(Text(scheme)),
            (Field::Host, Resource::Url { host, .. }) => Some(Text(host)),
            (Field::Port, Resource::Url { port, .. }) => Some(Number((*port).into())),
            (Field::Path, Resource::Url { path, .. }) => Some(Text(path)),
            (Field::Method, Resource::Url { method, .. }) => Some(Text(method)),
            (Field::Live, _) => Some(Flag(context.live)),
            (Field::BrokerageProfile, _) => context
                .brokerage
                .as_ref()
                .map(|brokerage| Text(&brokerage.profile)),
            (Field::BrokerageLive, _) => context
                .brokerage
                .as_ref()
                .map(|brokerage| Flag(brokerage.live)),
            (Field::Attribute(index), _) => value_at(index, context),
            _ => None,
        }
    }
}

impl Prefilter {
    /// Compiles the conditions of a policy, given as Cedar's JSON.
    pub(crate) fn compile(conditions: &Value, kind: Kind) -> Self {
        let clauses = conditions.as_array().map(Vec::as_slice).unwrap_or_default();
        clauses
            .iter()
            .map(|clause| {
                let body = clause
                    .get("body")
                    .map_or(Self::Unknown, |body| expression(body, kind));
                match clause.get("kind").and_then(Value::as_str) {
                    Some("when") => body,
                    Some("unless") => Self::Not(Box::new(body)),
                    _ => Self::Unknown,
                }
            })
            .reduce(|left, right| Self::And(Box::new(left), Box::new(right)))
            .unwrap_or(Self::Known(true))
    }

    /// Whether it holds; `None` if unknown.
    pub(crate) fn holds(&self, view: &View<'_>) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Known(value) => Some(*value),
            Self::Has(field) => Some(view.get(*field).is_some()),
            Self::Flag(field) => match view.get(*field)? {
                Flag(value) => Some(value),
                _ => None,
            },
            Self::Text(field, wanted) => match view.get(*field)? {
                Text(text) => Some(text == wanted),
                _ => None,
            },
            Self::Number(field, wanted) => match view.get(*field)? {
                Number(number) => Some(i64::from(number) == *wanted),
                _ => None,
            },
            Self::Like(field, pattern) => match view.get(*field)? {
                Text(text) => Some(pattern.matches(text)),
                _ => None,
            },
            Self::Not(inner) => inner.holds(view).map(|value| !value),
            // Cedar evaluates the right side only if the left one does not decide, so an unknown
            // left side, which may be an error, makes the whole unknown.
            Self::And(left, right) => match left.holds(view)? {
                false => Some(false),
                true => right.holds(view),
            },
            Self::Or(left, right) => match left.holds(view)? {
                true => Some(true),
                false => right.holds(view),
            },
        }
    }
}

impl Like {
    fn compile(pattern: &Value) -> Option<Self> {
        let mut parts = vec![String::new()];
        for element in pattern.as_array()? {
            let wildcard = element.as_str() == Some("Wildcard");
            if wildcard {
                parts.push(String::new());
            } else {
                let literal = element.get("Literal")?.as_str()?;
                parts.last_mut()?.push_str(literal);
            }
        }
        let mut parts = parts.into_iter();
        let first = parts.next()?;
        let last = parts.next_back();
        Some(Self {
            first,
            middle: parts.filter(|part| !part.is_empty()).collect(),
            last,
        })
    }

    fn matches(&self, text: &str) -> bool {
        let Some(last) = &self.last else {
            return text == self.first;
        };
        let Some(mut left) = text.strip_prefix(self.first.as_str()) else {
            return false;
        };
        for part in &self.middle {
            let Some((_, behind)) = left.split_once(part.as_str()) else {
                return false;
            };
            left = behind;
        }
        left.ends_with(last.as_str())
    }
}

fn expression(json: &Value, kind: Kind) -> Prefilter {
    let Some((operator, operands)) = json.as_object().and_then(|map| map.iter().next()) else {
        return Prefilter::Unknown;
    };
    let side = |name: &str| {
        operands
            .get(name)
            .map_or(Prefilter::Unknown, |side| expression(side, kind))
    };
    match operator.as_str() {
        "&&" => Prefilter::And(Box::new(side("left")), Box::new(side("right"))),
        "||" => Prefilter::Or(Box::new(side("left")), Box::new(side("right"))),
        "!" => Prefilter::Not(Box::new(side("arg"))),
        "Value" => operands
            .as_bool()
            .map_or(Prefilter::Unknown, Prefilter::Known),
        "." => field(json, kind).map_or(Prefilter::Unknown, Prefilter::Flag),
        "has" => field(&serde_json::json!({ ".": operands }), kind)
            .map_or(Prefilter::Unknown, Prefilter::Has),
        "like" => {
            let left = operands.get("left").and_then(|left| field(left, kind));
            let pattern = operands.get("pattern").and_then(Like::compile);
            match (left, pattern) {
                (Some(field), Some(pattern)) => Prefilter::Like(field, pattern),
                _ => Prefilter::Unknown,
            }
        }
        "==" => {
            let left = operands.get("left").and_then(|left| field(left, kind));
            let right = operands.get("right").and_then(|right| right.get("Value"));
            match (left, right) {
                (Some(field), Some(Value::String(text))) => Prefilter::Text(field, text.clone()),
                (Some(field), Some(Value::Number(number))) => {
                    number.as_i64().map_or(Prefilter::Unknown, |number| {
                        Prefilter::Number(field, number)
                    })
                }
                _ => Prefilter::Unknown,
            }
        }
        _ => Prefilter::Unknown,
    }
}

/// The attribute of an access: `{".": {"left": {"Var": "resource"}, "attr": "name"}}`.
fn field(json: &Value, kind: Kind) -> Option<Field> {
    let access = json.get(".")?;
    let attr = access.get("attr")?.as_str()?;
    let left = access.get("left")?;
    let Some(var) = left.get("Var").and_then(Value::as_str) else {
        let brokerage = index_of("brokerage").map(Field::Attribute);
        return match attr {
            _ if field(left, kind) != brokerage => None,
            "profile" => Some(Field::BrokerageProfile),
            "live" => Some(Field::BrokerageLive),
            _ => None,
        };
    };
    Some(match (var, kind, attr) {
        ("principal", _, "name") => Field::PluginName,
        ("principal", _, "account") => Field::PluginAccount,
        ("resource", Kind::Account, "name") => Field::AccountName,
        ("resource", Kind::Organization, "id") => Field::OrganizationId,
        ("resource", Kind::Project, "id") => Field::ProjectId,
        ("resource", Kind::Project, "name") => Field::ProjectName,
        ("resource", Kind::Project, "created") => Field::ProjectCreated,
        ("resource", Kind::Object, "organization") => Field::ObjectOrganization,
        ("resource", Kind::Object, "key") => Field::ObjectKey,
        ("resource", Kind::Url, "scheme") => Field::Scheme,
        ("resource", Kind::Url, "host") => Field::Host,
        ("resource", Kind::Url, "port") => Field::Port,
        ("resource", Kind::Url, "path") => Field::Path,
        ("resource", Kind::Url, "method") => Field::Method,
        ("context", _, "live") => Field::Live,
        ("context", _, name) => Field::Attribute(index_of(name)?),
        _ => return None,
    })
}
