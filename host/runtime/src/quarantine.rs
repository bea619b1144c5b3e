//! Quarantine: a plugin that keeps failing is not invoked for a while, and longer each time.
//!
//! After five consecutive failures in the host's judgement (a trap, an exceeded limit, an invalid
//! output), invocations are refused for a second. Then one is admitted as a probe; each further
//! failure doubles the time, up to five minutes, and a success ends the quarantine. A failure that
//! a plugin itself reports is a regular answer. Exhausting the host's own memory is not counted as
//! a failure, and exceeding the wall-clock limit only if the plugin hung by itself: if it waited
//! for an external event (an answer, an approval, an exchange) at the end or shortly before, or was
//! queued for most of the time, the time-out is no evidence against it.
//!
//! The record belongs to one version with one manifest: a new one starts with a clean record, which
//! invocations still running on the old one cannot affect.
//!
//! Invariant: during a quarantine, at most one invocation admitted after its start runs at a time.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::Backoff;

/// Consecutive failures that start a quarantine.
const MAX_FAILURES: u32 = 5;
/// Initial duration.
const MIN_QUARANTINE: Duration = Duration::from_secs(1);
/// Durations, by the number of failures since the one that started the quarantine.
const BACKOFF: Backoff = Backoff::exact(MIN_QUARANTINE, Duration::from_secs(5 * 60));

/// The quarantine of a plugin that keeps failing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Consecutive failures.
    pub failures: u32,
    /// Remaining duration; zero if the next invocation is the probe.
    pub remaining: Duration,
    /// The last failure.
    pub reason: String,
}

/// The host's judgement of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunResult {
    Succeeded,
    Failed(String),
    /// The plugin is not to blame.
    Neither,
}

/// The effect of an invocation's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QuarantineChange {
    /// A quarantine began or was extended, with the reason.
    Quarantined(String),
    /// The quarantine ended.
    Released,
}

/// The record of a version's invocations.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Consecutive failures. An invocation of a healthy plugin reads only these two fields.
    failures: AtomicU32,
    quarantined: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while there is no quarantine.
    until: Option<Instant>,
    probing: bool,
    reason: String,
}

impl Record {
    /// The current quarantine, if any.
    pub(crate) fn quarantine(&self, now: Instant) -> Option<Quarantine> {
        if !self.quarantined.load(Ordering::Acquire) {
            return None;
        }
        self.describe(&self.state.lock(), now)
    }

    /// The quarantine, if it would refuse an invocation.
    pub(crate) fn refuses(&self, now: Instant) -> Option<Quarantine> {
        if !self.quarantined.load(Ordering::Acquire) {
            return None;
        }
        self.refusal(&self.state.lock(), now)
    }

    /// Admits an invocation, unless it is refused.
    pub(crate) fn admit(&self, now: Instant) -> Result<Trial<'_>, Quarantine> {
        let mut probe = false;
        if self.quarantined.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            if let Some(refusal) = self.refusal(&state, now) {
                return Err(refusal);
            }
            probe = state.until.is_some();
            state.probing = probe;
        }
        Ok(Trial {
            record: self,
            probe,
        })
    }

    fn describe(&self, state: &State, now: Instant) -> Option<Quarantine> {
        Some(Quarantine {
            failures: self.failures.load(Ordering::Acquire),
            remaining: state.until?.saturating_duration_since(now),
            reason: state.reason.clone(),
        })
    }

    fn refusal(&self, state: &State, now: Instant) -> Option<Quarantine> {
        let mut refusal = self.describe(state, now)?;
        if state.probing {
            // It is unknown how long the probe takes.
            refusal.remaining = refusal.remaining.max(MIN_QUARANTINE);
        }
        (refusal.remaining > Duration::ZERO).then_some(refusal)
    }

    /// Counts a failure. Returns the new duration of the quarantine, if it changed.
    fn failed(&self, probe: bool, reason: String, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock();
        // A failure of an invocation that began before the quarantine does not extend it.
        if state.until.is_some() && !probe {
            return None;
        }
        let failures = self.failures.load(Ordering::Acquire).saturating_add(1);
        self.failures.store(failures, Ordering::Release);
        state.reason = reason;
        if failures < MAX_FAILURES {
            return None;
        }
        let lasts = BACKOFF.delay(failures.saturating_sub(MAX_FAILURES - 1));
        state.until = Some(now + lasts);
        self.quarantined.store(true, Ordering::Release);
        Some(lasts)
    }

    /// Returns whether a quarantine ended.
    fn succeeded(&self) -> bool {
        if self.failures.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut state = self.state.lock();
        let ended = state.until.is_some();
        *state = State::default();
        self.failures.store(0, Ordering::Release);
        self.quarantined.store(false, Ordering::Release);
        ended
    }
}

/// One admitted invocation, whose outcome is recorded.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    record: &'a Record,
    probe: bool,
}

impl Trial<'_> {
    /// Records how it went, and logs the effect. Returns the effect, if there is one.
    pub(crate) fn ended(
        self,
        plugin: &str,
        result: RunResult,
        now: Instant,
    ) -> Option<QuarantineChange> {
        match result {
            RunResult::Neither => {}
            RunResult::Succeeded => {
                if self.record.succeeded() {
                    tracing::info!(plugin, "the quarantine is over: an invocation went well");
                    return Some(QuarantineChange::Released);
                }
            }
            RunResult::Failed(reason) => {
                if let Some(lasts) = self.record.failed(self.probe, reason.clone(), now) {
                    let failures = self.record.failures.load(Ordering::Acquire);
                    tracing::warn!(
                        plugin,
                        failures,
                        seconds = lasts.as_secs(),
                        reason,
                        "quarantined: it keeps failing"
                    );
                    return Some(QuarantineChange::Quarantined(format!(
                        "{failures} failures in a row, left alone for {} s: {reason}",
                        lasts.as_secs()
                    )));
                }
            }
        }
        None
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.record.state.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = "lab";

    fn fail(record: &Record, now: Instant) {
        let trial = record.admit(now).unwrap();
        trial.ended(PLUGIN, RunResult::Failed("a trap".to_owned()), now);
    }

    fn remaining(record: &Record, now: Instant) -> Option<Duration> {
        record.refuses(now).map(|it| it.remaining)
    }

    #[test]
    fn failures_in_a_row_lead_into_it_and_a_success_leads_out() {
        let (record, now) = (Record::default(), Instant::now());
        for _ in 0..4 {
            fail(&record, now);
        }
        record
            .admit(now)
            .unwrap()
            .ended(PLUGIN, RunResult::Succeeded, now);
        for _ in 0..4 {
            fail(&record, now);
        }
        assert_eq!(record.quarantine(now), None, "the row was interrupted");
        let trial = record.admit(now).unwrap();
        trial.ended(PLUGIN, RunResult::Neither, now);
        assert_eq!(record.quarantine(now), None, "the host's own fault");
        fail(&record, now);
        let expected = Quarantine {
            failures: 5,
            remaining: MIN_QUARANTINE,
            reason: "a trap".to_owned(),
        };
        assert_eq!(record.quarantine(now), Some(expected.clone()));
        assert_eq!(record.admit(now).unwrap_err(), expected);

        let later = now + MIN_QUARANTINE;
        assert_eq!(remaining(&record, later), None);
        let probe = record.admit(later).unwrap();
        probe.ended(PLUGIN, RunResult::Succeeded, later);
        assert_eq!(record.quarantine(later), None);
        fail(&record, later);
        assert_eq!(record.quarantine(later), None, "it begins again");
    }

    #[test]
    fn each_further_failure_doubles_it_up_to_five_minutes() {
        let (record, mut now) = (Record::default(), Instant::now());
        for _ in 0..5 {
            fail(&record, now);
        }
        let mut lasted = Vec::new();
        for _ in 0..11 {
            let left = remaining(&record, now).unwrap();
            let just_before = now + left - Duration::from_nanos(1);
            assert!(record.admit(just_before).is_err());
            lasted.push(left.as_secs());
            now += left;
            fail(&record, now);
        }
        assert_eq!(lasted, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn there_is_one_probe_at_a_time_and_one_that_ends_without_a_verdict_is_none() {
        let (record, now) = (Record::default(), Instant::now());
        for _ in 0..5 {
            fail(&record, now);
        }
        let later = now + MIN_QUARANTINE;
        let probe = record.admit(later).unwrap();
        assert_eq!(remaining(&record, later), Some(MIN_QUARANTINE));
        assert_eq!(
            record.quarantine(later).map(|it| it.remaining),
            Some(Duration::ZERO)
        );
        assert!(record.admit(later).is_err());
        // Its caller cancelled it.
        drop(probe);
        let probe = record.admit(later).unwrap();
        probe.ended(PLUGIN, RunResult::Neither, later);
        assert!(record.admit(later).is_ok());
    }

    #[test]
    fn what_began_before_it_neither_prolongs_it_nor_is_a_probe() {
        let (record, now) = (Record::default(), Instant::now());
        let (slow, slower) = (record.admit(now).unwrap(), record.admit(now).unwrap());
        for _ in 0..5 {
            fail(&record, now);
        }
        slow.ended(PLUGIN, RunResult::Failed("late".to_owned()), now);
        let quarantine = record.quarantine(now).unwrap();
        assert_eq!(
            (quarantine.failures, quarantine.remaining),
            (5, MIN_QUARANTINE)
        );
        assert_eq!(quarantine.reason, "a trap");
        slower.ended(PLUGIN, RunResult::Succeeded, now);
        assert_eq!(record.quarantine(now), None, "it works after all");
    }
}
