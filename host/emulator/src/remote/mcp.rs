//! The MCP endpoint: streamable HTTP without sessions, one JSON answer for each POST.
//!
//! Both eras of MCP are spoken, as the settings say. A request whose `_meta` names a revision, and `server/discover`,
//! are of the revision without handshake; all others are of the earlier ones, whose `initialize` leaves nothing behind.
//!
//! Invariant: whatever a client sends is answered with a JSON-RPC message, or with 202 if nothing is to be answered.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use qchost_text::excerpt;
use serde_json::{Map, Value, json};

use super::settings::Revision;
use super::tools;
use super::tools::workspace::Workspace;

const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;
const HEADER_MISMATCH: i64 = -32_020;
const UNSUPPORTED_REVISION: i64 = -32_022;

/// Where a request of the revision without handshake says what it needs.
const META_REVISION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// How long a client may keep the list of tools, in milliseconds.
const LIST_TTL_MS: u64 = 60_000;

/// What an organisation without a paid agent node is told. QuantConnect's documentation has this text; as what kind of
/// error it comes is not known.
const NO_NODE: &str = "The QuantConnect Remote MCP Server requires a dedicated Assistant node (A1-1, A4-8, or A16-32). \
                       Purchase nodes on the pricing page.";

/// A JSON-RPC error with its HTTP status.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: i64,
    message: String,
    data: Option<Value>,
}

impl Problem {
    fn new(status: StatusCode, code: i64, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            status,
            code,
            message: message.into(),
            data: None,
        })
    }

    fn invalid(message: impl Into<String>) -> Box<Self> {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, message)
    }

    fn parameters(message: impl Into<String>) -> Box<Self> {
        Self::new(StatusCode::BAD_REQUEST, INVALID_PARAMS, message)
    }

    /// The answer to the request with an id, which is `null` where none could be read.
    pub(super) fn into_answer(self, id: &Value) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(data), Some(fields)) = (self.data, error.as_object_mut()) {
            fields.insert("data".to_owned(), data);
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
        (self.status, axum::Json(body)).into_response()
    }
}

/// A message of a client.
#[derive(Debug)]
pub(super) struct Message {
    /// `None` if nothing is to be answered.
    id: Option<Value>,
    method: String,
    params: Map<String, Value>,
}

impl Message {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Box<Problem>> {
        let message: Value = serde_json::from_slice(body).map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, PARSE_ERROR, "the body is not JSON")
        })?;
        let Value::Object(mut fields) = message else {
            return Err(Problem::invalid("a message is one JSON object"));
        };
        if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(Problem::invalid("jsonrpc must be \"2.0\""));
        }
        let id = fields.remove("id");
        if id
            .as_ref()
            .is_some_and(|id| !id.is_string() && !id.is_i64())
        {
            return Err(Problem::invalid("id must be a string or an integer"));
        }
        let method = match fields.remove("method") {
            Some(Value::String(method)) => method,
            // The answer to a request, of which the server sends none.
            None if fields.contains_key("result") || fields.contains_key("error") => {
                return Ok(Self {
                    id: None,
                    method: String::new(),
                    params: Map::new(),
                });
            }
            _ => return Err(Problem::invalid("method must be a string")),
        };
        let params = match fields.remove("params") {
            Some(Value::Object(params)) => params,
            None => Map::new(),
            Some(_) => return Err(Problem::parameters("params must be an object")),
        };
        Ok(Self { id, method, params })
    }

    /// The tool that is called.
    pub(super) fn tool(&self) -> Option<&str> {
        (self.method == "tools/call").then_some(())?;
        self.params.get("name")?.as_str()
    }

    /// What the request log shows: the arguments of a call, or the method.
    pub(super) fn logged(&self) -> Map<String, Value> {
        let arguments = self.params.get("arguments").and_then(Value::as_object);
        match (self.tool(), arguments) {
            (Some(_), Some(arguments)) => arguments.clone(),
            (Some(_), None) => Map::new(),
            (None, _) => Map::from_iter([("method".to_owned(), self.method.clone().into())]),
        }
    }

    fn meta(&self, name: &str) -> Option<&Value> {
        self.params.get("_meta")?.get(name)
    }
}

/// The endpoint.
pub(super) struct Endpoint {
    workspace: Arc<Workspace>,
    /// The oldest first; at least one.
    revisions: Vec<Revision>,
    /// Whether the organisation may use the tools.
    agent_node: bool,
}

impl Endpoint {
    pub(super) fn new(
        workspace: Arc<Workspace>,
        revisions: Vec<Revision>,
        agent_node: bool,
    ) -> Self {
        Self {
            workspace,
            revisions,
            agent_node,
        }
    }

    /// Answers a message. Also says whether a tool answered with success.
    pub(super) async fn answer(
        &self,
        headers: &HeaderMap,
        message: Message,
    ) -> (Response, Option<bool>) {
        let Some(id) = message.id.clone() else {
            return (StatusCode::ACCEPTED.into_response(), None);
        };
        let answered = match self.revision(headers, &message) {
            Ok(revision) => self.carry_out(revision, message).await,
            Err(problem) => Err(problem),
        };
        match answered {
            Ok(result) => {
                let success = result.get("structuredContent");
                let success = success.and_then(|content| content.get("success")?.as_bool());
                let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
                (axum::Json(body).into_response(), success)
            }
            Err(problem) => (problem.into_answer(&id), None),
        }
    }

    /// The revision of a request.
    fn revision(&self, headers: &HeaderMap, message: &Message) -> Result<Revision, Box<Problem>> {
        let stated = message.meta(META_REVISION);
        let inline = stated.is_some() || message.method == "server/discover";
        if inline && self.speaks(Revision::July2026) && message.method != "initialize" {
            let stated = stated.and_then(Value::as_str);
            let stated = stated
                .ok_or_else(|| Problem::parameters(format!("_meta must name {META_REVISION}")))?;
            if stated != Revision::July2026.name() {
                return Err(self.unsupported(stated));
            }
            if !message
                .meta(META_CAPABILITIES)
                .is_some_and(Value::is_object)
            {
                let problem = format!("_meta must have the object {META_CAPABILITIES}");
                return Err(Problem::parameters(problem));
            }
            check_headers(headers, message)?;
            return Ok(Revision::July2026);
        }
        let mut spoken = self.revisions.iter().filter(|it| it.has_handshake());
        let Some(oldest) = spoken.next() else {
            let asked = message.params.get("protocolVersion");
            let asked = asked.and_then(Value::as_str).unwrap_or("none");
            return Err(self.unsupported(asked));
        };
        match header(headers, "mcp-protocol-version") {
            Some(name) if message.method != "initialize" => {
                let known = self.revision_named(name);
                known.ok_or_else(|| {
                    let name = excerpt(name, 32);
                    Problem::invalid(format!("MCP-Protocol-Version {name} is not supported"))
                })
            }
            _ => Ok(*oldest),
        }
    }

    fn speaks(&self, revision: Revision) -> bool {
        self.revisions.contains(&revision)
    }

    /// A revision with a handshake that is spoken.
    fn revision_named(&self, name: &str) -> Option<Revision> {
        let revision: Revision = name.parse().ok()?;
        (revision.has_handshake() && self.speaks(revision)).then_some(revision)
    }

    fn unsupported(&self, asked: &str) -> Box<Problem> {
        let mut problem = Problem::new(
            StatusCode::BAD_REQUEST,
            UNSUPPORTED_REVISION,
            "the protocol version is not supported",
        );
        problem.data = Some(json!({"supported": self.names(), "requested": excerpt(asked, 32)}));
        problem
    }

    fn names(&self) -> Vec<&'static str> {
        self.revisions.iter().map(|it| it.name()).collect()
    }

    async fn carry_out(
        &self,
        revision: Revision,
        message: Message,
    ) -> Result<Map<String, Value>, Box<Problem>> {
        let mut result = match message.method.as_str() {
            "initialize" if revision.has_handshake() => self.initialize(&message),
            "ping" if revision.has_handshake() => Map::new(),
            "server/discover" if !revision.has_handshake() => Map::from_iter([
                ("supportedVersions".to_owned(), json!(self.names())),
                ("capabilities".to_owned(), json!({"tools": {}})),
                ("instructions".to_owned(), INSTRUCTIONS.into()),
                ("_meta".to_owned(), json!({META_SERVER: server_info()})),
            ]),
            "tools/list" => {
                if message.params.get("cursor").is_some_and(|it| !it.is_null()) {
                    return Err(Problem::parameters("the list of tools has one page"));
                }
                Map::from_iter([("tools".to_owned(), tools::list().into())])
            }
            "tools/call" => self.call(&message).await?,
            method => {
                let status = match revision.has_handshake() {
                    true => StatusCode::OK,
                    false => StatusCode::NOT_FOUND,
                };
                let method = excerpt(method, 64);
                let problem = format!("there is no method {method}");
                return Err(Problem::new(status, METHOD_NOT_FOUND, problem));
            }
        };
        if !revision.has_handshake() {
            result.insert("resultType".to_owned(), "complete".into());
            if message.method != "tools/call" {
                result.insert("ttlMs".to_owned(), LIST_TTL_MS.into());
                result.insert("cacheScope".to_owned(), "private".into());
            }
        }
        Ok(result)
    }

    /// The revision that the client asks for, if it is spoken; else the latest with a handshake.
    fn initialize(&self, message: &Message) -> Map<String, Value> {
        let asked = message.params.get("protocolVersion");
        let asked = asked.and_then(Value::as_str);
        let asked = asked.and_then(|name| self.revision_named(name));
        let mut latest = self.revisions.iter().rev();
        let latest = latest.find(|it| it.has_handshake()).copied();
        let revision = asked.or(latest).map(Revision::name);
        Map::from_iter([
            ("protocolVersion".to_owned(), json!(revision)),
            ("capabilities".to_owned(), json!({"tools": {}})),
            ("serverInfo".to_owned(), server_info()),
            ("instructions".to_owned(), INSTRUCTIONS.into()),
        ])
    }

    async fn call(&self, message: &Message) -> Result<Map<String, Value>, Box<Problem>> {
        let tool = message.tool().and_then(tools::find).ok_or_else(|| {
            let name = excerpt(message.tool().unwrap_or_default(), 64);
            let problem = format!("Unknown tool: {name}");
            Problem::new(StatusCode::OK, INVALID_PARAMS, problem)
        })?;
        let arguments = match message.params.get("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(_) => {
                let problem = "arguments must be an object";
                return Err(Problem::new(StatusCode::OK, INVALID_PARAMS, problem));
            }
        };
        if !self.agent_node {
            let content = json!({"success": false, "errors": [NO_NODE], "warnings": []});
            let mut result = tool_result(content);
            result.insert("isError".to_owned(), true.into());
            return Ok(result);
        }
        let content = tools::call(&self.workspace, tool, arguments).await;
        Ok(tool_result(Value::Object(content)))
    }
}

/// What a client is told about the server.
const INSTRUCTIONS: &str = "An emulator of QuantConnect's remote MCP server, built from public descriptions. \
                            Results come from a model and not from LEAN; notebooks have no kernel.";

fn server_info() -> Value {
    json!({"name": "quantconnect-remote-emulator", "version": env!("CARGO_PKG_VERSION")})
}

/// A tool's answer, structured and as text.
fn tool_result(content: Value) -> Map<String, Value> {
    let text = content.to_string();
    Map::from_iter([
        (
            "content".to_owned(),
            json!([{"type": "text", "text": text}]),
        ),
        ("structuredContent".to_owned(), content),
    ])
}

/// Refuses headers that say other than the body.
fn check_headers(headers: &HeaderMap, message: &Message) -> Result<(), Box<Problem>> {
    let expected = [
        ("mcp-protocol-version", Some(Revision::July2026.name())),
        ("mcp-method", Some(message.method.as_str())),
        ("mcp-name", message.tool()),
    ];
    for (name, value) in expected {
        if value.is_some() && header(headers, name) != value {
            let problem = format!("the header {name} does not say what the body says");
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                HEADER_MISMATCH,
                problem,
            ));
        }
    }
    Ok(())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_message_is_refused() {
        for body in [
            "",
            "[]",
            "1",
            r#"{"jsonrpc": "1.0", "id": 1, "method": "ping"}"#,
            r#"{"jsonrpc": "2.0", "id": null, "method": "ping"}"#,
            r#"{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}"#,
            r#"{"jsonrpc": "2.0", "id": 1}"#,
            r#"{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}"#,
        ] {
            assert!(Message::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_notification_and_an_answer_need_no_answer() {
        for body in [
            r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#,
            r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#,
        ] {
            assert_eq!(Message::parse(body.as_bytes()).unwrap().id, None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&body);
        }
    }
}
