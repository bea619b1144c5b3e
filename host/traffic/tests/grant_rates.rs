//! Calls per second and per minute, over one run and from one run to the next, on a clock of the
//! test's own. The ledger is a real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use qchost_ledger::Ledger;
use qchost_traffic::{GrantKey, GrantRates, Moment, RateError, RateLimits};

/// Some time in 2026, in the middle of a second.
const NOON: i64 = 1_780_000_000_500;

const HOUR: i64 = 3_600_000;

/// A clock that stands still until it is moved.
#[derive(Clone, Copy)]
struct Clock {
    unix_ms: i64,
    steady: Instant,
}

impl Clock {
    fn new() -> Self {
        Self {
            unix_ms: NOON,
            steady: Instant::now(),
        }
    }

    fn now(self) -> Moment {
        Moment {
            unix_ms: self.unix_ms,
            steady: self.steady,
        }
    }

    fn wait(&mut self, millis: u32) {
        self.steady += Duration::from_millis(millis.into());
        self.unix_ms += i64::from(millis);
    }

    /// The machine's clock is set.
    fn set(&mut self, millis: i64) {
        self.unix_ms += millis;
    }
}

async fn in_memory(clock: Clock) -> GrantRates {
    let ledger = Ledger::in_memory().unwrap();
    GrantRates::open(ledger, clock.now()).await.unwrap()
}

async fn open(file: &Path, clock: Clock) -> GrantRates {
    let ledger = Ledger::open(file).unwrap();
    GrantRates::open(ledger, clock.now()).await.unwrap()
}

fn key(grant: &str) -> GrantKey {
    GrantKey::new("research", "lab", grant)
}

fn second(limit: u32) -> RateLimits {
    RateLimits {
        per_second: Some(limit),
        ..RateLimits::default()
    }
}

fn minute(limit: u32) -> RateLimits {
    RateLimits {
        per_minute: Some(limit),
        ..RateLimits::default()
    }
}

/// Whether a call passes; if not, after how long it would.
async fn ask(
    rates: &GrantRates,
    grant: &str,
    limits: RateLimits,
    clock: Clock,
) -> Result<(), Duration> {
    match rates.check(&[(&key(grant), limits)], clock.now()).await {
        Ok(()) => Ok(()),
        Err(RateError::Exceeded { retry_after, .. }) => Err(retry_after),
        Err(error) => panic!("{error}"),
    }
}

/// How many calls pass at one instant.
async fn pass(rates: &GrantRates, grant: &str, limits: RateLimits, clock: Clock) -> u32 {
    let mut passed = 0;
    while ask(rates, grant, limits, clock).await.is_ok() {
        passed += 1;
    }
    passed
}

#[tokio::test]
async fn a_limit_passes_its_number_and_then_one_at_a_time() {
    let mut clock = Clock::new();
    let rates = in_memory(clock).await;
    assert_eq!(pass(&rates, "a", second(5), clock).await, 5);
    let wait = ask(&rates, "a", second(5), clock).await.unwrap_err();
    assert_eq!(wait, Duration::from_millis(200));
    clock.wait(199);
    assert!(ask(&rates, "a", second(5), clock).await.is_err());
    clock.wait(1);
    assert_eq!(pass(&rates, "a", second(5), clock).await, 1);
    clock.wait(10_000);
    assert_eq!(pass(&rates, "a", second(5), clock).await, 5);
    // By the minute as well.
    assert_eq!(pass(&rates, "b", minute(120), clock).await, 120);
    clock.wait(500);
    assert_eq!(pass(&rates, "b", minute(120), clock).await, 1);
    // What has no limit passes always, and what has one of zero never.
    let free = RateLimits::default();
    for _ in 0..10_000 {
        ask(&rates, "free", free, clock).await.unwrap();
    }
    for limits in [second(0), minute(0)] {
        assert!(ask(&rates, "none", limits, clock).await.is_err());
        clock.wait(3_600_000);
    }
}

/// QuantConnect counts 45 calls in half an hour, whenever that begins.
#[tokio::test]
async fn no_half_hour_sees_more_calls_than_its_limit() {
    let mut clock = Clock::new();
    let rates = in_memory(clock).await;
    let limits = RateLimits {
        per_half_hour: Some(45),
        ..RateLimits::default()
    };
    let mut passed: Vec<u64> = Vec::new();
    // As many as possible in three hours, which begin with a full bucket.
    for second in 0..3 * 3_600 {
        while ask(&rates, "logs", limits, clock).await.is_ok() {
            passed.push(second);
        }
        clock.wait(1_000);
    }
    let begun = passed.iter().filter(|at| **at == 0).count();
    assert_eq!(begun, 23, "half of them at once");
    for (first, at) in passed.iter().enumerate() {
        let within = passed.iter().skip(first);
        let within = within.take_while(|later| **later < *at + 1_800).count();
        assert!(within <= 45, "{within} from {at}");
    }
    assert!(passed.len() > 120, "{} in three hours", passed.len());
    let wait = ask(&rates, "logs", limits, clock).await;
    let wait = wait.err().unwrap_or_default();
    assert!(wait < Duration::from_secs(82), "{wait:?}");
}

#[tokio::test]
async fn the_refusal_says_whose_limit_it_is() {
    let clock = Clock::new();
    let rates = in_memory(clock).await;
    let limits = RateLimits {
        per_second: Some(1),
        per_minute: Some(1),
        ..RateLimits::default()
    };
    ask(&rates, "lab-backtests", limits, clock).await.unwrap();
    let wanted = [(&key("lab-backtests"), limits)];
    let refused = rates.check(&wanted, clock.now()).await;
    let told = refused.unwrap_err().to_string();
    // Of the two it is the one that makes the call wait.
    assert_eq!(
        told,
        "grant `lab-backtests` of plugin `lab` allows 1 per minute; retry after 60 s"
    );
}

#[tokio::test]
async fn accounts_plugins_and_grants_are_counted_apart() {
    let clock = Clock::new();
    let rates = in_memory(clock).await;
    for (account, plugin, grant) in [
        ("research", "lab", "a"),
        ("research", "lab", "b"),
        ("research", "bot", "a"),
        ("live", "lab", "a"),
    ] {
        let key = GrantKey::new(account, plugin, grant);
        for passes in [true, false] {
            let checked = rates.check(&[(&key, second(1))], clock.now()).await;
            assert_eq!(checked.is_ok(), passes, "{key:?}");
        }
    }
}

#[tokio::test]
async fn a_call_takes_from_all_its_rates_or_from_none() {
    let mut clock = Clock::new();
    let rates = in_memory(clock).await;
    let both = RateLimits {
        per_second: Some(1),
        per_minute: Some(2),
        ..RateLimits::default()
    };
    ask(&rates, "a", both, clock).await.unwrap();
    // The second refuses these; the minute does not count them.
    assert_eq!(pass(&rates, "a", both, clock).await, 0);
    clock.wait(1_000);
    ask(&rates, "a", both, clock).await.unwrap();
    // The minute refuses these; the second does not count them.
    clock.wait(1_000);
    assert_eq!(pass(&rates, "a", both, clock).await, 0);
    assert_eq!(pass(&rates, "a", second(1), clock).await, 1);
    // Of several grants as well: the first has room, the last has none.
    let (wide, narrow) = (key("wide"), key("narrow"));
    let wanted = [(&wide, minute(3)), (&narrow, minute(1))];
    rates.check(&wanted, clock.now()).await.unwrap();
    for _ in 0..10 {
        rates.check(&wanted, clock.now()).await.unwrap_err();
    }
    assert_eq!(pass(&rates, "wide", minute(3), clock).await, 2);
}

#[tokio::test]
async fn what_is_charged_afterwards_is_waited_for() {
    let mut clock = Clock::new();
    let rates = in_memory(clock).await;
    // One in ten seconds.
    let limits = minute(6);
    assert_eq!(pass(&rates, "a", limits, clock).await, 6);
    for _ in 0..2 {
        rates.charge(&key("a"), limits, clock.now());
    }
    let wait = ask(&rates, "a", limits, clock).await.unwrap_err();
    assert_eq!(wait, Duration::from_secs(30));
    assert_eq!(ask(&rates, "b", limits, clock).await, Ok(()));
    clock.wait(30_000);
    assert_eq!(pass(&rates, "a", limits, clock).await, 1);
}

#[tokio::test]
async fn a_changed_limit_holds_at_once_and_refills_nothing() {
    let mut clock = Clock::new();
    let rates = in_memory(clock).await;
    assert_eq!(pass(&rates, "a", second(10), clock).await, 10);
    for limit in [100, 5, 1_000, 10] {
        assert_eq!(pass(&rates, "a", second(limit), clock).await, 0);
    }
    // Nor does taking the limit away and giving it again.
    ask(&rates, "a", RateLimits::default(), clock)
        .await
        .unwrap();
    assert_eq!(pass(&rates, "a", second(10), clock).await, 0);
    clock.wait(500);
    assert_eq!(pass(&rates, "a", second(100), clock).await, 50);
    clock.wait(100);
    assert_eq!(pass(&rates, "a", second(10), clock).await, 1);
}

#[tokio::test]
async fn a_restart_refills_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger");
    let mut clock = Clock::new();
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "used", second(10), clock).await, 10);
    assert_eq!(pass(&rates, "by-minute", minute(60), clock).await, 60);
    drop(rates);
    // The mark names the end of the second, so that is when the bucket was empty at the latest.
    clock.wait(100);
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "used", second(10), clock).await, 0);
    assert_eq!(pass(&rates, "by-minute", minute(60), clock).await, 0);
    // The twin: what was not used is full.
    assert_eq!(pass(&rates, "unused", second(10), clock).await, 10);
    drop(rates);
    clock.wait(900);
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "used", second(10), clock).await, 5);
    assert_eq!(pass(&rates, "by-minute", minute(60), clock).await, 0);
    clock.wait(30_000);
    assert_eq!(pass(&rates, "by-minute", minute(60), clock).await, 30);
    // Whatever the limit is by now.
    drop(rates);
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "by-minute", minute(6_000), clock).await, 0);
    drop(rates);
    clock.wait(120_000);
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "by-minute", minute(60), clock).await, 60);
}

#[tokio::test]
async fn restarts_one_after_the_other_add_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger");
    let mut clock = Clock::new();
    let mut passed = 0;
    for _ in 0..40 {
        let rates = open(&file, clock).await;
        passed += pass(&rates, "a", second(10), clock).await;
        clock.wait(250);
    }
    // Ten seconds, and the bucket was full once.
    assert!((10..=110).contains(&passed), "{passed}");
}

#[tokio::test]
async fn what_passed_is_in_the_ledger_before_the_call_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger");
    let mut clock = Clock::new();
    let rates = open(&file, clock).await;
    let marks = async |from: &str, to: &str| {
        // What a crash at this instant would leave.
        let copy = folder.path().join(to);
        for end in ["", "-wal"] {
            let name = |file: &str| folder.path().join(format!("{file}{end}"));
            if name(from).exists() {
                std::fs::copy(name(from), name(to)).unwrap();
            }
        }
        let marks = Ledger::open(&copy).unwrap().rate_marks().await.unwrap();
        let mut marks: Vec<_> = marks
            .into_iter()
            .map(|mark| (mark.key, mark.at_ms))
            .collect();
        marks.sort();
        marks
    };
    ask(&rates, "free", RateLimits::default(), clock)
        .await
        .unwrap();
    assert_eq!(marks("ledger", "before").await, []);
    ask(&rates, "a", second(1), clock).await.unwrap();
    let end = NOON + 500;
    assert_eq!(marks("ledger", "first").await, [("lab/a".to_owned(), end)]);
    // A refusal is no use; the next second's call is.
    clock.wait(600);
    ask(&rates, "a", second(1), clock).await.unwrap_err();
    assert_eq!(
        marks("ledger", "refused").await,
        [("lab/a".to_owned(), end)]
    );
    clock.wait(400);
    ask(&rates, "a", second(1), clock).await.unwrap();
    let later = ("lab/a".to_owned(), end + 1_000);
    assert_eq!(marks("ledger", "second").await, [later]);
}

#[tokio::test]
async fn setting_the_clock_refills_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger");
    let mut clock = Clock::new();
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "a", minute(60), clock).await, 60);
    // While the host runs, in either direction and as often as one likes.
    for millis in [-HOUR, 2 * HOUR, -HOUR, 61_000, -61_000] {
        clock.set(millis);
        assert_eq!(pass(&rates, "a", minute(60), clock).await, 0);
    }
    clock.wait(1_000);
    assert_eq!(pass(&rates, "a", minute(60), clock).await, 1);
    // While it is down, backwards: the mark is in the future and counts as of now.
    drop(rates);
    clock.set(-HOUR);
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "a", minute(60), clock).await, 0);
    // Time goes on from there.
    clock.wait(10_000);
    assert_eq!(pass(&rates, "a", minute(60), clock).await, 10);
    drop(rates);
    let rates = open(&file, clock).await;
    assert_eq!(pass(&rates, "a", minute(60), clock).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_one_mark_and_one_limit() {
    let clock = Clock::new();
    let rates = Arc::new(in_memory(clock).await);
    let mut tasks = Vec::new();
    for _ in 0..200 {
        let rates = rates.clone();
        tasks.push(tokio::spawn(async move {
            ask(&rates, "a", second(120), clock).await.is_ok()
        }));
    }
    let mut passed = 0;
    for task in tasks {
        passed += u32::from(task.await.unwrap());
    }
    assert_eq!(passed, 120);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the order of calls: within any time `d`, one bucket and what refills in `d`; and a
    /// call that waits as long as it was told passes.
    #[test]
    fn no_window_sees_more_than_the_bucket_and_its_refill(
        limit in 1_u32..40,
        by_minute in any::<bool>(),
        waits in prop::collection::vec(prop_oneof![3 => 0_u32..3, 2 => 3_u32..300, 1 => 300_u32..70_000], 1..300),
        restarts in prop::collection::vec(0_usize..300, 0..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (limits, period) = match by_minute {
                true => (minute(limit), 60_000_u64),
                false => (second(limit), 1_000),
            };
            let mut clock = Clock::new();
            let begun = clock.steady;
            let ledger = Ledger::in_memory().unwrap();
            let mut rates = GrantRates::open(ledger.clone(), clock.now()).await.unwrap();
            let mut passed: Vec<u64> = Vec::new();
            for (index, wait) in waits.into_iter().enumerate() {
                clock.wait(wait);
                if restarts.contains(&index) {
                    rates = GrantRates::open(ledger.clone(), clock.now()).await.unwrap();
                }
                match ask(&rates, "a", limits, clock).await {
                    Ok(()) => {}
                    Err(wait) => {
                        prop_assert!(wait <= Duration::from_millis(period + 1_000));
                        if index % 7 != 0 {
                            continue;
                        }
                        let wait = u32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap();
                        clock.wait(wait);
                        prop_assert!(ask(&rates, "a", limits, clock).await.is_ok());
                    }
                }
                let now = clock.steady.duration_since(begun).as_millis();
                passed.push(u64::try_from(now).unwrap());
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, until) in passed.iter().enumerate().skip(first) {
                    let most = u64::from(limit) + (until - from) * u64::from(limit) / period;
                    let count = u64::try_from(last - first + 1).unwrap();
                    prop_assert!(count <= most, "{count} in {} ms", until - from);
                }
            }
            Ok(())
        })?;
    }
}
