//! The era of MCP that a server speaks: with a handshake (2025-03-26 to 2025-11-25), or without (2026-07-28).
//!
//! A server is first asked which revisions it speaks (`server/discover`). One of the earlier era refuses that, and is
//! then asked for a handshake on the same connection, and begins with one from then on. Some refuse it in a form that the
//! library takes for a failure: such a server is connected to once more.
//!
//! Invariant: only a server that answered is connected to a second time. Waiting and retrying are left to the pool.

use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::ProtocolVersion;
use rmcp::service::ClientLifecycleMode;

use super::connection::{ConnectError, Connection, NotOpened, Reaction};

/// How the sessions of one server begin.
#[derive(Debug, Default)]
pub(super) struct Era {
    handshake_first: AtomicBool,
}

impl Era {
    /// Opens a session by `attempt`.
    pub(super) async fn open<F>(
        &self,
        attempt: impl Fn(ClientLifecycleMode) -> F,
    ) -> Result<Connection, ConnectError>
    where
        F: Future<Output = Result<Connection, NotOpened>>,
    {
        let handshake_first = self.handshake_first.load(Ordering::Relaxed);
        let failed = match attempt(lifecycle(handshake_first)).await {
            Ok(connection) => {
                // The next session need not ask, for which some servers let the client wait.
                self.handshake_first
                    .store(connection.has_handshake(), Ordering::Relaxed);
                return Ok(connection);
            }
            Err(failed) => failed,
        };
        match failed.reaction {
            Reaction::None => return Err(failed.error),
            // Perhaps because of the question: the next attempt asks the other one.
            Reaction::Left => {
                self.handshake_first
                    .store(!handshake_first, Ordering::Relaxed);
                return Err(failed.error);
            }
            Reaction::Refused => {}
        }
        let connection = attempt(lifecycle(!handshake_first))
            .await
            .map_err(|failed| failed.error)?;
        self.handshake_first
            .store(!handshake_first, Ordering::Relaxed);
        Ok(connection)
    }
}

fn lifecycle(handshake_first: bool) -> ClientLifecycleMode {
    if handshake_first {
        return ClientLifecycleMode::Initialize;
    }
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: None,
    }
}
