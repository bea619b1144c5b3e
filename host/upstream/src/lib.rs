//! Connections to QuantConnect: accounts, their MCP client sessions, retries, cache and health.
//!
//! [`Accounts`] implements [`qchost_catalog::Upstream`]. A call is routed to its [`Account`],
//! takes a place in one of the account's sessions, is sent in the form that the server's
//! schema asks for, and its answer is decoded into an outcome. A [`Connector`] says how a
//! session is opened: by a child process, by HTTP, or over a pipe in this process.
//!
//! Invariants: only what is safe to send twice is sent twice; a lost answer of anything else is
//! `UnknownOutcome`. No secret (token, header, address's query, brokerage setting) is in a log
//! line, an error or a process's arguments. Nothing here knows of policy or Wasm.

mod account;
mod accounts;
mod backoff;
mod cache;
mod connector;
mod credentials;
mod decode;
mod download;
mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod options;
mod pool;
mod quiet;
mod session;
mod shape;
mod standing;
mod text;
mod threads;
mod tools;

pub use account::Account;
pub use accounts::Accounts;
pub use backoff::Backoff;
pub use connector::{
    ConfigError, ConnectError, Connection, Connector, HttpConnector, PipeConnector, StdioConnector,
    Supervisor, supervise,
};
pub use credentials::{Credentials, CredentialsError};
pub use health::{AccountHealth, AccountState};
pub use options::AccountOptions;
pub use quiet::{QUIET_TARGETS, permits};
pub use session::ServerInfo;

/// The largest message that is taken from a server, in bytes.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
