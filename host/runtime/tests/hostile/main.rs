//! Hostile plugins: what each file of `tricks/` tries does not work, does not affect plugins beside it, and
//! leaves nothing behind in the host.
//!
//! How a file is read stands in `trick.rs`. All of them run one after the other in one host, in
//! rounds: the first ones fill what is filled once (pools, caches, what the allocator keeps for each
//! thread). Then there are two more, of which the last must leave nothing behind that the first had
//! not left. A plugin that behaves is called all the while.
//!
//! `QCHOST_ROUNDS` is how many rounds there are besides; none without it. `QCHOST_TRICK` leaves
//! only the tricks with that in their names. `QCHOST_STRICT` asserts the strict bounds of the
//! neighbour's latency, which a build without optimisation on a busy machine does not keep, and leaves
//! the latencies for the report of the benchmarks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod heap;
mod neighbour;
mod trick;

use qchost_gate::PluginCalls as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use neighbour::{Calls, Neighbour};
use qchost_ledger::Ledger;
use qchost_runtime::Progress;
use qchost_testing::report::{Report, Target};
use qchost_testing::{Gated, Guest, Host, Scripted};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use trick::{At, Trick};

/// Bytes, besides a twentieth, by which the resident memory may differ after a round: what the
/// allocator keeps varies.
const MAX_GROWTH: u64 = 8 << 20;
/// Maximum allocated bytes that a round of more than a hundred tricks may leave behind.
const MAX_LEFT: usize = 256 << 10;
/// Maximum allocated bytes during a trick: what several plugins may pass to the host at a time, and the
/// largest component with its compiled code.
const MAX_PEAK: usize = 192 << 20;
/// Time limit of a trick, from its load to its end.
const TRICK_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of rounds that may leave the host larger; a leak does so in each.
const MAX_GROWING_ROUNDS: u32 = 5;
/// Bytes of memory of all plugins together.
const MEMORY: u64 = 512 << 20;
/// Invocations at a time.
const INVOCATIONS: u32 = 16;
/// The longest error that a user has to read, in bytes.
const MAX_ERROR: usize = 4300;

/// Every file of `tricks/`; one that cannot be read as a trick fails.
fn tricks() -> Vec<Trick> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/tricks");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let only = std::env::var("QCHOST_TRICK").unwrap_or_default();
    let mut tricks = Vec::new();
    let mut wrong = Vec::new();
    for file in files {
        assert!(file.extension().is_some_and(|it| it == "wat"), "{file:?}");
        let name = file.file_stem().unwrap().to_str().unwrap();
        if !name.contains(&only) {
            continue;
        }
        match Trick::parse(name, &std::fs::read_to_string(&file).unwrap()) {
            Ok(trick) => tricks.push(trick),
            Err(why) => wrong.push(format!("{name}.wat: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    tricks
}

/// A connection where a compile never ends. Nothing else is sent.
fn cloud() -> Scripted {
    Scripted::new(|sent| {
        let compile = json!({ "projectId": 7, "compileId": "c", "state": "InQueue", "logs": [] });
        assert!(sent.tool.ends_with("_compile"), "{sent:?}");
        (Duration::ZERO, Ok(compile))
    })
}

/// Loads a trick under these names, has each do what it does and takes them away. The error is how the
/// end differs from what is expected.
async fn attempt(host: &Arc<Host>, trick: &Trick, names: &[String]) -> Result<(), String> {
    let mut plugins = Vec::new();
    for name in names {
        let loaded = host.load(name, &trick.component, &trick.manifest).await;
        match (loaded, trick.at) {
            (Err(error), At::Load) => return expect(trick, &error.to_string()),
            (Err(error), _) => return Err(format!("it does not load: {error}")),
            (Ok(_), At::Load) => return Err("it loads".to_owned()),
            (Ok(plugin), _) => plugins.push(plugin),
        }
    }
    let action = plugins[0].description().actions[0].name.clone();
    let runs: Vec<_> = names
        .iter()
        .flat_map(|name| std::iter::repeat_n(name, trick.at_once))
        .map(|name| {
            let (host, name) = (Arc::clone(host), name.clone());
            let (action, input) = (action.clone(), trick.input.clone());
            tokio::spawn(
                async move { host.runtime.invoke(&name, &action, input, None, None).await },
            )
        })
        .collect();
    for run in runs {
        match (run.await.map_err(|error| error.to_string())?, trick.at) {
            (Err(error), At::Invoke) => expect(trick, &error.to_string())?,
            (Ok(output), At::Fine) => {
                let expected: Value = serde_json::from_str(&trick.expect)
                    .map_err(|error| format!("what it expects is not JSON: {error}"))?;
                if output != expected {
                    return Err(format!("its output is {output}"));
                }
            }
            (Err(error), _) => return Err(format!("it fails: {error}")),
            (Ok(output), _) => return Err(format!("it succeeds: {output}")),
        }
    }
    for name in names {
        match host.runtime.standing(name) {
            Some(it) if (it.running, it.waiting, it.draining) == (0, 0, 0) => {}
            other => return Err(format!("its turns do not come back: {other:?}")),
        }
    }
    // Its description is the one from its first load.
    let again = format!("{}-again", names[0]);
    let loaded = host.load(&again, &trick.component, &trick.manifest).await;
    let loaded = loaded.map_err(|error| format!("it does not load again: {error}"))?;
    if loaded.description() != plugins[0].description() {
        return Err("it describes itself differently".to_owned());
    }
    host.runtime.unload(&again);
    for name in names {
        host.runtime.unload(name);
    }
    Ok(())
}

/// Checks what a user gets to read.
fn expect(trick: &Trick, error: &str) -> Result<(), String> {
    if !error.contains(&trick.expect) {
        return Err(format!("its error is: {error}"));
    }
    if error.len() > MAX_ERROR {
        return Err(format!("its error has {} bytes: {error}", error.len()));
    }
    // Line breaks only in the lines for a manifest.
    let (error, _lines) = error
        .split_once(" add to the manifest")
        .unwrap_or((error, ""));
    if error.chars().any(char::is_control) {
        return Err(format!("its error has control characters: {error:?}"));
    }
    Ok(())
}

/// A trick that was tried, and when.
struct Tried {
    name: String,
    begun: Instant,
    ended: Instant,
}

/// The results of the tricks so far.
#[derive(Default)]
struct Outcomes {
    tried: Vec<Tried>,
    /// A line each.
    wrong: Vec<String>,
}

/// All tricks, one after the other.
async fn round(host: &Arc<Host>, tricks: &[Trick], number: u32, outcomes: &mut Outcomes) {
    for trick in tricks {
        let names: Vec<_> = (0..trick.plugins)
            .map(|at| format!("{}-{number}-{at}", trick.name))
            .collect();
        heap::most();
        let (begun, before) = (Instant::now(), heap::allocated());
        let outcome = tokio::time::timeout(TRICK_TIMEOUT, attempt(host, trick, &names)).await;
        let (ended, peak) = (Instant::now(), heap::most().saturating_sub(before));
        let took = ended.duration_since(begun);
        println!("{took:>8.1?} {peak:>10} {}: {}", trick.name, trick.title);
        let (said, expected) = (&trick.title, &trick.expect);
        let outcome = outcome.unwrap_or_else(|_| Err("it hangs".to_owned()));
        let outcome = outcome.and_then(|()| {
            let fits = peak <= MAX_PEAK;
            fits.then_some(())
                .ok_or_else(|| format!("the host is larger by {peak} bytes while it lasts"))
        });
        if let Err(why) = outcome {
            outcomes.wrong.push(format!(
                "{} ({said})\n  expected {:?}: {expected}\n  but {why}",
                trick.name, trick.at
            ));
        }
        outcomes.tried.push(Tried {
            name: trick.name.clone(),
            begun,
            ended,
        });
        for name in names {
            if host.runtime.plugin(&name).is_some() {
                host.runtime.unload(&name);
            }
        }
    }
}

/// How late an answer to the neighbour may be.
struct Bounds {
    /// The 99th percentile, beyond that of the neighbour alone.
    more: Duration,
    /// The latest answer of all during one trick.
    longest: Duration,
}

impl Bounds {
    const STRICT: Self = Self {
        more: Duration::from_millis(4),
        longest: Duration::from_millis(100),
    };
    const USUAL: Self = Self {
        more: Duration::from_millis(500),
        longest: Duration::from_secs(5),
    };

    /// Asserts them, and that every answer was right.
    fn hold(&self, alone: &Calls, beside: &Calls, tried: &[Tried]) {
        assert_eq!(alone.wrong, [""; 0]);
        assert_eq!(beside.wrong, [""; 0]);
        assert!(beside.count() > 100, "{beside}");
        assert!(
            beside.quantile(0.99) <= alone.quantile(0.99) + self.more,
            "{alone}; {beside}"
        );
        let late: Vec<_> = tried
            .iter()
            .map(|trick| (&trick.name, beside.longest(trick.begun, trick.ended)))
            .filter(|(_, longest)| *longest > self.longest)
            .collect();
        assert!(late.is_empty(), "the latest answers during {late:?}");
    }
}

/// Leaves what was measured for the report of the benchmarks.
fn report(alone: &Calls, beside: &Calls) {
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "hostile");
    let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
    let what = format!("a well-behaved plugin, a call each {:?}", neighbour::PERIOD);
    let before = millis(alone.quantile(0.99));
    let most = before + millis(Bounds::STRICT.more);
    let p99 = millis(beside.quantile(0.99));
    report.row(
        &format!("{what}: latency beside hostile ones, against alone, p99"),
        "ms",
        p99,
        Some(before),
        Target::Most((most * 100.0).round() / 100.0),
    );
    report.row(
        &format!("{what}: latency beside hostile ones, the longest"),
        "ms",
        millis(beside.quantile(1.0)),
        Some(millis(alone.quantile(1.0))),
        Target::Most(millis(Bounds::STRICT.longest)),
    );
}

/// One test at a time: what a process has in memory is of all its tests.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What this process has in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

/// After all tricks, one plugin can still use half of the memory, to the last byte, and the maximum number
/// of invocations can still run.
async fn everything_is_free(host: &Arc<Host>) {
    let grow = Guest::new(
        "(if (i32.eq (memory.grow (i32.sub (i32.const 4096) (memory.size))) (i32.const -1))
           (then unreachable))
         (call $digit (i32.const 1))",
    );
    host.load("large", &grow.build(), "[limits]\nmemory = \"256MiB\"")
        .await
        .unwrap();
    let output = host.runtime.invoke("large", "act", json!({}), None, None);
    assert_eq!(output.await, Ok(json!(1)), "the memory came back");

    // An admission would be kept free for each idle plugin.
    host.runtime.unload("large");
    host.runtime.unload("neighbour");
    let waits = Guest::waiting("(call $digit (i32.const 1))");
    let lines = "[limits]\nconcurrency = 64\nmemory = \"16MiB\"\ncpu = \"60s\"";
    host.load("waits", &waits.build(), lines).await.unwrap();
    let runs: Vec<_> = (0..INVOCATIONS)
        .map(|_| {
            let (begun, begins) = watch::channel(Progress::default());
            let host = Arc::clone(host);
            let run = tokio::spawn(async move {
                let runtime = &host.runtime;
                runtime
                    .invoke("waits", "act", json!({}), None, Some(begun))
                    .await
            });
            (run, begins)
        })
        .collect();
    let mut ends = Vec::new();
    for (run, mut begins) in runs {
        let begun = begins.wait_for(|progress| progress.fraction > 0.0);
        let begun = tokio::time::timeout(TRICK_TIMEOUT, begun).await;
        begun.expect("every turn is free").unwrap();
        ends.push(run);
    }
    host.gate.state().set("waits", "go", b"now").unwrap();
    for run in ends {
        assert_eq!(run.await.unwrap(), Ok(json!(1)));
    }
}

/// The memory of a plugin is returned to the machine when its invocation ends, not some time later:
/// otherwise a limit on all memory would not hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_comes_back_when_an_invocation_ends() {
    const MUCH: u64 = 192 << 20;
    let _alone = ALONE.lock().await;
    let upstream = cloud();
    let host = Arc::new(Host::new(&upstream).await);
    let fills = Guest::new(
        "(drop (memory.grow (i32.const 3000)))
         (memory.fill (i32.const 65536) (i32.const 1) (i32.const 190000000))
         (call $digit (i32.const 1))",
    );
    let lines = "[limits]\nmemory = \"192MiB\"";
    host.load("fills", &fills.build(), lines).await.unwrap();
    let before = resident();
    for _ in 0..6 {
        let host = Arc::clone(&host);
        let run = tokio::spawn(async move {
            let runtime = &host.runtime;
            runtime.invoke("fills", "act", json!({}), None, None).await
        });
        assert_eq!(run.await.unwrap(), Ok(json!(1)));
    }
    let left = resident().saturating_sub(before);
    assert!(left < MUCH, "{left} bytes are left of six invocations");
}

/// A runtime as in production: two threads for everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_hostile_plugins_is_as_good_as_one_without() {
    let _alone = ALONE.lock().await;
    let tricks = tricks();
    let rounds: u32 = std::env::var("QCHOST_ROUNDS").map_or(0, |rounds| rounds.parse().unwrap());
    // Its state on the disk, as in production.
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("ledger")).unwrap();
    let gated = Gated::with(cloud(), |options| options.ledger = ledger);
    let host = Arc::new(Host::behind(gated.await, |options| {
        options.invocations = INVOCATIONS;
        options.memory = MEMORY;
        // Enough that a trick that takes memory is ended by that first, on a slow machine too.
        options.compile_cpu = Duration::from_secs(5);
        options.compile_memory = 400 << 20;
    }));
    let echo = Guest::echo().build();
    host.load("neighbour", &echo, "").await.unwrap();

    let neighbour = Neighbour::call(&host);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let alone = neighbour.end();

    // How many tenants and codes it has, and what its plugins have of the memory.
    let quiet = format!("{:?}", host.runtime);
    let neighbour = Neighbour::call(&host);
    let begun = Instant::now();
    let mut outcomes = Outcomes::default();
    let more = |after, before| after > before + before / 20 + MAX_GROWTH;
    let (mut number, mut before, mut after) = (0, 0, resident());
    while more(after, before) {
        assert!(
            number < MAX_GROWING_ROUNDS,
            "the host grows with each round"
        );
        number += 1;
        before = after;
        round(&host, &tricks, number, &mut outcomes).await;
        after = resident();
        println!("{after} bytes are resident after round {number}");
    }
    let mut sizes = Vec::new();
    for number in number + 1..=number + 2 + rounds {
        round(&host, &tricks, number, &mut outcomes).await;
        let (resident, allocated) = (resident(), heap::allocated());
        println!("{resident} bytes are resident and {allocated} allocated after round {number}");
        sizes.push((resident, allocated));
    }
    let took = begun.elapsed();
    let beside = neighbour.end();

    println!(
        "{} tricks, {number} rounds and 2 and {rounds} in {took:.1?}",
        tricks.len()
    );
    println!("a neighbour alone:       {alone}");
    println!("beside hostile plugins:  {beside}");
    let bounds = if std::env::var_os("QCHOST_STRICT").is_some() {
        report(&alone, &beside);
        Bounds::STRICT
    } else {
        Bounds::USUAL
    };
    let Outcomes { tried, wrong } = outcomes;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bounds.hold(&alone, &beside, &tried);
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    let grown = (sizes.len() - 1) * MAX_LEFT;
    assert!(last.1 <= first.1 + grown, "allocated: {sizes:?}");
    let grown = u64::from(rounds + 1) * (first.0 / 20 + MAX_GROWTH);
    assert!(last.0 <= first.0 + grown, "resident: {sizes:?}");
    assert_eq!(format!("{:?}", host.runtime), quiet);
    everything_is_free(&host).await;
}
