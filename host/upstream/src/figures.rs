//! What the calls of an account came to, since the start and over the last hour.
//!
//! Health checks of the host are not counted. Latencies are counted in buckets of an eighth of their power of two, so a
//! percentile is exact to an eighth.
//!
//! Invariant: memory is bounded by the minutes of an hour, however many calls there are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::{Ended, Failure, Job, Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Minutes that are counted separately.
const MINUTES: u64 = 60;
/// Buckets of a power of two.
const FRACTIONS: u32 = 8;
/// Powers of two of microseconds; the last one holds whatever takes longer, from 19 hours on.
const OCTAVES: u32 = 37;

/// What the calls of an account came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AccountFigures {
    /// Since the host started.
    pub since_start: Figures,
    /// Over the last hour.
    pub last_hour: Figures,
}

/// What the calls of a period came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    /// Length of the period in seconds.
    pub seconds: f64,
    /// Calls that the gate let through, and reads of the host's own.
    pub calls: u64,
    /// Reads that were answered from the cache.
    pub hits: u64,
    /// Reads that nothing was sent for: those answered from the cache, and those that shared the answer to another one.
    pub saved: u64,
    /// What was sent: each attempt of a call, and each page.
    pub sends: u64,
    /// Sends beyond the first one of a call.
    pub retries: u64,
    /// Calls that failed because of the account, its connection or QuantConnect, rather than of what they asked.
    pub errors: u64,
    /// The share of such calls, from 0 to 1; `null` without calls.
    pub error_rate: Option<f64>,
    /// Milliseconds in which half of the calls that were sent were answered; `null` without such calls.
    pub p50_ms: Option<f64>,
    /// The same for 90 % of them.
    pub p90_ms: Option<f64>,
    /// The same for 99 % of them.
    pub p99_ms: Option<f64>,
    /// Backtests whose end was seen.
    pub backtests: Completion,
    /// Optimisations whose end was seen.
    pub optimizations: Completion,
}

/// How items ended, as far as reads have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Completion {
    /// Those that completed.
    pub completed: u64,
    /// Those that ended otherwise.
    pub failed: u64,
    /// The share of those that completed, from 0 to 1; `null` if no end was seen.
    pub rate: Option<f64>,
}

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It was sent.
    Sent,
    /// From the cache.
    Kept,
    /// With another call.
    Shared,
}

/// The counters of an account.
#[derive(Debug)]
pub(crate) struct Counters {
    begun: Instant,
    periods: Mutex<Periods>,
}

#[derive(Debug, Default)]
struct Periods {
    all: Tally,
    /// The last hour's minutes in which there was something, oldest first.
    minutes: VecDeque<(u64, Tally)>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    calls: u64,
    kept: u64,
    shared: u64,
    sends: u64,
    retries: u64,
    errors: u64,
    backtests: Completion,
    optimizations: Completion,
    /// Numbers of latencies, by bucket; empty before the first one.
    latencies: Vec<u64>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            periods: Mutex::default(),
        }
    }

    /// A call ended.
    pub(crate) fn note_call(&self, way: Answered, outcome: &Outcome, latency: Duration) {
        self.note(self.begun.elapsed(), |tally| {
            tally.calls += 1;
            match way {
                Answered::Sent => tally.note_latency(latency),
                Answered::Kept => tally.kept += 1,
                Answered::Shared => tally.shared += 1,
            }
            if outcome.as_ref().is_err_and(is_error) {
                tally.errors += 1;
            }
        });
    }

    /// A call was sent.
    pub(crate) fn note_send(&self) {
        self.note(self.begun.elapsed(), |tally| tally.sends += 1);
    }

    /// A call is sent again.
    pub(crate) fn note_retry(&self) {
        self.note(self.begun.elapsed(), |tally| tally.retries += 1);
    }

    /// A backtest or an optimisation ended.
    pub(crate) fn note_end(&self, job: Job, ended: Ended) {
        self.note(self.begun.elapsed(), |tally| {
            let completion = match job {
                Job::Backtest => &mut tally.backtests,
                Job::Optimization => &mut tally.optimizations,
            };
            match ended {
                Ended::Completed => completion.completed += 1,
                Ended::Failed => completion.failed += 1,
            }
        });
    }

    /// The figures of both periods.
    pub(crate) fn figures(&self) -> AccountFigures {
        self.figures_at(self.begun.elapsed())
    }

    fn note(&self, at: Duration, count: impl Fn(&mut Tally)) {
        let minute = at.as_secs() / 60;
        let mut periods = self.periods.lock();
        count(&mut periods.all);
        periods.forget(minute);
        if periods
            .minutes
            .back()
            .is_none_or(|(last, _)| *last < minute)
        {
            periods.minutes.push_back((minute, Tally::default()));
        }
        if let Some((_, tally)) = periods.minutes.back_mut() {
            count(tally);
        }
    }

    fn figures_at(&self, at: Duration) -> AccountFigures {
        let mut periods = self.periods.lock();
        periods.forget(at.as_secs() / 60);
        let mut hour = Tally::default();
        for (_, tally) in &periods.minutes {
            hour.add(tally);
        }
        let an_hour = Duration::from_secs(MINUTES * 60);
        AccountFigures {
            since_start: periods.all.figures(at),
            last_hour: hour.figures(at.min(an_hour)),
        }
    }
}

impl Periods {
    fn forget(&mut self, minute: u64) {
        let is_old = |(counted, _): &(u64, Tally)| counted.saturating_add(MINUTES) <= minute;
        while self.minutes.front().is_some_and(is_old) {
            self.minutes.pop_front();
        }
    }
}

impl Tally {
    fn note_latency(&mut self, latency: Duration) {
        let bucket = bucket(latency);
        if self.latencies.len() <= bucket {
            self.latencies.resize(bucket.saturating_add(1), 0);
        }
        if let Some(count) = self.latencies.get_mut(bucket) {
            *count += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.kept += other.kept;
        self.shared += other.shared;
        self.sends += other.sends;
        self.retries += other.retries;
        self.errors += other.errors;
        self.backtests.add(other.backtests);
        self.optimizations.add(other.optimizations);
        if self.latencies.len() < other.latencies.len() {
            self.latencies.resize(other.latencies.len(), 0);
        }
        for (count, more) in self.latencies.iter_mut().zip(&other.latencies) {
            *count += more;
        }
    }

    fn figures(&self, period: Duration) -> Figures {
        Figures {
            seconds: period.as_secs_f64(),
            calls: self.calls,
            hits: self.kept,
            saved: self.kept + self.shared,
            sends: self.sends,
            retries: self.retries,
            errors: self.errors,
            error_rate: share(self.errors, self.calls),
            p50_ms: self.percentile(50),
            p90_ms: self.percentile(90),
            p99_ms: self.percentile(99),
            backtests: self.backtests.with_rate(),
            optimizations: self.optimizations.with_rate(),
        }
    }

    /// The upper end, in milliseconds, of the bucket that this percentage of the latencies does not exceed.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let all: u64 = self.latencies.iter().sum();
        let wanted = all.saturating_mul(percent).div_ceil(100).max(1);
        let mut seen = 0;
        let buckets = (0_u32..).zip(&self.latencies);
        for (bucket, count) in buckets {
            seen += count;
            if seen >= wanted {
                return Some(upper_end(bucket) / 1_000.0);
            }
        }
        None
    }
}

impl Completion {
    fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.failed += other.failed;
    }

    fn with_rate(self) -> Self {
        let all = self.completed + self.failed;
        Self {
            rate: share(self.completed, all),
            ..self
        }
    }
}

/// Whether a failure tells of the account, its connection or QuantConnect.
fn is_error(failure: &Failure) -> bool {
    !matches!(
        failure,
        Failure::InvalidArgument(_)
            | Failure::NotFound(_)
            | Failure::NotReady { .. }
            | Failure::Rejected(_)
            | Failure::Halted(_)
    )
}

fn share(part: u64, of: u64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)]
    let ratio = |part: u64, of: u64| part as f64 / of as f64;
    (of > 0).then(|| ratio(part, of))
}

/// The bucket of a latency.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros())
        .unwrap_or(u64::MAX)
        .max(1);
    let octave = micros.ilog2();
    let last = OCTAVES * FRACTIONS - 1;
    // The three bits after the first one.
    let fraction = match octave.checked_sub(3) {
        Some(shift) => (micros >> shift) & 7,
        None => (micros << (3 - octave)) & 7,
    };
    let fraction = u32::try_from(fraction).unwrap_or_default();
    let bucket = octave.saturating_mul(FRACTIONS).saturating_add(fraction);
    usize::try_from(bucket.min(last)).unwrap_or_default()
}

/// The upper end of a bucket, in microseconds.
fn upper_end(bucket: u32) -> f64 {
    let (octave, fraction) = (bucket / FRACTIONS, bucket % FRACTIONS);
    let octave = i32::try_from(octave).unwrap_or(i32::MAX);
    2_f64.powi(octave) * (1.0 + f64::from(fraction + 1) / f64::from(FRACTIONS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counters() -> Counters {
        Counters::new()
    }

    #[test]
    fn the_last_hour_forgets_and_the_rest_does_not() {
        let counters = counters();
        let at = |minutes: u64| Duration::from_secs(minutes * 60);
        for minute in [0, 1, 59, 60, 61] {
            counters.note(at(minute), |tally| tally.calls += 1);
        }
        let figures = counters.figures_at(at(61));
        assert_eq!((figures.since_start.calls, figures.last_hour.calls), (5, 3));
        assert_eq!(figures.last_hour.seconds.to_bits(), 3_600_f64.to_bits());
        let figures = counters.figures_at(at(500));
        assert_eq!((figures.since_start.calls, figures.last_hour.calls), (5, 0));
        assert_eq!(figures.last_hour.error_rate, None);
        assert_eq!(figures.last_hour.p50_ms, None);
    }

    #[test]
    fn the_figures_are_those_of_the_calls() {
        let counters = counters();
        let ms = Duration::from_millis;
        for n in 1..=100 {
            counters.note_call(Answered::Sent, &Ok(serde_json::Value::Null), ms(n));
        }
        for _ in 0..60 {
            counters.note_call(Answered::Kept, &Ok(serde_json::Value::Null), ms(0));
        }
        for _ in 0..20 {
            counters.note_call(Answered::Shared, &Ok(serde_json::Value::Null), ms(0));
        }
        let unavailable = Err(Failure::Unavailable("x".to_owned()));
        let rejected = Err(Failure::Rejected(vec![]));
        for _ in 0..10 {
            counters.note_call(Answered::Shared, &unavailable, ms(0));
            counters.note_call(Answered::Shared, &rejected, ms(0));
        }
        for ended in [
            Ended::Completed,
            Ended::Completed,
            Ended::Completed,
            Ended::Failed,
        ] {
            counters.note_end(Job::Backtest, ended);
        }
        let Figures {
            calls,
            hits,
            saved,
            errors,
            error_rate,
            backtests,
            optimizations,
            ..
        } = counters.figures().since_start;
        assert_eq!((calls, hits, saved, errors), (200, 60, 100, 10));
        assert_eq!(error_rate, Some(0.05));
        assert_eq!((backtests.rate, optimizations.rate), (Some(0.75), None));
        let figures = counters.figures().last_hour;
        let near = |found: Option<f64>, wanted: f64| {
            let found = found.unwrap();
            assert!(
                found >= wanted && found <= wanted * 1.13,
                "{found} is not {wanted}"
            );
        };
        near(figures.p50_ms, 50.0);
        near(figures.p90_ms, 90.0);
        near(figures.p99_ms, 99.0);
    }

    proptest! {
        #[test]
        fn a_latency_lies_below_the_end_of_its_bucket_by_an_eighth_at_most(micros in 1_u64..1 << 36) {
            let bucket = u32::try_from(bucket(Duration::from_micros(micros))).unwrap();
            #[allow(clippy::cast_precision_loss)]
            let micros = micros as f64;
            let end = upper_end(bucket);
            prop_assert!(micros < end && end <= micros * 1.125 + 0.001, "{micros} in {bucket}, to {end}");
        }
    }
}
