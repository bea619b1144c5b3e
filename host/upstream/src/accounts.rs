//! All accounts of a host, as the one [`Upstream`] that the gate owns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream};

use crate::account::Account;
use crate::connector::ConfigError;
use crate::download::{Downloader, Reach};
use crate::health::AccountHealth;
use crate::pool::NoSession;

/// The accounts by name. Each has connections of its own; none can slow another one down.
///
/// Cloning gives another handle to the same accounts: one goes to the gate, one stays with
/// whoever reports their health.
#[derive(Clone)]
pub struct Accounts {
    by_name: Arc<BTreeMap<String, Account>>,
    downloader: Arc<Downloader>,
}

impl Accounts {
    /// All of these; of two with the same name the later one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Client`] if the HTTP client for downloads cannot start.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Result<Self, ConfigError> {
        let named = |account: Account| (account.name().to_owned(), account);
        Ok(Self {
            by_name: Arc::new(accounts.into_iter().map(named).collect()),
            downloader: Arc::new(Downloader::new()?),
        })
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The state of an account's connection; `None` if there is no such account.
    #[must_use]
    pub fn health(&self, account: &str) -> Option<AccountHealth> {
        let found = self.by_name.get(account)?;
        Some(found.pool.health(account))
    }

    /// Opens a session of an account unless one is open, and says what it found.
    ///
    /// # Errors
    ///
    /// [`Failure::InvalidArgument`] if there is no such account, [`Failure::Unavailable`] with
    /// the reason if it cannot be reached, [`Failure::TimedOut`] if that took too long.
    pub async fn connect(
        &self,
        account: &str,
        deadline: Instant,
    ) -> Result<AccountHealth, Failure> {
        let started = Instant::now();
        let found = self.find(account)?;
        match found.pool.lease(deadline).await {
            Ok(lease) => drop(lease),
            Err(NoSession::Down(reason)) => return Err(Failure::Unavailable(reason)),
            Err(NoSession::Late) => {
                return Err(Failure::TimedOut {
                    after: started.elapsed(),
                });
            }
        }
        Ok(found.pool.health(account))
    }

    /// Closes all sessions and waits for their servers to leave. A call that comes later opens
    /// a new one.
    pub async fn close(&self) {
        for account in self.by_name.values() {
            account.pool.close().await;
        }
    }

    fn find(&self, account: &str) -> Result<&Account, Failure> {
        self.by_name.get(account).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            Failure::InvalidArgument(format!(
                "there is no account `{account}`; configured are: {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ))
        })
    }
}

impl Upstream for Accounts {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { self.find(call.account)?.call(&call).await })
    }

    fn download<'a>(
        &'a self,
        account: &'a str,
        url: &'a str,
        limit: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async move {
            let reach = match self.find(account)?.pool.options().local_downloads {
                true => Reach::ThisMachine,
                false => Reach::Outside,
            };
            self.downloader.fetch(url, reach, limit, deadline).await
        })
    }
}
