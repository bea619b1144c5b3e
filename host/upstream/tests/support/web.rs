//! Servers behind HTTP: the scripted one, and one that answers with given responses.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::any;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use qchost_testing::mcp::ScriptedServer;

/// An HTTP server whose connections are closed when it is killed.
pub struct Web {
    pub address: SocketAddr,
    task: JoinHandle<()>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Web {
    /// A separate runtime: dropping it closes every connection.
    pub fn serve(router: Router, port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let guard = runtime.enter();
        let listener = listen(port);
        let address = listener.local_addr().unwrap();
        let task = runtime.spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        drop(guard);
        Self {
            address,
            task,
            runtime: Some(runtime),
        }
    }

    /// The scripted server with sessions, which the revisions with a handshake have; on any port if `port` is 0.
    pub fn scripted(log: PathBuf, port: u16) -> Self {
        let service = StreamableHttpService::new(
            move || Ok(ScriptedServer::new(log.clone(), true).with_handshake()),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default(),
        );
        Self::serve(Router::new().nest_service("/mcp", service), port)
    }

    /// The scripted server without sessions, which speaks the revision without a handshake as well.
    pub fn modern(log: PathBuf) -> Self {
        let service = StreamableHttpService::new(
            move || Ok(ScriptedServer::new(log.clone(), true)),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default(),
        );
        Self::serve(Router::new().nest_service("/mcp", service), 0)
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn kill(mut self) -> u16 {
        let port = self.address.port();
        self.stop();
        port
    }

    fn stop(&mut self) {
        self.task.abort();
        if let Some(runtime) = self.runtime.take() {
            // Every socket is closed when the thread ends; a runtime must not be shut down from another one.
            let closing = std::thread::spawn(move || drop(runtime));
            closing.join().unwrap();
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], port).into()).unwrap();
    socket.listen(128).unwrap()
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// One answer: status, headers, body.
pub type Answer = (u16, Vec<(&'static str, String)>, String);

/// The headers of every request, and the number of tool calls.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<(Vec<HeaderMap>, usize)>>);

impl Seen {
    pub fn calls(&self) -> usize {
        self.0.lock().1
    }

    pub fn headers(&self) -> Vec<HeaderMap> {
        self.0.lock().0.clone()
    }
}

/// Completes the handshake, and answers calls of tools with `reply(number of earlier calls, request)`. A
/// status of 0 closes the connection without an answer.
pub fn by_hand(reply: impl Fn(usize, &Value) -> Answer + Send + Sync + 'static) -> (Seen, Web) {
    serve_by_hand(0, None, Arc::default(), reply)
}

/// The same on a port. It is the endpoint of an account with this one project, and says so; other calls of tools are
/// answered after `delay` milliseconds.
pub fn endpoint_at(
    port: u16,
    project: u32,
    delay: Arc<AtomicU64>,
    reply: impl Fn(usize, &Value) -> Answer + Send + Sync + 'static,
) -> (Seen, Web) {
    serve_by_hand(port, Some(project), delay, reply)
}

fn serve_by_hand(
    port: u16,
    project: Option<u32>,
    delay: Arc<AtomicU64>,
    reply: impl Fn(usize, &Value) -> Answer + Send + Sync + 'static,
) -> (Seen, Web) {
    let seen = Seen::default();
    let notes = seen.clone();
    let reply = Arc::new(reply);
    let handler = move |headers: HeaderMap, body: Bytes| {
        let (notes, reply, delay) = (notes.clone(), reply.clone(), delay.clone());
        async move {
            notes.0.lock().0.push(headers);
            let request: Value = serde_json::from_slice(&body).unwrap_or_default();
            let json = |result: Value| {
                let body = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
                (
                    200,
                    vec![("content-type", "application/json".to_owned())],
                    body.to_string(),
                )
            };
            let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
            let (status, headers, body) = match request["method"].as_str() {
                Some("initialize") => json(json!({
                    "protocolVersion": request["params"]["protocolVersion"],
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "by hand", "version": "0" },
                })),
                Some("tools/list") => {
                    let mut tools = vec![tool("read_backtest"), tool("create_backtest")];
                    if project.is_some() {
                        tools
                            .extend(["read_account", "list_projects", "update_backtest"].map(tool));
                    }
                    json(json!({ "tools": tools }))
                }
                Some("tools/call") if identity(project, &request).is_some() => {
                    let body = identity(project, &request).unwrap_or_default();
                    json(json!({ "content": [{ "type": "text", "text": body.to_string() }] }))
                }
                Some("tools/call") => {
                    let before = {
                        let mut notes = notes.0.lock();
                        notes.1 += 1;
                        notes.1 - 1
                    };
                    let answer = reply(before, &request);
                    let delay = Duration::from_millis(delay.load(Ordering::Relaxed));
                    if !delay.is_zero() {
                        tokio::time::sleep(delay).await;
                    }
                    answer
                }
                // It speaks the revisions with a handshake, and knows no other request without a session.
                Some("server/discover") => page(404),
                Some(_) => (202, Vec::new(), String::new()),
                None => (405, Vec::new(), String::new()),
            };
            if status == 0 {
                return Response::builder()
                    .header("content-type", "application/json")
                    .body(broken())
                    .unwrap();
            }
            let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
    };
    (seen, Web::serve(Router::new().fallback(any(handler)), port))
}

/// The answer of an endpoint about whose it is.
fn identity(project: Option<u32>, request: &Value) -> Option<Value> {
    let project = project?;
    match request["params"]["name"].as_str()? {
        "read_account" => Some(json!({ "success": true, "organizationId": "o" })),
        "list_projects" => Some(json!({
            "success": true,
            "projects": [{ "projectId": project, "name": "Lab", "organizationId": "o" }],
        })),
        _ => None,
    }
}

/// An incomplete body: the connection is closed after the headers.
fn broken() -> Body {
    let cut = Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    Body::from_stream(futures::stream::iter([cut]))
}

/// The successful answer of a tool.
pub fn success(request: &Value) -> Answer {
    let content = json!([{ "type": "text", "text": r#"{"success": true}"# }]);
    let body = json!({ "jsonrpc": "2.0", "id": request["id"], "result": { "content": content } });
    (
        200,
        vec![("content-type", "application/json".to_owned())],
        body.to_string(),
    )
}

/// Says that the server had no connection to QuantConnect, as ours does.
pub fn unsent(request: &Value) -> Answer {
    let body = json!({
        "success": false,
        "errors": ["cannot connect"],
        "failure": { "kind": "unavailable", "sent": false },
    });
    let content = json!([{ "type": "text", "text": body.to_string() }]);
    let result = json!({ "content": content, "isError": true });
    let body = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    (
        200,
        vec![("content-type", "application/json".to_owned())],
        body.to_string(),
    )
}

/// A web page in place of an answer.
pub fn page(status: u16) -> Answer {
    (
        status,
        vec![("content-type", "text/html".to_owned())],
        "<html>no</html>".to_owned(),
    )
}

/// Serves the same answer at every path.
pub fn files(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Web {
    let answer = Arc::new(answer);
    let handler = move |uri: axum::http::Uri| {
        let answer = answer.clone();
        async move {
            let (status, headers, body) = answer(uri.path());
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
    };
    Web::serve(Router::new().fallback(any(handler)), 0)
}
