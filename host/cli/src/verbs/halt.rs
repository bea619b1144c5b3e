//! `qchost halt` and `qchost resume`: no more writes and trades, until they are allowed again.

use std::path::Path;

use anyhow::{Error, Result, ensure};
use qchost_gate::HaltScope;
use qchost_policy::Person;
use serde_json::{Value, json};

use crate::args::Target;
use crate::config::Config;
use crate::control::{self, Request};
use crate::host::Host;
use crate::output::{Output, table};
use crate::verbs::{cell, instant};

/// Halts, and shows what was on its way.
pub async fn run(
    config: &Config,
    target: Target,
    reason: String,
    liquidate: bool,
    output: Output,
) -> Result<()> {
    let request = request(&target, reason, liquidate);
    let report = control::perform(config, request, output).await?;
    show(&report, &target, output)
}

/// Halts the host that runs, although the configuration cannot be used any more: `error` says why.
pub async fn run_despite(
    path: &Path,
    error: Error,
    target: Target,
    reason: String,
    liquidate: bool,
    output: Output,
) -> Result<()> {
    let Some(config) = Config::to_reach(path) else {
        return Err(error);
    };
    let request = request(&target, reason, liquidate);
    let asked = control::ask_running(&config, request, output, &mut |_| Ok(())).await;
    match asked? {
        Some(report) => {
            tracing::warn!(target: "host", "the configuration has to be mended before the host starts again: {error:#}");
            show(&report, &target, output)
        }
        None => Err(error),
    }
}

fn request(target: &Target, reason: String, liquidate: bool) -> Request {
    Request::Halt {
        account: target.account.clone(),
        plugin: target.plugin.clone(),
        reason,
        liquidate,
    }
}

fn show(report: &Value, target: &Target, output: Output) -> Result<()> {
    let what = words(target.account.as_deref(), target.plugin.as_deref());
    let mut end = "qchost resume".to_owned();
    for (flag, name) in [("--account", &target.account), ("--plugin", &target.plugin)] {
        if let Some(name) = name {
            end += &format!(" {flag} {name}");
        }
    }
    output.result(report, |report| {
        let mut text = format!("halted: {what}\nend it with: {end}");
        text += &section(
            report,
            "departed",
            "calls that had been sent already, and how each ended:",
            &["call", "account", "plugin", "operation", "ended"],
        );
        text += &section(
            report,
            "stopped",
            "live deployments:",
            &["account", "project", "name", "result", "message"],
        );
        text
    })?;
    let left = rows(report, "stopped")
        .iter()
        .filter(|row| row.get("result").is_none_or(|result| result == "failed"))
        .count();
    ensure!(
        left == 0,
        "{left} live deployments were not stopped, see above; stop them on QuantConnect's site, or try again: qchost halt --liquidate"
    );
    Ok(())
}

/// Shows what is halted.
pub async fn list(config: &Config, output: Output) -> Result<()> {
    let halts = control::perform(config, Request::Halts, output).await?;
    output.result(&halts, |halts| {
        let rows: Vec<_> = halts
            .as_array()
            .into_iter()
            .flatten()
            .map(|halt| {
                ["account", "plugin", "since", "by", "reason"]
                    .map(|key| cell(halt, key))
                    .to_vec()
            })
            .collect();
        if rows.is_empty() {
            "nothing is halted".to_owned()
        } else {
            table(&["account", "plugin", "since", "by", "reason"], &rows)
        }
    })
}

/// Ends halts.
pub async fn resume(config: &Config, target: Target, output: Output) -> Result<()> {
    let what = words(target.account.as_deref(), target.plugin.as_deref());
    let request = Request::Resume {
        account: target.account,
        plugin: target.plugin,
    };
    let ended = control::perform(config, request, output).await?;
    output.result(&ended, |_| format!("resumed: {what}"))
}

/// Checks what a halt is for.
pub fn scope(host: &Host, account: Option<String>, plugin: Option<String>) -> Result<HaltScope> {
    if let Some(account) = &account {
        host.check_account(account)?;
    }
    if let Some(plugin) = &plugin {
        host.check_plugin_name(plugin)?;
    }
    Ok(HaltScope { account, plugin })
}

/// Halts.
pub async fn by_host(
    host: &Host,
    person: &Person,
    scope: HaltScope,
    reason: &str,
    liquidate: bool,
) -> Result<Value> {
    let report = host.gate.halt(person, scope, reason, liquidate).await?;
    Ok(serde_json::to_value(report)?)
}

/// Ends halts. What is not configured any more can still be halted, so the names are not checked.
pub async fn resume_by_host(host: &Host, person: &Person, scope: HaltScope) -> Result<Value> {
    let what = words(scope.account.as_deref(), scope.plugin.as_deref());
    let ended = host.gate.resume(person, scope).await?;
    ensure!(
        ended > 0,
        "no halt is for {what}; see those there are: qchost halt --list"
    );
    Ok(json!({ "ended": ended }))
}

/// What is halted.
pub fn list_by_host(host: &Host) -> Value {
    let halts = host.gate.halts();
    halts
        .iter()
        .map(|halt| {
            json!({
                "account": halt.account,
                "plugin": halt.plugin,
                "since": instant(halt.at),
                "by": halt.by,
                "reason": halt.reason,
            })
        })
        .collect()
}

fn words(account: Option<&str>, plugin: Option<&str>) -> String {
    match (account, plugin) {
        (None, None) => "everything".to_owned(),
        (Some(account), None) => format!("account {account}"),
        (None, Some(plugin)) => format!("plugin {plugin}"),
        (Some(account), Some(plugin)) => format!("plugin {plugin} on account {account}"),
    }
}

fn rows<'a>(report: &'a Value, key: &str) -> &'a [Value] {
    report
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn section(report: &Value, key: &str, title: &str, columns: &[&str]) -> String {
    let rows: Vec<Vec<String>> = rows(report, key)
        .iter()
        .map(|row| columns.iter().map(|column| cell(row, column)).collect())
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n\n{title}\n{}", table(columns, &rows))
}
