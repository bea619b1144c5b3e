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
        valid("read_organization_account", |b| {
            Box::pin(async move {
                let arguments = json!({ "organizationId": ORGANIZATION });
                let body = b.call("read_organization_account", arguments).await?;
                body.equals("/organizationId", ORGANIZATION)?;
                ensure!(body.number("/creditBalance")? > 0.0, "no balance: {body}");
                Ok(())
            })
        }),
        invalid("read_organization_account", |b| {
            Box::pin(async move {
                let good = json!({ "organizationId": ORGANIZATION });
                let bad = [json!({ "organizationId": "nobody" })];
                b.rejects("read_organization_account", good, &bad).await
            })
        }),
        valid("list_organizations", |b| {
            Box::pin(async move {
                let body = b.call("list_organizations", json!({})).await?;
                let own = body.find("/organizations", "id", ORGANIZATION)?;
                own.equals("/name", "Conformance")?;
                own.equals("/members", 1)?;
                own.equals("/preferred", true)
            })
        }),
        invalid("list_organizations", |b| {
            Box::pin(b.rejects("list_organizations", json!({}), &[]))
        }),
        valid("read_organization", |b| {
            Box::pin(async move {
                let arguments = json!({ "organizationId": ORGANIZATION });
                let body = b.call("read_organization", arguments).await?;
                body.equals("/organization/id", ORGANIZATION)?;
                body.equals("/organization/seats", 1)?;
                body.equals("/organization/members/0/isAdmin", true)?;
                let balance = body.number("/organization/credit/balance")?;
                ensure!(balance > 0.0, "no balance: {body}");
                Ok(())
            })
        }),
        invalid("read_organization", |b| {
            Box::pin(async move {
                let good = json!({ "organizationId": ORGANIZATION });
                let bad = [json!({ "organizationId": "nobody" })];
                b.rejects("read_organization", good, &bad).await
            })
        }),
        valid("read_lean_environments", |b| {
            Box::pin(async move {
                let body = b.call("read_lean_environments", json!({})).await?;
                let default = body.find("/environments", "name", "Default")?;
                default.equals("/id", 1)?;
                default.equals("/public", true)
            })
        }),
        invalid("read_lean_environments", |b| {
            Box::pin(b.rejects("read_lean_environments", json!({}), &[]))
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
