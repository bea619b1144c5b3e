//! Why an invocation has no output.
//!
//! Invariant: a plugin's texts are bounded, and free of control characters and secrets here.

use std::time::Duration;

use qchost_text::Redactor;

use crate::calls;
use crate::contract::exports::qchost::agent::guest;
use crate::execution::StopReason;
use crate::text;

/// Maximum bytes of a plugin's message that an error repeats.
pub(crate) const MAX_MESSAGE: usize = 4096;

/// Why an invocation has no output.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvokeError {
    /// No such plugin is loaded.
    #[error("there is no plugin `{plugin}`; loaded are: {}; see: qchost plugin list", known(.loaded))]
    UnknownPlugin {
        /// The requested name.
        plugin: String,
        /// The loaded plugins.
        loaded: Vec<String>,
    },
    /// The plugin has no such action.
    #[error("`{plugin}` has no action `{action}`; it has: {}", known(.actions))]
    UnknownAction {
        /// The plugin.
        plugin: String,
        /// The requested action.
        action: String,
        /// The available actions.
        actions: Vec<String>,
    },
    /// Too many invocations are queued already.
    #[error("`{plugin}` has {waiting} invocations waiting; try again later")]
    Busy {
        /// The plugin.
        plugin: String,
        /// The number of queued invocations.
        waiting: usize,
    },
    /// The plugin keeps failing and is in quarantine. The plugin was not run.
    #[error("`{plugin}` keeps failing and is not run {}; the last time: {reason}", remaining_words(*.retry_after))]
    Quarantined {
        /// The plugin.
        plugin: String,
        /// Remaining time of the quarantine.
        retry_after: Duration,
        /// Its last failure.
        reason: String,
    },
    /// The plugin was unloaded while the invocation was queued. The plugin was not run.
    #[error("`{plugin}` was unloaded")]
    Unloaded {
        /// The plugin.
        plugin: String,
    },
    /// The host shuts down.
    #[error("the host shuts down")]
    ShuttingDown,
    /// The action was found, by its name after that of its plugin, and has no output.
    #[error("`{0}`: {1}")]
    Action(String, ActionError),
}

/// Why an action has no output.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ActionError {
    /// The input does not fit the action's schema. The plugin was not run.
    #[error("the input does not fit{}: {message}", at(.path))]
    InvalidInput {
        /// The location in the input, as a JSON pointer; empty for the whole.
        path: String,
        /// The problem.
        message: String,
    },
    /// It ran on a version that was replaced or removed, and exceeded the drain time.
    #[error(
        "it was cut off, since its version was replaced or removed; calls that it had sent go on, so read the state before you try again"
    )]
    Replaced,
    /// The host shut down before it ended.
    #[error(
        "it was cut off, since the host shuts down; calls that it had sent go on, so read the state before you try again"
    )]
    CutOff,
    /// It was stopped.
    #[error("{0}")]
    Stopped(StopReason),
    /// Its output is larger than its manifest allows.
    #[error("the output has {size} bytes, more than the {limit} of `limits.output`")]
    OutputTooLarge {
        /// Its size, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Its output is not JSON, or has more values than fit `limits.output`.
    #[error("the output is not usable JSON: {0}")]
    InvalidOutput(String),
    /// Its output does not fit the action's schema of outputs.
    #[error(
        "the output does not fit its own schema{}: {message}; the action ran to its end, and what it did is done",
        at(.path)
    )]
    UnfitOutput {
        /// The location in the output, as a JSON pointer; empty for the whole.
        path: String,
        /// The problem.
        message: String,
    },
    /// The plugin itself reports a failure.
    #[error("{0}")]
    Failure(Failure),
}

/// A failure as the plugin reports it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The input is wrong.
    #[error("invalid input: {}", or_placeholder(.0))]
    InvalidInput(String),
    /// The plugin does not support it.
    #[error("unsupported: {}", or_placeholder(.0))]
    Unsupported(String),
    /// A call of QuantConnect failed.
    #[error("{kind}: {}", or_placeholder(.message))]
    Capability {
        /// The case of the contract's `error`: `denied`, `rejected` …
        kind: &'static str,
        /// The message.
        message: String,
    },
    /// Anything else.
    #[error("{}", or_placeholder(.0))]
    Failed(String),
}

impl Failure {
    /// What the plugin reports, without secrets: a server may have repeated one to it.
    pub(crate) fn reported(failure: guest::Failure, redactor: &Redactor) -> Self {
        let bounded = |message: String| text::clean_lines(&message, MAX_MESSAGE, redactor);
        match failure {
            guest::Failure::InvalidInput(message) => Self::InvalidInput(bounded(message)),
            guest::Failure::Unsupported(message) => Self::Unsupported(bounded(message)),
            guest::Failure::Failed(message) => Self::Failed(bounded(message)),
            guest::Failure::Capability(error) => {
                let (kind, message) = calls::words(error);
                Self::Capability {
                    kind,
                    message: bounded(message),
                }
            }
        }
    }
}

/// The duration or the end of a quarantine, in words.
fn remaining_words(retry_after: Duration) -> String {
    match retry_after.is_zero() {
        true => "while one invocation tries whether it works again".to_owned(),
        false => format!("for another {} s", retry_after.as_secs_f64().ceil()),
    }
}

/// A plugin's message, or a placeholder for an empty one.
fn or_placeholder(message: &str) -> &str {
    match message.trim() {
        "" => "it failed, and the plugin does not say why",
        _ => message,
    }
}

fn known(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

fn at(path: &str) -> String {
    match path {
        "" => String::new(),
        path => format!(" at `{path}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_ends_in_nothing() {
        let empty = String::new;
        for failure in [
            Failure::InvalidInput(empty()),
            Failure::Unsupported(" ".to_owned()),
            Failure::Capability {
                kind: "rejected",
                message: empty(),
            },
            Failure::Failed(empty()),
        ] {
            let shown = failure.to_string();
            assert!(shown.ends_with("does not say why"), "{shown}");
        }
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_failure_is_cut() {
        let secret = "s3cret-0123456789-abcdefghij";
        let redactor = Redactor::default();
        redactor.remember(secret.into());
        let message = format!("{}{secret}", "x".repeat(MAX_MESSAGE - 10));
        for failure in [
            guest::Failure::InvalidInput(message.clone()),
            guest::Failure::Unsupported(message.clone()),
            guest::Failure::Failed(message.clone()),
        ] {
            let shown = Failure::reported(failure, &redactor).to_string();
            assert!(
                shown.contains("xxx") && !shown.contains("s3c"),
                "{}",
                shown.len()
            );
        }
        let plain = guest::Failure::Failed("no bars\nbefore 2020".to_owned());
        let shown = Failure::reported(plain, &redactor).to_string();
        assert_eq!(shown, "no bars\nbefore 2020");
    }

    #[test]
    fn a_quarantine_that_is_over_is_no_wait_of_nothing() {
        let shown = |millis| {
            InvokeError::Quarantined {
                plugin: "lab".to_owned(),
                retry_after: Duration::from_millis(millis),
                reason: "a trap".to_owned(),
            }
            .to_string()
        };
        assert!(shown(1_200).contains("for another 2 s"));
        assert!(!shown(0).contains("0 s"), "{}", shown(0));
    }
}
