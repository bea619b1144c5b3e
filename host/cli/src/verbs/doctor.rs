//! `qchost doctor`: what works, and for every problem its cause and remedy.
//!
//! Invariants: each check concerns one thing, and fails for that alone; what cannot be determined because of another
//! problem is unknown and never ok. The exit status is 1 if a check failed.

mod beside;
mod certificate;
mod data;
mod endpoints;
mod host;
mod machine;
mod report;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use nix::unistd::{getegid, geteuid};
use qchost_catalog::{CredentialsRefusal, Failure, OPERATIONS};
use qchost_gate::PortableText;
use qchost_quantconnect::{Probe, RateLimit, RestClient};
use qchost_secrets::Secrets;
use qchost_upstream::{AccountState, AuthorizationState, CredentialsError, account_of, remote_of};
use rustix::fs::{Access, access};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use self::host::{
    CHANGED_FIX, changed_identities, followed, guardrails, halts, live_profiles, permits, plugins,
};
pub use self::report::Check;
use self::report::{Mark, Report};
use crate::accounts::{self, CHECK_TIMEOUT, Connections};
use crate::authorizations::{Authorizations, LoggedOut};
use crate::backup::incomplete_files;
use crate::config::{Account, Config, Connection, text};
use crate::control::Route;
use crate::emulators::{self, Emulators};
use crate::identities::Identities;
use crate::output::{Output, cell_and_remark, counted, remark, table, words};
use crate::terminal::line;
use crate::verbs::cells::word;

/// Clock difference in seconds that is worth a warning, and the likely cause if credentials are rejected.
const NOTABLE_SKEW: f64 = 30.0;
/// Clock difference in seconds above which QuantConnect rejects a time stamp.
const REFUSED_SKEW: f64 = 7_200.0;
/// Time before the end of an authorization from which on it is worth a warning.
const AUTHORIZATION_WARNING: SignedDuration = SignedDuration::from_mins(15);

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
    restored(route, &mut report);
    match route.config() {
        Ok(config) if beside::owner(config).is_some() => {
            report.ok("configuration", config.file.display().to_string());
            beside::check(route, config, &mut report, output).await;
        }
        Ok(config) => {
            report.ok("configuration", config.file.display().to_string());
            literal_secrets(config, &mut report);
            let found = data::check(route, config, &mut report, output).await;
            cache(config, &mut report);
            guardrails(config, &mut report);
            vault(config, &mut report).await;
            if found.is_new && !found.running && !report.has_failed("guardrails") {
                // A host in the configured folder would create it.
                match tempfile::tempdir() {
                    Ok(folder) => {
                        let apart = route.apart(&folder.path().join("data"));
                        plugins(&apart, &mut report, output).await;
                    }
                    Err(error) => report.unknown("plugins", error.to_string()),
                }
            } else if found.usable && !report.has_failed("guardrails") {
                plugins(route, &mut report, output).await;
                permits(route, &mut report, output).await;
                halts(route, &mut report, output).await;
                live_profiles(route, &mut report, output).await;
            } else {
                report.unknown("plugins", "not looked at, for what failed above");
            }
            if found.running {
                followed(route, &mut report, output).await;
                changed_identities(route, &mut report, output).await;
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
        let mut below = String::new();
        let rows: Vec<_> = checks
            .iter()
            .map(|check| {
                let mark = match check.mark {
                    Mark::Failed => "FAILED".to_owned(),
                    mark => word(mark),
                };
                let (finding, whole) = cell_and_remark(&check.what, &check.finding);
                if let Some(whole) = whole {
                    below += &format!("\n{whole}");
                }
                if let Some(fix) = &check.fix {
                    below += &match fix.contains('\n') {
                        true => format!("\n{}", remark(&check.what, fix)),
                        false => format!("\n{}: {fix}", check.what),
                    };
                }
                vec![mark, check.what.clone(), finding]
            })
            .collect();
        table(&["", "check", "finding"], &rows) + &below
    })?;
    if failed > 0 {
        bail!("{failed} of {} failed", counted(report.0.len(), "check"));
    }
    Ok(())
}

/// Whether a file that no host reads waits for its secrets since a backup was restored.
fn restored(route: &Route, report: &mut Report) {
    let file = route.path();
    let plugins = match route.config() {
        Ok(config) => config.plugins(),
        // Where `restore` puts them.
        Err(_) => file.with_file_name("plugins"),
    };
    for path in incomplete_files(file, &plugins) {
        report.warn(
            format!("restored file {}", line(&path.to_string_lossy())),
            "no host reads it: values that may be secrets were not in the backup",
            "put them in the places of \"removed\", and rename it without `.incomplete`",
        );
    }
}

/// Why the configuration cannot be used. If only another user can read it, it is not known to be invalid.
fn unusable(file: &Path, why: &str, report: &mut Report) {
    let what = "configuration";
    // Not opened, which would block on a pipe.
    let checked = access(file, Access::READ_OK).map_err(std::io::Error::from);
    let kind = checked.err().map(|error| error.kind());
    let owner = file.metadata().ok().map(|found| found.uid());
    match (kind, owner) {
        (Some(ErrorKind::PermissionDenied), owner) => {
            let owner = owner.map_or_else(|| "its owner".to_owned(), |uid| format!("uid {uid}"));
            let fix = format!("run this as the user that the host runs as, or as {owner}");
            let finding = format!("not known to this user: {why}");
            report.add(what, Mark::Unknown, finding, Some(fix));
        }
        (Some(ErrorKind::NotFound), _) => {
            let fix = "name the one that there is (--config FILE), or write one with: qchost init";
            report.fail(what, why, fix);
        }
        _ => report.fail(
            what,
            why,
            "correct the line; to see a valid file, write one into another folder: qchost init example",
        ),
    }
}

/// Whether other users can read secrets that are in the configuration itself.
fn literal_secrets(config: &Config, report: &mut Report) {
    let Ok(found) = config.file.metadata() else {
        return;
    };
    let open = found.mode() & 0o004 != 0;
    let Some(text) = PortableText::configuration(&config.origin.text).filter(|_| open) else {
        return;
    };
    if text.removed.is_empty() {
        return;
    }
    let finding = format!(
        "every user can read {} (mode {:o}), and these values in it may be secrets: {}",
        config.file.display(),
        found.mode() & 0o777,
        line(&text.removed.join(", "))
    );
    let file = config.file.to_string_lossy();
    let file = shlex::try_quote(&file).unwrap_or_else(|_| file.clone());
    let user = geteuid();
    let fix = match user.is_root() || found.uid() == user.as_raw() {
        true => format!("chmod o-rwx {file}"),
        // This user, as whom the host runs, keeps reading it.
        false => format!("sudo chgrp {} {file} && sudo chmod 640 {file}", getegid()),
    };
    report.warn("configuration: secrets", finding, fix);
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
        Err(error) => report.fail(
            "cache",
            words(&error),
            "set `cache` in the configuration to a folder that this user can write",
        ),
    }
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
        Err(error) => report.fail(
            "vault",
            words(&error),
            "correct [vault] in the configuration, or unseal the vault",
        ),
    }
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
        report.fail(
            "accounts",
            "none is configured",
            "add [account.NAME] to the configuration",
        );
    }
    // Individually, so that an account that cannot be prepared does not hide others.
    for (name, account) in &config.account {
        if let Err(problem) = one_account(name, account, config, report).await {
            report.fail(format!("account {name}"), words(&problem), mend(&problem));
        }
    }
    fail_once(config, report);
}

/// An account that cannot be used fails here: that the running host cannot use it either is no failure of its own.
fn fail_once(config: &Config, report: &mut Report) {
    let failed = report.0.iter().filter(|check| check.mark == Mark::Failed);
    let failed: Vec<String> = failed
        .filter_map(|check| connection_of(config, &check.what))
        .collect();
    for check in &mut report.0 {
        let of_host = check.what.strip_prefix("running host: account ");
        let is_repeated = of_host.is_some_and(|of| failed.iter().any(|failed| failed == of));
        if is_repeated && check.mark == Mark::Failed {
            check.mark = Mark::Warning;
            check.fix = None;
        }
    }
}

/// The connection that a check of an account is about.
fn connection_of(config: &Config, what: &str) -> Option<String> {
    let of = what.strip_prefix("account ")?;
    let (name, check) = of.split_once(": ").unwrap_or((of, ""));
    let remote = config.account.get(name).and_then(|it| it.remote.as_ref());
    // A person logs in to the remote server, where there is one.
    let is_remote = check == "authorization" && remote.is_some_and(|it| it.login().is_some());
    Some(match is_remote {
        true => remote_of(name),
        false => name.to_owned(),
    })
}

async fn one_account(
    name: &str,
    account: &Account,
    config: &Config,
    report: &mut Report,
) -> Result<()> {
    let secrets = config.secrets()?;
    let data = config.data()?;
    let authorizations = Authorizations::beside_host(&data, secrets.redactor().clone());
    let emulators = Emulators::of_check(config, &data);
    let folder = data.clone();
    let identities = tokio::task::spawn_blocking(move || Identities::beside_host(&folder)).await?;
    let only = [(name, account)];
    let mut connections =
        accounts::prepare(only, &secrets, authorizations, identities, emulators).await?;
    let problem = connections.problems.remove(name);
    // The check of the authorization says that the account is logged out.
    if let Some(problem) = problem.filter(|problem| !problem.is::<LoggedOut>()) {
        return Err(problem);
    }
    if account.is_emulator() {
        let (config, account) = (config.clone(), name.to_owned());
        let checked = tokio::task::spawn_blocking(move || emulators::check(&config, &account));
        if let Err(problem) = checked.await? {
            let what = format!("account {name}: data");
            report.fail(what, words(&problem), emulators::remedy(name));
        }
    }
    expiry(name, account, &secrets, report).await;
    authorization(name, &connections, report);
    certificate::check(name, account, report).await;
    if account.rest.is_some() {
        let reached = connection(name, account, &connections, report).await;
        match connections.rest.get(name) {
            Some(rest) => cloud(name, rest, report).await,
            // The cloud is behind another server, so it is checked through that.
            None if reached => through_server(name, &connections, report).await,
            None => {}
        }
        if !account.endpoints.is_empty() {
            endpoints::check(name, account, &mut connections, report).await;
        }
    }
    if account.remote.is_some() {
        remote_server(name, account, &mut connections, report).await;
    }
    if let Some(change) = connections.identities.change(name) {
        let what = format!("account {name}: identity");
        report.warn(what, line(&change.to_string()), CHANGED_FIX);
    }
    connections.accounts.close().await;
    Ok(())
}

/// QuantConnect's remote server, as far as a call through it tells.
async fn remote_server(
    name: &str,
    account: &Account,
    connections: &mut Connections,
    report: &mut Report,
) {
    let remote = remote_of(name);
    let problem = connections.problems.remove(&remote);
    if let Some(problem) = problem.filter(|problem| !problem.is::<LoggedOut>()) {
        return report.fail(format!("account {remote}"), words(&problem), mend(&problem));
    }
    if connection(&remote, account, connections, report).await {
        through_server(&remote, connections, report).await;
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
            report.fail(
                check("cloud"),
                format!("{}: {failure}", AccountState::Unreachable),
                "check the network and the base URL",
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
    // Without the sign of a difference that rounds to nothing.
    let skew = skew.map(|skew| skew.round() + 0.0);
    match skew {
        _ if refused_by_clock => {
            let finding = skew.map_or("the server refuses the time stamps".to_owned(), |skew| {
                format!("{skew:+.0} s off the server's, which refuses the time stamps")
            });
            report.fail(what, finding, accounts::remedy(AccountState::Clock));
        }
        Some(skew) if skew.abs() >= NOTABLE_SKEW => report.warn(
            what,
            format!("{skew:+.0} s off the server's; its time stamps are refused from {REFUSED_SKEW:.0} s on"),
            accounts::remedy(AccountState::Clock),
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
        Err(Failure::Rejected(errors)) => report.fail(
            what,
            format!("{}: {}", AccountState::Unauthorized, errors.join("; ")),
            accounts::remedy(AccountState::Unauthorized),
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
    let fix = accounts::remedy(AccountState::RateLimited);
    match (limit.remaining, limit.retry_after) {
        (_, Some(wait)) => {
            let (state, wait) = (AccountState::RateLimited, wait.as_secs());
            report.fail(
                what,
                format!("{state}; the server asks to wait {wait} s"),
                fix,
            );
        }
        (Some(0), None) => report.warn(what, format!("0 of {of} left"), fix),
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
    if health.state.is_problem() {
        let fix = connections.remedy(&health);
        let cause = health.last_error.unwrap_or_default();
        report.fail(what, format!("{}: {cause}", health.state), fix);
    } else {
        report.ok(what, "a call through the MCP server was accepted");
    }
}

/// Whether the token of an HTTP account expires soon, if it says so.
async fn expiry(name: &str, account: &Account, secrets: &Secrets, report: &mut Report) {
    let rest = match &account.rest {
        Some(Connection::Http { headers, .. }) => Some((name.to_owned(), headers)),
        _ => None,
    };
    let remote = account.remote.as_ref();
    let remote = remote.map(|remote| (remote_of(name), &remote.headers));
    let mut settings = Vec::new();
    for (connection, headers) in rest.into_iter().chain(remote) {
        for (header, setting) in headers {
            settings.push((token_check(&connection, header), setting));
        }
    }
    for (what, setting) in settings {
        let Ok((value, _)) = text(setting, secrets).await else {
            continue;
        };
        let Some(ends) = token_end(value.expose_secret()) else {
            continue;
        };
        report.expiry(
            what,
            ends,
            "put a token that ends later where the header is read from",
        );
    }
}

/// The name of the check of a token in this header of a connection.
fn token_check(connection: &str, header: &str) -> String {
    format!("account {connection}: token in {header}")
}

/// Whether the check of what a connection is authorised with failed: a refusal follows from that.
fn lacks_authorization(connection: &str, connections: &Connections, report: &Report) -> bool {
    let account = account_of(connection);
    let login = format!("account {account}: authorization");
    let is_login = connections.login_connection(account) == connection;
    let token = token_check(connection, "");
    let mut failed = report.0.iter().filter(|check| check.mark == Mark::Failed);
    failed.any(|check| (is_login && check.what == login) || check.what.starts_with(&token))
}

/// How long the account is authorized at a server that a person logs in to.
fn authorization(name: &str, connections: &Connections, report: &mut Report) {
    let Some(found) = connections.authorizations.get(name) else {
        return;
    };
    let status = found.status();
    let what = format!("account {name}: authorization");
    let fix = format!("qchost account login {name}");
    let (AuthorizationState::Authorized, Some(ends)) = (status.state, status.ends) else {
        let problem = status.problem.unwrap_or_default();
        return report.fail(what, format!("{}: {problem}", status.state), fix);
    };
    let finding = match (status.renews, status.end_assumed) {
        (true, _) => format!("until {ends:.0}; a running host renews it"),
        (false, true) => format!("until {ends:.0}, which is assumed: the server does not say when"),
        (false, false) => format!("until {ends:.0}"),
    };
    let left = ends.duration_since(Timestamp::now());
    match !status.renews && left < AUTHORIZATION_WARNING {
        true => report.warn(what, finding, fix),
        false => report.ok(what, finding),
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

/// Whether the MCP server is reachable and has the tools.
async fn connection(
    name: &str,
    account: &Account,
    connections: &Connections,
    report: &mut Report,
) -> bool {
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
            let known = OPERATIONS.iter().filter(|operation| operation.rest).count();
            // The remote server has other ones, by which it was recognised.
            if account_of(name) == name && server.tools < known {
                report.warn(
                    what,
                    format!("{finding}; {known} are known"),
                    "update the MCP server, or use `connection = \"embedded\"`",
                );
            } else {
                report.ok(what, finding);
            }
            true
        }
        Err(failure) => {
            let health = connections.accounts.health(name);
            let state = health.as_ref().map(|health| health.state);
            let is_refused = state == Some(AccountState::Unauthorized);
            if is_refused && lacks_authorization(name, connections, report) {
                report.unknown(what, "not known: it is not authorised, see above");
                return false;
            }
            // The remote server is no connection in front of the REST API.
            let rest = account.rest.as_ref().filter(|_| account_of(name) == name);
            if let (Some(rest), Some(health)) = (rest, &health)
                && endpoints::wants_login(rest, health)
            {
                let fix = endpoints::without_oauth(name, account, health);
                report.fail(what, endpoints::WANTS_LOGIN, fix);
                return false;
            }
            let fix = match (health, rest) {
                (Some(health), Some(rest)) if is_refused && rest.login().is_none() => {
                    endpoints::refused(rest, health.state)
                }
                (Some(health), _) if is_refused => connections.remedy(&health),
                _ => "run the account's command by hand, or open its address, and see what it says"
                    .to_owned(),
            };
            let finding = match state.filter(|state| state.is_problem()) {
                Some(state) => format!("{state}: {failure}"),
                None => failure.to_string(),
            };
            report.fail(what, finding, fix);
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
