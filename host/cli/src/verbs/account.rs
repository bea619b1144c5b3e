//! `qchost account`: the state of accounts, and logging in to the servers of those that want a person.

use std::io::{BufRead as _, Read as _};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use jiff::Timestamp;
use qchost_upstream::{
    AccountState, AuthorizationState, Completion, Figures, Revocation, account_of,
};

use super::cells::{maybe, text, word};
use crate::args::Account;
use crate::control::{self, Route};
use crate::exit_status::{ErrorKind, Failed};
use crate::output::{Output, fields, folded, table, words};
use crate::redirect::{RedirectListener, state_of};
use crate::requests::{
    AccountRow, AccountStatus, AuthorizationRow, BeginLogin, EndpointRow, FinishLogin, LogOut,
    Redirect,
};
use crate::terminal;

/// How long a person may take in the browser, and to paste an address.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The port in a redirect that nothing listens for, if it may be any.
const PASTE_PORT: u16 = 49_152;

/// Maximum bytes of a pasted address: more than the host takes, so that it refuses one that was cut off here.
const MAX_PASTED: u64 = 17 << 10;

/// How many addresses a person may paste for one login.
const MAX_PASTES: usize = 5;

/// Carries out the verb.
pub async fn run(route: &Route, verb: Account, output: Output) -> Result<()> {
    match verb {
        Account::Login { account, paste } => log_in(route, account, paste, output).await,
        Account::Status(request) => status(route, request, output).await,
        Account::Logout(request) => log_out(route, request, output).await,
    }
}

async fn status(route: &Route, request: AccountStatus, output: Output) -> Result<()> {
    let rows = control::perform(route, request, output).await?;
    output.result(&rows, |rows| match of_one_account(rows) {
        true => details(rows),
        false => overview(rows),
    })?;
    let bad = rows.iter().filter(|row| row.status.is_problem());
    let bad: Vec<_> = bad
        .map(|row| format!("{} ({})", text(&row.account), word(row.status)))
        .collect();
    ensure!(
        bad.is_empty(),
        "these accounts cannot be used: {}",
        bad.join(", ")
    );
    Ok(())
}

async fn log_in(route: &Route, account: String, paste: bool, output: Output) -> Result<()> {
    let asked = AccountStatus {
        account: Some(account.clone()),
    };
    let rows = control::ask_starting(route, asked, output).await?;
    let rows = rows.ok_or_else(|| no_host(route))?;
    let known = rows.into_iter().find_map(|row| row.authorization);
    let wanted = known.and_then(|known| known.redirect_port);
    let listener = match paste {
        true => None,
        false => Some(RedirectListener::open(wanted).await?),
    };
    let port = match &listener {
        Some(listener) => listener.port(),
        None => wanted.unwrap_or(PASTE_PORT),
    };
    let begin = BeginLogin {
        account: account.clone(),
        port,
    };
    let begun = control::ask_running(route, begin, output).await?;
    let address = begun.ok_or_else(|| no_host(route))?.address;
    let shown = terminal::line(&address);
    let minutes = LOGIN_TIMEOUT.as_secs() / 60;
    let row = match &listener {
        Some(listener) => {
            output.note(&format!(
                "open this address in a browser of this machine, within {minutes} minutes:\n{shown}"
            ));
            let state = state_of(&address).context("the address has no place for a login")?;
            let received = tokio::time::timeout(LOGIN_TIMEOUT, listener.receive(&state));
            let received = received.await.unwrap_or_else(|_| {
                Err(anyhow!(
                    "no answer came from the browser; if it runs on another machine: qchost account login {account} --paste"
                ))
            })?;
            let finished = finish(route, &account, received.address().to_owned(), output).await;
            received.answer(finished.is_ok()).await;
            finished?
        }
        None => {
            output.note(&format!(
                "open this address in a browser:\n{shown}\nThe browser ends at a page that it cannot load. Paste the whole \
                 address of that page here within {minutes} minutes, and press Enter:"
            ));
            finish_by_paste(route, &account, output).await?
        }
    };
    output.result(&row, one)?;
    refused_login(&row)
}

/// The error of a login after which the server cannot be used, as that of another user.
fn refused_login(row: &AccountRow) -> Result<()> {
    let kind = match row.status {
        AccountState::Idle | AccountState::Connecting | AccountState::Connected => return Ok(()),
        AccountState::RateLimited => ErrorKind::LIMITED,
        AccountState::Unauthorized | AccountState::Unreachable | AccountState::Clock => {
            ErrorKind::UNAVAILABLE
        }
    };
    let fix = row.fix.as_ref().map(|fix| format!("; {}", text(fix)));
    let message = format!(
        "logged in, and {} cannot be used: {}{}",
        text(&row.connection),
        maybe(row.problem.as_ref()),
        fix.unwrap_or_default()
    );
    Err(Failed::error(kind, message))
}

/// Reads addresses until one is that of the login. A person is told what is wrong with any other one; nothing of it was sent
/// on, and the login still waits.
async fn finish_by_paste(route: &Route, account: &str, output: Output) -> Result<AccountRow> {
    let deadline = tokio::time::Instant::now() + LOGIN_TIMEOUT;
    let mut refused = None;
    for left in (0..MAX_PASTES).rev() {
        let pasted = tokio::time::timeout_at(deadline, pasted()).await;
        let Ok(pasted) = pasted else {
            return Err(anyhow!(
                "no address of this login was pasted within {} minutes; to begin again: qchost account login {account} --paste",
                LOGIN_TIMEOUT.as_secs() / 60
            ));
        };
        let Some(address) = pasted? else { break };
        let finished = match address.is_empty() {
            true => Err(nothing_pasted()),
            false => finish(route, account, address, output).await,
        };
        match finished {
            Err(error) if ErrorKind::from_error(&error) == ErrorKind::INVALID_ARGUMENT => {
                if left > 0 {
                    output.note(&format!(
                        "{}\nPaste the whole address of the page that the browser ended at, and press Enter ({left} more {}):",
                        terminal::line(&words(&error)),
                        if left == 1 { "attempt" } else { "attempts" }
                    ));
                }
                refused = Some(error);
            }
            ended => return ended,
        }
    }
    Err(refused.unwrap_or_else(nothing_pasted))
}

/// Gives the host the address that the browser was sent back to.
async fn finish(
    route: &Route,
    account: &str,
    redirect: String,
    output: Output,
) -> Result<AccountRow> {
    let request = FinishLogin {
        account: account.to_owned(),
        redirect: Redirect(redirect),
    };
    let done = control::ask_running(route, request, output).await?;
    done.ok_or_else(|| no_host(route))
}

fn no_host(route: &Route) -> Error {
    route.none_runs(&anyhow!(
        "a host logs in, and none runs; start it: qchost run"
    ))
}

fn nothing_pasted() -> Error {
    let message = "no address was pasted; nothing changed";
    Failed::error(ErrorKind::INVALID_ARGUMENT, message)
}

/// A line of standard input, or `None` at its end.
async fn pasted() -> Result<Option<String>> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        let mut bounded = input.by_ref().take(MAX_PASTED);
        bounded.read_until(b'\n', &mut line)?;
        if bounded.limit() == 0 && !line.ends_with(b"\n") {
            // The rest of it is no attempt of its own.
            input.skip_until(b'\n')?;
        }
        std::io::Result::Ok(line)
    });
    let line = reading.await.context("nothing was read")??;
    let text = String::from_utf8_lossy(&line);
    Ok((!line.is_empty()).then(|| text.trim().to_owned()))
}

async fn log_out(route: &Route, request: LogOut, output: Output) -> Result<()> {
    let done = control::perform(route, request, output).await?;
    output.result(&done, |done| {
        let said = match &done.revocation {
            None => "there was no login".to_owned(),
            Some(Revocation::Revoked) => "the server ended the tokens".to_owned(),
            Some(Revocation::NotOffered) => {
                "the server offers no way to end the tokens: they end by themselves".to_owned()
            }
            Some(Revocation::Failed { reason }) => {
                format!("the server did not end the tokens: {}", text(reason))
            }
        };
        format!("{}\nlogged out; {said}", one(&done.row))
    })
}

fn overview(rows: &[AccountRow]) -> String {
    let lines: Vec<_> = rows
        .iter()
        .map(|row| {
            let authorization = row.authorization.as_ref();
            vec![
                text(&row.account),
                word(row.status),
                text(&row.connection),
                maybe(authorization.map(validity)),
                maybe(trouble(row)),
            ]
        })
        .collect();
    table(
        &["account", "status", "connection", "authorized", "problem"],
        &lines,
    )
}

/// What is wrong with a connection: with all of it, or else with one of its endpoints.
fn trouble(row: &AccountRow) -> Option<String> {
    let mut endpoints = (1..).zip(&row.endpoints);
    let failing = endpoints.find(|(_, endpoint)| endpoint.status.is_problem());
    let failing = failing.map(|(number, it)| format!("endpoint {number}: {}", state(it)));
    row.problem.clone().or(failing)
}

/// The state of an endpoint, in words.
fn state(endpoint: &EndpointRow) -> String {
    let problem = endpoint.problem.as_ref();
    let problem = problem.map_or_else(String::new, |problem| format!(": {problem}"));
    format!(
        "{}, {}{problem}",
        word(endpoint.status),
        endpoint.connection
    )
}

/// Whether the rows are the connections of one account.
fn of_one_account(rows: &[AccountRow]) -> bool {
    let mut accounts = rows.iter().map(|row| account_of(&row.account));
    let first = accounts.next();
    first.is_some_and(|first| accounts.all(|other| other == first))
}

/// Each connection of an account, and what its calls came to by all of them together.
fn details(rows: &[AccountRow]) -> String {
    let [first, _, ..] = rows else {
        return rows.iter().map(one).collect();
    };
    let connections = rows
        .iter()
        .map(|row| section(&row.account, &connection(row)));
    let name = format!("{}, all connections", account_of(&first.account));
    let all = connections.chain([section(&name, &together(first))]);
    all.collect::<Vec<_>>().join("\n\n")
}

fn one(row: &AccountRow) -> String {
    let lines = [connection(row), together(row)].concat();
    section(&row.account, &lines)
}

fn section(name: &str, lines: &[(String, String)]) -> String {
    format!("{}\n{}", folded(&text(name)), fields(2, lines))
}

/// What concerns one connection of an account.
fn connection(row: &AccountRow) -> Vec<(String, String)> {
    let mut lines = vec![
        ("status".to_owned(), word(row.status)),
        ("connection".to_owned(), text(&row.connection)),
        ("open sessions".to_owned(), row.sessions.to_string()),
        ("calls under way".to_owned(), row.calls.to_string()),
    ];
    let mut add = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| (name.to_owned(), text(&value))));
    };
    add("problem", row.problem.clone());
    add("fix", row.fix.clone());
    add("warning", row.identity_changed.clone());
    if let Some(authorization) = &row.authorization {
        add("server", Some(authorization.server.clone()));
        add("issuer", authorization.issuer.clone());
        add("client", authorization.client_id.clone());
        add(
            "logged in",
            authorization.since.map(|since| format!("{since:.0}")),
        );
        add("authorized", Some(validity(authorization)));
    }
    if row.endpoints.len() > 1 {
        for (number, endpoint) in (1..).zip(&row.endpoints) {
            add(&format!("endpoint {number}"), Some(state(endpoint)));
        }
    }
    lines
}

/// What concerns all connections of an account.
fn together(row: &AccountRow) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| (name.to_owned(), text(&value))));
    };
    for live in &row.live_profiles {
        add(&format!("profile {}", live.profile), Some(live.words()));
    }
    for (period, figures) in [
        ("since the start", &row.figures.since_start),
        ("last hour", &row.figures.last_hour),
    ] {
        add(period, Some(counts(figures)));
        add("  latency", latencies(figures));
        add("  backtests", completion(figures.backtests));
        add("  optimisations", completion(figures.optimizations));
    }
    lines
}

/// The calls of a period, in words.
fn counts(figures: &Figures) -> String {
    let errors = figures.error_rate.map(percent);
    let errors = errors.map_or_else(String::new, |errors| format!(" ({errors})"));
    format!(
        "{} calls, {} answered from the cache, {} saved, {} sends, {} of them again, {} failed{errors}",
        figures.calls, figures.hits, figures.saved, figures.sends, figures.retries, figures.errors
    )
}

/// The percentiles of a period, if something was sent.
fn latencies(figures: &Figures) -> Option<String> {
    let (p50, p90, p99) = (figures.p50_ms?, figures.p90_ms?, figures.p99_ms?);
    Some(format!("p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms"))
}

/// How the items of a period ended, if the end of one was seen.
fn completion(completion: Completion) -> Option<String> {
    let rate = percent(completion.rate?);
    let Completion {
        completed, failed, ..
    } = completion;
    Some(format!("{completed} completed, {failed} failed: {rate}"))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// How long an authorization is valid, in words.
fn validity(authorization: &AuthorizationRow) -> String {
    let state = word(authorization.status);
    let Some(ends) = authorization.ends else {
        return state;
    };
    match (authorization.status, authorization.renewed) {
        (AuthorizationState::Authorized, true) => format!("until {ends:.0}, then renewed"),
        (AuthorizationState::Authorized, false) => {
            let left = ends.duration_since(Timestamp::now());
            let assumed = match authorization.end_assumed {
                true => ", which is assumed",
                false => "",
            };
            format!(
                "until {ends:.0}, {} minutes{assumed}",
                left.as_mins().max(0)
            )
        }
        (AuthorizationState::Ended, _) => format!("{state} at {ends:.0}"),
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(account: &str, status: &str, more: Value) -> AccountRow {
        let figures = json!({
            "seconds": 1.0, "calls": 12, "hits": 0, "saved": 0, "sends": 12, "retries": 0, "errors": 0, "error-rate": 0.0,
            "p50-ms": null, "p90-ms": null, "p99-ms": null,
            "backtests": { "completed": 0, "failed": 0, "rate": null },
            "optimizations": { "completed": 0, "failed": 0, "rate": null },
        });
        let mut row = json!({
            "account": account, "status": status, "connection": "https://mcp.example.com", "problem": null,
            "fix": null, "sessions": 1, "calls": 0, "authorization": null, "identity-changed": null, "endpoints": [], "live-profiles": [],
            "figures": { "since-start": figures, "last-hour": figures },
        });
        let more = more.as_object().unwrap().clone();
        row.as_object_mut().unwrap().extend(more);
        serde_json::from_value(row).unwrap()
    }

    fn endpoints() -> Value {
        let endpoint = |connection: &str, status: &str, problem: Option<&str>| {
            json!({
                "connection": connection, "status": status, "problem": problem, "sessions": 0, "calls": 0,
                "restarts": 0,
            })
        };
        let first = endpoint("first", "connected", None);
        let second = endpoint("second", "unauthorized", Some("another user's"));
        json!({ "endpoints": [first, second] })
    }

    #[test]
    fn an_account_with_both_servers_shows_its_endpoints_and_its_figures_once() {
        let rest = row("lab", "connected", endpoints());
        let rows = [rest, row("lab.remote", "connected", json!({}))];
        assert!(of_one_account(&rows));
        let shown = details(&rows);
        let said = "unauthorized, second: another user's";
        assert!(shown.contains(said), "{shown}");
        assert_eq!(shown.matches("last hour").count(), 1, "{shown}");
        assert_eq!(shown.matches("12 calls").count(), 2, "{shown}");
        // Of one server, without another section.
        let [rest, _] = rows;
        let shown = details(&[rest]);
        assert!(!shown.contains("\n\n"), "{shown}");
        assert!(shown.contains("last hour"), "{shown}");
    }

    #[test]
    fn a_table_of_accounts_names_the_endpoint_that_is_not_used() {
        let lab = row("lab", "connected", endpoints());
        let rows = [lab, row("desk", "connected", json!({}))];
        assert!(!of_one_account(&rows) && !of_one_account(&[]));
        let shown = overview(&rows);
        assert!(shown.contains("endpoint 2: unauthorized"), "{shown}");
        let desk = shown.lines().find(|line| line.starts_with("desk"));
        assert!(desk.unwrap().ends_with('-'), "{shown}");
    }

    #[test]
    fn a_login_that_carries_nothing_is_an_error_with_its_reason_and_its_remedy() {
        let refused = |status: &str| {
            let more = json!({ "problem": "it is another user's", "fix": "log out" });
            refused_login(&row("lab.remote", status, more))
        };
        for (status, number) in [
            ("unauthorized", 7),
            ("unreachable", 7),
            ("clock", 7),
            ("rate-limited", 6),
        ] {
            let error = refused(status).unwrap_err();
            let kind = ErrorKind::from_error(&error);
            assert_eq!(kind.exit_status().number(), number, "{status}");
            let message = error.to_string();
            for said in ["https://mcp.example.com", "another user's", "log out"] {
                assert!(message.contains(said), "{message}");
            }
        }
        refused("connected").unwrap();
    }
}
