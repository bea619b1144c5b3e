//! What a service manager is told (`sd_notify`): that the host is ready, reloads, and ends.
//!
//! Invariant: as long as the host starts or ends in good order, it asks for more time before its time is up.
//! Where no service manager asked for it (`NOTIFY_SOCKET`), nobody is told anything. One that cannot be
//! told is no reason not to serve.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// How often a service manager is told that the host still starts, or still ends.
const PULSE: Duration = Duration::from_secs(15);

/// The host loads its plugins, which may take long to compile, or waits for what runs and for answers to what was
/// sent: it is still at it.
pub async fn busy() -> Infallible {
    loop {
        let patience = u32::try_from((2 * PULSE).as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::ExtendTimeoutUsec(patience)]);
        tokio::time::sleep(PULSE).await;
    }
}

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
