//! The endpoints, each after its page of Vault's documentation.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::{Fault, Issued, Seen, Server, Shared};

impl Server {
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
pub(super) async fn arrive(
    State(shared): State<Shared>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let health = request.uri().path() == "/v1/sys/health";
    let fault = {
        let mut server = shared.lock();
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
        Some(Fault::Redirect(status, to)) => {
            // `/vault/docs/concepts/ha#client-redirection`: a standby node that does not forward
            // requests answers 307 and the address of the active node.
            let to = format!("{to}{}", request.uri());
            (
                StatusCode::from_u16(status).unwrap(),
                [(header::LOCATION, to)],
            )
                .into_response()
        }
    }
}

/// `GET /v1/sys/health`: `/vault/api-docs/system/health#read-health-information`. 200 if
/// initialized, unsealed and active, 503 if sealed. No token is needed.
pub(super) async fn health(State(shared): State<Shared>) -> Response {
    let sealed = shared.lock().sealed;
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
pub(super) async fn login(
    State(shared): State<Shared>,
    Path(mount): Path<String>,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return errors(400, &["failed to parse JSON input"]);
    };
    let mut server = shared.lock();
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
pub(super) async fn lookup_self(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut server = shared.lock();
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
pub(super) async fn renew_self(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut server = shared.lock();
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
pub(super) async fn read(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut server = shared.lock();
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
