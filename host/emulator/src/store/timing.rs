//! The durations of asynchronous work in the emulated cloud.
//!
//! Invariant: every state that a client can poll for is reached by the clock alone; polling
//! more or less often changes nothing.

use std::time::Duration;

/// The durations of everything that is asynchronous in the cloud. The defaults are short
/// enough for a person to wait and long enough to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// `InQueue` until `BuildSuccess` or `BuildError`.
    pub compile: Duration,
    /// `In Queue...` at least, before a free node takes a backtest.
    pub backtest_queue: Duration,
    /// Running time of a backtest, at least; the engine may need longer.
    pub backtest: Duration,
    /// `new` until an optimization starts its first backtest.
    pub optimization_queue: Duration,
    /// Running time of each backtest of an optimization, at least.
    pub optimization_backtest: Duration,
    /// `LoggingIn` of a live deployment.
    pub live_login: Duration,
    /// `Initializing` of a live deployment, at least.
    pub live_initialize: Duration,
    /// Wall time for one simulated day of a live deployment.
    pub live_day: Duration,
    /// Until the download address of an object store job is there.
    pub object_download: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            compile: Duration::from_millis(300),
            backtest_queue: Duration::from_millis(250),
            backtest: Duration::from_millis(750),
            optimization_queue: Duration::from_millis(250),
            optimization_backtest: Duration::from_millis(400),
            live_login: Duration::from_millis(500),
            live_initialize: Duration::from_millis(500),
            live_day: Duration::from_secs(2),
            object_download: Duration::from_millis(300),
        }
    }
}

impl Timing {
    /// The same cloud, `factor` times as fast. Zero counts as one.
    #[must_use]
    pub fn faster(mut self, factor: u32) -> Self {
        for duration in [
            &mut self.compile,
            &mut self.backtest_queue,
            &mut self.backtest,
            &mut self.optimization_queue,
            &mut self.optimization_backtest,
            &mut self.live_login,
            &mut self.live_initialize,
            &mut self.live_day,
            &mut self.object_download,
        ] {
            *duration /= factor.max(1);
        }
        self
    }
}
