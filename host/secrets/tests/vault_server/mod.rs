//! A Vault to test against: AppRole, tokens with leases and policies, and key-value engines of
//! version 2, over real HTTP.
//!
//! Its answers follow Vault's published documentation (developer.hashicorp.com/vault/api-docs), not
//! what any client accepts. Each endpoint cites its page. Where the documentation gives an example
//! of an answer, the answer has the fields of the example; with [`Vault::answer_in_full`] it has the
//! general envelope of Vault's answers as well, as a real server sends it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use futures::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

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
    /// Points there.
    Redirect(String),
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
            ends.saturating_duration_since(Instant::now())
                .as_secs_f64()
                .round() as u64
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
        self.shared.lock().unwrap()
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

    /// An answer; in full with the envelope of every answer (as in the examples of
    /// `/vault/api-docs/auth/token#read-token-role` and `#tidy-tokens`).
    fn answer(&self, status: StatusCode, part: &str, content: Value) -> Response {
        let mut answer = Map::new();
        if self.full {
            for (key, value) in [
                ("request_id", json!("84437c7f-36a1-6c1d-381d-14ec99217e94")),
                ("lease_id", json!("")),
                ("renewable", json!(false)),
                ("lease_duration", json!(0)),
                ("data", Value::Null),
                ("wrap_info", Value::Null),
                ("warnings", Value::Null),
                ("auth", Value::Null),
            ] {
                answer.insert(key.to_owned(), value);
            }
        }
        answer.insert(part.to_owned(), content);
        (status, axum::Json(Value::Object(answer))).into_response()
    }
}

/// `/vault/api-docs#error-response`: any status of 400 or more comes with `errors`.
fn errors(status: u16, messages: &[&str]) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, axum::Json(json!({ "errors": messages }))).into_response()
}

/// `/vault/api-docs#http-status-codes`: 403 for a token that is none, and for one whose policies do
/// not allow the request. (The words of the former are those of current versions.)
fn forbidden(known: bool) -> Response {
    if known {
        errors(403, &["1 error occurred:\n\t* permission denied\n\n"])
    } else {
        errors(
            403,
            &["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"],
        )
    }
}

fn token_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-vault-token")?;
    Some(value.to_str().unwrap().to_owned())
}

/// What comes before every endpoint: the record of requests, faults, the seal, the namespace.
///
/// `/vault/api-docs#http-status-codes`: "503 - Vault is down for maintenance or is currently sealed".
/// `/vault/api-docs#namespaces`: the path is relative to `X-Vault-Namespace`.
async fn arrive(
    State(shared): State<Shared>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let health = request.uri().path() == "/v1/sys/health";
    let fault = {
        let mut server = shared.lock().unwrap();
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let seen = Seen {
            what: format!("{} {}", request.method(), request.uri().path()),
            token: header("x-vault-token"),
            namespace: header("x-vault-namespace"),
            marked: header("x-vault-request").as_deref() == Some("true"),
        };
        let astray = seen.namespace != server.namespace && !health;
        server.seen.push(seen);
        if server.sealed && !health {
            return errors(503, &["Vault is sealed"]);
        }
        if astray {
            return errors(404, &["no handler for route. route entry not found."]);
        }
        server.fault.clone().filter(|_| !health)
    };
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(status, body)) => {
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        }
        Some(Fault::Body(body)) => body.into_response(),
        Some(Fault::Endless) => {
            let chunk = Bytes::from(vec![b' '; 64 * 1024]);
            let chunks = futures::stream::repeat(chunk).map(Ok::<_, std::io::Error>);
            Body::from_stream(chunks).into_response()
        }
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Redirect(to)) => {
            // `/vault/docs/concepts/ha#client-redirection`: a standby node that does not forward
            // requests answers 307 and the address of the active node.
            let to = format!("{to}{}", request.uri());
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
    }
}

/// `GET /v1/sys/health`: `/vault/api-docs/system/health#read-health-information`. 200 if
/// initialized, unsealed and active, 503 if sealed. No token is needed.
async fn health(State(shared): State<Shared>) -> Response {
    let sealed = shared.lock().unwrap().sealed;
    let status = if sealed { 503 } else { 200 };
    let body = json!({
        "initialized": true,
        "sealed": sealed,
        "standby": false,
        "performance_standby": false,
        "replication_performance_mode": "disabled",
        "replication_dr_mode": "disabled",
        "server_time_utc": 1516639589,
        "version": "1.20.0",
        "cluster_name": "vault-cluster-3bd69ca2",
        "cluster_id": "00af5aa8-c87d-b5fc-e82e-97cd8dfaf731",
    });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// `POST /v1/auth/approle/login`: `/vault/api-docs/auth/approle#login-with-approle`. The role id and
/// the secret id are in the body; a wrong one is an invalid request (400). No `Content-Type` is
/// required (`/vault/api-docs#api-operations`).
async fn login(State(shared): State<Shared>, Path(mount): Path<String>, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return errors(400, &["failed to parse JSON input"]);
    };
    let mut server = shared.lock().unwrap();
    if mount != server.role.mount {
        return forbidden(true);
    }
    if body["role_id"].as_str() != Some(&server.role.role_id)
        || body["secret_id"].as_str() != Some(&server.role.secret_id)
    {
        return errors(400, &["invalid role or secret ID"]);
    }
    server.issued += 1;
    let id = format!("hvs.issued-by-login-{}", server.issued);
    let token = Issued::new(&server.role.token);
    let auth = json!({
        "renewable": token.token.renewable,
        "lease_duration": token.left(),
        "metadata": null,
        "token_policies": ["default"],
        "accessor": "fd6c9a00-d2dc-3b11-0be5-af7ae0e1d374",
        "client_token": id,
    });
    server.tokens.insert(id, token);
    server.answer(StatusCode::OK, "auth", auth)
}

/// `GET /v1/auth/token/lookup-self`: `/vault/api-docs/auth/token#lookup-a-token-self`. `ttl` is what
/// is left, in seconds; 0 for a token that does not end.
async fn lookup_self(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut server = shared.lock().unwrap();
    let id = token_of(&headers).unwrap_or_default();
    let Some(token) = server.valid(&id) else {
        return forbidden(false);
    };
    if !token.token.default_policy {
        return forbidden(true);
    }
    let data = json!({
        "accessor": "8609694a-cdbc-db9b-d345-e782dbb562ed",
        "creation_time": 1523979354,
        "creation_ttl": token.token.ttl.as_secs(),
        "display_name": "token-host",
        "entity_id": "7d2e3179-f69b-450c-7179-ac8ee8bd8ca9",
        "expire_time": "2018-05-19T11:35:54.466476215-04:00",
        "explicit_max_ttl": 0,
        "id": id,
        "identity_policies": ["dev-group-policy"],
        "issue_time": "2018-04-17T11:35:54.466476078-04:00",
        "meta": {"username": "host"},
        "num_uses": 0,
        "orphan": true,
        "path": "auth/token/create",
        "policies": ["default", "qchost"],
        "renewable": token.token.renewable,
        "ttl": token.left(),
    });
    server.answer(StatusCode::OK, "data", data)
}

/// `POST /v1/auth/token/renew-self`: `/vault/api-docs/auth/token#renew-a-token-self`. "Token renewal
/// is possible only if there is a lease associated with it."
async fn renew_self(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut server = shared.lock().unwrap();
    let id = token_of(&headers).unwrap_or_default();
    let Some(token) = server.valid(&id) else {
        return forbidden(false);
    };
    if !token.token.default_policy {
        return forbidden(true);
    }
    if !token.token.renewable {
        return errors(400, &["lease is not renewable"]);
    }
    token.extend();
    let auth = json!({
        "client_token": id,
        "policies": ["web", "stage"],
        "metadata": {"user": "host"},
        "lease_duration": token.left(),
        "renewable": true,
    });
    server.answer(StatusCode::OK, "auth", auth)
}

/// `GET /v1/:mount/data/:path`: `/vault/api-docs/secret/kv/kv-v2#read-secret-version`, at any mount.
///
/// 404 with `errors` for what is not there (`/vault/api-docs#http-status-codes`), also for a mount
/// that is none; and 404 with `data: null` and the metadata for a version that was deleted or
/// destroyed. A deletion time that is yet to come (`delete_version_after`) changes nothing.
async fn read(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut server = shared.lock().unwrap();
    let Some(token) = token_of(&headers).and_then(|id| server.valid(&id).cloned()) else {
        return forbidden(false);
    };
    let path = uri.path().trim_start_matches("/v1/").to_owned();
    let Some((mount, path)) = path.split_once("/data/").filter(|_| method == Method::GET) else {
        return errors(404, &["no handler for route. route entry not found."]);
    };
    let path = format!("{mount}/{path}");
    if !token.token.paths.contains(&path) {
        return forbidden(true);
    }
    if !server
        .secrets
        .keys()
        .any(|known| known.starts_with(&format!("{mount}/")))
    {
        let message = format!("no handler for route \"{path}\". route entry not found.");
        return errors(404, &[&message]);
    }
    let Some(secret) = server.secrets.get(&path) else {
        return errors(404, &[]);
    };
    let future = secret.deletion_time.starts_with('9');
    let gone = secret.destroyed || !(secret.deletion_time.is_empty() || future);
    let data = json!({
        "data": if gone { Value::Null } else { secret.data.clone() },
        "metadata": {
            "created_time": "2018-03-22T02:24:06.945319214Z",
            "custom_metadata": {"owner": "jdoe", "mission_critical": "false"},
            "deletion_time": secret.deletion_time,
            "destroyed": secret.destroyed,
            "version": secret.version,
        },
    });
    let status = if gone { 404 } else { 200 };
    server.answer(StatusCode::from_u16(status).unwrap(), "data", data)
}
