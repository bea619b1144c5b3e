//! Connections to QuantConnect: accounts, their MCP client sessions, retries, cache and health.
//!
//! [`Accounts`] implements [`qchost_catalog::Upstream`]. A call is routed to its [`Account`],
//! assigned to one of the account's sessions, sent in the form that the server's schema requires,
//! and its answer is decoded into an outcome. A [`Connector`] opens a session: as a child process,
//! over HTTP, or over a pipe in this process. An [`Authorization`] has the tokens of a server that a person logs in to.
//!
//! Invariants: only what is safe to repeat is sent twice; a lost answer of anything else is
//! `UnknownOutcome`. No secret (token, header, URL query, brokerage setting) is in a log line, an
//! error or a process's arguments. Nothing here depends on policy or Wasm.

mod account;
mod accounts;
mod breaker;
mod cache;
mod connector;
mod credentials;
mod decode;
mod download;
mod endpoints;
mod fault;
mod figures;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod health_tracker;
mod identity;
mod log_targets;
mod oauth;
mod options;
mod pool;
mod proof;
mod remote;
mod retry_budget;
mod session;
mod shape;
mod text;
mod threads;
mod tools;

pub use account::Account;
pub use accounts::{Accounts, account_of, remote_of};
pub use connector::{
    BearerSource, ConfigError, ConnectError, Connection, Connector, HttpConnector, NoToken,
    PipeConnector, StdioConnector, Supervisor, supervise,
};
pub use credentials::{Credentials, CredentialsError};
pub use figures::{AccountFigures, Completion, Figures};
pub use health::{AccountHealth, AccountState, NotProven};
pub use identity::{Identity, IdentityChange, IdentityMemory};
pub use log_targets::{CAPPED_TARGETS, may_log};
pub use oauth::{
    Authorization, AuthorizationState, AuthorizationStatus, Ending, Login, LoginError, OAuthClient,
    Revocation, redirect_address,
};
pub use options::AccountOptions;
pub use qchost_catalog::Backoff;
pub use session::ServerInfo;

/// Maximum bytes of a message from a server.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
