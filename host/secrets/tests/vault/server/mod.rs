//! A Vault to test against: AppRole, tokens with leases and policies, and key-value engines of
//! version 2, over real HTTP.
//!
//! Its answers follow Vault's published documentation (developer.hashicorp.com/vault/api-docs), not
//! what any client accepts. Each endpoint cites its page. Where the documentation gives an example
//! of an answer, the answer has the fields of the example; with [`Vault::answer_in_full`] it has the
//! general envelope of Vault's answers as well, as a real server sends it.

mod endpoints;

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{any, get, post};
use serde_json::Value;
use tokio::task::JoinHandle;

use endpoints::{arrive, health, login, lookup_self, read, renew_self};

/// A running server. It ends with this.
pub struct Vault {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and path: `GET /v1/secret/data/a`.
    pub what: String,
    /// `X-Vault-Token`.
    pub token: Option<String>,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// `X-Vault-Request`.
    pub marked: bool,
}

/// What the server does instead of answering.
#[derive(Clone)]
pub enum Fault {
    /// Answers this.
    Status(u16, String),
    /// Answers 200 with this.
    Body(String),
    /// Sends bytes without end.
    Endless,
    /// Never answers.
    Silent,
    /// Points there, with that status.
    Redirect(u16, String),
}

#[derive(Default)]
struct Server {
    sealed: bool,
    full: bool,
    namespace: Option<String>,
    fault: Option<Fault>,
    role: Role,
    tokens: HashMap<String, Issued>,
    issued: usize,
    secrets: HashMap<String, Secret>,
    seen: Vec<Seen>,
}

struct Role {
    mount: String,
    role_id: String,
    secret_id: String,
    token: Token,
}

/// A token and what it may do.
#[derive(Clone)]
pub struct Token {
    /// How long a lease is.
    pub ttl: Duration,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// When it ends for good, after it was issued.
    pub max: Option<Duration>,
    /// The paths (`mount/path`) that it may read.
    pub paths: Vec<String>,
    /// Whether it has the policy `default`, which lets a token look itself up and renew itself.
    pub default_policy: bool,
}

/// A token that was issued.
#[derive(Clone)]
struct Issued {
    token: Token,
    at: Instant,
    ends: Option<Instant>,
}

struct Secret {
    version: u64,
    data: Value,
    deletion_time: String,
    destroyed: bool,
}

type Shared = Arc<Mutex<Server>>;

impl Default for Token {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            renewable: true,
            max: None,
            paths: vec!["secret/ib".to_owned()],
            default_policy: true,
        }
    }
}

impl Default for Role {
    fn default() -> Self {
        Self {
            mount: "approle".to_owned(),
            role_id: "role-of-the-host".to_owned(),
            secret_id: "first-secret-id".to_owned(),
            token: Token::default(),
        }
    }
}

impl Issued {
    fn new(token: &Token) -> Self {
        let mut issued = Self {
            token: token.clone(),
            at: Instant::now(),
            ends: None,
        };
        issued.extend();
        issued
    }

    /// Begins a new lease, which goes no further than the token's last end.
    fn extend(&mut self) {
        let last = self.token.max.map(|max| self.at + max);
        let ends = (!self.token.ttl.is_zero()).then(|| Instant::now() + self.token.ttl);
        self.ends = match (ends, last) {
            (Some(ends), Some(last)) => Some(ends.min(last)),
            (ends, last) => ends.or(last),
        };
    }

    fn left(&self) -> u64 {
        self.ends.map_or(0, |ends| {
            let left = ends.saturating_duration_since(Instant::now());
            (left + Duration::from_millis(500)).as_secs()
        })
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Vault {
    /// An unsealed Vault on a port of its own.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::default();
        let router = Router::new()
            .route("/v1/sys/health", get(health))
            .route("/v1/auth/token/lookup-self", get(lookup_self))
            .route("/v1/auth/token/renew-self", post(renew_self))
            .route("/v1/auth/{mount}/login", post(login))
            .fallback(any(read))
            .layer(axum::middleware::from_fn_with_state(
                Arc::clone(&shared),
                arrive,
            ))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            shared,
            server,
        }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.shared.lock()
    }

    /// Its address: `http://127.0.0.1:…`.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes its port.
    pub async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    pub fn seal(&self, sealed: bool) {
        self.server().sealed = sealed;
    }

    pub fn answer_in_full(&self) {
        self.server().full = true;
    }

    pub fn set_namespace(&self, namespace: &str) {
        self.server().namespace = Some(namespace.to_owned());
    }

    pub fn set_fault(&self, fault: Option<Fault>) {
        self.server().fault = fault;
    }

    /// What a login with AppRole gives from now on.
    pub fn set_role(&self, token: Token) {
        self.server().role.token = token;
    }

    pub fn set_role_mount(&self, mount: &str) {
        self.server().role.mount = mount.to_owned();
    }

    pub fn set_secret_id(&self, secret_id: &str) {
        self.server().role.secret_id = secret_id.to_owned();
    }

    /// Makes a token, as `vault token create` does.
    pub fn create_token(&self, id: &str, token: &Token) {
        self.server()
            .tokens
            .insert(id.to_owned(), Issued::new(token));
    }

    pub fn revoke_all(&self) {
        self.server().tokens.clear();
    }

    /// Whether a token is good.
    pub fn knows(&self, token: &str) -> bool {
        self.server().valid(token).is_some()
    }

    /// Writes a new version of a secret, `mount/path`.
    pub fn put(&self, path: &str, data: Value) {
        let mut server = self.server();
        let version = server.secrets.get(path).map_or(0, |secret| secret.version) + 1;
        let secret = Secret {
            version,
            data,
            deletion_time: String::new(),
            destroyed: false,
        };
        server.secrets.insert(path.to_owned(), secret);
    }

    /// Deletes the newest version, as of a time; an empty one undoes that.
    pub fn delete(&self, path: &str, deletion_time: &str) {
        self.server().secrets.get_mut(path).unwrap().deletion_time = deletion_time.to_owned();
    }

    pub fn destroy(&self, path: &str) {
        self.server().secrets.get_mut(path).unwrap().destroyed = true;
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.server().seen.clone()
    }

    /// How many requests there were so far: `GET /v1/secret/data/a`.
    pub fn count(&self, what: &str) -> usize {
        self.server()
            .seen
            .iter()
            .filter(|seen| seen.what == what)
            .count()
    }
}

impl Server {
    fn valid(&mut self, id: &str) -> Option<&mut Issued> {
        self.tokens
            .get_mut(id)
            .filter(|token| token.ends.is_none_or(|ends| ends > Instant::now()))
    }
}
