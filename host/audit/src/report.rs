//! The result of [`verify`](crate::verify), for people and for machines.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of problems that are listed; the rest is counted.
const MAX_NAMED: usize = 1000;

/// The result of a verification.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Number of records that match what was signed.
    pub records: u64,
    /// Number of segments read.
    pub segments: u64,
    /// The newest signed head, if there is one.
    pub head: Option<String>,
    /// The sequence number of that head.
    pub sequence: u64,
    /// Number of records that retention removed before the first.
    pub removed: u64,
    /// The problems, in the order of the files.
    pub problems: Vec<Problem>,
    /// Number of further problems.
    pub unnamed: u64,
}

impl Report {
    /// Whether there are no problems.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.problems.is_empty()
    }

    pub(crate) fn add(&mut self, problem: Problem) {
        if self.problems.len() < MAX_NAMED {
            self.problems.push(problem);
        } else {
            self.unnamed += 1;
        }
    }
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The file's name in the audit's folder.
    pub segment: String,
    /// The line, from 1; 0 if unknown.
    pub line: u64,
    /// The sequence number of the record.
    pub sequence: u64,
    /// The kind of fault.
    pub fault: Fault,
    /// Description of the problem.
    pub what: String,
}

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A record differs from what was recorded.
    Changed,
    /// A record is missing.
    Missing,
    /// A record is in another place.
    Moved,
    /// Records at the end, which the head signs, are missing.
    Truncated,
    /// Records that no head signs: left by a killed host, or added by another program.
    Unsigned,
    /// The head is not signed with this key, or it is missing.
    Head,
    /// The given older head does not lie on this chain.
    Since,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.segment)?;
        if self.line > 0 {
            write!(f, " line {}", self.line)?;
        }
        write!(f, ", record {}: {}", self.sequence, self.what)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        if self.unnamed > 0 {
            writeln!(f, "and {} more", self.unnamed)?;
        }
        let counted = |number: u64, one: &str| match number {
            1 => format!("1 {one}"),
            number => format!("{number} {one}s"),
        };
        let of = format!(
            "{} in {}",
            counted(self.records, "record"),
            counted(self.segments, "segment")
        );
        let are = if self.records == 1 {
            "is as it was"
        } else {
            "are as they were"
        };
        match &self.head {
            Some(_) if self.sound() => write!(
                f,
                "{of} {are} recorded, up to the signed head at {}",
                self.sequence
            )?,
            Some(_) => write!(
                f,
                "{}; {of} {are} recorded, and the signed head is at {}",
                counted(self.problems.len() as u64 + self.unnamed, "problem"),
                self.sequence
            )?,
            None => write!(
                f,
                "{of} hang together, and no signed head says that they are all"
            )?,
        }
        if self.removed > 0 {
            write!(f, "; retention removed the first {}", self.removed)?;
        }
        Ok(())
    }
}
