//! Real time and real threads: a busy plugin beside a slow one, and calls given up at random.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qchost_traffic::{AccountLimits, AccountQueues, Priority};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

const TEN_SECONDS: Duration = Duration::from_secs(10);

fn queues(
    accounts: &[&str],
    per_minute: Option<u32>,
    in_flight: Option<u32>,
) -> Arc<AccountQueues> {
    let limit = |number: u32| NonZeroU32::new(number).unwrap();
    let limits = AccountLimits {
        per_minute: per_minute.map(limit),
        in_flight: in_flight.map(limit),
    };
    let named = accounts
        .iter()
        .map(|account| ((*account).to_owned(), limits));
    Arc::new(AccountQueues::new(named))
}

/// Asks again as soon as it may, with as many tasks as that.
fn ask_always(
    queues: &Arc<AccountQueues>,
    account: &'static str,
    plugin: &'static str,
    tasks: u32,
) -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    for _ in 0..tasks {
        let (queues, count) = (queues.clone(), count.clone());
        tokio::spawn(async move {
            loop {
                let admission = queues.admit(account, plugin, Priority::Normal).await;
                count.fetch_add(1, Ordering::SeqCst);
                drop(admission.unwrap());
            }
        });
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_plugin_leaves_a_slower_one_its_share() {
    // Ten calls a second: the share of each of two is five.
    let queues = queues(&["one by one", "rare"], Some(600), None);
    // The first second's worth is gone before the busy one meets the slow one.
    let busy = ["one by one", "rare"].map(|account| ask_always(&queues, account, "busy", 64));
    sleep(Duration::from_millis(500)).await;
    let before: Vec<_> = busy
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .collect();
    let begun = Instant::now();
    // On one account it asks for the next call when the last one was answered, which takes a
    // moment; on the other for three a second, less than its share.
    let one_by_one = {
        let queues = queues.clone();
        async move {
            let mut count = 0_u32;
            while begun.elapsed() < TEN_SECONDS {
                let waiting_call = queues.admit("one by one", "slow", Priority::Normal);
                drop(waiting_call.await.unwrap());
                count += 1;
                sleep(Duration::from_millis(10)).await;
            }
            count
        }
    };
    let rare = {
        let queues = queues.clone();
        async move {
            let mut count = 0_u32;
            let mut ticks = interval(Duration::from_millis(333));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while begun.elapsed() < TEN_SECONDS {
                ticks.tick().await;
                drop(
                    queues
                        .admit("rare", "slow", Priority::Normal)
                        .await
                        .unwrap(),
                );
                count += 1;
            }
            count
        }
    };
    let (slow, rare) = tokio::join!(one_by_one, rare);
    let seconds = begun.elapsed().as_secs_f64();
    let went: Vec<_> = busy
        .iter()
        .zip(before)
        .map(|(count, before)| count.load(Ordering::SeqCst) - before)
        .collect();
    let share = f64::from(went[0] + slow) / 2.0;
    assert!(
        (f64::from(slow) - share).abs() <= share / 10.0,
        "{slow} of {} calls",
        went[0] + slow
    );
    let asked = seconds * 3.0;
    assert!(f64::from(rare) >= asked * 0.9, "{rare} of {asked} calls");
    // What the slow one leaves is not wasted, and the limit holds.
    for (account, sum) in [went[0] + slow, went[1] + rare].into_iter().enumerate() {
        let most = seconds * 10.0;
        assert!(
            (most * 0.9..=most + 11.0).contains(&f64::from(sum)),
            "{sum} of {most} on account {account}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_given_up_at_random_lose_no_admission() {
    const IN_FLIGHT: u32 = 3;
    let queues = queues(&["a"], None, Some(IN_FLIGHT));
    let running = Arc::new(AtomicU32::new(0));
    let (went, given_up) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = Vec::new();
    for task in 0..24 {
        let queues = queues.clone();
        let (running, went, given_up) = (running.clone(), went.clone(), given_up.clone());
        tasks.push(tokio::spawn(async move {
            let plugin = ["x", "y", "z"][task % 3];
            for _ in 0..200 {
                let given_up_after = Duration::from_micros(fastrand::u64(0..3_000));
                let waiting_call = queues.admit("a", plugin, Priority::Normal);
                let Ok(entered) = timeout(given_up_after, waiting_call).await else {
                    given_up.fetch_add(1, Ordering::SeqCst);
                    continue;
                };
                let _admission = entered.unwrap();
                assert!(running.fetch_add(1, Ordering::SeqCst) < IN_FLIGHT);
                if fastrand::bool() {
                    tokio::task::yield_now().await;
                } else {
                    sleep(Duration::from_micros(fastrand::u64(0..500))).await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                went.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let all = async {
        for task in tasks {
            task.await.unwrap();
        }
    };
    timeout(Duration::from_secs(60), all)
        .await
        .expect("a call waits forever");
    let (went, given_up) = (went.load(Ordering::SeqCst), given_up.load(Ordering::SeqCst));
    assert!(
        went > 100 && given_up > 100,
        "{went} went, {given_up} did not"
    );
    // The whole limit is there.
    let mut held = Vec::new();
    for _ in 0..IN_FLIGHT {
        let waiting_call = queues.admit("a", "x", Priority::Normal);
        let entered = timeout(Duration::from_secs(10), waiting_call).await;
        held.push(entered.expect("an admission was lost").unwrap());
    }
    let one_more = queues.admit("a", "x", Priority::Normal);
    assert!(timeout(Duration::from_millis(100), one_more).await.is_err());
}
