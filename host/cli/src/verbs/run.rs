//! `qchost run`: the host as a service.
//!
//! Invariant: after a shutdown request it ends in bounded time, and the service manager is told that it is still
//! working.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use qchost_upstream::AccountState;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::accounts::CHECK_TIMEOUT;
use crate::config::Config;
use crate::control::ControlPlane;
use crate::data_folder::private_folder;
use crate::expiring::keep_announcing;
use crate::gate::CALL_TIMEOUT;
use crate::host::Host;
use crate::output::{Output, counted, words};
use crate::recovery::recover_people;
use crate::reload::Reconciler;
use crate::{control, service, signals};

/// Time allowed for shutdown in addition to the drain time and the calls that were sent.
const LIMIT_MARGIN: Duration = Duration::from_secs(30);

/// How long the first check of the accounts may delay a host that is ready otherwise.
const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// What is printed once every plugin was tried.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ready {
    /// Whether the host serves; always `true`.
    ready: bool,
    /// The number of plugins that serve.
    plugins: usize,
    /// The number of manifests of which nothing is in effect.
    broken: usize,
    /// The control socket.
    socket: PathBuf,
    /// The state of each account.
    accounts: BTreeMap<String, AccountState>,
}

/// Runs until SIGTERM or Ctrl-C, then drains.
pub async fn run(
    config: &Config,
    drain: Duration,
    recovers_people: bool,
    output: Output,
) -> Result<()> {
    // Signals may arrive at once, also to reload before it is ready.
    let (mut ended, hangups) = (pin!(signals::ended()), signals::hangups());
    allow_files();
    let data = config.data()?;
    private_folder(&data)?;
    let lock = tokio::select! {
        lock = control::take_lock(config) => Arc::new(lock?),
        () = &mut ended => return Ok(()),
    };
    let (listener, announced) = control::listen(config).await?;
    let limit = drain + CALL_TIMEOUT + LIMIT_MARGIN;
    let mut plane = ControlPlane::start(config, listener, limit)?;
    let socket = config.socket()?;
    let mut busy = pin!(service::busy());
    let opening = async {
        let host = Host::open(config, Arc::clone(&lock)).await?;
        if recovers_people && let Err(error) = recover_people(&host, config).await {
            host.close(Duration::ZERO).await;
            return Err(error);
        }
        Ok(host)
    };
    let opened = tokio::select! {
        opened = opening => Some(opened),
        never = &mut busy => match never {},
        () = &mut ended => None,
    };
    let host = match opened {
        Some(Ok(host)) => Arc::new(host),
        Some(Err(error)) => {
            // Clients that connected meanwhile learn why there is no host.
            drop(std::fs::remove_file(&socket));
            plane.failed(words(&error));
            plane.close().await?;
            return Err(error);
        }
        None => {
            tracing::info!(target: "host", "shutdown requested before anything was loaded");
            drop(std::fs::remove_file(&socket));
            plane.failed("it was asked to shut down".to_owned());
            plane.close().await?;
            // A thread that opens the audit may still write. Until it ends with this process, no other host may start.
            std::mem::forget(lock);
            return Ok(());
        }
    };
    drop(lock);
    let connections = Arc::clone(&host.connections);
    let mut first_news = AbortOnDropHandle::new(tokio::spawn(async move {
        connections.check(CHECK_TIMEOUT).await;
    }));
    host.set_starting(true);
    let reconciler = Reconciler::new(Arc::clone(&host));
    plane.open(&host);
    let ending = CancellationToken::new();
    let (started, starting) = oneshot::channel();
    let following = AbortOnDropHandle::new(tokio::spawn(reconciler.run(started, ending.clone())));
    let hanging = AbortOnDropHandle::new(tokio::spawn(reload(Arc::clone(&host), hangups)));
    let (watched, control) = (Arc::clone(&host), plane.pulses());
    let feeding = AbortOnDropHandle::new(tokio::spawn(async move {
        service::watchdog(&watched, &control).await;
    }));
    let loaded = tokio::select! {
        loaded = starting => loaded.is_ok(),
        never = &mut busy => match never {},
        served = plane.served() => served.map(|()| false)?,
        () = &mut ended => false,
    };
    host.set_starting(false);
    let connections = Arc::clone(&host.connections);
    let checking = AbortOnDropHandle::new(tokio::spawn(async move {
        connections.keep_checking().await;
    }));
    let announcing = Arc::clone(&host);
    let announcing = AbortOnDropHandle::new(tokio::spawn(async move {
        keep_announcing(&announcing).await;
    }));
    if loaded {
        // How that task ended does not matter.
        drop(tokio::time::timeout(FIRST_CHECK_TIMEOUT, &mut first_news).await);
        announce_ready(&host, &socket, output)?;
        tokio::select! {
            () = ended => {}
            served = plane.served() => served?,
        }
    } else {
        tracing::info!(target: "host", "shutdown requested before the plugins were loaded");
    }
    // Nothing is loaded any more. Rights that the files remove are still removed from what runs.
    plane.ending();
    ending.cancel();
    drop((hanging, first_news, checking, announcing));
    service::stopping();
    tracing::info!(target: "host", "shutdown requested: no new invocations, running ones have {} s", drain.as_secs());
    // A second signal ends it at once.
    let second_signal = signals::ended();
    let left = tokio::select! {
        // In this order, the service manager knows of it also if there is nothing to wait for.
        biased;
        never = service::busy() => match never {},
        left = host.close(drain) => left,
        () = second_signal => bail!("told twice to end: running invocations were cut off, and calls that were sent may be done or not"),
    };
    drop((following, feeding));
    // Clients that connected before this get a reply, later ones find no host.
    drop(std::fs::remove_file(&socket));
    drop(announced);
    plane.close().await?;
    if left > 0 {
        bail!(
            "{left} invocations did not end within {} s and were cut off",
            drain.as_secs()
        );
    }
    tracing::info!(target: "host", "ended; every invocation did");
    Ok(())
}

/// Announces that every plugin was tried: to the service manager, and on standard output, with the problem of each
/// broken one.
fn announce_ready(host: &Host, socket: &Path, output: Output) -> Result<()> {
    let (mut ready, mut broken) = (0, 0);
    for row in host.table.rows() {
        match row.serving {
            Some(_) => ready += 1,
            None => broken += 1,
        }
        if let Some(problem) = row.problem {
            output.error(&Error::msg(problem.reason));
        }
    }
    service::ready();
    let health = host.connections.health();
    let states = health
        .iter()
        .map(|health| (health.account.clone(), health.state));
    let line = Ready {
        ready: true,
        plugins: ready,
        broken,
        socket: socket.to_owned(),
        accounts: states.collect(),
    };
    output.result(&line, |_| {
        let bad = health.iter().filter(|health| health.state.is_problem());
        let bad: String = bad
            .map(|health| format!(", account {} {}", health.account, health.state))
            .collect();
        format!(
            "ready: {}, {broken} broken{bad}, process {}",
            counted(ready, "plugin"),
            std::process::id()
        )
    })
}

/// Raises the limit on open files to the maximum: each client, each call to another host and each child takes some, and
/// the default is made for programs that expect no more than a thousand.
fn allow_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, limit)| setrlimit(Resource::RLIMIT_NOFILE, limit, limit));
    if let Err(error) = raised {
        tracing::warn!(target: "host", "the limit on open files stays as it is: {error}");
    }
}

/// Reloads the files on every SIGHUP.
async fn reload(host: Arc<Host>, hangups: Option<Signal>) {
    let (Some(mut hangups), Some(follower)) = (hangups, host.follower()) else {
        return;
    };
    while hangups.recv().await.is_some() {
        tracing::info!(target: "host", "told to reload");
        service::reloading();
        if !follower.reload().await {
            return;
        }
        service::ready();
    }
}
