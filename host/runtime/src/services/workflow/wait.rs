//! Waiting for QuantConnect: polling intervals, tolerated failures, and when to give up.
//!
//! Invariant: nothing is sent twice unless it is certain that the first attempt had no effect, and
//! nothing is sent when the invocation is about to end.

use std::future::Future;
use std::time::{Duration, Instant};

use qchost_gate::SentMarker;
use tokio::time::{sleep, timeout_at};

use crate::contract::quantconnect::api::types::Error;

/// The first polling interval.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The longest polling interval.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Growth factor of the interval.
const POLL_GROWTH: f64 = 1.5;
/// How many consecutive polls may fail before the failure is returned.
const MAX_LOST_POLLS: u32 = 5;
/// Time left to the agent to use the answer.
const RESERVED_TIME: Duration = Duration::from_millis(500);

/// The time that a workflow has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// Nothing is sent after this.
    last_send: Instant,
    /// Waiting ends at this instant.
    last_wait: Instant,
}

impl Deadline {
    /// Ends shortly before the invocation is cancelled.
    pub(super) fn before(deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        let reserved = RESERVED_TIME.min(left / 10);
        let earlier = |length| deadline.checked_sub(length).unwrap_or(deadline);
        Self {
            last_send: earlier(reserved),
            last_wait: earlier(reserved / 2),
        }
    }

    /// Sends a call that must not be sent twice. It is retried only when it was rate limited, which
    /// means that nothing was done.
    pub(super) async fn send<T, F>(&self, mut call: impl FnMut(SentMarker) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut wait = MIN_POLL_INTERVAL;
        loop {
            if self.remaining().is_zero() {
                return Err(Error::TimedOut(
                    "not sent: the time of the invocation is up".to_owned(),
                ));
            }
            let sent_marker = SentMarker::default();
            match timeout_at(self.last_wait.into(), call(sent_marker.clone())).await {
                Ok(Err(Error::RateLimited(seconds))) => {
                    wait = longer(wait).max(duration(seconds));
                    if wait >= self.remaining() {
                        return Err(Error::RateLimited(seconds));
                    }
                    sleep(wait).await;
                }
                Ok(answer) => return answer,
                // The call has been cancelled here, so if it has no intent yet it never will.
                Err(_) if sent_marker.get() => {
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
        let mut wait = MIN_POLL_INTERVAL;
        let mut lost_polls = 0;
        loop {
            let too_late = || {
                Error::TimedOut(format!(
                    "{what} was not over after {:.1} s, when the time of the invocation was up; it goes on at QuantConnect",
                    begun.elapsed().as_secs_f64()
                ))
            };
            let left = self.remaining();
            if left.is_zero() {
                return Err(too_late());
            }
            sleep(wait.min(left)).await;
            wait = longer(wait);
            let answer = timeout_at(self.last_wait.into(), read()).await;
            match answer.map_err(|_| too_late())? {
                Ok(answer) if ended(&answer) => return Ok(answer),
                Ok(_) | Err(Error::NotReady(_)) => lost_polls = 0,
                Err(Error::RateLimited(seconds)) => wait = longer(wait).max(duration(seconds)),
                // A read changes nothing, and the connection may recover.
                Err(Error::Unavailable(_) | Error::TimedOut(_)) if lost_polls < MAX_LOST_POLLS => {
                    lost_polls += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn remaining(&self) -> Duration {
        self.last_send.saturating_duration_since(Instant::now())
    }
}

fn longer(wait: Duration) -> Duration {
    wait.mul_f64(POLL_GROWTH).min(MAX_POLL_INTERVAL)
}

/// The contract's duration; zero if it is invalid.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
