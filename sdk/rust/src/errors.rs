//! Why a call of the agent's gave no answer, as a type with sentences.
//!
//! The cases are those of the contract (`variant error` in `types.wit`, `variant state-error` in
//! `state.wit`, `variant folder-error` in `folders.wit`); `Display` says each of them in a sentence that a person can act on.

use crate::types::{Denial, Exhaustion, Readiness};

/// Why a call to QuantConnect has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The manifest does not allow it. Nothing was sent.
    #[error("denied: {}", denied(.0))]
    Denied(Denial),
    /// A budget of a grant is used up. Nothing was sent.
    #[error("budget exhausted: {}", exhausted(.0))]
    BudgetExhausted(Exhaustion),
    /// Too many calls, by the host's limit or QuantConnect's. Nothing was done; retry after this
    /// many seconds.
    #[error("rate limited: try again in {0} s")]
    RateLimited(f64),
    /// A person has to approve it first: the identifier of the approval. Call again, with the
    /// same arguments, once it is given
    /// ([`approvals::when_approved`](crate::approvals::when_approved) does).
    #[error("approval required: approval {0} has to be given first; then make the same call again")]
    ApprovalRequired(String),
    /// A person refused it: the reason.
    #[error("approval refused: {0}")]
    ApprovalRefused(String),
    /// An operator halted the account or this plugin: the reason.
    #[error("halted: {0}")]
    Halted(String),
    /// The arguments do not fit: what and why.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// QuantConnect does not know the requested item.
    #[error("not found: {0}")]
    NotFound(String),
    /// QuantConnect is still computing the answer; retry later
    /// ([`wait::until_ready`](crate::wait::until_ready) does).
    #[error("not ready yet: {}", ready(.0))]
    NotReady(Readiness),
    /// QuantConnect answered `success: false`: its errors, word for word.
    #[error("rejected by QuantConnect: {}", rejected(.0))]
    Rejected(Vec<String>),
    /// No connection, or QuantConnect could not serve. Nothing is known to have been done.
    #[error("QuantConnect is unavailable: {0}")]
    Unavailable(String),
    /// No answer in time, to a call that changes nothing.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// A write was sent and its answer was lost: it may have taken effect or not. The host does
    /// not send it again; read the state before you do.
    #[error(
        "unknown outcome: {0}; it may have taken effect, so read the state before trying again"
    )]
    UnknownOutcome(String),
    /// An answer arrived that does not match the contract.
    #[error("unexpected response: {0}")]
    UnexpectedResponse(String),
    /// A person has to authorise the host at QuantConnect again: what to do. Nothing was done, and
    /// calls that do not go by the remote MCP server are not affected.
    #[error("a person has to authorise the host again: {0}")]
    Reauthorize(String),
}

fn denied(denial: &Denial) -> String {
    let mut text = denial.reason.clone();
    if let Some(grant) = &denial.nearest_grant {
        text.push_str(&format!("; the nearest grant is \"{grant}\""));
    }
    if let Some(remedy) = &denial.remedy {
        text.push_str("; to allow it, the manifest needs:\n");
        text.push_str(remedy);
    }
    text
}

fn exhausted(exhaustion: &Exhaustion) -> String {
    let Exhaustion {
        grant,
        budget,
        message,
        resets_in,
    } = exhaustion;
    let mut text = format!("{message} (`{budget}` of grant \"{grant}\")");
    if let Some(seconds) = resets_in {
        text.push_str(&format!("; there is some again in {seconds} s"));
    }
    text
}

fn ready(readiness: &Readiness) -> String {
    match readiness.progress {
        Some(progress) => format!("{} ({:.0} %)", readiness.message, progress * 100.0),
        None => readiness.message.clone(),
    }
}

fn rejected(errors: &[String]) -> String {
    if errors.is_empty() {
        "it gave no reason".into()
    } else {
        errors.join("; ")
    }
}

/// Why the agent's state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another invocation wrote the key first: its version now, `None` if it was deleted.
    #[error("another invocation wrote the key first ({})", match .0 {
        Some(version) => format!("its version is now {version}"),
        None => "it was deleted".into(),
    })]
    Conflict(Option<u32>),
    /// It would exceed the quota: what, and how much is allowed.
    #[error("the agent's state is full: {0}")]
    QuotaExceeded(String),
    /// The key is empty or longer than 256 bytes.
    #[error("not a key: {0}")]
    InvalidKey(String),
    /// The store cannot be used.
    #[error("the agent's state is unavailable: {0}")]
    Unavailable(String),
}

/// Why a folder of the host's machine could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// The manifest grants no folder of this name.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// The path is not of the form that the host takes.
    #[error("not a path: {0}")]
    InvalidPath(String),
    /// There is no regular file at the path.
    #[error("not found: {0}")]
    NotFound(String),
    /// The folder is granted for reading only.
    #[error("read only: {0}")]
    ReadOnly(String),
    /// The path does not have what was expected, or something else is in the way. Nothing was
    /// changed.
    #[error("in conflict: {0}")]
    Conflict(String),
    /// It would exceed the folder's quota, or there is more than may be listed or read at once.
    #[error("too much: {0}")]
    QuotaExceeded(String),
    /// An operator halted what this plugin writes: the reason.
    #[error("halted: {0}")]
    Halted(String),
    /// It cannot be done now, or the file system does not allow it.
    #[error("the folder is unavailable: {0}")]
    Unavailable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_what_would_allow_it() {
        let error = Error::Denied(Denial {
            reason: "\"lab\" may not call backtests/create-backtest".into(),
            nearest_grant: Some("reading".into()),
            remedy: Some("allow = [\"backtests/create-backtest\"]".into()),
        });
        assert_eq!(
            error.to_string(),
            "denied: \"lab\" may not call backtests/create-backtest; the nearest grant is \"reading\"; \
             to allow it, the manifest needs:\nallow = [\"backtests/create-backtest\"]"
        );
    }

    #[test]
    fn every_case_is_a_sentence_of_its_own() {
        let text = || "the words".to_string();
        let errors = [
            Error::BudgetExhausted(Exhaustion {
                grant: "lab".into(),
                budget: "per-day".into(),
                message: "500 backtests were run today".into(),
                resets_in: Some(60.0),
            }),
            Error::RateLimited(1.5),
            Error::ApprovalRequired("a-7".into()),
            Error::ApprovalRefused(text()),
            Error::Halted(text()),
            Error::InvalidArgument(text()),
            Error::NotFound(text()),
            Error::NotReady(Readiness {
                progress: Some(0.25),
                message: text(),
            }),
            Error::Rejected(vec!["first".into(), "second".into()]),
            Error::Rejected(Vec::new()),
            Error::Unavailable(text()),
            Error::TimedOut(text()),
            Error::UnknownOutcome(text()),
            Error::UnexpectedResponse(text()),
            Error::Reauthorize(text()),
        ];
        let mut sentences: Vec<String> = errors.iter().map(Error::to_string).collect();
        assert_eq!(
            sentences.first().map(String::as_str),
            Some(
                "budget exhausted: 500 backtests were run today (`per-day` of grant \"lab\"); \
                 there is some again in 60 s"
            )
        );
        assert!(sentences.contains(&"not ready yet: the words (25 %)".to_string()));
        assert!(sentences.contains(&"rejected by QuantConnect: first; second".to_string()));
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), errors.len());
    }
}
