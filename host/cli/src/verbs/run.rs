//! `qchost run`: the host as a service.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::host::{Host, private_folder};
use crate::lock::Lock;
use crate::output::{Output, print};
use crate::{control, signals};

/// How long the clients of invocations that ended get to take the answer.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs until the process is told to end, then drains.
pub async fn run(config: &Config, drain: Duration, output: Output) -> Result<()> {
    let data = config.data()?;
    private_folder(&data)?;
    let mut host = Host::open(config, Lock::take(&data)?).await?;
    host.load_all(config).await?;
    let (mut ready, mut broken) = (0, 0);
    for loaded in &host.plugins {
        match &loaded.plugin {
            Ok(plugin) => {
                ready += 1;
                tracing::info!(target: "host", plugin = plugin.name(), "loaded");
            }
            Err(error) => {
                broken += 1;
                output.error(error);
            }
        }
    }
    let host = Arc::new(host);
    let socket = config.socket()?;
    let listener = control::listen(config).await?;
    let clients = TaskTracker::new();
    let serving = control::serve(listener, Arc::clone(&host), clients.clone());
    let mut serving = tokio::spawn(serving);
    // Whoever reads that the host is ready may tell it to end at once.
    let ended = signals::ended();
    let line = json!({ "ready": true, "plugins": ready, "broken": broken, "socket": socket });
    print(&if output.json {
        line.to_string()
    } else {
        format!(
            "ready: {ready} plugins, {broken} broken, process {}",
            std::process::id()
        )
    })?;
    tokio::select! {
        () = ended => {}
        served = &mut serving => served??,
    }
    tracing::info!(target: "host", "told to end: no new invocations, running ones have {} s", drain.as_secs());
    // Told once more, it ends at once.
    let told = signals::ended();
    let left = tokio::select! {
        left = host.close(drain) => left,
        () = told => bail!("told twice to end: running invocations were cut off, and calls that were sent may be done or not"),
    };
    serving.abort();
    clients.close();
    // A client that never asked anything is not waited for.
    drop(tokio::time::timeout(LAST_WORDS, clients.wait()).await);
    drop(std::fs::remove_file(&socket));
    if left > 0 {
        bail!(
            "{left} invocations did not end within {} s and were cut off",
            drain.as_secs()
        );
    }
    Ok(())
}
