//! Metering of processor time: epochs interrupt a guest but do not tell how long it ran.
//!
//! An invocation is a future that is polled repeatedly, on any thread. The meter adds up the thread's processor
//! time over those polls, so that waiting costs nothing and guests that share a core are each charged their own
//! part. Work that the host does inside a poll, such as decoding an answer, is charged too: it is done for the
//! guest. The time that the gate spends in its own tasks on deciding the guest's calls is counted by the gate,
//! and added when the limit is checked; sending a call and reading its answer is not charged.
//!
//! Asking the kernel for a thread's processor time takes about a microsecond, twice per poll: a tenth of a
//! small invocation. So its first millisecond is charged by wall clock, which needs no system call, and each
//! poll of it as a millisecond at most. From the first tick of the epoch, or the first millisecond, processor
//! time is measured. A long computation is therefore charged to within a millisecond, and no guest gains more
//! than the host's work in one poll.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qchost_gate::processor_time;

/// No poll is running.
const IDLE: u64 = u64::MAX;
/// Nanoseconds that are charged by wall clock.
const COARSE: u64 = 1_000_000;

/// Used and allowed processor time of an invocation. Clones are the same meter.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    /// Nanoseconds of finished polls.
    spent: AtomicU64,
    /// When the running poll began, on the clock it is charged by.
    began: AtomicU64,
    /// Whether that is the thread's processor time rather than the wall clock.
    exact: AtomicBool,
    limit: u64,
    made: Instant,
}

impl Reading {
    fn now(&self, exact: bool) -> u64 {
        if exact {
            nanoseconds(processor_time())
        } else {
            nanoseconds(self.made.elapsed())
        }
    }

    /// Starts charging by one of the clocks.
    fn begin(&self, exact: bool) {
        self.exact.store(exact, Ordering::Relaxed);
        self.began.store(self.now(exact), Ordering::Relaxed);
    }

    /// Nanoseconds of the running poll so far.
    fn running(&self) -> u64 {
        let began = self.began.load(Ordering::Relaxed);
        let exact = self.exact.load(Ordering::Relaxed);
        match began {
            IDLE => 0,
            began if exact => self.now(exact).saturating_sub(began),
            began => self.now(exact).saturating_sub(began).min(COARSE),
        }
    }

    /// Charges the running poll.
    fn charge(&self) {
        self.spent.fetch_add(self.running(), Ordering::Relaxed);
        self.began.store(IDLE, Ordering::Relaxed);
    }
}

/// The error that stops a guest.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it used up its time on the processor")]
pub(crate) struct CpuExceeded;

impl Meter {
    pub(crate) fn new(limit: Duration) -> Self {
        Self(Arc::new(Reading {
            spent: AtomicU64::new(0),
            began: AtomicU64::new(IDLE),
            exact: AtomicBool::new(false),
            limit: nanoseconds(limit),
            made: Instant::now(),
        }))
    }

    /// Time used so far. Call it on the polling thread, or between polls.
    pub(crate) fn spent(&self) -> Duration {
        let spent = self.0.spent.load(Ordering::Relaxed);
        Duration::from_nanos(spent.saturating_add(self.0.running()))
    }

    /// Whether the limit is exceeded, including `besides`, the other work done for the guest. Called at every
    /// tick of the epoch, on the polling thread.
    pub(crate) fn check(&self, besides: Duration) -> Result<(), CpuExceeded> {
        if !self.0.exact.load(Ordering::Relaxed) {
            self.0.charge();
            self.0.begin(true);
        }
        if self.spent().saturating_add(besides) > Duration::from_nanos(self.0.limit) {
            Err(CpuExceeded)
        } else {
            Ok(())
        }
    }

    /// Runs a future and charges its polls. It is borrowed: a future passed by value would be stored twice in
    /// this one.
    pub(crate) async fn measure<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            let spent = self.0.spent.load(Ordering::Relaxed);
            self.0.begin(spent >= COARSE);
            let poll = future.as_mut().poll(context);
            self.0.charge();
            poll
        })
        .await
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn waiting_is_free_and_working_is_not() {
        let meter = Meter::new(Duration::from_millis(20));
        meter
            .measure(pin!(tokio::time::sleep(Duration::from_millis(50))))
            .await;
        assert!(
            meter.spent() < Duration::from_millis(20),
            "{:?}",
            meter.spent()
        );
        assert!(meter.check(Duration::ZERO).is_ok());
        assert!(meter.check(Duration::from_millis(20)).is_err());

        meter
            .measure(pin!(async {
                let begun = Instant::now();
                while meter.check(Duration::ZERO).is_ok()
                    && begun.elapsed() < Duration::from_secs(20)
                {
                    std::hint::spin_loop();
                }
            }))
            .await;
        assert!(meter.check(Duration::ZERO).is_err());
    }
}
