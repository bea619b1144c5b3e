//! How an action ends when it does not end well, and what turns into that with `?`.

use crate::{Error, FolderError, StateError};

/// Why an action failed.
///
/// ```
/// use qchost_sdk::{Error, Failure};
///
/// fn action(answer: Result<u32, Error>) -> Result<u32, Failure> {
///     Ok(answer? + 1)
/// }
/// let answer = Err(Error::NotFound("project 7".into()));
/// assert_eq!(action(answer).unwrap_err().to_string(), "not found: project 7");
/// ```
///
/// Whatever an action meets becomes one with `?`:
///
/// | from | becomes |
/// |---|---|
/// | [`Error`], of a call to QuantConnect | [`Capability`](Failure::Capability) |
/// | [`serde_json::Error`] | [`InvalidInput`](Failure::InvalidInput) |
/// | `&str`, `String`, [`StateError`], [`FolderError`] | [`Failed`](Failure::Failed) |
///
/// JSON that did not come from the caller is better given a sentence of its own:
/// `.map_err(|error| format!("the benchmark file is not JSON: {error}"))?`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The input is wrong: what and why.
    #[error("invalid input: {0}")]
    InvalidInput(String),
    /// The agent has no such action, or does not handle such events.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A call that it made failed.
    #[error("{0}")]
    Capability(Error),
    /// Anything else, in a sentence.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// The input is wrong: what and why.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::InvalidInput(message.into())
    }

    /// Anything else, in a sentence.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Capability(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::Failed(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_keeps_what_went_wrong() {
        fn call() -> Result<(), Failure> {
            Err(Error::NotFound("project 7".into()))?;
            Ok(())
        }
        assert_eq!(
            call(),
            Err(Failure::Capability(Error::NotFound("project 7".into())))
        );
        assert_eq!(call().unwrap_err().to_string(), "not found: project 7");
    }

    #[test]
    fn other_errors_become_sentences() {
        let json = serde_json::from_str::<u32>("\"x\"").unwrap_err();
        assert!(
            matches!(Failure::from(json), Failure::InvalidInput(text) if text.contains("line 1"))
        );
        assert_eq!(Failure::from("no"), Failure::Failed("no".into()));
        let full = StateError::QuotaExceeded("1 MiB is allowed".into());
        assert_eq!(
            Failure::from(full).to_string(),
            "the agent's state is full: 1 MiB is allowed"
        );
        let taken = FolderError::Conflict("`f` exists already".into());
        assert_eq!(
            Failure::from(taken).to_string(),
            "in conflict: `f` exists already"
        );
    }
}
