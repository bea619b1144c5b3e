//! What a call touches, as the policy sees it: one resource, and what else there is to know.
//!
//! Invariant: facts are about what the host found out, not about what a caller claims. What is
//! unknown is absent here, and what is absent is never taken for covered.

use crate::usd::Usd;

/// The thing that a call acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The account itself: whatever belongs to no smaller thing, and listings.
    Account,
    /// An organisation, by its id.
    Organization(String),
    /// A project.
    Project(Project),
    /// An object of the Object Store.
    Object {
        /// The organisation whose store it is.
        organization: String,
        /// Its key.
        key: String,
    },
    /// What an outgoing request is for.
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
    /// Its id. `None` for a name that is yet to be given, as by `create-project` or by a rename;
    /// a scope by id, or by who created it, never covers that.
    pub id: Option<u32>,
    /// Its name.
    pub name: String,
    /// Whether this plugin created it.
    pub created: bool,
}

impl Project {
    /// Whether there is a project, and this plugin created it.
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

/// What there is to know about a call besides its resource.
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
    /// How many nodes at a time.
    pub parallel_nodes: Option<u32>,
    /// The type of a live command.
    pub command: Option<String>,
    /// The user who is given rights or loses them.
    pub collaborator: Option<String>,
    /// What it costs at most.
    pub cost: Option<Usd>,
    /// The number of parameters.
    pub parameters: Option<u32>,
    /// Whether real money, or rights over it, may be at stake.
    pub live: bool,
    /// The tool, of a raw call that the catalog does not know.
    pub tool: Option<String>,
}

/// What one decision is made of. A call that touches several things is several of these, and all of
/// them must be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The thing that is acted on.
    pub resource: Resource,
    /// The rest.
    pub context: Context,
}

impl Facts {
    /// Facts of which only the resource is to be known.
    #[must_use]
    pub fn of(resource: Resource) -> Self {
        Self {
            resource,
            context: Context::default(),
        }
    }
}
