//! Notifies the service manager (`sd_notify`) that the host is ready, reloads, or stops.
//!
//! Invariant: while the host starts or stops normally, it extends the service manager's time-out before it
//! expires. Without `NOTIFY_SOCKET` nothing is sent. A failing notification does not stop the host.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// Interval of notifications that the host still starts or stops.
const EXTEND_INTERVAL: Duration = Duration::from_secs(15);

/// The host loads its plugins, which may take long to compile, or waits for running invocations and for answers
/// to calls that were sent: it is still working.
pub async fn busy() -> Infallible {
    loop {
        let timeout = u32::try_from((2 * EXTEND_INTERVAL).as_micros()).unwrap_or(u32::MAX);
        notify_manager(&[NotifyState::ExtendTimeoutUsec(timeout)]);
        tokio::time::sleep(EXTEND_INTERVAL).await;
    }
}

/// The host serves, after its start or a reload.
pub fn ready() {
    notify_manager(&[NotifyState::Ready]);
}

/// The host reloads its files.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify_manager(&[NotifyState::Reloading, now]);
    }
}

/// The host drains and stops.
pub fn stopping() {
    notify_manager(&[NotifyState::Stopping]);
}

fn notify_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        tracing::warn!(target: "host", "the service manager cannot be told: {error}");
    }
}
