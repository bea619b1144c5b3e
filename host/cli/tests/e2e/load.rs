//! No call is dropped while code changes, and a hundred plugins that change at once are compiled two at a
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qchost_emulator::{Fault, FaultKind};
use serde_json::json;

use crate::guests::{bad, marked, version, worker};
use crate::process::{command_line, tree, wait_until};
use crate::running::{GRANT, Running, plugin, replace};
use crate::socket::Answer;
use crate::steady::{CLIENTS, Sample, Steady, latencies, resident};

/// How long a version serves before the next one is put in place.
const SERVES: Duration = Duration::from_millis(120);
/// Minimum number of invocations that are answered meanwhile, on any machine.
const ALONE: usize = 20;
/// How long a call of the slow action takes: longer than a version serves.
const SLOW: Duration = Duration::from_millis(300);
/// Reloads of each version before memory is measured for the first time.
const WARM: usize = 3;

/// Reloads, invocations a second, how many of a hundred of them must have been made, and bad files: the long form by
/// `make soak`; otherwise a short one, on a machine that may have other things to do.
fn form() -> (usize, u64, u64, usize) {
    match std::env::var("QCHOST_RELOADS") {
        Ok(reloads) => (reloads.parse().unwrap(), 530, 95, 10),
        Err(_) => (12, 100, 50, 3),
    }
}

/// A version that was put in place.
struct Swap {
    renamed: Instant,
    /// When its first answer was there.
    seen: Instant,
    number: u32,
}

#[test]
fn no_call_is_dropped_while_versions_and_bad_files_alternate() {
    let (reloads, rate, share, bads) = form();
    let call = ("read_account", Some("{}"));
    let versions = [worker(1, call), worker(2, call)];
    let bad = bad();
    let bad: Vec<_> = bad.iter().step_by(bad.len() / bads).take(bads).collect();
    let lines = format!("{GRANT}[limits]\nconcurrency = 64\n");
    let running = Running::start(
        "limits = { research = { per-minute = 100000 } }",
        |folder| {
            plugin(folder, "lab", &versions[0], &lines);
        },
    );
    let latency = FaultKind::Latency(SLOW);
    running
        .cloud
        .emulator()
        .set_faults(vec![Fault::at("/account/read", latency)]);
    let component = running.path("builds/lab.wasm");
    let process = running.host.id();

    let refuse = |(words, bytes): &(&str, Vec<u8>)| {
        replace(&component, bytes);
        running.until_reason("lab", words);
    };

    // Memory that is taken once and kept: for every bad file, for both versions, and for the largest number
    // of instances that the load can have at a time.
    bad.iter().for_each(|bad| refuse(bad));
    for number in [2, 1].repeat(WARM) {
        replace(&component, &versions[usize::from(number == 2)]);
        running.until_version("lab", number);
        burst(&running);
    }
    let before = settled(process);

    let begun = Instant::now();
    let load = Steady::start(&running.control, "lab", rate, 20);
    let mut swaps = vec![Swap {
        renamed: begun,
        seen: begun,
        number: 1,
    }];
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    for reload in 1..=reloads {
        if reload % (reloads / bads) == 0 && refused < bads {
            refuse(bad[refused]);
            refused += 1;
        }
        let number = u32::try_from(reload % 2).unwrap() + 1;
        let renamed = Instant::now();
        replace(&component, &versions[usize::from(number == 2)]);
        slowest = slowest.max(running.until_version("lab", number));
        let seen = Instant::now();
        swaps.push(Swap {
            renamed,
            seen,
            number,
        });
        let answered = load.answered();
        wait_until("some more are answered", || {
            (seen.elapsed() >= SERVES && load.answered() >= answered + ALONE).then_some(())
        });
    }
    assert_eq!(running.until_status("lab", "ready"), "");
    let (samples, lasted) = load.stop();
    let after = settled(process);

    let decided = samples.iter().filter(|sample| from_one(sample, &swaps));
    let decided = decided.count();
    let made = u64::try_from(samples.len()).unwrap();
    let [fast, slow] = [false, true].map(|slow| {
        let of_kind = samples.iter().filter(|sample| sample.slow == slow);
        latencies(&of_kind.cloned().collect::<Vec<_>>())
    });
    eprintln!(
        "{made} invocations in {lasted:?}, {} reloads (slowest {slowest:?}), {refused} bad files; due to answer {fast:?}, \
         slow ones {slow:?}; resident {before} KiB, then {after} KiB",
        swaps.len() - 1
    );
    assert_eq!(refused, bads);
    // Many were sent and answered while only one version could answer.
    assert!(decided >= reloads * ALONE / 2, "{decided} of {made}");
    // The load had the intended rate.
    let due = lasted.as_secs() * rate;
    assert!(made * 100 >= due * share, "{made} of {due} were made");
    assert!(
        after * 100 <= before * 105,
        "the host's memory grew from {before} to {after} KiB"
    );
    running.end();
}

/// Runs more instances at a time than the load ever does.
fn burst(running: &Running) {
    let invocations = (0..CLIENTS * 3 / 2).map(|_| {
        let control = running.control.clone();
        std::thread::spawn(move || control.invoke("lab.slow", &json!({})))
    });
    for invocation in invocations.collect::<Vec<_>>() {
        assert!(matches!(invocation.join().unwrap(), Answer::Done(_)));
    }
}

/// Checks that an answer is from a version that served between request and answer; returns whether there was
/// only one.
fn from_one(sample: &Sample, swaps: &[Swap]) -> bool {
    let possible: Vec<u32> = swaps
        .iter()
        .enumerate()
        .filter(|(at, swap)| {
            let over = swaps
                .get(at + 1)
                .is_some_and(|next| next.seen < sample.sent);
            swap.renamed <= sample.answered && !over
        })
        .map(|(_, swap)| swap.number)
        .collect();
    let fits = |number: &u32| sample.answer == Answer::Done(json!(number));
    assert!(
        possible.iter().any(fits),
        "{sample:?} is from none of {possible:?}"
    );
    possible.len() == 1
}

/// Memory of a process, the minimum over a while: memory of invocations is released.
fn settled(process: u32) -> u64 {
    let looks = (0..20).map(|_| {
        std::thread::sleep(Duration::from_millis(25));
        resident(process)
    });
    looks.min().unwrap()
}

/// Number of plugins that change at once.
const MANY: usize = 100;
/// Maximum number of compilers at a time.
const COMPILERS: usize = 2;
/// Allowed growth of the host's memory, in KiB: old and new code of a hundred small plugins, and reading it.
const GROWTH: u64 = 96 << 10;

#[test]
fn a_hundred_plugins_that_change_at_once_are_compiled_a_few_at_a_time() {
    let names: Vec<String> = (0..MANY).map(|number| format!("p{number}")).collect();
    let running = Running::start("", |folder| {
        plugin(folder, "neighbour", &version(7), "");
        for name in &names {
            plugin(folder, name, &marked(1, &format!("{name}-1")), "");
        }
    });
    let host = running.host.id();
    let (before, ended) = (resident(host), Arc::new(AtomicBool::new(false)));
    let watched = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let (mut compilers, mut memory) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let of_it = tree(host).into_iter();
                let compile = |process: &u32| command_line(*process).contains("compile-component");
                compilers = compilers.max(of_it.filter(compile).count());
                memory = memory.max(resident(host));
                std::thread::sleep(Duration::from_millis(2));
            }
            (compilers, memory)
        }
    });
    let load = Steady::start(&running.control, "neighbour", 20, 0);
    let next: Vec<Vec<u8>> = names
        .iter()
        .map(|name| marked(2, &format!("{name}-2")))
        .collect();
    let begun = Instant::now();
    for (name, bytes) in names.iter().zip(&next) {
        replace(&running.path(&format!("builds/{name}.wasm")), bytes);
    }
    for name in &names {
        running.until_version(name, 2);
    }
    let took = begun.elapsed();
    ended.store(true, Ordering::Relaxed);
    let (compilers, memory) = watched.join().unwrap();
    let (samples, _) = load.stop();
    let neighbour = latencies(&samples);
    eprintln!(
        "{MANY} plugins in {took:?}, at most {compilers} compilers; resident {before} KiB, at most {memory} KiB; the \
         neighbour answers in {neighbour:?}"
    );
    assert!(
        (1..=COMPILERS).contains(&compilers),
        "{compilers} compilers at a time"
    );
    assert!(
        memory <= before + GROWTH,
        "the host's memory grew from {before} to {memory} KiB"
    );
    for sample in &samples {
        assert_eq!(sample.answer, Answer::Done(json!(7)), "{sample:?}");
    }
    assert!(neighbour[2] < Duration::from_secs(5), "{neighbour:?}");
    wait_until("the compilers have ended", || {
        (tree(host).len() == 1).then_some(())
    });
    running.end();
}
