//! What crosses the socket, line by line.
//!
//! Invariant: each line is an [`Envelope`] with the version of these forms, so that a program of another version is told
//! so, instead of being misunderstood.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Error, Result};
use qchost_runtime::Progress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit_status::Failed;
use crate::reports::{LogRow, Report};
use crate::requests::RequestKind;

/// The version of the forms of requests and answers. A changed form is a new version.
const VERSION: u32 = 4;
/// Maximum bytes of a line of a reply: an action's output.
pub(super) const MAX_LINE: usize = 64 << 20;
/// Maximum bytes of a request's first line.
pub(super) const MAX_HEAD: u64 = 4 << 10;
/// Maximum interval between signs of life to a waiting client.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// A message with the version of its form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope<T> {
    version: u32,
    message: T,
}

/// What envelopes of all versions have.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl<T> Envelope<T> {
    pub(super) fn new(message: T) -> Self {
        let version = VERSION;
        Self { version, message }
    }
}

impl<T: DeserializeOwned> Envelope<T> {
    /// The message in a line.
    ///
    /// # Errors
    /// [`Unreadable`], when it is of another version, or has another form than that version says.
    pub(super) fn open(line: &[u8]) -> Result<T> {
        let error = match serde_json::from_slice::<Self>(line) {
            Ok(Self {
                version: VERSION,
                message,
            }) => return Ok(message),
            Ok(other) => Unreadable::version(other.version),
            Err(error) => match serde_json::from_slice::<Versioned>(line) {
                Ok(Versioned { version: VERSION }) => format!("it cannot be read: {error}"),
                Ok(other) => Unreadable::version(other.version),
                Err(_) => format!(
                    "it cannot be read, and names no version: is this command of another version than the host? {error}"
                ),
            },
        };
        Err(Error::new(Unreadable(error)))
    }
}

/// A message that a program of another version sent, or one that is not qchost.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    fn version(version: u32) -> String {
        format!(
            "it has version {version} of the control protocol, and this is version {VERSION}; use the command and the host of one \
             version of qchost"
        )
    }
}

/// The first line of a request, by which it is decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// The client's configuration. Two configurations can share a data folder, and a request for the accounts of one must
    /// not be carried out with those of the other.
    pub config: PathBuf,
    /// The kind of request.
    pub verb: RequestKind,
    /// The plugin or account it concerns.
    pub about: Option<String>,
    /// The size of the request that follows, in bytes.
    pub bytes: u64,
}

/// A line of the reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Reply {
    /// The host that answers.
    Host {
        /// Its process id.
        pid: u32,
        /// The configuration it was started with, with all links resolved.
        configuration: PathBuf,
        /// What it is doing, unless it just serves.
        stage: Option<String>,
    },
    /// A sign of life, sent every [`HEARTBEAT_INTERVAL`] until the answer.
    Beat,
    /// The progress.
    Progress {
        /// From 0 to 1.
        fraction: f64,
        /// The current step.
        message: String,
    },
    /// A halt is in force; the answer follows.
    Halted(String),
    /// A line of a long result.
    Line(String),
    /// A line that the invoked plugin logged.
    Log(LogRow),
    /// The number of its lines that this client did not get.
    LogLeftOut(u64),
    /// The answer, in the form of the request's type; after a result in lines, its end.
    Done(Value),
    /// Why there is no answer.
    Failed(Failed),
}

impl From<Report> for Reply {
    fn from(report: Report) -> Self {
        match report {
            Report::Progress(Progress { fraction, message }) => {
                Self::Progress { fraction, message }
            }
            Report::Halted(message) => Self::Halted(message),
            Report::Line(line) => Self::Line(line),
            Report::Log(row) => Self::Log(row),
            Report::LogLeftOut(lines) => Self::LogLeftOut(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_and_an_unknown_field_are_told_apart() {
        let open = |line: &str| {
            let error = Envelope::<Head>::open(line.as_bytes()).unwrap_err();
            format!("{error:#}")
        };
        let head = r#"{"config":"/x","verb":"halts","about":null,"bytes":2"#;
        let line = format!("{{\"version\":4,\"message\":{head}}}}}");
        assert!(Envelope::<Head>::open(line.as_bytes()).is_ok(), "{line}");
        let newer = open(&format!(
            "{{\"version\":5,\"message\":{head},\"more\":1}}}}"
        ));
        assert!(newer.contains("version 5"), "{newer}");
        let unknown = open(&format!(
            "{{\"version\":4,\"message\":{head},\"more\":1}}}}"
        ));
        assert!(unknown.contains("unknown field `more`"), "{unknown}");
        let none = open(&format!("{head}}}"));
        assert!(none.contains("another version"), "{none}");
    }
}
