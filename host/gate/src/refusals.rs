//! Refused calls: a plugin can bring about as many as it likes, and each wants to be in the audit.
//!
//! The first ones are written down one by one, and then as many as come evenly. What is more is counted, and the count
//! written with the first of them as a sample. Calls that are allowed are never counted together.
//!
//! Invariant: every refused call is in the audit, by itself or in a count; and of one plugin and one kind of refusal no
//! more than [`AT_ONCE`] records are made at once, one every [`INTERVAL`] after that, and a count every
//! [`SUMMARY_INTERVAL`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use qchost_audit::Entry;
use serde_json::json;

use crate::ask::Ask;
use crate::refusal::Refusal;

/// Records of a series that may be made at once.
const AT_ONCE: u32 = 100;
/// How often one more record of a series may be made.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long calls are counted before the count is written.
pub(crate) const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);
/// Characters of a text of a plugin's that are shown.
const MAX_SHOWN: usize = 64;

/// A text of a plugin's, short, on one line and with its length where it is cut.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    let escaped = short.escape_default();
    if short.len() < text.len() {
        format!("{escaped}… ({} bytes)", text.len())
    } else {
        escaped.to_string()
    }
}

/// What is counted together: refusals of one kind of one plugin's calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Series {
    plugin: Arc<str>,
    word: &'static str,
}

impl Series {
    pub(crate) fn new(ask: &Ask, refusal: &Refusal) -> Self {
        Self {
            plugin: Arc::clone(&ask.caller.plugin),
            word: refusal.word(),
        }
    }
}

/// What became of a refused call.
#[derive(Debug)]
pub(crate) enum Noted {
    /// It is written down by itself.
    Whole(Entry),
    /// It is the first of those that are counted: somebody has to [take](Refusals::take) the count in time.
    FirstCounted,
    /// It is counted to others.
    Counted,
}

/// Calls that were counted.
#[derive(Debug)]
pub(crate) struct Counted {
    pub plugin: Arc<str>,
    pub word: &'static str,
    pub calls: u64,
    /// The record of the first.
    sample: Entry,
    first: Timestamp,
    last: Timestamp,
}

impl Counted {
    /// The record of all of them.
    pub(crate) fn entry(self) -> Entry {
        let Self {
            calls,
            mut sample,
            first,
            last,
            ..
        } = self;
        let repeated =
            json!({ "calls": calls, "first": first.to_string(), "last": last.to_string() });
        sample.body.insert("repeated".to_owned(), repeated);
        sample
    }
}

/// One entry per plugin and kind of refusal seen.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Series, State>>);

#[derive(Debug, Default)]
struct State {
    /// When what was written by now would be due, were it written evenly.
    due: Option<Instant>,
    counted: Option<Counted>,
}

impl State {
    fn admits(&mut self, now: Instant) -> bool {
        let due = self.due.map_or(now, |due| due.max(now));
        if due.duration_since(now) + INTERVAL > INTERVAL * AT_ONCE {
            return false;
        }
        self.due = Some(due + INTERVAL);
        true
    }
}

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, HashMap<Series, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a refused call written down or counted. The record is made where it is needed: for a sample, or to be
    /// written.
    pub(crate) fn note(
        &self,
        series: &Series,
        entry: impl FnOnce() -> Entry,
        now: Instant,
        time: Timestamp,
    ) -> Noted {
        {
            let mut all = self.lock();
            let state = all.entry(series.clone()).or_default();
            if !state.admits(now) {
                if let Some(counted) = &mut state.counted {
                    counted.calls += 1;
                    counted.last = time;
                    return Noted::Counted;
                }
                state.counted = Some(Counted {
                    plugin: Arc::clone(&series.plugin),
                    word: series.word,
                    calls: 1,
                    sample: entry(),
                    first: time,
                    last: time,
                });
                return Noted::FirstCounted;
            }
        }
        Noted::Whole(entry())
    }

    /// Ends a count.
    pub(crate) fn take(&self, series: &Series) -> Option<Counted> {
        self.lock().get_mut(series)?.counted.take()
    }

    /// Ends all counts.
    pub(crate) fn take_all(&self) -> Vec<Counted> {
        let mut all = self.lock();
        all.values_mut()
            .filter_map(|state| state.counted.take())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use qchost_audit::Kind;
    use serde_json::Map;

    use super::*;

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
                let entry = || Entry {
                    kind: Kind::Denied,
                    essential: false,
                    body: Map::from_iter([("call".to_owned(), json!(format!("{second}-{call}")))]),
                };
                match refusals.note(&series, entry, now, time) {
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
        let entry = counts.remove(0).entry();
        assert_eq!(entry.body["call"], "2-0", "the first of them is the sample");
        assert_eq!(entry.body["repeated"]["first"], time.to_string());
        assert!(refusals.take_all().is_empty());
    }

    #[test]
    fn a_quiet_plugin_and_another_kind_of_refusal_are_written_down_one_by_one() {
        let refusals = Refusals::default();
        let entry = || Entry {
            kind: Kind::Denied,
            essential: false,
            body: Map::new(),
        };
        let now = Instant::now();
        let series = |plugin: &str, word| Series {
            plugin: plugin.into(),
            word,
        };
        let note = |series: &Series, now| {
            let noted = refusals.note(series, entry, now, Timestamp::UNIX_EPOCH);
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
