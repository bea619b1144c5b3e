//! Faults that a test can enable.
//!
//! Invariant: no fault is random. Each [`Fault`] counts the requests that match its endpoint
//! and strikes by that count, so a failing test fails again.

use parking_lot::Mutex;
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// The request is carried out after this delay.
    Latency(Duration),
    /// Not carried out; the answer is `success: false` with this error.
    Refuse(String),
    /// Not carried out; the answer has this HTTP status and no JSON.
    Status(u16),
    /// Not carried out; HTTP 429, with `Retry-After` in whole seconds.
    TooManyRequests {
        /// Rounded up to whole seconds.
        retry_after: Duration,
    },
    /// Not carried out; the answer says that the data are still being produced. Meant for the
    /// endpoints where the cloud does that: charts, orders, insights and logs.
    Loading {
        /// From 0 to 1.
        progress: f64,
    },
    /// Not carried out, but the answer is `success: true` and nothing else.
    Pretend,
    /// Carried out, but the connection is closed before a byte of the answer is sent.
    LoseAnswer,
}

/// A fault, where it strikes and how often.
///
/// ```
/// use qchost_emulator::{Fault, FaultKind};
/// // Every fifth request of any kind fails with HTTP 500.
/// let flaky = Fault::everywhere(FaultKind::Status(500)).every(5);
/// // The first two readings of a chart get "loading".
/// let slow = Fault::at("/backtests/chart/read", FaultKind::Loading { progress: 0.5 }).times(2);
/// # let _ = (flaky, slow);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    endpoint: Option<String>,
    kind: FaultKind,
    every: u64,
    after: u64,
    times: Option<u64>,
    matched: u64,
    struck: u64,
}

impl Fault {
    /// A fault at one endpoint, such as `/backtests/create`; it strikes each time unless
    /// [`every`](Self::every) or [`times`](Self::times) says otherwise.
    #[must_use]
    pub fn at(endpoint: &str, kind: FaultKind) -> Self {
        Self {
            endpoint: Some(endpoint.to_owned()),
            ..Self::everywhere(kind)
        }
    }

    /// A fault at every endpoint.
    #[must_use]
    pub fn everywhere(kind: FaultKind) -> Self {
        Self {
            endpoint: None,
            kind,
            every: 1,
            after: 0,
            times: None,
            matched: 0,
            struck: 0,
        }
    }

    /// Only every `count`-th matching request: the `count`-th, twice the `count`-th and so on.
    /// Zero counts as one.
    #[must_use]
    pub fn every(mut self, count: u64) -> Self {
        self.every = count.max(1);
        self
    }

    /// Not the first `count` matching requests.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// At most `count` times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    fn strike(&mut self, endpoint: &str) -> Option<FaultKind> {
        if self.endpoint.as_deref().is_some_and(|at| at != endpoint) {
            return None;
        }
        self.matched += 1;
        let counted = self.matched.checked_sub(self.after)?;
        let due = counted > 0 && counted.is_multiple_of(self.every);
        if !due || self.times.is_some_and(|times| self.struck >= times) {
            return None;
        }
        self.struck += 1;
        Some(self.kind.clone())
    }
}

/// The enabled faults, with their counts.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Replaces all faults; the new ones have counted nothing yet.
    pub(crate) fn set(&self, faults: Vec<Fault>) {
        *self.0.lock() = faults;
    }

    /// The faults that apply to a request to `endpoint`, in the order in which the faults were given.
    pub(crate) fn strike(&self, endpoint: &str) -> Vec<FaultKind> {
        let mut faults = self.0.lock();
        let struck = faults.iter_mut().filter_map(|fault| fault.strike(endpoint));
        struck.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(fault: Fault) -> Vec<bool> {
        let faults = Faults::default();
        faults.set(vec![fault]);
        (0..8)
            .map(|_| !faults.strike("/projects/read").is_empty())
            .collect()
    }

    #[test]
    fn strikes_by_count() {
        let refuse = || FaultKind::Refuse("no".to_owned());
        assert_eq!(pattern(Fault::everywhere(refuse())), [true; 8]);
        assert_eq!(
            pattern(Fault::everywhere(refuse()).every(3)),
            [false, false, true, false, false, true, false, false]
        );
        assert_eq!(
            pattern(Fault::everywhere(refuse()).after(2).times(1)),
            [false, false, true, false, false, false, false, false]
        );
        assert_eq!(pattern(Fault::at("/elsewhere", refuse())), [false; 8]);
    }
}
