//! Calls at a time, by grant.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use qchost_traffic::{ConcurrencyLimiter, GrantKey};

fn key(grant: &str) -> GrantKey {
    GrantKey::new("research", "lab", grant)
}

#[test]
fn a_call_counts_until_it_ends() {
    let counts = ConcurrencyLimiter::default();
    let one = counts.try_acquire(&key("a"), Some(2)).unwrap();
    let two = counts.try_acquire(&key("a"), Some(2)).unwrap();
    assert!(counts.try_acquire(&key("a"), Some(2)).is_none());
    assert_eq!(counts.running(&key("a")), 2);
    // Other grants, plugins and accounts are counted apart.
    for other in [
        key("b"),
        GrantKey::new("research", "bot", "a"),
        GrantKey::new("live", "lab", "a"),
    ] {
        let _guard = counts.try_acquire(&other, Some(1)).unwrap();
        assert!(counts.try_acquire(&other, Some(1)).is_none());
    }
    drop(one);
    let three = counts.try_acquire(&key("a"), Some(2)).unwrap();
    assert!(counts.try_acquire(&key("a"), Some(2)).is_none());
    drop((two, three));
    assert_eq!(counts.running(&key("a")), 0);
    assert!(counts.try_acquire(&key("a"), Some(0)).is_none());
}

#[test]
fn a_limit_that_changes_counts_what_runs() {
    let counts = ConcurrencyLimiter::default();
    // Without a limit they are counted all the same.
    let mut running: Vec<_> = (0..4)
        .map(|_| counts.try_acquire(&key("a"), None).unwrap())
        .collect();
    assert!(counts.try_acquire(&key("a"), Some(4)).is_none());
    running.push(counts.try_acquire(&key("a"), Some(5)).unwrap());
    // Lowered, it waits until enough of them have ended.
    for left in (2..5).rev() {
        running.pop();
        assert_eq!(counts.running(&key("a")), left);
        assert!(counts.try_acquire(&key("a"), Some(2)).is_none());
    }
    running.pop();
    assert!(counts.try_acquire(&key("a"), Some(2)).is_some());
}

#[test]
fn threads_never_have_more_than_the_limit() {
    let (counts, running) = (ConcurrencyLimiter::default(), AtomicU32::new(0));
    let passed: u32 = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut passed = 0;
                    for _ in 0..2_000 {
                        if let Some(_guard) = counts.try_acquire(&key("a"), Some(3)) {
                            assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                            thread::yield_now();
                            running.fetch_sub(1, Ordering::SeqCst);
                            passed += 1;
                        }
                    }
                    passed
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    assert!(passed > 0);
    assert_eq!(counts.running(&key("a")), 0);
}
