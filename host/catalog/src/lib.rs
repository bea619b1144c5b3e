//! The 64 operations of QuantConnect as one table, and the words that all layers share.
//!
//! An operation is one row: its WIT function, its MCP tool, its REST endpoint, its access
//! class, whether it may be retried or cached, and which of its arguments name a project, an
//! organisation, a file and so on. Types, JSON names and JSON Schemas are not in the table:
//! they come from `wit/` at build time.
//!
//! Invariant: nothing here knows of MCP or Wasm, and no other crate keeps a second list of
//! operations.

mod call;

pub use call::{BoxFuture, Call, Failure, Outcome, Target, Upstream};

/// What an operation can do to an account, from harmless to harmful. Decided here and not by
/// the server's hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Changes nothing.
    Read,
    /// Makes the account safer: stops, liquidates, aborts.
    Reduce,
    /// Creates or changes something that can be changed back.
    Write,
    /// Deletes.
    Destroy,
    /// Puts money at stake: deploys, commands, broadcasts.
    Trade,
}

/// One row of the catalog.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// The WIT interface and function: `compile/read-compile`.
    pub name: &'static str,
    /// The MCP tool: `read_compile`.
    pub tool: &'static str,
    /// The path under the REST base, or empty where the server answers by itself.
    pub endpoint: &'static str,
    /// The access class.
    pub access: Access,
    /// Whether a second sending leaves the same state *and* an answer that reads as success.
    pub idempotent: bool,
}
