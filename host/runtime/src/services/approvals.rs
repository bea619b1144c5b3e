//! `approvals`: waiting for a person's decision.
//!
//! The gate knows when it is made; here is only the limit of the wait. It ends a little before the
//! invocation does, so that the agent hears of it and can leave in order.

use std::time::{Duration, Instant};

use crate::calls::{Calls, refused};
use crate::contract::qchost::agent::approvals::{Error, Host};

/// What is left to the agent when waiting ends.
const REST: Duration = Duration::from_secs(1);

/// The approvals of one invocation.
#[derive(Debug, Clone)]
pub(crate) struct Approvals {
    pub(crate) calls: Calls,
    /// When the invocation is cut off.
    pub(crate) deadline: Instant,
}

impl Approvals {
    /// How long a wait may last: a tenth of what is left, and at most a second, is kept.
    fn longest(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub(REST.min(left / 10))
    }
}

impl Host for Approvals {
    async fn wait(&mut self, id: String) -> Result<(), Error> {
        let deciding = self.calls.gate()?.wait_approval(self.calls.caller(), &id);
        match tokio::time::timeout(self.longest(), deciding).await {
            Ok(decided) => decided.map_err(refused),
            Err(_) => Err(Error::TimedOut(format!(
                "nobody decided on approval {} while this invocation could wait",
                crate::text::line(&id, 64)
            ))),
        }
    }
}
