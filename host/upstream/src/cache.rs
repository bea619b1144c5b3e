//! Cache of answers to the operations that the catalog calls cacheable.
//!
//! Invariant: only successes are kept, at most [`MAX_ENTRIES`] of them, and none past its expiry.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// The cacheable operations have hardly any arguments, so there are few different answers.
const MAX_ENTRIES: usize = 32;

pub(crate) struct Cache {
    keep: Duration,
    entries: Mutex<HashMap<String, (Instant, Value)>>,
}

impl Cache {
    pub(crate) fn new(keep: Duration) -> Self {
        Self {
            keep,
            entries: Mutex::default(),
        }
    }

    /// The key of a call.
    pub(crate) fn key(tool: &str, arguments: &Map<String, Value>) -> String {
        let mut arguments = arguments.clone();
        arguments.sort_keys();
        format!("{tool} {}", Value::Object(arguments))
    }

    pub(crate) fn get(&self, key: &str, now: Instant) -> Option<Value> {
        let entries = self.entries.lock();
        let (until, value) = entries.get(key)?;
        (*until > now).then(|| value.clone())
    }

    pub(crate) fn put(&self, key: String, value: Value, now: Instant) {
        let mut entries = self.entries.lock();
        entries.retain(|_, (until, _)| *until > now);
        if entries.len() < MAX_ENTRIES {
            entries.insert(key, (now + self.keep, value));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_kept_for_its_time_and_no_longer() {
        let (cache, now) = (Cache::new(Duration::from_secs(60)), Instant::now());
        cache.put("a".to_owned(), json!(1), now);
        assert_eq!(
            cache.get("a", now + Duration::from_secs(59)),
            Some(json!(1))
        );
        assert_eq!(cache.get("a", now + Duration::from_secs(60)), None);
        assert_eq!(cache.get("b", now), None);
    }

    #[test]
    fn it_never_grows_beyond_its_capacity_and_makes_room_again() {
        let (cache, now) = (Cache::new(Duration::from_secs(60)), Instant::now());
        for n in 0..MAX_ENTRIES * 3 {
            cache.put(n.to_string(), json!(n), now);
        }
        assert_eq!(cache.entries.lock().len(), MAX_ENTRIES);
        let later = now + Duration::from_secs(60);
        cache.put("later".to_owned(), json!(true), later);
        assert_eq!(cache.get("later", later), Some(json!(true)));
    }

    #[test]
    fn the_order_of_arguments_does_not_matter() {
        let key = |value: Value| Cache::key("t", value.as_object().unwrap());
        assert_eq!(
            key(json!({ "a": 1, "b": 2 })),
            key(json!({ "b": 2, "a": 1 }))
        );
        assert_ne!(key(json!({ "a": 1 })), key(json!({ "a": 2 })));
    }
}
