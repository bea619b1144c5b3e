//! The control plane: a thread and a runtime of its own that serve the control socket from the moment the host has the data
//! folder, before anything else is opened.
//!
//! Invariants: a halt needs no thread, runtime or file descriptor that other work can exhaust. Until the state is open, a
//! halt is kept here, and is in force before anything can be sent. After a shutdown request, the process ends in bounded
//! time, however busy its other threads are.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::server;
use super::shared::{EarlyHalt, Opened, Shared};
use crate::config::Config;
use crate::host::Host;
use crate::pulse::Pulses;
use crate::signals;

/// Threads for blocking work: reading the audit, and large requests. Separate from those of the plugins.
const BLOCKING_THREADS: usize = 128;
/// How long a process may run on after a second shutdown request.
const SECOND_SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the control socket while it exists.
pub struct ControlPlane {
    shared: Arc<Shared>,
    end: CancellationToken,
    /// Asks the loop that serves the socket whether it works.
    pulses: Pulses,
    /// Resolves when the thread ends.
    served: Option<oneshot::Receiver<Result<()>>>,
}

impl ControlPlane {
    /// Starts serving. `limit` is how long the host may take to shut down; after that the process exits.
    pub fn start(config: &Config, listener: UnixListener, limit: Duration) -> Result<Self> {
        let listener = listener.into_std()?;
        let shared = Arc::new(Shared::new(config)?);
        let end = CancellationToken::new();
        let (ended, served) = oneshot::channel();
        let (pulses, asked) = Pulses::new();
        let (shares, until) = (Arc::clone(&shared), end.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("qchost-reading")
            .build()
            .context("the runtime of the control socket does not start")?;
        thread::Builder::new()
            .name("qchost-control".to_owned())
            .spawn(move || {
                let serving = async {
                    let listener = UnixListener::from_std(listener)?;
                    let ending = tokio::spawn(end_in_time(Arc::clone(&shares), limit));
                    let served = server::serve(listener, shares, until, asked).await;
                    ending.abort();
                    served
                };
                let served = runtime.block_on(serving);
                runtime.shutdown_background();
                // The host has ended already, and does not wait for it.
                drop(ended.send(served));
            })
            .context("the thread of the control socket does not start")?;
        Ok(Self {
            shared,
            end,
            pulses,
            served: Some(served),
        })
    }

    /// Asks the loop that serves the socket, and with it every halt, whether it works.
    pub fn pulses(&self) -> Pulses {
        self.pulses.clone()
    }

    /// The host exists: it carries out what was requested meanwhile. Early halts are in force already.
    pub fn open(&self, host: &Arc<Host>) {
        for EarlyHalt {
            person,
            scope,
            reason,
        } in self.shared.take_early()
        {
            // In force at once; stored while the host continues to start.
            let halting = host.gate.halts.halt(&person, scope, &reason, false);
            tokio::spawn(async move {
                match halting.await {
                    Ok(report) => {
                        for problem in report.problems {
                            tracing::error!(target: "host", "halted, but {problem}");
                        }
                    }
                    Err(error) => tracing::error!(target: "host", "{error}"),
                }
            });
        }
        self.shared.open(Opened::Host(Arc::clone(host)));
    }

    /// The start failed, for this reason.
    pub fn failed(&self, reason: String) {
        self.shared.open(Opened::Failed(reason));
    }

    /// The host shuts down.
    pub fn ending(&self) {
        self.shared.set_ending();
    }

    /// Waits until the socket is no longer served, which should not happen before [`Self::close`].
    pub async fn served(&mut self) -> Result<()> {
        match &mut self.served {
            Some(served) => {
                let result = served.await;
                self.served = None;
                result.context("the thread of the control socket failed")?
            }
            None => bail!("the control socket is served no longer"),
        }
    }

    /// Replies to the connected clients, and ends.
    pub async fn close(mut self) -> Result<()> {
        self.end.cancel();
        self.served().await
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Exits a process that does not shut down in time: with all other threads busy it would not even notice the request.
async fn end_in_time(shared: Arc<Shared>, limit: Duration) {
    signals::ended().await;
    let again = signals::ended();
    shared.set_ending();
    tokio::select! {
        () = tokio::time::sleep(limit) => {}
        () = async {
            again.await;
            tokio::time::sleep(SECOND_SIGNAL_TIMEOUT).await;
        } => {}
    }
    tracing::error!(target: "host", "the host did not shut down in time: calls that were sent may be done or not");
    crate::logging::close();
    #[expect(
        clippy::exit,
        reason = "the threads that would return from `main` are the ones that do not end"
    )]
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loop_that_serves_halts_answers_the_watchdog_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data: Some(folder.path().to_owned()),
            ..Config::default()
        };
        let listener = UnixListener::bind(folder.path().join("control.sock")).unwrap();
        let plane = ControlPlane::start(&config, listener, Duration::from_secs(60)).unwrap();
        let pulses = plane.pulses();
        assert!(pulses.ask().await);
        plane.close().await.unwrap();
        assert!(!pulses.ask().await);
    }
}
