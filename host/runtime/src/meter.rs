//! Time on the processor, measured: epochs interrupt a guest but say nothing about how long it ran.
//!
//! An invocation is a future that is polled again and again, on whatever thread is free. The meter
//! adds up the thread's processor time over those polls, so that waiting costs nothing and two
//! guests that share a core are each charged their own part. Work that the host does inside a poll,
//! such as decoding an answer, is charged too: it is done for the guest. What the gate does in tasks of its own
//! to decide about the guest's calls is charged by the gate, and counts when the limit is asked for; what it
//! takes to send a call and to read its answer is the connection's.
//!
//! Asking the kernel for a thread's processor time takes about a microsecond, twice a poll: a tenth of a
//! whole small invocation. So its first millisecond is charged by the clock on the wall, which is read
//! without the kernel, and each poll of it as a millisecond at most. From the first tick of the epoch, or
//! the first millisecond, on, everything is measured. So whoever computes for long is charged to within
//! a millisecond, and no guest gains more than what the host does for it in one poll.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qchost_gate::processor_time;

/// No poll is running.
const IDLE: u64 = u64::MAX;
/// Nanoseconds that are charged by the clock on the wall.
const COARSE: u64 = 1_000_000;

/// What an invocation has used and what it may use. Clones are the same meter.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    /// Nanoseconds of the polls that ended.
    spent: AtomicU64,
    /// When the running poll began, by whichever clock it is charged.
    began: AtomicU64,
    /// Whether that clock is the thread's processor time, and not the one on the wall.
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

    /// Begins to charge by one of the clocks.
    fn begin(&self, exact: bool) {
        self.exact.store(exact, Ordering::Relaxed);
        self.began.store(self.now(exact), Ordering::Relaxed);
    }

    /// What the running poll has used so far.
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

/// The error with which a guest is stopped.
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

    /// Time used so far. To be asked on the thread that polls, or between polls.
    pub(crate) fn spent(&self) -> Duration {
        let spent = self.0.spent.load(Ordering::Relaxed);
        Duration::from_nanos(spent.saturating_add(self.0.running()))
    }

    /// Whether the limit is passed, with what else was done for the guest; asked at every tick of the epoch, on
    /// the thread that polls.
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

    /// Runs a future and charges its polls. It stays where it is: a future that were taken in would be
    /// twice in this one.
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
