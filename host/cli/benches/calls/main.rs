//! What a call costs end to end: from a guest through the gate to a server, against a `call_tool` of the MCP library on
//! a connection of the same kind to the same server. A real emulator is behind each.
//!
//! The direct client is the library's own and not one of `qchost-upstream`, whose connections are opened for its pool
//! alone. It is set as they are: for HTTP it has the same client, which opens a connection for each request to this
//! machine. Both sides have their turns in changing order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod reads;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use qchost_catalog::{
    BoxFuture, Call, Failure, Outcome, Target as Tool, Upstream, always, by_name,
};
use qchost_emulator::{Emulator, Timing};
use qchost_gate::Principal;
use qchost_policy::Manifest;
use qchost_quantconnect::{Credentials, Options, RestClient, RestOptions, Server};
use qchost_runtime::Runtime;
use qchost_testing::Gated;
use qchost_testing::measure::{Spread, median, micros};
use qchost_testing::report::{Report, Target};
use qchost_upstream::{
    Account, AccountOptions, Accounts, Connector, HttpConnector, PipeConnector, StdioConnector,
};
use reads::{CALLS, Read};
use rmcp::RoleClient;
use rmcp::model::CallToolRequestParams;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// The host's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 40;
/// Calls through the gate alone.
const GATED: usize = 5000;
/// The pipe to the embedded server, in bytes each way: as the host has it.
const PIPE: usize = 1 << 20;
const GRANT: &str = "[[grant]]\nname = \"all\"\nallow = [\"backtests/*\", \"projects/read-project\"]\nprojects = [\"*\"]\n[limits]\ncpu = \"60s\"";

type Client = RunningService<RoleClient, ()>;

/// One kind of connection, on both sides.
struct Side {
    name: &'static str,
    runtime: Runtime,
    direct: Client,
    _folder: tempfile::TempDir,
}

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "calls");
    let (cloud, sides) = tokio.block_on(async {
        let cloud = Cloud::start().await;
        let gate = tokio::spawn(gate_alone(
            cloud.answer.clone(),
            cloud.reads[0].arguments.clone(),
        ))
        .await
        .unwrap();
        report.row(
            "the gate alone, with nothing behind it",
            "µs",
            gate,
            None,
            Target::None,
        );
        let sides = cloud.sides().await;
        for side in &sides {
            for read in cloud.reads.iter() {
                let measured = measure(Arc::clone(side), Arc::clone(read));
                let (ours, direct) = tokio::spawn(measured).await.unwrap();
                let target = match side.name {
                    "embedded" => Target::Most(round(1.25 * direct + gate)),
                    "HTTP" => Target::Ratio(1.1),
                    _ => Target::None,
                };
                let what = format!(
                    "{} from a guest, {} server, against a direct call",
                    read.name, side.name
                );
                report.row(&what, "µs", ours, Some(direct), target);
            }
        }
        (cloud, sides)
    });
    let mut criterion = Criterion::default().configure_from_args();
    for side in &sides {
        for read in cloud.reads.iter() {
            let mut group = criterion.benchmark_group(format!("call/{}/{}", side.name, read.name));
            group.sample_size(10);
            group.bench_function("guest", |bencher| {
                bencher.iter_custom(|count| tokio.block_on(side.guest(read, count)));
            });
            group.bench_function("direct", |bencher| {
                bencher.iter_custom(|count| tokio.block_on(side.directly(read, count)));
            });
            group.finish();
        }
    }
    criterion.final_summary();
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl Side {
    /// As many calls from guests, in invocations of `CALLS`; how long they would take without the invocations.
    async fn guest(&self, read: &Read, count: u64) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..count {
            let begun = Instant::now();
            let output = self.runtime.invoke(read.name, "act", json!({}), None, None);
            assert_eq!(output.await.unwrap(), json!(1));
            spent += begun.elapsed() / CALLS;
        }
        spent
    }

    async fn directly(&self, read: &Read, count: u64) -> Duration {
        let begun = Instant::now();
        for _ in 0..count {
            let call = CallToolRequestParams::new(read.tool).with_arguments(read.arguments.clone());
            let result = self.direct.peer().call_tool(call).await.unwrap();
            assert_ne!(result.is_error, Some(true));
        }
        begun.elapsed()
    }
}

/// The middle of a call from a guest and of a direct one, in microseconds.
async fn measure(side: Arc<Side>, read: Arc<Read>) -> (f64, f64) {
    let (mut ours, mut direct) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for guest in [round % 2 == 0, round % 2 != 0] {
            if guest {
                ours.push(micros(side.guest(&read, 1).await));
            } else {
                let spent = side.directly(&read, u64::from(CALLS)).await;
                direct.push(micros(spent) / f64::from(CALLS));
            }
        }
    }
    (median(ours), median(direct))
}

/// An emulator with a backtest that ended.
struct Cloud {
    emulator: Emulator,
    reads: [Arc<Read>; 2],
    /// What the first of them answers.
    answer: Value,
    server: Server,
}

impl Cloud {
    async fn start() -> Self {
        let emulator = Emulator::builder()
            .any_port()
            .timing(Timing::default().faster(100))
            .log_capacity(10)
            .start()
            .await
            .unwrap();
        let credentials = Credentials::new(
            &emulator.user_id().to_string(),
            emulator.token().to_owned().into(),
        )
        .unwrap();
        let options = RestOptions {
            base_url: emulator.base_url().to_owned(),
            ..RestOptions::default()
        };
        let rest = RestClient::new(credentials, &options).unwrap();
        let server = Server::new(rest, Options { text_only: true });
        let direct = piped(&server).await;
        let call = async |tool: &'static str, arguments: Value| {
            let call = CallToolRequestParams::new(tool)
                .with_arguments(arguments.as_object().unwrap().clone());
            let result = direct.peer().call_tool(call).await.unwrap();
            let text = result.content[0].as_text().unwrap().text.clone();
            let body: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(body["success"], json!(true), "{tool}: {body}");
            body
        };
        let project = call(
            "create_project",
            json!({ "name": "Lab/bench", "language": "Py" }),
        )
        .await;
        let project = project["projects"][0]["projectId"].clone();
        let source = include_str!(
            "../../../../plugins/strategy-lab/strategies/moving-average-crossover/main.py"
        );
        call(
            "update_file_contents",
            json!({ "projectId": project, "name": "main.py", "content": source }),
        )
        .await;
        let compile =
            call("create_compile", json!({ "projectId": project })).await["compileId"].clone();
        while call(
            "read_compile",
            json!({ "projectId": project, "compileId": compile }),
        )
        .await["state"]
            == "InQueue"
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let backtest = call(
            "create_backtest",
            json!({ "projectId": project, "compileId": compile, "backtestName": "b" }),
        )
        .await;
        let id = backtest["backtest"]["backtestId"].as_str().unwrap();
        let reads = [Read::backtest(&project, id), Read::project(&project)].map(Arc::new);
        let arguments = Value::Object(reads[0].arguments.clone());
        let answer = loop {
            let answer = call("read_backtest", arguments.clone()).await;
            if answer["backtest"]["completed"] == json!(true) {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Self {
            emulator,
            reads,
            answer,
            server,
        }
    }

    async fn sides(&self) -> Vec<Arc<Side>> {
        let mut sides = Vec::new();
        let server = self.server.clone();
        let pipe = PipeConnector::new("embedded", move || Ok(tokio::io::split(pipe(&server))));
        sides.push(
            self.side("embedded", Arc::new(pipe), piped(&self.server).await)
                .await,
        );

        let secret = self.emulator.token().to_owned();
        let user = self.emulator.user_id().to_string();
        let arguments = ["mcp", "--base-url", self.emulator.base_url()].map(str::to_owned);
        let secrets = vec![(
            "QUANTCONNECT_API_TOKEN".to_owned(),
            SecretString::from(secret.clone()),
        )];
        let plain = vec![("QUANTCONNECT_USER_ID".to_owned(), user.clone())];
        let stdio = StdioConnector::new(
            env!("CARGO_BIN_EXE_qchost"),
            arguments.to_vec(),
            plain,
            secrets,
            None,
        )
        .unwrap();
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_qchost"))
            .args(&arguments)
            .env("QUANTCONNECT_USER_ID", user)
            .env("QUANTCONNECT_API_TOKEN", secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        sides.push(
            self.side(
                "stdio",
                Arc::new(stdio),
                rmcp::serve_client((), pipes).await.unwrap(),
            )
            .await,
        );

        let url = http(self.server.clone()).await;
        let connector = HttpConnector::new(&url, []).unwrap();
        // As the connector sets its own for a server on this machine.
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let config = StreamableHttpClientTransportConfig::with_uri(url);
        let transport = StreamableHttpClientTransport::with_client(client, config);
        sides.push(
            self.side(
                "HTTP",
                Arc::new(connector),
                rmcp::serve_client((), transport).await.unwrap(),
            )
            .await,
        );
        sides
    }

    async fn side(
        &self,
        name: &'static str,
        connector: Arc<dyn Connector>,
        direct: Client,
    ) -> Arc<Side> {
        let account = Account::new("research", connector, AccountOptions::default());
        let Gated { gate, folder } = Gated::new(Accounts::new([account]).unwrap()).await;
        let runtime = Runtime::new(gate, runtime_options(folder.path())).unwrap();
        for read in self.reads.iter() {
            let file = folder.path().join(format!("{}.wasm", read.name));
            std::fs::write(file, &read.guest).unwrap();
            runtime
                .load(manifest(read.name, folder.path()))
                .await
                .unwrap();
        }
        let side = Side {
            name,
            runtime,
            direct,
            _folder: folder,
        };
        // What is opened once: sessions, connections.
        for read in self.reads.iter() {
            side.guest(read, 2).await;
            side.directly(read, 20).await;
        }
        Arc::new(side)
    }
}

fn runtime_options(folder: &Path) -> qchost_runtime::Options {
    let compiler = qchost_runtime::Compiler {
        program: env!("CARGO_BIN_EXE_qchost").into(),
        arguments: vec!["compile-component".into()],
    };
    qchost_runtime::Options::new(folder.join("cache"), folder.join("key"), compiler)
}

/// Our end of a pipe to a server.
fn pipe(server: &Server) -> tokio::io::DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let server = server.clone();
    tokio::spawn(async move { drop(server.serve_pipe(theirs, CancellationToken::new()).await) });
    ours
}

async fn piped(server: &Server) -> Client {
    rmcp::serve_client((), tokio::io::split(pipe(server)))
        .await
        .unwrap()
}

/// Serves a server by streamable HTTP on this machine; its address.
async fn http(server: Server) -> String {
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().nest_service("/mcp", service);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/mcp")
}

fn manifest(plugin: &str, folder: &Path) -> Manifest {
    let text = format!(
        "plugin = \"{plugin}\"\ncomponent = \"{plugin}.wasm\"\naccount = \"research\"\n{GRANT}\n"
    );
    Manifest::parse(&text, &folder.join(plugin).with_extension("toml")).unwrap()
}

/// A connection that answers at once.
#[derive(Clone)]
struct Instantly {
    answer: Arc<Value>,
    project: Value,
}

impl Upstream for Instantly {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        let answer = match call.target {
            // The gate asks once what project that is.
            Tool::Known(operation) if operation.tool == "read_project" => {
                let project = json!({ "projectId": self.project, "name": "Lab/bench" });
                json!({ "projects": [project], "success": true })
            }
            _ => Value::clone(&self.answer),
        };
        Box::pin(async move { Ok(answer) })
    }

    fn download<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: u64,
        _: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// What the gate takes for a read: through it, without a task that sends.
async fn gate_alone(answer: Value, arguments: Map<String, Value>) -> f64 {
    let instantly = Instantly {
        answer: Arc::new(answer),
        project: arguments["projectId"].clone(),
    };
    let gated = Gated::new(instantly.clone()).await;
    gated
        .gate
        .policies
        .install(manifest("often", Path::new("/")))
        .unwrap();
    let principal = Principal::new("often", "sha256:0", "1");
    let operation = by_name("backtests/read-backtest").unwrap();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..GATED {
        let begun = Instant::now();
        gated
            .gate
            .call(&principal, operation, arguments.clone())
            .await
            .unwrap();
        with.push(begun.elapsed());
        let begun = Instant::now();
        let call = Call {
            account: "research",
            target: Tool::Known(operation),
            arguments: arguments.clone(),
            deadline: begun + Duration::from_secs(10),
            clearance: always(),
            sends: None,
        };
        instantly.call(call).await.unwrap();
        without.push(begun.elapsed());
    }
    micros(Spread::of(with).p50) - micros(Spread::of(without).p50)
}
