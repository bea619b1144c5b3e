//! Metering of processor time.
//!
//! Asking the kernel for a thread's processor time takes about a microsecond, twice per poll: a tenth of a small
//! invocation or decision. So the wall clock, which needs no system call, is read until a poll takes a millisecond, or a
//! tick of the epoch asks; from then on processor time is measured. A long computation is therefore charged to within a
//! millisecond, and waiting costs nothing.
//!
//! Invariant: work that goes on and on is charged in full, in whatever tasks and on whatever threads it is done.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// Maximum charged by wall clock at a time: that clock goes on while the thread is descheduled.
const MAX_COARSE: Duration = Duration::from_millis(1);

/// Processor time of this thread so far.
#[must_use]
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// Processor time spent for one party. Clones share the count, and may measure at the same time.
#[derive(Debug, Clone, Default)]
pub struct CpuMeter(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    nanoseconds: AtomicU64,
    /// Whether processor time is measured rather than wall-clock time.
    exact: AtomicBool,
}

/// When a piece of work began, on the clock it is charged by.
#[derive(Debug, Clone, Copy)]
enum Begun {
    Wall(Instant),
    Cpu(Duration),
}

impl Begun {
    fn elapsed(self) -> Duration {
        match self {
            Self::Wall(begun) => begun.elapsed(),
            Self::Cpu(begun) => processor_time().saturating_sub(begun),
        }
    }

    /// What is charged if the work took `elapsed`.
    fn charge(self, elapsed: Duration) -> Duration {
        match self {
            Self::Wall(_) => elapsed.min(MAX_COARSE),
            Self::Cpu(_) => elapsed,
        }
    }
}

impl CpuMeter {
    /// The time so far.
    #[must_use]
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed))
    }

    /// Runs a future and charges its polls. It is borrowed: a future passed by value would be stored twice in
    /// this one.
    pub async fn charge<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            let begun = self.begin();
            let poll = future.as_mut().poll(context);
            self.end(begun);
            poll
        })
        .await
    }

    /// Runs a closure on this thread and charges its time.
    pub fn charge_work<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Begun::Cpu(processor_time());
        let done = work();
        self.end(begun);
        done
    }

    fn begin(&self) -> Begun {
        if self.0.exact.load(Ordering::Relaxed) {
            Begun::Cpu(processor_time())
        } else {
            Begun::Wall(Instant::now())
        }
    }

    fn end(&self, begun: Begun) {
        let spent = begun.elapsed();
        if spent >= MAX_COARSE {
            self.0.exact.store(true, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(begun.charge(spent).as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// The error that stops work above its limit.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it used up its time on the processor")]
pub struct CpuExceeded;

/// A limit on the processor time of one future, which is checked while the future is polled. Clones are the same limit.
#[derive(Debug, Clone)]
pub struct CpuLimit {
    meter: CpuMeter,
    limit: Duration,
    /// When the running poll began.
    running: Arc<Mutex<Option<Begun>>>,
}

impl CpuLimit {
    /// A limit of which nothing is used.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            meter: CpuMeter::default(),
            limit,
            running: Arc::default(),
        }
    }

    /// Time used so far. Call it on the polling thread, or between polls.
    #[must_use]
    pub fn spent(&self) -> Duration {
        let running = self
            .running
            .lock()
            .map_or(Duration::ZERO, |begun| begun.charge(begun.elapsed()));
        self.meter.spent().saturating_add(running)
    }

    /// Whether the limit is exceeded, including `besides`, what others spent for the same party. Called at every tick of
    /// the epoch, on the polling thread; processor time is measured from the first one on.
    ///
    /// # Errors
    /// [`CpuExceeded`] if it is.
    pub fn check(&self, besides: Duration) -> Result<(), CpuExceeded> {
        if !self.meter.0.exact.swap(true, Ordering::Relaxed) {
            let mut running = self.running.lock();
            if let Some(begun) = *running {
                self.meter.end(begun);
                *running = Some(self.meter.begin());
            }
        }
        if self.spent().saturating_add(besides) > self.limit {
            Err(CpuExceeded)
        } else {
            Ok(())
        }
    }

    /// Runs the future and charges its polls.
    pub async fn measure<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            *self.running.lock() = Some(self.meter.begin());
            let poll = future.as_mut().poll(context);
            if let Some(begun) = self.running.lock().take() {
                self.meter.end(begun);
            }
            poll
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_long_poll_is_charged_little_once_and_in_full_from_then_on() {
        let meter = CpuMeter::default();
        for charged in [
            MAX_COARSE..=MAX_COARSE,
            Duration::from_millis(15)..=Duration::from_secs(20),
        ] {
            let before = meter.spent();
            meter
                .charge(pin!(async {
                    let begun = processor_time();
                    while processor_time() - begun < Duration::from_millis(20) {
                        std::hint::spin_loop();
                    }
                }))
                .await;
            let spent = meter.spent() - before;
            assert!(charged.contains(&spent), "{spent:?}");
        }
    }

    #[tokio::test]
    async fn waiting_is_not_charged() {
        let meter = CpuMeter::default();
        meter
            .charge(pin!(tokio::time::sleep(Duration::from_millis(50))))
            .await;
        assert!(meter.spent() < Duration::from_millis(20));
    }

    #[tokio::test]
    async fn waiting_is_free_and_working_is_not() {
        let limit = CpuLimit::new(Duration::from_millis(20));
        limit
            .measure(pin!(tokio::time::sleep(Duration::from_millis(50))))
            .await;
        assert!(
            limit.spent() < Duration::from_millis(20),
            "{:?}",
            limit.spent()
        );
        assert!(limit.check(Duration::ZERO).is_ok());
        assert!(limit.check(Duration::from_millis(20)).is_err());

        limit
            .measure(pin!(async {
                let begun = Instant::now();
                while limit.check(Duration::ZERO).is_ok()
                    && begun.elapsed() < Duration::from_secs(20)
                {
                    std::hint::spin_loop();
                }
            }))
            .await;
        assert!(limit.check(Duration::ZERO).is_err());
    }
}
