//! Records denials at the control socket, without letting them fill the audit.
//!
//! Invariant: each denial is in the audit: the first ones of a minute individually, the others as a count with the first,
//! the last and a sample.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use qchost_gate::{AdminDetail, Sample, denial};
use qchost_policy::{Person, Right};

use crate::host::Host;

/// Denials of a user that are recorded individually in each window.
const MAX_SINGLE: u32 = 8;
/// Duration of a window.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a denial waits for its record. It changes nothing, so it need not be on disk before the client is told.
const RECORD_TIMEOUT: Duration = Duration::from_millis(500);

/// The denials of a host, by user. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Denials(Arc<Mutex<HashMap<u32, Window>>>);

#[derive(Debug)]
struct Window {
    person: Person,
    begun: Instant,
    singly: u32,
    more: Option<Combined>,
}

/// Denials that are recorded together.
#[derive(Debug, Clone)]
struct Combined {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    sample: Sample,
}

impl Denials {
    /// Counts a denial; returns whether to record it individually.
    fn count(&self, person: &Person, right: Option<Right>, detail: &AdminDetail) -> bool {
        let mut windows = self.0.lock();
        let window = windows.entry(person.uid).or_insert_with(|| Window {
            person: person.clone(),
            begun: Instant::now(),
            singly: 0,
            more: None,
        });
        if window.singly < MAX_SINGLE {
            window.singly += 1;
            return true;
        }
        let now = Timestamp::now();
        let more = window.more.get_or_insert_with(|| Combined {
            count: 0,
            first: now,
            last: now,
            sample: Sample {
                what: denial(right),
                detail: Box::new(detail.clone()),
            },
        });
        more.count += 1;
        more.last = now;
        false
    }

    /// Takes the windows that have ended, or all of them.
    fn take_ended(&self, all: bool) -> Vec<Window> {
        let mut windows = self.0.lock();
        let ended: Vec<u32> = windows
            .iter()
            .filter(|(_, window)| all || window.begun.elapsed() >= WINDOW)
            .map(|(uid, _)| *uid)
            .collect();
        ended.iter().filter_map(|uid| windows.remove(uid)).collect()
    }

    /// Records a denial, or counts it.
    pub(super) async fn note(
        &self,
        host: &Host,
        person: &Person,
        right: Option<Right>,
        detail: AdminDetail,
    ) {
        if self.count(person, right, &detail) {
            record(host, person, right, detail).await;
        }
    }

    /// Records the counts of windows that have ended, or of all.
    pub(super) async fn flush(&self, host: &Host, all: bool) {
        for window in self.take_ended(all) {
            let Some(more) = window.more else {
                continue;
            };
            let detail = AdminDetail::Denials {
                count: more.count,
                first: more.first.to_string(),
                last: more.last.to_string(),
                sample: more.sample,
            };
            record(host, &window.person, None, detail).await;
        }
    }
}

async fn record(host: &Host, person: &Person, right: Option<Right>, detail: AdminDetail) {
    let recorded = host.gate.note_denial(person, right, detail);
    match tokio::time::timeout(RECORD_TIMEOUT, recorded).await {
        // It is being written.
        Err(_) | Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(target: "host", uid = person.uid, "a denial is not recorded: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_denials_of_a_minute_are_recorded_singly_and_the_others_by_their_number() {
        let denials = Denials::default();
        let person = |uid| Person {
            uid,
            name: format!("uid-{uid}"),
            roles: std::collections::BTreeSet::new(),
        };
        let detail = AdminDetail::Denied {
            about: Some("lab".to_owned()),
            reason: String::new(),
        };
        let singly = |uid, times| {
            let counted =
                (0..times).map(|_| denials.count(&person(uid), Some(Right::Halt), &detail));
            counted.filter(|singly| *singly).count()
        };
        assert_eq!(singly(1, 1000), 8);
        assert_eq!(singly(2, 5), 5);
        assert!(denials.take_ended(false).is_empty());
        let mut ended = denials.take_ended(true);
        ended.sort_by_key(|window| window.person.uid);
        let more: Vec<_> = ended
            .iter()
            .map(|it| it.more.as_ref().map(|it| it.count))
            .collect();
        assert_eq!(more, [Some(992), None]);
        assert_eq!(singly(1, 10), 8);
        assert_eq!(denials.take_ended(true).len(), 1);
    }
}
