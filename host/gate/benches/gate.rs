//! What the gate costs: a read through it against the same read with its parts off (a task that sends, and
//! one that waits for it), how many durably recorded writes it lets through in a second, and how long it
//! takes to bring changed manifests and guardrails into force. The connection answers at once, so that
//! nothing but the gate is measured.
//!
//! Nothing is remembered between decisions: each call is resolved, decided and recorded by itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::{Call, Target, Upstream as _, always, by_name};
use qchost_gate::Settings;
use qchost_policy::Guardrails;
use qchost_testing::cloud::{Cloud, Handle, Setup, parse};
use serde_json::{Map, Value, json};

const READS: usize = 20_000;
const WRITES: usize = 20_000;
const IN_FLIGHT: usize = 64;
const GRANTS: usize = 100;
const GUARDRAILS: usize = 50;
const PLUGINS: usize = 100;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // In tasks, as plugins' calls are: what waits in `block_on` is woken from another thread.
    runtime.block_on(async {
        tokio::spawn(reads()).await.unwrap();
        tokio::spawn(writes()).await.unwrap();
        tokio::spawn(changes()).await.unwrap();
    });
}

fn setup() -> Setup {
    let mut grants = String::new();
    for number in 0..GRANTS {
        // One of them is for the project that the calls are about.
        let team = if number == GRANTS / 2 {
            "Lab".to_owned()
        } else {
            format!("Team{number}")
        };
        writeln!(
            grants,
            "[[grant]]\nname = \"g{number}\"\nallow = [\"backtests/*\", \"files/*\"]\nprojects = [\"{team}/*\"]"
        )
        .unwrap();
    }
    let mut setup = Setup::grants(&grants);
    setup.guardrails = guardrails("Prod");
    setup
}

/// [`GUARDRAILS`] guardrails against projects of a name.
fn guardrails(name: &str) -> Guardrails {
    let mut rules = String::new();
    for number in 0..GUARDRAILS {
        writeln!(
            rules,
            "@id(\"r{number}\") forbid(principal, action, resource is Project) when {{ resource.name like \"{name}{number}/*\" }};"
        )
        .unwrap();
    }
    Guardrails::read(&[(PathBuf::from("rules.cedar"), rules)]).unwrap()
}

fn arguments() -> Map<String, Value> {
    json!({ "projectId": 1, "backtestId": "b1" })
        .as_object()
        .unwrap()
        .clone()
}

async fn reads() {
    let world = setup().open().await;
    let operation = by_name("backtests/read-backtest").unwrap();
    let floor = Arc::new(Handle(Cloud::new()));
    let (mut with, mut without) = (Vec::with_capacity(READS), Vec::with_capacity(READS));
    // One after the other, so that both see the same machine.
    for _ in 0..READS {
        let begun = Instant::now();
        let arguments = arguments();
        world
            .gate
            .call(&world.principal, operation, arguments)
            .await
            .unwrap();
        with.push(begun.elapsed());
        let begun = Instant::now();
        let connection = Arc::clone(&floor);
        // In a task of its own like the gate's, so that cancelling the caller does not abort the send.
        let sending = tokio::spawn(async move {
            let call = Call {
                account: "a",
                target: Target::Known(operation),
                arguments: self::arguments(),
                deadline: begun + Duration::from_secs(10),
                clearance: always(),
                sends: None,
            };
            connection.call(call).await
        });
        sending.await.unwrap().unwrap();
        without.push(begun.elapsed());
    }
    let (with, without) = (Spread::of(with), Spread::of(without));
    println!(
        "a read, {GRANTS} grants and {GUARDRAILS} guardrails for this operation, one grant for this project"
    );
    println!(
        "  through the gate   p50 {:>9.1?}  p99 {:>9.1?}",
        with.p50, with.p99
    );
    println!(
        "  its parts off      p50 {:>9.1?}  p99 {:>9.1?}",
        without.p50, without.p99
    );
    println!(
        "  the gate costs     p50 {:>9.1?}",
        with.p50.saturating_sub(without.p50)
    );
}

async fn writes() {
    let world = Arc::new(setup().open().await);
    let operation = by_name("files/create-file").unwrap();
    let begun = Instant::now();
    // All of them are begun before the first is waited for.
    let tasks: Vec<_> = (0..IN_FLIGHT).map(|task| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for number in 0..WRITES / IN_FLIGHT {
                let file = json!({ "projectId": 1, "name": format!("f{task}-{number}.py"), "content": "x" });
                let file = file.as_object().unwrap().clone();
                world.gate.call(&world.principal, operation, file).await.unwrap();
            }
        })
    }).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let per_second = WRITES as f64 / begun.elapsed().as_secs_f64();
    world.gate.idle().await;
    let floor = floor_writes(world.folder.path());
    println!("writes, each recorded durably before it is sent, {IN_FLIGHT} in flight");
    println!("  through the gate   {per_second:>9.0} /s");
    println!(
        "  the disk alone     {floor:>9.0} /s   (as many bytes, one sync for {IN_FLIGHT} of them)"
    );
    println!("  ratio              {:>9.2}", per_second / floor);
}

/// Manifests of a usual size: one is loaded after the other, and then the guardrails of all change while a
/// plugin reads.
async fn changes() {
    let setup = setup();
    let settings = setup.settings();
    let world = Arc::new(setup.open().await);
    let mut installs = Vec::with_capacity(PLUGINS);
    for plugin in 0..PLUGINS {
        let mut grants = String::new();
        for (name, allow) in [
            ("read", "\"*\""),
            ("files", "\"projects/*\", \"files/*\", \"compile/*\""),
            ("tests", "\"backtests/*\""),
            ("optimise", "\"optimizations/create-optimization\""),
            ("deploy", "\"live/create-live-algorithm\""),
        ] {
            writeln!(
                grants,
                "[[grant]]\nname = \"{name}\"\nallow = [{allow}]\nprojects = [\"Team{plugin}/*\"]\nbrokerages = [\"paper\"]"
            )
            .unwrap();
        }
        let manifest = Setup::grants(&grants).manifest;
        let manifest = parse(&manifest.replace("\"lab\"\n", &format!("\"p{plugin}\"\n")));
        let begun = Instant::now();
        world.gate.policies.install(manifest).unwrap();
        installs.push(begun.elapsed());
    }
    let changed = Settings {
        guardrails: guardrails("Team"),
        ..settings
    };
    let changing = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let begun = Instant::now();
            world.gate.reconfigurer.reconfigure(changed).await.unwrap();
            begun.elapsed()
        })
    };
    let operation = by_name("backtests/read-backtest").unwrap();
    let mut reads = Vec::new();
    while !changing.is_finished() {
        let begun = Instant::now();
        let answer = world.gate.call(&world.principal, operation, arguments());
        answer.await.unwrap();
        reads.push(begun.elapsed());
    }
    let (installs, reads) = (Spread::of(installs), Spread::of(reads));
    println!("a manifest of 5 grants brought into force, {GUARDRAILS} guardrails");
    println!(
        "  one                p50 {:>9.1?}  p99 {:>9.1?}",
        installs.p50, installs.p99
    );
    println!(
        "  {PLUGINS} of them, under other guardrails at once  {:>9.1?}",
        changing.await.unwrap()
    );
    println!(
        "  a read meanwhile   p50 {:>9.1?}  p99 {:>9.1?}",
        reads.p50, reads.p99
    );
}

/// How many records of the same size the disk takes if it does nothing else.
fn floor_writes(folder: &std::path::Path) -> f64 {
    let mut file = std::fs::File::create(folder.join("floor")).unwrap();
    let group = vec![b'x'; 700 * IN_FLIGHT];
    let begun = Instant::now();
    for _ in 0..WRITES / IN_FLIGHT {
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
    }
    WRITES as f64 / begun.elapsed().as_secs_f64()
}

struct Spread {
    p50: Duration,
    p99: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self {
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
        }
    }
}
