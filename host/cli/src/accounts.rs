//! Connections of the configured accounts: the one module that knows all three kinds.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use qchost_catalog::BoxFuture;
use qchost_emulator::Emulator;
use qchost_quantconnect::{CLOUD, Credentials, Options, RestClient, RestOptions, Server};
use qchost_secrets::{SecretError, Secrets};
use qchost_upstream::{
    Account as Connected, AccountHealth, AccountOptions, AccountState, Accounts, ConnectError,
    Connection, Connector, CredentialsError, HttpConnector, PipeConnector, StdioConnector,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::children::supervisor;
use crate::config::{Account, EMULATOR, text};
use crate::emulators::Emulators;
use crate::fingerprint::FileFingerprint;
use crate::output::words;

/// Buffer size in bytes, in each direction, of the pipe to the embedded server: a large answer in one piece.
const PIPE_BYTES: usize = 1 << 20;

/// How often a running host checks whether an account is due for a check.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum age of the last success of a connected account before it is checked again.
const HEALTH_TTL: Duration = Duration::from_secs(300);
/// The same limit when a person asks for the state of accounts.
const REQUESTED_HEALTH_TTL: Duration = Duration::from_secs(1);
/// Time limit of a check.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// The connections, and the emulators that some of them use.
pub struct Connections {
    pub accounts: Accounts,
    /// Starts the emulators of accounts.
    pub starter: Arc<Emulators>,
    /// An emulator runs while its handle is held.
    emulators: Mutex<BTreeMap<String, Arc<Emulator>>>,
    /// The REST API behind each embedded account, for `doctor`.
    pub rest: BTreeMap<String, RestClient>,
    /// Accounts that cannot be used, with the reason.
    pub problems: BTreeMap<String, anyhow::Error>,
    /// What each account in use was prepared from.
    sources: Mutex<BTreeMap<String, Sources>>,
    /// Notified when accounts with unknown state were put in place.
    renewed: Notify,
}

/// Fingerprints of the files that an account's secrets were read from, taken just before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    files: Vec<(PathBuf, Option<FileFingerprint>)>,
    /// Why the account in use cannot be used.
    unusable: Option<String>,
}

impl Sources {
    /// The current fingerprints. Blocks.
    pub fn of(account: &Account) -> Self {
        let with_fingerprint = |path: &Path| (path.to_owned(), FileFingerprint::of(path).ok());
        let files = account.secret_files().into_iter();
        Self {
            files: files.map(with_fingerprint).collect(),
            unusable: None,
        }
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Whether one of them was modified just now, or is missing.
    pub fn may_be_incomplete(&self) -> bool {
        let mut fingerprints = self.files.iter().filter_map(|(_, found)| *found);
        fingerprints.any(|found| found.is_young())
    }

    fn same_files(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

/// Accounts that are ready to be connected.
#[derive(Default)]
pub struct Prepared {
    accounts: Vec<Connected>,
    emulators: BTreeMap<String, Arc<Emulator>>,
    rest: BTreeMap<String, RestClient>,
    /// Accounts that cannot be used, with the reason.
    pub problems: BTreeMap<String, anyhow::Error>,
    /// What each was prepared from.
    sources: BTreeMap<String, Sources>,
}

impl Prepared {
    /// Whether a file that it was prepared from may have been incomplete.
    pub fn may_be_incomplete(&self) -> bool {
        self.sources.values().any(Sources::may_be_incomplete)
    }
}

impl Connections {
    /// The accounts whose secret files changed since they were prepared. With `retry`, accounts that cannot be used
    /// count too: a secret that was missing may have been added to the vault.
    pub fn outdated(&self, accounts: &BTreeMap<String, Account>, retry: bool) -> Vec<String> {
        let sources = self.sources.lock();
        let outdated = accounts.iter().filter(|(name, account)| {
            let now = Sources::of(account);
            sources.get(*name).is_some_and(|former| {
                !former.same_files(&now) || (retry && former.unusable.is_some())
            })
        });
        outdated.map(|(name, _)| name.clone()).collect()
    }

    /// The secret files of all accounts.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let sources = self.sources.lock();
        let paths = sources.values().flat_map(Sources::paths);
        paths.map(Path::to_owned).collect()
    }

    /// Why an account cannot be used as it was prepared.
    pub fn unusable(&self, account: &str) -> Option<String> {
        self.sources.lock().get(account)?.unusable.clone()
    }

    /// Notes that changed accounts cannot be used: their former connections stay.
    pub fn keep(&self, prepared: Prepared) {
        for (name, tried) in prepared.sources {
            let mut sources = self.sources.lock();
            let unusable = sources.get(&name).and_then(|it| it.unusable.clone());
            sources.insert(name, Sources { unusable, ..tried });
        }
    }

    /// The problem of an account: its state, the cause, and the remedy.
    pub fn trouble(&self, health: &AccountHealth) -> Option<String> {
        health.state.is_problem().then(|| {
            let cause = health.last_error.as_deref().unwrap_or("no cause is known");
            format!("{}: {cause}; {}", health.state, self.remedy(health))
        })
    }

    /// The remedy for an account with a problem.
    pub fn remedy(&self, health: &AccountHealth) -> &'static str {
        match self.unusable(&health.account) {
            // No connection was attempted. The cause says what is wrong with its configuration.
            Some(_) => {
                "correct what it names: the host notices changes of files, and reads variables when it is restarted"
            }
            None => remedy(health.state),
        }
    }

    /// The state of every account, by name.
    pub fn health(&self) -> Vec<AccountHealth> {
        let names = self.accounts.names();
        let found = names.iter().filter_map(|name| self.accounts.health(name));
        found.collect()
    }

    /// Checks the accounts that are not known to be connected, concurrently.
    pub async fn check(&self, timeout: Duration) {
        let is_doubtful = |health: &AccountHealth| health.state != AccountState::Connected;
        self.check_matching(is_doubtful, timeout).await;
    }

    /// Checks the accounts without a very recent success, concurrently.
    pub async fn check_now(&self, timeout: Duration) {
        let is_old = |health: &AccountHealth| {
            health.state != AccountState::Connected
                || health.seconds_since_news > REQUESTED_HEALTH_TTL.as_secs_f64()
        };
        self.check_matching(is_old, timeout).await;
    }

    async fn check_matching(&self, needs: impl Fn(&AccountHealth) -> bool, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let health = self.health();
        let health = health.iter().filter(|health| needs(health));
        let checks = health.map(|health| self.accounts.check(&health.account, deadline));
        futures::future::join_all(checks).await;
    }

    /// Checks accounts while it is polled: new ones at once, failing ones repeatedly, and connected ones after a time
    /// without traffic.
    pub async fn keep_checking(&self) {
        let start = tokio::time::Instant::now() + CHECK_INTERVAL;
        let mut due = tokio::time::interval_at(start, CHECK_INTERVAL);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = due.tick() => {}
                () = self.renewed.notified() => {}
            }
            let needs = |health: &AccountHealth| match health.state {
                AccountState::Connected => health.seconds_since_news > HEALTH_TTL.as_secs_f64(),
                AccountState::Connecting | AccountState::RateLimited => false,
                _ => true,
            };
            self.check_matching(needs, CHECK_TIMEOUT).await;
        }
    }

    /// Replaces accounts of the same names, and removes some. Calls under way end on their former connection.
    pub fn update(&self, prepared: Prepared, removed: &[String]) {
        let mut emulators = self.emulators.lock();
        let mut former: Vec<Arc<Emulator>> = removed
            .iter()
            .filter_map(|name| emulators.remove(name))
            .collect();
        for account in &prepared.accounts {
            former.extend(emulators.remove(account.name()));
        }
        emulators.extend(prepared.emulators);
        {
            let mut sources = self.sources.lock();
            for name in removed {
                sources.remove(name);
            }
            sources.extend(prepared.sources);
        }
        self.renewed.notify_one();
        let retired = self.accounts.update(prepared.accounts, removed);
        tokio::spawn(async move {
            // A call under way still needs its emulator. How the task ended does not matter.
            drop(retired.await);
            drop(former);
        });
    }
}

/// The connection of an account that cannot be used, for example because of a missing variable or a malformed address.
struct Unusable(ConnectError);

impl Unusable {
    fn new(error: &anyhow::Error) -> Self {
        // The account is named where the error is shown.
        let words = words(error);
        Self(match lacks_credentials(error) {
            true => ConnectError::Unauthorized(words),
            false => ConnectError::Permanent(words),
        })
    }
}

impl Connector for Unusable {
    fn connect(&self) -> BoxFuture<'_, Result<Connection, ConnectError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn describe(&self) -> String {
        self.0.to_string()
    }

    fn secrets(&self) -> Vec<SecretString> {
        Vec::new()
    }
}

/// Whether an account cannot be prepared because its credentials are missing.
pub fn lacks_credentials(problem: &anyhow::Error) -> bool {
    problem.is::<CredentialsError>() || problem.is::<SecretError>()
}

/// The remedy for an account in this state.
pub fn remedy(state: AccountState) -> &'static str {
    match state {
        AccountState::Unauthorized => {
            "put the right user id and API token, both on the account page of QuantConnect, where the configuration says; \
             the host notices changes of files, and reads variables when it is restarted"
        }
        AccountState::Clock => "synchronise this machine's clock: timedatectl set-ntp true",
        AccountState::RateLimited => "wait, and make fewer calls",
        AccountState::Unreachable => {
            "check the network and the account's address or command; the host retries automatically"
        }
        AccountState::Idle | AccountState::Connecting | AccountState::Connected => "",
    }
}

/// The remedy for an account that cannot be prepared.
pub fn mend(problem: &anyhow::Error) -> String {
    let credentials = problem.downcast_ref::<CredentialsError>();
    let exposed = match (credentials, problem.downcast_ref::<SecretError>()) {
        (Some(CredentialsError::Exposed { path, .. }), _)
        | (_, Some(SecretError::Exposed { path, .. })) => Some(path),
        _ => None,
    };
    match exposed {
        Some(path) => format!(
            "chmod 600 {}; a secret that others may have read should be replaced",
            path.display()
        ),
        None if lacks_credentials(problem) => remedy(AccountState::Unauthorized).to_owned(),
        None => "correct the account in the configuration".to_owned(),
    }
}

/// Prepares the connection of every account. Nothing is connected yet, but emulators run. An account that cannot be
/// used does not affect others: its calls fail with the reason.
pub async fn prepare<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a Account)>,
    secrets: &Secrets,
    starter: Emulators,
) -> Result<Connections> {
    let prepared = connectors(accounts, secrets, &starter).await;
    Ok(Connections {
        starter: Arc::new(starter),
        accounts: Accounts::new(prepared.accounts)?,
        emulators: Mutex::new(prepared.emulators),
        rest: prepared.rest,
        problems: prepared.problems,
        sources: Mutex::new(prepared.sources),
        renewed: Notify::new(),
    })
}

/// Prepares accounts.
pub async fn connectors<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a Account)>,
    secrets: &Secrets,
    starter: &Emulators,
) -> Prepared {
    let mut prepared = Prepared::default();
    for (name, account) in accounts {
        // Taken before they are read, so that a change meanwhile is noticed.
        let mut sources = Sources::of(account);
        let (connector, options) = connector(name, account, secrets, starter, &mut prepared)
            .await
            .unwrap_or_else(|error| {
                sources.unusable = Some(words(&error));
                let unusable = Unusable::new(&error);
                prepared.problems.insert(name.to_owned(), error);
                (Arc::new(unusable), AccountOptions::default())
            });
        prepared.sources.insert(name.to_owned(), sources);
        let account = Connected::new(name, connector, options);
        prepared.accounts.push(account);
    }
    prepared
}

async fn connector(
    name: &str,
    account: &Account,
    secrets: &Secrets,
    starter: &Emulators,
    prepared: &mut Prepared,
) -> Result<(Arc<dyn Connector>, AccountOptions)> {
    let mut options = AccountOptions::default();
    let connector: Arc<dyn Connector> = match account {
        Account::Embedded {
            cloud,
            credentials_file,
            seed,
        } => {
            let (client, label) = match cloud.as_str() {
                EMULATOR => {
                    options.local_downloads = true;
                    let emulator = starter.start(name, seed.as_deref()).await?;
                    let client = client(
                        emulator.base_url(),
                        &emulator.user_id().to_string(),
                        emulator.token().to_owned().into(),
                    )?;
                    prepared.emulators.insert(name.to_owned(), emulator);
                    (client, "embedded, to the emulator".to_owned())
                }
                cloud => {
                    let base = if cloud == "quantconnect" {
                        CLOUD
                    } else {
                        cloud
                    };
                    options.local_downloads = base.starts_with("http://");
                    let credentials = load(credentials_file.as_deref(), secrets)?;
                    let client = client(base, &credentials.user_id, credentials.api_token)?;
                    let label = format!("embedded, to {}", client.origin());
                    (client, label)
                }
            };
            prepared.rest.insert(name.to_owned(), client.clone());
            let server = Server::new(client, Options { text_only: true });
            Arc::new(PipeConnector::new(label, move || {
                let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                let server = server.clone();
                tokio::spawn(async move {
                    // Ends when our end of the pipe is dropped; the result is irrelevant then.
                    drop(server.serve_pipe(theirs, CancellationToken::new()).await);
                });
                Ok(tokio::io::split(ours))
            }))
        }
        Account::Stdio {
            command,
            args,
            env,
            cwd,
            credentials,
            credentials_file,
        } => {
            let (mut plain, mut secret) = (Vec::new(), Vec::new());
            for (variable, value) in env {
                let (value, is_secret) = text(value, secrets)
                    .await
                    .with_context(|| format!("env.{variable}"))?;
                if is_secret {
                    secret.push((variable.clone(), value));
                } else {
                    plain.push((variable.clone(), value.expose_secret().to_owned()));
                }
            }
            if *credentials {
                let credentials = load(credentials_file.as_deref(), secrets)?;
                secret.extend(credentials.variables());
            }
            let connector = StdioConnector::new(command, args.clone(), plain, secret, cwd.clone())?;
            Arc::new(connector.supervised(supervisor()))
        }
        Account::Http { url, headers } => {
            let mut sent = Vec::new();
            for (header, value) in headers {
                let (value, _) = text(value, secrets)
                    .await
                    .with_context(|| format!("headers.{header}"))?;
                sent.push((header.clone(), value));
            }
            Arc::new(HttpConnector::new(url, sent)?)
        }
    };
    Ok((connector, options))
}

/// The user id and the token of an account; the token is registered with `secrets` for redaction.
fn load(file: Option<&Path>, secrets: &Secrets) -> Result<qchost_upstream::Credentials> {
    let credentials = qchost_upstream::Credentials::load(file)?;
    secrets.redactor().remember(credentials.api_token.clone());
    Ok(credentials)
}

/// A client of a REST API.
pub fn client(base_url: &str, user_id: &str, token: SecretString) -> Result<RestClient> {
    let credentials = Credentials::new(user_id, token)?;
    let options = RestOptions {
        base_url: base_url.to_owned(),
        ..RestOptions::default()
    };
    Ok(RestClient::new(credentials, &options)?)
}
