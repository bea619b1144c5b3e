//! Tools about the account and the server: the account, the versions of LEAN, the MCP server itself.

use serde_json::json;

use super::{Case, invalid, valid};
use crate::bench::ORGANIZATION;
use crate::body::{Body as _, ensure};

pub fn cases() -> Vec<Case> {
    vec![
        valid("read_account", |b| {
            Box::pin(async move {
                let body = b.call("read_account", json!({})).await?;
                body.equals("/organizationId", ORGANIZATION)?;
                ensure!(body.number("/creditBalance")? > 0.0, "no balance: {body}");
                ensure!(body.text("/card/last4")?.len() == 4, "no card: {body}");
                Ok(())
            })
        }),
        invalid("read_account", |b| {
            Box::pin(b.rejects("read_account", json!({}), &[]))
        }),
        valid("read_lean_versions", |b| {
            Box::pin(async move {
                let body = b.call("read_lean_versions", json!({})).await?;
                let versions = body.list("/versions")?;
                ensure!(!versions.is_empty(), "no versions");
                for version in versions {
                    ensure!(version.number("/id")? > 0.0, "no id: {version}");
                    ensure!(!version.text("/leanHash")?.is_empty(), "no hash: {version}");
                }
                body.find("/versions", "name", "master").map(drop)
            })
        }),
        invalid("read_lean_versions", |b| {
            Box::pin(b.rejects("read_lean_versions", json!({}), &[]))
        }),
        valid("read_mcp_server_version", |b| {
            Box::pin(async move {
                let body = b.call("read_mcp_server_version", json!({})).await?;
                body.equals("/result", env!("CARGO_PKG_VERSION"))
            })
        }),
        invalid("read_mcp_server_version", |b| {
            Box::pin(b.rejects("read_mcp_server_version", json!({}), &[]))
        }),
        valid("read_latest_mcp_server_version", |b| {
            Box::pin(async move {
                let body = b.call("read_latest_mcp_server_version", json!({})).await?;
                body.equals("/result", env!("CARGO_PKG_VERSION"))
            })
        }),
        invalid("read_latest_mcp_server_version", |b| {
            Box::pin(b.rejects("read_latest_mcp_server_version", json!({}), &[]))
        }),
    ]
}
