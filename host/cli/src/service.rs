//! Notifies the service manager (`sd_notify`) that the host is ready, reloads, or stops.
//!
//! Invariant: while the host starts or stops normally, it extends the service manager's time-out before it
//! expires. Without `NOTIFY_SOCKET` nothing is sent. A failing notification does not stop the host. The watchdog is fed
//! only after the parts that could hang have answered: the reconciler, the control plane that serves halts, and the engine
//! of the plugins. The ledger and the audit are not asked: their threads wait for the disk, a restart mends no slow disk, and
//! it would cut off calls that were sent.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

use crate::host::Host;
use crate::pulse::Pulses;

/// Interval of notifications that the host still starts or stops.
const EXTEND_INTERVAL: Duration = Duration::from_secs(15);
/// How often the watchdog is fed within its time-out.
const FEEDS: u32 = 3;

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

/// Feeds the service manager's watchdog, if it has one for this process, for as long as this host works: each time, its
/// reconciler, its `control` plane and the engine of its plugins have had a turn.
pub async fn watchdog(host: &Host, control: &Pulses) {
    let Some(timeout) = watchdog_enabled() else {
        return;
    };
    let works = || async move {
        if let Some(reconciler) = host.follower() {
            // Without a reconciler, the host shuts down.
            reconciler.pulse().await;
        }
        // Without a control plane, it shuts down as well.
        control.ask().await;
        host.runtime.advanced().await;
    };
    feed(timeout, works, || notify_manager(&[NotifyState::Watchdog])).await;
}

/// Feeds a watchdog several times within its `timeout`, each time after `works` has returned.
async fn feed<F: Future<Output = ()>>(timeout: Duration, works: impl Fn() -> F, fed: impl Fn()) {
    loop {
        works().await;
        fed();
        tokio::time::sleep(timeout / FEEDS).await;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_is_fed_several_times_within_its_timeout() {
        let fed = AtomicU32::new(0);
        let count = || {
            fed.fetch_add(1, Ordering::Relaxed);
        };
        let feeding = feed(TIMEOUT, || std::future::ready(()), count);
        assert!(tokio::time::timeout(TIMEOUT, feeding).await.is_err());
        assert!(fed.load(Ordering::Relaxed) >= FEEDS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_is_not_fed_while_a_part_of_the_host_hangs() {
        let fed = AtomicU32::new(0);
        let rounds = AtomicU32::new(0);
        let hangs = || async {
            if rounds.fetch_add(1, Ordering::Relaxed) > 0 {
                std::future::pending::<()>().await;
            }
        };
        let count = || {
            fed.fetch_add(1, Ordering::Relaxed);
        };
        let feeding = feed(TIMEOUT, hangs, count);
        assert!(tokio::time::timeout(10 * TIMEOUT, feeding).await.is_err());
        assert_eq!(fed.load(Ordering::Relaxed), 1);
    }
}
