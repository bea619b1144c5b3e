//! An MCP client that is connected to the server under test.

use std::time::Duration;

use qchost_quantconnect::{Credentials, Options, RestClient, RestOptions, Server};
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService, ServiceExt};
use serde_json::{Map, Value};
use tokio::task::JoinHandle;

pub const USER: &str = "4242";
pub const TOKEN: &str = "hush-hush-hush";

/// The client and the server's task.
pub struct Connection {
    pub client: RunningService<RoleClient, ()>,
    pub server: JoinHandle<()>,
}

/// Short time-outs, so that no test waits long.
pub fn options(base_url: &str) -> RestOptions {
    RestOptions {
        base_url: base_url.to_owned(),
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_secs(1),
        total_timeout: Duration::from_secs(20),
        max_response_bytes: 1024 * 1024,
    }
}

pub fn rest(options: &RestOptions) -> RestClient {
    RestClient::new(Credentials::new(USER, TOKEN.into()).unwrap(), options).unwrap()
}

impl Connection {
    /// Connects to a server in front of the REST API at `base_url`.
    pub async fn to(base_url: &str) -> Self {
        Self::open(rest(&options(base_url)), Options::default()).await
    }

    pub async fn open(rest: RestClient, options: Options) -> Self {
        let server = Server::new(rest, options);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = tokio::spawn(async move {
            server.serve_pipe(theirs, Default::default()).await.unwrap();
        });
        let client = ().serve(ours).await.unwrap();
        Self { client, server }
    }

    /// Calls a tool and returns the whole result.
    pub async fn result(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let arguments: Map<String, Value> = serde_json::from_value(arguments).unwrap();
        self.client
            .call_tool(CallToolRequestParams::new(tool).with_arguments(arguments))
            .await
            .unwrap()
    }

    /// Calls a tool and returns whether it is an error, and the text.
    pub async fn call(&self, tool: &'static str, arguments: Value) -> (bool, String) {
        let result = self.result(tool, arguments).await;
        let is_error = result.is_error.unwrap();
        assert_eq!(result.content.len(), 1, "the body is sent once as text");
        (is_error, text(&result))
    }

    /// Calls a tool that must fail and returns the body of the failure.
    pub async fn fails(&self, tool: &'static str, arguments: Value) -> Value {
        let (is_error, text) = self.call(tool, arguments).await;
        assert!(is_error, "{tool} succeeded: {text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["success"], Value::Bool(false));
        assert!(!body["errors"][0].as_str().unwrap().is_empty(), "{body}");
        body
    }
}

pub fn text(result: &CallToolResult) -> String {
    result.content[0].as_text().unwrap().text.clone()
}
