//! What a call touches, as the policy sees it: one resource and its context.
//!
//! Invariant: facts are what the host found out, not what a caller claims. What is unknown is
//! absent here, and what is absent never counts as covered.

use crate::usd::Usd;

/// The resource that a call acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The account itself: everything that belongs to no smaller resource, and listings.
    Account,
    /// An organisation, by its id.
    Organization(String),
    /// A project.
    Project(Project),
    /// An object of the Object Store.
    Object {
        /// The id of the organisation whose store it is in.
        organization: String,
        /// Its key.
        key: String,
    },
    /// The target of an outgoing request.
    Url {
        /// `https` or `http`.
        scheme: String,
        /// The host, in lower case.
        host: String,
        /// The port.
        port: u16,
        /// The path, without the query.
        path: String,
        /// The method, in upper case.
        method: String,
    },
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id. `None` for a name not yet in use, as in `create-project` or a rename; a scope by id,
    /// or by creator, never covers that.
    pub id: Option<u32>,
    /// Its name.
    pub name: String,
    /// Whether this plugin created it.
    pub created: bool,
}

impl Project {
    /// Whether the project exists, and this plugin created it.
    pub(crate) fn is_created(&self) -> bool {
        self.created && self.id.is_some()
    }
}

/// A brokerage profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brokerage {
    /// The profile's name.
    pub profile: String,
    /// Whether it trades with real money.
    pub live: bool,
}

/// What the host established about a project by its own reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// How often its strategy was tried on history, in this project and in those that have held the same source.
    pub trials: u32,
}

/// The context of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// The organisation's id.
    pub organization: Option<String>,
    /// The path of a file in the project.
    pub file: Option<String>,
    /// The brokerage profile.
    pub brokerage: Option<Brokerage>,
    /// A data-provider profile.
    pub data_provider: Option<String>,
    /// A node's id.
    pub node: Option<String>,
    /// A node type.
    pub node_type: Option<String>,
    /// Maximum number of concurrent nodes.
    pub parallel_nodes: Option<u32>,
    /// The type of a live command.
    pub command: Option<String>,
    /// The user whose rights change.
    pub collaborator: Option<String>,
    /// The name of a chart.
    pub chart: Option<String>,
    /// Who gets a message: an email address, a telephone number, a chat.
    pub recipient: Option<String>,
    /// The maximum cost.
    pub cost: Option<Usd>,
    /// The number of parameters.
    pub parameters: Option<u32>,
    /// Whether real money, or rights over it, may be at stake.
    pub live: bool,
    /// The tool of a raw call that the catalog does not know.
    pub tool: Option<String>,
    /// What is known about the project. It is established only where a guardrail may depend on it.
    pub evidence: Option<Evidence>,
}

/// The input of one decision. A call that touches several resources has several of these, and all
/// of them must be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The resource.
    pub resource: Resource,
    /// The context.
    pub context: Context,
}

impl Facts {
    /// Facts without context.
    #[must_use]
    pub fn of(resource: Resource) -> Self {
        Self {
            resource,
            context: Context::default(),
        }
    }
}
