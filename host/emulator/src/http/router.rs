//! Takes a request through authentication, log and faults to its handler, and answers it.
//!
//! Invariant: every request to the API gets a JSON answer, also one to an unknown path, with an unknown
//! method, a body that is too large or malformed; only a [`crate::Fault`] changes that. A write that an emulator
//! with a file could not store is answered with HTTP 507, since it is done, but may be lost.
//! Every request is in the log before its handler runs. No byte of a body is read before the
//! request is authenticated. The same holds for the remote MCP server, whose answers are its own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};
use jiff::Timestamp;
use qchost_catalog::is_loopback_host;
use qchost_text::excerpt;
use serde_json::{Map, Value, json};

use super::auth::authenticate;
use super::body;
use super::connection::CutHandle;
use super::endpoints::{Access, BASE, Endpoint, Handler, endpoint};
use super::faults::{FaultKind, Faults};
use super::request_log::{RequestLog, redacted};
use crate::remote::server::{Exchange, RemoteServer, Target};
use crate::services::answer::{Refusal, Reply, fields, loading};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::store::limits;

/// The cloud, and what every request passes before its handler.
pub(crate) struct ServerState {
    pub(crate) cloud: Arc<Cloud>,
    /// The remote MCP server, where there is one.
    pub(crate) remote: Option<RemoteServer>,
    pub(crate) faults: Faults,
    pub(crate) log: RequestLog,
    /// Time limit for receiving a request's body.
    pub(crate) body_timeout: Duration,
}

/// The routes of a server.
pub(crate) fn router(server: Arc<ServerState>) -> Router {
    Router::new()
        .fallback(serve)
        // The limit is applied in `serve`, which answers in JSON.
        .layer(DefaultBodyLimit::disable())
        .with_state(server)
}

/// A request that may be carried out, with its fields.
type Call = Result<(&'static Endpoint, Arguments), Failure>;

async fn serve(
    State(server): State<Arc<ServerState>>,
    ConnectInfo(cut): ConnectInfo<CutHandle>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let whole = parts.uri.path().trim_end_matches('/');
    if let Some(remote) = &server.remote
        && let Some(target) = remote.target(whole)
    {
        return serve_remote(&server, remote, target, &cut, (parts, body)).await;
    }
    let below = whole.strip_prefix(BASE);
    let path = below.unwrap_or(whole).to_owned();
    let call: Call = match admit(&server.cloud, &parts, below.and_then(endpoint)) {
        Ok(endpoint) => {
            let arguments = read_body(&parts, body, server.body_timeout).await;
            arguments.map(|arguments| (endpoint, arguments))
        }
        Err(failure) => Err(failure),
    };
    let fields = call.as_ref().ok();
    let fields = fields.map_or(Value::Null, |(_, arguments)| redacted(arguments));
    let work = async {
        match carry_out(&server.cloud, call).await {
            Ok(reply) => respond(reply),
            Err(Failure(status, refusal)) => json_response(status, refusal.into_body()),
        }
    };
    logged(&server, &cut, (&parts.method, &path, fields), work).await
}

/// Takes a request to the remote MCP server to its end.
async fn serve_remote(
    server: &ServerState,
    remote: &RemoteServer,
    target: Target,
    cut: &CutHandle,
    (parts, body): (Parts, Body),
) -> Response {
    let refused = match is_for_this_machine(&parts) {
        true => remote.refusal(target, &parts),
        false => Some(json_response(StatusCode::MISDIRECTED_REQUEST, misdirected().into_body()).0),
    };
    let received = match refused {
        Some(response) => Err(response),
        None => match receive(body, server.body_timeout).await {
            Ok(bytes) => Ok(Exchange::read(target, &parts, &bytes)),
            Err(Failure(status, refusal)) => Err(json_response(status, refusal.into_body()).0),
        },
    };
    let (path, fields) = match &received {
        Ok(exchange) => {
            let arguments = Arguments {
                fields: exchange.fields.clone(),
                object_data: None,
            };
            (exchange.path.clone(), redacted(&arguments))
        }
        Err(_) => {
            let whole = parts.uri.path();
            let path = whole.strip_prefix(BASE).unwrap_or(whole);
            (path.to_owned(), Value::Null)
        }
    };
    let work = async {
        match received {
            Ok(exchange) => remote.answer(&parts.headers, exchange).await,
            Err(response) => (response, None),
        }
    };
    logged(server, cut, (&parts.method, &path, fields), work).await
}

/// Records a request, applies the faults, and carries it out unless one of them stands for the answer.
async fn logged(
    server: &ServerState,
    cut: &CutHandle,
    (method, path, fields): (&Method, &str, Value),
    work: impl Future<Output = Logged>,
) -> Response {
    let number = server.log.arrived(method.as_str(), path, fields);
    let mut lose = false;
    let mut instead = None;
    for fault in server.faults.strike(path) {
        match fault {
            FaultKind::Latency(wait) => tokio::time::sleep(wait).await,
            FaultKind::LoseAnswer => lose = true,
            _ => instead = instead.or_else(|| instead_of_answer(fault)),
        }
    }
    let (response, success) = match instead {
        Some(instead) => instead,
        None => work.await,
    };
    let status = response.status().as_u16();
    server.log.answered(number, status, success);
    if lose {
        cut.cut();
    }
    response
}

/// A refusal with its HTTP status; 200 for those of handlers and of authentication, as in the
/// cloud.
struct Failure(StatusCode, Refusal);

impl Failure {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self(status, Refusal::because(reason))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(StatusCode::OK, refusal)
    }
}

async fn carry_out(cloud: &Arc<Cloud>, call: Call) -> Result<Reply, Failure> {
    let (endpoint, arguments) = call?;
    let answer = match endpoint.handler {
        Handler::Now(handler) => handler(cloud, &mut cloud.state(), &arguments),
        Handler::Later(handler) => handler(Arc::clone(cloud), arguments).await,
    };
    // What a read changes is an id at most.
    if endpoint.access == Access::Write
        && let Some(problem) = cloud.storage_problem()
    {
        let reason =
            format!("The emulator cannot store its data, and has it in memory only: {problem}");
        return Err(Failure::new(StatusCode::INSUFFICIENT_STORAGE, reason));
    }
    Ok(answer?)
}

/// Reads a request's fields.
async fn read_body(parts: &Parts, body: Body, limit: Duration) -> Result<Arguments, Failure> {
    let bytes = receive(body, limit).await?;
    Ok(body::parse(parts, bytes).await?)
}

/// Receives a request's body.
async fn receive(body: Body, limit: Duration) -> Result<Bytes, Failure> {
    match tokio::time::timeout(limit, to_bytes(body, limits::BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The request body is broken or larger than {} bytes",
                limits::BODY
            ),
        )),
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("The request body did not come within {limit:?}"),
        )),
    }
}

/// Whether a request was sent to this machine by its own name. A web page may lead a browser here
/// under the name of its own server, and could read the answers then.
fn is_for_this_machine(parts: &Parts) -> bool {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| is_loopback_host(&authority.host().to_ascii_lowercase()))
}

fn misdirected() -> Refusal {
    Refusal::because(
        "The emulator answers only under the name of this machine: localhost or a loopback \
         address",
    )
}

/// Decides from a request's head alone whether it may be carried out.
fn admit(
    cloud: &Cloud,
    parts: &Parts,
    endpoint: Option<&'static Endpoint>,
) -> Result<&'static Endpoint, Failure> {
    if !is_for_this_machine(parts) {
        return Err(Failure(StatusCode::MISDIRECTED_REQUEST, misdirected()));
    }
    let Some(endpoint) = endpoint else {
        let path = excerpt(parts.uri.path(), limits::NAME_LENGTH);
        let reason = format!("Endpoint not found: {path}");
        return Err(Failure::new(StatusCode::NOT_FOUND, reason));
    };
    let get = parts.method == Method::GET;
    if !(parts.method == Method::POST || get && endpoint.access != Access::Write) {
        let method = excerpt(parts.method.as_str(), 16);
        let reason = format!("{method} is not allowed for {}", endpoint.path);
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    if !(get && endpoint.access == Access::Browser) {
        let now = Timestamp::now().as_second();
        authenticate(&cloud.settings.credentials, &parts.headers, now)?;
    }
    Ok(endpoint)
}

/// A response, with the `success` in its body for the request log.
type Logged = (Response, Option<bool>);

/// The response to a reply.
fn respond(reply: Reply) -> Logged {
    match reply {
        Reply::Json(fields) => json_response(StatusCode::OK, fields),
        Reply::Redirect(address) => {
            let body = fields(json!({"success": true, "url": address}));
            let (mut response, success) = json_response(StatusCode::FOUND, body);
            if let Ok(location) = HeaderValue::from_str(&address) {
                response.headers_mut().insert(LOCATION, location);
            }
            (response, success)
        }
        Reply::Archive(bytes) => {
            let kind = [(CONTENT_TYPE, "application/zip")];
            ((kind, Body::from(bytes)).into_response(), None)
        }
        Reply::File(media_type, text) => {
            (([(CONTENT_TYPE, media_type)], text).into_response(), None)
        }
        Reply::Page(html) => (Html(html).into_response(), None),
    }
}

/// A JSON object as a response.
fn json_response(status: StatusCode, body: Map<String, Value>) -> Logged {
    let success = body.get("success").and_then(Value::as_bool);
    let response = (status, axum::Json(Value::Object(body))).into_response();
    (response, success)
}

/// The response of a fault that replaces the answer; `None` for other faults.
fn instead_of_answer(fault: FaultKind) -> Option<Logged> {
    let refused = |status, error: &str| json_response(status, Refusal::because(error).into_body());
    Some(match fault {
        FaultKind::Refuse(error) => refused(StatusCode::OK, &error),
        FaultKind::Pretend => json_response(StatusCode::OK, fields(json!({"success": true}))),
        FaultKind::Loading { progress } => json_response(StatusCode::OK, loading(progress)),
        FaultKind::TooManyRequests { retry_after } => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let (mut response, success) = refused(status, "Too many requests");
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            (response, success)
        }
        FaultKind::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status.into_response(), None)
        }
        FaultKind::Latency(_) | FaultKind::LoseAnswer => return None,
    })
}
