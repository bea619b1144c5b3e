//! Secrets in HashiCorp Vault: the key-value engine, version 2.
//!
//! Invariants: for each secret at most one request is in progress, and its answer, good or bad, is
//! shared by all waiting callers and by those within the next seconds, so that a burst of calls is
//! one request; an older answer is never used, so that a revoked secret stays revoked even while
//! Vault is unreachable.

mod answer;
mod http;
mod options;
mod session;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_text::Redactor;
use secrecy::{ExposeSecret as _, SecretString};
use vaultrs::api::kv2::requests::ReadSecretRequest;

use crate::error::{SecretError, VaultError};
use crate::source::VaultPath;
use answer::{Field, Fields, Stored};
use http::Http;
pub use options::{VaultAuth, VaultOptions};
use session::{Login, Session};

/// How long a failure is cached.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The last answer for one secret, and when it arrived. The lock is held during a request.
type CachedAnswer = Arc<tokio::sync::Mutex<Option<(Instant, Result<Arc<Fields>, VaultError>)>>>;

/// The connection to one Vault.
pub(crate) struct Vault {
    http: Arc<Http>,
    login: Arc<Login>,
    kept_for: Duration,
    /// By mount and path. Contains only what the configuration refers to.
    secrets: Mutex<HashMap<(String, String), CachedAnswer>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("address", &self.http.address())
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Checks the options. Nothing is sent yet.
    pub(crate) fn new(options: VaultOptions, redactor: &Redactor) -> Result<Self, SecretError> {
        let http = Arc::new(Http::new(&options, redactor.clone())?);
        Ok(Self {
            login: Arc::new(Login::new(
                options.auth,
                Arc::clone(&http),
                redactor.clone(),
            )),
            http,
            kept_for: Duration::from_secs(options.cache_seconds),
            secrets: Mutex::default(),
        })
    }

    /// Logs in, if that was not done yet.
    pub(crate) async fn connect(&self) -> Result<(), VaultError> {
        self.login.session().await.map(drop)
    }

    /// The field's value.
    pub(crate) async fn read(&self, path: &VaultPath) -> Result<SecretString, VaultError> {
        let fields = self.fields(path).await?;
        match fields.get(&path.field) {
            Some(Field::Text(text)) if !text.expose_secret().is_empty() => Ok(text.clone()),
            Some(_) => Err(VaultError::NoText(path.to_string())),
            None => Err(VaultError::NoField(path.to_string())),
        }
    }

    async fn fields(&self, path: &VaultPath) -> Result<Arc<Fields>, VaultError> {
        let cached = Arc::clone(
            self.secrets
                .lock()
                .entry((path.mount.clone(), path.path.clone()))
                .or_default(),
        );
        let requested = Instant::now();
        let mut cached = cached.lock().await;
        if let Some((at, known)) = &*cached {
            let age = match known {
                Ok(_) => self.kept_for,
                Err(_) => FAILURE_TTL,
            };
            // An answer that arrived while this caller waited is as good as a new one.
            if *at >= requested || at.elapsed() < age {
                return known.clone();
            }
        }
        let read = self.fetch(path).await.map(Arc::new);
        *cached = Some((Instant::now(), read.clone()));
        read
    }

    /// Asks Vault; once more after another login if the token is rejected.
    async fn fetch(&self, path: &VaultPath) -> Result<Fields, VaultError> {
        let session = self.login.session().await?;
        if let Some(fields) = self.ask(path, &session).await? {
            return Ok(fields);
        }
        if let Some(session) = self.login.another(&session).await?
            && let Some(fields) = self.ask(path, &session).await?
        {
            return Ok(fields);
        }
        Err(VaultError::Denied {
            path: path.to_string(),
            rule: format!("{}/data/{}", path.mount, path.path),
        })
    }

    /// The secret's fields; `None` if the token may not read them.
    async fn ask(&self, path: &VaultPath, session: &Session) -> Result<Option<Fields>, VaultError> {
        let request = ReadSecretRequest {
            mount: path.mount.clone(),
            path: path.path.clone(),
            version: None,
        };
        let answer = self.http.send(request, Some(session.token())).await?;
        match answer.status() {
            403 => return Ok(None),
            200 | 404 => {}
            _ => return Err(self.http.unexpected(&answer)),
        }
        let missing = || VaultError::NoSecret(path.to_string());
        // For a secret that never existed, and for an unknown mount, Vault returns `errors`; for
        // one whose newest version was deleted, its metadata (both with 404).
        let stored: Stored = match answer.parse() {
            Ok(stored) => stored,
            Err(_) if answer.status() == 404 => return Err(missing()),
            Err(why) => return Err(self.http.answer(&answer, why)),
        };
        match stored.fields() {
            Ok(fields) => Ok(Some(fields)),
            Err(Some((version, what))) => Err(VaultError::Deleted {
                path: path.to_string(),
                version,
                what,
            }),
            Err(None) if answer.status() == 404 => Err(missing()),
            Err(None) => Err(self.http.answer(
                &answer,
                "it has no `data.data`; is the engine one of version 2?".to_owned(),
            )),
        }
    }
}
