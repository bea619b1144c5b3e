//! The audit of calls, in which each read and each refusal is noted: a plugin can cause any number of refusals, and all must
//! be in the audit.
//!
//! The first refusals are recorded individually, and later ones at an even rate. The excess is counted, and the count is
//! written with the first of them as a sample. Allowed calls are never aggregated.
//!
//! Invariant: every refused call is in the audit, individually or in a count; and for one plugin and one kind of
//! refusal at most [`MAX_BURST`] records are made at once, one every [`RECORD_INTERVAL`] after that, and a count every
//! [`SUMMARY_INTERVAL`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use qchost_audit::Audit;
use qchost_catalog::Outcome;
use qchost_traffic::RateLimiter;

use crate::body::Repeated;
use crate::call::CallRequest;
use crate::fingerprint::Fingerprints;
use crate::record::{self, AuditContext, CallRecord};
use crate::refusal::Refusal;

/// Records of a series that may be made in a burst.
const MAX_BURST: u32 = 100;
/// How often one more record of a series may be made.
const RECORD_INTERVAL: Duration = Duration::from_secs(3);
/// How long calls are counted before the count is written.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum characters shown of a plugin's text.
const MAX_SHOWN: usize = 64;

/// A plugin's text on one line, truncated with its length if it is long.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    let escaped = short.escape_default();
    if short.len() < text.len() {
        format!("{escaped}… ({} bytes)", text.len())
    } else {
        escaped.to_string()
    }
}

/// The key of a count: refusals of one kind of one plugin's calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Series {
    plugin: Arc<str>,
    word: &'static str,
}

impl Series {
    fn new(request: &CallRequest, refusal: &Refusal) -> Self {
        Self {
            plugin: Arc::clone(&request.principal.plugin),
            word: refusal.word(),
        }
    }
}

/// How a refused call was noted.
#[derive(Debug)]
enum Noted {
    /// It gets its own record.
    Whole(Box<CallRecord>),
    /// It is the first one counted: the caller has to [take](Refusals::take) the count in time.
    FirstCounted,
    /// It was added to a count.
    Counted,
}

/// A finished count.
#[derive(Debug)]
struct Counted {
    plugin: Arc<str>,
    word: &'static str,
    calls: u64,
    /// The record of the first call counted.
    sample: CallRecord,
    first: Timestamp,
    last: Timestamp,
}

impl Counted {
    /// The record of all of them.
    fn record(self) -> CallRecord {
        let Self {
            calls,
            mut sample,
            first,
            last,
            ..
        } = self;
        sample.body.repeated = Some(Repeated {
            calls,
            first: first.to_string(),
            last: last.to_string(),
        });
        sample
    }
}

/// Records calls.
pub(crate) struct CallLog {
    pub audit: Audit,
    pub fingerprints: Arc<Fingerprints>,
    counts: Refusals,
}

impl CallLog {
    pub(crate) fn new(audit: Audit, fingerprints: Arc<Fingerprints>) -> Self {
        Self {
            audit,
            fingerprints,
            counts: Refusals::default(),
        }
    }

    /// Records a read that has ended.
    pub(crate) fn note_read(
        &self,
        request: &CallRequest,
        context: &AuditContext<'_>,
        outcome: &Outcome,
    ) {
        let record = record::read(request, context, outcome, &self.fingerprints);
        self.audit.note(record.entry());
    }

    /// Records a refusal, or adds it to a count if the plugin is refused often.
    pub(crate) fn note_refusal(
        self: &Arc<Self>,
        request: &CallRequest,
        context: &AuditContext<'_>,
        refusal: &Refusal,
    ) {
        let record = || record::refused(request, context, refusal, &self.fingerprints);
        let series = Series::new(request, refusal);
        match self
            .counts
            .note(&series, record, Instant::now(), Timestamp::now())
        {
            Noted::Whole(record) => {
                if request.principal.may_be_logged() {
                    tracing::warn!(
                        target: "gate", plugin = %request.principal.plugin, invocation = %request.principal.invocation,
                        operation = %request.name, refused = refusal.word(), approval = refusal.approval(),
                    );
                }
                self.audit.note(record.entry());
            }
            Noted::FirstCounted => {
                let log = Arc::downgrade(self);
                tokio::spawn(async move {
                    tokio::time::sleep(SUMMARY_INTERVAL).await;
                    if let Some(log) = log.upgrade() {
                        log.write(log.counts.take(&series));
                    }
                });
            }
            Noted::Counted => {}
        }
    }

    /// Writes the counts of all refusals that were only counted.
    pub(crate) fn write_counts(&self) {
        self.write(self.counts.take_all());
    }

    fn write(&self, counts: impl IntoIterator<Item = Counted>) {
        for counted in counts {
            let (plugin, refused, calls) = (&counted.plugin, counted.word, counted.calls);
            tracing::warn!(target: "gate", %plugin, refused, calls, "more calls were refused than are written down one by one");
            self.audit.note(counted.record().entry());
        }
    }
}

/// Never pruned; one entry per plugin and kind of refusal seen.
#[derive(Debug, Default)]
struct Refusals(Mutex<HashMap<Series, State>>);

#[derive(Debug)]
struct State {
    records: RateLimiter,
    counted: Option<Counted>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            records: RateLimiter::new(RECORD_INTERVAL, MAX_BURST),
            counted: None,
        }
    }
}

impl Refusals {
    /// Notes a refused call, individually or in a count. `record` is called only if the record is needed: as a
    /// sample, or to be written.
    fn note(
        &self,
        series: &Series,
        record: impl FnOnce() -> CallRecord,
        now: Instant,
        time: Timestamp,
    ) -> Noted {
        {
            let mut all = self.0.lock();
            let state = all.entry(series.clone()).or_default();
            if !state.records.try_take(1, now) {
                if let Some(counted) = &mut state.counted {
                    counted.calls += 1;
                    counted.last = time;
                    return Noted::Counted;
                }
                state.counted = Some(Counted {
                    plugin: Arc::clone(&series.plugin),
                    word: series.word,
                    calls: 1,
                    sample: record(),
                    first: time,
                    last: time,
                });
                return Noted::FirstCounted;
            }
        }
        Noted::Whole(Box::new(record()))
    }

    /// Ends a count and returns it.
    fn take(&self, series: &Series) -> Option<Counted> {
        self.0.lock().get_mut(series)?.counted.take()
    }

    /// Ends all counts and returns them.
    fn take_all(&self) -> Vec<Counted> {
        let mut all = self.0.lock();
        all.values_mut()
            .filter_map(|state| state.counted.take())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use qchost_audit::Kind;

    use super::*;
    use crate::body::CallBody;

    fn refused(call: String) -> CallRecord {
        CallRecord {
            kind: Kind::Denied,
            essential: false,
            body: CallBody {
                call,
                ..CallBody::default()
            },
        }
    }

    #[test]
    fn every_refusal_is_written_down_or_counted_and_few_are_written_down() {
        let refusals = Refusals::default();
        let series = Series {
            plugin: "lab".into(),
            word: "denied",
        };
        let (begun, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let (mut whole, mut begins, mut counts) = (0_u64, 0, Vec::new());
        for second in 0..600_u32 {
            let now = begun + Duration::from_secs(1) * second;
            for call in 0..50 {
                let record = || refused(format!("{second}-{call}"));
                match refusals.note(&series, record, now, time) {
                    Noted::Whole(_) => whole += 1,
                    Noted::FirstCounted => begins += 1,
                    Noted::Counted => {}
                }
            }
            if second % 60 == 59 {
                counts.extend(refusals.take(&series));
            }
        }
        assert_eq!((whole, begins), (100 + 199, 10));
        let counted: u64 = counts.iter().map(|counted| counted.calls).sum();
        assert_eq!(whole + counted, 600 * 50);
        let body = counts.remove(0).record().body;
        assert_eq!(body.call, "2-0", "the first of them is the sample");
        assert_eq!(body.repeated.unwrap().first, time.to_string());
        assert!(refusals.take_all().is_empty());
    }

    #[test]
    fn a_quiet_plugin_and_another_kind_of_refusal_are_written_down_one_by_one() {
        let refusals = Refusals::default();
        let record = || refused(String::new());
        let now = Instant::now();
        let series = |plugin: &str, word| Series {
            plugin: plugin.into(),
            word,
        };
        let note = |series: &Series, now| {
            let noted = refusals.note(series, record, now, Timestamp::UNIX_EPOCH);
            matches!(noted, Noted::Whole(_))
        };
        let loud = series("lab", "denied");
        while note(&loud, now) {}
        assert!(note(&series("lab", "halted"), now));
        assert!(note(&series("other", "denied"), now));
        assert!(note(&loud, now + Duration::from_secs(3)));
    }

    #[test]
    fn a_name_is_shown_short_and_on_one_line() {
        assert_eq!(shown("a\nb\u{1b}[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}");
        let long = shown(&"x".repeat(2 << 20));
        assert!(
            long.ends_with("x… (2097152 bytes)") && long.len() < 100,
            "{long}"
        );
    }
}
