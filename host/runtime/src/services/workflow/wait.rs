//! Waiting for QuantConnect: polling intervals, tolerated failures, and when to give up.
//!
//! Invariant: nothing is sent twice unless it is certain that the first attempt had no effect, and
//! nothing is sent when the invocation is about to end.

use std::future::Future;
use std::time::{Duration, Instant};

use qchost_gate::Intended;
use tokio::time::{sleep, timeout_at};

use crate::contract::quantconnect::api::types::Error;

/// The first polling interval.
const FIRST: Duration = Duration::from_millis(100);
/// The longest polling interval.
const LONGEST: Duration = Duration::from_secs(5);
/// Growth factor of the interval.
const GROWTH: f64 = 1.5;
/// How many consecutive polls may fail before the failure is returned.
const LOST: u32 = 5;
/// Time left to the agent to use the answer.
const GRACE: Duration = Duration::from_millis(500);

/// The available time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Nothing is sent after this.
    deadline: Instant,
    /// Waiting ends at this instant.
    last: Instant,
}

impl Patience {
    /// Ends shortly before the invocation is cancelled.
    pub(super) fn until(deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        let grace = GRACE.min(left / 10);
        let before = |length| deadline.checked_sub(length).unwrap_or(deadline);
        Self {
            deadline: before(grace),
            last: before(grace / 2),
        }
    }

    /// Sends a call that must not be sent twice. It is retried only when it was rate limited, which
    /// means that nothing was done.
    pub(super) async fn send<T, F>(&self, mut call: impl FnMut(Intended) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut wait = FIRST;
        loop {
            if self.left().is_zero() {
                return Err(Error::TimedOut(
                    "not sent: the time of the invocation is up".to_owned(),
                ));
            }
            let intended = Intended::default();
            match timeout_at(self.last.into(), call(intended.clone())).await {
                Ok(Err(Error::RateLimited(seconds))) => {
                    wait = longer(wait).max(length(seconds));
                    if wait >= self.left() {
                        return Err(Error::RateLimited(seconds));
                    }
                    sleep(wait).await;
                }
                Ok(answer) => return answer,
                // The call has been cancelled here, so if it has no intent yet it never will.
                Err(_) if intended.get() => {
                    return Err(Error::UnknownOutcome(
                        "sent, but not answered when the time of the invocation was up".to_owned(),
                    ));
                }
                Err(_) => {
                    return Err(Error::TimedOut(
                        "not sent: the time of the invocation was up while the host decided about it"
                            .to_owned(),
                    ));
                }
            }
        }
    }

    /// Polls until the answer is final.
    pub(super) async fn poll<T, F>(
        &self,
        what: &str,
        mut read: impl FnMut() -> F,
        ended: impl Fn(&T) -> bool,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        let mut wait = FIRST;
        let mut lost = 0;
        loop {
            let too_late = || {
                Error::TimedOut(format!(
                    "{what} was not over after {:.1} s, when the time of the invocation was up; it goes on at QuantConnect",
                    begun.elapsed().as_secs_f64()
                ))
            };
            let left = self.left();
            if left.is_zero() {
                return Err(too_late());
            }
            sleep(wait.min(left)).await;
            wait = longer(wait);
            let answer = timeout_at(self.last.into(), read()).await;
            match answer.map_err(|_| too_late())? {
                Ok(answer) if ended(&answer) => return Ok(answer),
                Ok(_) | Err(Error::NotReady(_)) => lost = 0,
                Err(Error::RateLimited(seconds)) => wait = longer(wait).max(length(seconds)),
                // A read changes nothing, and the connection may recover.
                Err(Error::Unavailable(_) | Error::TimedOut(_)) if lost < LOST => lost += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

fn longer(wait: Duration) -> Duration {
    wait.mul_f64(GROWTH).min(LONGEST)
}

/// The contract's duration; zero if it is invalid.
fn length(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
