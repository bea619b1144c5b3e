//! `clock`: the current time, and the time left.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::contract::qchost::agent::clock::{Host, UnixSeconds};

/// The clock of one invocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// When the invocation is cut off.
    pub(crate) deadline: Instant,
}

impl Host for Clock {
    fn now(&mut self) -> UnixSeconds {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    }

    fn remaining(&mut self) -> f64 {
        self.deadline
            .saturating_duration_since(Instant::now())
            .as_secs_f64()
    }
}
