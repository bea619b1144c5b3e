//! Whose each account is, kept in the host's ledger from one start to the next.
//!
//! Invariant: beside the host nothing is written.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use parking_lot::RwLock;
use qchost_catalog::BoxFuture;
use qchost_ledger::{KeptIdentity, Ledger, LedgerError};
use qchost_upstream::{Identity, IdentityChange, IdentityMemory};

use crate::data_folder::DATABASE;

/// The identities by connection.
pub struct Identities {
    /// `None` beside the host.
    ledger: Option<Ledger>,
    known: RwLock<BTreeMap<String, Identity>>,
    /// The connections that were found to be not as they were kept, since the start.
    changes: RwLock<BTreeMap<String, Change>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Change {
    what: IdentityChange,
    is_recorded: bool,
}

impl Identities {
    /// Those of the host that has this ledger.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn of_host(ledger: Ledger) -> Result<Self, LedgerError> {
        let kept = ledger.identities().await?;
        Ok(Self::new(Some(ledger), kept))
    }

    /// The same for a look beside the host; none of a file that cannot be read. Blocks.
    pub fn beside_host(data: &Path) -> Self {
        let kept = Ledger::stored_identities(&data.join(DATABASE));
        Self::new(None, kept.unwrap_or_default())
    }

    fn new(ledger: Option<Ledger>, kept: Vec<KeptIdentity>) -> Self {
        let mut known = BTreeMap::new();
        for KeptIdentity {
            connection,
            identity,
        } in kept
        {
            match serde_json::from_str(&identity) {
                Ok(identity) => {
                    known.insert(connection, identity);
                }
                Err(error) => {
                    tracing::warn!(target: "host", connection, %error, "whose the account is, as it was kept, cannot be read");
                }
            }
        }
        Self {
            ledger,
            known: RwLock::new(known),
            changes: RwLock::default(),
        }
    }

    /// How a connection changed since the start, if it did.
    pub fn change(&self, connection: &str) -> Option<IdentityChange> {
        let changes = self.changes.read();
        changes.get(connection).map(|change| change.what.clone())
    }

    /// The changes that are not recorded yet.
    pub fn unrecorded(&self) -> Vec<(String, IdentityChange)> {
        let changes = self.changes.read();
        let unrecorded = changes.iter().filter(|(_, change)| !change.is_recorded);
        let pairs =
            unrecorded.map(|(connection, change)| (connection.clone(), change.what.clone()));
        pairs.collect()
    }

    /// Notes that a change is recorded, unless the connection changed again meanwhile.
    pub fn recorded(&self, connection: &str, what: &IdentityChange) {
        if let Some(change) = self.changes.write().get_mut(connection)
            && change.what == *what
        {
            change.is_recorded = true;
        }
    }

    /// Forgets whose an account is.
    ///
    /// # Errors
    /// When the ledger cannot be used; then it is remembered.
    pub async fn forget(&self, connection: &str) -> Result<(), LedgerError> {
        if let Some(ledger) = &self.ledger {
            ledger.forget_identity(connection).await?;
        }
        self.known.write().remove(connection);
        self.changes.write().remove(connection);
        Ok(())
    }

    async fn keep(&self, connection: &str, identity: &Identity) -> Result<()> {
        if let Some(ledger) = &self.ledger {
            let kept = KeptIdentity {
                connection: connection.to_owned(),
                identity: serde_json::to_string(identity)?,
            };
            ledger.keep_identity(kept).await?;
        }
        Ok(())
    }
}

impl IdentityMemory for Identities {
    fn recall(&self, connection: &str) -> Option<Identity> {
        self.known.read().get(connection).cloned()
    }

    fn replaced(&self, connection: &str, what: IdentityChange) {
        let change = Change {
            what,
            is_recorded: false,
        };
        self.changes.write().insert(connection.to_owned(), change);
    }

    fn remember<'a>(&'a self, connection: &'a str, identity: Identity) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.keep(connection, &identity).await {
                tracing::warn!(target: "host", connection, %error, "whose the account is is not remembered beyond this process");
            }
            self.known.write().insert(connection.to_owned(), identity);
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn whose_an_account_is_is_known_after_a_restart_and_beside_the_host_until_a_logout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DATABASE);
        let identity = json!({ "organization": "o", "projects": { "1": "Lab" } });
        let identity: Identity = serde_json::from_value(identity).unwrap();
        let ledger = Ledger::open(&path).unwrap();
        let host = Identities::of_host(ledger.clone()).await.unwrap();
        assert_eq!(host.recall("a"), None);
        host.remember("a", identity.clone()).await;
        // What it replaced is shown until a logout, or the next start.
        let change = IdentityChange {
            former: Some("o".to_owned()),
            now: None,
            reason: "x".to_owned(),
        };
        host.replaced("a", change.clone());
        host.replaced("b", change.clone());
        assert_eq!(host.change("a"), Some(change.clone()));
        assert_eq!(host.unrecorded().len(), 2);
        host.recorded("a", &change);
        assert_eq!(host.unrecorded().len(), 1);
        host.forget("b").await.unwrap();
        assert_eq!(host.change("b"), None);
        let unreadable = KeptIdentity {
            connection: "b".to_owned(),
            identity: "{".to_owned(),
        };
        ledger.keep_identity(unreadable).await.unwrap();
        let beside = Identities::beside_host(folder.path());
        assert_eq!(beside.recall("a"), Some(identity.clone()));
        assert_eq!(beside.recall("b"), None);
        beside.remember("c", identity.clone()).await;
        drop((host, ledger));
        let host = Identities::of_host(Ledger::open(&path).unwrap());
        let host = host.await.unwrap();
        assert_eq!(host.recall("a"), Some(identity));
        assert_eq!(host.recall("c"), None);
        host.forget("a").await.unwrap();
        drop(host);
        let host = Identities::of_host(Ledger::open(&path).unwrap());
        assert_eq!(host.await.unwrap().recall("a"), None);
    }
}
