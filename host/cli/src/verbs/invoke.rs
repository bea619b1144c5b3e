//! `qchost invoke`: an action of a plugin.

use anyhow::{Context as _, Result, bail};
use qchost_runtime::Progress;
use serde_json::Value;

use crate::config::Config;
use crate::control::{self, Request};
use crate::host::Host;
use crate::output::{Output, pretty, words};
use crate::verbs::json_argument;

/// Invokes by the running host, or in this process.
pub async fn run(config: &Config, action: &str, input: &str, output: Output) -> Result<()> {
    let request = Request::Invoke {
        action: action.to_owned(),
        input: json_argument(input)?,
    };
    let result = control::perform(config, request, output).await?;
    output.result(&result, pretty)
}

/// Invokes by this host.
pub async fn by_host(
    host: &Host,
    action: &str,
    input: Value,
    report: impl FnMut(&Progress),
) -> Result<Value> {
    let (name, action) = action
        .split_once('.')
        .with_context(|| format!("`{action}` is not PLUGIN.ACTION, such as strategy-lab.sweep"))?;
    // A plugin that is there and broken is worth another message than one that is not there.
    if host.runtime.plugin(name).is_none() {
        for loaded in &host.plugins {
            if let Err(error) = &loaded.plugin
                && loaded.claims(name)
            {
                bail!(words(error));
            }
        }
    }
    host.invoke(name, action, input, report).await
}
