//! The table of endpoints, and the way of a request through authentication, faults and log to
//! its handler.
//!
//! Invariant: every request gets a JSON answer, also one to an unknown path, with an unknown
//! method, a body too large or no sense at all; only a [`crate::Fault`] makes it otherwise.
//! Every request is in the log before its handler runs. No byte of a body is read before the request is
//! authenticated.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::answer::{Answer, Refusal, Reply, loading, shorten};
use crate::arguments::Arguments;
use crate::auth;
use crate::body;
use crate::faults::FaultKind;
use crate::limits;
use crate::line::Cut;
use crate::request_log::redacted;
use crate::state::Cloud;
use crate::{
    ai, backtests, collaborators, compile, connections, files, live, nodes, object_store,
    optimizations, organizations, projects,
};

/// Where the API begins.
pub(crate) const BASE: &str = "/api/v2";

/// The work of a handler that waits for something.
pub(crate) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

enum Handler {
    /// Answers at once.
    Now(fn(&Arc<Cloud>, &Arguments) -> Answer),
    /// Lets a thread of its own work.
    Later(fn(Arc<Cloud>, Arguments) -> Work),
}

use Handler::{Later, Now};

/// Who may call an endpoint, and how.
#[derive(PartialEq, Eq)]
enum Access {
    /// GET or POST, authenticated.
    Read,
    /// POST, authenticated.
    Write,
    /// GET by a browser, which has no API credentials; POST authenticated.
    Browser,
}

use Access::{Browser, Read, Write};

struct Endpoint {
    path: &'static str,
    access: Access,
    handler: Handler,
}

const fn at(path: &'static str, access: Access, handler: Handler) -> Endpoint {
    Endpoint {
        path,
        access,
        handler,
    }
}

const ENDPOINTS: &[Endpoint] = &[
    at("/authenticate", Read, Now(organizations::authenticate)),
    at("/account/read", Read, Now(organizations::account)),
    at("/user/read", Read, Now(organizations::user)),
    at("/organizations/list", Read, Now(organizations::list)),
    at("/organizations/read", Read, Now(organizations::read)),
    at(
        "/organizations/encryption/keys/list",
        Read,
        Now(organizations::encryption_keys),
    ),
    at("/lean/versions/read", Read, Now(organizations::versions)),
    at(
        "/lean/environments/read",
        Read,
        Now(organizations::environments),
    ),
    at("/services/terminal-news", Read, Now(organizations::news)),
    at("/modules/list", Read, Now(organizations::modules)),
    at("/modules/read", Read, Now(organizations::not_offered)),
    at("/market/data/list", Read, Now(organizations::data_sets)),
    at("/data/list", Read, Now(organizations::data_files)),
    at("/data/prices", Read, Now(organizations::data_prices)),
    at("/data/read", Read, Now(organizations::not_offered)),
    at("/projects/create", Write, Now(projects::create)),
    at("/projects/read", Read, Now(projects::read)),
    at("/projects/update", Write, Now(projects::update)),
    at("/projects/delete", Write, Now(projects::delete)),
    at(
        "/projects/library/create",
        Write,
        Now(projects::add_library),
    ),
    at(
        "/projects/library/delete",
        Write,
        Now(projects::remove_library),
    ),
    at(
        "/projects/collaboration/create",
        Write,
        Now(collaborators::create),
    ),
    at(
        "/projects/collaboration/read",
        Read,
        Now(collaborators::read),
    ),
    at(
        "/projects/collaboration/update",
        Write,
        Now(collaborators::update),
    ),
    at(
        "/projects/collaboration/delete",
        Write,
        Now(collaborators::delete),
    ),
    at(
        "/projects/collaboration/lock/acquire",
        Write,
        Now(collaborators::lock),
    ),
    at("/projects/nodes/read", Read, Now(nodes::read)),
    at("/projects/nodes/update", Write, Now(nodes::update)),
    at("/nodes/read", Read, Now(nodes::organization)),
    at("/files/create", Write, Now(files::create)),
    at("/files/read", Read, Now(files::read)),
    at("/files/update", Write, Now(files::update)),
    at("/files/patch", Write, Now(files::apply_patch)),
    at("/files/delete", Write, Now(files::delete)),
    at("/compile/create", Write, Later(compile::create)),
    at("/compile/read", Read, Now(compile::read)),
    at("/backtests/create", Write, Now(backtests::create)),
    at("/backtests/read", Read, Now(backtests::read)),
    at("/backtests/list", Read, Now(backtests::list)),
    at("/backtests/update", Write, Now(backtests::update)),
    at("/backtests/delete", Write, Now(backtests::delete)),
    at("/backtests/chart/read", Read, Now(backtests::chart)),
    at("/backtests/orders/read", Read, Now(backtests::orders)),
    at("/backtests/read/insights", Read, Now(backtests::insights)),
    at("/backtests/read/log", Read, Now(backtests::log)),
    at(
        "/optimizations/estimate",
        Read,
        Now(optimizations::estimate),
    ),
    at("/optimizations/create", Write, Now(optimizations::create)),
    at("/optimizations/read", Read, Now(optimizations::read)),
    at("/optimizations/list", Read, Now(optimizations::list)),
    at("/optimizations/update", Write, Now(optimizations::update)),
    at("/optimizations/abort", Write, Now(optimizations::abort)),
    at("/optimizations/delete", Write, Now(optimizations::delete)),
    at("/live/create", Write, Now(live::create)),
    at("/live/read", Read, Now(live::read)),
    at("/live/list", Read, Now(live::list)),
    at("/live/chart/read", Read, Now(live::chart)),
    at("/live/logs/read", Read, Now(live::logs)),
    at("/live/portfolio/read", Read, Now(live::portfolio)),
    at("/live/orders/read", Read, Now(live::orders)),
    at("/live/insights/read", Read, Now(live::insights)),
    at("/live/update/stop", Write, Now(live::stop)),
    at("/live/update/liquidate", Write, Now(live::liquidate)),
    at("/live/commands/create", Write, Now(live::command)),
    at("/live/commands/broadcast", Write, Now(live::broadcast)),
    at("/live/auth0/read", Read, Now(connections::read)),
    at(
        "/live/auth0/authorize",
        Browser,
        Now(connections::authorize),
    ),
    at("/live/auth0/consent", Browser, Now(connections::consent)),
    at("/object/set", Write, Now(object_store::set)),
    at("/object/get", Read, Now(object_store::get)),
    at("/object/properties", Read, Now(object_store::properties)),
    at("/object/list", Read, Now(object_store::list)),
    at("/object/delete", Write, Now(object_store::delete)),
    at("/object/download", Browser, Later(object_store::download)),
    at("/ai/tools/backtest-init", Read, Later(ai::backtest_init)),
    at("/ai/tools/complete", Read, Now(ai::complete)),
    at("/ai/tools/error-enhance", Read, Now(ai::error_enhance)),
    at("/ai/tools/pep8-convert", Read, Now(ai::pep8_convert)),
    at("/ai/tools/syntax-check", Read, Later(ai::syntax_check)),
    at("/ai/tools/search", Read, Now(ai::search)),
];

/// Every path of the API, such as `/projects/read`.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    ENDPOINTS.iter().map(|endpoint| endpoint.path)
}

/// The service.
pub(crate) fn router(cloud: Arc<Cloud>) -> Router {
    Router::new()
        .fallback(serve)
        // The limit is applied in `serve`, which answers in JSON.
        .layer(DefaultBodyLimit::disable())
        .with_state(cloud)
}

async fn serve(
    State(cloud): State<Arc<Cloud>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let whole = parts.uri.path().trim_end_matches('/');
    let path = whole.strip_prefix(BASE).unwrap_or(whole).to_owned();
    let endpoint = ENDPOINTS
        .iter()
        .find(|endpoint| whole.starts_with(BASE) && endpoint.path == path);
    let arguments = match admit(&cloud, &parts, endpoint) {
        Ok(_) => read_body(&cloud, &parts, body).await,
        Err(failure) => Err(failure),
    };
    let logged = arguments.as_ref().map_or(Value::Null, redacted);
    let number = cloud.log.arrived(parts.method.as_str(), &path, logged);

    let mut lose = false;
    let mut instead = None;
    for fault in cloud.faults.strike(&path) {
        match fault {
            FaultKind::Latency(wait) => tokio::time::sleep(wait).await,
            FaultKind::LoseAnswer => lose = true,
            _ => instead = instead.or_else(|| in_place_of_an_answer(fault)),
        }
    }
    let (response, success) = match instead {
        Some(instead) => instead,
        None => match carry_out(&cloud, &parts, endpoint, arguments).await {
            Ok(reply) => respond(reply),
            Err(failure) => json_response(failure.status, failure.refusal.into_body()),
        },
    };
    cloud
        .log
        .answered(number, response.status().as_u16(), success);
    if lose {
        cut.cut();
    }
    response
}

/// A refusal with its HTTP status.
struct Failure {
    status: StatusCode,
    refusal: Refusal,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: StatusCode::OK,
            refusal,
        }
    }
}

async fn carry_out(
    cloud: &Arc<Cloud>,
    parts: &Parts,
    endpoint: Option<&Endpoint>,
    arguments: Result<Arguments, Failure>,
) -> Result<Reply, Failure> {
    let arguments = arguments?;
    let answer = match admit(cloud, parts, endpoint)?.handler {
        Now(handler) => handler(cloud, &arguments),
        Later(handler) => handler(Arc::clone(cloud), arguments).await,
    };
    Ok(answer?)
}

/// Reads a request's fields.
async fn read_body(cloud: &Cloud, parts: &Parts, body: Body) -> Result<Arguments, Failure> {
    let limit = cloud.settings.body_timeout;
    let failure = |status, why| Failure {
        status,
        refusal: Refusal::because(why),
    };
    match tokio::time::timeout(limit, to_bytes(body, limits::BODY)).await {
        Ok(Ok(bytes)) => body::parse(parts, bytes).await.map_err(Failure::from),
        Ok(Err(_)) => Err(failure(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The request body is broken or larger than {} bytes",
                limits::BODY
            ),
        )),
        Err(_) => Err(failure(
            StatusCode::REQUEST_TIMEOUT,
            format!("The request body did not come within {limit:?}"),
        )),
    }
}

/// Whether a request was sent to this machine by its own name. A web page may lead a browser here under the name of its
/// own server, and could read the answers then.
fn is_for_this_machine(parts: &Parts) -> bool {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Who may have what carried out; nothing of the request but its head is looked at.
fn admit<'a>(
    cloud: &Cloud,
    parts: &Parts,
    endpoint: Option<&'a Endpoint>,
) -> Result<&'a Endpoint, Failure> {
    if !is_for_this_machine(parts) {
        return Err(Failure {
            status: StatusCode::MISDIRECTED_REQUEST,
            refusal: Refusal::because(
                "The emulator answers only under the name of this machine: localhost or a loopback address",
            ),
        });
    }
    let Some(endpoint) = endpoint else {
        let path = shorten(parts.uri.path(), limits::NAME_LENGTH);
        return Err(Failure {
            status: StatusCode::NOT_FOUND,
            refusal: Refusal::because(format!("Endpoint not found: {path}")),
        });
    };
    let get = parts.method == Method::GET;
    if !(parts.method == Method::POST || get && endpoint.access != Write) {
        return Err(Failure {
            status: StatusCode::METHOD_NOT_ALLOWED,
            refusal: Refusal::because(format!(
                "{} is not allowed for {}",
                shorten(parts.method.as_str(), 16),
                endpoint.path
            )),
        });
    }
    if !(get && endpoint.access == Browser) {
        let now = Timestamp::now().as_second();
        auth::authenticate(&cloud.settings.credentials, &parts.headers, now)?;
    }
    Ok(endpoint)
}

fn respond(reply: Reply) -> (Response, Option<bool>) {
    match reply {
        Reply::Json(fields) => json_response(StatusCode::OK, fields),
        Reply::Redirect(address) => {
            let mut body = Map::new();
            body.insert("success".to_owned(), Value::Bool(true));
            body.insert("url".to_owned(), Value::String(address.clone()));
            let (mut response, success) = json_response(StatusCode::FOUND, body);
            if let Ok(location) = HeaderValue::from_str(&address) {
                response.headers_mut().insert(LOCATION, location);
            }
            (response, success)
        }
        Reply::File { mime, bytes } => {
            let response = ([(CONTENT_TYPE, mime)], Body::from(bytes)).into_response();
            (response, None)
        }
        Reply::Page(html) => (axum::response::Html(html).into_response(), None),
    }
}

fn json_response(status: StatusCode, body: Map<String, Value>) -> (Response, Option<bool>) {
    let success = body.get("success").and_then(Value::as_bool);
    (
        (status, axum::Json(Value::Object(body))).into_response(),
        success,
    )
}

/// What a fault sends instead of carrying the request out, if it does.
fn in_place_of_an_answer(fault: FaultKind) -> Option<(Response, Option<bool>)> {
    let refused = |status, error: String| {
        let refusal = Refusal::because(error);
        json_response(status, refusal.into_body())
    };
    Some(match fault {
        FaultKind::Refuse(error) => refused(StatusCode::OK, error),
        FaultKind::Pretend => {
            let done = serde_json::Map::from_iter([("success".to_owned(), true.into())]);
            json_response(StatusCode::OK, done)
        }
        FaultKind::Loading { progress } => json_response(StatusCode::OK, loading(progress)),
        FaultKind::TooManyRequests { retry_after } => {
            let error = "Too many requests".to_owned();
            let (mut response, success) = refused(StatusCode::TOO_MANY_REQUESTS, error);
            let seconds = whole_seconds(retry_after);
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

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
