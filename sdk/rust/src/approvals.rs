//! Waiting for a person's decision.

pub use crate::bindings::qchost::agent::approvals::wait;

use crate::Error;

/// Makes a call, and if it needs approval, waits for that and makes it again.
///
/// An approval is for the very arguments of the call, so `call` has to make it with the same ones.
/// The invocation waits within its `wall` limit. To leave instead, and let a later invocation make
/// the call, return the [`Error::ApprovalRequired`] of the first attempt.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// # fn action(project: u32, backtest: &str) -> Result<(), Failure> {
/// approvals::when_approved(|| backtests::delete_backtest(project, backtest))?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Any other error of the call; [`Error::ApprovalRefused`] if the person says no;
/// [`Error::TimedOut`] if no decision is made before the agent would be cut off.
pub fn when_approved<T>(call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    approved(call, wait)
}

fn approved<T>(
    mut call: impl FnMut() -> Result<T, Error>,
    mut wait: impl FnMut(&str) -> Result<(), Error>,
) -> Result<T, Error> {
    let mut given: Option<String> = None;
    loop {
        match call() {
            // Waiting for the same approval again would not help.
            Err(Error::ApprovalRequired(id)) if given.as_deref() != Some(&id) => {
                wait(&id)?;
                given = Some(id);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(id: &str) -> Result<u32, Error> {
        Err(Error::ApprovalRequired(id.into()))
    }

    #[test]
    fn the_call_is_made_again_once_it_is_approved() {
        let mut answers = vec![Ok(7), required("ap-2"), required("ap-1")];
        let mut waited = Vec::new();
        let answer = approved(
            || answers.pop().unwrap(),
            |id| {
                waited.push(id.to_owned());
                Ok(())
            },
        );
        assert_eq!(answer, Ok(7));
        assert_eq!(waited, ["ap-1", "ap-2"]);
    }

    #[test]
    fn a_refusal_ends_it_and_the_call_is_not_made_again() {
        let mut calls = 0;
        let answer = approved(
            || {
                calls += 1;
                required("ap-1")
            },
            |_| Err(Error::ApprovalRefused("too large".into())),
        );
        assert_eq!(answer, Err(Error::ApprovalRefused("too large".into())));
        assert_eq!(calls, 1);
    }

    #[test]
    fn an_approval_that_does_not_help_is_waited_for_once() {
        let mut waits = 0;
        let answer = approved(
            || required("ap-1"),
            |_| {
                waits += 1;
                Ok(())
            },
        );
        assert_eq!((answer, waits), (required("ap-1"), 1));
    }
}
