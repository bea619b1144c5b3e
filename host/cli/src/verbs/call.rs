//! `qchost call`: a QuantConnect tool, called by the operator.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use qchost_upstream::account_of;

use super::arguments::tool_arguments;
use crate::control::{self, Route};
use crate::output::{Output, pretty};
use crate::requests::{Call, FileRow, ListFiles};

/// Calls through the running host, or in this process.
pub async fn run(
    route: &Route,
    account: Option<&str>,
    tool: &str,
    arguments: &str,
    output: Output,
) -> Result<()> {
    // Manifests, components and `qchost tools` use other names for the same operations.
    let tool = qchost_catalog::by_name(tool).map_or(tool, |operation| operation.tool);
    let request = Call {
        account: account_for(route, account, output).await?,
        tool: tool.to_owned(),
        arguments: tool_arguments(arguments)?,
    };
    let result = control::perform(route, request, output).await?;
    output.result(&result, pretty)
}

/// The account of a call. If the configuration is invalid, the running host knows the accounts it had.
async fn account_for(route: &Route, account: Option<&str>, output: Output) -> Result<String> {
    // An account removed from the configuration may still be the host's, for risk-reducing calls.
    if let Some(account) = account {
        return Ok(account.to_owned());
    }
    let error = match route.config() {
        Ok(config) => return Ok(config.only_account()?.to_owned()),
        Err(error) => error,
    };
    let files = control::ask_running(route, ListFiles {}, output).await?;
    let files = files.ok_or_else(|| route.none_runs(&error))?;
    match accounts_in(&files).as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => bail!("the running host has no account"),
        several => bail!(
            "name an account with --account; the running host has: {}",
            several.join(", ")
        ),
    }
}

/// The accounts in the rows of a host, each once: an account has a row for each of its connections.
fn accounts_in(rows: &[FileRow]) -> Vec<&str> {
    let accounts: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| match row {
            FileRow::Account { account, .. } => Some(account_of(account)),
            _ => None,
        })
        .collect();
    accounts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use qchost_upstream::AccountState;

    use super::*;

    #[test]
    fn an_account_is_named_once_whatever_connections_it_has() {
        let row = |connection: &str| FileRow::Account {
            file: format!("account {connection}"),
            account: connection.to_owned(),
            status: AccountState::Connected,
            detail: None,
            fix: None,
        };
        let rows = ["research", "research.remote"].map(row);
        assert_eq!(accounts_in(&rows), ["research"]);
        let rows = ["afar.remote", "research", "research.remote"].map(row);
        assert_eq!(accounts_in(&rows), ["afar", "research"]);
        assert!(accounts_in(&[]).is_empty());
    }
}
