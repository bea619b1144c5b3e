//! What [`verify`](crate::verify) found, for people and for machines.

use std::fmt;

use serde::Serialize;

/// The most problems that are named; the rest is counted.
const MOST_NAMED: usize = 1000;

/// The result of a verification.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// How many records were checked and found to be what was signed.
    pub records: u64,
    /// How many segments were read.
    pub segments: u64,
    /// The newest signed head, if there is one.
    pub head: Option<String>,
    /// The sequence of that head.
    pub sequence: u64,
    /// How many records retention removed before the first.
    pub removed: u64,
    /// What is wrong, in the order of the files.
    pub problems: Vec<Problem>,
    /// How many further problems there are.
    pub unnamed: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.problems.is_empty()
    }

    pub(crate) fn add(&mut self, problem: Problem) {
        if self.problems.len() < MOST_NAMED {
            self.problems.push(problem);
        } else {
            self.unnamed += 1;
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name in the audit's folder.
    pub segment: String,
    /// The line, from 1; 0 where none can be named.
    pub line: u64,
    /// The sequence of the record.
    pub sequence: u64,
    /// The kind of fault.
    pub fault: Fault,
    /// What is wrong, in words.
    pub what: String,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A record is not what it was when it was recorded.
    Changed,
    /// A record is not there.
    Missing,
    /// A record is at another place than it was.
    Moved,
    /// The records at the end, which the head signs, are not there.
    Truncated,
    /// Records that no head signs: of a host that was killed, or added by somebody.
    Unsigned,
    /// The head is not signed with this key, or it is missing.
    Head,
    /// The older head that was given does not lie on this chain.
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
