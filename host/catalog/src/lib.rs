//! The operations of QuantConnect as one table, and the words that all layers share.
//!
//! An operation is one row: its WIT function, its MCP tool, its REST endpoint, its tool at
//! QuantConnect's remote server, its access class, whether it may be retried or cached, and which
//! of its arguments name a project, an organisation, a file and so on. Types, JSON names and JSON
//! Schemas are not in the table: they come from `wit/` at build time.
//!
//! Invariant: nothing here knows of MCP or Wasm, and no other crate keeps a second list of
//! operations.

mod address;
mod aside;
mod backoff;
mod call;
mod deleted;
pub mod deployment;
pub mod host_calls;
pub mod names;
mod operation;
mod refusal;
mod remote;
mod schema;
pub mod shape;
mod table;
pub mod units;
mod untyped;

pub use address::{is_loopback_host, special_purpose};
pub use aside::{aside, length, length_of_members};
pub use backoff::Backoff;
pub use call::{
    BoxFuture, Call, Clearance, Failure, FailureKind, Outcome, Sends, Target, Upstream, always,
};
pub use deleted::{RECYCLE_BIN, is_deleted_project};
use names::KEY;
pub use operation::{
    Access, AnyOf, CONTENT, Choice, Effect, Ended, Ending, Exception, FINISHED_SECONDS, Job,
    Licensed, Lifetime, MEDIA_TYPE, Operation, PUBLIC, STANDARD_CHARTS, Selector, Transport,
};
pub use refusal::{CredentialsRefusal, MAX_RETRY_AFTER, begins, retry_after};
pub use remote::{
    Form, NOT_BY_REMOTE, REMOTE_SERVER, Remote, RemoteArgument, RemoteTool, Way, not_by_remote,
};
pub use table::{OPERATIONS, by_name, by_tool, operation, way_of};
pub use units::Unit;
pub use untyped::Untyped;
