//! The durations of asynchronous work in the emulated cloud.
//!
//! Invariant: every state that a client can poll for is reached by the clock alone; polling
//! more or less often changes nothing.

use std::time::Duration;

macro_rules! timings {
    ($($(#[$doc:meta])* $name:ident: $default:literal ms,)*) => {
        /// The durations of everything that is asynchronous in the cloud. The defaults are short
        /// enough for a person to wait and long enough to be seen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Timing {
            $($(#[$doc])* pub $name: Duration,)*
        }

        impl Default for Timing {
            fn default() -> Self {
                Self { $($name: Duration::from_millis($default),)* }
            }
        }

        impl Timing {
            /// The same cloud, `factor` times as fast. Zero counts as one.
            #[must_use]
            pub fn faster(self, factor: u32) -> Self {
                Self { $($name: self.$name / factor.max(1),)* }
            }
        }
    };
}

timings! {
    /// `InQueue` until `BuildSuccess` or `BuildError`.
    compile: 300 ms,
    /// `In Queue...` at least, before a free node takes a backtest.
    backtest_queue: 250 ms,
    /// Running time of a backtest, at least; the engine may need longer.
    backtest: 750 ms,
    /// `new` until an optimization starts its first backtest.
    optimization_queue: 250 ms,
    /// Running time of each backtest of an optimization, at least.
    optimization_backtest: 400 ms,
    /// `LoggingIn` of a live deployment.
    live_login: 500 ms,
    /// `Initializing` of a live deployment, at least.
    live_initialize: 500 ms,
    /// Wall time for one simulated day of a live deployment.
    live_day: 2_000 ms,
    /// Until the download address of an object store job is there.
    object_download: 300 ms,
}
