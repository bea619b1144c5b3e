//! `state`: an agent's key-value state. The gate owns the store, which blocks on the disk, so it is called on a
//! blocking thread, within the limits of [`StateLimiter`](super::state_limiter::StateLimiter).

use std::sync::Arc;
use std::time::Instant;

use qchost_ledger::{StateError as StoreError, StateStore};

use crate::calls::CallContext;
use crate::contract::qchost::agent::state::{Entry, Host, StateError};

/// The state of the calling plugin; none while a component describes itself.
#[derive(Debug, Clone)]
pub(crate) struct State(pub(crate) CallContext);

impl State {
    /// Runs a request at the store that writes `bytes` bytes.
    async fn query<T: Send + 'static>(
        &self,
        bytes: usize,
        request: impl FnOnce(&StateStore, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StateError> {
        let Ok(gate) = self.0.gate().cloned() else {
            return Err(StateError::Unavailable(
                "a component that describes itself has no state".to_owned(),
            ));
        };
        let limiter = &self.0.version_context().state;
        // It is never closed.
        let _permit = limiter.requests.acquire().await;
        if bytes > 0 {
            tokio::time::sleep_until(limiter.until(bytes, Instant::now()).into()).await;
        }
        let plugin = Arc::clone(&self.0.principal().plugin);
        tokio::task::spawn_blocking(move || request(gate.state(), &plugin))
            .await
            .map_err(|error| StateError::Unavailable(error.to_string()))?
            .map_err(refused)
    }
}

fn refused(error: StoreError) -> StateError {
    match error {
        StoreError::Conflict(version) => StateError::Conflict(version),
        StoreError::QuotaExceeded(message) => StateError::QuotaExceeded(message),
        StoreError::InvalidKey(_) => StateError::InvalidKey(error.to_string()),
        StoreError::Unavailable(_) => StateError::Unavailable(error.to_string()),
    }
}

impl Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Entry>, StateError> {
        let entry = self
            .query(0, move |store, plugin| store.get(plugin, &key))
            .await?;
        Ok(entry.map(|entry| Entry {
            value: entry.value,
            version: entry.version,
        }))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Result<u32, StateError> {
        self.query(value.len(), move |store, plugin| {
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
        self.query(value.len(), move |store, plugin| {
            store.compare_and_swap(plugin, &key, expected, &value)
        })
        .await
    }

    async fn delete(&mut self, key: String) -> Result<(), StateError> {
        self.query(0, move |store, plugin| store.delete(plugin, &key))
            .await
    }

    async fn list_keys(&mut self, prefix: String) -> Result<Vec<String>, StateError> {
        self.query(0, move |store, plugin| store.list_keys(plugin, &prefix))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qchost_testing::{Gated, uncalled};

    #[tokio::test]
    async fn a_plugin_remembers_its_own_and_nothing_else() {
        let Gated {
            gate,
            folder: _folder,
        } = Gated::new(uncalled()).await;
        let [mut one, mut two] =
            ["one", "two"].map(|plugin| State(CallContext::for_test(gate.clone(), plugin)));
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

        let mut describing = State(CallContext::describing_for_test());
        let denied = describing.get(key()).await;
        assert!(matches!(denied, Err(StateError::Unavailable(_))));
    }
}
