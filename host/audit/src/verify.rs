//! Verifies that the audit is what was recorded, and otherwise finds the records that are not.
//!
//! Records after the head that it started with are left to the next verification.
//!
//! What it proves: no record up to the head was changed, dropped, moved or added without the key.
//! What it does not prove: that the folder as a whole is not an older state of itself. For that,
//! compare with a head kept elsewhere (`since`).
//!
//! Invariant: it only reads the files and keeps one line in memory at a time, so it can run beside a writing host.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use secrecy::SecretSlice;

use crate::error::AuditError;
use crate::files::Files;
use crate::head::{self, HEAD, Head, HeadCopy, Point, Signer};
use crate::record::Parsed;
use crate::report::{Fault, Problem, Report};
use crate::segment::{self, LineEnd, Lines};

/// How long a writing host may take to sign what it wrote.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(2);
/// Polling interval of the head, which another process may write.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How often a torn head is read again.
const MAX_HEAD_READS: usize = 3;
/// How often verification restarts when retention removes segments being read.
const MAX_RESTARTS: usize = 3;
/// Maximum number of separate ranges of missing records that are kept.
const MAX_RANGES: usize = 10_000;

/// Checks every record of a folder against the chain and the signed head. `since` is the text of an
/// older head that must lie on the chain.
///
/// # Errors
/// The files cannot be read, or `since` is not a head signed with this key. Problems with the
/// records themselves are in the report.
pub fn verify(
    files: &dyn Files,
    folder: &Path,
    key: &SecretSlice<u8>,
    since: Option<&str>,
) -> Result<Report, AuditError> {
    let signer = Signer::new(key)?;
    let since = since
        .map(|text| signer.open(text).map_err(AuditError::Since))
        .transpose()?;
    for _ in 0..MAX_RESTARTS {
        match run(files, folder, &signer, since.as_ref()) {
            Err(AuditError::Files { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && files.list(folder).is_ok() => {}
            result => return result,
        }
    }
    run(files, folder, &signer, since.as_ref())
}

fn read_head(
    files: &dyn Files,
    folder: &Path,
    signer: &Signer,
) -> Result<Option<[HeadCopy; 2]>, AuditError> {
    head::read_slots(files, folder, signer).map_err(AuditError::files("read", &folder.join(HEAD)))
}

fn run(
    files: &dyn Files,
    folder: &Path,
    signer: &Signer,
    since: Option<&Head>,
) -> Result<Report, AuditError> {
    let mut slots = read_head(files, folder, signer)?;
    // A slot that is being written may look torn; reading again tells.
    for _ in 0..MAX_HEAD_READS {
        if !slots
            .iter()
            .flatten()
            .any(|slot| matches!(slot, HeadCopy::Forged(_)))
        {
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
        slots = read_head(files, folder, signer)?;
    }
    let mut segments =
        segment::list(files, folder).map_err(AuditError::files("read the audit folder", folder))?;
    let head = slots
        .as_ref()
        .and_then(head::newest)
        .map(|(_, head)| head.clone());
    let mut check = Check::new(head.as_ref(), segments.first().copied());
    check.heads(signer, slots.as_ref(), since);
    // A crash between signing and removing leaves segments that the chain no longer needs.
    segments.retain(|first| *first >= check.next);
    for first in segments {
        check.segment(files, folder, first)?;
    }
    let signed = head.map(|head| head.last.sequence);
    check.end(signed);
    // Unsigned records may be what the host is writing. If there are other problems, they are
    // reported without waiting.
    if let Some(signed) = signed
        && let Some(past) = check.past.take()
        && check.report.sound()
        && !signs_more(files, folder, signer, signed)?
    {
        check.report.add(past);
    }
    Ok(check.report)
}

/// Whether the host signs further records, within the time it needs for a group.
fn signs_more(
    files: &dyn Files,
    folder: &Path,
    signer: &Signer,
    signed: u64,
) -> Result<bool, AuditError> {
    let until = Instant::now() + SIGNING_TIMEOUT;
    loop {
        let slots = read_head(files, folder, signer)?;
        let newest = slots.as_ref().and_then(head::newest);
        if newest.is_some_and(|(_, head)| head.last.sequence > signed) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A record that a head refers to.
struct Mark {
    point: Point,
    /// Which head, for the message.
    of: &'static str,
    fault: Fault,
}

struct Check {
    report: Report,
    /// The expected next sequence number.
    next: u64,
    /// The hash of the record before, if that was valid.
    prev: Option<String>,
    /// Unreadable lines since the last valid record.
    damaged: Vec<Problem>,
    /// Skipped sequence numbers, by the first of each range.
    missing: BTreeMap<u64, Range>,
    marks: Vec<Mark>,
    /// The last record that must exist.
    signed: u64,
    /// The first line after it.
    past: Option<Problem>,
    segment: String,
    line: u64,
}

/// Skipped records, and where the gap was noticed.
struct Range {
    last: u64,
    segment: String,
    line: u64,
}

impl Check {
    fn new(head: Option<&Head>, first: Option<u64>) -> Self {
        let origin = Point::origin();
        let (next, prev) = match (head, first) {
            (Some(head), _) => (head.base.sequence + 1, Some(head.base.hash.clone())),
            (None, Some(first)) if first > 1 => (first, None),
            (None, _) => (1, Some(origin.hash)),
        };
        Self {
            report: Report {
                sequence: head.map_or(0, |head| head.last.sequence),
                removed: head.map_or(0, |head| head.base.sequence),
                ..Report::default()
            },
            next,
            prev,
            damaged: Vec::new(),
            missing: BTreeMap::new(),
            marks: Vec::new(),
            signed: head.map_or(u64::MAX, |head| head.last.sequence),
            past: None,
            segment: String::new(),
            line: 0,
        }
    }

    /// Checks the heads, and notes which records they refer to.
    fn heads(&mut self, signer: &Signer, slots: Option<&[HeadCopy; 2]>, since: Option<&Head>) {
        let Some(slots) = slots else {
            self.head_problem("there is no head: nothing says which record is the last".to_owned());
            return;
        };
        for (slot, number) in slots.iter().zip(1..) {
            match slot {
                HeadCopy::Signed(head) => self.marks.push(Mark {
                    point: head.last.clone(),
                    of: "the signed head",
                    fault: Fault::Changed,
                }),
                HeadCopy::Forged(why) => {
                    self.head_problem(format!("its slot {number} is no head: {why}"))
                }
            }
        }
        let Some((_, head)) = head::newest(slots) else {
            return;
        };
        self.report.head = Some(signer.sign(head));
        let Some(since) = since else {
            return;
        };
        let (last, base) = (&head.last, &head.base);
        let wanted = &since.last;
        let mut problem = |what: String| {
            self.report.add(Problem {
                segment: HEAD.to_owned(),
                line: 0,
                sequence: wanted.sequence,
                fault: Fault::Since,
                what,
            });
        };
        if wanted.sequence > last.sequence {
            problem(format!(
                "the older head says that record {} was made, and the newest head is at {}: the end was cut off, or an old state was put back",
                wanted.sequence, last.sequence
            ));
        } else if wanted.sequence < base.sequence {
            problem(format!(
                "the older head cannot be compared: retention removed the records up to {}",
                base.sequence
            ));
        } else if wanted.sequence == base.sequence && wanted.hash != base.hash {
            problem(
                "the older head signs another record than the one that retention removed last"
                    .to_owned(),
            );
        } else {
            self.marks.push(Mark {
                point: wanted.clone(),
                of: "the older head",
                fault: Fault::Since,
            });
        }
    }

    fn head_problem(&mut self, what: String) {
        self.report.add(Problem {
            segment: HEAD.to_owned(),
            line: 0,
            sequence: self.report.sequence,
            fault: Fault::Head,
            what,
        });
    }

    fn problem(&self, fault: Fault, sequence: u64, what: String) -> Problem {
        Problem {
            segment: self.segment.clone(),
            line: self.line,
            sequence,
            fault,
            what,
        }
    }

    fn segment(&mut self, files: &dyn Files, folder: &Path, first: u64) -> Result<(), AuditError> {
        let path = segment::path(folder, first);
        let reading = |error| AuditError::files("read", &path)(error);
        let mut lines = Lines::open(files, folder, first).map_err(reading)?;
        self.segment = segment::name(first);
        self.report.segments += 1;
        while let Some(ending) = lines.advance().map_err(reading)? {
            self.line = lines.number;
            let record = match ending {
                LineEnd::Whole => Parsed::read(lines.text()),
                LineEnd::Torn => Err("its line is cut off".to_owned()),
                LineEnd::Long => Err("its line is longer than any record".to_owned()),
            };
            match record {
                Ok(record) if record.intact() => {
                    if lines.number == 1 && record.sequence != first {
                        let what = format!(
                            "the segment begins with record {}, and its name says {first}",
                            record.sequence
                        );
                        let problem = self.problem(Fault::Moved, record.sequence, what);
                        self.report.add(problem);
                    }
                    self.good(&record);
                }
                Ok(_) => self.bad("its content does not have its hash".to_owned()),
                Err(what) => self.bad(what),
            }
        }
        Ok(())
    }

    /// A line that is not a record, or was changed.
    fn bad(&mut self, what: String) {
        let sequence = self.next.saturating_add(self.damaged.len() as u64);
        if sequence > self.signed {
            let what = format!("after the signed head, a line that is no record ({what})");
            self.past_head(sequence, what);
            return;
        }
        let problem = self.problem(Fault::Changed, sequence, format!("it was changed: {what}"));
        if self.damaged.len() < MAX_RANGES {
            self.damaged.push(problem);
        }
    }

    fn past_head(&mut self, sequence: u64, what: String) {
        if self.past.is_none() {
            self.past = Some(self.problem(Fault::Unsigned, sequence, what));
        }
    }

    /// An unchanged record; perhaps in another place.
    fn good(&mut self, record: &Parsed) {
        let sequence = record.sequence;
        if sequence > self.signed && self.next > self.signed {
            let what = "no head signs it: the host was killed while it wrote (it signs it when it next starts), or another program added it";
            self.past_head(sequence, what.to_owned());
            return;
        }
        if sequence < self.next {
            self.late(sequence);
            return;
        }
        let damaged = std::mem::take(&mut self.damaged);
        let expected = self.next.saturating_add(damaged.len() as u64);
        let whole = damaged.is_empty();
        let named = sequence.saturating_sub(1).max(self.next);
        for mut problem in damaged {
            problem.sequence = problem.sequence.min(named);
            self.report.add(problem);
        }
        if sequence > expected {
            self.skip(expected, sequence - 1);
        } else if whole && self.prev.as_ref().is_some_and(|prev| *prev != record.prev) {
            let before = sequence - 1;
            let what = format!(
                "it was changed: record {sequence} follows another record {before} than the one that is here"
            );
            let problem = self.problem(Fault::Changed, before, what);
            self.report.add(problem);
        }
        self.report.records += 1;
        for mark in &self.marks {
            if mark.point.sequence == sequence && mark.point.hash != record.hash {
                let what = format!("it is not the record that {} signs", mark.of);
                let problem = self.problem(mark.fault, sequence, what);
                self.report.add(problem);
            }
        }
        self.next = sequence.saturating_add(1);
        self.prev = Some(record.hash.clone());
    }

    fn skip(&mut self, first: u64, last: u64) {
        if self.missing.len() < MAX_RANGES {
            let range = Range {
                last,
                segment: self.segment.clone(),
                line: self.line,
            };
            self.missing.insert(first, range);
        }
    }

    /// A record that comes after its successors: moved if it was missing, otherwise a copy.
    fn late(&mut self, sequence: u64) {
        self.damaged
            .drain(..)
            .for_each(|problem| self.report.add(problem));
        let holding = self
            .missing
            .range(..=sequence)
            .next_back()
            .filter(|(_, range)| range.last >= sequence)
            .map(|(first, _)| *first);
        let what = match holding.and_then(|first| Some((first, self.missing.remove(&first)?))) {
            None => "it is there a second time",
            Some((first, range)) => {
                if first < sequence {
                    let before = Range {
                        last: sequence - 1,
                        segment: range.segment.clone(),
                        line: range.line,
                    };
                    self.missing.insert(first, before);
                }
                if range.last > sequence {
                    self.missing.insert(sequence + 1, range);
                }
                "it comes after records that were made later"
            }
        };
        let problem = self.problem(Fault::Moved, sequence, what.to_owned());
        self.report.add(problem);
    }

    /// After the last line: reports what is still missing.
    fn end(&mut self, signed: Option<u64>) {
        let present = self.next.saturating_add(self.damaged.len() as u64);
        self.damaged
            .drain(..)
            .for_each(|problem| self.report.add(problem));
        for (first, range) in std::mem::take(&mut self.missing) {
            let what = if first == range.last {
                "it is missing".to_owned()
            } else {
                format!("the records {first} to {} are missing", range.last)
            };
            self.report.add(Problem {
                segment: range.segment,
                line: range.line,
                sequence: first,
                fault: Fault::Missing,
                what,
            });
        }
        if let Some(signed) = signed
            && present <= signed
        {
            let what =
                format!("the records {present} to {signed} are cut off: the head signs them");
            let problem = self.problem(Fault::Truncated, present, what);
            self.report.add(problem);
        }
    }
}
