//! `qchost call`: a QuantConnect tool, called by the operator.
//!
//! It passes the gate like every call, as a caller that has every grant and a name that no plugin can have.

use anyhow::{Result, anyhow, bail};
use qchost_gate::{CpuMeter, PluginCalls as _, Principal};
use qchost_policy::{Manifest, Person};
use serde_json::Value;

use crate::control::{self, Request, Route};
use crate::host::Host;
use crate::output::{Output, pretty};
use crate::verbs::{reload, tool_arguments};

/// Calls through the running host, or in this process.
pub async fn run(
    route: &Route,
    account: Option<&str>,
    tool: &str,
    arguments: &str,
    output: Output,
) -> Result<()> {
    let request = Request::Call {
        account: account_for(route, account, output).await?,
        tool: tool.to_owned(),
        arguments: tool_arguments(arguments)?.into(),
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
    let files = reload::of_running_host(route, output).await?;
    let files = files.ok_or_else(|| route.none_runs(&error))?;
    let accounts: Vec<_> = files
        .iter()
        .filter_map(|row| row.get("account")?.as_str())
        .collect();
    match accounts.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => bail!("the running host has no account"),
        several => bail!(
            "name an account with --account; the running host has: {}",
            several.join(", ")
        ),
    }
}

/// Calls through this host, for a person.
pub async fn by_host(
    host: &Host,
    person: &Person,
    account: &str,
    tool: &str,
    arguments: Value,
) -> Result<Value> {
    let Value::Object(arguments) = arguments else {
        bail!("the arguments of a tool are a JSON object");
    };
    if qchost_catalog::by_tool(tool).is_none() {
        // Manifests and components use other names for the same operations.
        let near = qchost_catalog::by_name(tool)
            .map(|operation| operation.tool)
            .or_else(|| {
                let tools = qchost_catalog::OPERATIONS.iter();
                qchost_policy::nearest(tool, tools.map(|operation| operation.tool))
            });
        return Err(match near {
            Some(near) => anyhow!("there is no tool `{tool}`; did you mean `{near}`?"),
            None => anyhow!("there is no tool `{tool}`; `qchost mcp` serves the list"),
        });
    }
    let operator = Manifest::operator(account);
    let principal = Principal {
        plugin: operator.plugin.as_str().into(),
        digest: "".into(),
        invocation: "call".into(),
        person: Some(person.uid),
        cpu: CpuMeter::default(),
        log_limiter: std::sync::Arc::default(),
    };
    // Until no other settings come into force meanwhile.
    while !host
        .gate
        .enforce(&host.gate.prepare(operator.clone()).await?)
    {}
    Ok(host.gate.call_raw(&principal, tool, arguments).await?)
}
