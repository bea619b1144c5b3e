//! What a call touches: its arguments, resolved to the projects, objects, profiles and commands
//! that a decision is about; and its answer, reduced to what the caller may see.
//!
//! Three readings of one call have to agree: the plugin's, the host's and the server's. The
//! server's is the loosest: it takes `"12"` for 12, finds a backtest by its id whatever project
//! stands beside it, and tidies paths. So nothing is taken from what a plugin claims: an argument
//! that could be read in two ways is refused, the name of a project is read from the account, and
//! the id of a backtest, an optimisation, a compile job or a deployment counts for the project that
//! the account says it belongs to.
//!
//! What would take long to read is not read before it is known that some grant is for the rest: see [`Resolved`].
//!
//! Invariant: a call whose [`Touched::facts`] are all allowed, and whose answer went through
//! [`Scope::answer`], reaches and shows nothing that the facts do not name.

mod answer;
mod arguments;
mod cache;
mod children;
mod cost;
mod created;
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
mod unlisted;

pub use answer::Learned;
pub use children::Child;
pub use error::ScopeError;
pub use live::LiveProfile;
pub use reads::Reader;
pub use scope::{Configured, Resolved, Scope, Touched, check_project_id};
