//! Servers in this process, behind a pipe.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qchost_upstream::{Connector, PipeConnector};
use rmcp::ServiceExt as _;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf,
};

use qchost_testing::mcp::ScriptedServer;

type Halves = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

/// The scripted server.
pub fn scripted(log: PathBuf) -> impl Connector {
    PipeConnector::new("scripted", move || {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = ScriptedServer::new(log.clone(), false);
        tokio::spawn(async move {
            if let Ok(service) = server.serve(tokio::io::split(theirs)).await {
                let _ = service.waiting().await;
            }
        });
        Ok::<Halves, _>(tokio::io::split(ours))
    })
}

/// The reaction of a raw server to a call of a tool.
pub type Reply = Arc<dyn Fn(&Value) -> Vec<String> + Send + Sync>;

/// A server that completes the handshake, lists `read_backtest` and `create_backtest`, and then writes the
/// given lines. An empty list of lines closes the connection.
pub fn raw(opened: Arc<AtomicUsize>, reply: Reply) -> impl Connector {
    let two = |_: &Value| {
        let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
        json!({ "tools": [tool("read_backtest"), tool("create_backtest")] })
    };
    listing(opened, Arc::new(two), reply)
}

/// The answer of a raw server to a request for its tools.
pub type List = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

/// A raw server that lists its tools with `list`.
pub fn listing(opened: Arc<AtomicUsize>, list: List, reply: Reply) -> impl Connector {
    PipeConnector::new("raw", move || {
        opened.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (list, reply) = (list.clone(), reply.clone());
        tokio::spawn(async move {
            let _ = serve(theirs, list, reply).await;
        });
        Ok::<Halves, _>(tokio::io::split(ours))
    })
}

async fn serve(stream: DuplexStream, list: List, reply: Reply) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let request: Value = serde_json::from_str(&line)?;
        let answer = |result: Value| {
            vec![json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string()]
        };
        let lines = match request["method"].as_str() {
            Some("initialize") => answer(json!({
                "protocolVersion": request["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "raw", "version": "0" },
            })),
            Some("server/discover") => vec![no_such_method(&request).to_string()],
            Some("tools/list") => answer(list(&request)),
            Some("tools/call") => {
                let lines = reply(&request);
                if lines.is_empty() {
                    return Ok(());
                }
                lines
            }
            _ => continue,
        };
        for line in lines {
            write.write_all(line.as_bytes()).await?;
            write.write_all(b"\n").await?;
        }
    }
    Ok(())
}

/// The answer of a server that does not know a method.
pub fn no_such_method(request: &Value) -> Value {
    let error = json!({ "code": -32_601, "message": "no such method" });
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
}

/// A connector that fails until it has been tried this many times.
pub fn flaky(log: PathBuf, failures: usize) -> (Arc<AtomicUsize>, impl Connector) {
    let tried = Arc::new(AtomicUsize::new(0));
    let counter = tried.clone();
    let connector = PipeConnector::new("flaky", move || {
        if counter.fetch_add(1, Ordering::SeqCst) < failures {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "not yet"));
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = ScriptedServer::new(log.clone(), false);
        tokio::spawn(async move {
            if let Ok(service) = server.serve(tokio::io::split(theirs)).await {
                let _ = service.waiting().await;
            }
        });
        Ok::<Halves, _>(tokio::io::split(ours))
    });
    (tried, connector)
}
