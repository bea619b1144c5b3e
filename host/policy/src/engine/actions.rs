//! The actions that can be decided about: the operations of the catalog and the host's own, each with the kinds of
//! resources it acts on and the scopes it needs.
//!
//! Invariant: an operation on a project or an object is decided by that resource, never by the account alone, unless it
//! is a listing, whose answer is then decided item by item.

use std::sync::LazyLock;

use qchost_catalog::{Access, AnyOf, OPERATIONS, Operation, Selector};
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};

use super::attributes::{Attributes, Bound};
use crate::facts::Resource;
use crate::grantable::{DOWNLOAD, EVIDENCE, HTTP, Pattern, RAW, WORKFLOW};
use crate::manifest::Grant;

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub(crate) enum Kind {
    Account,
    Organization,
    Project,
    Object,
    Url,
}

impl Kind {
    pub(crate) const ALL: &'static [Self] = Self::VARIANTS;

    pub(crate) fn of(resource: &Resource) -> Self {
        match resource {
            Resource::Account => Self::Account,
            Resource::Organization(_) => Self::Organization,
            Resource::Project(_) => Self::Project,
            Resource::Object { .. } => Self::Object,
            Resource::Url { .. } => Self::Url,
        }
    }

    /// The entity type in Cedar.
    pub(crate) fn entity(self) -> &'static str {
        self.into()
    }

    /// Its name in a sentence.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Account => "the account as a whole",
            Self::Organization => "an organisation",
            Self::Project => "a project",
            Self::Object => "an object",
            Self::Url => "an address",
        }
    }
}

/// An action that can be decided about.
#[derive(Debug)]
pub(crate) struct Action {
    /// `backtests/create-backtest`, `raw`, `http/request` …
    pub(crate) name: &'static str,
    /// The interface, and the name of the access class.
    pub(crate) groups: Vec<&'static str>,
    pub(crate) access: Access,
    /// Why it has to be named in full, in a word or two; `None` if a pattern of a grant may cover it.
    pub(crate) guarded_as: Option<&'static str>,
    /// What its calls may touch any of: a grant that covers it is for all of them.
    pub(crate) any_of: Option<AnyOf>,
    /// Whether its calls may say that everyone can read what they write.
    pub(crate) publishes: bool,
    /// The kinds of resources it acts on.
    pub(crate) kinds: Vec<Kind>,
    /// What a listing lists: it needs a non-empty scope of that kind.
    pub(crate) lists: Option<Kind>,
    /// The attributes that the context of its calls can have.
    pub(crate) attributes: Attributes,
}

/// Everything in an action that the conditions of a grant depend on: actions with equal forms share their conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConditionsKey {
    raw: bool,
    lists: Option<Kind>,
    any_of: Option<AnyOf>,
    attributes: Attributes,
}

impl Action {
    /// Whether a grant that covers it is for all that its calls may touch, where they do not say what.
    pub(crate) fn reaches(&self, grant: &Grant) -> bool {
        self.any_of.is_none_or(|what| grant.is_for_all(what))
    }

    /// Whether its calls do not need this scope of a grant unless they ask for more than usual: it is not proposed unasked.
    pub(crate) fn is_optional(&self, scope: &str) -> bool {
        scope == "recipients" && self.publishes
    }

    pub(crate) fn conditions_key(&self) -> ConditionsKey {
        ConditionsKey {
            raw: self.name == RAW,
            lists: self.lists,
            any_of: self.any_of,
            attributes: self.attributes.and(*CONDITION_ATTRIBUTES),
        }
    }

    /// What it lists besides a resource of this kind; its scope must not be empty then.
    pub(crate) fn lists_beside(&self, kind: Kind) -> Option<Kind> {
        self.lists.filter(|listed| *listed != kind)
    }

    /// How a grant covers it: not at all, once, or for each tool that it names.
    pub(crate) fn covered_by<'a>(&self, grant: &'a Grant) -> Vec<Option<&'a str>> {
        if self.name == RAW {
            let tools = grant.allow.iter().filter_map(Pattern::tool);
            return tools.map(Some).collect();
        }
        match grant.allows(self.name, self.access) {
            true => vec![None],
            false => Vec::new(),
        }
    }
}

/// The attributes that make the conditions of a grant differ between actions.
static CONDITION_ATTRIBUTES: LazyLock<Attributes> = LazyLock::new(|| {
    Attributes::such(|attribute| {
        attribute.bound.scope().is_some() || matches!(attribute.bound, Bound::Amount(..))
    })
});

static ACTIONS: LazyLock<Vec<Action>> = LazyLock::new(|| {
    let own = |name, groups, access: Access, kinds, attributes| Action {
        name,
        groups,
        access,
        guarded_as: (!access.globbed()).then(|| access.word()),
        any_of: None,
        publishes: false,
        kinds,
        lists: None,
        attributes,
    };
    OPERATIONS
        .iter()
        .map(of_catalog)
        .chain([
            own(
                DOWNLOAD,
                vec!["object-store", "read"],
                Access::Read,
                vec![Kind::Object],
                Attributes::such(|attribute| attribute.name == "organization"),
            ),
            own(
                WORKFLOW,
                vec!["read"],
                Access::Read,
                vec![Kind::Account],
                Attributes::default(),
            ),
            own(
                EVIDENCE,
                vec!["read"],
                Access::Read,
                vec![Kind::Project],
                Attributes::default(),
            ),
            // A tool unknown to the catalog is treated as the most dangerous class.
            own(
                RAW,
                vec!["trade"],
                Access::Trade,
                vec![
                    Kind::Account,
                    Kind::Organization,
                    Kind::Project,
                    Kind::Object,
                ],
                Attributes::such(|_| true),
            ),
            own(
                HTTP,
                vec!["http", "write"],
                Access::Write,
                vec![Kind::Url],
                Attributes::default(),
            ),
        ])
        .collect()
});

/// Everything that can be decided about.
pub(crate) fn actions() -> &'static [Action] {
    &ACTIONS
}

/// The action of an operation's name, with its index: `raw/some_tool` is `raw`.
pub(crate) fn by_name(operation: &str) -> Option<(usize, &'static Action)> {
    let name = if operation.starts_with("raw/") {
        RAW
    } else {
        operation
    };
    ACTIONS
        .iter()
        .enumerate()
        .find(|(_, action)| action.name == name)
}

fn of_catalog(operation: &'static Operation) -> Action {
    let has = |test: fn(&Selector) -> bool| operation.selects(test);
    let organization = has(|s| matches!(s, Selector::Organization(_)));
    // The downloaded objects were requested by key, in this call or in the one that began the download.
    let object = has(|s| matches!(s, Selector::ObjectKey(_))) || operation.downloads();
    let folder = has(|s| matches!(s, Selector::ObjectPath(_)));
    let project = has(|s| {
        matches!(
            s,
            Selector::Project(_)
                | Selector::ProjectName(_)
                | Selector::AttachedProject(_)
                | Selector::Backtest(_)
                | Selector::Optimization(_)
                | Selector::Compile(_)
                | Selector::Deployment(_)
        )
    });
    let all_projects = (operation.answers_projects() && !project) || optional_project(operation);
    let mut kinds = Vec::new();
    let mut lists = None;
    if project || all_projects {
        kinds.push(Kind::Project);
    }
    if object || folder {
        kinds.push(Kind::Object);
    }
    if all_projects {
        lists = Some(Kind::Project);
    }
    if folder {
        lists = Some(Kind::Object);
        kinds.push(Kind::Organization);
    }
    if lists.is_some() {
        kinds.push(Kind::Account);
    }
    if has(|s| matches!(s, Selector::AttachedProject(_))) {
        // Nothing needs to be attached.
        kinds.push(if organization {
            Kind::Organization
        } else {
            Kind::Account
        });
    }
    if operation.answers_nodes() && !project {
        // Each node of the answer says which project uses it.
        kinds.extend([Kind::Project, Kind::Organization]);
    }
    if kinds.is_empty() {
        kinds.push(if organization {
            Kind::Organization
        } else {
            Kind::Account
        });
    }
    Action {
        name: operation.name,
        groups: vec![operation.interface(), operation.access.word()],
        access: operation.access,
        guarded_as: operation.guarded_as(),
        any_of: operation.any_of,
        publishes: has(|s| matches!(s, Selector::Published(_))),
        kinds,
        lists,
        attributes: Attributes::of(operation),
    }
}

/// Whether the project id of the operation is optional: without it, it concerns all projects.
fn optional_project(operation: &Operation) -> bool {
    let required = operation.input_schema().get("required");
    operation.selectors.iter().any(|selector| match selector {
        Selector::Project(field) => !required
            .and_then(Value::as_array)
            .is_some_and(|required| required.iter().any(|name| name == field)),
        _ => false,
    })
}
