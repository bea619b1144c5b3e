//! Further endpoints of an account, and servers that want a login where none is configured.

use std::time::Instant;

use qchost_upstream::{AccountHealth, AccountState, NotProven};

use super::mend;
use super::report::Report;
use crate::accounts::{self, CHECK_TIMEOUT, Connections, endpoint_label};
use crate::config::{Account, Connection};
use crate::output::words;

/// What a server says that refuses a host which sends it nothing to be known by.
pub(super) const WANTS_LOGIN: &str =
    "unauthorized: the server wants a login (OAuth), and none is configured for it";

/// Whether each further endpoint of an account answers, and is the account's.
pub(super) async fn check(
    name: &str,
    account: &Account,
    connections: &mut Connections,
    report: &mut Report,
) {
    let deadline = Instant::now() + CHECK_TIMEOUT;
    connections.accounts.check(name, deadline).await;
    let health = connections.accounts.endpoints(name).unwrap_or_default();
    let further = account.endpoints.iter().zip(health.into_iter().skip(1));
    for (number, (endpoint, health)) in (2_u32..).zip(further) {
        let what = format!("account {name}: endpoint {number}");
        match connections.problems.remove(&endpoint_label(name, number)) {
            Some(problem) => report.fail(what, words(&problem), mend(&problem)),
            None if health.state.is_problem() => failed(
                what,
                (name, account.remote.is_some()),
                endpoint,
                &health,
                report,
            ),
            None => report.ok(what, "it answers, and is the account's"),
        }
    }
}

/// Reports an endpoint that is not used, of an account with this name, and with or without a remote server.
fn failed(
    what: String,
    (name, has_remote): (&str, bool),
    endpoint: &Connection,
    health: &AccountHealth,
    report: &mut Report,
) {
    let cause = health.last_error.as_deref().unwrap_or_default();
    match health.not_proven {
        // The connection that it is compared with has checks of its own.
        Some(NotProven::NoReference) => report.unknown(what, format!("not known: {cause}")),
        Some(NotProven::NoProject) => report.fail(
            what,
            format!("it is not known to be the account's: {cause}"),
            format!(
                "make a project, which each endpoint then lists, and a running host compares again by itself: qchost call \
                 create_project --account {name} '{{\"name\": \"Lab/first\", \"language\": \"Py\"}}'"
            ),
        ),
        Some(NotProven::Other) => report.fail(
            what,
            format!("it is not known to be the account's: {cause}"),
            format!(
                "give it the credentials of the account's user in [[account.{name}.endpoint]]; a server of another user is an \
                 account of its own"
            ),
        ),
        None if wants_login(endpoint, health) => {
            report.fail(what, WANTS_LOGIN, without_login(name, has_remote, health));
        }
        None => report.fail(
            what,
            format!("{}: {cause}", health.state),
            refused(endpoint, health.state),
        ),
    }
}

/// Whether a server wants a login from a host that sends it nothing to be known by.
pub(super) fn wants_login(connection: &Connection, health: &AccountHealth) -> bool {
    // With a session, it is what the server sends on that is refused.
    health.state == AccountState::Unauthorized
        && health.not_proven.is_none()
        && health.server.is_none()
        && connection.is_anonymous()
}

/// The remedy for a connection in front of the REST API that cannot be used.
pub(super) fn refused(connection: &Connection, state: AccountState) -> String {
    match (state, connection) {
        (AccountState::Unauthorized, Connection::Http { headers, .. }) if !headers.is_empty() => {
            "put credentials that the server takes where its `headers` are read from".to_owned()
        }
        _ => accounts::remedy(state).to_owned(),
    }
}

/// The remedy for an endpoint whose server wants a login.
fn without_login(name: &str, has_remote: bool, health: &AccountHealth) -> String {
    let where_from = format!(
        "an endpoint has no login, and QuantConnect's remote MCP server is none: take its [[account.{name}.endpoint]] out"
    );
    match has_remote {
        true => format!("{where_from}; the account has [account.{name}.remote] already"),
        false => format!(
            "{where_from}, log in with: qchost account login {name}; and add:\n{}",
            remote_lines(name, health)
        ),
    }
}

/// The remedy for an account whose first server wants a login.
pub(super) fn without_oauth(name: &str, account: &Account, health: &AccountHealth) -> String {
    match account.remote {
        Some(_) => format!(
            "put what it wants into `headers` of [account.{name}]; QuantConnect's remote MCP server is in \
             [account.{name}.remote] already"
        ),
        None => format!(
            "if a person logs in to it, add [account.{name}.oauth], then: qchost account login {name}; if it is \
             QuantConnect's remote MCP server, put these lines there instead, and log in:\n{}",
            remote_lines(name, health)
        ),
    }
}

/// The lines that make a server the account's remote one.
fn remote_lines(name: &str, health: &AccountHealth) -> String {
    // Without the query, which may be a secret.
    let url = toml::Value::from(health.connection.as_str());
    format!("[account.{name}.remote]\nurl = {url}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use qchost_secrets::Setting;
    use serde_json::json;

    use super::super::report::Mark;
    use super::*;

    fn http(header: Option<&str>) -> Connection {
        let headers = header.map(|name| (name.to_owned(), Setting::Plain(json!("hush"))));
        Connection::Http {
            url: "https://mcp.test/mcp".to_owned(),
            headers: BTreeMap::from_iter(headers),
            oauth: None,
            derived_data: false,
        }
    }

    fn health(state: AccountState, not_proven: Option<NotProven>) -> AccountHealth {
        AccountHealth {
            account: "research".to_owned(),
            connection: "https://mcp.test/mcp".to_owned(),
            state,
            seconds_in_state: 0.0,
            seconds_since_news: 0.0,
            last_error: Some("HTTP 401".to_owned()),
            not_proven,
            restarts: 0,
            sessions: 0,
            calls: 0,
            server: None,
        }
    }

    fn reported(
        has_remote: bool,
        endpoint: &Connection,
        health: &AccountHealth,
    ) -> (Mark, String, String) {
        let mut report = Report::default();
        let what = "account research: endpoint 2".to_owned();
        failed(
            what,
            ("research", has_remote),
            endpoint,
            health,
            &mut report,
        );
        let check = report.0.pop().unwrap();
        (check.mark, check.finding, check.fix.unwrap_or_default())
    }

    #[test]
    fn each_cause_of_an_unused_endpoint_has_a_remedy_of_its_own() {
        let plain = http(None);
        let of = |not_proven| {
            let health = health(AccountState::Unauthorized, Some(not_proven));
            reported(false, &plain, &health)
        };
        let (mark, _, fix) = of(NotProven::NoProject);
        assert_eq!(mark, Mark::Failed);
        assert!(
            fix.contains("create_project --account research '{\"name\""),
            "{fix}"
        );
        let (mark, _, fix) = of(NotProven::Other);
        assert_eq!(mark, Mark::Failed);
        assert!(fix.contains("credentials of the account's user"), "{fix}");
        let (mark, finding, fix) = of(NotProven::NoReference);
        assert_eq!((mark, fix.as_str()), (Mark::Unknown, ""));
        assert!(finding.starts_with("not known: "), "{finding}");
    }

    #[test]
    fn an_endpoint_that_wants_a_login_is_moved_by_the_lines_that_are_printed() {
        let refused = health(AccountState::Unauthorized, None);
        let (_, finding, fix) = reported(false, &http(None), &refused);
        assert_eq!(finding, WANTS_LOGIN);
        let (_, lines) = fix.split_once('\n').unwrap();
        let table: toml::Table = lines.parse().unwrap();
        let remote = &table["account"]["research"]["remote"];
        assert_eq!(remote["url"].as_str(), Some("https://mcp.test/mcp"));
        let (_, _, fix) = reported(true, &http(None), &refused);
        assert!(fix.contains("already") && !fix.contains('\n'), "{fix}");
        // Credentials that are refused are no missing login, and neither is a server that is down.
        let (_, finding, fix) = reported(false, &http(Some("X-Key")), &refused);
        assert!(
            finding.contains("HTTP 401") && fix.contains("`headers`"),
            "{finding}: {fix}"
        );
        let down = health(AccountState::Unreachable, None);
        let (_, finding, fix) = reported(false, &http(None), &down);
        assert!(
            finding.starts_with("unreachable: ") && fix.contains("network"),
            "{finding}: {fix}"
        );
    }
}
