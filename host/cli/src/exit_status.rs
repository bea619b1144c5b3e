//! The exit statuses of the command line, and the kinds of errors that they stand for.
//!
//! Invariant: only this file knows the numbers, and every kind of refusal and failure has one.

use std::process::ExitCode;

use anyhow::Error;
use qchost_catalog::{Failure, FailureKind};
use qchost_emulator::{DataError, StartError};
use qchost_gate::{DecideError, Refusal, RefusalKind};
use qchost_policy::is_name;
use qchost_runtime::{ActionError, Failure as PluginFailure, InvokeError, LoadError, StopReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    Done,
    Failed,
    Usage,
    Denied,
    WaitingForApproval,
    Halted,
    Limited,
    Unavailable,
    UnknownOutcome,
    PositionsOpen,
}

impl ExitStatus {
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Denied,
        Self::WaitingForApproval,
        Self::Halted,
        Self::Limited,
        Self::Unavailable,
        Self::UnknownOutcome,
        Self::PositionsOpen,
    ];

    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        self.row().0
    }

    /// What it says, in a sentence.
    pub fn meaning(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u8, &'static str) {
        match self {
            Self::Done => (0, "done"),
            Self::Failed => (1, "failed: the error says why"),
            Self::Usage => (2, "the command line is wrong; nothing was done"),
            Self::Denied => (3, "denied by a grant, a guardrail, a role or a person"),
            Self::WaitingForApproval => (4, "waiting for a person's approval"),
            Self::Halted => (5, "halted by an operator"),
            Self::Limited => (6, "limited by a rate or a budget"),
            Self::Unavailable => (
                7,
                "unavailable: no host, or QuantConnect does not answer or refuses the credentials",
            ),
            Self::UnknownOutcome => (
                8,
                "outcome unknown: it may have been done; read the state before you repeat it",
            ),
            Self::PositionsOpen => (9, "halted, and positions are open (`halt --liquidate`)"),
        }
    }

    /// The command that shows more about it.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::Done | Self::Failed => None,
            Self::Usage => Some("qchost --help"),
            Self::Denied | Self::Limited => Some("qchost audit query --limit 20"),
            Self::WaitingForApproval => Some("qchost approvals list"),
            Self::Halted | Self::PositionsOpen => Some("qchost halt --list"),
            Self::Unavailable => Some("qchost doctor"),
            Self::UnknownOutcome => Some("qchost audit reconcile"),
        }
    }

    /// The table in the help.
    pub fn help() -> String {
        let rows = Self::ALL.map(|status| {
            let (number, meaning) = status.row();
            format!("\n  {number}  {meaning}")
        });
        format!("Exit status:{}", rows.concat())
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.number())
    }
}

/// The kind of an error: one of the gate's or the catalog's, or one that only the command line has. It crosses the control
/// socket as its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub enum ErrorKind {
    /// Anything that has no kind of its own.
    Failed,
    Usage,
    PositionsOpen,
    Refusal(RefusalKind),
    Failure(FailureKind),
}

impl ErrorKind {
    /// There is too much of it now.
    pub const LIMITED: Self = Self::Refusal(RefusalKind::RateLimited);
    /// A policy or a role does not allow it.
    pub const DENIED: Self = Self::Refusal(RefusalKind::Denied);
    /// What a person gave does not fit, and another attempt may.
    pub const INVALID_ARGUMENT: Self = Self::Failure(FailureKind::InvalidArgument);
    /// What it needs does not answer.
    pub const UNAVAILABLE: Self = Self::Failure(FailureKind::Unavailable);
    /// It may have been done.
    pub const UNKNOWN_OUTCOME: Self = Self::Failure(FailureKind::UnknownOutcome);

    /// Its name, in kebab-case.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::PositionsOpen => "positions-open",
            Self::Refusal(kind) => kind.into(),
            Self::Failure(kind) => kind.into(),
        }
    }

    /// The kind with a word.
    pub fn parse(word: &str) -> Option<Self> {
        let own = [Self::Failed, Self::Usage, Self::PositionsOpen];
        let own = own.into_iter().find(|kind| kind.word() == word);
        own.or_else(|| word.parse::<RefusalKind>().ok().map(Self::Refusal))
            .or_else(|| word.parse::<FailureKind>().ok().map(Self::Failure))
    }

    /// The exit status of a command that ends with such an error.
    pub fn exit_status(self) -> ExitStatus {
        match self {
            Self::Failed => ExitStatus::Failed,
            Self::Usage => ExitStatus::Usage,
            Self::PositionsOpen => ExitStatus::PositionsOpen,
            Self::Refusal(kind) => match kind {
                RefusalKind::Denied | RefusalKind::ApprovalRefused => ExitStatus::Denied,
                RefusalKind::Exhausted | RefusalKind::RateLimited => ExitStatus::Limited,
                RefusalKind::ApprovalRequired => ExitStatus::WaitingForApproval,
                RefusalKind::Halted => ExitStatus::Halted,
                RefusalKind::Failed => ExitStatus::Failed,
            },
            Self::Failure(kind) => match kind {
                FailureKind::InvalidArgument
                | FailureKind::NotFound
                | FailureKind::NotReady
                | FailureKind::Rejected
                | FailureKind::UnexpectedResponse => ExitStatus::Failed,
                FailureKind::RateLimited => ExitStatus::Limited,
                // A call that timed out changes nothing or was not sent: a write would have an unknown outcome.
                FailureKind::Unavailable | FailureKind::Reauthorize | FailureKind::TimedOut => {
                    ExitStatus::Unavailable
                }
                FailureKind::UnknownOutcome => ExitStatus::UnknownOutcome,
                FailureKind::Halted => ExitStatus::Halted,
            },
        }
    }

    /// The kind of an error: that of its first cause which has one.
    pub fn from_error(error: &Error) -> Self {
        let kind = |cause: &(dyn std::error::Error + 'static)| {
            if let Some(failed) = cause.downcast_ref::<Failed>() {
                Some(failed.kind)
            } else if let Some(refusal) = cause.downcast_ref::<Refusal>() {
                Some(Self::from(refusal))
            } else if let Some(failure) = cause.downcast_ref::<Failure>() {
                Some(Self::Failure(failure.into()))
            } else if let Some(DecideError::NotAdmin(_)) = cause.downcast_ref() {
                Some(Self::DENIED)
            } else if let Some(error) = cause.downcast_ref::<LoadError>() {
                Some(Self::from(error))
            } else if let Some(DataError::InUse { .. }) = data_error(cause) {
                Some(Self::UNAVAILABLE)
            } else {
                cause.downcast_ref::<InvokeError>().map(Self::from)
            }
        };
        error.chain().find_map(kind).unwrap_or(Self::Failed)
    }
}

/// Why the data of an emulator cannot be used, also where the emulator did not start for it: that error is shown as its
/// cause, which then is not in the chain.
fn data_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e DataError> {
    if let Some(StartError::Data(error)) = cause.downcast_ref() {
        return Some(error);
    }
    cause.downcast_ref()
}

impl From<ErrorKind> for String {
    fn from(kind: ErrorKind) -> Self {
        kind.word().to_owned()
    }
}

impl TryFrom<String> for ErrorKind {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Self::parse(&word).ok_or_else(|| format!("unknown kind of error: {word}"))
    }
}

impl From<&Refusal> for ErrorKind {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Failed(failure) => Self::Failure(failure.into()),
            own => Self::Refusal(own.into()),
        }
    }
}

impl From<&LoadError> for ErrorKind {
    fn from(error: &LoadError) -> Self {
        match error {
            LoadError::Denied(_)
            | LoadError::HttpDenied { .. }
            | LoadError::DeniedWithHttp(_)
            | LoadError::FoldersDenied { .. }
            | LoadError::DeniedWithFolders(_) => Self::DENIED,
            LoadError::AwaitsOperator { .. } => Self::Refusal(RefusalKind::ApprovalRequired),
            LoadError::Unloaded { .. } | LoadError::ShuttingDown => Self::UNAVAILABLE,
            LoadError::Component(..)
            | LoadError::MemoryLimit { .. }
            | LoadError::Config { .. }
            | LoadError::Folder { .. }
            | LoadError::AliasWithoutAction { .. }
            | LoadError::NameTaken { .. }
            | LoadError::Policy(_)
            | LoadError::NotAdmitted(_)
            | LoadError::Renamed { .. } => Self::Failed,
        }
    }
}

impl From<&InvokeError> for ErrorKind {
    fn from(error: &InvokeError) -> Self {
        match error {
            InvokeError::UnknownPlugin { .. } | InvokeError::UnknownAction { .. } => {
                Self::Failure(FailureKind::NotFound)
            }
            InvokeError::Busy { .. } => Self::LIMITED,
            InvokeError::Quarantined { .. }
            | InvokeError::Unloaded { .. }
            | InvokeError::ShuttingDown => Self::UNAVAILABLE,
            InvokeError::Action(_, error) => Self::from(error),
        }
    }
}

impl From<&ActionError> for ErrorKind {
    fn from(error: &ActionError) -> Self {
        match error {
            // The host checks it before the plugin runs, so nothing was done.
            ActionError::InvalidInput { .. } => Self::Usage,
            ActionError::Failure(PluginFailure::InvalidInput(_)) => {
                Self::Failure(FailureKind::InvalidArgument)
            }
            // Its calls go on, so it is unknown what was done.
            ActionError::Replaced
            | ActionError::CutOff
            | ActionError::Stopped(StopReason::Wall { .. }) => Self::UNKNOWN_OUTCOME,
            ActionError::Stopped(StopReason::HostOutOfMemory | StopReason::NoRoom) => {
                Self::UNAVAILABLE
            }
            // Here and below, what the plugin had sent is done, and its outcome is in the record: it is not unknown.
            ActionError::UnfitOutput { .. } => Self::Failure(FailureKind::UnexpectedResponse),
            // The plugin reports what the gate told it.
            ActionError::Failure(PluginFailure::Capability { kind, .. }) => {
                Self::parse(kind).unwrap_or(Self::Failed)
            }
            ActionError::Stopped(
                StopReason::Trap(_)
                | StopReason::OutOfMemory { .. }
                | StopReason::Cpu { .. }
                | StopReason::TooLarge { .. },
            )
            | ActionError::OutputTooLarge { .. }
            | ActionError::InvalidOutput(_)
            | ActionError::Failure(PluginFailure::Unsupported(_) | PluginFailure::Failed(_)) => {
                Self::Failed
            }
        }
    }
}

/// An error with its kind. It crosses the control socket as it is.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Failed {
    pub kind: ErrorKind,
    /// With its causes, in one line.
    pub message: String,
    /// The command that helps further, where its exit status alone does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failed {
    pub fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(Self {
            kind,
            message: message.into(),
            hint: None,
        })
    }

    /// An error with the command that helps further.
    pub fn hinted(kind: ErrorKind, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::new(Self {
            kind,
            message: message.into(),
            hint: Some(hint.into()),
        })
    }

    /// What is told of an error: its words and its hint, each changed by `clean`.
    pub fn of(error: &Error, words: &str, clean: impl Fn(&str) -> String) -> Self {
        Self {
            kind: ErrorKind::from_error(error),
            message: clean(words),
            hint: Self::hint_in(error).map(clean),
        }
    }

    /// The hint that an error or one of its causes has.
    pub fn hint_in(error: &Error) -> Option<&str> {
        let mut failed = error.chain().filter_map(|it| it.downcast_ref::<Self>());
        failed.find_map(|it| it.hint.as_deref())
    }
}

/// What helps further with an error that has this message: a command, or the lines of a manifest that would allow what was
/// denied.
pub fn hint(error: &Error, message: &str) -> Option<String> {
    let status = ErrorKind::from_error(error).exit_status();
    let in_message = || match status {
        ExitStatus::WaitingForApproval => {
            let (_, after) = message.split_once("approvals show ")?;
            let ends = |it: char| !it.is_ascii_alphanumeric() && it != '-';
            let id = after.split(ends).next()?;
            (!id.is_empty()).then(|| format!("qchost approvals show {id}"))
        }
        ExitStatus::Denied => {
            // A comment and a key may be above the first table, and the comment may name a table.
            let begins = ["[[grant]]", "[[http]]", "[[folder]]", "# ", "egress = "];
            let at = begins
                .iter()
                .filter_map(|begin| message.find(&format!("\n{begin}")))
                .min()?;
            message.get(at + 1..).map(str::to_owned)
        }
        // What is used of the limits of the plugin's grants.
        ExitStatus::Limited => {
            let (plugin, _) = message.strip_prefix('`')?.split_once('.')?;
            is_name(plugin).then(|| format!("qchost plugin grants {plugin}"))
        }
        _ => None,
    };
    let given = Failed::hint_in(error).map(str::to_owned);
    given
        .or_else(in_message)
        .or_else(|| status.hint().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn the_numbers_are_those_that_are_documented() {
        let numbers = ExitStatus::ALL.map(ExitStatus::number);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let guide = include_str!("../../OPERATING.md");
        assert!(guide.contains("Status 1 of `invoke` does not say that nothing was done"));
        for status in ExitStatus::ALL {
            let (number, meaning) = status.row();
            let row = format!("| {number} | {meaning} |");
            assert!(guide.contains(&row), "host/OPERATING.md has no {row}");
        }
    }

    #[test]
    fn every_kind_of_refusal_and_failure_has_its_exit_status() {
        let expected = [
            ("failed", 1),
            ("usage", 2),
            ("positions-open", 9),
            ("denied", 3),
            ("budget-exhausted", 6),
            ("rate-limited", 6),
            ("approval-required", 4),
            ("approval-refused", 3),
            ("halted", 5),
            ("invalid-argument", 1),
            ("not-found", 1),
            ("not-ready", 1),
            ("rejected", 1),
            ("unavailable", 7),
            ("reauthorize", 7),
            ("timed-out", 7),
            ("unknown-outcome", 8),
            ("unexpected-response", 1),
        ];
        for (word, number) in expected {
            let kind = ErrorKind::parse(word).unwrap();
            assert_eq!(kind.exit_status().number(), number, "{word}");
            assert_eq!(kind.word(), word);
            // The same after it has crossed the control socket.
            let sent = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<ErrorKind>(&sent).unwrap(), kind);
        }
        for word in qchost_gate::decisions() {
            let known = expected.iter().any(|(expected, _)| *expected == word);
            assert!(known || word == "allowed", "{word}");
        }
        assert_eq!(ErrorKind::parse("no-such-kind"), None);
    }

    #[test]
    fn the_kind_of_an_error_is_found_below_its_contexts() {
        let number = |error: Error| ErrorKind::from_error(&error).exit_status().number();
        let halted = || Refusal::Halted("a drill".to_owned());
        assert_eq!(number(anyhow!("no kind")), 1);
        assert_eq!(number(halted().into()), 5);
        let wrapped = Err::<(), _>(halted()).context("one").context("two");
        assert_eq!(number(wrapped.unwrap_err()), 5);
        let lost = Failure::UnknownOutcome("lost".to_owned());
        assert_eq!(number(Refusal::from(lost.clone()).into()), 8);
        assert_eq!(number(lost.into()), 8);
        assert_eq!(number(Failed::error(ErrorKind::DENIED, "no")), 3);
        assert_eq!(number(DecideError::NotAdmin("ann".to_owned()).into()), 3);
        let used = || DataError::InUse {
            path: "cloud.db".into(),
        };
        assert_eq!(number(used().into()), 7);
        assert_eq!(number(StartError::Data(used()).into()), 7);
    }

    #[test]
    fn a_plugin_that_is_not_loaded_for_a_grant_or_an_approval_has_their_status() {
        let number = |error: LoadError| {
            let error = Error::from(error).context("plugins/lab.toml");
            ErrorKind::from_error(&error).exit_status().number()
        };
        let plugin = || "lab".to_owned();
        assert_eq!(
            number(LoadError::HttpDenied {
                plugin: plugin(),
                import: "wasi:http/types".to_owned(),
                egress: String::new(),
            }),
            3
        );
        assert_eq!(number(LoadError::FoldersDenied { plugin: plugin() }), 3);
        assert_eq!(
            number(LoadError::AwaitsOperator {
                plugin: plugin(),
                digest: "sha256:00".to_owned(),
                approval: "ap-abcdefghij".to_owned(),
            }),
            4
        );
        assert_eq!(number(LoadError::ShuttingDown), 7);
        let broken = LoadError::MemoryLimit {
            plugin: plugin(),
            needed: 2,
            limit: 1,
        };
        assert_eq!(number(broken), 1);
    }

    #[test]
    fn the_hint_of_an_error_is_what_its_message_says_is_to_be_done() {
        let hint_of = |kind: ErrorKind, message: &str| hint(&Failed::error(kind, message), message);
        let waits = ErrorKind::Refusal(RefusalKind::ApprovalRequired);
        let message = "`lab.act`: a person has to approve this first: qchost approvals show ap-abcdefghij; then";
        assert_eq!(
            hint_of(waits, message).as_deref(),
            Some("qchost approvals show ap-abcdefghij")
        );
        assert_eq!(
            hint_of(waits, "no id").as_deref(),
            Some("qchost approvals list")
        );
        let lines = "[[grant]]\nname = \"files\"\nallow = [\"files/read-file\"]";
        let message = format!("denied: no grant; to allow it, add to the manifest:\n{lines}");
        assert_eq!(hint_of(ErrorKind::DENIED, &message).as_deref(), Some(lines));
        let lines = format!("# [[http]] `hooks` can carry it out\negress = \"licensed\"\n{lines}");
        let message = format!("denied: no grant; to allow it, add to the manifest:\n{lines}");
        assert_eq!(hint_of(ErrorKind::DENIED, &message), Some(lines));
        let other = hint_of(ErrorKind::DENIED, "denied: a guardrail");
        assert_eq!(other.as_deref(), Some("qchost audit query --limit 20"));
        let used =
            "`lab.act`: budget-exhausted: the grant `tests` allows 1 (per-day) and 1 are used";
        assert_eq!(
            hint_of(ErrorKind::LIMITED, used).as_deref(),
            Some("qchost plugin grants lab")
        );
        assert_eq!(
            hint_of(ErrorKind::LIMITED, "too many calls").as_deref(),
            Some("qchost audit query --limit 20")
        );
        let own = Failed::hinted(ErrorKind::Usage, "no", "qchost tools").context("above");
        assert_eq!(hint(&own, "no").as_deref(), Some("qchost tools"));
        assert_eq!(hint_of(ErrorKind::Failed, "no"), None);
    }

    #[test]
    fn a_plugin_that_reports_a_failure_of_a_call_ends_with_the_status_of_that_call() {
        let number = |error: ActionError| {
            let error = Error::new(InvokeError::Action("lab.act".to_owned(), error));
            ErrorKind::from_error(&error).exit_status().number()
        };
        for (kind, expected) in [("approval-required", 4), ("unknown-outcome", 8)] {
            let message = String::new();
            let failure = PluginFailure::Capability { kind, message };
            assert_eq!(number(ActionError::Failure(failure)), expected, "{kind}");
        }
        let (path, message) = ("/n".to_owned(), "no".to_owned());
        let wrong = ActionError::InvalidInput {
            path: path.clone(),
            message: message.clone(),
        };
        assert_eq!(number(wrong), 2);
        let unfit = ActionError::UnfitOutput { path, message };
        assert_eq!(ErrorKind::from(&unfit).word(), "unexpected-response");
        assert_eq!(number(ActionError::CutOff), 8);
        assert_eq!(number(ActionError::Stopped(StopReason::NoRoom)), 7);
        let own = PluginFailure::Failed("no".to_owned());
        assert_eq!(number(ActionError::Failure(own)), 1);
    }
}
