//! Polls an invocation's calls beside its guest, in the same task.
//!
//! A guest that waits for a call is a suspended fiber, and what is polled inside of it runs on its stack: that stack is
//! small, and every page that deciding a call touches would stay resident for as long as the guest waits. So a binding
//! hands its call over, and the task polls it on its own stack as soon as the guest is suspended. No other thread takes
//! part.
//!
//! Invariant: a call that was handed over is dropped when the guest gives it up, before the guest's next statement, or with
//! the guest. The time limits of batches rely on it: what was not intended by then is never sent.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Calls that were handed over and not polled yet; `None` while there is no guest.
#[derive(Default)]
pub(crate) struct CallDriver(Mutex<Option<Vec<DriverSide>>>);

/// A call that was handed over; `None` once it has ended or was given up.
type SharedCall = Arc<Mutex<Option<BoxFuture<'static, ()>>>>;

/// The driver's side of a call.
struct DriverSide(SharedCall);

impl Future for DriverSide {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.0.lock();
        if let Some(call) = &mut *shared
            && call.as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        *shared = None;
        Poll::Ready(())
    }
}

/// The guest's side of a call: dropping it drops the call.
struct GuestSide(SharedCall);

impl Drop for GuestSide {
    fn drop(&mut self) {
        let call = self.0.lock().take();
        drop(call);
    }
}

impl std::fmt::Debug for CallDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallDriver").finish_non_exhaustive()
    }
}

impl CallDriver {
    /// Makes a call and waits for its answer. Must be polled by the guest that [`drive`](Self::drive) runs, if there is one.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> T {
        if self.0.lock().is_none() {
            return call.await;
        }
        let (done, answer) = oneshot::channel();
        let call = Box::pin(async move {
            // The guest may be gone.
            let _ = done.send(call.await);
        });
        let call: SharedCall = Arc::new(Mutex::new(Some(call)));
        let _guest_side = GuestSide(Arc::clone(&call));
        self.0.lock().get_or_insert_default().push(DriverSide(call));
        match answer.await {
            Ok(answer) => answer,
            // Dropped with the guest.
            Err(_) => pending().await,
        }
    }

    /// Runs a guest, and polls its calls while it waits.
    pub(crate) async fn drive<F: Future>(&self, mut guest: Pin<&mut F>) -> F::Output {
        let _driving = Driving::begin(self);
        // Most invocations are short, and many make no call.
        let mut calls = None;
        poll_fn(|context| {
            loop {
                if let Poll::Ready(output) = guest.as_mut().poll(context) {
                    return Poll::Ready(output);
                }
                if let Some(new) = &mut *self.0.lock()
                    && !new.is_empty()
                {
                    calls
                        .get_or_insert_with(FuturesUnordered::new)
                        .extend(new.drain(..));
                }
                match calls.as_mut().map(|calls| calls.poll_next_unpin(context)) {
                    // The guest may go on.
                    Some(Poll::Ready(Some(()))) => {}
                    Some(Poll::Ready(None) | Poll::Pending) | None => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// While it lives, calls are handed over.
struct Driving<'a>(&'a CallDriver);

impl<'a> Driving<'a> {
    fn begin(driver: &'a CallDriver) -> Self {
        *driver.0.lock() = Some(Vec::new());
        Self(driver)
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        let unpolled = self.0.0.lock().take();
        drop(unpolled);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_call_is_polled_only_while_its_guest_is_suspended() {
        let driver = CallDriver::default();
        let inside = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&inside);
        let call = async move {
            tokio::task::yield_now().await;
            (seen.load(Ordering::SeqCst), 7)
        };
        let mut guest = pin!(driver.call(call));
        // Marks the time that is spent inside of the guest.
        let marked = poll_fn(|context| {
            inside.store(true, Ordering::SeqCst);
            let poll = guest.as_mut().poll(context);
            inside.store(false, Ordering::SeqCst);
            poll
        });
        assert_eq!(driver.drive(pin!(marked)).await, (false, 7));
    }

    #[tokio::test]
    async fn calls_side_by_side_are_all_answered() {
        let driver = CallDriver::default();
        let guest = async {
            let calls = (0..20).map(|number| {
                driver.call(async move {
                    tokio::task::yield_now().await;
                    number
                })
            });
            futures::future::join_all(calls).await
        };
        let answers = driver.drive(pin!(guest)).await;
        assert_eq!(answers, Vec::from_iter(0..20));
    }

    #[tokio::test]
    async fn without_a_guest_it_is_made_at_once() {
        let driver = CallDriver::default();
        assert_eq!(driver.call(async { 7 }).await, 7);
    }

    #[tokio::test]
    async fn it_is_dropped_before_a_guest_that_gave_it_up_goes_on() {
        let driver = CallDriver::default();
        let held = Arc::new(());
        for limit in [Duration::ZERO, Duration::from_millis(1)] {
            let in_call = Arc::clone(&held);
            let guest = async {
                let call = driver.call(async move {
                    let _in_call = in_call;
                    pending::<()>().await;
                });
                let given_up = tokio::time::timeout(limit, call).await;
                given_up.unwrap_err();
                Arc::strong_count(&held)
            };
            assert_eq!(driver.drive(pin!(guest)).await, 1);
        }
    }

    #[tokio::test]
    async fn it_is_dropped_with_its_guest() {
        let driver = CallDriver::default();
        let held = Arc::new(());
        let in_call = Arc::clone(&held);
        {
            let mut guest = pin!(driver.call(async move {
                let _in_call = in_call;
                pending::<()>().await;
            }));
            let mut driven = pin!(driver.drive(guest.as_mut()));
            assert!(futures::poll!(&mut driven).is_pending());
        }
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
