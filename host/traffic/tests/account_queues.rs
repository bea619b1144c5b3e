//! The queues of an account in simulated time: how many go, who goes next, and what is left of
//! calls that are given up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use parking_lot::Mutex;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use qchost_traffic::{AccountAdmission, AccountLimits, AccountQueues, Priority, QueueFull};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep, timeout};

const ACCOUNT: &str = "research";

type Waiting = Pin<Box<dyn Future<Output = Result<AccountAdmission, QueueFull>> + Send>>;

fn queues(per_minute: Option<u32>, in_flight: Option<u32>) -> Arc<AccountQueues> {
    let limit = |number: u32| NonZeroU32::new(number).unwrap();
    let limits = AccountLimits {
        per_minute: per_minute.map(limit),
        in_flight: in_flight.map(limit),
    };
    Arc::new(AccountQueues::new([(ACCOUNT.to_owned(), limits)]))
}

/// A call that has come, and waits unless it could go at once.
async fn come(queues: &Arc<AccountQueues>, plugin: &'static str, priority: Priority) -> Waiting {
    let queues = queues.clone();
    let mut waiting_call: Waiting =
        Box::pin(async move { queues.admit(ACCOUNT, plugin, priority).await });
    let went = poll_fn(|context| Poll::Ready(waiting_call.as_mut().poll(context))).await;
    match went {
        Poll::Ready(result) => Box::pin(async { result }),
        Poll::Pending => waiting_call,
    }
}

async fn normal(queues: &Arc<AccountQueues>, plugin: &'static str) -> Waiting {
    come(queues, plugin, Priority::Normal).await
}

/// Lets every task do what it can do without time going by.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// The admission of a call that can go now.
async fn gone(waiting_call: &mut Waiting) -> Option<AccountAdmission> {
    settle().await;
    let polled = poll_fn(|context| Poll::Ready(waiting_call.as_mut().poll(context))).await;
    match polled {
        Poll::Ready(result) => Some(result.unwrap()),
        Poll::Pending => None,
    }
}

/// Which of the waiting calls go, in order, when one ends after the other.
async fn order(
    mut waiting: Vec<(&'static str, Waiting)>,
    first: AccountAdmission,
) -> Vec<&'static str> {
    let mut went = Vec::new();
    drop(first);
    while !waiting.is_empty() {
        let mut next = None;
        for (index, (_, waiting_call)) in waiting.iter_mut().enumerate() {
            if let Some(admission) = gone(waiting_call).await {
                assert!(next.is_none(), "two go at a time");
                next = Some((index, admission));
            }
        }
        let (index, admission) = next.expect("no call goes");
        went.push(waiting.remove(index).0);
        drop(admission);
    }
    went
}

#[tokio::test(start_paused = true)]
async fn an_account_without_limits_lets_all_go_at_once() {
    let queues = queues(None, None);
    let mut held = Vec::new();
    for _ in 0..5_000 {
        held.push(gone(&mut normal(&queues, "a").await).await.unwrap());
    }
    let other = queues.admit("no limits are known of it", "a", Priority::Normal);
    held.push(other.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn calls_are_spread_over_the_minute_after_a_second_s_worth() {
    let queues = queues(Some(600), None);
    let begun = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for _ in 0..900 {
        let (queues, times) = (queues.clone(), times.clone());
        tasks.push(tokio::spawn(async move {
            let _admission = queues.admit(ACCOUNT, "a", Priority::Normal).await.unwrap();
            times.lock().push(begun.elapsed());
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let times = times.lock();
    let within = |from: Duration, length: u64| {
        let until = from + Duration::from_secs(length);
        times
            .iter()
            .filter(|at| (from..until).contains(*at))
            .count()
    };
    for from in times.iter() {
        assert!(within(*from, 60) <= 610 && within(*from, 1) <= 20);
    }
    assert_eq!(within(Duration::ZERO, 1), 19);
    // And none is wasted: 10 at once, the others one in each 100 ms.
    let last = times.iter().max().unwrap().as_secs_f64();
    assert!((89.0..89.5).contains(&last), "{last}");
}

#[tokio::test(start_paused = true)]
async fn no_more_go_at_a_time_than_the_account_may_have_in_flight() {
    let queues = queues(None, Some(2));
    let one = gone(&mut normal(&queues, "a").await).await.unwrap();
    let two = gone(&mut normal(&queues, "b").await).await.unwrap();
    let mut third = normal(&queues, "a").await;
    sleep(Duration::from_secs(3_600)).await;
    assert!(gone(&mut third).await.is_none());
    drop(one);
    let three = gone(&mut third).await.unwrap();
    assert!(gone(&mut normal(&queues, "b").await).await.is_none());
    drop((two, three));
    assert!(gone(&mut normal(&queues, "b").await).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn plugins_take_turns_and_calls_of_one_keep_their_order() {
    let queues = queues(None, Some(1));
    let first = gone(&mut normal(&queues, "z").await).await.unwrap();
    let mut waiting = Vec::new();
    for (plugin, label) in [
        ("a", "a1"),
        ("a", "a2"),
        ("a", "a3"),
        ("b", "b1"),
        ("c", "c1"),
        ("b", "b2"),
    ] {
        waiting.push((label, normal(&queues, plugin).await));
    }
    let went = order(waiting, first).await;
    assert_eq!(went, ["a1", "b1", "c1", "a2", "b2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_rarely_waits_for_one_call_of_the_busy_one_and_gains_no_credit() {
    let queues = queues(None, Some(1));
    let mut admission = gone(&mut normal(&queues, "busy").await).await.unwrap();
    let mut busy = Vec::new();
    for _ in 0..20 {
        busy.push(("busy", normal(&queues, "busy").await));
    }
    for _ in 0..8 {
        drop(admission);
        admission = gone(&mut busy.remove(0).1).await.unwrap();
    }
    // Eight turns were had by the other; that is no reason for more than every second one.
    for label in ["rare 1", "rare 2", "rare 3"] {
        busy.push((label, normal(&queues, "rare").await));
    }
    let went = order(busy, admission).await;
    assert_eq!(
        went[..6],
        ["rare 1", "busy", "rare 2", "busy", "rare 3", "busy"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_makes_things_safer_goes_first_and_waits_for_no_other_call() {
    let queues = queues(Some(60), Some(1));
    let slow = gone(&mut normal(&queues, "a").await).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(normal(&queues, "a").await);
    }
    let begun = Instant::now();
    let mut stops = Vec::new();
    for plugin in ["a", "a", "risk"] {
        stops.push(come(&queues, plugin, Priority::Safety).await);
    }
    // They take the next calls that the rate gives, although another call is still in flight.
    let mut went = Vec::new();
    for stop in stops {
        let stopped = timeout(Duration::from_secs(60), stop).await;
        went.push(stopped.expect("it waits for the slow one").unwrap());
    }
    let waited = begun.elapsed();
    assert!(waited <= Duration::from_millis(3_010), "{waited:?}");
    for waiting_call in &mut waiting {
        assert!(gone(waiting_call).await.is_none());
    }
    // All four count: one that ends leaves room only later.
    drop(slow);
    sleep(Duration::from_secs(60)).await;
    assert!(gone(&mut waiting[0]).await.is_none());
    drop(went);
    assert!(gone(&mut waiting[0]).await.is_some());
    // The twin: what is normal and comes last goes last.
    let mut last = normal(&queues, "a").await;
    sleep(Duration::from_secs(10)).await;
    assert!(gone(&mut last).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_while_it_waits_leaves_no_hole() {
    let queues = queues(None, Some(1));
    let first = gone(&mut normal(&queues, "z").await).await.unwrap();
    let mut waiting = Vec::new();
    for (plugin, label) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")] {
        waiting.push((label, normal(&queues, plugin).await));
    }
    drop(waiting.remove(0));
    drop(waiting.remove(2));
    assert_eq!(order(waiting, first).await, ["a2", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_given_up_goes_to_the_next_call_of_the_plugin() {
    for rate in [None, Some(60)] {
        let queues = queues(rate, Some(1));
        let first = gone(&mut normal(&queues, "z").await).await.unwrap();
        let begun = Instant::now();
        let given_up = normal(&queues, "a").await;
        let mut other = normal(&queues, "b").await;
        let mut next = normal(&queues, "a").await;
        drop(first);
        // It was admitted by now, and is dropped before it learns of that.
        sleep(Duration::from_millis(1_010)).await;
        settle().await;
        drop(given_up);
        assert!(gone(&mut other).await.is_none());
        drop(gone(&mut next).await.expect("the admission is lost"));
        // Neither is a call of the rate lost: one a second went.
        let other = timeout(Duration::from_millis(1_100), other).await;
        drop(other.expect("the admission is lost").unwrap());
        assert!(begun.elapsed() < Duration::from_millis(2_100));
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_has_an_end_for_each_plugin_apart() {
    let queues = queues(Some(60), None);
    let _first = gone(&mut normal(&queues, "flood").await).await.unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        let queues = queues.clone();
        let mut waiting_call: Waiting =
            Box::pin(async move { queues.admit(ACCOUNT, "flood", Priority::Normal).await });
        match poll_fn(|context| Poll::Ready(waiting_call.as_mut().poll(context))).await {
            Poll::Ready(result) => break result.unwrap_err(),
            Poll::Pending => waiting.push(waiting_call),
        }
    };
    assert_eq!((full.waiting, waiting.len()), (1_000, 1_000));
    assert_eq!(full.retry_after, Duration::from_secs(1));
    let told = full.to_string();
    assert!(told.contains("flood") && told.contains(ACCOUNT), "{told}");
    // Others still come, and so do the plugin's calls that make things safer.
    let mut other = normal(&queues, "other").await;
    let mut safety = come(&queues, "flood", Priority::Safety).await;
    sleep(Duration::from_millis(2_010)).await;
    assert!(gone(&mut other).await.is_some());
    assert!(gone(&mut safety).await.is_some());
    // A call that gives up makes room.
    waiting.pop();
    waiting.push(normal(&queues, "flood").await);
}

#[test]
fn waiting_calls_outlive_the_runtime_that_served_them() {
    let runtime = || Builder::new_current_thread().enable_time().build().unwrap();
    let queues = queues(None, Some(1));
    let (first, second) = (runtime(), runtime());
    let (admission, waiting) = first.block_on(async {
        let admission = gone(&mut normal(&queues, "a").await).await.unwrap();
        (admission, normal(&queues, "a").await)
    });
    drop(first);
    second.block_on(async {
        let later = normal(&queues, "a").await;
        drop(admission);
        let both = async {
            drop(waiting.await.unwrap());
            drop(later.await.unwrap());
        };
        timeout(Duration::from_secs(10), both)
            .await
            .expect("the queue is not served");
    });
}

/// The max-min fair shares of a capacity: none gets more than it asks for, and one that gets less
/// than that gets no less than another.
fn max_min(capacity: f64, demands: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|a, b| demands[*a].total_cmp(&demands[*b]));
    let (mut left, mut given) = (capacity, vec![0.0; demands.len()]);
    for (rank, index) in order.iter().enumerate() {
        let share = left / (demands.len() - rank) as f64;
        given[*index] = demands[*index].min(share);
        left -= given[*index];
    }
    given
}

/// What a random user of the queue does.
#[derive(Debug, Clone)]
enum Step {
    Come(usize, bool),
    GiveUp(usize),
    End(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..3, prop::bool::weighted(0.2)).prop_map(|(plugin, safety)| Step::Come(plugin, safety)),
        2 => any::<usize>().prop_map(Step::GiveUp),
        3 => any::<usize>().prop_map(Step::End),
        1 => (0_u64..2_500).prop_map(Step::Wait),
    ]
}

const PLUGINS: [&str; 5] = ["a", "b", "c", "d", "e"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn shares_are_fair(
        per_minute in 60_u32..1_200,
        intervals in prop::collection::vec(30_u64..2_000, 2..5),
    ) {
        const SECONDS: u64 = 60;
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let went = runtime.block_on(async {
            let queues = queues(Some(per_minute), None);
            let counts = Arc::new(Mutex::new(vec![0_u32; intervals.len()]));
            for (index, interval) in intervals.iter().copied().enumerate() {
                let (queues, counts) = (queues.clone(), counts.clone());
                tokio::spawn(async move {
                    loop {
                        let (queues, counts) = (queues.clone(), counts.clone());
                        tokio::spawn(async move {
                            if queues.admit(ACCOUNT, PLUGINS[index], Priority::Normal).await.is_ok() {
                                counts.lock()[index] += 1;
                            }
                        });
                        sleep(Duration::from_millis(interval)).await;
                    }
                });
            }
            sleep(Duration::from_secs(SECONDS)).await;
            counts.lock().clone()
        });
        let burst = f64::from(per_minute / 60).max(1.0);
        let demands: Vec<_> = intervals
            .iter()
            .map(|interval| (SECONDS * 1_000) as f64 / *interval as f64)
            .collect();
        let fair = max_min(f64::from(per_minute) + burst, &demands);
        for (got, fair) in went.iter().zip(&fair) {
            let near = 3.0 + burst;
            prop_assert!((f64::from(*got) - fair).abs() <= near, "{went:?}, fair is {fair:?} of {demands:?}");
        }
    }

    #[test]
    fn whatever_is_given_up_nothing_is_lost(
        per_minute in prop::option::of(60_u32..600),
        in_flight in 1_u32..4,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let queues = queues(per_minute, Some(in_flight));
            let mut waiting: Vec<(bool, Waiting)> = Vec::new();
            let mut admissions: Vec<(bool, AccountAdmission)> = Vec::new();
            for step in steps {
                match step {
                    Step::Come(plugin, safety) => {
                        let priority = if safety { Priority::Safety } else { Priority::Normal };
                        waiting.push((safety, come(&queues, PLUGINS[plugin], priority).await));
                    }
                    // Some of these were admitted a moment ago.
                    Step::GiveUp(which) if !waiting.is_empty() => {
                        drop(waiting.remove(which % waiting.len()));
                    }
                    Step::End(which) if !admissions.is_empty() => {
                        drop(admissions.remove(which % admissions.len()));
                    }
                    Step::Wait(millis) => {
                        advance(Duration::from_millis(millis)).await;
                        settle().await;
                        let mut rest = Vec::new();
                        for (safety, mut waiting_call) in waiting {
                            match gone(&mut waiting_call).await {
                                Some(admission) => admissions.push((safety, admission)),
                                None => rest.push((safety, waiting_call)),
                            }
                        }
                        waiting = rest;
                    }
                    Step::GiveUp(_) | Step::End(_) => {}
                }
                let normal = admissions.iter().filter(|(safety, _)| !safety).count();
                prop_assert!(normal <= usize::try_from(in_flight).unwrap());
            }
            // A call that still waits goes when the others end, and in the end none of the limit is lost.
            drop(admissions);
            let rest: Vec<_> = waiting
                .into_iter()
                .map(|(_, waiting_call)| {
                    let going = timeout(Duration::from_secs(120), waiting_call);
                    tokio::spawn(async { going.await.is_ok() })
                })
                .collect();
            for went in rest {
                prop_assert!(went.await.unwrap(), "it waits forever");
            }
            let mut all = Vec::new();
            for _ in 0..in_flight {
                let last = queues.admit(ACCOUNT, "a", Priority::Normal);
                let went = timeout(Duration::from_secs(120), last).await;
                prop_assert!(went.is_ok(), "an admission was lost");
                all.push(went);
            }
            Ok(())
        })?;
    }
}
