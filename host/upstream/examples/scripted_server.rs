//! The scripted server of the tests as a program of its own: `scripted_server LOG [wrapped]`.
//!
//! Further words: `crash` (dies before the handshake), `stubborn` (survives the end of its
//! input and a request to terminate), `child` (starts a process of its own).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

#[path = "../tests/support/scripted.rs"]
mod scripted;

use rmcp::ServiceExt as _;
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let server = scripted::Scripted::new(words[1].clone().into(), has("wrapped"));
    server.note(&json!({ "event": "start", "pid": std::process::id() }));
    if has("crash") {
        eprintln!(
            "no beans, key {}",
            std::env::var("TEST_TOKEN").unwrap_or_default()
        );
        std::process::exit(7);
    }
    if has("child") {
        // Left running when this is dropped: whoever ends the server has to end it too.
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
