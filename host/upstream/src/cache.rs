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
    Access, Call, Ended, Ending, FINISHED_SECONDS, Failure, Job, Lifetime, Operation, Outcome,
    Target, aside,
};
use serde_json::{Map, Value};
use tokio::sync::watch;

/// Bytes of all answers of an account.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of one answer.
const MAX_ANSWER_BYTES: u32 = 8 << 20;
/// Bytes of a key: the arguments of what is kept are names and ids.
const MAX_KEY_BYTES: usize = 4 << 10;
/// Overhead of a JSON value besides its text, in bytes.
const VALUE_BYTES: usize = 64;
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
    if operation.hands_over_account() {
        return vec![Place::Account];
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    text: String,
    stamp: Stamp,
}

/// A backtest or an optimisation, by its id.
type Item = (Job, String);

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
struct Passed {
    outcome: Outcome,
    requested: Instant,
    /// Whether it failed for a reason of the caller that sent it.
    is_personal: bool,
}

/// How a read ended, for those that wait for it.
#[derive(Clone)]
enum Landed {
    Kept(Kept),
    Passed(Arc<Passed>),
}

/// A read that is under way.
type Flight = watch::Receiver<Option<Landed>>;

/// What a read does that the cache does not answer.
enum Boarding<'a> {
    Leads(Leader<'a>),
    Follows(Flight),
}

/// The caller that sends a read. If it goes away, one of those that wait for it sends.
struct Leader<'a> {
    cache: &'a Cache,
    key: &'a Key,
    landed: watch::Sender<Option<Landed>>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.cache.flights.lock().remove(self.key);
    }
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
    /// The reads under way. The crate's own sharing of them panics where many callers go away one after the other.
    flights: Mutex<HashMap<Key, Flight>>,
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
            flights: Mutex::default(),
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
        if self.longest.is_zero() {
            return None;
        }
        let Target::Known(operation) = call.target else {
            return None;
        };
        let project = operation.project(&call.arguments);
        let item = || {
            let (job, id) = operation.job(&call.arguments)?;
            Some((job, id.to_owned()))
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
    pub(crate) fn learn(&self, call: &Call<'_>, answer: &Value) -> Option<(Job, Ended)> {
        let Target::Known(operation) = call.target else {
            return None;
        };
        let Lifetime::Proof(ending) = operation.lifetime else {
            return None;
        };
        let (job, id) = operation.job(&call.arguments)?;
        let ended = ending.of(id, answer)?;
        let former = self.ended.lock().put((job, id.to_owned()), ended);
        (former != Some(ended)).then_some((job, ended))
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
        tokio::pin!(send);
        loop {
            if let Some(kept) = self.answers.get(&key).await {
                return Found::Kept(kept.body(), kept.requested.elapsed());
            }
            let leader = match self.board(&key) {
                Boarding::Leads(leader) => leader,
                Boarding::Follows(mut flight) => {
                    let landed = match flight.wait_for(Option::is_some).await {
                        Ok(landed) => Option::clone(&landed),
                        Err(_) => None,
                    };
                    match landed {
                        Some(landed) => return landed.shared(),
                        None => continue,
                    }
                }
            };
            leads.store(true, Ordering::Relaxed);
            let requested = Instant::now();
            let outcome = send.await;
            return match self.land(&rule, requested, outcome, &is_barred) {
                Landed::Kept(kept) => {
                    self.answers.insert(key.clone(), kept.clone()).await;
                    leader.landed.send_replace(Some(Landed::Kept(kept.clone())));
                    Found::Sent(Ok(kept.body()))
                }
                Landed::Passed(passed) => {
                    // Besides the one on the list.
                    if leader.landed.receiver_count() > 1 {
                        let passed = Arc::clone(&passed);
                        leader.landed.send_replace(Some(Landed::Passed(passed)));
                    }
                    let own = Arc::try_unwrap(passed);
                    let own = own.map_or_else(|it| it.outcome.clone(), |it| it.outcome);
                    Found::Sent(own)
                }
            };
        }
    }

    /// Joins the same read of another caller, or begins it.
    fn board<'a>(&'a self, key: &'a Key) -> Boarding<'a> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(key) {
            return Boarding::Follows(flight.clone());
        }
        let (landed, flight) = watch::channel(None);
        flights.insert(key.clone(), flight);
        Boarding::Leads(Leader {
            cache: self,
            key,
            landed,
        })
    }

    /// Decides whether an outcome is kept.
    fn land(
        &self,
        rule: &Rule,
        requested: Instant,
        outcome: Outcome,
        is_barred: &(impl Fn() -> bool + Send + Sync),
    ) -> Landed {
        let passed = |outcome: Outcome, is_personal: bool| {
            Landed::Passed(Arc::new(Passed {
                outcome,
                requested,
                is_personal,
            }))
        };
        let body = match outcome {
            Ok(body) => body,
            Err(failure @ (Failure::Halted(_) | Failure::TimedOut { .. })) => {
                return passed(Err(failure), true);
            }
            Err(failure) => return passed(Err(failure), is_barred()),
        };
        let bytes = aside(qchost_catalog::length(&body), || size(&body));
        match rule.lifetime(&body, self.longest) {
            Some(lifetime) if bytes <= MAX_ANSWER_BYTES => Landed::Kept(Kept {
                body: Arc::new(body),
                bytes,
                requested,
                lifetime,
            }),
            _ => passed(Ok(body), false),
        }
    }
}

impl Landed {
    /// The answer for a caller that waited for it.
    fn shared(self) -> Found {
        match self {
            Self::Kept(kept) => Found::Shared(Ok(kept.body()), kept.requested.elapsed()),
            Self::Passed(passed) if passed.is_personal => Found::Nothing,
            Self::Passed(passed) => {
                Found::Shared(passed.outcome.clone(), passed.requested.elapsed())
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;
    use qchost_catalog::{Sends, always, by_tool};
    use serde_json::json;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn target(tool: &str) -> Target<'_> {
        by_tool(tool).map_or(Target::Unknown(tool), Target::Known)
    }

    fn call<'a>(tool: &'a str, arguments: &Value, sends: &'a Sends) -> Call<'a> {
        Call {
            account: "a",
            target: target(tool),
            arguments: arguments.as_object().cloned().unwrap(),
            deadline: Instant::now() + DAY,
            clearance: always(),
            sends: Some(sends),
        }
    }

    fn cache() -> Cache {
        Cache::new(DAY, Writes::default())
    }

    /// Reads, with this outcome if it is sent.
    async fn read(cache: &Cache, tool: &str, arguments: &Value, outcome: Outcome) -> Found {
        let sends = Sends::default();
        let call = call(tool, arguments, &sends);
        let leads = AtomicBool::new(false);
        let found = match cache.lookup(&call) {
            Some(lookup) => {
                let send = async { outcome };
                cache.read(lookup, &leads, || false, send).await
            }
            None => Found::Sent(outcome),
        };
        if let Found::Sent(Ok(body)) = &found {
            cache.learn(&call, body);
        }
        found
    }

    async fn is_kept(cache: &Cache, tool: &str, arguments: &Value, answer: &Value) -> bool {
        read(cache, tool, arguments, Ok(answer.clone())).await;
        let again = read(cache, tool, arguments, Ok(json!("again"))).await;
        match again {
            Found::Kept(body, _) => {
                assert_eq!(&body, answer);
                true
            }
            Found::Sent(_) => false,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn only_the_answer_about_a_backtest_makes_what_is_read_of_it_last() {
        let cache = cache();
        let backtest = json!({ "projectId": 1, "backtestId": "b" });
        let orders = json!({ "orders": [], "length": 0 });
        assert!(!is_kept(&cache, "read_backtest_orders", &backtest, &orders).await);
        for status in ["Running: 99%", "Runtime Error", "Completed?"] {
            let answer = json!({ "backtest": { "backtestId": "b", "status": status } });
            assert!(!is_kept(&cache, "read_backtest", &backtest, &answer).await);
            assert!(!is_kept(&cache, "read_backtest_orders", &backtest, &orders).await);
        }
        let answer = json!({ "backtest": { "backtestId": "b", "status": "Completed." } });
        assert!(is_kept(&cache, "read_backtest", &backtest, &answer).await);
        assert!(is_kept(&cache, "read_backtest_orders", &backtest, &orders).await);
        let other = json!({ "projectId": 1, "backtestId": "c" });
        assert!(!is_kept(&cache, "read_backtest_orders", &other, &orders).await);
        let live = json!({ "projectId": 1 });
        for tool in [
            "read_live_orders",
            "read_live_portfolio",
            "list_live_algorithms",
            "read_project_nodes",
        ] {
            assert!(!is_kept(&cache, tool, &live, &json!({})).await, "{tool}");
        }
    }

    #[tokio::test]
    async fn a_failure_is_not_kept_and_a_write_forgets_what_it_may_change() {
        let cache = cache();
        let project = json!({ "projectId": 1 });
        let failed = Err(Failure::Unavailable("x".to_owned()));
        let found = read(&cache, "list_backtests", &project, failed).await;
        assert!(matches!(found, Found::Sent(Err(_))), "{found:?}");
        let list = json!({ "backtests": [] });
        assert!(is_kept(&cache, "list_backtests", &project, &list).await);
        let other = json!({ "projectId": 2 });
        assert!(is_kept(&cache, "list_backtests", &other, &list).await);
        let sends = Sends::default();
        let write = call("create_backtest", &project, &sends);
        cache.writes().begin(&write).unwrap().settle();
        let found = read(&cache, "list_backtests", &project, Ok(json!("new"))).await;
        assert!(matches!(found, Found::Sent(_)), "{found:?}");
        let found = read(&cache, "list_backtests", &other, Ok(json!("new"))).await;
        assert!(matches!(found, Found::Kept(..)), "{found:?}");
        // An answer that was lost may still come to pass.
        drop(cache.writes().begin(&write));
        assert!(!is_kept(&cache, "list_backtests", &project, &list).await);
        // Nothing is known of such a tool.
        let unknown = call("tool_of_tomorrow", &project, &sends);
        cache.writes().begin(&unknown).unwrap().settle();
        let found = read(&cache, "list_backtests", &other, Ok(json!("new"))).await;
        assert!(matches!(found, Found::Sent(_)), "{found:?}");
    }

    #[tokio::test]
    async fn code_in_a_notebook_and_agents_may_change_anything_and_a_command_to_a_deployment_does_not()
     {
        let (cache, sends) = (cache(), Sends::default());
        let (project, other) = (json!({ "projectId": 1 }), json!({ "projectId": 2 }));
        let backtest = json!({ "projectId": 2, "backtestId": "b" });
        let answer = json!({ "backtest": { "backtestId": "b", "status": "Completed." } });
        let (list, orders) = (json!({ "backtests": [] }), json!({ "orders": [] }));
        for (tool, forgets) in [
            ("jupyter_execute_cell", true),
            ("jupyter_execute_notebook", true),
            ("create_agent_deployment", true),
            ("prompt_agent_deployment", true),
            ("create_live_command", false),
        ] {
            read(&cache, "read_backtest", &backtest, Ok(answer.clone())).await;
            assert!(is_kept(&cache, "list_backtests", &other, &list).await);
            assert!(is_kept(&cache, "read_backtest_orders", &backtest, &orders).await);
            let write = call(tool, &project, &sends);
            cache.writes().begin(&write).unwrap().settle();
            for (read_tool, arguments, body) in [
                ("list_backtests", &other, &list),
                ("read_backtest_orders", &backtest, &orders),
            ] {
                let found = read(&cache, read_tool, arguments, Ok(body.clone())).await;
                assert_eq!(
                    matches!(found, Found::Sent(_)),
                    forgets,
                    "{tool}: {read_tool}"
                );
            }
        }
    }

    #[tokio::test]
    async fn many_that_ask_the_same_send_once_and_a_failure_of_one_s_own_concerns_no_other() {
        let cache = Arc::new(cache());
        for (personal, outcome) in [
            (false, Ok(json!({ "projects": [] }))),
            (false, Err(Failure::Unavailable("down".to_owned()))),
            (true, Err(Failure::Unavailable("superseded".to_owned()))),
        ] {
            let (open, gate) = tokio::sync::watch::channel(false);
            let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let ask = || {
                let (cache, mut gate, sent) = (Arc::clone(&cache), gate.clone(), Arc::clone(&sent));
                let outcome = outcome.clone();
                async move {
                    let sends = Sends::default();
                    let arguments = json!({ "outcome": outcome.is_ok(), "personal": personal });
                    let call = call("list_projects", &arguments, &sends);
                    let lookup = cache.lookup(&call).unwrap();
                    let leads = AtomicBool::new(false);
                    let send = async {
                        sent.fetch_add(1, Ordering::SeqCst);
                        gate.wait_for(|open| *open).await.unwrap();
                        outcome
                    };
                    cache.read(lookup, &leads, || personal, send).await
                }
            };
            let asking = futures::future::join_all((0..20).map(|_| ask()));
            let opening = async {
                while sent.load(Ordering::SeqCst) == 0 {
                    tokio::task::yield_now().await;
                }
                open.send_replace(true);
            };
            let (found, ()) = tokio::join!(asking, opening);
            assert_eq!(sent.load(Ordering::SeqCst), 1);
            let own = found.iter().filter(|it| matches!(it, Found::Sent(_)));
            assert_eq!(own.count(), 1);
            let nothing = found.iter().filter(|it| matches!(it, Found::Nothing));
            assert_eq!(nothing.count(), if personal { 19 } else { 0 });
        }
    }

    #[test]
    fn generations_are_bounded_and_none_returns() {
        let mut generations = Generations::default();
        let now = Instant::now();
        let place = |project| [Place::BriefOf(Some(project)); 4];
        let (mut stamps, mut last) = (std::collections::HashSet::new(), None);
        for project in 0..50_000 {
            generations.raise(&place(project));
            assert!(generations.places.len() <= MAX_PLACES + 1);
            let stamp = generations.stamp(place(7), now);
            assert!(stamp.is_some());
            assert!(stamp == last || stamps.insert(stamp), "{stamp:?} returned");
            last = stamp;
        }
        for project in 0..10_000 {
            generations.unsettle(&place(project), now + UNSETTLED_TIMEOUT);
            assert!(generations.unsettled.len() <= MAX_PLACES + 1);
            assert_eq!(generations.stamp(place(project), now), None);
        }
        assert_eq!(generations.stamp([Place::Account; 4], now), None);
        let later = now + UNSETTLED_TIMEOUT;
        assert!(generations.stamp([Place::Account; 4], later).is_some());
    }

    #[test]
    fn the_order_of_arguments_does_not_matter() {
        let key = |value: Value| text("t", value.as_object().unwrap());
        assert_eq!(
            key(json!({ "a": 1, "b": 2 })),
            key(json!({ "b": 2, "a": 1 }))
        );
        assert_ne!(key(json!({ "a": 1 })), key(json!({ "a": 2 })));
    }

    /// What a project has: its name, its list of backtests, the orders of its backtest.
    type Parts = [u64; 3];

    /// The server. Each execution of a write gives what it changes a higher number.
    #[derive(Default)]
    struct World {
        state: [Parts; 2],
        /// The numbers of what was reported to the host.
        reported: [Parts; 2],
        executed: u64,
    }

    /// The parts of which projects a tool reads or changes.
    fn touched(tool: &str, project: usize) -> Vec<(usize, usize)> {
        let all = |parts: &[usize]| {
            let each = |project| parts.iter().map(move |part| (project, *part));
            (0..2).flat_map(each).collect()
        };
        match tool {
            "read_project" | "update_project" => vec![(project, 0)],
            "list_projects" => all(&[0]),
            "list_backtests" | "create_backtest" => vec![(project, 1)],
            "read_backtest_orders" => vec![(project, 2)],
            "delete_backtest" => vec![(project, 1), (project, 2)],
            "delete_project" => vec![(project, 0), (project, 1), (project, 2)],
            // What code in a notebook, or an agent, does is not known.
            "jupyter_execute_cell" | "create_agent_deployment" | "tool_of_tomorrow" => {
                all(&[0, 1, 2])
            }
            other => panic!("{other}"),
        }
    }

    const READS: [&str; 4] = [
        "read_project",
        "list_projects",
        "list_backtests",
        "read_backtest_orders",
    ];
    const WRITES: [&str; 7] = [
        "update_project",
        "create_backtest",
        "delete_backtest",
        "delete_project",
        "jupyter_execute_cell",
        "create_agent_deployment",
        "tool_of_tomorrow",
    ];

    /// Lets the scheduler do something else.
    async fn pause() {
        let mut is_first = true;
        poll_fn(move |_| match std::mem::take(&mut is_first) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
    }

    fn arguments(tool: &str, project: usize) -> Value {
        match tool {
            "list_projects" => json!({}),
            _ => json!({ "projectId": project, "backtestId": format!("b{project}") }),
        }
    }

    async fn read_in(cache: &Cache, world: &Mutex<World>, tool: &str, project: usize) {
        let sends = Sends::default();
        let call = call(tool, &arguments(tool, project), &sends);
        let places = touched(tool, project);
        let at = |parts: &[Parts; 2]| -> Vec<u64> {
            places
                .iter()
                .map(|(project, part)| parts[*project][*part])
                .collect()
        };
        let reported = at(&world.lock().reported);
        let leads = AtomicBool::new(false);
        let send = async {
            pause().await;
            let body = json!(at(&world.lock().state));
            pause().await;
            Ok(body)
        };
        let outcome = match cache.lookup(&call) {
            Some(lookup) => match cache.read(lookup, &leads, || false, send).await {
                Found::Kept(body, _) => Ok(body),
                Found::Sent(outcome) | Found::Shared(outcome, _) => outcome,
                Found::Nothing => panic!("no read fails"),
            },
            None => send.await,
        };
        let read: Vec<u64> = serde_json::from_value(outcome.unwrap()).unwrap();
        for (read, reported) in read.iter().zip(&reported) {
            assert!(
                read >= reported,
                "{tool} of {project}: {read} after {reported}"
            );
        }
    }

    async fn write_in(cache: &Cache, world: &Mutex<World>, tool: &str, project: usize, lost: bool) {
        let sends = Sends::default();
        let call = call(tool, &arguments(tool, project), &sends);
        let mut writing = cache.writes().begin(&call);
        pause().await;
        if lost {
            // Its answer is lost, and only then is it carried out.
            drop(writing.take());
            pause().await;
        }
        let number = {
            let mut world = world.lock();
            world.executed += 1;
            let number = world.executed;
            for (project, part) in touched(tool, project) {
                world.state[project][part] = number;
                if lost {
                    world.reported[project][part] = number;
                }
            }
            number
        };
        pause().await;
        if let Some(writing) = writing {
            writing.settle();
            let mut world = world.lock();
            for (project, part) in touched(tool, project) {
                let reported = &mut world.reported[project][part];
                *reported = number.max(*reported);
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Read(usize, usize),
        Write(usize, usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..READS.len(), 0..2_usize).prop_map(|(tool, project)| Step::Read(tool, project)),
            1 => (0..WRITES.len(), 0..2_usize, prop::bool::weighted(0.1))
                .prop_map(|(tool, project, lost)| Step::Write(tool, project, lost)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_read_never_gives_what_was_before_a_write_that_was_answered(
            steps in prop::collection::vec(step(), 1..40),
            schedule in prop::collection::vec((any::<u8>(), prop::bool::weighted(0.05)), 0..400),
        ) {
            let (cache, world) = (cache(), Mutex::new(World::default()));
            for project in 0..2 {
                let (sends, id) = (Sends::default(), format!("b{project}"));
                let answer = json!({ "backtest": { "backtestId": id, "status": "Completed." } });
                let call = call("read_backtest", &arguments("read_backtest", project), &sends);
                prop_assert!(cache.learn(&call, &answer).is_some());
            }
            type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
            let mut tasks: Vec<(bool, Task<'_>)> = steps.iter().map(|step| match *step {
                Step::Read(tool, project) => {
                    let task: Task<'_> = Box::pin(read_in(&cache, &world, READS[tool], project));
                    (true, task)
                }
                Step::Write(tool, project, lost) => {
                    let task: Task<'_> = Box::pin(write_in(&cache, &world, WRITES[tool], project, lost));
                    (false, task)
                }
            }).collect();
            let mut context = Context::from_waker(Waker::noop());
            let mut schedule = schedule.into_iter();
            // Afterwards in turn, until all have ended.
            let mut turn = 0_usize;
            for _ in 0..100_000 {
                if tasks.is_empty() {
                    break;
                }
                let (pick, leaves) = schedule.next().map_or((turn, false), |(pick, leaves)| (pick.into(), leaves));
                turn = turn.wrapping_add(1);
                // Mostly among the first ones, so that not all begin at once.
                let index = pick % tasks.len().min(6);
                let (is_read, task) = &mut tasks[index];
                // A reader may go away, and another one then sends in its place.
                let ended = (leaves && *is_read) || task.as_mut().poll(&mut context).is_ready();
                if ended {
                    drop(tasks.remove(index));
                }
            }
            prop_assert!(tasks.is_empty(), "{} never ended", tasks.len());
        }
    }
}
