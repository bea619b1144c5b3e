//! `qchost invoke`: an action of a plugin.

use std::time::Duration;

use anyhow::{Context as _, Result};
use qchost_policy::Person;
use serde_json::Value;

use crate::control::{self, Reports, Request, Route};
use crate::host::Host;
use crate::output::{Output, pretty};
use crate::verbs::json_argument;

/// Polling interval for a plugin that is being loaded.
const LOADING_INTERVAL: Duration = Duration::from_millis(20);

/// Invokes through the running host, or in this process.
pub async fn run(route: &Route, action: &str, input: &str, output: Output) -> Result<()> {
    let request = Request::Invoke {
        action: action.to_owned(),
        input: json_argument(input)?,
    };
    let result = control::perform(route, request, output).await?;
    output.result(&result, pretty)
}

/// Invokes through this host, for a person.
pub async fn by_host(
    host: &Host,
    person: &Person,
    action: &str,
    input: Value,
    reports: &Reports,
) -> Result<Value> {
    let (name, action) = action
        .split_once('.')
        .with_context(|| format!("`{action}` is not PLUGIN.ACTION, such as strategy-lab.sweep"))?;
    while host.awaits(name) {
        tokio::time::sleep(LOADING_INTERVAL).await;
    }
    // A broken plugin gets another message than a missing one.
    if host.runtime.plugin(name).is_none() {
        host.check_plugin(name)?;
    }
    let report = |progress: &_| reports.progress(progress);
    host.invoke(person.uid, name, action, input, report).await
}
