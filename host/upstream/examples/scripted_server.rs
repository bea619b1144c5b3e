//! The scripted server of the tests as a program of its own: `scripted_server LOG [wrapped]`.
//!
//! Further words: `crash` (dies before the handshake), `stubborn` (survives the end of its
//! input and a request to terminate), `child` (starts a process of its own), `apart` (leaves the process group for a
//! session of its own).
//!
//! `scripted_server supervise HOST COMMAND…` is a supervisor, and `scripted_server host LOG WORD…` a host that has a
//! server with these words under one and waits to be killed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

use rmcp::ServiceExt as _;
use serde_json::json;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_testing::mcp::ScriptedServer;
use qchost_upstream::{Account, AccountOptions, Accounts, StdioConnector, Supervisor};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words[1] == "supervise" {
        let command: Vec<_> = words[3..].iter().map(Into::into).collect();
        return qchost_upstream::supervise(words[2].parse().unwrap(), &command);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match words[1].as_str() {
        "host" => runtime.block_on(host(words[2..].to_vec())),
        _ => runtime.block_on(server(&words)),
    }
    ExitCode::SUCCESS
}

/// Has a server under a supervisor.
async fn host(words: Vec<String>) {
    let program = std::env::current_exe().unwrap();
    let command = program.display().to_string();
    let supervisor = Supervisor {
        program,
        arguments: vec!["supervise".to_owned()],
    };
    let connector = StdioConnector::new(command, words, vec![], vec![], None).unwrap();
    let connector = Arc::new(connector.supervised(supervisor));
    let account = Account::new("research", connector, AccountOptions::default());
    let accounts = Accounts::new([account]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    accounts.connect("research", deadline).await.unwrap();
    std::future::pending::<()>().await;
}

async fn server(words: &[String]) {
    let has = |word: &str| words.iter().any(|given| given == word);
    let server = ScriptedServer::new(words[1].clone().into(), has("wrapped"));
    if has("apart") {
        rustix::process::setsid().unwrap();
    }
    server.note(&json!({ "event": "start", "pid": std::process::id() }));
    if has("crash") {
        eprintln!(
            "no beans, key {}",
            std::env::var("TEST_TOKEN").unwrap_or_default()
        );
        std::process::exit(7);
    }
    if has("child") {
        // Left running when this is dropped: the test that ends the server has to end it too.
        let child = tokio::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        server.note(&json!({ "event": "child", "pid": child.id().unwrap() }));
    }
    let service = server.serve(rmcp::transport::stdio()).await.unwrap();
    if has("stubborn") {
        let mut asked =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let _ = service.waiting().await;
        loop {
            asked.recv().await;
        }
    }
    let _ = service.waiting().await;
}
