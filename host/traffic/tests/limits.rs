//! Limits of accounts that change, in simulated time: who waits goes on waiting, and what was counted
//! stays counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use qchost_traffic::{AccountAdmission, AccountLimits, AccountQueues, Priority, QueueFull};
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};

const ACCOUNT: &str = "research";

type Waiting = JoinHandle<Result<AccountAdmission, QueueFull>>;

fn limits(per_minute: u32, in_flight: u32) -> BTreeMap<String, AccountLimits> {
    let limits = AccountLimits {
        per_minute: NonZeroU32::new(per_minute),
        in_flight: NonZeroU32::new(in_flight),
    };
    BTreeMap::from([(ACCOUNT.to_owned(), limits)])
}

fn queues(per_minute: u32, in_flight: u32) -> Arc<AccountQueues> {
    Arc::new(AccountQueues::new(limits(per_minute, in_flight)))
}

/// A call that has come, and had the time to go if it could.
async fn come(queues: &Arc<AccountQueues>, plugin: &'static str) -> Waiting {
    let queues = queues.clone();
    let waiting_call =
        tokio::spawn(async move { queues.admit(ACCOUNT, plugin, Priority::Normal).await });
    settle().await;
    waiting_call
}

async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

async fn admission(waiting_call: Waiting) -> AccountAdmission {
    assert!(waiting_call.is_finished(), "it waits");
    waiting_call.await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn more_at_a_time_let_those_go_that_wait_in_their_order() {
    let queues = queues(0, 1);
    let first = admission(come(&queues, "a").await).await;
    let waiting = [
        come(&queues, "a").await,
        come(&queues, "b").await,
        come(&queues, "a").await,
    ];
    queues.update(limits(0, 3));
    settle().await;
    let [second, third, fourth] = waiting;
    let held = (admission(second).await, admission(third).await);
    assert!(!fourth.is_finished());
    drop(first);
    settle().await;
    let _fourth = admission(fourth).await;
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn fewer_at_a_time_count_what_is_under_way_already() {
    // Without limits at first: it is counted all the same.
    let queues = queues(0, 0);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(admission(come(&queues, "a").await).await);
    }
    queues.update(limits(0, 2));
    let next = come(&queues, "a").await;
    held.pop();
    settle().await;
    assert!(!next.is_finished());
    held.pop();
    settle().await;
    drop(admission(next).await);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_gone_lets_go_and_is_counted_when_it_comes_back() {
    let queues = queues(0, 1);
    let first = admission(come(&queues, "a").await).await;
    let waiting = come(&queues, "a").await;
    assert!(!waiting.is_finished());
    queues.update(BTreeMap::new());
    settle().await;
    let second = admission(waiting).await;
    queues.update(limits(0, 1));
    let third = come(&queues, "a").await;
    drop(first);
    settle().await;
    assert!(!third.is_finished());
    drop(second);
    settle().await;
    drop(admission(third).await);
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_changes_refills_nothing() {
    let queues = queues(60, 0);
    drop(admission(come(&queues, "a").await).await);
    // The only one of its second is used: under a tenth of the rate, that of its ten seconds is.
    queues.update(limits(6, 0));
    let begun = Instant::now();
    let slow = come(&queues, "a").await;
    drop(slow.await.unwrap().unwrap());
    let waited = begun.elapsed().as_secs_f64();
    assert!((9.9..10.1).contains(&waited), "{waited}");
    // Who waits for a slow rate goes by the fast one as soon as that is there.
    let waits = come(&queues, "a").await;
    sleep(Duration::from_secs(1)).await;
    queues.update(limits(60, 0));
    let begun = Instant::now();
    drop(waits.await.unwrap().unwrap());
    let waited = begun.elapsed().as_secs_f64();
    assert!((0.8..1.0).contains(&waited), "{waited}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However often the limits change, no more go than the largest of them would have let go, and
    /// all calls go in the end.
    #[test]
    fn changes_let_no_call_through_that_no_limit_would(
        changes in prop::collection::vec((1_u32..240, 1_u32..4, 0_u64..3_000), 1..12),
        calls in 1_usize..60,
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let most = changes.iter().map(|(rate, ..)| *rate).max().unwrap();
            let queues = queues(changes[0].0, changes[0].1);
            let begun = Instant::now();
            let tasks: Vec<_> = (0..calls).map(|_| {
                let queues = queues.clone();
                tokio::spawn(async move {
                    let _admission = queues.admit(ACCOUNT, "a", Priority::Normal).await.unwrap();
                    let at = begun.elapsed();
                    sleep(Duration::from_millis(10)).await;
                    at
                })
            }).collect();
            for (rate, in_flight, wait) in changes {
                queues.update(limits(rate, in_flight));
                sleep(Duration::from_millis(wait)).await;
            }
            let mut times = Vec::new();
            for task in tasks {
                times.push(task.await.unwrap().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            let burst = f64::from((most / 60).max(1));
            for (count, at) in times.iter().enumerate() {
                let allowed = burst + at * f64::from(most) / 60.0;
                assert!(count as f64 <= allowed + 1e-6, "{count} within {at} s, where {allowed} may");
            }
        });
    }
}
