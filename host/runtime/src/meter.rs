//! Time on the processor, measured: epochs interrupt a guest but say nothing about how long it ran.
//!
//! An invocation is a future that is polled again and again, on whatever thread is free. The meter
//! adds up the thread's processor time over those polls, so that waiting costs nothing and two
//! guests that share a core are each charged their own part. Work that the host does inside a poll,
//! such as decoding an answer, is charged too: it is done for the guest.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// No poll is running.
const IDLE: u64 = u64::MAX;

/// What an invocation has used and what it may use. Clones are the same meter.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    /// Nanoseconds of the polls that ended.
    spent: AtomicU64,
    /// The thread's processor time when the running poll began.
    began: AtomicU64,
    limit: u64,
}

/// The error with which a guest is stopped.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it used up its time on the processor")]
pub(crate) struct CpuExceeded;

impl Meter {
    pub(crate) fn new(limit: Duration) -> Self {
        Self(Arc::new(Reading {
            spent: AtomicU64::new(0),
            began: AtomicU64::new(IDLE),
            limit: u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
        }))
    }

    /// Time used so far. To be asked on the thread that polls, or between polls.
    pub(crate) fn spent(&self) -> Duration {
        let began = self.0.began.load(Ordering::Relaxed);
        let running = match began {
            IDLE => 0,
            began => thread_time().saturating_sub(began),
        };
        Duration::from_nanos(self.0.spent.load(Ordering::Relaxed).saturating_add(running))
    }

    /// Whether the limit is passed; asked at every tick of the epoch.
    pub(crate) fn check(&self) -> Result<(), CpuExceeded> {
        if self.spent() > Duration::from_nanos(self.0.limit) {
            Err(CpuExceeded)
        } else {
            Ok(())
        }
    }

    /// Runs a future and charges its polls.
    pub(crate) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let began = thread_time();
            self.0.began.store(began, Ordering::Relaxed);
            let poll = future.as_mut().poll(context);
            let used = thread_time().saturating_sub(began);
            self.0.began.store(IDLE, Ordering::Relaxed);
            self.0.spent.fetch_add(used, Ordering::Relaxed);
            poll
        })
        .await
    }
}

/// Processor time of this thread, in nanoseconds.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn waiting_is_free_and_working_is_not() {
        let meter = Meter::new(Duration::from_millis(20));
        meter
            .measure(tokio::time::sleep(Duration::from_millis(50)))
            .await;
        assert!(
            meter.spent() < Duration::from_millis(20),
            "{:?}",
            meter.spent()
        );
        assert!(meter.check().is_ok());

        meter
            .measure(async {
                let begun = Instant::now();
                while meter.check().is_ok() && begun.elapsed() < Duration::from_secs(20) {
                    std::hint::spin_loop();
                }
            })
            .await;
        assert!(meter.check().is_err());
    }
}
