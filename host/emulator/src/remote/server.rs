//! The whole of the remote server: the MCP endpoint behind its authorisation server.
//!
//! Invariant: no byte of a body is read for the MCP endpoint before the access token is checked.

use std::sync::Arc;

use axum::http::header::{ALLOW, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority as HostAndPort;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use qchost_catalog::is_loopback_host;
use serde_json::{Map, Value};

use super::mcp::{Endpoint, Message, Problem};
use super::oauth::{Authority, Page};
use super::settings::Remote;
use super::tools::workspace::Workspace;
use crate::services::cloud::Cloud;

/// The MCP endpoint below the base of the API.
const MCP: &str = "/mcp";

/// What the request log shows of a form of the authorisation server. Codes, verifiers and tokens are not among it.
const SHOWN: [&str; 10] = [
    "client_id",
    "code_challenge_method",
    "decision",
    "grant_type",
    "organization",
    "redirect_uri",
    "resource",
    "response_type",
    "scope",
    "token_type_hint",
];

/// The remote server.
pub(crate) struct RemoteServer {
    authority: Authority,
    endpoint: Endpoint,
    /// The path of the MCP endpoint.
    path: String,
    url: String,
}

/// A part of the server, by its path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    Mcp,
    Page(Page),
}

/// A request that was read.
pub(crate) struct Exchange {
    /// Its path in the request log: `/mcp/TOOL` for a call.
    pub(crate) path: String,
    /// What the request log shows of it.
    pub(crate) fields: Map<String, Value>,
    work: Work,
}

enum Work {
    Message(Result<Message, Box<Problem>>),
    Page {
        page: Page,
        method: Method,
        query: String,
        body: Vec<u8>,
    },
}

impl Exchange {
    /// Reads a request.
    pub(crate) fn read(target: Target, parts: &Parts, body: &[u8]) -> Self {
        let page = match target {
            Target::Mcp => {
                let message = Message::parse(body);
                let tool = message.as_ref().ok().and_then(Message::tool);
                let path = match tool {
                    Some(tool) => format!("{MCP}/{tool}"),
                    None => MCP.to_owned(),
                };
                let fields = message
                    .as_ref()
                    .map_or_else(|_| Map::new(), Message::logged);
                return Self {
                    path,
                    fields,
                    work: Work::Message(message),
                };
            }
            Target::Page(page) => page,
        };
        let query = parts.uri.query().unwrap_or_default();
        let form = match parts.method {
            Method::GET => query.as_bytes(),
            _ => body,
        };
        let fields = form_urlencoded::parse(form);
        let fields = fields.filter(|(name, _)| SHOWN.contains(&name.as_ref()));
        let fields = fields.map(|(name, value)| (name.into_owned(), value.into_owned().into()));
        Self {
            path: parts.uri.path().to_owned(),
            fields: fields.collect(),
            work: Work::Page {
                page,
                method: parts.method.clone(),
                query: query.to_owned(),
                body: body.to_vec(),
            },
        }
    }
}

impl RemoteServer {
    /// The server of a cloud at an origin, such as `http://127.0.0.1:5612`; `base` is the path of its API.
    pub(crate) fn new(cloud: &Arc<Cloud>, origin: &str, base: &str, settings: Remote) -> Self {
        let path = format!("{base}{MCP}");
        let url = format!("{origin}{path}");
        let outputs = settings.outputs.clone();
        let workspace = Arc::new(Workspace::new(Arc::clone(cloud), outputs));
        let revisions = settings.revisions.clone();
        let organization = (
            cloud.settings.organization_id.clone(),
            cloud.settings.organization_name.clone(),
        );
        Self {
            endpoint: Endpoint::new(workspace, revisions, settings.agent_node),
            authority: Authority::new(origin.to_owned(), url.clone(), organization, settings),
            path,
            url,
        }
    }

    /// The address of the MCP endpoint.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The part of the server at a path, if the path is its.
    pub(crate) fn target(&self, path: &str) -> Option<Target> {
        if path == self.path {
            return Some(Target::Mcp);
        }
        self.authority.page(path, &self.path).map(Target::Page)
    }

    /// The answer to a request that is refused by its head alone.
    pub(crate) fn refusal(&self, target: Target, parts: &Parts) -> Option<Response> {
        let allowed = match target {
            Target::Mcp => parts.method == Method::POST,
            Target::Page(page) => page.takes(&parts.method),
        };
        if !allowed {
            let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
            let allow = HeaderValue::from_static("GET, POST");
            response.headers_mut().insert(ALLOW, allow);
            return Some(response);
        }
        match target {
            // A page of another site could reach this machine by a browser.
            Target::Mcp if !is_own_origin(&parts.headers) => {
                Some(StatusCode::FORBIDDEN.into_response())
            }
            Target::Mcp => self.authority.token_refusal(&parts.headers),
            Target::Page(_) => None,
        }
    }

    /// Carries out a request. Also says whether a tool answered with success.
    pub(crate) async fn answer(
        &self,
        headers: &HeaderMap,
        exchange: Exchange,
    ) -> (Response, Option<bool>) {
        match exchange.work {
            Work::Message(Ok(message)) => self.endpoint.answer(headers, message).await,
            Work::Message(Err(problem)) => (problem.into_answer(&Value::Null), None),
            Work::Page {
                page,
                method,
                query,
                body,
            } => (self.authority.answer(page, &method, &query, &body), None),
        }
    }

    /// Ends all access tokens, as if their lifetime were over.
    pub(crate) fn expire_tokens(&self) {
        self.authority.expire_tokens();
    }
}

/// Whether a request comes from no page, or from one of this machine.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let host = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let host = host.and_then(|(_, host)| host.parse::<HostAndPort>().ok());
    host.is_some_and(|host| is_loopback_host(&host.host().to_ascii_lowercase()))
}
