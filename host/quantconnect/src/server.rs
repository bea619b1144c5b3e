//! The MCP side: `tools/list` and `tools/call` over any pair of streams, in every revision from 2025-03-26 to
//! 2026-07-28. A client of the latter begins with `server/discover` and sends its metadata with each request; one of the
//! former begins with `initialize`.
//!
//! Invariants: calls run concurrently; a write that was sent is cancelled neither by its client nor
//! by the end of the connection, and [`Server::serve`] returns only when all of them have ended; a
//! tool returns the cloud's body unchanged, and anything that is not a success is marked `isError`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qchost_catalog::{Access, Failure, OPERATIONS, Operation, Transport};
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
    Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, serve_server_with_ct};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{Answer, failure_body, not_sent_body};
use crate::rest::{Effect, NoAnswer, RestClient};
use crate::tools::Tools;

/// Maximum bytes of a message. rmcp's own limit would drop the upload of an object that
/// QuantConnect accepts, and leave its sender without an answer.
const MAX_MESSAGE_BYTES: usize = 128 * 1024 * 1024;

/// How long a client may keep the list of tools, in milliseconds. It is the same for everyone, and changes only with the
/// version of this program.
const LIST_TTL_MS: u64 = 3_600_000;

/// The instructions for clients of this server.
const INSTRUCTIONS: &str = "Tools of QuantConnect's REST API, named as in QuantConnect's own MCP \
server. Compiles, backtests, optimizations and deployments run in the cloud: create one, then \
read it until it is done. An error that carries a `failure` tells by its `kind` what may be done: \
`rate-limited`, `unavailable` and `timed-out` may be tried again; after `unknown-outcome` the \
write may have taken effect, so read the state first.";

/// Options of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Return the body as text only, and advertise no output schemas.
    ///
    /// By default both the text and `structuredContent` are sent, as MCP requires of a tool with an
    /// output schema. A client that parses the text anyway, such as the host itself, saves the
    /// second copy.
    pub text_only: bool,
}

/// Why serving ended other than by the client disconnecting.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client did not complete MCP's handshake.
    #[error("the MCP client did not complete the handshake: {0}")]
    Handshake(String),
    /// The serving task failed.
    #[error("serving MCP failed: {0}")]
    Task(String),
}

/// The QuantConnect MCP server. Cloning shares the connections to the cloud.
#[derive(Clone)]
pub struct Server {
    rest: RestClient,
    tools: Arc<Tools>,
    options: Options,
    writes: TaskTracker,
}

impl Server {
    /// A server for all operations of the catalog that go by the REST API.
    #[must_use]
    pub fn new(rest: RestClient, options: Options) -> Self {
        Self {
            rest,
            tools: Arc::new(Tools::new(OPERATIONS)),
            options,
            writes: TaskTracker::new(),
        }
    }

    /// Serves one client on standard input and output, until it disconnects or `shutdown` is
    /// cancelled, and then waits for the writes that were sent.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the handshake fails or the serving task does.
    pub async fn serve_stdio(&self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let (read, write) = rmcp::transport::stdio_pipes();
        self.serve(read, write, shutdown).await
    }

    /// Serves one client on a stream in both directions, such as one end of
    /// [`tokio::io::duplex`]; otherwise as [`Self::serve_stdio`].
    ///
    /// # Errors
    ///
    /// As [`Self::serve_stdio`].
    pub async fn serve_pipe<S>(
        &self,
        stream: S,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        self.serve(read, write, shutdown).await
    }

    /// Serves one client on a pair of streams; otherwise as [`Self::serve_stdio`].
    ///
    /// # Errors
    ///
    /// As [`Self::serve_stdio`].
    pub async fn serve<R, W>(
        &self,
        read: R,
        write: W,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let connection = Self {
            writes: TaskTracker::new(),
            ..self.clone()
        };
        let writes = connection.writes.clone();
        let transport = AsyncRwTransport::<RoleServer, _, _>::new(read, write)
            .with_max_line_length(MAX_MESSAGE_BYTES);
        let served = match serve_server_with_ct(connection, transport, shutdown).await {
            Ok(running) => match running.waiting().await {
                Ok(_) => Ok(()),
                Err(error) => Err(ServeError::Task(error.to_string())),
            },
            Err(error) => Err(ServeError::Handshake(error.to_string())),
        };
        writes.close();
        writes.wait().await;
        served
    }

    /// Runs a checked call. A read is cancelled with its client; a write is not.
    async fn run(
        &self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
        cancelled: CancellationToken,
    ) -> Result<Answer, NoAnswer> {
        let rest = self.rest.clone();
        let call = async move { send(&rest, operation, arguments).await };
        let gone = || Failure::Unavailable("the client cancelled the call".to_owned());
        if operation.access == Access::Read {
            return tokio::select! {
                answer = call => answer,
                () = cancelled.cancelled() => Err(gone().into()),
            };
        }
        if cancelled.is_cancelled() {
            return Err(gone().into());
        }
        let task = self.writes.spawn(async move {
            let outcome = call.await;
            if cancelled.is_cancelled() {
                let success = outcome.as_ref().is_ok_and(|answer| !answer.is_rejected());
                tracing::warn!(
                    tool = operation.tool,
                    success,
                    "a write ended after its client had cancelled it"
                );
            }
            outcome
        });
        task.await.unwrap_or_else(|error| {
            Err(Failure::UnknownOutcome(format!(
                "the task of {} ended early: {error}",
                operation.tool
            ))
            .into())
        })
    }

    /// The result that a client gets.
    fn result(&self, outcome: Result<Answer, NoAnswer>) -> CallToolResult {
        let failed =
            |body: &Value| CallToolResult::error(vec![ContentBlock::text(body.to_string())]);
        let answer = match outcome {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(reason)) => return failed(&not_sent_body(&reason)),
            Err(NoAnswer::Failed(failure)) => return failed(&failure_body(&failure)),
        };
        let text = vec![ContentBlock::text(answer.text())];
        if answer.is_rejected() {
            return CallToolResult::error(text);
        }
        let mut result = CallToolResult::success(text);
        if !self.options.text_only {
            match serde_json::from_str(answer.text()) {
                Ok(body) => result.structured_content = Some(body),
                Err(error) => {
                    return failed(&failure_body(&Failure::UnexpectedResponse(format!(
                        "the answer cannot be represented: {error}"
                    ))));
                }
            }
        }
        result
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("qchost", env!("CARGO_PKG_VERSION")).with_title("QuantConnect"),
            )
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.tools.list(!self.options.text_only);
        let mut list = ListToolsResult::with_all_items(tools);
        let version = context.protocol_version();
        // Earlier revisions have no hints.
        if version.is_some_and(|version| !version.has_initialize()) {
            list.ttl_ms = Some(LIST_TTL_MS);
            list.cache_scope = Some(CacheScope::Public);
        }
        Ok(list)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(entry) = self.tools.find(&request.name) else {
            let name = qchost_text::excerpt(&request.name, 64);
            return Err(ErrorData::invalid_params(
                format!("unknown tool {name:?}; tools/list names all"),
                None,
            ));
        };
        let outcome = match entry.arguments(request.arguments.unwrap_or_default()) {
            Ok(arguments) => self.run(entry.operation, arguments, context.ct).await,
            Err(failure) => Err(failure.into()),
        };
        Ok(self.result(outcome).into())
    }
}

/// Sends a call in the form that its endpoint requires.
async fn send(
    rest: &RestClient,
    operation: &Operation,
    mut arguments: Map<String, Value>,
) -> Result<Answer, NoAnswer> {
    operation.write_nulls(&mut arguments);
    operation.complete(&mut arguments);
    let effect = if operation.access == Access::Read || operation.idempotent {
        Effect::Repeatable
    } else {
        Effect::Once
    };
    let endpoint = operation.endpoint;
    if endpoint.is_empty() {
        // Only the two version tools have no endpoint. This server is built with its host, so there
        // is no list of newer versions to ask.
        return Ok(Answer::of(&json!({ "result": env!("CARGO_PKG_VERSION") })));
    }
    match operation.transport {
        Transport::Json => rest.post(endpoint, &arguments, effect).await,
        Transport::File => rest.export(endpoint, &arguments, effect).await,
        Transport::Form => rest.post_form(endpoint, &arguments, effect).await,
        Transport::WriteFile => rest.write_file(&arguments).await,
        Transport::EditFile => rest.edit_file(&arguments, effect).await,
        Transport::SearchFiles => rest.search_files(&arguments).await,
        Transport::FindProjects => rest.find_projects(&arguments).await,
        Transport::FilterOrders => rest.filter_orders(endpoint, &arguments).await,
        Transport::Redirect => rest.authorize_connection(endpoint, &arguments).await,
        Transport::Upload => {
            let text = |name| {
                arguments
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let data = object_data(operation, &arguments)?;
            let (organization, key) = (text("organizationId"), text("key"));
            rest.upload(endpoint, organization, key, data, effect).await
        }
    }
}

/// The bytes of an object: text, or base64 under a name of our own for other data.
fn object_data(operation: &Operation, arguments: &Map<String, Value>) -> Result<Vec<u8>, Failure> {
    let tool = operation.tool;
    let text = |name| arguments.get(name).and_then(Value::as_str);
    match (text("objectData"), text("objectDataBase64")) {
        (Some(data), _) => Ok(data.as_bytes().to_vec()),
        (None, Some(encoded)) => STANDARD.decode(encoded).map_err(|error| {
            Failure::InvalidArgument(format!("{tool}: /objectDataBase64: {error}"))
        }),
        (None, None) => Err(Failure::InvalidArgument(format!(
            "{tool}: objectData or objectDataBase64 is needed"
        ))),
    }
}
