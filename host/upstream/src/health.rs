//! What is to be said of an account's connection, for people and for `--json`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Trouble;
use crate::session::ServerInfo;

/// Whether an account can be used, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountState {
    /// Nothing asked for it yet.
    Idle,
    /// The first session is being opened.
    Connecting,
    /// The last call was answered; or a session is open, and no call was made yet.
    Connected,
    /// The server refuses the credentials.
    Unauthorized,
    /// No session is open, or there is no usable answer at its end.
    Unreachable,
    /// The server wants fewer requests.
    RateLimited,
    /// The server refuses the credentials since this machine's clock differs from its own.
    Clock,
}

impl AccountState {
    /// The state of an account with this trouble, or with none.
    pub(crate) fn of(trouble: Option<Trouble>) -> Self {
        match trouble {
            None => Self::Connected,
            Some(Trouble::Unauthorized) => Self::Unauthorized,
            Some(Trouble::Clock) => Self::Clock,
            Some(Trouble::Unreachable) => Self::Unreachable,
            Some(Trouble::RateLimited) => Self::RateLimited,
        }
    }

    /// Whether something is known to be wrong.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        !matches!(self, Self::Idle | Self::Connecting | Self::Connected)
    }
}

impl fmt::Display for AccountState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "not asked yet",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::RateLimited => "rate-limited",
            Self::Clock => "refused for the clock",
        })
    }
}

/// The state of one account's connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccountHealth {
    /// The account's name.
    pub account: String,
    /// What it connects to: a command, an address.
    pub connection: String,
    /// Whether it can be used.
    pub state: AccountState,
    /// How long it has been in that state, in seconds.
    pub seconds_in_state: f64,
    /// How long ago a call last showed something of it, in seconds; since the start where none did.
    pub seconds_since_news: f64,
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
