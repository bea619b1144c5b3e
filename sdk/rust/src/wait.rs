//! Waiting for what QuantConnect is still computing.

use std::time::Duration;

use crate::{Error, clock};

/// The first pause; each is twice as long as the one before, up to [`MAX_INTERVAL`].
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// Makes a call again and again until its answer is ready: as long as it returns
/// [`Error::NotReady`] or [`Error::RateLimited`] and time is left.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// # fn action(project: u32, backtest: &str) -> Result<(), Failure> {
/// let orders = wait::until_ready(|| backtests::read_backtest_orders(project, backtest, 0, 100))?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Any other error of the call; or its last one, when waiting longer would cut the agent off.
pub fn until_ready<T>(call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    retry(call, clock::time_left, std::thread::sleep)
}

fn retry<T>(
    mut call: impl FnMut() -> Result<T, Error>,
    mut left: impl FnMut() -> Duration,
    mut sleep: impl FnMut(Duration),
) -> Result<T, Error> {
    let mut pause = MIN_INTERVAL;
    loop {
        let error = match call() {
            Err(error @ (Error::NotReady(_) | Error::RateLimited(_))) => error,
            done => return done,
        };
        let requested = match error {
            Error::RateLimited(seconds) => {
                Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
            }
            _ => Duration::ZERO,
        };
        let next = pause.max(requested);
        if left() <= next {
            return Err(error);
        }
        sleep(next);
        pause = (pause * 2).min(MAX_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Readiness;

    fn not_ready() -> Error {
        Error::NotReady(Readiness {
            progress: None,
            message: "loading".into(),
        })
    }

    #[test]
    fn it_waits_longer_each_time_and_returns_the_answer() {
        let mut answers = vec![
            Ok(7),
            Err(not_ready()),
            Err(Error::RateLimited(9.0)),
            Err(not_ready()),
        ];
        let mut pauses = Vec::new();
        let answer = retry(
            || answers.pop().unwrap(),
            || Duration::from_secs(60),
            |pause| pauses.push(pause.as_millis()),
        );
        assert_eq!(answer, Ok(7));
        assert_eq!(pauses, [100, 9000, 400]);
    }

    #[test]
    fn it_stops_before_the_agent_is_cut_off() {
        let mut left = Duration::from_secs(1);
        let answer: Result<(), Error> = retry(
            || Err(not_ready()),
            || {
                left = left.saturating_sub(Duration::from_millis(300));
                left
            },
            |_| {},
        );
        assert_eq!(answer, Err(not_ready()));
    }

    #[test]
    fn any_other_error_comes_back_at_once() {
        let mut calls = 0;
        let answer: Result<(), Error> = retry(
            || {
                calls += 1;
                Err(Error::NotFound("backtest".into()))
            },
            || Duration::MAX,
            |_| panic!("waited"),
        );
        assert_eq!(answer, Err(Error::NotFound("backtest".into())));
        assert_eq!(calls, 1);
    }
}
