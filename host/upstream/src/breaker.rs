//! The circuit breaker of one endpoint.
//!
//! `failsafe`, `recloser` and `tower`'s layers wrap a call and refuse it while they are open. Here nothing is refused: a
//! breaker only says which endpoint is used rather than another, and without another it does not matter.
//!
//! Invariant: an endpoint that fails is tried again, by one call at a time, at intervals that grow to a limit.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::Backoff;

/// Consecutive failures that open it.
const MAX_FAILURES: u32 = 3;

/// How long it stays open, longer each time.
const OPEN: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(5),
    jitter: 0.5,
};

/// The state of an endpoint's breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Failures since the last success.
    failures: u32,
    /// How often it opened since the last success.
    openings: u32,
    /// When the next call may try the endpoint, while it is open.
    until: Option<Instant>,
}

/// Whether an endpoint is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// As far as is known, it works.
    Closed,
    /// It failed, and a call may try it now.
    Due,
    /// It failed, and is tried from this instant on.
    Open(Instant),
}

impl Breaker {
    pub(crate) fn readiness(&self, now: Instant) -> Readiness {
        match self.0.lock().until {
            None => Readiness::Closed,
            Some(until) if until <= now => Readiness::Due,
            Some(until) => Readiness::Open(until),
        }
    }

    /// Lets one call try an endpoint that is due: no other one until its interval has passed again, whatever becomes of
    /// this one.
    pub(crate) fn try_now(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        if state.until.is_none_or(|until| until > now) {
            return false;
        }
        state.openings = state.openings.saturating_add(1);
        state.until = Some(now + OPEN.delay(state.openings));
        true
    }

    /// The endpoint answered.
    pub(crate) fn succeeded(&self) {
        *self.0.lock() = State::default();
    }

    /// The endpoint did not answer, or not usably.
    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        // Calls that were under way when it opened fail too, and say nothing new.
        if state.failures < MAX_FAILURES || state.until.is_some_and(|until| until > now) {
            return;
        }
        state.openings = state.openings.saturating_add(1);
        state.until = Some(now + OPEN.delay(state.openings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_consecutive_failures_and_lets_one_call_try_at_a_time() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed(now);
        breaker.failed(now);
        breaker.succeeded();
        breaker.failed(now);
        breaker.failed(now);
        assert_eq!(breaker.readiness(now), Readiness::Closed);
        breaker.failed(now);
        let Readiness::Open(until) = breaker.readiness(now) else {
            panic!("it is not open")
        };
        assert!(until <= now + Duration::from_secs(1));
        assert!(!breaker.try_now(now));
        assert_eq!(breaker.readiness(until), Readiness::Due);
        assert!(breaker.try_now(until));
        assert!(!breaker.try_now(until), "one call at a time");
        breaker.succeeded();
        assert_eq!(breaker.readiness(until), Readiness::Closed);
    }

    #[test]
    fn calls_that_fail_together_open_it_once_and_the_intervals_end_at_a_limit() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.failed(now);
        }
        let Readiness::Open(until) = breaker.readiness(now) else {
            panic!("it is not open")
        };
        assert!(until <= now + Duration::from_secs(1), "opened once");
        for _ in 0..50 {
            now += Duration::from_secs(31);
            assert!(breaker.try_now(now));
            breaker.failed(now + Duration::from_millis(1));
            assert!(
                breaker.readiness(now + Duration::from_secs(31)) == Readiness::Due,
                "it is never closed for longer than the limit"
            );
        }
    }
}
