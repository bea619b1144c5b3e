//! The accounts: their state, and logging in to the servers of those that want a person.
//!
//! A login takes two requests: one for the address that a person opens in a browser, and one with the address that the
//! browser is sent back to. What belongs together, and the secrets in between, stay in the host.
//!
//! Invariant: no answer and no record has a token, a code or a client's secret.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result};
use jiff::Timestamp;
use qchost_gate::{AdminAction, AdminDetail};
use qchost_policy::{Person, Right};
use qchost_upstream::{
    AccountFigures, AccountState, Authorization, AuthorizationState, LoginError, OAuthClient,
    Revocation, account_of,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{Handler, Rules};
use crate::accounts::CHECK_TIMEOUT;
use crate::authorizations;
use crate::exit_status::{ErrorKind, Failed};
use crate::host::Host;
use crate::reports::Reports;

/// The command that shows what a login changed.
const READ_BACK: &str = "qchost account status";

/// How long accounts may take to report their state.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows the state of accounts.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct AccountStatus {
    /// The account; all of them without it.
    #[arg(value_name = "NAME")]
    pub account: Option<String>,
}

/// Lists the brokerage profiles that count as ones for real money because of a deployment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListLiveProfiles {}

/// Begins a login.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginLogin {
    pub account: String,
    /// The port of this machine that the browser is sent back to.
    pub port: u16,
}

/// A login that waits for a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginBegun {
    /// The address to open.
    pub address: String,
}

/// Finishes a login.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishLogin {
    pub account: String,
    /// The whole address that the browser was sent back to.
    pub redirect: Redirect,
}

/// An address with the code of a login in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Redirect(pub String);

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redirect")
    }
}

/// Ends a login.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct LogOut {
    /// The account.
    #[arg(value_name = "NAME")]
    pub account: String,
}

/// The state of an account.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AccountRow {
    pub account: String,
    pub status: AccountState,
    /// What it is connected to: a command, an address.
    pub connection: String,
    /// Why it cannot be used.
    pub problem: Option<String>,
    /// The remedy.
    pub fix: Option<String>,
    /// Open sessions.
    pub sessions: usize,
    /// Calls under way, or waiting for a session.
    pub calls: usize,
    /// How it is authorized, if a person logs in to its server.
    pub authorization: Option<AuthorizationRow>,
    /// How its first endpoint was found to be not as it was remembered, since the start: it may be another user's.
    pub identity_changed: Option<String>,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointRow>,
    /// The brokerage profiles that count as ones for real money because of a deployment of this account.
    pub live_profiles: Vec<LiveProfileRow>,
    /// What the calls of the account came to, by all its connections together.
    pub figures: AccountFigures,
}

/// A brokerage profile that counts as one for real money, whatever its settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LiveProfileRow {
    pub profile: String,
    /// The account of the deployment.
    pub account: String,
    /// The deployment that said that it trades with real money, or did not say that it is on paper.
    pub deployment: String,
    /// When the host read that; absent if its clock was wrong.
    pub since: Option<Timestamp>,
}

/// An account that a person logged out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AccountLoggedOut {
    #[serde(flatten)]
    pub row: AccountRow,
    /// What the authorization server did with the tokens; `null` if there was no login.
    pub revocation: Option<Revocation>,
}

impl LiveProfileRow {
    /// Why it counts as one for real money.
    pub fn words(&self) -> String {
        let since = self.since.map(|since| format!(" at {since:.0}"));
        format!(
            "it counts as one for real money: the deployment {} of account {} did not say that it is on paper{}",
            self.deployment,
            self.account,
            since.unwrap_or_default()
        )
    }
}

/// The state of one endpoint of an account.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EndpointRow {
    /// What it is: a command, an address.
    pub connection: String,
    pub status: AccountState,
    /// Why it is not used.
    pub problem: Option<String>,
    /// Open sessions.
    pub sessions: usize,
    /// Calls under way, or waiting for a session.
    pub calls: usize,
    /// Sessions opened to replace a lost one, since the start.
    pub restarts: u64,
}

/// The authorization of an account at its server.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuthorizationRow {
    pub status: AuthorizationState,
    pub server: String,
    /// The authorization server.
    pub issuer: Option<String>,
    /// How the host identified itself there.
    pub client_id: Option<String>,
    /// When a person logged in.
    pub since: Option<Timestamp>,
    /// When the access token ends, or ended.
    pub ends: Option<Timestamp>,
    /// Whether the server does not say when, and two hours are assumed.
    pub end_assumed: bool,
    /// Whether the host renews the token without a person.
    pub renewed: bool,
    /// The port that a login has to come back to, if it cannot be any.
    pub redirect_port: Option<u16>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Handler for AccountStatus {
    type Answer = Vec<AccountRow>;
    const RULES: Rules = Rules::reads(Right::Status);

    fn about(&self) -> Option<&str> {
        self.account.as_deref()
    }

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<Vec<AccountRow>> {
        if let Some(account) = &self.account {
            host.check_account(account)?;
        }
        host.connections.check_now(STATUS_TIMEOUT).await;
        let wanted = |name: &String| {
            let account = self.account.as_deref();
            account.is_none_or(|account| account == account_of(name))
        };
        let names = host.connections.accounts.names().into_iter();
        Ok(names
            .filter(wanted)
            .filter_map(|name| row(host, &name))
            .collect())
    }
}

impl Handler for ListLiveProfiles {
    type Answer = Vec<LiveProfileRow>;
    const RULES: Rules = Rules::reads(Right::Status);

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<Vec<LiveProfileRow>> {
        Ok(live_profiles(host))
    }
}

impl Handler for BeginLogin {
    type Answer = LoginBegun;
    const RULES: Rules = Rules::acts(Right::Authorize, READ_BACK);

    fn about(&self) -> Option<&str> {
        Some(&self.account)
    }

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<LoginBegun> {
        let Self { account, port } = self;
        let (authorization, client) = opened(host, &account).await?;
        let detail = account_detail(&account, None, None);
        host.gate
            .note_admin(person, AdminAction::AccountLogin, detail)
            .await?;
        let address = authorization.begin(&client, port).await;
        let address = noted(host, person, &account, address).await?;
        Ok(LoginBegun { address })
    }
}

/// Fails with [`ErrorKind::INVALID_ARGUMENT`] for an address that is not that of the login, which then waits for another one;
/// any other failure ends the login.
impl Handler for FinishLogin {
    type Answer = AccountRow;
    const RULES: Rules = Rules::acts(Right::Authorize, READ_BACK);

    fn about(&self) -> Option<&str> {
        Some(&self.account)
    }

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<AccountRow> {
        let Self { account, redirect } = self;
        let (authorization, _) = opened(host, &account).await?;
        let finished = authorization.finish(&redirect.0).await;
        let status = noted(host, person, &account, finished).await?;
        let detail = account_detail(&account, status.ends, None);
        host.gate
            .note_admin(person, AdminAction::AccountLoggedIn, detail)
            .await?;
        renewed(host, &account).await
    }
}

impl Handler for LogOut {
    type Answer = AccountLoggedOut;
    const RULES: Rules = Rules::acts(Right::Authorize, READ_BACK);

    fn about(&self) -> Option<&str> {
        Some(&self.account)
    }

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<AccountLoggedOut> {
        let account = self.account;
        let (authorization, _) = opened(host, &account).await?;
        let detail = account_detail(&account, None, None);
        host.gate
            .note_admin(person, AdminAction::AccountLogout, detail)
            .await?;
        let revocation = authorization.log_out().await.map_err(failed)?;
        // The next login may be another user's.
        let connection = host.connections.login_connection(&account);
        host.connections.identities.forget(&connection).await?;
        let row = renewed(host, &account).await?;
        Ok(AccountLoggedOut { row, revocation })
    }
}

/// The authorization of an account, and how the host identifies itself for it.
async fn opened(host: &Host, account: &str) -> Result<(Arc<Authorization>, OAuthClient)> {
    host.check_account(account)?;
    let current = host.current();
    let config = &current.config;
    let configured = config.account.get(account).with_context(|| {
        format!("the account `{account}` is not in force; see: qchost approvals list")
    })?;
    let (server, oauth) = authorizations::login(account, configured)?;
    let client = authorizations::client(oauth, &config.secrets()?).await?;
    let all = Arc::clone(&host.connections.authorizations);
    let (name, server) = (account.to_owned(), server.to_owned());
    let opening = tokio::task::spawn_blocking(move || all.open(&name, &server));
    let authorization = opening.await.context("the tokens were not read")?;
    Ok((authorization.map_err(failed)?, client))
}

/// The result of a step of a login, whose failure is recorded.
async fn noted<T>(
    host: &Host,
    person: &Person,
    account: &str,
    step: Result<T, LoginError>,
) -> Result<T> {
    match step {
        Ok(done) => Ok(done),
        Err(error) => {
            let detail = account_detail(account, None, Some(error.to_string()));
            host.gate
                .note_admin(person, AdminAction::AccountLoginFailed, detail)
                .await?;
            Err(failed(error))
        }
    }
}

/// What is recorded of an account's authorization.
pub fn account_detail(
    account: &str,
    ends: Option<Timestamp>,
    reason: Option<String>,
) -> AdminDetail {
    AdminDetail::Account {
        account: account.to_owned(),
        ends: ends.map(|ends| format!("{ends:.0}")),
        reason,
    }
}

fn failed(error: LoginError) -> Error {
    let kind = match error {
        LoginError::Unreachable(_) => ErrorKind::UNAVAILABLE,
        // The login waits for another one.
        LoginError::Redirect(_) => ErrorKind::INVALID_ARGUMENT,
        LoginError::Refused(_) | LoginError::NotBegun(_) | LoginError::NotStored(_) => {
            ErrorKind::Failed
        }
    };
    Failed::error(kind, error.to_string())
}

/// Connects an account again after its tokens changed, and returns its state.
async fn renewed(host: &Host, account: &str) -> Result<AccountRow> {
    if let Some(follower) = host.follower() {
        // A host that ends loads nothing any more; the tokens are stored nevertheless.
        follower.reload().await;
    }
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let connection = host.connections.login_connection(account);
    host.connections.accounts.check(&connection, deadline).await;
    row(host, &connection).with_context(|| format!("the account `{account}` is gone"))
}

fn live_profiles(host: &Host) -> Vec<LiveProfileRow> {
    let reports = host.gate.reporter.live_profiles().into_iter();
    let rows = reports.map(|report| LiveProfileRow {
        profile: report.profile,
        account: report.account,
        deployment: report.deployment,
        since: Timestamp::from_millisecond(report.at).ok(),
    });
    rows.collect()
}

/// An account as people see it.
fn row(host: &Host, account: &str) -> Option<AccountRow> {
    let connections = &host.connections;
    let health = connections.accounts.health(account)?;
    let current = host.current();
    let name = account_of(account);
    let configured = current.config.account.get(name);
    let configured = configured.filter(|_| connections.login_connection(name) == account);
    let login = configured.and_then(|configured| configured.login());
    let authorization = login.and_then(|(_, oauth)| {
        let status = connections.authorizations.get(name)?.status();
        Some(AuthorizationRow {
            status: status.state,
            server: status.server,
            issuer: status.issuer,
            client_id: status.client_id,
            since: status.login,
            ends: status.ends,
            end_assumed: status.end_assumed,
            renewed: status.renews,
            redirect_port: oauth.redirect_port,
            problem: status.problem,
        })
    });
    let live = live_profiles(host).into_iter();
    let bad = health.state.is_problem();
    let endpoints = connections.accounts.endpoints(account)?;
    let endpoints = endpoints.into_iter().map(|health| EndpointRow {
        status: health.state,
        problem: health.last_error.filter(|_| health.state.is_problem()),
        sessions: health.sessions,
        calls: health.calls,
        restarts: health.restarts,
        connection: health.connection,
    });
    Some(AccountRow {
        account: account.to_owned(),
        status: health.state,
        problem: bad.then(|| health.last_error.clone()).flatten(),
        fix: bad.then(|| connections.remedy(&health)),
        sessions: health.sessions,
        calls: health.calls,
        connection: health.connection,
        authorization,
        identity_changed: connections
            .identities
            .change(account)
            .map(|it| it.to_string()),
        endpoints: endpoints.collect(),
        live_profiles: live.filter(|live| live.account == name).collect(),
        figures: connections.accounts.figures(account)?,
    })
}
