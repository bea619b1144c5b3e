//! What the calls of an account have shown about it.
//!
//! Invariant: the state is that of the last call with a conclusive result; a change is logged once, when it
//! is noticed.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use crate::fault::Problem;
use crate::health::AccountState;

/// What is known of an account from its calls.
pub(crate) struct HealthTracker {
    account: String,
    known: Mutex<Option<Observed>>,
}

/// The state that the last call showed.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) problem: Option<Problem>,
    /// The server's text, if there is a problem.
    pub(crate) cause: Option<String>,
    /// When the state began.
    pub(crate) since: Instant,
    /// When a call last confirmed it.
    pub(crate) noted: Instant,
    /// Until when the server wants no requests.
    retry_at: Option<Instant>,
}

impl HealthTracker {
    /// An account in unknown state.
    pub(crate) fn new(account: &str) -> Self {
        Self {
            account: account.to_owned(),
            known: Mutex::new(None),
        }
    }

    /// A call was answered, with any answer.
    pub(crate) fn answered(&self) {
        self.note(None, None, None);
    }

    /// A call failed for a reason that lies with the account.
    pub(crate) fn failed(&self, problem: Problem, cause: String, wait: Option<Duration>) {
        self.note(Some(problem), Some(cause), wait);
    }

    fn note(&self, problem: Option<Problem>, cause: Option<String>, wait: Option<Duration>) {
        let now = Instant::now();
        let mut known = self.known.lock();
        let former = known.take();
        let same = former.as_ref().is_some_and(|it| it.problem == problem);
        let since = match &former {
            Some(former) if same => former.since,
            _ => now,
        };
        if !same {
            let state = AccountState::of(problem);
            match (&cause, &former) {
                (Some(cause), _) => {
                    tracing::warn!(account = self.account, %state, "the account is {state}: {cause}");
                }
                (None, Some(_)) => {
                    tracing::info!(account = self.account, %state, "the account is {state} again");
                }
                (None, None) => {
                    tracing::info!(account = self.account, %state, "the account is {state}")
                }
            }
        }
        *known = Some(Observed {
            problem,
            cause,
            since,
            noted: now,
            retry_at: wait.and_then(|wait| now.checked_add(wait)),
        });
    }

    /// The current state. A rate limit ends when the server's wait is over.
    pub(crate) fn now(&self) -> Option<Observed> {
        let known = self.known.lock().clone()?;
        let over = known.retry_at.is_some_and(|until| until <= Instant::now());
        if known.problem == Some(Problem::RateLimited) && over {
            return None;
        }
        Some(known)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_says_how_the_account_stands() {
        let tracker = HealthTracker::new("research");
        assert!(tracker.now().is_none());
        tracker.answered();
        assert_eq!(tracker.now().unwrap().problem, None);
        tracker.failed(Problem::Clock, "late".to_owned(), None);
        let first = tracker.now().unwrap();
        assert_eq!(first.problem, Some(Problem::Clock));
        tracker.failed(Problem::Clock, "later".to_owned(), None);
        let second = tracker.now().unwrap();
        assert_eq!(second.since, first.since, "it is the same problem");
        assert_eq!(second.cause.as_deref(), Some("later"));
    }

    #[test]
    fn a_rate_limit_ends_with_its_wait() {
        let tracker = HealthTracker::new("research");
        let wait = |seconds| Some(Duration::from_secs(seconds));
        tracker.failed(Problem::RateLimited, "slow down".to_owned(), wait(60));
        assert_eq!(tracker.now().unwrap().problem, Some(Problem::RateLimited));
        tracker.failed(Problem::RateLimited, "slow down".to_owned(), wait(0));
        assert!(tracker.now().is_none());
    }
}
