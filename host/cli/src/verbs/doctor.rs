//! `qchost doctor`: what works, and for what does not the cause and the fix.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use qchost_catalog::{Call, Failure, OPERATIONS, Target, Upstream as _, always, by_tool};
use qchost_quantconnect::{Probe, RestClient};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::accounts::{self, Connections};
use crate::config::Config;
use crate::control::{self, Request};
use crate::host::private_folder;
use crate::output::{Output, table, words};
use crate::verbs::reload;

/// How long an account may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// QuantConnect refuses a time stamp that is further off than this, in seconds.
const TOLERATED_SKEW: f64 = 60.0;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mark {
    Ok,
    Warning,
    Failed,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    mark: Mark,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn ok(&mut self, what: impl Into<String>, finding: impl Into<String>) {
        self.add(what, Mark::Ok, finding, None);
    }

    fn add(
        &mut self,
        what: impl Into<String>,
        mark: Mark,
        finding: impl Into<String>,
        fix: Option<String>,
    ) {
        self.0.push(Check {
            what: what.into(),
            mark,
            finding: finding.into(),
            fix,
        });
    }
}

/// Checks everything, prints the findings, and fails if one of them is bad.
pub async fn run(config_path: &Path, output: Output) -> Result<()> {
    let mut report = Report::default();
    report.ok(
        "version",
        format!(
            "qchost {}, {} operations",
            env!("CARGO_PKG_VERSION"),
            OPERATIONS.len()
        ),
    );
    match Config::load(config_path) {
        Ok(config) => {
            report.ok("configuration", config_path.display().to_string());
            folders(&config, &mut report);
            guardrails(&config, &mut report);
            vault(&config, &mut report).await;
            plugins(&config, &mut report, output).await;
            followed(&config, &mut report, output).await;
            all_accounts(&config, &mut report).await;
        }
        Err(error) => report.add(
            "configuration",
            Mark::Failed,
            words(&error),
            Some("mend the line, or write a new one with: qchost init".to_owned()),
        ),
    }
    let failed = report
        .0
        .iter()
        .filter(|check| check.mark == Mark::Failed)
        .count();
    output.result(&report.0, |checks| {
        let rows: Vec<_> = checks
            .iter()
            .map(|check| {
                let mark = match check.mark {
                    Mark::Ok => "ok",
                    Mark::Warning => "warning",
                    Mark::Failed => "FAILED",
                };
                vec![mark.to_owned(), check.what.clone(), check.finding.clone()]
            })
            .collect();
        let fixes: Vec<_> = checks
            .iter()
            .filter_map(|check| Some(format!("\n{}: {}", check.what, check.fix.as_deref()?)))
            .collect();
        table(&["", "check", "finding"], &rows) + &fixes.concat()
    })?;
    if failed > 0 {
        bail!("{failed} of {} checks failed", report.0.len());
    }
    Ok(())
}

fn folders(config: &Config, report: &mut Report) {
    for (what, folder) in [("data", config.data()), ("cache", config.cache())] {
        let tried = folder.and_then(|folder| {
            match what {
                "data" => private_folder(&folder)?,
                _ => std::fs::create_dir_all(&folder)?,
            }
            tempfile::NamedTempFile::new_in(&folder)?;
            Ok(folder)
        });
        match tried {
            Ok(folder) => report.ok(what, folder.display().to_string()),
            Err(error) => report.add(
                what,
                Mark::Failed,
                words(&error),
                Some(format!(
                    "set `{what}` in the configuration to a folder that this user can write"
                )),
            ),
        }
    }
}

/// Whether the guardrails can be used: without them no host starts.
fn guardrails(config: &Config, report: &mut Report) {
    match config.guardrails() {
        Ok(_) => report.ok(
            "guardrails",
            config.policies.as_ref().map_or_else(
                || "those beside the configuration, if any".to_owned(),
                |folder| folder.display().to_string(),
            ),
        ),
        Err(error) => report.add(
            "guardrails",
            Mark::Failed,
            words(&error),
            Some("mend the line; `qchost schema guardrails` shows what there is".to_owned()),
        ),
    }
}

/// Whether the vault lets this host in, if one is configured.
async fn vault(config: &Config, report: &mut Report) {
    if config.vault.is_none() {
        return;
    }
    let connected = match config.secrets() {
        Ok(secrets) => secrets.connect().await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match connected {
        Ok(()) => report.ok("vault", "it accepts this host"),
        Err(error) => report.add(
            "vault",
            Mark::Failed,
            words(&error),
            Some("mend [vault] in the configuration, or unseal the vault".to_owned()),
        ),
    }
}

/// Whether the plugins load, or are loaded by the host that runs.
async fn plugins(config: &Config, report: &mut Report, output: Output) {
    let listed = control::perform(config, Request::Plugins, output).await;
    let rows = listed.and_then(|listed| Ok(serde_json::from_value::<Vec<Value>>(listed)?));
    match rows {
        Ok(rows) if rows.is_empty() => report.add(
            "plugins",
            Mark::Warning,
            format!("no manifest in {}", config.plugins.display()),
            Some("put one there: qchost init writes an example".to_owned()),
        ),
        Ok(rows) => {
            for row in rows {
                let text = |key: &str| row.get(key).and_then(Value::as_str);
                let manifest = text("manifest").unwrap_or_default();
                match text("error") {
                    _ if text("status") == Some("waiting") => report.add(
                        format!("plugin {}", text("plugin").unwrap_or_default()),
                        Mark::Warning,
                        "its code changed, and may not trade before somebody said yes",
                        text("approval")
                            .map(|id| format!("look at it: qchost approvals show {id}")),
                    ),
                    None => report.ok(
                        format!("plugin {}", text("plugin").unwrap_or_default()),
                        manifest.to_owned(),
                    ),
                    Some(reason) if text("status") != Some("broken") => report.add(
                        format!("plugin {}", text("plugin").unwrap_or_default()),
                        Mark::Warning,
                        format!("{}: {reason}", text("status").unwrap_or_default()),
                        Some("mend it, then: qchost reload".to_owned()),
                    ),
                    Some(error) => report.add(
                        format!("manifest {manifest}"),
                        Mark::Failed,
                        error.to_owned(),
                        Some("mend it, then: qchost plugin list".to_owned()),
                    ),
                }
            }
        }
        Err(error) => report.add(
            "plugins",
            Mark::Failed,
            words(&error),
            Some("set `plugins` in the configuration to the folder of manifests".to_owned()),
        ),
    }
}

/// Whether the host that runs goes by its files as they are.
async fn followed(config: &Config, report: &mut Report, output: Output) {
    for (file, note) in reload::notes(config, output).await.unwrap_or_default() {
        let fix = "mend it, or start the host again; then: qchost reload".to_owned();
        report.add(
            format!("running host: {file}"),
            Mark::Warning,
            note,
            Some(fix),
        );
    }
}

async fn all_accounts(config: &Config, report: &mut Report) {
    if config.account.is_empty() {
        report.add(
            "accounts",
            Mark::Failed,
            "none is configured",
            Some("add [account.NAME] to the configuration".to_owned()),
        );
    }
    // One by one, so that an account that cannot even be prepared hides no other.
    for (name, account) in &config.account {
        let only = [(name.clone(), account)];
        let prepared = match config.secrets() {
            Ok(secrets) => {
                let only = only.iter().map(|(name, account)| (name.as_str(), *account));
                accounts::prepare(only, &secrets).await
            }
            Err(error) => Err(error),
        };
        let problem = match prepared {
            Ok(mut connections) => match connections.problems.remove(name) {
                None => {
                    let reached = connection(name, &connections, report).await;
                    match connections.rest.get(name) {
                        Some(rest) => cloud(name, rest, report).await,
                        // The cloud is behind another server: only through it can be asked.
                        None if reached => through_server(name, &connections, report).await,
                        None => {}
                    }
                    connections.accounts.close().await;
                    continue;
                }
                Some(problem) => problem,
            },
            Err(error) => error,
        };
        report.add(
            format!("account {name}"),
            Mark::Failed,
            words(&problem),
            Some(
                "mend the account in the configuration, or set the variables that it names"
                    .to_owned(),
            ),
        );
    }
}

/// Authentication, clock and rate limit, as far as the REST API can be asked directly.
async fn cloud(name: &str, rest: &RestClient, report: &mut Report) {
    let Probe {
        outcome,
        skew,
        latency,
        rate_limit,
    } = rest.probe().await;
    let what = format!("account {name}: authentication");
    match outcome {
        Ok(()) => report.ok(
            what,
            format!(
                "accepted by {} in {} ms",
                rest.origin(),
                latency.as_millis()
            ),
        ),
        Err(failure) => {
            let fix = fix(&failure);
            report.add(
                what,
                Mark::Failed,
                failure.to_string(),
                Some(fix.to_owned()),
            );
        }
    }
    let what = format!("account {name}: clock");
    match skew {
        Some(skew) if skew.abs() > TOLERATED_SKEW => report.add(
            what,
            Mark::Failed,
            format!("{skew:+.0} s off the server's: its time stamps will be refused"),
            Some("synchronise this machine's clock: timedatectl set-ntp true".to_owned()),
        ),
        Some(skew) => report.ok(what, format!("{skew:+.0} s off the server's")),
        None => report.add(
            what,
            Mark::Warning,
            "the server does not tell its time",
            None,
        ),
    }
    let what = format!("account {name}: rate limit");
    match (
        rate_limit.remaining,
        rate_limit.limit,
        rate_limit.retry_after,
    ) {
        (_, _, Some(wait)) => report.add(
            what,
            Mark::Failed,
            format!("reached; the server asks to wait {} s", wait.as_secs()),
            Some("wait, and make fewer calls".to_owned()),
        ),
        (Some(0), limit, None) => report.add(
            what,
            Mark::Warning,
            format!(
                "0 of {} left",
                limit.map_or("?".to_owned(), |limit| limit.to_string())
            ),
            Some("wait, and make fewer calls".to_owned()),
        ),
        (Some(left), limit, None) => {
            report.ok(
                what,
                format!(
                    "{left} of {} left",
                    limit.map_or("?".to_owned(), |limit| limit.to_string())
                ),
            );
        }
        (None, _, None) => report.ok(
            what,
            "not reached; the server does not tell how much is left",
        ),
    }
}

/// Authentication and rate limit, as far as a call through the account's own MCP server tells. Its
/// machine's clock cannot be seen from here.
async fn through_server(name: &str, connections: &Connections, report: &mut Report) {
    let Some(operation) = by_tool("read_account") else {
        return;
    };
    let call = Call {
        account: name,
        target: Target::Known(operation),
        arguments: Map::new(),
        deadline: Instant::now() + PATIENCE,
        clearance: always(),
        sends: None,
    };
    let what = format!("account {name}: authentication");
    match connections.accounts.call(call).await {
        Ok(_) => report.ok(what, "a call through the MCP server was accepted"),
        Err(failure) => {
            let fix = fix(&failure).to_owned();
            report.add(what, Mark::Failed, failure.to_string(), Some(fix));
        }
    }
}

/// What to do about a call that failed.
fn fix(failure: &Failure) -> &'static str {
    match failure {
        Failure::Rejected(_) => {
            "check the user id and the API token; both are on the account page of QuantConnect"
        }
        Failure::RateLimited { .. } => "wait, and make fewer calls",
        _ => "check the network and the base URL",
    }
}

/// Whether the MCP server can be reached and has the tools.
async fn connection(name: &str, connections: &Connections, report: &mut Report) -> bool {
    let what = format!("account {name}: connection");
    match connections
        .accounts
        .connect(name, Instant::now() + PATIENCE)
        .await
    {
        Ok(health) => {
            let Some(server) = health.server else {
                report.ok(what, health.connection);
                return true;
            };
            let finding = format!(
                "{}: {} {}, MCP {}, {} tools",
                health.connection, server.name, server.version, server.protocol, server.tools
            );
            if server.tools < OPERATIONS.len() {
                report.add(
                    what,
                    Mark::Warning,
                    format!("{finding}; {} are known", OPERATIONS.len()),
                    Some("update the MCP server, or use `connection = \"embedded\"`".to_owned()),
                );
            } else {
                report.ok(what, finding);
            }
            true
        }
        Err(failure) => {
            let fix =
                "run the account's command by hand, or open its address, and see what it says";
            report.add(
                what,
                Mark::Failed,
                failure.to_string(),
                Some(fix.to_owned()),
            );
            false
        }
    }
}
