//! `account`, `lean-versions` and `server`: one or two reads each, which cannot be refused.

use qchost_sdk::prelude::*;

use crate::checks::Checks;

/// The account.
pub(crate) fn account(checks: &mut Checks) -> Option<()> {
    let function = "read-account";
    let account = checks.answer(
        function,
        "has an organisation",
        account::read_account(),
        |it| {
            let organization = it.organization_id.as_deref().unwrap_or_default();
            organization.len() == 32 && organization.chars().all(|it| it.is_ascii_hexdigit())
        },
    )?;
    let balance = account.credit_balance.ok_or("none");
    checks.answer(function, "has a balance", balance, |it| it.is_finite())?;
    Some(())
}

/// Versions of LEAN.
pub(crate) fn lean_versions(checks: &mut Checks) -> Option<()> {
    let versions = lean_versions::read_lean_versions();
    checks.answer(
        "read-lean-versions",
        "have a number and a name",
        versions,
        |it| {
            !it.is_empty()
                && it
                    .iter()
                    .all(|it| it.id.is_some_and(|id| id > 0) && it.name.is_some())
        },
    )?;
    Some(())
}

/// The MCP server.
pub(crate) fn server(checks: &mut Checks) -> Option<()> {
    let version = |text: &String| text.split('.').count() >= 2;
    checks.answer(
        "read-mcp-server-version",
        "is a version",
        server::read_mcp_server_version(),
        version,
    )?;
    let latest = server::read_latest_mcp_server_version();
    checks.answer(
        "read-latest-mcp-server-version",
        "is a version",
        latest,
        version,
    )?;
    Some(())
}
