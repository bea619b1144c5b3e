//! The results of the checks.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

/// Validity below this is reported.
pub const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(24);

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    Ok,
    Warning,
    Failed,
    /// It could not be determined.
    Unknown,
}

/// One check.
#[derive(Debug, Serialize, JsonSchema)]
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

    pub fn warn(
        &mut self,
        what: impl Into<String>,
        finding: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(what, Mark::Warning, finding, Some(fix.into()));
    }

    pub fn fail(
        &mut self,
        what: impl Into<String>,
        finding: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(what, Mark::Failed, finding, Some(fix.into()));
    }

    /// When something loses its validity.
    pub fn expiry(&mut self, what: String, end: Timestamp, fix: &str) {
        let left = end.duration_since(Timestamp::now());
        if left.is_negative() {
            self.fail(what, format!("it ended at {end:.0}"), fix);
        } else if left < EXPIRY_WARNING {
            self.warn(what, format!("it ends at {end:.0}"), fix);
        } else {
            self.ok(what, format!("it ends at {end:.0}"));
        }
    }

    /// Whether the check of this name failed.
    pub fn has_failed(&self, what: &str) -> bool {
        let mut checks = self.0.iter();
        checks.any(|check| check.what == what && check.mark == Mark::Failed)
    }

    /// Adds a check. What is ok needs no fix.
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
            fix: fix.filter(|_| mark != Mark::Ok),
        });
    }
}
