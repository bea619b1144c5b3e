//! `qchost mcp` beside QuantConnect's own server, both over standard input and output, before the same emulator: a small
//! read, one at a time and several in flight, in turns.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::future::join_all;
use qchost_emulator::Emulator;
use rmcp::RoleClient;
use rmcp::model::CallToolRequestParams;
use rmcp::service::RunningService;
use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};

use crate::running::program;
use qchost_testing::measure::{Spread, median, micros, resident};
use qchost_testing::report::{Report, Target};

/// Times that each server has its turn.
const ROUNDS: usize = 8;
const IN_FLIGHT: usize = 16;

/// A server and a client of it.
struct Server {
    child: Child,
    client: RunningService<RoleClient, ()>,
    arguments: Map<String, Value>,
    /// Calls in a turn.
    calls: usize,
    times: Vec<Duration>,
    /// Calls a second, one at a time and several in flight.
    alone: Vec<f64>,
    together: Vec<f64>,
}

#[tokio::main(worker_threads = 2)]
pub async fn run() {
    let emulator = Emulator::builder()
        .any_port()
        .log_capacity(10)
        .start()
        .await
        .unwrap();
    let program = program();
    let ours = [program.as_str(), "mcp", "--base-url", emulator.base_url()];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap();
    let python = root.join(".venv/official/bin/python");
    assert!(
        python.exists(),
        "{} is missing; run: make setup-test",
        python.display()
    );
    let (python, script) = (
        python.display().to_string(),
        root.join("host/cli/tests/setup/official_server.py")
            .display()
            .to_string(),
    );
    let theirs = [
        python.as_str(),
        &script,
        "--base",
        emulator.base_url(),
        "--transport",
        "stdio",
    ];

    let mut ours = Server::start(&emulator, &ours, 2000).await;
    let project = ours
        .call(
            "create_project",
            json!({ "name": "Lab/small", "language": "Py" }),
        )
        .await;
    let project = json!({ "projectId": project["projects"][0]["projectId"] });
    ours.arguments = project.as_object().unwrap().clone();
    let mut theirs = Server::start(&emulator, &theirs, 60).await;
    theirs.arguments = json!({ "model": project }).as_object().unwrap().clone();

    for _ in 0..ROUNDS {
        ours.turn().await;
        theirs.turn().await;
    }
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "mcp");
    let row = |what: &str, unit: &str, ours: f64, theirs: f64, target: Target| {
        report.row(
            &format!("qchost mcp beside the official server: {what}"),
            unit,
            ours,
            Some(theirs),
            target,
        );
    };
    row(
        "calls a second, one at a time",
        "/s",
        median(ours.alone),
        median(theirs.alone),
        Target::AtLeast(100.0),
    );
    row(
        &format!("calls a second, {IN_FLIGHT} in flight"),
        "/s",
        median(ours.together),
        median(theirs.together),
        Target::AtLeast(100.0),
    );
    let spreads = (Spread::of(ours.times), Spread::of(theirs.times));
    row(
        "latency, p50",
        "µs",
        micros(spreads.0.p50),
        micros(spreads.1.p50),
        Target::Ratio(0.033),
    );
    row(
        "latency, p99",
        "µs",
        micros(spreads.0.p99),
        micros(spreads.1.p99),
        Target::None,
    );
    let memory = |server: &Child| resident(server.id().unwrap()) as f64 / 1e6;
    row(
        "memory after that",
        "MB",
        memory(&ours.child),
        memory(&theirs.child),
        Target::Ratio(0.2),
    );
}

impl Server {
    async fn start(emulator: &Emulator, command: &[&str], calls: usize) -> Self {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .env("QUANTCONNECT_USER_ID", emulator.user_id().to_string())
            .env("QUANTCONNECT_API_TOKEN", emulator.token())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let client = rmcp::serve_client((), pipes).await.unwrap();
        // As every client begins: what a server keeps for it belongs to its memory.
        assert!(client.list_all_tools().await.unwrap().len() > 60);
        Self {
            child,
            client,
            arguments: Map::new(),
            calls,
            times: Vec::new(),
            alone: Vec::new(),
            together: Vec::new(),
        }
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> Value {
        let call =
            CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
        let result = self.client.peer().call_tool(call).await.unwrap();
        serde_json::from_str(&result.content[0].as_text().unwrap().text).unwrap()
    }

    async fn read(&self) {
        let call =
            CallToolRequestParams::new("read_project").with_arguments(self.arguments.clone());
        let result = self.client.peer().call_tool(call).await.unwrap();
        let text = &result.content[0].as_text().unwrap().text;
        assert!(text.contains("Lab/small"), "{text}");
    }

    /// `calls` calls one after the other, and as many with several in flight.
    async fn turn(&mut self) {
        let begun = Instant::now();
        for _ in 0..self.calls {
            let begun = Instant::now();
            self.read().await;
            self.times.push(begun.elapsed());
        }
        self.alone
            .push(self.calls as f64 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let each = self.calls / IN_FLIGHT + 1;
        join_all((0..IN_FLIGHT).map(async |_| {
            for _ in 0..each {
                self.read().await;
            }
        }))
        .await;
        self.together
            .push((each * IN_FLIGHT) as f64 / begun.elapsed().as_secs_f64());
    }
}
