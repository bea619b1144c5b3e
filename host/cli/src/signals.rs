//! The ways a process is told to end.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

/// Listens for SIGTERM and SIGINT from now on; what it returns ends with the first of them. Where a handler cannot be
/// installed, the default one ends the process.
pub fn ended() -> impl Future<Output = ()> {
    let one = |kind| {
        let signal = signal(kind);
        async move {
            match signal {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        }
    };
    let (terminated, interrupted) = (one(SignalKind::terminate()), one(SignalKind::interrupt()));
    async move {
        tokio::select! {
            () = terminated => {}
            () = interrupted => {}
        }
    }
}
