//! A call that is made in its caller's own task.
//!
//! A read costs as little as its way to the server and back; a task of its own would add two switches between threads.
//!
//! Invariant: as with a task of its own, the call runs to its end even if the caller goes away, and a panic in it is the
//! caller's error, not its panic.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// Polls a call and resolves to its answer, or to `None` if it ended without one.
pub(crate) struct InPlace<T> {
    /// `None` once it has ended.
    call: Option<TrackedFuture<BoxFuture<'static, ()>>>,
    /// `None` once the caller is gone.
    answer: Option<oneshot::Receiver<T>>,
    runtime: Handle,
}

impl<T> InPlace<T> {
    /// `call` sends its answer to the sender that belongs to `answer`. Must be called in a tokio runtime.
    pub(crate) fn new(
        call: impl Future<Output = ()> + Send + 'static,
        answer: oneshot::Receiver<T>,
        tasks: &TaskTracker,
    ) -> Self {
        let call = AssertUnwindSafe(call).catch_unwind().map(drop).boxed();
        Self {
            call: Some(tasks.track_future(call)),
            answer: Some(answer),
            runtime: Handle::current(),
        }
    }
}

impl<T> Future for InPlace<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(call) = &mut self.call
            && Pin::new(call).poll(context).is_ready()
        {
            self.call = None;
        }
        match &mut self.answer {
            Some(answer) => answer.poll_unpin(context).map(Result::ok),
            None => Poll::Ready(None),
        }
    }
}

impl<T> Drop for InPlace<T> {
    fn drop(&mut self) {
        // Before the call goes on: it ends itself if it was not sent yet.
        self.answer = None;
        if let Some(call) = self.call.take() {
            self.runtime.spawn(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// A call that answers once it may, and marks its end after that.
    fn call() -> (InPlace<u8>, Arc<Notify>, Arc<AtomicBool>, TaskTracker) {
        let (reply, answer) = oneshot::channel();
        let (may, ended) = (Arc::new(Notify::new()), Arc::<AtomicBool>::default());
        let (waits, ends) = (Arc::clone(&may), Arc::clone(&ended));
        let tasks = TaskTracker::new();
        let call = InPlace::new(
            async move {
                waits.notified().await;
                let _ = reply.send(7);
                tokio::task::yield_now().await;
                ends.store(true, Ordering::SeqCst);
            },
            answer,
            &tasks,
        );
        (call, may, ended, tasks)
    }

    #[tokio::test]
    async fn it_is_polled_by_its_caller_and_by_no_task() {
        let (mut call, may, ended, tasks) = call();
        assert!(futures::poll!(&mut call).is_pending());
        may.notify_one();
        tokio::task::yield_now().await;
        assert_eq!(tasks.len(), 1);
        assert!(!ended.load(Ordering::SeqCst));
        assert_eq!(call.await, Some(7));
    }

    #[tokio::test]
    async fn it_ends_after_its_caller_went_away() {
        let (mut call, may, ended, tasks) = call();
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        may.notify_one();
        tasks.close();
        tasks.wait().await;
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn what_follows_its_answer_is_done_too() {
        let (call, may, ended, tasks) = call();
        may.notify_one();
        assert_eq!(call.await, Some(7));
        tasks.close();
        tasks.wait().await;
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_in_it_is_an_end_without_an_answer() {
        let (reply, answer) = oneshot::channel::<u8>();
        let tasks = TaskTracker::new();
        let call = InPlace::new(
            async move {
                let _reply = reply;
                tokio::task::yield_now().await;
                panic!("a fault of the host");
            },
            answer,
            &tasks,
        );
        assert_eq!(call.await, None);
    }
}
