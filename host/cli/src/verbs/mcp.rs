//! `qchost mcp`: QuantConnect's tools for any MCP client.

use std::path::Path;

use anyhow::Result;
use qchost_quantconnect::{Options, Server};
use tokio_util::sync::CancellationToken;

use crate::accounts::client;
use crate::signals;

/// Serves until the client disconnects or the process is interrupted.
pub async fn run(base_url: &str, credentials: Option<&Path>) -> Result<()> {
    let credentials = qchost_upstream::Credentials::load(credentials)?;
    let rest = client(base_url, &credentials.user_id, credentials.api_token)?;
    let shutdown = CancellationToken::new();
    let canceller = shutdown.clone();
    tokio::spawn(async move {
        signals::ended().await;
        canceller.cancel();
    });
    Server::new(rest, Options::default())
        .serve_stdio(shutdown)
        .await?;
    Ok(())
}
