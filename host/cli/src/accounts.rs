//! Connections of the configured accounts: the one module that knows all three kinds.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, DefaultHasher, Hash, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use qchost_catalog::{BoxFuture, Way};
use qchost_emulator::Emulator;
use qchost_quantconnect::{CLOUD, Credentials, Options, RestClient, RestOptions, Server};
use qchost_secrets::{SecretError, Secrets, Setting};
use qchost_upstream::{
    Account as Connected, AccountHealth, AccountOptions, AccountState, Accounts, ConnectError,
    Connection as Session, Connector, CredentialsError, HttpConnector, IdentityMemory, Login,
    NotProven, PipeConnector, StdioConnector, account_of, remote_of,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::authorizations::{Authorizations, LoggedOut};
use crate::children::supervisor;
use crate::config::{Account, Connection, EMULATOR, RemoteServer, text};
use crate::emulators::Emulators;
use crate::fingerprint::FileFingerprint;
use crate::identities::Identities;
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
    /// Connections of accounts that cannot be used, with the reason.
    pub problems: BTreeMap<String, anyhow::Error>,
    /// The authorizations of accounts whose server a person logs in to.
    pub authorizations: Arc<Authorizations>,
    /// Whose the accounts are, as they said last.
    pub identities: Arc<Identities>,
    /// What each account in use was prepared from.
    sources: Mutex<BTreeMap<String, Sources>>,
    /// Notified when accounts with unknown state were put in place.
    renewed: Notify,
}

/// What an account's secrets were read from, and what they were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Fingerprints of the files, taken just before.
    files: Vec<(PathBuf, Option<FileFingerprint>)>,
    /// A digest of the secrets, which means nothing in another process.
    secrets: u64,
    /// Why connections in use cannot be used, by connection.
    unusable: BTreeMap<String, String>,
    /// Whether its server in front of the REST API is sent nothing to know the host by.
    is_anonymous: bool,
}

/// Makes digests of secrets that tell whether one changed.
struct SecretDigest(DefaultHasher);

impl SecretDigest {
    fn new() -> Self {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYS.build_hasher())
    }

    fn add(&mut self, secret: impl Hash) {
        secret.hash(&mut self.0);
    }
}

impl Sources {
    /// The current fingerprints. Blocks.
    pub fn of(name: &str, account: &Account, authorizations: &Authorizations) -> Self {
        let with_fingerprint = |path: PathBuf| {
            let found = FileFingerprint::of(&path).ok();
            (path, found)
        };
        let files = account.secret_files().into_iter().map(Path::to_owned);
        let files = files.chain(authorizations.file(name, account));
        Self {
            files: files.map(with_fingerprint).collect(),
            secrets: 0,
            unusable: BTreeMap::new(),
            is_anonymous: account.rest.as_ref().is_some_and(Connection::is_anonymous),
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
    /// Connections of accounts that cannot be used, with the reason.
    pub problems: BTreeMap<String, anyhow::Error>,
    /// What each was prepared from.
    sources: BTreeMap<String, Sources>,
}

impl Prepared {
    /// Whether a file that it was prepared from may have been incomplete.
    pub fn may_be_incomplete(&self) -> bool {
        self.sources.values().any(Sources::may_be_incomplete)
    }

    /// The connection of an account that cannot be used.
    fn unusable(
        &mut self,
        connection: &str,
        sources: &mut Sources,
        error: anyhow::Error,
    ) -> (Arc<dyn Connector>, AccountOptions) {
        let unusable = Unusable::new(&error);
        let known = &mut sources.unusable;
        known.insert(connection.to_owned(), words(&error));
        self.problems.insert(connection.to_owned(), error);
        (Arc::new(unusable), AccountOptions::default())
    }
}

impl Connections {
    /// Prepares accounts again, with the state that outlives their connections.
    pub async fn again<'a>(
        &self,
        accounts: impl IntoIterator<Item = (&'a str, &'a Account)>,
        secrets: &Secrets,
    ) -> Prepared {
        let Self {
            authorizations,
            identities,
            starter,
            ..
        } = self;
        connectors(accounts, secrets, authorizations, identities, starter).await
    }

    /// The accounts whose secret files changed since they were prepared. With `retry`, accounts that cannot be used
    /// count too: a secret that was missing may have been added to the vault.
    pub fn outdated(&self, accounts: &BTreeMap<String, Account>, retry: bool) -> Vec<String> {
        let sources = self.sources.lock();
        let outdated = accounts.iter().filter(|(name, account)| {
            let now = Sources::of(name, account, &self.authorizations);
            sources.get(*name).is_some_and(|former| {
                !former.same_files(&now) || (retry && !former.unusable.is_empty())
            })
        });
        outdated.map(|(name, _)| name.clone()).collect()
    }

    /// The accounts in use with secrets where nothing announces a change: in the vault; in the environment too, if a person
    /// asks for it.
    pub fn unannounced(
        &self,
        accounts: &BTreeMap<String, Account>,
        requested: bool,
    ) -> Vec<String> {
        let sources = self.sources.lock();
        let usable = |name: &String| {
            let former = sources.get(name);
            former.is_some_and(|former| former.unusable.is_empty())
        };
        let unannounced = accounts.iter().filter(|(name, account)| {
            let unannounced = account.reads_vault() || (requested && account.reads_environment());
            unannounced && usable(name)
        });
        unannounced.map(|(name, _)| name.clone()).collect()
    }

    /// Whether an account that was prepared again is as it is in use: with the same secrets, and each of its connections as
    /// usable as before.
    pub fn is_unchanged(&self, name: &str, prepared: &Prepared) -> bool {
        let sources = self.sources.lock();
        match (sources.get(name), prepared.sources.get(name)) {
            (Some(former), Some(now)) => {
                former.secrets == now.secrets && former.unusable == now.unusable
            }
            _ => false,
        }
    }

    /// The secret files of all accounts.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let sources = self.sources.lock();
        let paths = sources.values().flat_map(Sources::paths);
        paths.map(Path::to_owned).collect()
    }

    /// Why a connection of an account cannot be used as it was prepared.
    pub fn unusable(&self, connection: &str) -> Option<String> {
        // No account has a dot in its name.
        let account = connection.split('.').next()?;
        let sources = self.sources.lock();
        sources.get(account)?.unusable.get(connection).cloned()
    }

    /// Whether each connection of an account can be used as it was prepared.
    pub fn is_usable(&self, account: &str) -> bool {
        let sources = self.sources.lock();
        let known = sources.get(account);
        known.is_none_or(|known| known.unusable.is_empty())
    }

    /// Notes the files of accounts that were prepared again and cannot be used, or are as before: their former connections
    /// stay.
    pub fn keep(&self, prepared: Prepared) {
        let mut sources = self.sources.lock();
        for (name, tried) in prepared.sources {
            let former = sources.get(&name).cloned().unwrap_or_default();
            let files = tried.files;
            sources.insert(name, Sources { files, ..former });
        }
    }

    /// The problem of an account: its state, the cause, and the remedy.
    pub fn trouble(&self, health: &AccountHealth) -> Option<String> {
        health.state.is_problem().then(|| {
            let cause = health.last_error.as_deref().unwrap_or("no cause is known");
            let remedy = self.remedy(health);
            match cause.contains(&remedy) {
                true => format!("{}: {cause}", health.state),
                false => format!("{}: {cause}; {remedy}", health.state),
            }
        })
    }

    /// The remedy for an account with a problem.
    pub fn remedy(&self, health: &AccountHealth) -> String {
        if let Some(login) = self.login_needed(&health.account) {
            return login;
        }
        if let Some(login) = self.other_login(&health.account) {
            return login;
        }
        if let Some(login) = self.unproven_login(health) {
            return login;
        }
        match self.unusable(&health.account) {
            // No connection was attempted. The cause says what is wrong with its configuration.
            Some(_) => {
                "correct what it names: the host notices changes of files, and reads variables when it is restarted".to_owned()
            }
            // No person logs in to it: its token is configured.
            None if health.state == AccountState::Unauthorized
                && account_of(&health.account) != health.account =>
            {
                "put an access token that the server takes where its `Authorization` header is read from, or leave the header \
                 out, so that a person can log in".to_owned()
            }
            None if self.wants_login(health) => {
                "its server wants a login (OAuth), and none is configured for it; the lines for that: qchost doctor".to_owned()
            }
            None => remedy(health.state).to_owned(),
        }
    }

    /// Whether a server refuses a session to a host that sends it nothing to be known by.
    fn wants_login(&self, health: &AccountHealth) -> bool {
        let sources = self.sources.lock();
        let known = sources.get(&health.account);
        health.state == AccountState::Unauthorized
            && health.not_proven.is_none()
            && health.server.is_none()
            && known.is_some_and(|known| known.is_anonymous)
    }

    /// The connection of an account that a person logs in to, if one does: the remote server, if there is one.
    pub fn login_connection(&self, account: &str) -> String {
        let remote = remote_of(account);
        match self.accounts.health(&remote) {
            Some(_) => remote,
            None => account.to_owned(),
        }
    }

    /// The command by which a person authorizes a connection again, if that is what it needs.
    fn login_needed(&self, connection: &str) -> Option<String> {
        let account = account_of(connection);
        if self.login_connection(account) != connection {
            return None;
        }
        let status = self.authorizations.get(account)?.status();
        status
            .problem
            .map(|_| format!("qchost account login {account}"))
    }

    /// What to do about a person who logged in as another user than is remembered of the account, if one did.
    fn other_login(&self, connection: &str) -> Option<String> {
        let account = account_of(connection);
        self.accounts.is_other(connection).then(|| {
            format!(
                "log in as that user, with qchost account login {account}; or, if the account is to be another user's, first \
                 forget whose it was, with qchost account logout {account}"
            )
        })
    }

    /// What to do about a login to the remote server that is not known to be of the user of the REST API, if that is its
    /// problem.
    fn unproven_login(&self, health: &AccountHealth) -> Option<String> {
        let account = account_of(&health.account);
        if account == health.account {
            return None;
        }
        Some(match health.not_proven? {
            NotProven::Other if self.authorizations.get(account).is_some() => format!(
                "log out, with qchost account logout {account}; then log in as the user whose credentials the account has, and \
                 choose the same organisation, with qchost account login {account}"
            ),
            // No person logs in to it: its token is configured.
            NotProven::Other => {
                "put an access token of the user whose credentials the account has where its `Authorization` header is read from"
                    .to_owned()
            }
            NotProven::NoProject => format!(
                "create a project, by which the login is known from then on: qchost call create_project --account {account} \
                 '{{\"name\": \"Lab/first\", \"language\": \"Py\"}}'"
            ),
            NotProven::NoReference => {
                "see what is wrong with the account's connection to the REST API; the host compares again by itself".to_owned()
            }
        })
    }

    /// The state of every account, by name.
    pub fn health(&self) -> Vec<AccountHealth> {
        let names = self.accounts.names();
        let found = names.iter().filter_map(|name| self.accounts.health(name));
        found.collect()
    }

    /// The state of an account: that of its connection to a server in front of the REST API, or else to the remote one.
    pub fn health_of(&self, account: &str) -> Option<AccountHealth> {
        let rest = self.accounts.health(account);
        rest.or_else(|| self.accounts.health(&remote_of(account)))
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

    /// Whether an endpoint of an account is not used, although the account is connected by another one.
    fn has_failing_endpoint(&self, account: &str) -> bool {
        let fails = |health: &AccountHealth| {
            health.state.is_problem() && health.state != AccountState::RateLimited
        };
        let endpoints = self.accounts.endpoints(account);
        endpoints.is_some_and(|endpoints| endpoints.iter().any(fails))
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
                AccountState::Connected => {
                    health.seconds_since_news > HEALTH_TTL.as_secs_f64()
                        || self.has_failing_endpoint(&health.account)
                }
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
        Self(match lacks_credentials(error) || error.is::<LoggedOut>() {
            true => ConnectError::Unauthorized(words),
            false => ConnectError::Permanent(words),
        })
    }
}

impl Connector for Unusable {
    fn connect(&self) -> BoxFuture<'_, Result<Session, ConnectError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn describe(&self) -> String {
        // Why is said beside it.
        "none".to_owned()
    }

    fn secrets(&self) -> Vec<SecretString> {
        Vec::new()
    }
}

/// Whether an account cannot be prepared because its credentials are missing.
pub fn lacks_credentials(problem: &anyhow::Error) -> bool {
    problem.is::<CredentialsError>() || problem.is::<SecretError>()
}

/// The name of a further endpoint among the connections that cannot be used.
pub fn endpoint_label(account: &str, number: u32) -> String {
    format!("{account}.endpoint-{number}")
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

/// The remedy for an account that cannot be prepared. One that is logged out has its own.
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
        None if problem.is::<SecretError>() => {
            "put the secret where the configuration says; the host notices changes of files, \
             and reads variables when it is restarted"
                .to_owned()
        }
        None if lacks_credentials(problem) => remedy(AccountState::Unauthorized).to_owned(),
        None => "correct the account in the configuration".to_owned(),
    }
}

/// Prepares the connection of every account. Nothing is connected yet, but emulators run. An account that cannot be
/// used does not affect others: its calls fail with the reason.
pub async fn prepare<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a Account)>,
    secrets: &Secrets,
    authorizations: Authorizations,
    identities: Identities,
    starter: Emulators,
) -> Result<Connections> {
    let (authorizations, identities) = (Arc::new(authorizations), Arc::new(identities));
    let prepared = connectors(accounts, secrets, &authorizations, &identities, &starter).await;
    Ok(Connections {
        starter: Arc::new(starter),
        accounts: Accounts::new(prepared.accounts)?,
        emulators: Mutex::new(prepared.emulators),
        rest: prepared.rest,
        problems: prepared.problems,
        authorizations,
        identities,
        sources: Mutex::new(prepared.sources),
        renewed: Notify::new(),
    })
}

/// Prepares accounts.
async fn connectors<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a Account)>,
    secrets: &Secrets,
    authorizations: &Arc<Authorizations>,
    identities: &Arc<Identities>,
    starter: &Emulators,
) -> Prepared {
    let mut prepared = Prepared::default();
    for (name, account) in accounts {
        // Taken before they are read, so that a change meanwhile is noticed.
        let mut sources = Sources::of(name, account, authorizations);
        let mut reading = Reading {
            secrets,
            authorizations,
            starter,
            digest: SecretDigest::new(),
        };
        if let Some(rest) = &account.rest {
            let (first, options) = connector(name, rest, &mut reading, &mut prepared)
                .await
                .unwrap_or_else(|error| prepared.unusable(name, &mut sources, error));
            let mut connected = Connected::new(name, first, kept(options, account));
            for (number, endpoint) in (2_u32..).zip(&account.endpoints) {
                let label = endpoint_label(name, number);
                let (further, options) = connector(&label, endpoint, &mut reading, &mut prepared)
                    .await
                    .unwrap_or_else(|error| prepared.unusable(&label, &mut sources, error));
                connected = connected.with_endpoint(further, options);
            }
            if rest.login().is_some() {
                connected = connected.with_login(memory(identities));
            } else if !account.endpoints.is_empty() {
                connected = connected.with_memory(memory(identities));
            }
            prepared.accounts.push(connected);
        }
        if let Some(remote) = &account.remote {
            let label = remote_of(name);
            let (connector, options) = remote_connector(name, remote, &mut reading)
                .await
                .unwrap_or_else(|error| prepared.unusable(&label, &mut sources, error));
            let options = AccountOptions {
                way: Way::Remote,
                ..kept(options, account)
            };
            let mut connected = Connected::new(label.as_str(), connector, options);
            // Beside a server in front of the REST API, the login is compared with that.
            if account.rest.is_none() && remote.login().is_some() {
                connected = connected.with_login(memory(identities));
            }
            prepared.accounts.push(connected);
        }
        sources.secrets = reading.digest.0.finish();
        prepared.sources.insert(name.to_owned(), sources);
    }
    prepared
}

/// Where a connection finds whose its account is.
fn memory(identities: &Arc<Identities>) -> Arc<dyn IdentityMemory> {
    Arc::<Identities>::clone(identities)
}

/// The options of a connection that keeps answers as its account is configured.
fn kept(options: AccountOptions, account: &Account) -> AccountOptions {
    match account.keep_answers {
        true => options,
        false => AccountOptions {
            cache_for: Duration::ZERO,
            ..options
        },
    }
}

/// The connector to QuantConnect's remote server.
async fn remote_connector(
    name: &str,
    remote: &RemoteServer,
    reading: &mut Reading<'_>,
) -> Result<(Arc<dyn Connector>, AccountOptions)> {
    let sent = reading.headers(&remote.headers).await?;
    let connector = HttpConnector::new(&remote.url, sent)?;
    let connector = match remote.login() {
        Some((server, _)) => connector.with_bearer(reading.login(name, server).await?)?,
        None => connector,
    };
    Ok((Arc::new(connector), AccountOptions::default()))
}

async fn connector(
    name: &str,
    connection: &Connection,
    reading: &mut Reading<'_>,
    prepared: &mut Prepared,
) -> Result<(Arc<dyn Connector>, AccountOptions)> {
    let mut options = AccountOptions::default();
    let connector: Arc<dyn Connector> = match connection {
        Connection::Embedded {
            cloud,
            credentials_file,
            seed,
            ..
        } => {
            let (client, label) = match cloud.as_str() {
                EMULATOR => {
                    options.local_downloads = true;
                    let emulator = reading.starter.start(name, seed.as_deref()).await?;
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
                    let credentials = reading.credentials(credentials_file.as_deref())?;
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
        Connection::Stdio {
            command,
            args,
            env,
            cwd,
            credentials,
            credentials_file,
            ..
        } => {
            let (mut plain, mut secret) = (Vec::new(), Vec::new());
            for (variable, value) in env {
                let (value, is_secret) = reading
                    .text(value)
                    .await
                    .with_context(|| format!("env.{variable}"))?;
                if is_secret {
                    secret.push((variable.clone(), value));
                } else {
                    plain.push((variable.clone(), value.expose_secret().to_owned()));
                }
            }
            if *credentials {
                let credentials = reading.credentials(credentials_file.as_deref())?;
                secret.extend(credentials.variables());
            }
            let connector = StdioConnector::new(command, args.clone(), plain, secret, cwd.clone())?;
            Arc::new(connector.supervised(supervisor()))
        }
        Connection::Http {
            url,
            headers,
            oauth,
            ..
        } => {
            let sent = reading.headers(headers).await?;
            let connector = HttpConnector::new(url, sent)?;
            Arc::new(match oauth {
                Some(_) => connector.with_bearer(reading.login(name, url).await?)?,
                None => connector,
            })
        }
    };
    Ok((connector, options))
}

/// What an account is prepared with, and a digest of its secrets.
struct Reading<'a> {
    secrets: &'a Secrets,
    authorizations: &'a Arc<Authorizations>,
    starter: &'a Emulators,
    digest: SecretDigest,
}

impl Reading<'_> {
    /// The user id and the token of an account; the token is redacted from now on.
    fn credentials(&mut self, file: Option<&Path>) -> Result<qchost_upstream::Credentials> {
        let credentials = qchost_upstream::Credentials::load(file)?;
        let token = &credentials.api_token;
        self.secrets.redactor().remember(token.clone());
        self.digest
            .add((&credentials.user_id, token.expose_secret()));
        Ok(credentials)
    }

    /// The value of a variable or a header, and whether it is a secret.
    async fn text(&mut self, setting: &Setting) -> Result<(SecretString, bool)> {
        let (value, is_secret) = text(setting, self.secrets).await?;
        self.digest.add(value.expose_secret());
        Ok((value, is_secret))
    }

    /// The headers to send.
    async fn headers(
        &mut self,
        headers: &BTreeMap<String, Setting>,
    ) -> Result<Vec<(String, SecretString)>> {
        let mut sent = Vec::new();
        for (header, value) in headers {
            let (value, _) = self
                .text(value)
                .await
                .with_context(|| format!("headers.{header}"))?;
            sent.push((header.clone(), value));
        }
        Ok(sent)
    }

    /// The login of an account at this server.
    async fn login(&mut self, name: &str, server: &str) -> Result<Arc<Login>> {
        let authorizations = Arc::clone(self.authorizations);
        let (account, server) = (name.to_owned(), server.to_owned());
        let opening =
            tokio::task::spawn_blocking(move || authorizations.open(&account, &server)).await;
        let authorization = opening.context("the tokens were not read")??;
        let Some(login) = authorization.login() else {
            return Err(LoggedOut(authorization.missing()).into());
        };
        // A renewal of its tokens is not a change.
        self.digest.add(login.since().as_nanosecond());
        Ok(login)
    }
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
