//! What the adapter costs: `read-backtest` and a chart of 500 points from a parsed JSON value into the guest, against
//! the same records, made beforehand, from a host function with the same types.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::{Duration, Instant};

use criterion::Criterion;
use qchost_runtime::bench::{self, Backtest, Chart, Engine, Error};
use qchost_testing::Guest;
use qchost_testing::measure::{median, micros};
use qchost_testing::report::{Report, Target};
use serde_json::{Value, json};
use wasmtime::component::{Component, ComponentNamedList, Lift, Linker, Lower};
use wasmtime::{Store, StoreContextMut};

/// The host's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls of the host in one invocation, and invocations of each side.
const CALLS: usize = 50;
const ROUNDS: usize = 300;

mod bindings {
    wasmtime::component::bindgen!({
        inline: "package bench:bare; world bare { export qchost:agent/guest@0.1.0; }",
        path: "../../wit",
        world: "bench:bare/bare",
    });
}
use bindings::{Bare, BarePre};

/// What the host function answers with, one after the other.
enum Answers<T> {
    /// Through the adapter.
    Parsed(Vec<Value>),
    Made(Vec<T>),
}

/// One operation, on both sides.
struct Bridge<T: 'static> {
    engine: Engine,
    code: BarePre<Answers<T>>,
    body: Value,
    decode: fn(Value) -> Result<T, String>,
}

impl<T: Lower + Clone + Send + Sync + 'static> Bridge<T> {
    fn new<P: ComponentNamedList + Lift + 'static>(
        function: &str,
        core: &str,
        call: &str,
        body: Value,
        decode: fn(Value) -> Result<T, String>,
    ) -> Self {
        let engine = Engine::new(4).unwrap();
        let component = Component::new(engine.engine(), guest(core, call)).unwrap();
        let mut linker = Linker::<Answers<T>>::new(engine.engine());
        let mut backtests = linker.instance("quantconnect:api/backtests@0.1.0").unwrap();
        let answer = move |mut store: StoreContextMut<'_, Answers<T>>, _: P| {
            let answer = match store.data_mut() {
                Answers::Parsed(bodies) => decode(bodies.pop().unwrap()).unwrap(),
                Answers::Made(records) => records.pop().unwrap(),
            };
            Ok((Ok::<T, Error>(answer),))
        };
        backtests.func_wrap(function, answer).unwrap();
        linker.define_unknown_imports_as_traps(&component).unwrap();
        let code = BarePre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        Self {
            engine,
            code,
            body,
            decode,
        }
    }

    /// Calls the host `CALLS` times from one instance; how long that took, each.
    fn run(&self, answers: Answers<T>) -> Duration {
        let mut store = Store::new(self.engine.engine(), answers);
        store.set_epoch_deadline(u64::MAX / 2);
        store.set_hostcall_fuel(usize::MAX);
        let bare: Bare = self.code.instantiate(&mut store).unwrap();
        let begun = Instant::now();
        let output = bare
            .qchost_agent_guest()
            .call_invoke(&mut store, "act", &"{}".to_owned());
        let elapsed = begun.elapsed();
        assert_eq!(output.unwrap().unwrap(), " 1");
        elapsed / u32::try_from(CALLS).unwrap()
    }

    fn adapter(&self) -> Duration {
        self.run(Answers::Parsed(vec![self.body.clone(); CALLS]))
    }

    fn made(&self) -> Duration {
        let record = (self.decode)(self.body.clone()).unwrap();
        self.run(Answers::Made(vec![record; CALLS]))
    }

    /// The adapter's and the floor's middle, in microseconds.
    fn measure(&self) -> (f64, f64) {
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                ours.push(micros(self.adapter()));
                floor.push(micros(self.made()));
            } else {
                floor.push(micros(self.made()));
                ours.push(micros(self.adapter()));
            }
        }
        (median(ours), median(floor))
    }

    fn criterion(&self, criterion: &mut Criterion, name: &str) {
        let mut group = criterion.benchmark_group(format!("bridge/{name}"));
        group.sample_size(20);
        for (side, run) in [
            ("adapter", Self::adapter as fn(&Self) -> Duration),
            ("made", Self::made),
        ] {
            group.bench_function(side, |bencher| {
                bencher.iter_custom(|count| (0..count).map(|_| run(self)).sum());
            });
        }
        group.finish();
    }
}

fn main() {
    let backtest: Bridge<Backtest> = Bridge::new::<(u32, String)>(
        "read-backtest",
        r#"(import "quantconnect:api/backtests@0.1.0" "read-backtest" (func $read (param i32 i32 i32 i32)))"#,
        "(call $read (i32.const 1) (i32.const 4096) (i32.const 4) (i32.const 2048))",
        answer(),
        bench::backtest,
    );
    let chart: Bridge<Chart> = Bridge::new::<(ChartRequest,)>(
        "read-backtest-chart",
        r#"(import "quantconnect:api/backtests@0.1.0" "read-backtest-chart" (func $read (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#,
        "(call $read (i32.const 1) (i32.const 4096) (i32.const 4) (i32.const 4096) (i32.const 4) (i32.const 500) (i32.const 0) (i32.const 1) (i32.const 2048))",
        points(),
        bench::chart,
    );
    let side = std::env::args().nth(1).unwrap_or_default();
    // `cargo bench -- adapter` runs one side forever, for a profiler.
    while let "adapter" | "made" = side.as_str() {
        if side == "adapter" {
            backtest.adapter();
            chart.adapter();
        } else {
            backtest.made();
            chart.made();
        }
    }
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "bridge");
    let (one, one_floor) = backtest.measure();
    let (two, two_floor) = chart.measure();
    let target = Target::Ratio(2.5);
    report.row(
        "adapter: read-backtest and its chart of 500 points",
        "µs",
        one + two,
        Some(one_floor + two_floor),
        target,
    );
    report.row("adapter: read-backtest", "µs", one, Some(one_floor), target);
    report.row(
        "adapter: chart of 500 points",
        "µs",
        two,
        Some(two_floor),
        Target::None,
    );

    let mut criterion = Criterion::default().configure_from_args();
    backtest.criterion(&mut criterion, "read-backtest");
    chart.criterion(&mut criterion, "chart");
    criterion.final_summary();
}

#[derive(wasmtime::component::ComponentType, Lift)]
#[component(record)]
#[allow(dead_code, reason = "what a guest sends is lifted and not looked at")]
struct ChartRequest {
    #[component(name = "project-id")]
    project_id: u32,
    #[component(name = "backtest-id")]
    backtest_id: String,
    name: String,
    count: u32,
    start: u32,
    end: u32,
}

/// A guest that calls a function `CALLS` times; what it is given each time lies where the last answer lay.
fn guest(core: &str, call: &str) -> Vec<u8> {
    Guest::often(u32::try_from(CALLS).unwrap(), call)
        .import("import quantconnect:api/backtests@0.1.0;", core)
        .more("(data (i32.const 4096) \"b1b1\")")
        .build()
}

/// An answer of `read-backtest` as the emulator gives it: the performance in full, ten trades.
fn answer() -> Value {
    serde_json::from_str(include_str!("backtest.json")).unwrap()
}

/// An answer of `read-backtest-chart` with one series of 500 points.
fn points() -> Value {
    let values: Vec<_> = (0..500)
        .map(|at| {
            json!([
                1_515_024_000 + at * 86_400,
                100_000.25 + f64::from(at) * 12.5
            ])
        })
        .collect();
    let series =
        json!({ "name": "Equity", "unit": "$", "index": 0, "seriesType": 0, "values": values });
    json!({ "chart": { "name": "Strategy Equity", "chartType": 0, "series": { "Equity": series } }, "success": true, "errors": [] })
}
