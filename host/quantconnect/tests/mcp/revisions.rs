//! Both eras of MCP, line by line: a client that begins with a handshake, and one that begins without.

use qchost_quantconnect::{Options, Server};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf,
};

use crate::connection::{options, rest};
use crate::fake::Fake;

/// A client that sends lines.
struct Raw {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
}

impl Raw {
    fn to(fake: &Fake) -> Self {
        let server = Server::new(rest(&options(&fake.url)), Options::default());
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move {
            drop(server.serve_pipe(theirs, Default::default()).await);
        });
        let (read, write) = tokio::io::split(ours);
        Self {
            lines: BufReader::new(read).lines(),
            write,
        }
    }

    async fn send(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.write.write_all(line.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.send(&message).await;
        let line = self.lines.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// Parameters with the metadata of the revision without a handshake.
fn with_meta(mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

fn call() -> Value {
    json!({ "name": "read_account", "arguments": {} })
}

#[tokio::test]
async fn a_handshake_settles_on_the_revision_that_the_client_asks_for() {
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let fake = Fake::content().await;
        let mut client = Raw::to(&fake);
        let answer = client
            .ask(
                "initialize",
                json!({
                    "protocolVersion": version,
                    "capabilities": {},
                    "clientInfo": { "name": "raw", "version": "0" },
                }),
            )
            .await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        client
            .send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await;
        let list = client.ask("tools/list", json!({})).await;
        assert!(list["result"]["tools"].is_array(), "{version}");
        // What the later revision added is not sent to a client that does not know it.
        assert_eq!(list["result"].get("ttlMs"), None, "{version}");
        assert_eq!(list["result"].get("resultType"), None, "{version}");
        let answer = client.ask("tools/call", call()).await;
        assert_eq!(answer["result"]["isError"], false, "{version}: {answer}");
    }
}

#[tokio::test]
async fn a_client_without_a_handshake_discovers_and_calls() {
    let fake = Fake::content().await;
    let mut client = Raw::to(&fake);
    let answer = client.ask("server/discover", with_meta(json!({}))).await;
    let versions = answer["result"]["supportedVersions"].as_array().unwrap();
    for version in ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"] {
        assert!(versions.contains(&json!(version)), "{answer}");
    }
    assert_eq!(answer["result"]["resultType"], "complete");
    let list = client.ask("tools/list", with_meta(json!({}))).await;
    assert_eq!(list["result"]["resultType"], "complete");
    assert_eq!(list["result"]["ttlMs"], 3_600_000);
    assert_eq!(list["result"]["cacheScope"], "public");
    let answer = client.ask("tools/call", with_meta(call())).await;
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_request_without_metadata_or_of_an_unknown_revision_calls_nothing() {
    let fake = Fake::content().await;
    let mut client = Raw::to(&fake);
    client.ask("server/discover", with_meta(json!({}))).await;
    let answer = client.ask("tools/call", call()).await;
    assert_eq!(answer["error"]["code"], -32_602, "{answer}");
    let mut params = with_meta(call());
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2031-01-01");
    let answer = client.ask("tools/call", params).await;
    assert_eq!(answer["error"]["code"], -32_022, "{answer}");
    let supported = &answer["error"]["data"]["supported"];
    assert!(supported.as_array().unwrap().contains(&json!("2026-07-28")));
    assert!(fake.seen().is_empty());
}
