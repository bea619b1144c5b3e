//! The results of the checks.

use jiff::SignedDuration;
use serde::Serialize;

/// Validity below this is reported.
pub const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(24);

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    Ok,
    Warning,
    Failed,
    /// It could not be determined.
    Unknown,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    pub what: String,
    pub mark: Mark,
    pub finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Default)]
pub struct Report(pub Vec<Check>);

impl Report {
    pub fn ok(&mut self, what: impl Into<String>, finding: impl Into<String>) {
        self.add(what, Mark::Ok, finding, None);
    }

    pub fn unknown(&mut self, what: impl Into<String>, finding: impl Into<String>) {
        self.add(what, Mark::Unknown, finding, None);
    }

    pub fn failed(&self, what: &str) -> bool {
        let mut checks = self.0.iter();
        checks.any(|check| check.what == what && check.mark == Mark::Failed)
    }

    pub fn add(
        &mut self,
        what: impl Into<String>,
        mark: Mark,
        finding: impl Into<String>,
        fix: Option<String>,
    ) {
        self.0.push(Check {
            what: what.into(),
            mark,
            finding: finding.into(),
            fix,
        });
    }
}
