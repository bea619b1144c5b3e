//! Durable reservations a second with 64 in flight, beside what the disk itself does.
//!
//! The floor is one `write` of a page and one `fdatasync` after another, as one caller alone could do at best. What is
//! beyond it comes from grouping.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use qchost_ledger::{Charge, Ledger, NewReservation, Settlement};

const IN_FLIGHT: usize = 64;
const FOR: Duration = Duration::from_secs(5);

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let raw = raw_syncs(&folder.path().join("raw"));
    println!("write + fdatasync, one after another: {raw:>9.0} /s");
    for (name, charges, settle) in [
        ("begin, 1 grant", 1, false),
        ("begin, 3 grants", 3, false),
        ("begin and commit, 1 grant", 1, true),
    ] {
        let ledger = Ledger::open(&folder.path().join(format!("{name}.db"))).expect("a ledger");
        let (rate, mut times) = runtime.block_on(begins(&ledger, charges, settle));
        times.sort();
        let at = |part: usize| {
            times
                .get(times.len() * part / 100)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{name}: {rate:>9.0} /s at {IN_FLIGHT} in flight, p50 {:?}, p99 {:?}, {:.1} times the floor",
            at(50),
            at(99),
            rate / raw
        );
    }
    let ledger = Ledger::open(&folder.path().join("reads.db")).expect("a ledger");
    let mut times = runtime.block_on(counted_reads(&ledger));
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let mean = FOR / u32::try_from(times.len()).expect("a number");
    println!("read counted against a day, one task: p50 {median:?}, mean {mean:?}");
}

fn raw_syncs(path: &Path) -> f64 {
    let mut file = File::create(path).expect("a file");
    let page = [7; 4096];
    let start = Instant::now();
    let mut done = 0_u32;
    while start.elapsed() < FOR {
        file.write_all(&page).expect("a write");
        file.sync_data().expect("a sync");
        done += 1;
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}

async fn begins(ledger: &Ledger, charges: usize, settle: bool) -> (f64, Vec<Duration>) {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..IN_FLIGHT {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < FOR {
                let began = Instant::now();
                let charges = (0..charges).map(|grant| Charge {
                    grant: format!("grant-{grant}"),
                    per_day: Some(u32::MAX),
                    cost: 1,
                    cost_per_day: Some(u64::MAX),
                });
                let reservation = ledger
                    .begin(NewReservation {
                        call: format!("{task}-{}", times.len()),
                        account: "research".to_owned(),
                        plugin: format!("plugin-{}", task % 8),
                        now: 1_700_000_000_000,
                        charges: charges.collect(),
                        permit: None,
                    })
                    .await
                    .expect("a reservation");
                if settle {
                    ledger
                        .settle(reservation, Settlement::Commit)
                        .await
                        .expect("the end");
                }
                times.push(began.elapsed());
            }
            times
        });
    }
    let times = tasks.join_all().await.concat();
    let done = u32::try_from(times.len()).expect("a number");
    (f64::from(done) / start.elapsed().as_secs_f64(), times)
}

async fn counted_reads(ledger: &Ledger) -> Vec<Duration> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < FOR {
        let began = Instant::now();
        ledger
            .count_reads(
                "research",
                "plugin",
                &[("reads", u32::MAX)],
                1_700_000_000_000,
            )
            .await
            .expect("a unit");
        times.push(began.elapsed());
    }
    times
}
