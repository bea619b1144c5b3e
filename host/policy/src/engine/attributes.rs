//! The attributes of a call's context, as one table: the name and type in guardrails, the operations whose calls have
//! them, the value, and what of a grant bounds it.
//!
//! Invariant: the schema, the questions to Cedar, the conditions of grants and the explanations of denials all read
//! this table. An attribute that is not in it does not exist for them.

use qchost_catalog::{Operation, Selector};

use crate::facts::{Brokerage, Context, Evidence};
use crate::glob::Glob;
use crate::manifest::Grant;
use crate::usd::Usd;

/// An attribute of the context that some calls have.
pub(crate) struct Attribute {
    /// Its name in guardrails.
    pub(crate) name: &'static str,
    /// Its type in the schema.
    pub(crate) ty: &'static str,
    /// What messages call it.
    pub(crate) noun: &'static str,
    /// Whether calls of an operation can have it.
    of: fn(&Operation) -> bool,
    /// Its value in a context.
    pub(crate) value: fn(&Context) -> Option<AttributeValue<'_>>,
    /// What of a grant bounds it.
    pub(crate) bound: Bound,
}

/// The value of an attribute.
pub(crate) enum AttributeValue<'a> {
    Text(&'a str),
    Number(u32),
    Flag(bool),
    Amount(Usd),
    Brokerage(&'a Brokerage),
    Evidence(Evidence),
}

/// What of a grant bounds an attribute, with its key in the manifest.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// A scope: a grant without it covers no call with the attribute.
    Scope(&'static str, fn(&Grant) -> &[Glob]),
    /// A scope of brokerage profiles, where a star covers paper profiles only.
    Profiles(&'static str, fn(&Grant) -> &[Glob]),
    /// A condition: patterns, if the grant has any.
    Patterns(&'static str, fn(&Grant) -> Option<&[Glob]>),
    /// A condition: a maximum, if the grant has one.
    Maximum(&'static str, fn(&Grant) -> Option<u32>),
    /// A condition: a maximum amount, if the grant has one. An unknown amount is above it, and above a budget that the
    /// amount is charged to: the second key and value.
    Amount(
        [&'static str; 2],
        fn(&Grant) -> Option<Usd>,
        fn(&Grant) -> Option<Usd>,
    ),
    /// No key of its own.
    None,
}

impl Bound {
    /// The key of a scope.
    pub(crate) fn scope(self) -> Option<&'static str> {
        match self {
            Self::Scope(key, _) | Self::Profiles(key, _) => Some(key),
            Self::Patterns(..) | Self::Maximum(..) | Self::Amount(..) | Self::None => None,
        }
    }
}

impl<'a> AttributeValue<'a> {
    /// What the patterns of a grant are compared with.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Brokerage(brokerage) => Some(&brokerage.profile),
            Self::Number(_) | Self::Flag(_) | Self::Amount(_) | Self::Evidence(_) => None,
        }
    }
}

fn text(text: &Option<String>) -> Option<AttributeValue<'_>> {
    text.as_deref().map(AttributeValue::Text)
}

fn number(number: Option<u32>) -> Option<AttributeValue<'static>> {
    number.map(AttributeValue::Number)
}

const fn row(
    name: &'static str,
    ty: &'static str,
    noun: &'static str,
    of: fn(&Operation) -> bool,
    value: fn(&Context) -> Option<AttributeValue<'_>>,
    bound: Bound,
) -> Attribute {
    Attribute {
        name,
        ty,
        noun,
        of,
        value,
        bound,
    }
}

/// The attribute with what the host established about the project.
pub(crate) const EVIDENCE: &str = "evidence";

/// Whether an operation is about a project that exists, and no listing of projects.
fn concerns_project(operation: &Operation) -> bool {
    operation.selects(|selector| {
        matches!(
            selector,
            Selector::Project(_)
                | Selector::Backtest(_)
                | Selector::Optimization(_)
                | Selector::Compile(_)
                | Selector::Deployment(_)
        )
    })
}

/// All attributes besides `live`, which every call has.
#[rustfmt::skip]
static ATTRIBUTES: [Attribute; 15] = [
    row("organization", "String", "organisation", |operation| operation.selects(|s| matches!(s, Selector::Organization(_))),
        |context| text(&context.organization), Bound::Scope("organizations", |grant| &grant.organizations)),
    row("brokerage", "Brokerage", "brokerage profile", |operation| operation.selects(|s| matches!(s, Selector::Profile(_) | Selector::Brokerage(_))),
        |context| context.brokerage.as_ref().map(AttributeValue::Brokerage), Bound::Profiles("brokerages", |grant| &grant.brokerages)),
    row("data_provider", "String", "data-provider profile", |operation| operation.selects(|s| matches!(s, Selector::Profile(_))),
        |context| text(&context.data_provider), Bound::Scope("data-providers", |grant| &grant.data_providers)),
    row("command", "String", "live command", |operation| operation.selects(|s| matches!(s, Selector::Command(_))),
        |context| text(&context.command), Bound::Scope("commands", |grant| &grant.commands)),
    row("collaborator", "String", "collaborator", |operation| operation.selects(|s| matches!(s, Selector::Collaborator(_))),
        |context| text(&context.collaborator), Bound::Scope("collaborators", |grant| &grant.collaborators)),
    row("recipient", "String", "recipient", Operation::addresses,
        |context| text(&context.recipient), Bound::Scope("recipients", |grant| &grant.recipients)),
    row("cost", "decimal", "cost", |operation| operation.selects(|s| matches!(s, Selector::Cost(_))),
        |context| context.cost.map(AttributeValue::Amount), Bound::Amount(["max-cost", "cost-per-day"], |grant| grant.max_cost, |grant| grant.limits.cost_per_day)),
    row("file", "String", "file", Operation::concerns_files,
        |context| text(&context.file), Bound::Patterns("files", |grant| grant.files.as_deref())),
    row("chart", "String", "chart", |operation| operation.selects(|s| matches!(s, Selector::Chart(_))),
        |context| text(&context.chart), Bound::Patterns("charts", |grant| grant.charts.as_deref())),
    row("node", "String", "node", |operation| operation.selects(|s| matches!(s, Selector::Node(_))),
        |context| text(&context.node), Bound::Patterns("nodes", |grant| grant.nodes.as_deref())),
    row("node_type", "String", "node type", |operation| operation.selects(|s| matches!(s, Selector::NodeType(_))),
        |context| text(&context.node_type), Bound::Patterns("nodes", |grant| grant.nodes.as_deref())),
    row("parallel_nodes", "Long", "parallel nodes", |operation| operation.selects(|s| matches!(s, Selector::ParallelNodes(_))),
        |context| number(context.parallel_nodes), Bound::None),
    row("parameters", "Long", "parameters", |operation| operation.selects(|s| matches!(s, Selector::Parameters(_))),
        |context| number(context.parameters), Bound::Maximum("max-parameters", |grant| grant.max_parameters)),
    // Of a raw call: the entries of `allow` name the tools.
    row("tool", "String", "tool", |_| false, |context| text(&context.tool), Bound::None),
    row(EVIDENCE, "Evidence", "evidence", concerns_project,
        |context| context.evidence.map(AttributeValue::Evidence), Bound::None),
];

/// A set of attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Attributes(u16);

impl Attributes {
    /// Those of the calls of an operation.
    pub(crate) fn of(operation: &Operation) -> Self {
        Self::such(|attribute| (attribute.of)(operation))
    }

    /// Those with a property.
    pub(crate) fn such(is: impl Fn(&Attribute) -> bool) -> Self {
        let bits = ATTRIBUTES.iter().enumerate();
        let bits = bits.filter(|(_, attribute)| is(attribute));
        Self(bits.fold(0, |set, (at, _)| set | (1 << at)))
    }

    /// Those in both sets.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether an attribute is in the set.
    pub(crate) fn has(self, attribute: &Attribute) -> bool {
        self.iter().any(|own| own.name == attribute.name)
    }

    /// Every attribute, and whether it is in the set.
    pub(crate) fn each(self) -> impl Iterator<Item = (&'static Attribute, bool)> {
        let each = ATTRIBUTES.iter().enumerate();
        each.map(move |(at, attribute)| (attribute, self.0 & (1 << at) != 0))
    }

    /// The attributes of the set.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'static Attribute> {
        self.each()
            .filter_map(|(attribute, has)| has.then_some(attribute))
    }

    /// The noun of an attribute of the context that is not in the set, although it is one that grants have a scope for: it would
    /// go unchecked.
    pub(crate) fn stray(self, context: &Context) -> Option<&'static str> {
        let stray = |attribute: &Attribute| {
            attribute.bound.scope().is_some() && (attribute.value)(context).is_some()
        };
        self.each()
            .find_map(|(attribute, has)| (!has && stray(attribute)).then_some(attribute.noun))
    }
}

/// All attributes.
pub(crate) fn attributes() -> impl Iterator<Item = &'static Attribute> {
    ATTRIBUTES.iter()
}

/// The index of an attribute in the table, by its name.
pub(crate) fn index_of(name: &str) -> Option<usize> {
    ATTRIBUTES
        .iter()
        .position(|attribute| attribute.name == name)
}

/// The value of the attribute at an index of the table.
pub(crate) fn value_at(index: usize, context: &Context) -> Option<AttributeValue<'_>> {
    (ATTRIBUTES.get(index)?.value)(context)
}
