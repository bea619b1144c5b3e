//! The login to Vault.
//!
//! Invariants: a renewable token is renewed before it expires, whether secrets are read or not; an
//! expired one is replaced by another login if possible (AppRole), otherwise by the token that the
//! source has then; a read that is denied by policy does not cause repeated logins.

use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use qchost_text::Redactor;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest};

use super::answer::{Auth, Authenticated, LookedUp};
use super::http::Http;
use super::options::VaultAuth;
use crate::error::{SecretError, VaultError};
use crate::file::{read_file, read_variable};
use crate::source::{Setting, Source};

/// Minimum age of a session before a refused read alone causes another login: each login leaves a
/// token in Vault until that token expires.
const LOGIN_INTERVAL: Duration = Duration::from_secs(60);

/// Minimum age before the host assumes that its token, which Vault does not describe, was revoked,
/// rather than that the token may not look itself up.
const MIN_REVOKED_AGE: Duration = Duration::from_secs(5);

/// Remaining lease below which a refusal may mean that it expired in transit.
const EXPIRY_MARGIN: Duration = Duration::from_secs(1);

/// Maximum wait between two attempts to renew.
const MAX_RENEW_INTERVAL: Duration = Duration::from_secs(30);

/// Minimum wait before a renewal.
const MIN_RENEW_INTERVAL: Duration = Duration::from_millis(200);

/// A token and its lifetime.
pub(super) struct Session {
    token: SecretString,
    since: Instant,
    ends: Mutex<Option<Instant>>,
}

/// The login credentials, and the current session.
pub(super) struct Login {
    auth: VaultAuth,
    http: Arc<Http>,
    redactor: Redactor,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// The last login, if it failed; shared by all callers that waited for it.
    failed: Option<(Instant, VaultError)>,
}

/// The lifetime of a token, and whether it can be renewed.
struct Lease {
    ends_in: Option<Duration>,
    renewable: bool,
}

impl Lease {
    fn new(seconds: u64, renewable: bool) -> Self {
        Self {
            // Vault reports 0 for a token that does not expire.
            ends_in: (seconds > 0).then(|| Duration::from_secs(seconds)),
            renewable,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// A session whose lease was requested at that instant, so that Vault does not end it earlier
    /// than computed here.
    fn new(token: SecretString, requested: Instant, lease: &Lease) -> Arc<Self> {
        Arc::new(Self {
            token,
            since: requested,
            ends: Mutex::new(end(requested, lease)),
        })
    }

    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }

    /// The remaining lifetime; `None` if it does not expire.
    fn left(&self) -> Option<Duration> {
        let ends = *self.ends.lock();
        ends.map(|ends| ends.saturating_duration_since(Instant::now()))
    }

    fn extend(&self, requested: Instant, lease: &Lease) {
        *self.ends.lock() = end(requested, lease);
    }
}

fn end(requested: Instant, lease: &Lease) -> Option<Instant> {
    // A lease of centuries counts as unlimited.
    lease
        .ends_in
        .and_then(|length| requested.checked_add(length))
}

impl Login {
    pub(super) fn new(auth: VaultAuth, http: Arc<Http>, redactor: Redactor) -> Self {
        Self {
            auth,
            http,
            redactor,
            state: tokio::sync::Mutex::default(),
        }
    }

    /// The session, or a new one if there is no valid one.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, VaultError> {
        let requested = Instant::now();
        let mut state = self.state.lock().await;
        match &*state {
            State {
                session: Some(session),
                ..
            } if session.left() != Some(Duration::ZERO) => Ok(Arc::clone(session)),
            State {
                failed: Some((at, error)),
                ..
            } if *at >= requested => Err(error.clone()),
            _ => self.begin(&mut state).await,
        }
    }

    /// Another session after Vault refused one; `None` if that one is valid and another would not
    /// help, because the policy refuses.
    pub(super) async fn another(
        self: &Arc<Self>,
        refused: &Arc<Session>,
    ) -> Result<Option<Arc<Session>>, VaultError> {
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session
            && !Arc::ptr_eq(session, refused)
        {
            return Ok(Some(Arc::clone(session)));
        }
        let good = self.look_up(&refused.token).await?.is_some();
        let better = match &self.auth {
            VaultAuth::AppRole { .. } => {
                let age = if good {
                    LOGIN_INTERVAL
                } else {
                    MIN_REVOKED_AGE
                };
                refused.since.elapsed() >= age
                    || refused.left().is_some_and(|left| left < EXPIRY_MARGIN)
            }
            VaultAuth::Token(source) => {
                let token = self.credential("token", source).await?;
                let changed = token.expose_secret() != refused.token.expose_secret();
                if !changed && !good {
                    return Err(VaultError::TokenExpired(source.to_string()));
                }
                changed
            }
        };
        if better {
            self.begin(&mut state).await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Logs in, and starts the renewal.
    async fn begin(self: &Arc<Self>, state: &mut State) -> Result<Arc<Session>, VaultError> {
        *state = State::default();
        let (session, lease) = match self.log_in().await {
            Ok(begun) => begun,
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                return Err(error);
            }
        };
        state.session = Some(Arc::clone(&session));
        if lease.renewable && lease.ends_in.is_some() {
            tokio::spawn(renew(Arc::downgrade(self), Arc::downgrade(&session)));
        }
        Ok(session)
    }

    async fn log_in(&self) -> Result<(Arc<Session>, Lease), VaultError> {
        let requested = Instant::now();
        let (token, lease) = match &self.auth {
            VaultAuth::Token(source) => {
                let token = self.credential("token", source).await?;
                let lease = self.look_up(&token).await?.unwrap_or_else(|| {
                    // It may still be valid for reading.
                    tracing::warn!(
                        "Vault says nothing of the host's token from {source}: it expired, was revoked, or may not look itself up"
                    );
                    Lease::new(0, false)
                });
                (token, lease)
            }
            VaultAuth::AppRole {
                role_id,
                secret_id,
                mount,
            } => {
                let auth = self.app_role(role_id, secret_id, mount).await?;
                let lease = Lease::new(auth.lease_duration, auth.renewable);
                self.redactor.remember(auth.client_token.clone());
                (auth.client_token, lease)
            }
        };
        Ok((Session::new(token, requested, &lease), lease))
    }

    async fn app_role(
        &self,
        role_id: &Setting,
        secret_id: &Source,
        mount: &str,
    ) -> Result<Auth, VaultError> {
        let role_id = match role_id {
            Setting::Secret(source) => self.credential("role-id", source).await?,
            Setting::Plain(Value::String(text)) => text.as_str().into(),
            Setting::Plain(_) => {
                return Err(VaultError::Credentials("the role-id is no text".to_owned()));
            }
        };
        let secret_id = self.credential("secret-id", secret_id).await?;
        let request = LoginWithApproleRequest {
            mount: mount.to_owned(),
            role_id: role_id.expose_secret().to_owned(),
            secret_id: secret_id.expose_secret().to_owned(),
        };
        let answer = self.http.send(request, None).await?;
        match answer.status() {
            200 => {}
            400..=499 => {
                return Err(VaultError::LoginRefused {
                    mount: mount.to_owned(),
                    status: answer.status(),
                    words: self.http.words(&answer),
                });
            }
            _ => return Err(self.http.unexpected(&answer)),
        }
        let Authenticated { auth } = self.http.parse(&answer)?;
        if auth.client_token.expose_secret().is_empty() {
            return Err(self.http.answer(&answer, "it has no token".to_owned()));
        }
        Ok(auth)
    }

    /// The lifetime of a token; `None` if Vault does not know it, or does not reveal it.
    async fn look_up(&self, token: &SecretString) -> Result<Option<Lease>, VaultError> {
        let answer = self
            .http
            .send(LookupTokenSelfRequest {}, Some(token))
            .await?;
        match answer.status() {
            200 => {}
            403 => return Ok(None),
            _ => return Err(self.http.unexpected(&answer)),
        }
        let LookedUp { data } = self.http.parse(&answer)?;
        Ok(Some(Lease::new(data.ttl, data.renewable)))
    }

    /// Renews a session; `false` if Vault no longer does that.
    async fn prolong(&self, session: &Session) -> Result<bool, VaultError> {
        let requested = Instant::now();
        let request = RenewTokenSelfRequest { increment: None };
        let answer = self.http.send(request, Some(&session.token)).await?;
        match answer.status() {
            200 => {}
            400..=499 => return Ok(false),
            _ => return Err(self.http.unexpected(&answer)),
        }
        let Authenticated { auth } = self.http.parse(&answer)?;
        if auth.lease_duration == 0 {
            // Less than a second before its final expiry. A limited token does not become
            // unlimited.
            return Ok(false);
        }
        let lease = Lease::new(auth.lease_duration, auth.renewable);
        session.extend(requested, &lease);
        Ok(lease.renewable)
    }

    /// Reads a login credential.
    async fn credential(&self, what: &str, source: &Source) -> Result<SecretString, VaultError> {
        let read = match source {
            Source::Env(env) => read_variable(env),
            Source::File(file) => read_file(file.clone()).await,
            Source::Vault(vault) => Err(SecretError::NoVault(vault.to_string())),
        };
        let secret =
            read.map_err(|error| VaultError::Credentials(format!("its {what}: {error}")))?;
        self.redactor.remember(secret.clone());
        Ok(secret)
    }
}

/// Renews a session, as long as it is in use and Vault allows it.
async fn renew(login: Weak<Login>, session: Weak<Session>) {
    let mut share = 2;
    loop {
        let Some(left) = session.upgrade().and_then(|session| session.left()) else {
            return;
        };
        if left.is_zero() {
            return;
        }
        // After two thirds of the remaining lifetime; sooner after a failure.
        let pause = left * share / 3;
        let pause = if share == 1 {
            pause.min(MAX_RENEW_INTERVAL)
        } else {
            pause
        };
        tokio::time::sleep(pause.max(MIN_RENEW_INTERVAL)).await;
        let (Some(login), Some(session)) = (login.upgrade(), session.upgrade()) else {
            return;
        };
        match login.prolong(&session).await {
            Ok(true) => share = 2,
            Ok(false) => {
                if let VaultAuth::Token(source) = &login.auth {
                    let left = session.left().unwrap_or_default().as_secs();
                    tracing::warn!(
                        "Vault no longer renews the host's token; put a new one into {source} within {left} s"
                    );
                }
                return;
            }
            Err(error) => {
                share = 1;
                tracing::warn!(%error, "the host's token for Vault was not renewed");
            }
        }
    }
}
