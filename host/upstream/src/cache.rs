//! Answers that are given again, and one send for all that ask the same at a time.
//!
//! How long an answer is kept is in its row of the catalog. A read that may be kept is filed under its tool, its arguments
//! and a [`Stamp`]: the generations of what it reads. A write of this account raises the generations of what it may
//! change, before it is sent and again when it is answered, so what was read before is never found afterwards, and a read
//! that is under way meanwhile is filed where no later read looks.
//!
//! Invariants: only successes are kept. An answer that was requested before a write of this account was answered is not
//! given to a read that begins afterwards. Of a write whose answer was lost, nothing that it may change is kept until it
//! cannot take effect any more. The cache holds answers of the account itself: the gate filters them for each caller.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;
use moka::Expiry;
use parking_lot::Mutex;
use qchost_catalog::{
    Access, Call, Ended, Ending, FINISHED_SECONDS, Failure, Lifetime, Operation, Outcome, Target,
    aside,
};
use serde_json::{Map, Value};

/// Bytes of all answers of an account.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of one answer.
const MAX_ANSWER_BYTES: u32 = 8 << 20;
/// Bytes of a key: the arguments of what is kept are names and ids.
const MAX_KEY_BYTES: usize = 4 << 10;
/// Overhead of a JSON value besides its text, in bytes.
const VALUE_BYTES: usize = 32;
/// Backtests and optimisations whose end is remembered.
const MAX_ITEMS: NonZeroUsize = match NonZeroUsize::new(16_384) {
    Some(items) => items,
    None => NonZeroUsize::MIN,
};
/// Places whose generation is remembered.
const MAX_PLACES: usize = 8_192;
/// How long a write whose answer was lost may still take effect.
const UNSETTLED_TIMEOUT: Duration = Duration::from_secs(600);

/// What is read and written, as far as it matters to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// Everything.
    Account,
    /// All that is kept for seconds.
    Brief,
    /// What is kept for seconds about a project, or about none.
    BriefOf(Option<u64>),
    /// What an interface reads of finished items.
    Interface(&'static str),
    /// What is read of finished items of a project, or of none.
    FinishedOf(Option<u64>),
    /// The same, by one interface.
    Finished(Option<u64>, &'static str),
}

/// The generations of what a read reads. Of two stamps of the same read the same ones are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp([u64; 4]);

/// The writes of an account. They are shared with the account that replaces it when its configuration changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writes(Arc<Mutex<Generations>>);

#[derive(Debug, Default)]
struct Generations {
    /// Never reused, so that no generation returns after it was forgotten.
    last: u64,
    /// The generation of a place that is not listed.
    unlisted: u64,
    places: HashMap<Place, u64>,
    /// Until when a write whose answer was lost may change a place.
    unsettled: HashMap<Place, Instant>,
}

impl Generations {
    fn raise(&mut self, places: &[Place]) {
        self.last = self.last.saturating_add(1);
        if self.places.len() >= MAX_PLACES {
            self.places.clear();
            self.unlisted = self.last;
        }
        for place in places {
            self.places.insert(*place, self.last);
        }
    }

    fn unsettle(&mut self, places: &[Place], until: Instant) {
        if self.unsettled.len() >= MAX_PLACES {
            self.unsettled.clear();
            self.unsettled.insert(Place::Account, until);
        }
        for place in places {
            self.unsettled.insert(*place, until);
        }
    }

    /// `None` while a write whose answer was lost may change it.
    fn stamp(&mut self, places: [Place; 4], now: Instant) -> Option<Stamp> {
        self.unsettled.retain(|_, until| *until > now);
        if places
            .iter()
            .any(|place| self.unsettled.contains_key(place))
        {
            return None;
        }
        let generation = |place| self.places.get(&place).copied();
        Some(Stamp(
            places.map(|place| generation(place).unwrap_or(self.unlisted)),
        ))
    }
}

/// A write that is being sent.
pub(crate) struct Writing {
    writes: Writes,
    places: Vec<Place>,
    is_settled: bool,
}

impl Writing {
    /// It was answered, or was certainly not carried out.
    pub(crate) fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut generations = self.writes.0.lock();
        generations.raise(&self.places);
        if !self.is_settled {
            generations.unsettle(&self.places, Instant::now() + UNSETTLED_TIMEOUT);
        }
    }
}

impl Writes {
    /// Begins a write: what was read before is not found from now on. `None` for a read.
    pub(crate) fn begin(&self, call: &Call<'_>) -> Option<Writing> {
        let places = match call.target {
            Target::Known(operation) if operation.access == Access::Read => return None,
            Target::Known(operation) => changed(operation, operation.project(&call.arguments)),
            Target::Unknown(_) => vec![Place::Account],
        };
        self.0.lock().raise(&places);
        Some(Writing {
            writes: self.clone(),
            places,
            is_settled: false,
        })
    }

    fn stamp(&self, places: [Place; 4]) -> Option<Stamp> {
        self.0.lock().stamp(places, Instant::now())
    }
}

/// The places that a write may change.
fn changed(operation: &Operation, project: Option<u64>) -> Vec<Place> {
    let mut places = match project {
        Some(_) if !operation.changes_project() => {
            vec![Place::BriefOf(project), Place::BriefOf(None)]
        }
        // A project may be another one's library; without a project, it may be about an item of any.
        _ => vec![Place::Brief],
    };
    if operation.additive {
        return places;
    }
    let removes = operation.access == Access::Destroy || operation.changes_project();
    let interface = operation.interface();
    match (project, removes) {
        // Items of other interfaces may go with it.
        (None, true) => places.push(Place::Account),
        (None, false) => places.push(Place::Interface(interface)),
        (Some(_), true) => places.extend([Place::FinishedOf(project), Place::FinishedOf(None)]),
        (Some(_), false) => places.extend([
            Place::Finished(project, interface),
            Place::Finished(None, interface),
        ]),
    }
    places
}

/// The places that a read of a kept answer depends on.
fn brief(project: Option<u64>) -> [Place; 4] {
    let place = Place::BriefOf(project);
    [Place::Account, Place::Brief, place, place]
}

fn finished(operation: &Operation, project: Option<u64>) -> [Place; 4] {
    let interface = operation.interface();
    [
        Place::Account,
        Place::Interface(interface),
        Place::FinishedOf(project),
        Place::Finished(project, interface),
    ]
}

/// Under what an answer is filed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    text: String,
    stamp: Stamp,
}

/// The kind of a backtest or an optimisation, and its id.
type Item = (&'static str, String);

/// An answer that is kept.
#[derive(Debug, Clone)]
struct Kept {
    body: Arc<Value>,
    bytes: u32,
    requested: Instant,
    lifetime: Duration,
}

impl Kept {
    fn body(&self) -> Value {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        aside(bytes, || Value::clone(&self.body))
    }
}

/// An outcome that is not kept. It is given to all that wait for it.
struct NotKept {
    outcome: Outcome,
    requested: Instant,
    /// Whether it failed for a reason of the caller that sent it.
    is_personal: bool,
}

struct Expires;

impl Expiry<Key, Kept> for Expires {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: Instant) -> Option<Duration> {
        // Its age counts from the request: it may have been true then.
        Some(kept.lifetime.saturating_sub(kept.requested.elapsed()))
    }
}

/// A read that may be answered by the cache.
pub(crate) struct Lookup {
    key: Key,
    rule: Rule,
}

enum Rule {
    Keep(Duration),
    Prove(&'static Ending, Item),
}

/// How a read that may be kept was answered.
#[derive(Debug)]
pub(crate) enum Found {
    /// It was sent.
    Sent(Outcome),
    /// By an answer of this age that was kept.
    Kept(Value, Duration),
    /// By the same read, begun this long ago, that another caller sent.
    Shared(Outcome, Duration),
    /// The read of another caller failed for that caller's own reasons.
    Nothing,
}

/// The cache of one account.
pub(crate) struct Cache {
    answers: moka::future::Cache<Key, Kept>,
    writes: Writes,
    ended: Mutex<LruCache<Item, Ended>>,
    /// Upper limit of all lifetimes.
    longest: Duration,
}

impl Cache {
    pub(crate) fn new(longest: Duration, writes: Writes) -> Self {
        Self {
            answers: moka::future::Cache::builder()
                .max_capacity(MAX_BYTES)
                .weigher(|key: &Key, kept: &Kept| {
                    let key = u32::try_from(key.text.len()).unwrap_or(u32::MAX);
                    kept.bytes.saturating_add(key)
                })
                .expire_after(Expires)
                .build(),
            writes,
            ended: Mutex::new(LruCache::new(MAX_ITEMS)),
            longest,
        }
    }

    /// The writes of the account.
    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }

    /// How the cache may answer a call; `None` if it has to be sent.
    pub(crate) fn lookup(&self, call: &Call<'_>) -> Option<Lookup> {
        // What cannot be recorded as such is not answered by the cache.
        call.sends?;
        let Target::Known(operation) = call.target else {
            return None;
        };
        let project = operation.project(&call.arguments);
        let item = || {
            let (kind, id) = operation.item(&call.arguments)?;
            Some((kind, id.to_owned()))
        };
        let seconds = |seconds: u32| Duration::from_secs(seconds.into()).min(self.longest);
        let (places, rule) = match operation.lifetime {
            Lifetime::None => return None,
            Lifetime::Seconds(limit) => (brief(project), Rule::Keep(seconds(limit))),
            Lifetime::Proof(ending) => (brief(project), Rule::Prove(ending, item()?)),
            Lifetime::Finished => {
                let ended = self.ended.lock().get(&item()?).copied();
                if ended != Some(Ended::Completed) {
                    return None;
                }
                let rule = Rule::Keep(seconds(FINISHED_SECONDS));
                (finished(operation, project), rule)
            }
        };
        let text = text(operation.tool, &call.arguments);
        if text.len() > MAX_KEY_BYTES {
            return None;
        }
        let stamp = self.writes.stamp(places)?;
        Some(Lookup {
            key: Key { text, stamp },
            rule,
        })
    }

    /// Takes note of how an item ended. Returns it the first time.
    pub(crate) fn learn(&self, call: &Call<'_>, answer: &Value) -> Option<(&'static str, Ended)> {
        let Target::Known(operation) = call.target else {
            return None;
        };
        let Lifetime::Proof(ending) = operation.lifetime else {
            return None;
        };
        let (kind, id) = operation.item(&call.arguments)?;
        let ended = ending.of(id, answer)?;
        let former = self.ended.lock().put((kind, id.to_owned()), ended);
        (former != Some(ended)).then_some((kind, ended))
    }

    /// Gives a kept answer, or that of the same read of another caller, or sends. `leads` is set when it sends;
    /// `is_barred` tells whether this caller may not have an answer any more.
    pub(crate) async fn read(
        &self,
        lookup: Lookup,
        leads: &AtomicBool,
        is_barred: impl Fn() -> bool + Send + Sync,
        send: impl Future<Output = Outcome> + Send,
    ) -> Found {
        let Lookup { key, rule } = lookup;
        if let Some(kept) = self.answers.get(&key).await {
            return Found::Kept(kept.body(), kept.requested.elapsed());
        }
        let longest = self.longest;
        let reading = async {
            leads.store(true, Ordering::Relaxed);
            let requested = Instant::now();
            let outcome = send.await;
            let not_kept = |outcome: Outcome| NotKept {
                is_personal: match &outcome {
                    Ok(_) => false,
                    Err(Failure::Halted(_) | Failure::TimedOut { .. }) => true,
                    Err(_) => is_barred(),
                },
                outcome,
                requested,
            };
            let body = match outcome {
                Ok(body) => body,
                failed => return Err(not_kept(failed)),
            };
            let bytes = aside(qchost_catalog::length(&body), || size(&body));
            match rule.lifetime(&body, longest) {
                Some(lifetime) if bytes <= MAX_ANSWER_BYTES => Ok(Kept {
                    body: Arc::new(body),
                    bytes,
                    requested,
                    lifetime,
                }),
                _ => Err(not_kept(Ok(body))),
            }
        };
        let found = self.answers.try_get_with(key, reading).await;
        let is_own = leads.load(Ordering::Relaxed);
        match found {
            Ok(kept) if is_own => Found::Sent(Ok(kept.body())),
            Ok(kept) => Found::Shared(Ok(kept.body()), kept.requested.elapsed()),
            Err(other) if !is_own && other.is_personal => Found::Nothing,
            Err(other) => {
                let age = other.requested.elapsed();
                let outcome = match Arc::try_unwrap(other) {
                    Ok(only) => only.outcome,
                    Err(shared) => shared.outcome.clone(),
                };
                match is_own {
                    true => Found::Sent(outcome),
                    false => Found::Shared(outcome, age),
                }
            }
        }
    }
}

impl Rule {
    /// How long an answer is kept; `None` if it is not.
    fn lifetime(&self, body: &Value, longest: Duration) -> Option<Duration> {
        let lifetime = match self {
            Self::Keep(lifetime) => *lifetime,
            Self::Prove(ending, (_, id)) => match ending.of(id, body) {
                Some(Ended::Completed) => Duration::from_secs(ending.seconds.into()).min(longest),
                Some(Ended::Failed) | None => return None,
            },
        };
        (!lifetime.is_zero()).then_some(lifetime)
    }
}

/// A tool and its arguments, in whatever order they come.
fn text(tool: &str, arguments: &Map<String, Value>) -> String {
    let mut arguments = arguments.clone();
    arguments.sort_keys();
    format!("{tool} {}", Value::Object(arguments))
}

/// The approximate size of a value in memory, in bytes.
fn size(value: &Value) -> u32 {
    fn of(value: &Value) -> usize {
        let inner = match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(of).fold(0, usize::saturating_add),
            Value::Object(members) => members
                .iter()
                .map(|(name, member)| name.len().saturating_add(of(member)))
                .fold(0, usize::saturating_add),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        };
        inner.saturating_add(VALUE_BYTES)
    }
    u32::try_from(of(value)).unwrap_or(u32::MAX)
}
