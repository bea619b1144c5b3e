//! The set-up of one case: a cloud, `qchost mcp` in front of it, and an MCP client.

use std::future::Future;
use std::time::{Duration, Instant};

use qchost_emulator::{Emulator, Timing};
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService, ServiceExt};
use rmcp::transport::TokioChildProcess;
use serde_json::{Map, Value};
use tokio::process::Command;

use crate::body::{Body, Check, ensure};
use crate::{front, misfits, official};

const USER: u64 = 77;
const TOKEN: &str = "of-the-conformance-suite";
pub const ORGANIZATION: &str = "0123456789abcdef0123456789abcdef";

/// Time limit of whatever a case waits for; the cloud is fast.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_POLLS: Duration = Duration::from_millis(10);

/// The cloud behind the server.
pub enum Cloud {
    /// The emulator.
    Emulator,
    /// A server that answers `success: true` to everything.
    AlwaysSuccess,
    /// The emulator, except that these endpoints answer `success: true`.
    OneLies(Vec<&'static str>),
}

/// The set-up of a case.
pub struct Bench {
    client: RunningService<RoleClient, ()>,
    /// The emulator runs until this is dropped.
    _emulator: Option<Emulator>,
}

impl Bench {
    /// Starts cloud, server and client.
    pub async fn start(cloud: Cloud) -> Self {
        let emulator = match &cloud {
            Cloud::AlwaysSuccess => None,
            Cloud::Emulator | Cloud::OneLies(_) => Some(
                Emulator::builder()
                    .any_port()
                    .credentials(USER, TOKEN)
                    .organization(ORGANIZATION, "Conformance")
                    .timing(Timing::default().faster(20))
                    .derived_data(true)
                    .start()
                    .await
                    .unwrap(),
            ),
        };
        let behind = emulator.as_ref().map(|it| it.base_url().to_owned());
        let base_url = match (cloud, behind) {
            (Cloud::OneLies(lies), behind) => front::start(behind, lies).await,
            (_, None) => front::start(None, Vec::new()).await,
            (_, Some(url)) => url,
        };
        let mut server = Command::new(env!("CARGO_BIN_EXE_qchost"));
        server
            .args(["mcp", "--base-url", &base_url])
            .env("QUANTCONNECT_USER_ID", USER.to_string())
            .env("QUANTCONNECT_API_TOKEN", TOKEN);
        let server = TokioChildProcess::new(server).unwrap();
        Self {
            client: ().serve(server).await.unwrap(),
            _emulator: emulator,
        }
    }

    async fn result(&self, tool: &'static str, arguments: &Value) -> Check<CallToolResult> {
        let arguments = object(arguments)?;
        self.client
            .call_tool(CallToolRequestParams::new(tool).with_arguments(arguments))
            .await
            .map_err(|error| format!("{tool}: {error}"))
    }

    /// Calls a tool; it must succeed, with an answer that matches the schemas.
    pub async fn call(&self, tool: &'static str, arguments: Value) -> Check<Value> {
        let result = self.result(tool, &arguments).await?;
        let text = text(&result);
        ensure!(
            result.is_error != Some(true),
            "{tool} {arguments} failed: {text}"
        );
        let body = result
            .structured_content
            .ok_or_else(|| format!("{tool} answers without structured content"))?;
        let copy: Value =
            serde_json::from_str(&text).map_err(|error| format!("{tool}: {error}"))?;
        ensure!(
            copy == body,
            "{tool}: the text and the structured content differ"
        );
        official::check(tool, &body)?;
        Ok(body)
    }

    /// Calls a tool, which must fail; returns the body of its error.
    async fn error(&self, tool: &'static str, arguments: &Value) -> Check<Value> {
        let result = self.result(tool, arguments).await?;
        let text = text(&result);
        ensure!(
            result.is_error == Some(true),
            "{tool} accepted {arguments}: {text}"
        );
        serde_json::from_str(&text).map_err(|error| format!("{tool}: {error}"))
    }

    /// Calls a tool; the cloud must refuse, and its errors are returned.
    pub async fn refused(&self, tool: &'static str, arguments: Value) -> Check<String> {
        let body = self.error(tool, &arguments).await?;
        ensure!(
            body.get("failure").is_none(),
            "{tool} {arguments}: not the cloud's word: {body}"
        );
        body.equals("/success", false)?;
        body.text("/errors/0")
    }

    /// Calls a tool with arguments that the server itself must refuse.
    async fn misfits(&self, tool: &'static str, arguments: &Value) -> Check {
        let body = self.error(tool, arguments).await?;
        body.equals("/failure/kind", "invalid-argument")
            .map_err(|reason| format!("{tool} {arguments}: {reason}"))
    }

    /// Checks that invalid arguments are refused: variations of `good` that do not match the schema, and
    /// `bad` ones, which match it and are refused by the cloud.
    pub async fn rejects(&self, tool: &'static str, good: Value, bad: &[Value]) -> Check {
        let schema = qchost_catalog::by_tool(tool)
            .ok_or("no such tool")?
            .input_schema();
        for arguments in misfits::of(schema, &object(&good)?) {
            self.misfits(tool, &arguments).await?;
        }
        for arguments in bad {
            self.refused(tool, arguments.clone()).await?;
        }
        Ok(())
    }

    /// Repeats a call until `wanted` accepts the answer. An error of `wanted` fails the case at once.
    pub async fn until(
        &self,
        tool: &'static str,
        arguments: Value,
        wanted: impl Fn(&Value) -> Check<bool>,
    ) -> Check<Value> {
        let call = || self.call(tool, arguments.clone());
        poll(tool, call, wanted).await
    }
}

/// Repeats a call until `wanted` accepts the answer.
async fn poll<F: Future<Output = Check<Value>>>(
    what: &str,
    call: impl Fn() -> F,
    wanted: impl Fn(&Value) -> Check<bool>,
) -> Check<Value> {
    let start = Instant::now();
    loop {
        let body = call().await?;
        if wanted(&body)? {
            return Ok(body);
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{what}: still not as wanted: {body}"
        );
        tokio::time::sleep(BETWEEN_POLLS).await;
    }
}

fn object(arguments: &Value) -> Check<Map<String, Value>> {
    let object = arguments.as_object().cloned();
    object.ok_or_else(|| format!("arguments are no object: {arguments}"))
}

fn text(result: &CallToolResult) -> String {
    let block = result.content.first().and_then(|block| block.as_text());
    block.map(|block| block.text.clone()).unwrap_or_default()
}
