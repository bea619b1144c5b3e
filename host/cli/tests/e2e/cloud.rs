//! The cloud of a test: an emulator behind real HTTP, and a proxy that can alter its answers.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use qchost_emulator::{Builder, Emulator, LoggedRequest, Timing};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::common::{TOKEN, USER};

/// An emulator with its own runtime, so that tests are plain functions. It is stopped when this is dropped.
pub struct Cloud {
    runtime: Runtime,
    emulator: Emulator,
}

impl Cloud {
    /// One that is ten times as fast as by default.
    pub fn start() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(set: impl FnOnce(Builder) -> Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let builder = Emulator::builder()
            .any_port()
            .credentials(USER, TOKEN)
            .timing(Timing::default().faster(10))
            .derived_data(true);
        let emulator = runtime.block_on(set(builder).start()).unwrap();
        Self { runtime, emulator }
    }

    pub fn url(&self) -> &str {
        self.emulator.base_url()
    }

    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    pub fn requests_to(&self, path: &str) -> Vec<LoggedRequest> {
        self.emulator.requests_to(path)
    }

    /// The names of the backtests that clients requested, sorted, once for each request.
    pub fn created_backtests(&self) -> Vec<String> {
        let requests = self.requests_to("/backtests/create");
        // A request whose sender was killed before its body arrived does not count.
        let name =
            |request: &LoggedRequest| Some(request.body["backtestName"].as_str()?.to_owned());
        let mut names: Vec<_> = requests.iter().filter_map(name).collect();
        names.sort();
        names
    }

    /// The address of a proxy to this cloud. `alter` sees the path below the base and the answer's body.
    pub fn altered(&self, alter: impl Fn(&str, Value) -> String + Send + Sync + 'static) -> String {
        let proxy = Proxy {
            to: self.emulator.address().to_string(),
            client: reqwest::Client::new(),
            alter: Arc::new(alter),
        };
        self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = Router::new().fallback(forward).with_state(proxy);
            tokio::spawn(async move { axum::serve(listener, router).await });
            format!("http://{address}/api/v2")
        })
    }
}

type Alter = dyn Fn(&str, Value) -> String + Send + Sync;

#[derive(Clone)]
struct Proxy {
    to: String,
    client: reqwest::Client,
    alter: Arc<Alter>,
}

async fn forward(
    State(proxy): State<Proxy>,
    uri: Uri,
    mut headers: HeaderMap,
    request: Request,
) -> Response {
    let body: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    headers.remove("host");
    headers.remove("accept-encoding");
    let answer = proxy
        .client
        .post(format!("http://{}{uri}", proxy.to))
        .headers(headers)
        .body(body)
        .send()
        .await
        .unwrap();
    let value = answer.json().await.unwrap();
    let path = uri.path().trim_start_matches("/api/v2");
    Response::builder()
        .header("content-type", "application/json")
        .body((proxy.alter)(path, value).into())
        .unwrap()
}
