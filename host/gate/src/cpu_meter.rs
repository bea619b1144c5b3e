//! Accounting of the processor time spent on deciding a caller's calls.
//!
//! Asking the kernel for a thread's processor time takes a microsecond, twice per poll: a tenth of a small decision.
//! So the wall clock, which needs no system call, is read until a poll takes a millisecond; from then on processor
//! time is measured.
//!
//! Invariant: a caller that makes the gate decide without end, or repeatedly about something large, is charged for
//! it, although the gate decides in tasks of its own.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Maximum charged by wall clock at a time: that clock goes on while the thread is descheduled.
const MAX_WALL_CLOCK: Duration = Duration::from_millis(1);

/// Processor time spent on deciding a caller's calls. Clones share the counter.
#[derive(Debug, Clone, Default)]
pub struct CpuMeter(Arc<Reading>);

#[derive(Debug, Default)]
struct Reading {
    nanoseconds: AtomicU64,
    /// Whether processor time is measured rather than wall-clock time.
    exact: AtomicBool,
}

impl CpuMeter {
    /// The time so far.
    #[must_use]
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed))
    }

    /// Runs a future and charges its polls.
    pub(crate) async fn charge<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            let before = self.0.exact.load(Ordering::Relaxed).then(processor_time);
            let begun = Instant::now();
            let poll = future.as_mut().poll(context);
            let spent = match before {
                Some(before) => processor_time().saturating_sub(before),
                None => begun.elapsed(),
            };
            self.add(spent, before.is_some());
            poll
        })
        .await
    }

    /// Runs a closure on this thread and charges its time.
    pub(crate) fn charge_work<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = processor_time();
        let done = work();
        self.add(processor_time().saturating_sub(before), true);
        done
    }

    fn add(&self, spent: Duration, exact: bool) {
        let charged = if exact {
            spent
        } else {
            spent.min(MAX_WALL_CLOCK)
        };
        let nanoseconds = u64::try_from(charged.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        if spent >= MAX_WALL_CLOCK {
            self.0.exact.store(true, Ordering::Relaxed);
        }
    }
}

/// Processor time of this thread so far.
#[must_use]
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_long_poll_is_charged_little_once_and_in_full_from_then_on() {
        let cpu = CpuMeter::default();
        for charged in [
            MAX_WALL_CLOCK..=MAX_WALL_CLOCK,
            Duration::from_millis(15)..=Duration::from_secs(20),
        ] {
            let before = cpu.spent();
            cpu.charge(pin!(async {
                let begun = processor_time();
                while processor_time() - begun < Duration::from_millis(20) {
                    std::hint::spin_loop();
                }
            }))
            .await;
            let spent = cpu.spent() - before;
            assert!(charged.contains(&spent), "{spent:?}");
        }
    }

    #[tokio::test]
    async fn waiting_is_not_charged() {
        let cpu = CpuMeter::default();
        cpu.charge(pin!(tokio::time::sleep(Duration::from_millis(50))))
            .await;
        assert!(cpu.spent() < Duration::from_millis(20));
    }
}
