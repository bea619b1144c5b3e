//! `qchost invoke`: an action of a plugin.

use anyhow::{Context as _, Result, bail};
use qchost_runtime::Progress;
use serde_json::Value;
use std::time::Duration;

use crate::config::Config;
use crate::control::{self, Request};
use crate::host::Host;
use crate::output::{Output, pretty, words};
use crate::verbs::json_argument;

/// Invokes by the running host, or in this process.
pub async fn run(config: &Config, action: &str, input: &str, output: Output) -> Result<()> {
    let input = json_argument(input)?;
    let mut display = output.progress();
    let request = Request::Invoke {
        action: action.to_owned(),
        input,
    };
    let answered = control::ask(&config.data()?, &request, &mut display).await;
    let result = match answered {
        Ok(Some(result)) => Ok(result),
        Ok(None) => {
            let Request::Invoke { action, input } = request else {
                return Ok(());
            };
            let mut host = Host::open(config).await?;
            host.load_all(config).await?;
            let result = by_host(&host, &action, input, |progress| display.report(progress)).await;
            host.close(Duration::ZERO).await;
            result
        }
        Err(error) => Err(error),
    };
    display.done();
    output.result(&result?, pretty)
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
    for loaded in &host.plugins {
        if let Err(error) = &loaded.plugin
            && loaded.claims(name)
        {
            bail!(words(error));
        }
    }
    host.invoke(name, action, input, report).await
}
