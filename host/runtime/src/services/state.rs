//! `state`: an agent's key-value state. The gate owns the store, which blocks on the disk, so it is called on a
//! blocking thread.
//!
//! Invariant: one plugin never delays others for long: it has few concurrent requests at the store, whose writes share
//! transactions with reservations of all plugins, and the bytes it writes per second are limited.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use qchost_ledger::{StateError as Refused, StateStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::calls::Calls;
use crate::contract::qchost::agent::state::{Entry, Host, StateError};

/// Maximum concurrent requests of one plugin, over all its invocations.
const PLACES: usize = 4;
/// Bytes per second that one plugin may write.
const RATE: u32 = 4 << 20;
/// Maximum burst as a duration of that rate, after an equally long pause: its whole quota.
const BURST: Duration = Duration::from_secs(4);

/// Limits one plugin's use of the store, over all its invocations. Requests above the limit wait.
#[derive(Debug)]
pub(crate) struct Throttle {
    places: Semaphore,
    /// When the bytes written so far would be due at an even rate.
    due: Mutex<Option<Instant>>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            places: Semaphore::new(PLACES),
            due: Mutex::default(),
        }
    }
}

impl Throttle {
    /// Until when a write of `bytes` bytes has to wait.
    fn until(&self, bytes: usize, now: Instant) -> Instant {
        let mut due = self.due.lock();
        let begin = due.map_or(now, |due| due.max(now));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        *due = Some(begin + Duration::from_secs(1) * bytes / RATE);
        now + begin.duration_since(now).saturating_sub(BURST)
    }
}

/// The state of the calling plugin; none while a component describes itself.
#[derive(Debug, Clone)]
pub(crate) struct State(pub(crate) Calls);

impl State {
    /// Runs a request at the store that writes `bytes` bytes.
    async fn ask<T: Send + 'static>(
        &self,
        bytes: usize,
        question: impl FnOnce(&StateStore, &str) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, StateError> {
        let Ok(gate) = self.0.gate().cloned() else {
            return Err(StateError::Unavailable(
                "a component that describes itself has no state".to_owned(),
            ));
        };
        let throttle = &self.0.surroundings().state;
        // It is never closed.
        let _place = throttle.places.acquire().await;
        if bytes > 0 {
            tokio::time::sleep_until(throttle.until(bytes, Instant::now())).await;
        }
        let plugin = Arc::clone(&self.0.principal().plugin);
        tokio::task::spawn_blocking(move || question(gate.state(), &plugin))
            .await
            .map_err(|error| StateError::Unavailable(error.to_string()))?
            .map_err(refused)
    }
}

fn refused(error: Refused) -> StateError {
    match error {
        Refused::Conflict(version) => StateError::Conflict(version),
        Refused::QuotaExceeded(message) => StateError::QuotaExceeded(message),
        Refused::InvalidKey(_) => StateError::InvalidKey(error.to_string()),
        Refused::Unavailable(_) => StateError::Unavailable(error.to_string()),
    }
}

impl Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Entry>, StateError> {
        let entry = self
            .ask(0, move |store, plugin| store.get(plugin, &key))
            .await?;
        Ok(entry.map(|entry| Entry {
            value: entry.value,
            version: entry.version,
        }))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Result<u32, StateError> {
        self.ask(value.len(), move |store, plugin| {
            store.set(plugin, &key, &value)
        })
        .await
    }

    async fn compare_and_swap(
        &mut self,
        key: String,
        expected: Option<u32>,
        value: Vec<u8>,
    ) -> Result<u32, StateError> {
        self.ask(value.len(), move |store, plugin| {
            store.compare_and_swap(plugin, &key, expected, &value)
        })
        .await
    }

    async fn delete(&mut self, key: String) -> Result<(), StateError> {
        self.ask(0, move |store, plugin| store.delete(plugin, &key))
            .await
    }

    async fn list_keys(&mut self, prefix: String) -> Result<Vec<String>, StateError> {
        self.ask(0, move |store, plugin| store.list_keys(plugin, &prefix))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qchost_testing::{Gated, uncalled};

    #[tokio::test]
    async fn a_plugin_writes_its_quota_at_once_and_then_so_much_a_second() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..=16 {
            assert_eq!(throttle.until(1 << 20, now), now);
        }
        assert_eq!(
            throttle.until(4 << 20, now),
            now + Duration::from_millis(250)
        );
        assert_eq!(throttle.until(0, now), now + Duration::from_millis(1250));
        let later = now + Duration::from_secs(3600);
        assert_eq!(throttle.until(16 << 20, later), later);
    }

    #[tokio::test]
    async fn a_plugin_remembers_its_own_and_nothing_else() {
        let Gated {
            gate,
            folder: _folder,
        } = Gated::new(uncalled()).await;
        let [mut one, mut two] =
            ["one", "two"].map(|plugin| State(Calls::of_test(gate.clone(), plugin)));
        let key = || "best/fast".to_owned();
        assert_eq!(one.set(key(), vec![1]).await.unwrap(), 1);
        assert_eq!(
            one.compare_and_swap(key(), Some(1), vec![2]).await.unwrap(),
            2
        );
        let stale = one.compare_and_swap(key(), Some(1), vec![3]).await;
        assert!(matches!(stale, Err(StateError::Conflict(Some(2)))));
        let entry = one.get(key()).await.unwrap().unwrap();
        assert_eq!((entry.value, entry.version), (vec![2], 2));
        assert_eq!(one.list_keys("best/".to_owned()).await.unwrap(), [key()]);

        assert!(two.get(key()).await.unwrap().is_none());
        assert!(two.list_keys(String::new()).await.unwrap().is_empty());
        one.delete(key()).await.unwrap();
        assert!(one.get(key()).await.unwrap().is_none());

        let empty = one.set(String::new(), vec![]).await;
        assert!(matches!(empty, Err(StateError::InvalidKey(_))));
        let large = one.set(key(), vec![0; 2 << 20]).await;
        assert!(matches!(large, Err(StateError::QuotaExceeded(_))));

        let mut describing = State(Calls::describing_of_test());
        let denied = describing.get(key()).await;
        assert!(matches!(denied, Err(StateError::Unavailable(_))));
    }
}
