//! Time as the host sees it, and how much of it is left.

use std::time::Duration;

pub use crate::bindings::qchost::agent::clock::{now, remaining};

use crate::Failure;

/// How long until this invocation is cut off.
#[must_use]
pub fn time_left() -> Duration {
    duration(remaining())
}

/// Checks that there is time for one more piece of work.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// # use std::time::Duration;
/// # fn action() -> Result<(), Failure> {
/// clock::ensure(Duration::from_secs(30), "another backtest")?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If less than `needed` is left; the message names the work.
pub fn ensure(needed: Duration, work: &str) -> Result<(), Failure> {
    enough(time_left(), needed, work)
}

fn enough(left: Duration, needed: Duration, work: &str) -> Result<(), Failure> {
    if left >= needed {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{:.1} s are left, too few for {work} ({:.1} s): raise `wall` in `[limits]` of the manifest, or ask for less",
        left.as_secs_f64(),
        needed.as_secs_f64(),
    )))
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_refused_when_time_is_short() {
        let second = Duration::from_secs(1);
        assert_eq!(enough(second, second, "a backtest"), Ok(()));
        let failure = enough(second / 2, second, "a backtest").unwrap_err();
        assert_eq!(
            failure.to_string(),
            "0.5 s are left, too few for a backtest (1.0 s): raise `wall` in `[limits]` of the manifest, or ask for less"
        );
    }

    #[test]
    fn no_answer_of_the_clock_is_out_of_range() {
        assert_eq!(duration(-1.0), Duration::ZERO);
        assert_eq!(duration(f64::NAN), Duration::ZERO);
        assert_eq!(duration(f64::INFINITY), Duration::MAX);
    }
}
