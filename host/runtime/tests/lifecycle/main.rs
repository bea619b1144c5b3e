//! What happens to invocations while plugins are replaced, removed, limited and quarantined, and
//! while the host shuts down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod drain;
mod ending;
mod fairness;
mod limits;
mod quarantine;
mod swap;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream};
use qchost_policy::Manifest;
use qchost_runtime::{ActionError, InvokeError, Options, PluginState};
use qchost_testing::{Gated, Guest, Host, Scripted};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const GRANT: &str = "[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]\n";

/// A connection that holds its answers back until the test releases them.
#[derive(Clone)]
struct Parking {
    answers: Scripted,
    free: Arc<Semaphore>,
    parked: Arc<AtomicUsize>,
}

impl Parking {
    fn new() -> Self {
        let body = json!({ "projectId": 7, "compileId": "c", "state": "InQueue" });
        Self {
            answers: Scripted::new(move |_| (Duration::ZERO, Ok(body.clone()))),
            free: Arc::new(Semaphore::new(0)),
            parked: Arc::default(),
        }
    }

    /// Releases this many calls, of those that are parked and those that come.
    fn release(&self, calls: usize) {
        self.free.add_permits(calls);
    }

    /// Waits until this many calls were parked in all.
    async fn parked(&self, calls: usize) {
        until(|| self.parked.load(Ordering::Acquire) >= calls).await;
    }

    async fn host(&self, set: impl FnOnce(&mut Options)) -> Arc<Host> {
        Arc::new(Host::behind(Gated::new(self.clone()).await, set))
    }
}

impl Upstream for Parking {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        if call.target.tool() != "create_compile" {
            return self.answers.call(call);
        }
        Box::pin(async move {
            self.parked.fetch_add(1, Ordering::AcqRel);
            self.free.acquire().await.unwrap().forget();
            self.answers.call(call).await
        })
    }

    fn download<'a>(
        &'a self,
        account: &'a str,
        url: &'a str,
        limit: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        self.answers.download(account, url, limit, deadline)
    }
}

/// A plugin that makes a call and then does this.
fn calls(then: &str) -> Guest {
    Guest::new(&format!(
        "(call $create (i32.const 7) (i32.const 2048)) {then}"
    ))
    .import(
        "import quantconnect:api/compile@0.1.0;",
        r#"(import "quantconnect:api/compile@0.1.0" "create-compile" (func $create (param i32 i32)))"#,
    )
}

/// A plugin that makes a call and then answers with a number.
fn parks(number: u32) -> Guest {
    calls(&format!("(call $digit (i32.const {number}))"))
}

/// A plugin that answers with its version and that of its manifest, as two digits.
fn answers(version: u32) -> Guest {
    Guest::new(&format!(
        "(call $get (i32.const 4096) (i32.const 7) (i32.const 2048))
         (call $digit (i32.add (i32.const {})
           (i32.sub (i32.load8_u (i32.load (i32.const 2052))) (i32.const 48))))",
        version * 10
    ))
    .import(
        "import qchost:agent/config@0.1.0;",
        r#"(import "qchost:agent/config@0.1.0" "get" (func $get (param i32 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "version")"#)
}

/// The lines of a manifest of that version.
fn version(version: u32) -> String {
    format!("[config]\nversion = {version}\n")
}

/// A manifest for a component in a file of another name.
fn manifest_of(host: &Host, plugin: &str, file: &str, lines: &str) -> Manifest {
    let text =
        format!("plugin = \"{plugin}\"\ncomponent = \"{file}\"\naccount = \"research\"\n{lines}\n");
    Manifest::parse(&text, &host.home.path().join(format!("{plugin}.toml"))).unwrap()
}

type Run = JoinHandle<Result<Value, InvokeError>>;

/// Invokes a plugin beside the test.
fn run(host: &Arc<Host>, plugin: &'static str, input: Value) -> Run {
    let host = Arc::clone(host);
    tokio::spawn(async move { invoke(&host, plugin, input).await })
}

/// A host with a plugin `lab` of these lines, and an invocation of it whose call is parked.
async fn parked(lines: &str) -> (Parking, Arc<Host>, Run) {
    let upstream = Parking::new();
    let host = upstream.host(|_| {}).await;
    host.load("lab", &parks(1).build(), lines).await.unwrap();
    let parked = run(&host, "lab", json!({}));
    upstream.parked(1).await;
    (upstream, host, parked)
}

async fn invoke(host: &Host, plugin: &str, input: Value) -> Result<Value, InvokeError> {
    host.runtime.invoke(plugin, "act", input, None, None).await
}

fn standing(host: &Host, plugin: &str) -> PluginState {
    host.runtime.standing(plugin).unwrap()
}

/// Numbers of running, waiting and draining invocations.
fn counts(host: &Host, plugin: &str) -> (usize, usize, usize) {
    let standing = standing(host, plugin);
    (standing.running, standing.waiting, standing.draining)
}

/// Waits until a condition holds, with a time limit.
async fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it never came to pass"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
