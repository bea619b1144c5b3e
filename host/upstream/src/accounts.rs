//! All accounts of a host, as the one [`Upstream`] that the gate owns.
//!
//! Accounts may be added and removed while calls are under way. A call stays with the account that it found: it
//! ends on that connection, which is closed when the last of its calls has ended.
//!
//! An account may have two connections: one in front of the REST API, under its name, and one to QuantConnect's remote
//! server, under the name of [`remote_of`]. What the REST API can do goes by it where it is there.
//!
//! Invariant: a call is counted by its account before another one can replace the account, so no connection is
//! closed under a call, and no call opens one after the closing.

use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Target, Upstream, Way, not_by_remote};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::account::Account;
use crate::connector::ConfigError;
use crate::download::{AllowedTargets, Downloader};
use crate::figures::AccountFigures;
use crate::health::AccountHealth;
use crate::pool::NoSession;
use crate::proof::{REFUSAL_TTL, prove};

/// The accounts by name. Each has its own connections; none can slow another one down.
///
/// Cloning gives another handle to the same accounts: one goes to the gate, another stays with the host, which
/// updates them and reports their health.
#[derive(Clone)]
pub struct Accounts {
    by_name: Arc<RwLock<BTreeMap<String, Arc<Account>>>>,
    /// Replaced or removed accounts that still carry calls.
    former: Arc<Mutex<Vec<Arc<Account>>>>,
    downloader: Arc<Downloader>,
}

/// An account that is in use by a call.
struct UsedAccount {
    account: Arc<Account>,
    _counted: TaskTrackerToken,
}

/// The name of the connection of an account to the remote server.
#[must_use]
pub fn remote_of(account: &str) -> String {
    format!("{account}{REMOTE_SUFFIX}")
}

/// No account has a dot in its name.
const REMOTE_SUFFIX: &str = ".remote";

/// The account that a connection belongs to.
#[must_use]
pub fn account_of(connection: &str) -> &str {
    connection.strip_suffix(REMOTE_SUFFIX).unwrap_or(connection)
}

/// Puts a connection in place, joined to the other ones of its account, also to those that were just removed. Returns the
/// one that it replaces.
fn put_into(
    by_name: &mut BTreeMap<String, Arc<Account>>,
    removed: &[Arc<Account>],
    account: Account,
) -> Option<Arc<Account>> {
    let name = account.name().to_owned();
    let of_account = |one: &&Arc<Account>| account_of(one.name()) == account_of(&name);
    let other = by_name.values().chain(removed).find(of_account).cloned();
    let account = match other {
        Some(other) => account.joined(&other),
        None => account,
    };
    by_name.insert(name, Arc::new(account))
}

impl Accounts {
    /// All of these; of two with the same name the later one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Client`] if the HTTP client for downloads cannot start.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Result<Self, ConfigError> {
        let mut by_name = BTreeMap::new();
        for account in accounts {
            put_into(&mut by_name, &[], account);
        }
        Ok(Self {
            by_name: Arc::new(RwLock::new(by_name)),
            former: Arc::default(),
            downloader: Arc::new(Downloader::new()?),
        })
    }

    /// The names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.by_name.read().keys().cloned().collect()
    }

    /// Adds or replaces accounts, each with all its connections, and removes some. The next call uses the new connection, or fails if the
    /// account was removed; calls under way end on their former one. All others are unchanged. Must be called in
    /// a tokio runtime.
    ///
    /// The returned task ends when every former connection is closed and its server is gone. It need not be
    /// awaited.
    pub fn update(&self, put: Vec<Account>, remove: &[String]) -> JoinHandle<()> {
        let mut replaced = Vec::new();
        {
            let mut by_name = self.by_name.write();
            // A connection that is not put again is gone, also one of an account that has another one.
            let kept: Vec<&str> = put.iter().map(Account::name).collect();
            let accounts = kept.iter().map(|name| account_of(name));
            let changed: Vec<&str> = accounts.chain(remove.iter().map(String::as_str)).collect();
            let is_gone = |name: &str| changed.contains(&account_of(name)) && !kept.contains(&name);
            let gone: Vec<String> = by_name
                .keys()
                .filter(|name| is_gone(name))
                .cloned()
                .collect();
            replaced.extend(gone.iter().filter_map(|name| by_name.remove(name)));
            for account in put {
                let former = put_into(&mut by_name, &replaced, account);
                replaced.extend(former);
            }
            // Before any call can find the new ones, so that `close` sees every connection.
            self.former.lock().extend(replaced.iter().cloned());
        }
        let mut retiring = JoinSet::new();
        for account in replaced {
            let accounts = self.clone();
            retiring.spawn(async move {
                account.retire().await;
                accounts
                    .former
                    .lock()
                    .retain(|one| !Arc::ptr_eq(one, &account));
            });
        }
        tokio::spawn(async move { while retiring.join_next().await.is_some() {} })
    }

    /// The state of an account's connection; `None` if there is no such account.
    #[must_use]
    pub fn health(&self, account: &str) -> Option<AccountHealth> {
        let found = self.by_name.read().get(account).cloned()?;
        Some(found.health())
    }

    /// Opens a session of an account unless one is open, and returns what it found.
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
        let UsedAccount { account: found, .. } = &self.find(account)?;
        let mut result = Err(NoSession::Late);
        for endpoint in found.endpoints.iter() {
            result = endpoint.pool.acquire(deadline, false).await.map(drop);
            match &result {
                Ok(()) => break,
                Err(NoSession::Down(problem, reason)) => {
                    endpoint.failed(*problem, reason.clone(), None);
                }
                Err(NoSession::Late) => {}
            }
        }
        match result {
            Ok(()) => Ok(found.health()),
            Err(NoSession::Down(problem, reason)) => {
                Err(found.endpoints.first().down(problem, reason))
            }
            Err(NoSession::Late) => Err(Failure::TimedOut {
                after: started.elapsed(),
            }),
        }
    }

    /// Whether a connection is refused because a person logged in as another user than is remembered of the account.
    #[must_use]
    pub fn is_other(&self, connection: &str) -> bool {
        let found = self.by_name.read().get(connection).cloned();
        found.is_some_and(|found| found.is_other())
    }

    /// The health of each endpoint of an account, in their order; `None` if there is no such account.
    #[must_use]
    pub fn endpoints(&self, account: &str) -> Option<Vec<AccountHealth>> {
        let found = self.by_name.read().get(account).cloned()?;
        Some(found.each_health())
    }

    /// What the calls of an account came to; `None` if there is no such account.
    #[must_use]
    pub fn figures(&self, account: &str) -> Option<AccountFigures> {
        let by_name = self.by_name.read();
        // Those of all its connections are counted together.
        let found = by_name.get(account);
        let found = found.or_else(|| by_name.get(&remote_of(account)));
        Some(found?.figures())
    }

    /// Determines the health of a connection by reads without effect or cost; `None` if there is no such connection. A login
    /// to the remote server is compared with the REST API, also one that was refused a moment ago.
    pub async fn check(&self, connection: &str, deadline: Instant) -> Option<AccountHealth> {
        let UsedAccount { account: found, .. } = &self.find(connection).ok()?;
        found.check(deadline).await;
        if account_of(connection) != connection
            && found.answers()
            && let Some(rest) = self.used(account_of(connection))
            && let Err(failure) = prove(&rest.account, found, deadline, Duration::ZERO).await
        {
            // The health says what it means.
            tracing::debug!(connection, %failure, "the login is not proven");
        }
        Some(found.health())
    }

    /// Closes all sessions and waits for their servers to exit, including those of former connections, whose
    /// calls are lost. A later call opens a new session.
    pub async fn close(&self) {
        let mut all: Vec<Arc<Account>> = self.by_name.read().values().cloned().collect();
        all.extend(self.former.lock().iter().cloned());
        for account in all {
            account.close().await;
        }
    }

    /// The connection that carries a call. Of one to the remote server it is known that it is the account's.
    async fn route(&self, call: &Call<'_>) -> Result<UsedAccount, Failure> {
        // Halts, budgets and the comparison of both servers go by the account, and a connection's name passes none of them.
        if account_of(call.account) != call.account {
            return Err(self.unknown(call.account));
        }
        let operation = match call.target {
            Target::Known(operation) => operation,
            Target::Unknown(tool) => return self.route_unknown(call, tool).await,
        };
        let rest = match self.used(call.account) {
            Some(rest) if operation.goes_by(Way::Rest) => return Ok(rest),
            rest => rest,
        };
        match (self.used(&remote_of(call.account)), rest) {
            (Some(remote), rest) if operation.goes_by(Way::Remote) => {
                Self::proven(call, rest, remote).await
            }
            (None, None) => self.find(call.account),
            _ => Err(Failure::Unavailable(operation.lacks_way(call.account))),
        }
    }

    /// The connection that carries a call of a tool that the catalog does not know: the first that has it.
    async fn route_unknown(&self, call: &Call<'_>, tool: &str) -> Result<UsedAccount, Failure> {
        let Some(remote) = self.used(&remote_of(call.account)) else {
            return self.find(call.account);
        };
        let rest = self.used(call.account);
        let has = match &rest {
            Some(rest) => rest.account.finds_tool(tool, call).await?,
            None => false,
        };
        match rest {
            Some(rest) if has => Ok(rest),
            rest => {
                if let Some(reason) = not_by_remote(tool) {
                    return Err(Failure::Unavailable(format!(
                        "`{tool}` of the remote server is not called: {reason}"
                    )));
                }
                Self::proven(call, rest, remote).await
            }
        }
    }

    /// The connection to the remote server, if it is known to be of the same user as the other one.
    async fn proven(
        call: &Call<'_>,
        rest: Option<UsedAccount>,
        remote: UsedAccount,
    ) -> Result<UsedAccount, Failure> {
        if let Some(rest) = &rest {
            prove(&rest.account, &remote.account, call.deadline, REFUSAL_TTL).await?;
        }
        Ok(remote)
    }

    /// A connection, in use by a call from now on.
    fn used(&self, connection: &str) -> Option<UsedAccount> {
        let by_name = self.by_name.read();
        let found = by_name.get(connection)?;
        Some(UsedAccount {
            _counted: found.calls.token(),
            account: Arc::clone(found),
        })
    }

    fn find(&self, account: &str) -> Result<UsedAccount, Failure> {
        if let Some(found) = self.used(account) {
            return Ok(found);
        }
        Err(self.unknown(account))
    }

    /// The failure of a call for an account that there is not.
    fn unknown(&self, account: &str) -> Failure {
        let by_name = self.by_name.read();
        let known: BTreeSet<&str> = by_name.keys().map(|name| account_of(name)).collect();
        let known: Vec<&str> = known.into_iter().collect();
        Failure::InvalidArgument(format!(
            "there is no account `{account}`; configured are: {}",
            if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            }
        ))
    }
}

impl Upstream for Accounts {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let found = self.route(&call).await?;
            found.account.call(&call).await
        })
    }

    fn has_tool(&self, account: &str, tool: &str) -> Option<bool> {
        let by_name = self.by_name.read();
        let names = [account.to_owned(), remote_of(account)];
        let connections = names.iter().filter_map(|name| by_name.get(name));
        let known = connections.map(|one| one.endpoints.has_tool(tool));
        // Each has to be open to say that none has it.
        known.reduce(|one, other| match (one, other) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        })?
    }

    fn download<'a>(
        &'a self,
        account: &'a str,
        url: &'a str,
        limit: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async move {
            let found = self.find(account)?;
            let first = found.account.endpoints.first();
            let reach = match first.pool.options().local_downloads {
                true => AllowedTargets::ThisMachine,
                false => AllowedTargets::Outside,
            };
            self.downloader.fetch(url, reach, limit, deadline).await
        })
    }
}
