//! What a call touches: resolves its arguments to the projects, objects, profiles and commands that a decision is
//! about, and reduces its answer to what the caller may see.
//!
//! The plugin, the host and the server must interpret a call in the same way. The server is the most lenient: it
//! accepts `"12"` for 12, finds a backtest by its id whatever project is given, and normalises paths. So no claim
//! of a plugin is trusted: an ambiguous argument is rejected, the name of a project is read from the account, and
//! a backtest, an optimisation, a compile job or a deployment counts for the project that it belongs to according
//! to the account.
//!
//! Long texts are read only once it is known that some grant covers the rest: see [`Resolved`].
//!
//! Invariant: a call whose [`Touched::facts`] are all allowed, and whose answer passed [`Scope::answer`], reaches
//! and shows nothing that the facts do not name.

mod answer;
mod arguments;
mod cache;
mod children;
mod choice;
mod cost;
mod created;
mod deployments;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod jobs;
mod live;
mod names;
mod patch;
mod projects;
mod reads;
mod scope;
mod selection;

pub use answer::Learned;
pub use children::Child;
pub use cost::NODE_TYPES;
pub use error::ScopeError;
pub use live::LiveProfile;
pub use reads::Reader;
pub use scope::{Configured, Resolved, Scope, Touched, check_project_id};
