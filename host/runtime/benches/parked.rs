//! Memory of invocations that wait inside a call of the host, for an answer that does not come. Each number of them is
//! measured in a process of its own: what one left behind would hide what the next one takes.
//!
//! It is counted in two ways, from before the first of them on: what is resident, with the page tables that the kernel
//! needs for it; and with a page that several of them show counted once. Both have the same target.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream};
use qchost_testing::measure::{page_tables, proportional, resident};
use qchost_testing::report::{Report, Target};
use qchost_testing::{Gated, Guest, Host};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The host's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The most invocations of one plugin at a time that a manifest may ask for.
const MOST: u32 = 1000;

/// A connection whose answers take longer than any caller waits.
#[derive(Clone, Default)]
struct Silent(Arc<AtomicU32>);

impl Upstream for Silent {
    fn call<'a>(&'a self, _: Call<'a>) -> BoxFuture<'a, Outcome> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }

    fn download<'a>(
        &'a self,
        _account: &'a str,
        _url: &'a str,
        _limit: u64,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(std::future::pending())
    }
}

fn main() {
    let mut arguments = std::env::args().skip_while(|it| it != "--park").skip(1);
    if let (Some(guest), Some(count)) = (arguments.next(), arguments.next()) {
        return park(&guest, count.parse().unwrap());
    }
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "parked");
    for (guest, name) in [("sdk", "a Rust guest"), ("text", "a guest of 2 pages")] {
        for (count, target) in [(1000, Target::None), (10_000, Target::Most(0.7))] {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--park", guest, &count.to_string()])
                .output()
                .unwrap();
            assert!(
                child.status.success(),
                "{}",
                String::from_utf8_lossy(&child.stderr)
            );
            let taken: Taken = serde_json::from_slice(&child.stdout).unwrap();
            let row = |counted: &str, bytes: u64, target| {
                let what = format!("{count} invocations parked in a host call, {name}, {counted}");
                report.row(&what, "GB", bytes as f64 / 1e9, None, target);
            };
            let Taken {
                resident,
                page_tables,
                proportional,
            } = taken;
            row("resident, with page tables", resident + page_tables, target);
            row("page tables alone", page_tables, Target::None);
            row("shared pages once", proportional, target);
        }
    }
}

/// What a process takes, in bytes.
#[derive(Serialize, Deserialize)]
struct Taken {
    resident: u64,
    page_tables: u64,
    proportional: u64,
}

impl Taken {
    fn now() -> Self {
        let process = std::process::id();
        Self {
            resident: resident(process),
            page_tables: page_tables(process),
            proportional: proportional(process),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            resident: self.resident.saturating_sub(before.resident),
            page_tables: self.page_tables.saturating_sub(before.page_tables),
            proportional: self.proportional.saturating_sub(before.proportional),
        }
    }
}

/// Prints by how much this process grew for the given number of parked invocations.
#[tokio::main(worker_threads = 2)]
async fn park(guest: &str, count: u32) {
    let silent = Silent::default();
    let patient = Gated::with(silent.clone(), |options| {
        options.call_timeout = Duration::from_secs(3600)
    });
    let host = Host::behind(patient.await, |options| {
        options.invocations = count;
        options.queue = 20_000;
        // Reserved, not used: a Rust guest has 17 pages and touches a few.
        options.memory = 64 << 30;
    });
    let (bytes, action, input) = match guest {
        "sdk" => {
            let built = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../cli/tests/plugins/any-tool/any_tool.wasm");
            let call = json!({ "tool": "list_projects", "arguments": {} });
            let bytes = std::fs::read(built).expect("any_tool.wasm is missing; run: make bench");
            (bytes, "call", json!({ "calls": [call] }))
        }
        _ => {
            let text = Guest::new("(call $list (i32.const 2048)) (call $digit (i32.const 1))").import(
                "import quantconnect:api/projects@0.1.0;",
                r#"(import "quantconnect:api/projects@0.1.0" "list-projects" (func $list (param i32)))"#,
            );
            (text.build(), "act", json!({}))
        }
    };
    let grant = "[[grant]]\nname = \"all\"\nallow = [\"projects/list-projects\", \"raw/*\"]\nprojects = [\"*\"]\n[limits]\nconcurrency = 1000";
    let plugins: Vec<_> = (0..count.div_ceil(MOST))
        .map(|number| format!("guest-{number}"))
        .collect();
    for plugin in &plugins {
        host.load(plugin, &bytes, grant).await.unwrap();
    }
    let run = |plugin: &String, input| {
        let (runtime, plugin) = (host.runtime.clone(), plugin.clone());
        tokio::spawn(async move { runtime.invoke(&plugin, action, input, None, None).await })
    };
    let before = Taken::now();
    let others = plugins.iter().cycle().zip(0..count);
    let mut parked: Vec<_> = others
        .map(|(plugin, _)| run(plugin, input.clone()))
        .collect();
    reached(&silent, count, &mut parked).await;
    let taken = Taken::now().since(&before);
    println!("{}", serde_json::to_string(&taken).unwrap());
    // What is parked would be waited for.
    std::process::exit(0);
}

type Parked = tokio::task::JoinHandle<Result<serde_json::Value, qchost_runtime::InvokeError>>;

/// Waits until this many calls wait for their answers.
async fn reached(silent: &Silent, count: u32, parked: &mut [Parked]) {
    let begun = Instant::now();
    while silent.0.load(Ordering::Relaxed) < count {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "only {} are parked",
            silent.0.load(Ordering::Relaxed)
        );
        if let Some(ended) = parked.iter_mut().find(|run| run.is_finished()) {
            panic!("{:?}", ended.await);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
