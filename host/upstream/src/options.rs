//! How an account's connection behaves, where the operator may choose.

use std::time::Duration;

use crate::backoff::Backoff;

/// The behaviour of one account's connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccountOptions {
    /// The most sessions that are open at a time; at least one. A further one is opened when
    /// those that are open carry [`Self::calls_per_connection`] calls each.
    pub connections: usize,
    /// The most calls under way on one session; at least one. A session gains nothing beyond
    /// about 16.
    pub calls_per_connection: usize,
    /// How long a session may take to open, from starting the command to the list of tools.
    pub connect_timeout: Duration,
    /// How often a call is sent at most, where sending it again is safe; at least once.
    pub attempts: u32,
    /// The wait between two tries, of a connection and of a call.
    pub backoff: Backoff,
    /// How long the answer of a cacheable operation is given again.
    pub cache_for: Duration,
    /// Whether a download address may be on this machine: only where the cloud itself is, that
    /// is with an emulator.
    pub local_downloads: bool,
}

impl Default for AccountOptions {
    /// 4 sessions of 16 calls, 60 s to connect, 5 attempts, answers cached for 60 s, no local downloads.
    fn default() -> Self {
        Self {
            connections: 4,
            calls_per_connection: 16,
            connect_timeout: Duration::from_secs(60),
            attempts: 5,
            backoff: Backoff::default(),
            cache_for: Duration::from_secs(60),
            local_downloads: false,
        }
    }
}
