//! `qchost run`: the host as a service.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use crate::config::Config;
use crate::host::{Host, private_folder};
use crate::lock::Lock;
use crate::output::{Output, print};
use crate::{control, signals};

/// Runs until the process is told to end, then drains.
pub async fn run(config: &Config, drain: Duration, output: Output) -> Result<()> {
    let data = config.data()?;
    private_folder(&data)?;
    let _lock = Lock::take(&data)?;
    let mut host = Host::open(config).await?;
    host.load_all(config).await?;
    for loaded in &host.plugins {
        match &loaded.plugin {
            Ok(plugin) => tracing::info!(target: "host", plugin = plugin.name(), "loaded"),
            Err(error) => output.error(&anyhow::anyhow!("{}: {error:#}", loaded.path.display())),
        }
    }
    let ready = host
        .plugins
        .iter()
        .filter(|loaded| loaded.plugin.is_ok())
        .count();
    let broken = host.plugins.len() - ready;
    let host = Arc::new(host);
    let socket = control::socket(&data);
    let serving = tokio::spawn({
        let (socket, host) = (socket.clone(), Arc::clone(&host));
        async move { control::serve(&socket, host).await }
    });
    let line = json!({ "ready": true, "plugins": ready, "broken": broken, "socket": socket });
    print(&if output.json {
        line.to_string()
    } else {
        format!(
            "ready: {ready} plugins, {broken} broken, process {}",
            std::process::id()
        )
    })?;
    let mut serving = serving;
    tokio::select! {
        () = signals::ended() => {}
        served = &mut serving => served??,
    }
    tracing::info!(target: "host", "told to end: no new invocations, running ones have {} s", drain.as_secs());
    // The socket's tasks hold the host; they end with their invocations.
    let left = host.close(drain).await;
    serving.abort();
    drop(std::fs::remove_file(&socket));
    if left > 0 {
        bail!(
            "{left} invocations did not end within {} s and were cut off",
            drain.as_secs()
        );
    }
    Ok(())
}
