//! The authorization of one account at one server, and the logins that it consists of.
//!
//! Invariants: of several renewals of one token, one is sent. A login that was ended, or that the server refuses, gives no
//! token again. The tokens of a login that another one replaced stay usable for connections that were opened with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use qchost_catalog::BoxFuture;
use reqwest::Url;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::flow::{
    self, Completed, Flow, Granted, LoginError, OAuthClient, RenewalError, Revocation,
};
use super::stored::{TokenFile, Tokens};
use crate::connector::{BearerSource, NoToken, server_address};
use crate::text::{MAX_EXCERPT, excerpt};

/// Time limit of the requests before a login, of those after it, and of a renewal.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit of telling the authorization server that a login ended, which a person waits for.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum bytes of a scope that a later login asks for since the server wants it.
const MAX_SCOPE: usize = 128;

/// Maximum scopes that a later login asks for since the server wants them.
const MAX_LACKING: usize = 32;

/// Whether an account is authorized at its server, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum AuthorizationState {
    /// No person logged in, or the login was ended.
    #[strum(serialize = "logged out")]
    LoggedOut,
    /// There is an access token that has not ended.
    Authorized,
    /// The access token ended, and there is none to renew it with.
    Ended,
    /// The server refuses the tokens.
    Refused,
    /// The file with the tokens cannot be used.
    Unreadable,
}

/// The authorization of an account, for people.
#[derive(Debug, Clone)]
pub struct AuthorizationStatus {
    /// Whether there is one.
    pub state: AuthorizationState,
    /// The server that it is for.
    pub server: String,
    /// The authorization server.
    pub issuer: Option<String>,
    /// How the host identified itself there.
    pub client_id: Option<String>,
    /// When a person logged in.
    pub login: Option<Timestamp>,
    /// When the access token ends, or ended.
    pub ends: Option<Timestamp>,
    /// Whether the server did not say when, and two hours are assumed.
    pub end_assumed: bool,
    /// Whether the host renews it without a person.
    pub renews: bool,
    /// What is wrong, and what to do.
    pub problem: Option<String>,
}

/// An end of an authorization that should be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// When it ends, or ended.
    pub ends: Timestamp,
    /// Whether it ended.
    pub is_over: bool,
}

/// The authorization of one account at one server.
pub struct Authorization {
    account: String,
    server: Url,
    file: Arc<TokenFile>,
    redactor: qchost_text::Redactor,
    /// Whether this process may renew tokens.
    may_renew: bool,
    login: RwLock<Option<Arc<Login>>>,
    /// Why the file cannot be used.
    problem: Mutex<Option<String>>,
    /// The login that waits for its redirect.
    begun: tokio::sync::Mutex<Option<Flow>>,
}

/// One login, with its tokens.
pub struct Login {
    account: String,
    server: Url,
    file: Arc<TokenFile>,
    redactor: qchost_text::Redactor,
    may_renew: bool,
    state: Mutex<LoginState>,
    renewing: tokio::sync::Mutex<()>,
}

struct LoginState {
    tokens: Tokens,
    /// The access token that the server refuses although it has not ended.
    refused: Option<SecretString>,
    /// The scopes for the want of which the server refused something.
    lacking: Vec<String>,
    /// Why it gives no token any more.
    over: Option<Over>,
}

#[derive(Clone)]
enum Over {
    LoggedOut,
    Refused { at: Timestamp, why: String },
}

impl Authorization {
    /// The authorization of an account at the server with this address. Its tokens are kept in `folder`, as
    /// `ACCOUNT.json`; `redactor` learns them. Only the one process that may renew tokens logs in and out. Blocks.
    ///
    /// # Errors
    ///
    /// [`LoginError::Refused`] if the address is none to send tokens to.
    pub fn open(
        account: &str,
        server: &str,
        folder: &Path,
        redactor: qchost_text::Redactor,
        may_renew: bool,
    ) -> Result<Self, LoginError> {
        let address = server_address(server).map_err(|problem| {
            let server = excerpt(server, MAX_EXCERPT);
            LoginError::Refused(format!("`{server}` is no address of a server: {problem}"))
        })?;
        let opened = Self {
            account: account.to_owned(),
            server: address,
            file: Arc::new(TokenFile::new(folder.join(format!("{account}.json")))),
            redactor,
            may_renew,
            login: RwLock::new(None),
            problem: Mutex::new(None),
            begun: tokio::sync::Mutex::new(None),
        };
        opened.read_again();
        Ok(opened)
    }

    /// Whether it is for the server with this address.
    #[must_use]
    pub fn is_for(&self, server: &str) -> bool {
        server_address(server).is_ok_and(|address| address == self.server)
    }

    /// The file that keeps the tokens.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Leaves the file to another server, whose tokens would be lost if a connection that is still open wrote renewed ones.
    pub fn disown_file(&self) {
        self.file.disown();
    }

    /// Reads the file again: an operator may have brought it back or removed it. Blocks.
    pub fn read_again(&self) {
        let (found, problem) = match self.file.read() {
            Ok(Some(tokens)) if tokens.server == self.server.as_str() => (Some(tokens), None),
            // Tokens of the server that was configured before go to no other one.
            Ok(_) => (None, None),
            Err(problem) => (None, Some(problem)),
        };
        *self.problem.lock() = problem;
        self.adopt(found);
    }

    /// Makes the login with these tokens the one in force. One that is in force already stays as it is: what is in memory
    /// may be ahead of the file, and two with the same tokens would renew them against each other.
    fn adopt(&self, found: Option<Tokens>) {
        let mut login = self.login.write();
        let current = login.as_ref().map(|login| login.since());
        *login = match found {
            Some(tokens) if current == Some(tokens.login) => return,
            Some(tokens) => Some(Arc::new(self.login_of(tokens))),
            None => None,
        };
    }

    /// The login in force, for a connection.
    #[must_use]
    pub fn login(&self) -> Option<Arc<Login>> {
        self.login.read().clone()
    }

    /// Why there is no login, and what to do.
    #[must_use]
    pub fn missing(&self) -> String {
        let problem = self.problem.lock().clone();
        let why = problem.unwrap_or_else(|| {
            format!(
                "no person is logged in to {}",
                excerpt(self.server.as_str(), MAX_EXCERPT)
            )
        });
        format!("{why}; run: qchost account login {}", self.account)
    }

    /// Begins a login whose redirect comes to this port of this machine, and returns the address that a person has to
    /// open. A login that was begun before can no longer be finished. It asks for the scopes that the server names, and,
    /// if the login in force was refused something for the want of others, for its own and for those.
    ///
    /// # Errors
    ///
    /// [`LoginError::Refused`] if a server does not offer what a login needs, [`LoginError::Unreachable`] if one
    /// does not answer.
    pub async fn begin(&self, client: &OAuthClient, port: u16) -> Result<String, LoginError> {
        let mut begun = self.begun.lock().await;
        *begun = None;
        if let Some(secret) = &client.client_secret {
            self.redactor.remember(secret.clone());
        }
        let login = self.login();
        let more = login.map(|login| login.more_scopes()).unwrap_or_default();
        let (flow, address) = in_time(Flow::begin(&self.server, client, port, &more)).await?;
        *begun = Some(flow);
        tracing::info!(account = self.account, "a login was begun");
        Ok(address)
    }

    /// Finishes the login with the whole address that the browser was redirected to. Connections that are opened from
    /// now on use it.
    ///
    /// # Errors
    ///
    /// [`LoginError::Redirect`] if the address is not that of this login, which can go on then; any other ends it.
    pub async fn finish(&self, redirect: &str) -> Result<AuthorizationStatus, LoginError> {
        let mut begun = self.begun.lock().await;
        let parsed = match begun.as_ref() {
            Some(flow) => flow.callback(redirect),
            None => Err(LoginError::NotBegun(format!(
                "no login of the account `{0}` waits for a redirect: it was finished, or never begun; run: qchost account login {0}",
                self.account
            ))),
        };
        let callback = match parsed {
            Ok(callback) => callback,
            Err(error) => {
                if !matches!(error, LoginError::Redirect(_)) {
                    *begun = None;
                }
                return Err(error);
            }
        };
        let Some(flow) = begun.take() else {
            return Err(LoginError::NotBegun("no login waits for it".to_owned()));
        };
        self.redactor.remember(callback.code.clone());
        let completed = in_time(flow.complete(callback)).await?;
        let tokens = self.tokens_of(completed, Timestamp::now());
        self.remember(&tokens);
        let (file, stored) = (Arc::clone(&self.file), tokens.clone());
        let written = tokio::task::spawn_blocking(move || file.replace(&stored)).await;
        written
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|error| {
                LoginError::NotStored(format!(
                    "the tokens cannot be written to {}: {error}",
                    self.file.path().display()
                ))
            })?;
        *self.problem.lock() = None;
        self.adopt(Some(tokens));
        let status = self.status();
        let ends = status.ends.map(tracing::field::display);
        tracing::info!(
            account = self.account,
            ends,
            renews = status.renews,
            "logged in"
        );
        Ok(status)
    }

    /// Ends the login: removes its tokens from this machine, and has the authorization server end them, where it offers
    /// that. Returns what the server did; `None` if there was no login. A server that does nothing, or does not answer
    /// soon, does not keep the login.
    ///
    /// # Errors
    ///
    /// [`LoginError::NotStored`] if the file cannot be removed. No token of it is used then either.
    pub async fn log_out(&self) -> Result<Option<Revocation>, LoginError> {
        *self.begun.lock().await = None;
        let end = |login: &Arc<Login>| login.state.lock().over = Some(Over::LoggedOut);
        if let Some(login) = self.login() {
            end(&login);
        }
        let file = Arc::clone(&self.file);
        let removed = tokio::task::spawn_blocking(move || file.remove()).await;
        let removed = removed.map_err(std::io::Error::other).flatten();
        // The file may have been read again meanwhile.
        let login = self.login.write().take();
        let revoked = match &login {
            Some(login) => {
                end(login);
                // Also where the file stays: its tokens are worth nothing then.
                Some(login.revoke().await)
            }
            None => None,
        };
        removed.map_err(|error| {
            LoginError::NotStored(format!(
                "the file {} cannot be removed: {error}",
                self.file.path().display()
            ))
        })?;
        *self.problem.lock() = None;
        tracing::info!(account = self.account, ?revoked, "logged out");
        Ok(revoked)
    }

    /// Its state.
    #[must_use]
    pub fn status(&self) -> AuthorizationStatus {
        let server = excerpt(self.server.as_str(), MAX_EXCERPT);
        let Some(login) = self.login() else {
            let unreadable = self.problem.lock().is_some();
            return AuthorizationStatus {
                state: match unreadable {
                    true => AuthorizationState::Unreadable,
                    false => AuthorizationState::LoggedOut,
                },
                server,
                issuer: None,
                client_id: None,
                login: None,
                ends: None,
                end_assumed: false,
                renews: false,
                problem: Some(self.missing()),
            };
        };
        let (tokens, over, lacking) = {
            let state = login.state.lock();
            let lacking = state.lacking.join(" ");
            (state.tokens.clone(), state.over.clone(), lacking)
        };
        let state = match over {
            Some(Over::LoggedOut) => AuthorizationState::LoggedOut,
            Some(Over::Refused { .. }) => AuthorizationState::Refused,
            None if tokens.is_over(Timestamp::now()) && tokens.refresh_token.is_none() => {
                AuthorizationState::Ended
            }
            None => AuthorizationState::Authorized,
        };
        AuthorizationStatus {
            state,
            server,
            issuer: tokens
                .issuer
                .as_deref()
                .map(|issuer| excerpt(issuer, MAX_EXCERPT)),
            client_id: Some(excerpt(&tokens.client_id, MAX_EXCERPT)),
            login: Some(tokens.login),
            ends: Some(tokens.ends),
            end_assumed: tokens.end_assumed,
            renews: tokens.refresh_token.is_some(),
            problem: match state {
                AuthorizationState::Authorized if lacking.is_empty() => None,
                AuthorizationState::Authorized => Some(login.lacking_words(&lacking)),
                _ => Some(login.over_words(&tokens)),
            },
        }
    }

    /// The end of a login that no renewal moves, if it is near or past and was not announced.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        let login = self.login()?;
        let state = login.state.lock();
        let tokens = &state.tokens;
        if tokens.refresh_token.is_some() || state.over.is_some() {
            return None;
        }
        let now = Timestamp::now();
        let is_over = tokens.is_over(now);
        let due = match is_over {
            true => !tokens.end_announced,
            false => tokens.is_ending(now) && !tokens.expiring_announced,
        };
        due.then_some(Ending {
            ends: tokens.ends,
            is_over,
        })
    }

    /// Notes that an end was announced, also for a host that is started later.
    pub async fn announced(&self, ending: Ending) {
        let Some(login) = self.login() else {
            return;
        };
        let tokens = {
            let mut state = login.state.lock();
            if state.tokens.ends != ending.ends {
                return;
            }
            state.tokens.expiring_announced = true;
            state.tokens.end_announced |= ending.is_over;
            state.tokens.clone()
        };
        login.store(tokens).await;
    }

    fn login_of(&self, tokens: Tokens) -> Login {
        self.remember(&tokens);
        Login {
            account: self.account.clone(),
            server: self.server.clone(),
            file: Arc::clone(&self.file),
            redactor: self.redactor.clone(),
            may_renew: self.may_renew,
            state: Mutex::new(LoginState {
                tokens,
                refused: None,
                lacking: Vec::new(),
                over: None,
            }),
            renewing: tokio::sync::Mutex::new(()),
        }
    }

    fn tokens_of(&self, completed: Completed, now: Timestamp) -> Tokens {
        let Completed {
            granted,
            issuer,
            client_id,
            client_secret,
            scopes: asked,
        } = completed;
        let (ends, end_assumed) = Tokens::end(now, granted.expires_in);
        Tokens {
            login: now,
            server: self.server.to_string(),
            issuer,
            client_id,
            client_secret: client_secret.map(SecretString::from),
            access_token: Some(granted.access_token.into()),
            refresh_token: granted.refresh_token.map(SecretString::from),
            scopes: granted.scope.as_deref().map_or(asked, scopes),
            obtained: now,
            ends,
            end_assumed,
            expiring_announced: false,
            end_announced: false,
        }
    }

    fn remember(&self, tokens: &Tokens) {
        remember(&self.redactor, tokens);
    }
}

impl Login {
    /// When a person logged in.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.state.lock().tokens.login
    }

    /// Renews a token, unless another caller just did. `serves` says whether the old one is still good if that fails.
    async fn renew(&self, old: &SecretString, serves: bool) -> Result<SecretString, NoToken> {
        let _one = self.renewing.lock().await;
        let (token, tokens) = self.usable()?;
        if token.expose_secret() != old.expose_secret() {
            return Ok(token);
        }
        let renewed = timeout(EXCHANGE_TIMEOUT, flow::renew(&self.server, &tokens)).await;
        match renewed {
            Ok(Ok(granted)) => {
                let tokens = renewed_tokens(tokens, granted, Timestamp::now());
                remember(&self.redactor, &tokens);
                self.state.lock().tokens = tokens.clone();
                tracing::info!(account = self.account, ends = %tokens.ends, "the access token was renewed");
                self.store(tokens).await;
                self.usable().map(|(token, _)| token)
            }
            Ok(Err(RenewalError::Refused(why))) => {
                self.end(&mut self.state.lock(), &why);
                Err(NoToken::Reauthorize(self.over_words(&tokens)))
            }
            Ok(Err(RenewalError::Failed(_))) | Err(_) if serves => Ok(token),
            Ok(Err(RenewalError::Failed(why))) => Err(NoToken::Unreachable(format!(
                "the access token cannot be renewed: {why}"
            ))),
            Err(_) => Err(NoToken::Unreachable(format!(
                "the access token was not renewed within {} s",
                EXCHANGE_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Has the authorization server end the tokens.
    async fn revoke(&self) -> Revocation {
        let revoking = async {
            // A renewal that is under way would leave tokens that were not ended.
            let _one = self.renewing.lock().await;
            let tokens = self.state.lock().tokens.clone();
            flow::revoke(&self.server, &tokens).await
        };
        timeout(REVOCATION_TIMEOUT, revoking)
            .await
            .unwrap_or_else(|_| Revocation::Failed {
                reason: format!("no answer within {} s", REVOCATION_TIMEOUT.as_secs()),
            })
    }

    /// The access token, unless the login is over.
    fn usable(&self) -> Result<(SecretString, Tokens), NoToken> {
        let (tokens, over) = {
            let state = self.state.lock();
            (state.tokens.clone(), state.over.is_some())
        };
        match tokens.access_token.clone() {
            Some(token) if !over => Ok((token, tokens)),
            _ => Err(NoToken::Reauthorize(self.over_words(&tokens))),
        }
    }

    fn can_renew(&self, tokens: &Tokens) -> bool {
        self.may_renew && tokens.refresh_token.is_some()
    }

    /// Whether the server refused this token, so that it has to be renewed before its end.
    fn is_refused(&self, token: &SecretString) -> bool {
        let state = self.state.lock();
        let refused = state.refused.as_ref();
        refused.is_some_and(|refused| refused.expose_secret() == token.expose_secret())
    }

    fn end(&self, state: &mut LoginState, why: &str) {
        if state.over.is_none() {
            tracing::warn!(account = self.account, "the authorization is over: {why}");
            state.over = Some(Over::Refused {
                at: Timestamp::now(),
                why: why.to_owned(),
            });
        }
    }

    /// Why it gives no token, and what to do.
    fn over_words(&self, tokens: &Tokens) -> String {
        let over = self.state.lock().over.clone();
        let server = excerpt(self.server.as_str(), MAX_EXCERPT);
        let why = match over {
            Some(Over::LoggedOut) => format!("the account is logged out of {server}"),
            Some(Over::Refused { at, why }) => {
                format!("the authorization at {server} is over since {at:.0}: {why}")
            }
            None if !self.may_renew && tokens.refresh_token.is_some() => format!(
                "the access token for {server} ended at {:.0}, and the running host renews it",
                tokens.ends
            ),
            None => format!("the authorization at {server} ended at {:.0}", tokens.ends),
        };
        format!("{why}; run: qchost account login {}", self.account)
    }

    /// What the server wants besides, and what to do.
    fn lacking_words(&self, scopes: &str) -> String {
        format!(
            "{} refused something that needs the scopes `{}`, which the login lacks; the next login asks for them; run: qchost \
             account login {}",
            excerpt(self.server.as_str(), MAX_EXCERPT),
            excerpt(scopes, MAX_EXCERPT),
            self.account
        )
    }

    /// What the next login asks for besides what the server names: nothing, unless this one lacks something.
    fn more_scopes(&self) -> Vec<String> {
        let state = self.state.lock();
        match state.lacking.as_slice() {
            [] => Vec::new(),
            lacking => [state.tokens.scopes.as_slice(), lacking].concat(),
        }
    }

    async fn store(&self, tokens: Tokens) {
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || file.update(&tokens)).await;
        if let Err(error) = written.map_err(std::io::Error::other).flatten() {
            let file = self.file.path().display();
            tracing::error!(
                account = self.account,
                "the tokens cannot be written to {file}: {error}"
            );
        }
    }
}

impl BearerSource for Login {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>> {
        Box::pin(async move {
            let (token, tokens) = self.usable()?;
            let now = Timestamp::now();
            let may_renew = self.can_renew(&tokens);
            if may_renew && (tokens.is_due(now) || self.is_refused(&token)) {
                let serves = !tokens.is_over(now) && !self.is_refused(&token);
                return self.renew(&token, serves).await;
            }
            match tokens.is_over(now) {
                true => Err(NoToken::Reauthorize(self.over_words(&tokens))),
                false => Ok(token),
            }
        })
    }

    fn refused(&self, token: &SecretString) {
        let mut state = self.state.lock();
        let current = state.tokens.access_token.as_ref();
        // Another caller may have renewed it.
        if current.is_none_or(|current| current.expose_secret() != token.expose_secret()) {
            return;
        }
        match self.can_renew(&state.tokens) {
            true => state.refused = Some(token.clone()),
            false => self.end(&mut state, "the server refuses the access token"),
        }
    }

    fn lacks(&self, scopes: &str) {
        let lacking = {
            let mut state = self.state.lock();
            let LoginState {
                tokens, lacking, ..
            } = &mut *state;
            let before = lacking.len();
            add_lacking(lacking, &tokens.scopes, scopes);
            if lacking.len() == before {
                return;
            }
            lacking.join(" ")
        };
        let why = self.lacking_words(&lacking);
        tracing::warn!(account = self.account, "{why}");
    }

    fn redactor(&self) -> Option<qchost_text::Redactor> {
        Some(self.redactor.clone())
    }
}

fn remember(redactor: &qchost_text::Redactor, tokens: &Tokens) {
    let secrets = [
        &tokens.access_token,
        &tokens.refresh_token,
        &tokens.client_secret,
    ];
    for secret in secrets.into_iter().flatten() {
        redactor.remember(secret.clone());
    }
}

fn renewed_tokens(former: Tokens, granted: Granted, now: Timestamp) -> Tokens {
    let (ends, end_assumed) = Tokens::end(now, granted.expires_in);
    Tokens {
        access_token: Some(granted.access_token.into()),
        // A server that gives no new one expects the old one again.
        refresh_token: granted
            .refresh_token
            .map(SecretString::from)
            .or(former.refresh_token),
        scopes: match granted.scope {
            Some(granted) => scopes(&granted),
            None => former.scopes,
        },
        obtained: now,
        ends,
        end_assumed,
        expiring_announced: false,
        end_announced: false,
        ..former
    }
}

fn scopes(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Adds the scopes that a server wants, up to the limit. One that it granted already would be of no use a second time.
fn add_lacking(lacking: &mut Vec<String>, granted: &[String], wanted: &str) {
    for scope in wanted.split_whitespace().filter(|word| is_scope(word)) {
        let is_known = granted.iter().chain(&*lacking).any(|known| known == scope);
        if lacking.len() < MAX_LACKING && !is_known {
            lacking.push(scope.to_owned());
        }
    }
}

/// Whether a word that a server wrote can be the name of a scope (RFC 6749, 3.3).
fn is_scope(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    word.len() <= MAX_SCOPE && word.bytes().all(allowed)
}

/// Gives up on servers that keep a login waiting.
async fn in_time<T>(
    exchange: impl Future<Output = Result<T, LoginError>>,
) -> Result<T, LoginError> {
    timeout(EXCHANGE_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| {
            Err(LoginError::Unreachable(format!(
                "no answer within {} s",
                EXCHANGE_TIMEOUT.as_secs()
            )))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_scopes_that_were_not_granted_are_lacking() {
        let granted = scopes("read offline_access");
        let mut lacking = Vec::new();
        add_lacking(&mut lacking, &granted, "read write");
        add_lacking(&mut lacking, &granted, "write admin:all");
        assert_eq!(lacking, ["write", "admin:all"]);
        add_lacking(&mut lacking, &granted, "read");
        assert_eq!(lacking.len(), 2);
    }

    proptest! {
        #[test]
        fn what_a_server_wants_is_bounded_and_without_what_no_scope_has(
            wanted in proptest::collection::vec(r#"(\PC|["\\\x1b\n]){0,150}|[a-z]{1,3}"#, 0..80),
        ) {
            let granted = scopes("a b");
            let mut lacking = Vec::new();
            for wanted in &wanted {
                add_lacking(&mut lacking, &granted, wanted);
            }
            prop_assert!(lacking.len() <= MAX_LACKING);
            for (place, scope) in lacking.iter().enumerate() {
                prop_assert!(is_scope(scope) && scope.is_ascii());
                prop_assert!(!granted.contains(scope));
                prop_assert!(lacking.iter().skip(place + 1).all(|other| other != scope));
            }
        }
    }
}
