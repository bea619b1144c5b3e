//! How many retries an account may make, for all its calls together.
//!
//! Each call has its own limit of attempts, but when a server fails, all calls fail at a time: with five attempts each, the
//! server would get five times the load just then. So every retry costs a token of the account, and tokens come in with
//! calls and with time.
//!
//! Risk-reducing calls are retried without tokens (see [`Account`](crate::Account)).
//!
//! Invariant: over any period, other retries are at most a fifth of the calls, plus [`PER_SECOND`] a second, plus [`MAX_TOKENS`].

use std::time::Instant;

use parking_lot::Mutex;

/// The tokens of an account that has not retried lately.
const MAX_TOKENS: f64 = 100.0;
/// What a call adds.
const PER_CALL: f64 = 0.2;
/// What a second adds, so that an account with few calls may retry each of them.
const PER_SECOND: f64 = 5.0;

/// The tokens of one account.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Tokens>);

#[derive(Debug)]
struct Tokens {
    left: f64,
    counted: Instant,
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Tokens {
            left: MAX_TOKENS,
            counted: Instant::now(),
        }))
    }

    /// A call begins.
    pub(crate) fn note_call(&self) {
        let mut tokens = self.0.lock();
        tokens.left = (tokens.left + PER_CALL).min(MAX_TOKENS);
    }

    /// Pays for a retry; `false` if there may be none now.
    pub(crate) fn pay(&self, now: Instant) -> bool {
        let mut tokens = self.0.lock();
        let passed = now.saturating_duration_since(tokens.counted);
        tokens.counted = now.max(tokens.counted);
        tokens.left = (tokens.left + passed.as_secs_f64() * PER_SECOND).min(MAX_TOKENS);
        if tokens.left < 1.0 {
            return false;
        }
        tokens.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retries_are_a_fraction_of_the_calls_in_a_storm_and_come_back_with_time() {
        let budget = RetryBudget::new();
        let now = Instant::now();
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.note_call();
            // Each call fails, and would be retried four times.
            retries += (0..4).filter(|_| budget.pay(now)).count();
        }
        assert!((2_000..=2_200).contains(&retries), "{retries}");
        assert!(!budget.pay(now));
        assert!(budget.pay(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(3_600);
        let kept = (0..1_000).filter(|_| budget.pay(later)).count();
        assert_eq!(kept, 100);
    }
}
