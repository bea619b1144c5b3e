//! The actions that can be decided about: the operations of the catalog and the host's own, each with the kinds of
//! resources it acts on and the scopes it needs.
//!
//! Invariant: an operation on a project or an object is decided by that resource, never by the account alone, unless it
//! is a listing, whose answer is then decided item by item.

use std::sync::LazyLock;

use qchost_catalog::{Access, OPERATIONS, Operation, Selector};
use serde_json::Value;

use crate::facts::{Context, Resource};
use crate::grantable::{DOWNLOAD, HTTP, RAW, WORKFLOW};

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Account,
    Organization,
    Project,
    Object,
    Url,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Account,
        Self::Organization,
        Self::Project,
        Self::Object,
        Self::Url,
    ];

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
        match self {
            Self::Account => "Account",
            Self::Organization => "Organization",
            Self::Project => "Project",
            Self::Object => "Object",
            Self::Url => "Url",
        }
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
    /// The kinds of resources it acts on.
    pub(crate) kinds: Vec<Kind>,
    /// What a listing lists: it needs a non-empty scope of that kind.
    pub(crate) lists: Option<Kind>,
    pub(crate) needs: Needs,
    /// Additional context attributes, by their names in the schema; no grant has to name them.
    pub(crate) extras: Vec<&'static str>,
}

/// Everything in an action that the conditions of a grant depend on: actions with equal forms share their conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    raw: bool,
    lists: Option<Kind>,
    needs: Needs,
}

impl Action {
    pub(crate) fn form(&self) -> Form {
        Form {
            raw: self.name == RAW,
            lists: self.lists,
            needs: self.needs,
        }
    }
}
/// Additional context attributes of calls, besides their [`Needs`].
const EXTRAS: [&str; 6] = [
    "file",
    "node",
    "node_type",
    "parallel_nodes",
    "parameters",
    "tool",
];

/// The scopes that an action needs for attributes of a call's context, if the call has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Needs {
    pub(crate) organization: bool,
    pub(crate) brokerage: bool,
    pub(crate) data_provider: bool,
    pub(crate) command: bool,
    pub(crate) collaborator: bool,
    /// Whether it has a cost: under a `max-cost`, an unknown cost is too much.
    pub(crate) cost: bool,
}

impl Needs {
    const EVERY: Self = Self {
        organization: true,
        brokerage: true,
        data_provider: true,
        command: true,
        collaborator: true,
        cost: true,
    };

    /// An attribute of the call that no grant is checked against, so that it would go unchecked.
    pub(crate) fn stray(self, context: &Context) -> Option<&'static str> {
        [
            (
                "an organisation",
                context.organization.is_some(),
                self.organization,
            ),
            ("a brokerage", context.brokerage.is_some(), self.brokerage),
            (
                "a data provider",
                context.data_provider.is_some(),
                self.data_provider,
            ),
            ("a live command", context.command.is_some(), self.command),
            (
                "a collaborator",
                context.collaborator.is_some(),
                self.collaborator,
            ),
        ]
        .into_iter()
        .find_map(|(what, has, checked)| (has && !checked).then_some(what))
    }
}

static ACTIONS: LazyLock<Vec<Action>> = LazyLock::new(|| {
    let own = |name, groups, access, kinds, needs| Action {
        name,
        groups,
        access,
        kinds,
        lists: None,
        needs,
        extras: if name == RAW {
            EXTRAS.to_vec()
        } else {
            Vec::new()
        },
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
                Needs {
                    organization: true,
                    ..Needs::default()
                },
            ),
            own(
                WORKFLOW,
                vec!["read"],
                Access::Read,
                vec![Kind::Account],
                Needs::default(),
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
                Needs::EVERY,
            ),
            own(
                HTTP,
                vec!["http", "write"],
                Access::Write,
                vec![Kind::Url],
                Needs::default(),
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
    if kinds.is_empty() {
        kinds.push(if organization {
            Kind::Organization
        } else {
            Kind::Account
        });
    }
    let profile = has(|s| matches!(s, Selector::Profile(_)));
    Action {
        name: operation.name,
        groups: vec![operation.interface(), operation.access.word()],
        access: operation.access,
        kinds,
        lists,
        needs: Needs {
            organization,
            brokerage: profile || has(|s| matches!(s, Selector::Brokerage(_))),
            data_provider: profile,
            command: has(|s| matches!(s, Selector::Command(_))),
            collaborator: has(|s| matches!(s, Selector::Collaborator(_))),
            cost: has(|s| matches!(s, Selector::Cost(_))),
        },
        extras: EXTRAS
            .into_iter()
            .filter(|name| match *name {
                "file" => operation.concerns_files(),
                "node" => has(|s| matches!(s, Selector::Node(_))),
                "node_type" => has(|s| matches!(s, Selector::NodeType(_))),
                "parallel_nodes" => has(|s| matches!(s, Selector::ParallelNodes(_))),
                "parameters" => has(|s| matches!(s, Selector::Parameters(_))),
                _ => false,
            })
            .collect(),
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
