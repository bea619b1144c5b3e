//! Signals that shut a process down, and that make it reload its files.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for SIGTERM and SIGINT from now on; the future resolves with the first of them. If a handler cannot be
/// installed, the default one ends the process.
pub fn ended() -> impl Future<Output = ()> {
    let (terminated, interrupted) = (
        listen(SignalKind::terminate()),
        listen(SignalKind::interrupt()),
    );
    async move {
        tokio::select! {
            () = received(terminated) => {}
            () = received(interrupted) => {}
        }
    }
}

async fn received(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Listens for SIGHUP from now on.
pub fn hangups() -> Option<Signal> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind).ok()
}
