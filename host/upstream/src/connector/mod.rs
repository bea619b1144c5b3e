//! How an MCP session is opened: a child process, streamable HTTP, or a pipe in this process.
//!
//! A [`Connector`] is used again after each loss; a [`Connection`] is one open session. Neither retries anything,
//! the pool does; but a server may be connected to once more to find its era of MCP.
//!
//! Invariant: a dropped connection leaves neither a process nor a task behind, but for a renewal of its token.

mod bearer;
mod connection;
mod era;
mod http;
mod limited;
mod loopback;
mod pipe;
mod received;
mod stdio;
mod supervise;

pub use bearer::{BearerSource, NoToken};
pub use connection::{ConfigError, ConnectError, Connection, Connector};
pub use http::HttpConnector;
pub(crate) use limited::{CallDeadline, HeldBack};
pub(crate) use loopback::{is_loopback, server_address};
pub use pipe::PipeConnector;
pub use stdio::{StdioConnector, Supervisor};
pub use supervise::supervise;
