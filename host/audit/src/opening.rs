//! Examines the files when the audit opens: where it ends, whether the head agrees, and what a
//! crash left behind.
//!
//! The order of writing (a group is synced, then the head, then the next group begins) allows a
//! crash to leave three traces: a torn line past the head, complete records of one group past the
//! head, or a torn slot of the head.
//!
//! Invariant: anything else was not caused by a crash, and is refused.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::AuditError;
use crate::files::{Files, Mode};
use crate::head::{self, Head, HeadFile, NEW_HEAD, Point, Signer};
use crate::own::RotatedBody;
use crate::record::Parsed;
use crate::segment::{self, LineEnd, Lines};

/// Maximum bytes of a group.
const MAX_GROUP: u64 = 32 * 1024 * 1024;

/// Calls with a recorded intent and no outcome, with the intent's sequence number.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenCalls(pub HashMap<String, u64>);

impl OpenCalls {
    /// Takes a record into account.
    pub fn see(&mut self, kind: &str, call: Option<&str>, sequence: u64) {
        match (kind, call) {
            ("intent", Some(call)) => {
                self.0.insert(call.to_owned(), sequence);
            }
            ("outcome", Some(call)) => {
                self.0.remove(call);
            }
            _ => {}
        }
    }

    /// The body of the record that carries them over into the next segment.
    pub fn body(&self) -> RotatedBody {
        let open = self.0.clone();
        RotatedBody { open }
    }

    fn carried(&mut self, line: &[u8]) {
        if let Ok(RotatedBody { open }) = serde_json::from_slice(line) {
            self.0.extend(open);
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct OpenedState {
    /// The newest signed head.
    pub head: Head,
    /// Its slot.
    pub slot: usize,
    /// All segments; empty if nothing was ever recorded.
    pub segments: Vec<u64>,
    /// The current segment, and its length up to its last good record.
    pub segment: u64,
    pub size: u64,
    /// The last good record.
    pub last: Point,
    /// Number of good records past the head.
    pub recovered: u64,
    /// Number of bytes past the last good record to be cut off.
    pub cut: u64,
    /// Why a slot of the head must be rewritten.
    pub torn_head: Option<String>,
    pub open: OpenCalls,
}

/// Examines a folder, and creates a head if it is new.
pub(crate) fn inspect(
    files: &dyn Files,
    folder: &Path,
    signer: &Signer,
    recorded: Option<&str>,
) -> Result<OpenedState, AuditError> {
    let reading = |error| AuditError::files("read the audit folder", folder)(error);
    files
        .create_folder(folder)
        .map_err(AuditError::files("make the audit folder", folder))?;
    let mut segments = segment::list(files, folder).map_err(reading)?;
    let recorded = recorded
        .map(|text| {
            signer.open(text).map_err(|why| AuditError::Recorded {
                folder: folder.to_owned(),
                why,
            })
        })
        .transpose()?;
    let slots = head::read_slots(files, folder, signer).map_err(AuditError::files(
        "read the audit head",
        &folder.join(head::HEAD),
    ))?;
    let Some(slots) = slots else {
        if !segments.is_empty() {
            return Err(AuditError::HeadMissing {
                folder: folder.to_owned(),
            });
        }
        let head = Head::origin();
        if let Some(recorded) = recorded.filter(|recorded| recorded.last.sequence > 0) {
            return Err(AuditError::TailCut {
                folder: folder.to_owned(),
                witness: "the head in the database",
                head: recorded.last.sequence,
                last: 0,
            });
        }
        HeadFile::create(files, folder, &signer.sign(&head))
            .map_err(AuditError::files("make the audit head in", folder))?;
        return Ok(OpenedState::nothing(head));
    };
    let Some((slot, head)) = head::newest(&slots) else {
        let [slot, _] = slots;
        return Err(AuditError::HeadForged {
            path: folder.join(head::HEAD),
            why: match slot {
                head::HeadCopy::Forged(why) => why,
                head::HeadCopy::Signed(_) => String::new(),
            },
        });
    };
    let torn_head = slots.iter().find_map(|slot| match slot {
        head::HeadCopy::Forged(why) => Some(why.clone()),
        head::HeadCopy::Signed(_) => None,
    });
    if files
        .list(folder)
        .map_err(reading)?
        .iter()
        .any(|name| name == NEW_HEAD)
    {
        files.remove(&folder.join(NEW_HEAD)).map_err(reading)?;
    }
    // Retention signs first and removes then, so a crash in between leaves these.
    let kept = segments.partition_point(|first| *first <= head.base.sequence);
    for first in segments.drain(..kept) {
        let path = segment::path(folder, first);
        files
            .remove(&path)
            .map_err(AuditError::files("remove the old audit segment", &path))?;
    }
    let mut found = OpenedState::nothing(head.clone());
    found.slot = slot;
    found.torn_head = torn_head;
    found.segments = segments;
    found.scan(files, folder)?;
    if let Some(recorded) = recorded {
        found.compare(files, folder, &recorded)?;
    }
    Ok(found)
}

impl OpenedState {
    fn nothing(head: Head) -> Self {
        Self {
            slot: 0,
            segments: Vec::new(),
            segment: head.segment,
            size: 0,
            last: head.base.clone(),
            recovered: 0,
            cut: 0,
            torn_head: None,
            open: OpenCalls::default(),
            head,
        }
    }

    /// Reads from the beginning of the head's segment to the end of the last one.
    fn scan(&mut self, files: &dyn Files, folder: &Path) -> Result<(), AuditError> {
        let head = self.head.clone();
        let tail: Vec<u64> = self
            .segments
            .iter()
            .copied()
            .filter(|first| *first >= head.segment)
            .collect();
        let unsigned = |what: String| AuditError::Unsigned {
            folder: folder.to_owned(),
            head: head.last.sequence,
            what,
        };
        match tail.as_slice() {
            [] if head.last.sequence == 0 => return Ok(()),
            [first] if *first == head.segment => {}
            [first, next] if *first == head.segment && *next == head.last.sequence + 1 => {}
            [first, next, ..] if *first == head.segment => {
                return Err(unsigned(format!("the segment {}", segment::name(*next))));
            }
            _ => {
                return Err(AuditError::TailCut {
                    folder: folder.to_owned(),
                    witness: "the signed head",
                    head: head.last.sequence,
                    last: head.segment.saturating_sub(1),
                });
            }
        }
        // The record before the segment is known if the chain begins there.
        let begins = head.base.sequence + 1 == head.segment;
        let mut chain = Chain {
            next: head.segment,
            prev: begins.then(|| head.base.hash.clone()),
        };
        self.last.sequence = head.segment - 1;
        for first in tail {
            if self.recovered > 0 || self.cut > 0 {
                return Err(unsigned(format!("the segment {}", segment::name(first))));
            }
            self.segment = first;
            self.size = 0;
            self.scan_segment(files, folder, &mut chain)?;
        }
        if self.last.sequence < head.last.sequence {
            return Err(AuditError::TailCut {
                folder: folder.to_owned(),
                witness: "the signed head",
                head: head.last.sequence,
                last: self.last.sequence,
            });
        }
        Ok(())
    }

    fn scan_segment(
        &mut self,
        files: &dyn Files,
        folder: &Path,
        chain: &mut Chain,
    ) -> Result<(), AuditError> {
        let path = segment::path(folder, self.segment);
        let reading = |error| AuditError::files("read", &path)(error);
        // Data written by a killed process may be in memory only, or, after a failed sync, never
        // reach the disk. Only what is on disk counts.
        let mut file = files.open(&path, Mode::Write).map_err(reading)?;
        file.sync().and_then(|()| file.forget()).map_err(reading)?;
        let mut lines = Lines::new(file);
        let head = self.head.last.clone();
        while let Some(ending) = lines.advance().map_err(reading)? {
            let record = match ending {
                LineEnd::Whole => Parsed::read(lines.text()),
                LineEnd::Torn => Err("its line has no end".to_owned()),
                LineEnd::Long => Err("its line is too long".to_owned()),
            };
            let past = chain.next > head.sequence;
            if past
                && let Ok(record) = &record
                && record.group != head.sequence + 1
            {
                return Err(AuditError::Unsigned {
                    folder: folder.to_owned(),
                    head: head.sequence,
                    what: format!(
                        "{} line {} is of another group",
                        segment::name(self.segment),
                        lines.number
                    ),
                });
            }
            let checked = record.and_then(|record| chain.follow(&record).map(|()| record));
            let record = match checked {
                Err(what) if !past => {
                    return Err(AuditError::Broken {
                        segment: segment::name(self.segment),
                        line: lines.number,
                        sequence: chain.next,
                        what,
                    });
                }
                Ok(record) if self.cut == 0 => record,
                _ => {
                    self.cut += lines.end - lines.start;
                    if self.cut > MAX_GROUP {
                        return Err(AuditError::Unsigned {
                            folder: folder.to_owned(),
                            head: head.sequence,
                            what: format!("more than {MAX_GROUP} bytes"),
                        });
                    }
                    continue;
                }
            };
            if record.sequence == head.sequence && record.hash != head.hash {
                return Err(AuditError::Broken {
                    segment: segment::name(self.segment),
                    line: lines.number,
                    sequence: record.sequence,
                    what: "it is not the record that the head signs".to_owned(),
                });
            }
            if record.kind == "rotated" {
                self.open.carried(lines.text());
            }
            self.open
                .see(&record.kind, record.call.as_deref(), record.sequence);
            self.recovered += u64::from(past);
            self.size = lines.end;
            self.last = Point {
                sequence: record.sequence,
                hash: record.hash,
            };
        }
        Ok(())
    }

    /// Checks that the head in the database lies on this chain. If it is older than what retention
    /// left, it cannot be looked up, and only its signature is checked.
    fn compare(&self, files: &dyn Files, folder: &Path, recorded: &Head) -> Result<(), AuditError> {
        let wanted = &recorded.last;
        if wanted.sequence > self.head.last.sequence {
            return Err(AuditError::TailCut {
                folder: folder.to_owned(),
                witness: "the head in the database",
                head: wanted.sequence,
                last: self.head.last.sequence,
            });
        }
        if wanted.sequence == 0 || wanted.sequence < self.head.base.sequence {
            return Ok(());
        }
        let there = if wanted.sequence == self.head.base.sequence {
            Some(self.head.base.hash.clone())
        } else {
            segment::look_up(files, folder, &self.segments, &[wanted.sequence].into())?
                .remove(&wanted.sequence)
                .map(|record| record.hash)
        };
        if there.as_ref() == Some(&wanted.hash) {
            return Ok(());
        }
        Err(AuditError::Recorded {
            folder: folder.to_owned(),
            why: format!(
                "record {} is another one there, or missing",
                wanted.sequence
            ),
        })
    }

    /// The bodies of the intents without an outcome, in their order.
    pub fn unsettled(
        &self,
        files: &dyn Files,
        folder: &Path,
    ) -> Result<Vec<Map<String, Value>>, AuditError> {
        let wanted = self.open.0.values().copied().collect();
        let records = segment::look_up(files, folder, &self.segments, &wanted)?;
        let mut bodies: Vec<_> = records.into_values().map(|record| record.fields).collect();
        for body in &mut bodies {
            body.retain(|name, _| !matches!(name.as_str(), "group" | "hash" | "kind" | "prev"));
        }
        Ok(bodies)
    }
}

/// The expected next record.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Its sequence.
    pub next: u64,
    /// Its `prev`, if known.
    pub prev: Option<String>,
}

impl Chain {
    /// Advances past the next record, or returns why it is not the expected one.
    pub fn follow(&mut self, record: &Parsed) -> Result<(), String> {
        if !record.intact() {
            return Err("its content does not have its hash".to_owned());
        }
        if record.sequence != self.next {
            return Err(format!("record {} is in its place", record.sequence));
        }
        if self.prev.as_ref().is_some_and(|prev| *prev != record.prev) {
            return Err("it does not follow the record before it".to_owned());
        }
        self.next += 1;
        self.prev = Some(record.hash.clone());
        Ok(())
    }
}
