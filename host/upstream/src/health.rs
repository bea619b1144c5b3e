//! What is to be said of an account's connection, for people and for `--json`.

use serde::Serialize;

use crate::session::ServerInfo;

/// Whether an account can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// Nothing asked for it yet.
    Idle,
    /// The first session is being opened.
    Connecting,
    /// At least one session is open.
    Connected,
    /// No session is open: the last one was lost, or the last try failed.
    Down,
}

/// The state of one account's connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccountHealth {
    /// The account's name.
    pub account: String,
    /// What it connects to: a command, an address.
    pub connection: String,
    /// Whether it can be reached.
    pub state: ConnectionState,
    /// How long it has been in that state, in seconds.
    pub seconds_in_state: f64,
    /// What went wrong last, if nothing has gone well since.
    pub last_error: Option<String>,
    /// Sessions that were opened in place of a lost one, since the start.
    pub restarts: u64,
    /// Sessions that are open.
    pub sessions: usize,
    /// Calls that are under way or wait for a session.
    pub calls: usize,
    /// The server behind the first open session.
    pub server: Option<ServerInfo>,
}
