//! What an invocation costs: `Runtime::invoke` against a bare wasmtime loop that does the same, and a call from a guest
//! to the host's clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod bare;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bare::Floor;
use criterion::Criterion;
use qchost_testing::measure::{Spread, in_turns, median, micros};
use qchost_testing::report::{Report, Target};
use qchost_testing::{Guest, Host, uncalled};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// The host's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns of each side, and invocations in a turn.
const TURNS: usize = 100;
const TURN: usize = 200;
/// Slices of time in which one side has both threads.
const SLICES: usize = 40;
const SLICE: Duration = Duration::from_millis(250);
/// Calls of the host in one invocation.
const CALLS: u32 = 100_000;

/// A guest on both sides.
struct Pair {
    name: &'static str,
    action: &'static str,
    input: Value,
    text: String,
    host: Host,
    bare: Floor,
}

impl Pair {
    async fn new(
        name: &'static str,
        bytes: &[u8],
        action: &'static str,
        input: Value,
    ) -> Arc<Self> {
        let host = Host::with(&uncalled(), |options| options.invocations = 128).await;
        let grant = "[[grant]]\nname = \"all\"\nallow = [\"raw/*\"]\nprojects = [\"*\"]\n[limits]\nconcurrency = 64";
        host.load("guest", bytes, grant).await.unwrap();
        Arc::new(Self {
            name,
            action,
            text: input.to_string(),
            input,
            host,
            bare: Floor::new(bytes, |_| {}),
        })
    }

    async fn ours(&self) {
        let invoking =
            self.host
                .runtime
                .invoke("guest", self.action, self.input.clone(), None, None);
        std::hint::black_box(invoking.await.unwrap());
    }

    async fn floor(&self) {
        std::hint::black_box(self.bare.invoke(self.action, &self.text).await);
    }
}

fn main() {
    // `cargo bench -- --ours GUEST` runs one side forever, for a profiler; on two threads with `--two`.
    let arguments: Vec<String> = std::env::args().collect();
    let one = threads(1);
    let pairs = one.block_on(pairs());
    if let Some(side) = arguments
        .iter()
        .find(|it| matches!(it.as_str(), "--ours" | "--floor"))
    {
        let pair = pairs
            .iter()
            .find(|pair| arguments.iter().any(|it| it == pair.name));
        let tasks = if arguments.iter().any(|it| it == "--two") {
            2
        } else {
            1
        };
        let forever = forever(pair.unwrap(), side == "--ours", tasks);
        return threads(tasks).block_on(forever);
    }
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "invoke");
    let two = threads(2);
    for pair in &pairs {
        let (ours, floor) = one.block_on(latency(Arc::clone(pair)));
        let target = Target::Ratio(1.3);
        let what = format!("fresh-instance invocation, {}, 1 thread", pair.name);
        report.row(
            &format!("{what}, p50"),
            "µs",
            micros(ours.p50),
            Some(micros(floor.p50)),
            target,
        );
        report.row(
            &format!("{what}, p99"),
            "µs",
            micros(ours.p99),
            Some(micros(floor.p99)),
            target,
        );
        let (ours, floor) = two.block_on(rates(Arc::clone(pair)));
        let what = format!("fresh-instance invocation, {}, 2 threads", pair.name);
        report.row(&what, "/s", ours, Some(floor), Target::AtLeast(0.9));
    }
    one.block_on(clock(&report));

    let mut criterion = Criterion::default().configure_from_args();
    for pair in &pairs {
        let mut group = criterion.benchmark_group(format!("invoke/{}", pair.name));
        group.sample_size(20);
        for (side, ours) in [("runtime", true), ("bare", false)] {
            group.bench_function(side, |bencher| {
                bencher.iter_custom(|count| one.block_on(repeated(Arc::clone(pair), ours, count)));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

fn threads(count: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .build()
        .unwrap()
}

/// The guests: one from the SDK and one that is nothing but an echo.
async fn pairs() -> Vec<Arc<Pair>> {
    let built =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/plugins/any-tool/any_tool.wasm");
    let built = std::fs::read(built).expect("any_tool.wasm is missing; run: make bench");
    vec![
        Pair::new("sdk", &built, "call", json!({ "calls": [] })).await,
        Pair::new("echo", &Guest::echo().build(), "act", json!("an echo")).await,
    ]
}

/// In a task, as invocations are: what `block_on` runs is woken from another thread.
async fn latency(pair: Arc<Pair>) -> (Spread, Spread) {
    let task = tokio::spawn(async move {
        in_turns(TURNS / 20, TURN, || pair.ours(), || pair.floor()).await;
        in_turns(TURNS, TURN, || pair.ours(), || pair.floor()).await
    });
    let (ours, floor) = task.await.unwrap();
    (Spread::of(ours), Spread::of(floor))
}

async fn repeated(pair: Arc<Pair>, ours: bool, count: u64) -> Duration {
    let task = tokio::spawn(async move {
        let begun = Instant::now();
        for _ in 0..count {
            if ours {
                pair.ours().await
            } else {
                pair.floor().await
            }
        }
        begun.elapsed()
    });
    task.await.unwrap()
}

async fn forever(pair: &Arc<Pair>, ours: bool, tasks: usize) {
    let runs = (0..tasks).map(|_| repeated(Arc::clone(pair), ours, u64::MAX));
    futures::future::join_all(runs).await;
}

/// Invocations a second on both threads: the middle of many slices, each side's in turns.
async fn rates(pair: Arc<Pair>) -> (f64, f64) {
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for slice in 0..SLICES {
        for side in [slice % 2 == 0, slice % 2 != 0] {
            let rate = rate(&pair, side).await;
            if side {
                ours.push(rate)
            } else {
                floor.push(rate)
            }
        }
    }
    (median(ours), median(floor))
}

async fn rate(pair: &Arc<Pair>, ours: bool) -> f64 {
    let (ended, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let begun = Instant::now();
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let (pair, ended, count) = (Arc::clone(pair), Arc::clone(&ended), Arc::clone(&count));
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    if ours {
                        pair.ours().await
                    } else {
                        pair.floor().await
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(SLICE).await;
    ended.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// A guest that asks so often what time it is.
fn asks(often: u32) -> Vec<u8> {
    let body = format!(
        "(local.set $n (i32.const {often}))
         (block $done (loop $again
           (br_if $done (i32.eqz (local.get $n)))
           (drop (call $now))
           (local.set $n (i32.sub (local.get $n) (i32.const 1)))
           (br $again)))
         (call $digit (i32.const 1))"
    );
    Guest::new(&body)
        .import(
            "import qchost:agent/clock@0.1.0;",
            r#"(import "qchost:agent/clock@0.1.0" "now" (func $now (result f64)))"#,
        )
        .build()
}

/// A call that carries a number: the runtime's clock, and the same on the bare engine.
async fn clock(report: &Report) {
    let host = Host::new(&uncalled()).await;
    host.load("often", &asks(CALLS), "").await.unwrap();
    host.load("never", &asks(0), "").await.unwrap();
    let bare = |often| {
        Floor::new(&asks(often), |linker| {
            let mut clock = linker.instance("qchost:agent/clock@0.1.0").unwrap();
            let now = |_: wasmtime::StoreContextMut<'_, _>, (): ()| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                Ok((since.as_secs_f64(),))
            };
            clock.func_wrap("now", now).unwrap();
        })
    };
    let (often, never) = (bare(CALLS), bare(0));
    let ours = async |plugin: &str| {
        let invoking = host.runtime.invoke(plugin, "act", json!({}), None, None);
        invoking.await.unwrap();
    };
    let (mut with, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let (full, bare) = in_turns(
            1,
            1,
            || ours("often"),
            async || drop(often.invoke("act", &"{}".to_owned()).await),
        )
        .await;
        let (empty, bare_empty) = in_turns(
            1,
            1,
            || ours("never"),
            async || drop(never.invoke("act", &"{}".to_owned()).await),
        )
        .await;
        let each =
            |full: Duration, empty: Duration| micros(full.saturating_sub(empty)) / f64::from(CALLS);
        with.push(each(full[0], empty[0]));
        floor.push(each(bare[0], bare_empty[0]));
    }
    report.row(
        "host call without a string (clock.now)",
        "µs",
        median(with),
        Some(median(floor)),
        Target::Most(0.3),
    );
}
