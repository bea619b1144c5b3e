//! Settings of an account's connection.

use std::time::Duration;

use qchost_catalog::{Backoff, Way};

/// The behaviour of one account's connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccountOptions {
    /// Which of the account's connections it is: a server of another kind is refused.
    pub way: Way,
    /// Maximum open sessions; at least one. A further one is opened when the open ones carry
    /// [`Self::calls_per_connection`] calls each.
    pub connections: usize,
    /// Maximum concurrent calls on one session; at least one. A session gains nothing beyond about 16.
    pub calls_per_connection: usize,
    /// Time limit for opening a session, from starting the command to the list of tools.
    pub connect_timeout: Duration,
    /// Maximum number of sends of a call that is safe to retry; at least one.
    pub attempts: u32,
    /// The wait between two attempts, of a connection and of a call.
    pub backoff: Backoff,
    /// Upper limit on how long an answer is kept, whatever its row in the catalog says. If it is zero, each
    /// read is sent.
    pub cache_for: Duration,
    /// How long a read waits for one endpoint while another one is known to work.
    pub failover_after: Duration,
    /// Whether a download address may be on this machine: only if the cloud itself is, as with an
    /// emulator.
    pub local_downloads: bool,
}

impl Default for AccountOptions {
    /// In front of the REST API, 4 sessions of 16 calls, 60 s to connect, 5 attempts, answers kept for a day at most, 10 s until another
    /// endpoint is tried, no local downloads.
    fn default() -> Self {
        Self {
            way: Way::Rest,
            connections: 4,
            calls_per_connection: 16,
            connect_timeout: Duration::from_secs(60),
            attempts: 5,
            backoff: Backoff::default(),
            cache_for: Duration::from_secs(24 * 60 * 60),
            failover_after: Duration::from_secs(10),
            local_downloads: false,
        }
    }
}
