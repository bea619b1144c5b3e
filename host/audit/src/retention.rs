//! Retention: old segments are removed, and the chain still verifies.
//!
//! Invariant: before a segment is removed, a head that begins the chain after it is signed and
//! durable. Whole segments are removed, oldest first; never the current one, and none with an
//! intent whose outcome is unknown.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::error::AuditError;
use crate::head::{Head, Point};
use crate::own::{RetentionBody, own};
use crate::record::{Kind, Parsed};
use crate::segment::{self, Lines};
use crate::writer::{Fault, RETENTION_INTERVAL, Writer};

impl Writer {
    /// Removes segments that are old enough. A failure is logged and retried later: keeping too
    /// much is harmless.
    pub fn retain(&mut self) {
        self.retention_due = Instant::now() + RETENTION_INTERVAL;
        let Some(keep) = self.keep else {
            return;
        };
        if let Err(error) = self.remove_older(keep) {
            tracing::warn!(%error, folder = %self.folder.display(), "old audit segments were not removed");
        }
    }

    fn remove_older(&mut self, keep: Duration) -> Result<(), AuditError> {
        let reading = AuditError::files("read the audit folder", &self.folder);
        let segments = segment::list(&*self.files, &self.folder).map_err(reading)?;
        let Ok(oldest_kept) = Timestamp::now().checked_sub(keep) else {
            return Ok(());
        };
        let unsettled = self.open.0.values().min().copied().unwrap_or(u64::MAX);
        let mut base: Option<Point> = None;
        let mut going = Vec::new();
        for (first, next) in segments.iter().zip(segments.iter().skip(1)) {
            let Some(last) = self.removable(*first, *next)? else {
                break;
            };
            let old = last
                .time
                .parse::<Timestamp>()
                .is_ok_and(|time| time < oldest_kept);
            if !old || last.sequence >= unsettled || *next > self.current.first {
                break;
            }
            going.push(*first);
            base = Some(Point {
                sequence: last.sequence,
                hash: last.hash,
            });
        }
        let Some(base) = base else {
            return Ok(());
        };
        let from = self.head.base.sequence + 1;
        let to = base.sequence;
        let head = Head {
            base,
            ..self.head.clone()
        };
        if let Err(fault) = self.sign(&head) {
            return Err(match fault {
                Fault::Refused(error) => error,
                Fault::Unknown(why) => self.poison(&why),
            });
        }
        self.head = head;
        self.publish();
        let removed = RetentionBody {
            removed_from: from,
            removed_to: to,
        };
        self.removed = own(Kind::Retention, &removed);
        for first in going {
            let path = segment::path(&self.folder, first);
            self.files
                .remove(&path)
                .map_err(AuditError::files("remove the old audit segment", &path))?;
        }
        self.files
            .sync_folder(&self.folder)
            .map_err(AuditError::files("sync the audit folder", &self.folder))
    }

    /// The last record of a segment, if the next segment continues it: inconsistent segments are
    /// evidence, and are kept.
    fn removable(&self, first: u64, next: u64) -> Result<Option<Parsed>, AuditError> {
        let path = segment::path(&self.folder, first);
        let last = segment::last(&*self.files, &self.folder, first)
            .map_err(AuditError::files("read", &path))?;
        let path = segment::path(&self.folder, next);
        let reading = |error| AuditError::files("read", &path)(error);
        let mut lines = Lines::open(&*self.files, &self.folder, next).map_err(reading)?;
        lines.advance().map_err(reading)?;
        Ok(match (last, Parsed::read(lines.text())) {
            (Some(Ok(last)), Ok(next))
                if last.intact()
                    && next.intact()
                    && last.sequence + 1 == next.sequence
                    && last.hash == next.prev =>
            {
                Some(last)
            }
            _ => None,
        })
    }
}
