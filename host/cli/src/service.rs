//! What a service manager is told (`sd_notify`): that the host is ready, reloads, and ends.
//!
//! Where no service manager asked for it (`NOTIFY_SOCKET`), nobody is told anything. One that cannot be
//! told is no reason not to serve.

use sd_notify::{NotifyState, notify};

/// The host serves, after its start or a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The host looks at its files.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// The host drains and ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        tracing::warn!(target: "host", "the service manager cannot be told: {error}");
    }
}
