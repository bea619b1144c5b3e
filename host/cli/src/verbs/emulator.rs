//! `qchost emulator`: QuantConnect's REST API on this machine, and its remote MCP server.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use qchost_emulator::{Emulator, Remote, Timing};
use qchost_text::EMULATOR_TOKEN;
use schemars::JsonSchema;
use serde::Serialize;

use crate::output::{Output, pretty};
use crate::signals;

/// How a client reaches the emulator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Serving {
    base_url: String,
    /// The remote MCP server, where it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_url: Option<String>,
    user_id: u64,
    organization_id: String,
    /// Where its results come from.
    engine: &'static str,
}

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(
    listen: SocketAddr,
    user_id: u64,
    faster: u32,
    remote: bool,
    derived_data: bool,
    output: Output,
) -> Result<()> {
    ensure!(
        listen.ip().is_loopback(),
        "the emulator listens at a loopback address only, not at {listen}: it does not encrypt, and every machine that reaches it could use it"
    );
    let token =
        std::env::var("QCHOST_EMULATOR_TOKEN").unwrap_or_else(|_| EMULATOR_TOKEN.to_owned());
    let mut builder = Emulator::builder()
        .address(listen)
        .credentials(user_id, token)
        .timing(Timing::default().faster(faster))
        .derived_data(derived_data);
    if remote {
        builder = builder.remote(Remote::new());
    }
    let emulator = builder.start().await?;
    let ready = Serving {
        base_url: emulator.base_url().to_owned(),
        remote_url: emulator.remote_url().map(str::to_owned),
        user_id: emulator.user_id(),
        organization_id: emulator.organization_id().to_owned(),
        engine: "the emulator's model, not LEAN",
    };
    let ended = signals::ended();
    output.result(&ready, pretty)?;
    ended.await;
    emulator.shutdown().await;
    Ok(())
}
