//! Wakes those who wait until a state changes.
//!
//! Invariant: a waiter subscribes before it evaluates the state, so a change that is announced after it was made is never
//! missed: either the evaluation sees it, or the announcement wakes the waiter.

use tokio::sync::watch;

/// Announces the changes of one state.
#[derive(Debug, Default)]
pub(crate) struct ChangeSignal(watch::Sender<()>);

impl ChangeSignal {
    /// Announces a change. Called after the change, without its lock.
    pub fn notify(&self) {
        self.0.send_replace(());
    }

    /// For waiters whose evaluation has to wait itself; they subscribe before they evaluate.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }

    /// Waits until the evaluation finds something: now, or after a change.
    pub async fn until<T>(&self, found: impl Fn() -> Option<T>) -> T {
        let mut changes = self.subscribe();
        loop {
            if let Some(found) = found() {
                return found;
            }
            // The sender lives as long as `self`.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::{Arc, Barrier};
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_change_between_evaluation_and_wait_is_not_missed() {
        let signal = ChangeSignal::default();
        let evaluated = Cell::new(0);
        let found = signal.until(|| {
            evaluated.set(evaluated.get() + 1);
            // Comes right after the state was read, before the waiter sleeps.
            if evaluated.get() == 1 {
                signal.notify();
                return None;
            }
            Some(evaluated.get())
        });
        assert_eq!(found.now_or_never(), Some(2));
    }

    /// With paused time, the clock advances only if something waits for it.
    #[tokio::test(start_paused = true)]
    async fn a_waiter_is_woken_by_changes_and_by_nothing_else() {
        let (signal, evaluated) = (ChangeSignal::default(), AtomicU32::new(0));
        let waiting = signal.until(|| {
            let evaluated = evaluated.fetch_add(1, Ordering::SeqCst);
            (evaluated == 2).then_some(())
        });
        tokio::pin!(waiting);
        let idle = Duration::from_secs(3600);
        for changes in 1..=2 {
            let waited = tokio::time::timeout(idle, &mut waiting).await;
            assert!(waited.is_err());
            assert_eq!(evaluated.load(Ordering::SeqCst), changes);
            signal.notify();
        }
        waiting.await;
        assert_eq!(evaluated.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_change_of_another_thread_is_missed() {
        for _ in 0..2_000 {
            let shared = Arc::new((ChangeSignal::default(), AtomicBool::new(false)));
            let barrier = Arc::new(Barrier::new(2));
            let changing = {
                let (shared, barrier) = (Arc::clone(&shared), Arc::clone(&barrier));
                tokio::task::spawn_blocking(move || {
                    barrier.wait();
                    shared.1.store(true, Ordering::SeqCst);
                    shared.0.notify();
                })
            };
            barrier.wait();
            let withdrawn = || shared.1.load(Ordering::SeqCst).then_some(());
            let waiting = shared.0.until(withdrawn);
            tokio::time::timeout(Duration::from_secs(10), waiting)
                .await
                .unwrap();
            changing.await.unwrap();
        }
    }
}
