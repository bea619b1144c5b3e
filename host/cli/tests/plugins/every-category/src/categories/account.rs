//! `account`, `organizations`, `lean-versions` and `server`: reads.

use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found};
use crate::setup;

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

    let function = "read-organization-account";
    let organization = account.organization_id?;
    checks.answer(
        function,
        "is of the organisation",
        account::read_organization_account(&organization),
        |it| it.organization_id.as_deref() == Some(&organization),
    )?;
    checks.refusal(
        function,
        "does not know an organisation",
        account::read_organization_account("none"),
        not_found,
    );
    Some(())
}

/// Organisations.
pub(crate) fn organizations(checks: &mut Checks) -> Option<()> {
    let own = checks.answer(
        "list-organizations",
        "has one",
        setup::organization(),
        |it| !it.is_empty(),
    )?;
    checks.answer(
        "list-organizations",
        "lists that of the account",
        organizations::list_organizations(),
        |it| {
            it.iter()
                .any(|it| it.id.as_deref() == Some(&own) && it.preferred == Some(true))
        },
    )?;
    checks.answer(
        "read-organization",
        "has credit and members",
        organizations::read_organization(&own),
        |it| {
            let balance = it.credit.as_ref().and_then(|it| it.balance);
            it.id.as_deref() == Some(&own) && balance.is_some() && !it.members.is_empty()
        },
    )?;
    checks.refusal(
        "read-organization",
        "does not know an organisation",
        organizations::read_organization("none"),
        not_found,
    );
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
    checks.answer(
        "read-lean-environments",
        "have a number and a name",
        lean_versions::read_lean_environments(),
        |it| {
            !it.is_empty()
                && it
                    .iter()
                    .all(|it| it.id.is_some() && it.name.is_some() && it.public.is_some())
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
