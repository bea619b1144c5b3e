//! The health of an account's connection, for people and for `--json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::Problem;
use crate::session::ServerInfo;

/// Whether an account can be used, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum AccountState {
    /// Not used yet.
    #[strum(serialize = "not asked yet")]
    Idle,
    /// The first session is being opened.
    Connecting,
    /// The last call was answered; or a session is open without a call yet.
    Connected,
    /// The server refuses the credentials, or they are not known to be of the account's user.
    Unauthorized,
    /// No session is open, or its server gives no usable answer.
    Unreachable,
    /// The server is rate limiting.
    RateLimited,
    /// The server refuses the credentials because this machine's clock differs from its own.
    #[strum(serialize = "refused for the clock")]
    Clock,
}

impl AccountState {
    /// The state of an account with or without this problem.
    pub(crate) fn of(problem: Option<Problem>) -> Self {
        match problem {
            None => Self::Connected,
            Some(Problem::Unauthorized | Problem::Forbidden) => Self::Unauthorized,
            Some(Problem::Clock) => Self::Clock,
            Some(Problem::Unreachable) => Self::Unreachable,
            Some(Problem::RateLimited) => Self::RateLimited,
        }
    }

    /// Whether a problem is known.
    #[must_use]
    pub fn is_problem(self) -> bool {
        !matches!(self, Self::Idle | Self::Connecting | Self::Connected)
    }
}

/// Why an endpoint, or the remote server beside the REST API, is not used although it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotProven {
    /// It has no project, so there is nothing to compare.
    NoProject,
    /// It is another user's or organisation's, or an answer cannot be compared.
    Other,
    /// What it is compared with does not answer.
    NoReference,
}

/// The state of one account's connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccountHealth {
    /// The account's name.
    pub account: String,
    /// The target of the connection: a command, an address.
    pub connection: String,
    /// The state.
    pub state: AccountState,
    /// Seconds since the state changed.
    pub seconds_in_state: f64,
    /// Seconds since a call last showed anything about it; since the start if none did.
    pub seconds_since_news: f64,
    /// The last error, if nothing succeeded since.
    pub last_error: Option<String>,
    /// Why it is not known to be the account's, if that is its problem.
    pub not_proven: Option<NotProven>,
    /// Sessions opened to replace a lost one, since the start.
    pub restarts: u64,
    /// Open sessions.
    pub sessions: usize,
    /// Calls under way or waiting for a session.
    pub calls: usize,
    /// The server behind the first open session.
    pub server: Option<ServerInfo>,
}
