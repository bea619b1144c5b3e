//! `qchost doctor`: what works, and for every problem its cause and remedy.
//!
//! Invariants: each check concerns one thing, and fails for that alone; what cannot be determined because of another
//! problem is unknown and never ok. The exit status is 1 if a check failed.

mod beside;
mod certificate;
mod data;
mod machine;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use qchost_catalog::{CredentialsRefusal, Failure, OPERATIONS};
use qchost_quantconnect::{Probe, RateLimit, RestClient};
use qchost_secrets::Secrets;
use qchost_upstream::{AccountState, CredentialsError};
use rustix::fs::{Access, access};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::Value;

use crate::accounts::{self, CHECK_TIMEOUT, Connections};
use crate::config::{Account, Config, text};
use crate::control::{self, Request, Route};
use crate::output::{Output, counted, table, words};
use crate::verbs::{cell, plugin, reload};

/// Clock difference in seconds that is worth a warning, and the likely cause if credentials are rejected.
const NOTABLE_SKEW: f64 = 30.0;
/// Clock difference in seconds above which QuantConnect rejects a time stamp.
const REFUSED_SKEW: f64 = 7_200.0;
/// Validity below this is reported.
const SOON: SignedDuration = SignedDuration::from_hours(24);
/// Maximum pages of approvals that are checked.
const MAX_PAGES: usize = 100;
const PAGE: u32 = 100;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mark {
    Ok,
    Warning,
    Failed,
    /// It could not be determined.
    Unknown,
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

    fn unknown(&mut self, what: impl Into<String>, finding: impl Into<String>) {
        self.add(what, Mark::Unknown, finding, None);
    }

    fn failed(&self, what: &str) -> bool {
        let mut checks = self.0.iter();
        checks.any(|check| check.what == what && check.mark == Mark::Failed)
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

/// Runs all checks, prints the results, and fails if one of them failed.
pub async fn run(route: &Route, output: Output) -> Result<()> {
    let mut report = Report::default();
    report.ok(
        "version",
        format!(
            "qchost {}, {} operations",
            env!("CARGO_PKG_VERSION"),
            OPERATIONS.len()
        ),
    );
    machine::files(&mut report);
    machine::time_source(&mut report, Path::new("/"));
    match route.config() {
        Ok(config) if beside::owner(config).is_some() => {
            report.ok("configuration", config.file.display().to_string());
            beside::check(route, config, &mut report, output).await;
        }
        Ok(config) => {
            report.ok("configuration", config.file.display().to_string());
            let found = data::check(route, config, &mut report, output).await;
            cache(config, &mut report);
            guardrails(config, &mut report);
            vault(config, &mut report).await;
            if found.is_new && !found.running && !report.failed("guardrails") {
                // A host in the configured folder would create it.
                match tempfile::tempdir() {
                    Ok(folder) => {
                        let apart = route.apart(&folder.path().join("data"));
                        plugins(&apart, &mut report, output).await;
                    }
                    Err(error) => report.unknown("plugins", error.to_string()),
                }
            } else if found.usable && !report.failed("guardrails") {
                plugins(route, &mut report, output).await;
                permits(route, &mut report, output).await;
                halts(route, &mut report, output).await;
            } else {
                report.unknown("plugins", "not looked at, for what failed above");
            }
            if found.running {
                followed(route, &mut report, output).await;
            }
            all_accounts(config, &mut report).await;
        }
        Err(error) => {
            unusable(route.path(), &words(&error), &mut report);
            data_disk(route, &mut report);
            // A running host keeps its former configuration.
            if matches!(route.connect().await, Ok(Some(_))) {
                plugins(route, &mut report, output).await;
                followed(route, &mut report, output).await;
            }
        }
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
                    Mark::Unknown => "unknown",
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

/// Why the configuration cannot be used. If only another user can read it, it is not known to be invalid.
fn unusable(file: &Path, why: &str, report: &mut Report) {
    let what = "configuration";
    // Not opened, which would block on a pipe.
    let looked = access(file, Access::READ_OK).map_err(std::io::Error::from);
    let kind = looked.err().map(|error| error.kind());
    let owner = file.metadata().ok().map(|found| found.uid());
    match (kind, owner) {
        (Some(ErrorKind::PermissionDenied), owner) => {
            let owner = owner.map_or_else(|| "its owner".to_owned(), |uid| format!("uid {uid}"));
            let fix = format!("run this as the user that the host runs as, or as {owner}");
            report.add(
                what,
                Mark::Unknown,
                format!("not known to this user: {why}"),
                Some(fix),
            );
        }
        (Some(ErrorKind::NotFound), _) => {
            let fix = "name the one that there is (--config FILE), or write one with: qchost init";
            report.add(what, Mark::Failed, why, Some(fix.to_owned()));
        }
        _ => report.add(
            what,
            Mark::Failed,
            why,
            Some("correct the line, or write a new file with: qchost init".to_owned()),
        ),
    }
}

/// The disk of the data folder, if an invalid configuration tells where that is.
fn data_disk(route: &Route, report: &mut Report) {
    match route.data() {
        Some(folder) if folder.is_dir() => machine::disk(report, "data", &folder),
        Some(folder) => {
            let finding = format!("not known: {} is no folder", folder.display());
            report.unknown("data: disk space", finding);
        }
        None => report.unknown(
            "data: disk space",
            "not known: the configuration does not say where the data folder is; name it with --data",
        ),
    }
}

fn cache(config: &Config, report: &mut Report) {
    let found = config.cache().and_then(|folder| {
        if folder.is_dir() {
            return Ok((folder.clone(), folder));
        }
        let above = machine::can_be_made(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok((folder, above))
    });
    match found {
        Ok((folder, found)) => {
            report.ok("cache", folder.display().to_string());
            machine::disk(report, "cache", &found);
        }
        Err(error) => report.add(
            "cache",
            Mark::Failed,
            words(&error),
            Some(
                "set `cache` in the configuration to a folder that this user can write".to_owned(),
            ),
        ),
    }
}

/// Whether the guardrails are valid: without them no host starts.
fn guardrails(config: &Config, report: &mut Report) {
    match config.guardrails() {
        Ok(_) => report.ok(
            "guardrails",
            config.policies.as_ref().map_or_else(
                || "those beside the configuration, if any".to_owned(),
                |folder| folder.display().to_string(),
            ),
        ),
        Err(error) => {
            let gone = config.policies.as_ref().filter(|folder| !folder.exists());
            let fix = match gone {
                Some(folder) => bring_back(folder),
                None => {
                    "correct the line; `qchost schema guardrails` shows what a guardrail can name"
                        .to_owned()
                }
            };
            report.add("guardrails", Mark::Failed, words(&error), Some(fix));
        }
    }
}

/// The remedy for a missing folder of guardrails.
fn bring_back(folder: &Path) -> String {
    format!(
        "bring the folder {} back: a host that runs holds on to the guardrails that it had until then, and one that starts \
         does not start without them",
        folder.display()
    )
}

/// Whether the vault accepts this host, if one is configured.
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
            Some("correct [vault] in the configuration, or unseal the vault".to_owned()),
        ),
    }
}

/// Whether the plugins load, or are loaded by the running host.
async fn plugins(route: &Route, report: &mut Report, output: Output) {
    let listed = control::perform(route, Request::Plugins, output).await;
    let rows = listed.and_then(|listed| Ok(serde_json::from_value::<Vec<Value>>(listed)?));
    match rows {
        Ok(rows) if rows.is_empty() => report.add(
            "plugins",
            Mark::Warning,
            route.config().map_or_else(
                |_| "the running host has none".to_owned(),
                |config| format!("no manifest in {}", config.plugins.display()),
            ),
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
                        plugin::standing(&row).unwrap_or_default(),
                        text("approval")
                            .map(|id| format!("look at it: qchost approvals show {id}")),
                    ),
                    None => report.ok(
                        format!("plugin {}", text("plugin").unwrap_or_default()),
                        manifest.to_owned(),
                    ),
                    // The account has checks of its own.
                    Some(reason) if text("status") == Some("unavailable") => report.add(
                        format!("plugin {}", text("plugin").unwrap_or_default()),
                        Mark::Warning,
                        reason.to_owned(),
                        None,
                    ),
                    Some(reason) if text("status") != Some("broken") => report.add(
                        format!("plugin {}", text("plugin").unwrap_or_default()),
                        Mark::Failed,
                        format!("{}: {reason}", text("status").unwrap_or_default()),
                        Some(match text("status") {
                            Some("quarantined") => {
                                "correct its code, or what it needs; a new component is tried at once"
                                    .to_owned()
                            }
                            _ => "correct it, then: qchost reload".to_owned(),
                        }),
                    ),
                    Some(error) => report.add(
                        format!("manifest {manifest}"),
                        Mark::Failed,
                        error.to_owned(),
                        Some("correct it, then: qchost plugin list".to_owned()),
                    ),
                }
            }
        }
        Err(error) => {
            let no_folder = |config: &Config| !config.plugins.is_dir();
            let fix = match route.config().is_ok_and(no_folder) {
                true => "set `plugins` in the configuration to the folder of manifests",
                false => "correct what it names, then: qchost plugin list",
            };
            report.add("plugins", Mark::Failed, words(&error), Some(fix.to_owned()));
        }
    }
}

/// Whether a standing permit expires soon.
async fn permits(route: &Route, report: &mut Report, output: Output) {
    let now = Timestamp::now();
    let (mut soon, mut after) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let request = Request::Approvals {
            all: true,
            after: after.take(),
            limit: PAGE,
        };
        let page = match control::perform(route, request, output).await {
            Ok(page) => page,
            Err(error) => return report.unknown("approvals", words(&error)),
        };
        let rows = page.get("approvals").and_then(Value::as_array);
        for row in rows.into_iter().flatten() {
            let id = row.get("id").and_then(Value::as_str).unwrap_or_default();
            after = Some(id.to_owned());
            let Some(permit) = row.get("permit").filter(|permit| is_in_use(permit)) else {
                continue;
            };
            let expires = permit.get("expires").and_then(Value::as_str);
            let ends: Option<Timestamp> = expires.and_then(|at| at.parse().ok());
            let left = ends.map(|ends| ends.duration_since(now));
            if left.is_some_and(|left| !left.is_negative() && left < SOON) {
                soon.push(format!("{id} at {}", expires.unwrap_or_default()));
            }
        }
        if page.get("more").and_then(Value::as_u64).unwrap_or_default() == 0 {
            break;
        }
    }
    match soon.is_empty() {
        true => report.ok("approvals", "no standing permit ends within a day"),
        false => report.add(
            "approvals",
            Mark::Warning,
            format!(
                "these standing permits end within a day: {}",
                soon.join(", ")
            ),
            Some("approve again what goes on after that: qchost approvals list --all".to_owned()),
        ),
    }
}

/// Whether a permit allows further calls.
fn is_in_use(permit: &Value) -> bool {
    let field = |key: &str| permit.get(key).unwrap_or(&Value::Null);
    field("standing") == &Value::Bool(true)
        && field("revoked by").is_null()
        && field("uses left").as_u64().is_some_and(|left| left > 0)
}

/// Halts, and whether a halt left positions open.
async fn halts(route: &Route, report: &mut Report, output: Output) {
    let listed = control::perform(route, Request::Halts, output).await;
    // The check of plugins reports missing rights and an unreachable host.
    for halt in listed
        .as_ref()
        .ok()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let open = halt.get("liquidating").and_then(Value::as_array);
        // An account whose deployments cannot be listed has a row without a project.
        let (known, unknown): (Vec<_>, Vec<_>) = open
            .into_iter()
            .flatten()
            .partition(|one| one.get("project").is_some_and(Value::is_u64));
        let mut finding = String::new();
        if !known.is_empty() {
            finding += &format!(
                "; positions open: {} still being liquidated",
                counted(known.len(), "live deployment")
            );
        }
        for account in &unknown {
            finding += &format!(
                "; whether positions are open on account {} is not known: {}",
                cell(account, "account"),
                cell(account, "message")
            );
        }
        let mark = match finding.is_empty() {
            true => Mark::Warning,
            false => Mark::Failed,
        };
        let by = format!("by {}: {}{finding}", cell(halt, "by"), cell(halt, "reason"));
        let fix = "look at it: qchost halt --list; end it: qchost resume".to_owned();
        report.add("halted", mark, by, Some(fix));
    }
}

/// Whether the running host has applied its files as they are.
async fn followed(route: &Route, report: &mut Report, output: Output) {
    let files = reload::of_running_host(route, output).await;
    for row in files.ok().flatten().unwrap_or_default() {
        let Some(note) = row.get("detail").and_then(Value::as_str) else {
            continue;
        };
        let what = format!("running host: {}", cell(&row, "file"));
        let status = row.get("status").cloned().unwrap_or_default();
        let approval = row.get("approval").and_then(Value::as_str);
        let state: Option<AccountState> = serde_json::from_value(status.clone()).ok();
        let (mark, fix) = match (status.as_str(), state) {
            (_, Some(_)) => (Mark::Failed, cell(&row, "fix")),
            (Some("degraded"), _) if gone(&row).is_some() => {
                (Mark::Failed, bring_back(&gone(&row).unwrap_or_default()))
            }
            (Some("waiting"), _) => (
                Mark::Warning,
                format!(
                    "an admin decides: qchost approvals show {}",
                    approval.unwrap_or("ID")
                ),
            ),
            (Some("degraded"), _) => (
                Mark::Failed,
                "correct what it names: the host picks up the change, and qchost reload shows the result. Do not restart the \
                 host before: it keeps what was in effect, and a start would read the files as they are"
                    .to_owned(),
            ),
            _ => (
                Mark::Warning,
                "restart the host when convenient: until then what it had stays in effect".to_owned(),
            ),
        };
        report.add(what, mark, note, Some(fix));
    }
}

/// The missing folder of guardrails in a row of a host.
fn gone(row: &Value) -> Option<PathBuf> {
    let guardrails = row.get("guardrails") == Some(&Value::Bool(true));
    let folder = PathBuf::from(row.get("file")?.as_str()?);
    (guardrails && !folder.exists()).then_some(folder)
}

/// The remedy for an account that cannot be prepared.
fn mend(problem: &anyhow::Error) -> String {
    match problem.downcast_ref::<CredentialsError>() {
        Some(CredentialsError::Malformed { origin, problem }) if problem.contains("JSON") => {
            format!(
                "write {origin} again, as `lean login` does: {{\"user-id\": \"1\", \"api-token\": \"…\"}}; both are on the account page of \
             QuantConnect, and a running host notices the new file"
            )
        }
        Some(CredentialsError::Unreadable { path, source }) => match source.kind() {
            ErrorKind::NotFound => format!(
                "put the file {} there, or name the one that there is in the configuration",
                path.display()
            ),
            _ => format!(
                "let the user that the host runs as read {0}, and no other user: ls -l {0}",
                path.display()
            ),
        },
        _ => accounts::mend(problem),
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
    // Individually, so that an account that cannot be prepared does not hide others.
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
                    expiry(name, account, &config_secrets(config), report).await;
                    certificate::check(name, account, report).await;
                    let reached = connection(name, &connections, report).await;
                    match connections.rest.get(name) {
                        Some(rest) => cloud(name, rest, report).await,
                        // The cloud is behind another server, so it is checked through that.
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
        let fix = Some(mend(&problem));
        report.add(
            format!("account {name}"),
            Mark::Failed,
            words(&problem),
            fix,
        );
    }
}

/// Reachability, authentication, clock and rate limit, as far as the REST API can be checked directly. Each is
/// judged separately; without an answer, what depends on it is unknown.
async fn cloud(name: &str, rest: &RestClient, report: &mut Report) {
    let Probe {
        outcome,
        skew,
        latency,
        rate_limit,
    } = rest.probe().await;
    let check = |what: &str| format!("account {name}: {what}");
    let answered = match &outcome {
        Ok(()) | Err(Failure::Rejected(_) | Failure::RateLimited { .. }) => {
            report.ok(
                check("cloud"),
                format!("{} answers in {} ms", rest.origin(), latency.as_millis()),
            );
            true
        }
        Err(failure) => {
            report.add(
                check("cloud"),
                Mark::Failed,
                format!("{}: {failure}", AccountState::Unreachable),
                Some("check the network and the base URL".to_owned()),
            );
            false
        }
    };
    let refused_by_clock = match &outcome {
        Err(Failure::Rejected(errors)) => {
            errors
                .iter()
                .any(|error| CredentialsRefusal::parse(error) == Some(CredentialsRefusal::Clock))
                || skew.is_some_and(|skew| skew.abs() >= NOTABLE_SKEW)
        }
        _ => false,
    };
    authentication(check("authentication"), &outcome, refused_by_clock, report);
    let what = check("clock");
    match skew {
        _ if refused_by_clock => report.add(
            what,
            Mark::Failed,
            match skew {
                Some(skew) => format!("{skew:+.0} s off the server's, which refuses the time stamps"),
                None => "the server refuses the time stamps".to_owned(),
            },
            Some(accounts::remedy(AccountState::Clock).to_owned()),
        ),
        Some(skew) if skew.abs() >= NOTABLE_SKEW => report.add(
            what,
            Mark::Warning,
            format!("{skew:+.0} s off the server's; its time stamps are refused from {REFUSED_SKEW:.0} s on"),
            Some(accounts::remedy(AccountState::Clock).to_owned()),
        ),
        Some(skew) => report.ok(what, format!("{skew:+.0} s off the server's")),
        None if answered => report.unknown(what, "the server does not tell its time"),
        None => report.unknown(what, "not known: there was no answer"),
    }
    limit(check("rate limit"), rate_limit, answered, report);
}

fn authentication(
    what: String,
    outcome: &Result<(), Failure>,
    refused_by_clock: bool,
    report: &mut Report,
) {
    match outcome {
        Ok(()) => report.ok(what, "the credentials are accepted"),
        Err(_) if refused_by_clock => {
            report.unknown(what, "not known: the clock is wrong, see below");
        }
        Err(Failure::Rejected(errors)) => report.add(
            what,
            Mark::Failed,
            format!("{}: {}", AccountState::Unauthorized, errors.join("; ")),
            Some(accounts::remedy(AccountState::Unauthorized).to_owned()),
        ),
        Err(Failure::RateLimited { .. }) => {
            report.unknown(what, "not known: there were too many requests");
        }
        Err(_) => report.unknown(what, "not known: there was no answer"),
    }
}

fn limit(what: String, limit: RateLimit, answered: bool, report: &mut Report) {
    let of = limit
        .limit
        .map_or("?".to_owned(), |limit| limit.to_string());
    let fix = Some(accounts::remedy(AccountState::RateLimited).to_owned());
    match (limit.remaining, limit.retry_after) {
        (_, Some(wait)) => report.add(
            what,
            Mark::Failed,
            format!(
                "{}; the server asks to wait {} s",
                AccountState::RateLimited,
                wait.as_secs()
            ),
            fix,
        ),
        (Some(0), None) => report.add(what, Mark::Warning, format!("0 of {of} left"), fix),
        (Some(left), None) => report.ok(what, format!("{left} of {of} left")),
        (None, None) if answered => {
            report.ok(
                what,
                "not reached; the server does not tell how much is left",
            );
        }
        (None, None) => report.unknown(what, "not known: there was no answer"),
    }
}

/// Authentication and rate limit, as far as a call through the account's own MCP server tells. The clock of its
/// machine is not visible from here.
async fn through_server(name: &str, connections: &Connections, report: &mut Report) {
    let what = format!("account {name}: authentication");
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let Some(health) = connections.accounts.check(name, deadline).await else {
        return;
    };
    if health.state.is_trouble() {
        let cause = health.last_error.unwrap_or_default();
        report.add(
            what,
            Mark::Failed,
            format!("{}: {cause}", health.state),
            Some(accounts::remedy(health.state).to_owned()),
        );
    } else {
        report.ok(what, "a call through the MCP server was accepted");
    }
}

/// Whether the token of an HTTP account expires soon, if it says so.
async fn expiry(name: &str, account: &Account, secrets: &Option<Secrets>, report: &mut Report) {
    let (Account::Http { headers, .. }, Some(secrets)) = (account, secrets) else {
        return;
    };
    for (header, setting) in headers {
        let Ok((value, _)) = text(setting, secrets).await else {
            continue;
        };
        let Some(ends) = token_end(value.expose_secret()) else {
            continue;
        };
        let what = format!("account {name}: token in {header}");
        let left = ends.duration_since(Timestamp::now());
        let fix = || Some(accounts::remedy(AccountState::Unauthorized).to_owned());
        if left.is_negative() {
            report.add(what, Mark::Failed, format!("it ended at {ends:.0}"), fix());
        } else if left < SOON {
            report.add(what, Mark::Warning, format!("it ends at {ends:.0}"), fix());
        } else {
            report.ok(what, format!("it ends at {ends:.0}"));
        }
    }
}

/// The expiry of a bearer token that is a JSON Web Token. Checking its signature is up to the server.
fn token_end(header: &str) -> Option<Timestamp> {
    let token = header.split_whitespace().last()?;
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()
}

fn config_secrets(config: &Config) -> Option<Secrets> {
    // If it fails, the accounts that need secrets report why.
    config.secrets().ok()
}

/// Whether the MCP server is reachable and has the tools.
async fn connection(name: &str, connections: &Connections, report: &mut Report) -> bool {
    let what = format!("account {name}: connection");
    match connections
        .accounts
        .connect(name, Instant::now() + CHECK_TIMEOUT)
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
            let health = connections.accounts.health(name);
            let state = health.map(|health| health.state);
            let fix = match state {
                Some(AccountState::Unauthorized) => accounts::remedy(AccountState::Unauthorized),
                _ => "run the account's command by hand, or open its address, and see what it says",
            };
            let finding = match state.filter(|state| state.is_trouble()) {
                Some(state) => format!("{state}: {failure}"),
                None => failure.to_string(),
            };
            report.add(what, Mark::Failed, finding, Some(fix.to_owned()));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read_where_it_says_it() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub": "me", "exp": 1700000000}"#);
        let end = token_end(&format!("Bearer e30.{claims}.c2ln")).unwrap();
        assert_eq!(end.as_second(), 1_700_000_000);
        for other in ["", "Bearer abc", "a.b.c", "Bearer a.e30.c", "..."] {
            assert_eq!(token_end(other), None, "{other}");
        }
    }
}
