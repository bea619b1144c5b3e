//! An MCP server that each call instructs: `script` lists the reactions to the first, second, … sending of
//! the call with this `id`; the last entry holds for all later ones.
//!
//! Every sending is written to a log file, so that a test can count what arrived even if the server was
//! killed.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelledNotificationParam,
    ContentBlock, ErrorCode, ErrorData, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer};
use serde_json::{Value, json};

/// The tools that it lists, the last one on a second page.
const TOOLS: [&str; 7] = [
    "read_account",
    "read_backtest",
    "read_lean_versions",
    "create_backtest",
    "create_live_algorithm",
    "update_backtest",
    "tool_of_tomorrow",
];

#[derive(Clone)]
pub struct ScriptedServer {
    pub log: PathBuf,
    /// Whether arguments are expected in a `model` object.
    pub wrapped: bool,
    /// The latest revision of MCP that it speaks.
    pub latest: ProtocolVersion,
    running: Arc<AtomicUsize>,
}

impl ScriptedServer {
    pub fn new(log: PathBuf, wrapped: bool) -> Self {
        Self {
            log,
            wrapped,
            latest: ProtocolVersion::LATEST,
            running: Arc::default(),
        }
    }

    /// One that speaks no revision without a handshake.
    pub fn with_handshake(self) -> Self {
        Self {
            latest: ProtocolVersion::LATEST_WITH_INITIALIZE,
            ..self
        }
    }

    /// Appends one line; each write is complete, also with concurrent writers.
    pub fn note(&self, line: &Value) {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The number of sendings of this call.
    fn earlier(&self, id: &Value) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["event"] == "call" && line["arguments"]["id"] == *id)
            .count()
    }

    async fn act(&self, step: &Value, arguments: &Value) -> Result<CallToolResult, ErrorData> {
        let answer = |value: Value| {
            Ok(CallToolResult::success(vec![ContentBlock::text(
                value.to_string(),
            )]))
        };
        match step.as_str().unwrap_or_default() {
            "exit" => {
                eprintln!("out of coffee");
                std::process::exit(3);
            }
            "hang" => std::future::pending().await,
            "echo" => answer(json!({ "success": true, "arguments": arguments })),
            "environment" => {
                let names: Vec<_> = std::env::vars().collect();
                answer(json!({ "success": true, "environment": names }))
            }
            _ => {
                if let Some(millis) = step["sleep"].as_u64() {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    self.note(&json!({ "event": "slept", "id": arguments["id"] }));
                }
                if let Some(size) = step["huge"].as_u64() {
                    let text = "x".repeat(usize::try_from(size).unwrap());
                    return answer(json!({ "success": true, "text": text }));
                }
                if let Some(text) = step["error"].as_str() {
                    return Ok(CallToolResult::error(vec![ContentBlock::text(text)]));
                }
                if let Some(text) = step["text"].as_str() {
                    return Ok(CallToolResult::success(vec![ContentBlock::text(text)]));
                }
                if let Some(code) = step["code"].as_i64() {
                    let code = ErrorCode(i32::try_from(code).unwrap());
                    return Err(ErrorData::new(code, "as the script says", None));
                }
                answer(json!({ "success": true, "pid": std::process::id() }))
            }
        }
    }
}

impl ServerHandler for ScriptedServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("scripted", "1.2.3"))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let known = ProtocolVersion::KNOWN_VERSIONS.iter();
        let spoken = known.filter(|version| version.as_str() <= self.latest.as_str());
        spoken.cloned().collect()
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema: JsonObject = serde_json::from_value(if self.wrapped {
            json!({
                "$defs": { "Request": { "type": "object", "properties": { "id": {} } } },
                "type": "object",
                "properties": { "model": { "$ref": "#/$defs/Request" } },
                "required": ["model"],
            })
        } else {
            json!({ "type": "object", "properties": { "id": {} } })
        })
        .unwrap();
        let schema = Arc::new(schema);
        let tool = |name: &&'static str| Tool::new(*name, "", schema.clone());
        let (first, second) = TOOLS.split_at(TOOLS.len() - 1);
        let mut page = ListToolsResult::default();
        if request.is_some_and(|request| request.cursor.is_some()) {
            page.tools = second.iter().map(tool).collect();
        } else {
            page.tools = first.iter().map(tool).collect();
            page.next_cursor = Some("second".to_owned());
        }
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut arguments = Value::Object(request.arguments.unwrap_or_default());
        let wrapped = arguments.get("model").is_some();
        if wrapped {
            arguments = arguments["model"].take();
        }
        let step = {
            let script = arguments["script"].as_array().cloned().unwrap_or_default();
            let earlier = self.earlier(&arguments["id"]);
            script
                .get(earlier)
                .or(script.last())
                .cloned()
                .unwrap_or_default()
        };
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.note(&json!({
            "event": "call",
            "tool": request.name,
            "wrapped": wrapped,
            "arguments": arguments,
            "pid": std::process::id(),
            "running": running,
        }));
        let result = self.act(&step, &arguments).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        result.map(CallToolResponse::Complete)
    }

    async fn on_cancelled(
        &self,
        _: CancelledNotificationParam,
        _: NotificationContext<RoleServer>,
    ) {
        self.note(&json!({ "event": "cancelled" }));
    }
}
