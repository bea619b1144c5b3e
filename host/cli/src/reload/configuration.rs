//! Follows `qchost.toml`, the guardrails, and the secret files of accounts, like the manifests.
//!
//! Invariants: each is applied as a whole or not at all: if one cannot be applied, the former one stays in effect and
//! the reason is shown. They do not depend on each other being valid. What a configuration needs from elsewhere (a
//! vault) is fetched in the background, and looks do not wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{future, mem};

use anyhow::{Error, Result, anyhow, bail, ensure};
use futures::future::join_all;
use qchost_gate::{PendingApproval, Waits};
use qchost_ledger::Subject;
use qchost_policy::{Guardrails, People};
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::accounts::Prepared;
use crate::authorizations::LoggedOut;
use crate::config::{Account, Config, Mode};
use crate::file_table::FileState;
use crate::fingerprint::{FileFingerprint, Text, read};
use crate::gate;
use crate::host::{Current, Host};
use crate::in_force;
use crate::output::words;

/// Tables and keys that take effect only when the host starts.
const RESTART_ONLY_KEYS: [&str; 6] = ["data", "cache", "control", "audit", "vault", "engine"];

/// How often removed accounts are checked for something running live.
const CLEARING_INTERVAL: Duration = Duration::from_secs(25);

/// How long a client that asks for a reload waits for a vault that is only asked whether a secret changed.
const REREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a look waits for preparations that are usually done at once.
const PREPARE_TIMEOUT: Duration = Duration::from_millis(50);

/// Follows the configuration and the guardrails.
#[derive(Default)]
pub struct Configuration {
    /// The text that was tried last, and the target of the file's links.
    tried: Option<(PathBuf, String)>,
    /// Its preparation.
    next: Option<Job<NewConfig>>,
    /// The part of it that awaits approval.
    pending: Option<PendingApproval>,
    /// The guardrails that were tried last.
    guardrails: Option<Snapshot>,
    /// The accounts being prepared again because their secret files changed.
    renewing: Option<Job<Renewed>>,
    /// Accounts being prepared again to see whether their secrets in the vault or the environment changed.
    rereading: Option<Job<Renewed>>,
    /// Until when a client that asked for it waits for that.
    reread_deadline: Option<tokio::time::Instant>,
    /// Whether to look at accounts again although no file changed.
    retry_accounts: Retry,
    /// Problems with files of accounts that keep their former connection.
    problems: BTreeMap<String, String>,
    /// The removed accounts being checked for something running live.
    clearing: Option<Job<Cleared>>,
    /// When that was checked last, and the accounts on which something ran.
    cleared: Option<(Instant, BTreeSet<String>)>,
}

/// Which accounts are looked at although no file of theirs changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Retry {
    #[default]
    No,
    /// Those that cannot be used, and those with secrets in the vault.
    Unannounced,
    /// Those with secrets in the environment too.
    Requested,
}

/// Work in the background, whose result the next look applies.
enum Job<T> {
    Running(AbortOnDropHandle<T>),
    Done(Result<T, JoinError>),
}

impl<T: Send + 'static> Job<T> {
    fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Running(AbortOnDropHandle::new(tokio::spawn(work)))
    }

    /// Waits until the job is done; forever if there is none, or it is done already.
    async fn done(job: &mut Option<Self>) {
        match job {
            Some(Self::Running(task)) => {
                let result = task.await;
                *job = Some(Self::Done(result));
            }
            _ => future::pending().await,
        }
    }

    fn runs(job: &Option<Self>) -> bool {
        matches!(job, Some(Self::Running(_)))
    }

    /// Waits for a job that is usually done at once.
    async fn wait_briefly(job: &mut Option<Self>) {
        if Self::runs(job) {
            drop(timeout(PREPARE_TIMEOUT, Self::done(job)).await);
        }
    }

    /// Takes the result, if the job is done.
    fn take_result(job: &mut Option<Self>) -> Option<Result<T, JoinError>> {
        match job.take()? {
            Self::Done(result) => Some(result),
            running => {
                *job = Some(running);
                None
            }
        }
    }
}

/// For each account, whether nothing runs live on it.
type Cleared = Vec<(String, bool)>;
/// Accounts that were prepared again, by name.
type Renewed = Vec<(String, Prepared)>;
/// A configuration, with the accounts that it changes.
type NewConfig = Box<(Config, Prepared)>;

/// The folder of guardrails, by the fingerprints of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Snapshot {
    /// Its fingerprint, if it exists.
    folder: Option<PathBuf>,
    files: Vec<(PathBuf, Option<FileFingerprint>)>,
}

/// The result of a look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes {
    /// Whether something else is in effect now.
    pub changed: bool,
    /// Whether a file is being written.
    pub unfinished: bool,
}

/// The result for the configuration or the guardrails.
enum Outcome {
    /// Nothing changed since the last try.
    Unchanged,
    /// A file is being written.
    BeingWritten,
    /// What is in effect now, whether it changed, and the part that awaits approval.
    Applied {
        changed: bool,
        pending: Option<PendingApproval>,
    },
    /// It cannot be applied.
    Invalid(Error),
}

impl Configuration {
    /// The files to watch: the configuration, and the folder of guardrails with its content.
    pub fn watched(&self, host: &Host) -> Vec<PathBuf> {
        let current = host.current();
        let files = self.guardrails.iter().flat_map(|snapshot| &snapshot.files);
        files
            .map(|(path, _)| path.clone())
            .chain(current.config.policies())
            .chain(file_of(&current.config).map(Path::to_owned))
            .chain(host.connections.secret_files())
            .collect()
    }

    /// Whether a configuration or an account is being prepared.
    pub fn is_preparing(&self) -> bool {
        let rereading = self.reread_deadline.is_some() && Job::runs(&self.rereading);
        Job::runs(&self.next) || Job::runs(&self.renewing) || rereading
    }

    /// Waits until the configuration or the accounts being prepared can be applied, which the next look does; forever
    /// if there are none.
    pub async fn prepared(&mut self) {
        let deadline = self.reread_deadline;
        let given_up = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = Job::done(&mut self.next) => {}
            () = Job::done(&mut self.renewing) => {}
            () = Job::done(&mut self.rereading) => {}
            () = Job::done(&mut self.clearing) => {}
            () = given_up => self.reread_deadline = None,
        }
    }

    /// Retries what could not be applied; if a person `requested` it, also looks at what is not looked at by itself.
    pub fn retry(&mut self, host: &Host, requested: bool) {
        let files = host.table.files();
        let waits = |health: &FileState| health.problem.is_some() || health.pending.is_some();
        if waits(&files.configuration) && self.next.is_none() {
            self.tried = None;
        }
        if waits(&files.guardrails) {
            self.guardrails = None;
        }
        self.retry_accounts = match requested {
            true => Retry::Requested,
            false => Retry::Unannounced,
        };
    }

    /// Applies what changed. With `defer_young_files`, an invalid file that was modified just now is skipped.
    pub async fn look(&mut self, host: &Host, defer_young_files: bool) -> Changes {
        let mut result = Changes::default();
        if let Some(file) = file_of(&host.current().config) {
            let found = self.file(host, file, defer_young_files).await;
            result.record(&mut host.table.files().configuration, found);
        }
        // The ones that the configuration names now.
        let found = self.guardrails(host, defer_young_files).await;
        result.record(&mut host.table.files().guardrails, found);
        let found = self.secrets(host, defer_young_files).await;
        result.record(&mut host.table.files().credentials, found);
        if let Err(error) = self.clear(host).await {
            tracing::error!(target: "host", "an account that was taken away stays connected: {}", words(&error));
        }
        result
    }

    /// Closes the connections of removed accounts once nothing runs live on them.
    async fn clear(&mut self, host: &Host) -> Result<()> {
        let current = host.current();
        if let Some(found) = Job::take_result(&mut self.clearing) {
            // An aborted check is repeated.
            let found = found.unwrap_or_default();
            let (clear, busy): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, clear)| *clear);
            let names = |found: Vec<(String, bool)>| found.into_iter().map(|(name, _)| name);
            self.log_busy(names(busy).collect());
            let clear: Vec<String> = names(clear)
                .filter(|name| current.config.dormant.contains(name))
                .collect();
            if !clear.is_empty() {
                let mut config = current.config.clone();
                config.dormant.retain(|name| !clear.contains(name));
                let (people, guardrails) = (current.people.clone(), current.guardrails.clone());
                let next = Current {
                    config,
                    people,
                    guardrails,
                };
                bring_into_effect(host, next, Some((Prepared::default(), &clear))).await?;
                tracing::info!(target: "host", accounts = clear.join(", "), "taken away: nothing runs live there");
                let current = host.current();
                let config = &current.config;
                // So that the next start does not check them. While something awaits approval, this would change that
                // approval.
                if config.waits.is_none() {
                    let file = Config::parse(&config.origin.text, &config.file)?;
                    drop(admit(host, file, &clear).await?);
                }
            }
            return Ok(());
        }
        let file = current.config.table.get("account");
        let gone = |name: &&String| file.is_none_or(|file| file.get(name.as_str()).is_none());
        let gone: Vec<String> = current
            .config
            .dormant
            .iter()
            .filter(gone)
            .cloned()
            .collect();
        let last_check = self.cleared.as_ref().map(|(at, _)| at.elapsed());
        if gone.is_empty() {
            self.cleared = None;
        } else if self.clearing.is_none() && last_check.is_none_or(|ago| ago > CLEARING_INTERVAL) {
            let gate = host.gate.clone();
            let checking = async move {
                let checks = gone.into_iter().map(|name| {
                    let gate = &gate;
                    async move {
                        let running = gate.liquidator.running_on(&name).await;
                        (name, running.is_ok_and(|running| running == 0))
                    }
                });
                join_all(checks).await
            };
            self.clearing = Some(Job::spawn(checking));
        }
        Ok(())
    }

    /// Logs once for each account that it stays connected.
    fn log_busy(&mut self, busy: BTreeSet<String>) {
        let logged = self.cleared.take().map(|(_, logged)| logged);
        for name in busy.difference(&logged.unwrap_or_default()) {
            tracing::warn!(target: "host", "the account `{name}` was taken away while something runs live on it, or may: its connection stays for `qchost halt --liquidate` until nothing does");
        }
        self.cleared = Some((Instant::now(), busy));
    }

    /// Prepares the accounts again whose secret files changed.
    async fn secrets(&mut self, host: &Host, defer_young_files: bool) -> Outcome {
        let retry = mem::take(&mut self.retry_accounts);
        if let Err(error) = self.begin_renewing(host, retry).await {
            return Outcome::Invalid(error);
        }
        Job::wait_briefly(&mut self.renewing).await;
        Job::wait_briefly(&mut self.rereading).await;
        let mut prepared = Vec::new();
        for job in [&mut self.renewing, &mut self.rereading] {
            match Job::take_result(job) {
                Some(Ok(found)) => prepared.extend(found),
                Some(Err(stopped)) => return Outcome::Invalid(stopped.into()),
                None => {}
            }
        }
        if prepared.is_empty() {
            return Outcome::Unchanged;
        }
        let mut changed = false;
        for (name, prepared) in prepared {
            // A configuration applied meanwhile may have replaced the account.
            if !host.current().config.account.contains_key(&name) {
                continue;
            }
            if host.connections.is_unchanged(&name, &prepared) {
                // Touched, renewed by the host itself, or unusable for the same reason as before.
                host.connections.keep(prepared);
                if host.connections.is_usable(&name) {
                    self.problems.remove(&name);
                }
                continue;
            }
            // Without a login, the former connection has nothing to send either.
            let mut problems = prepared.problems.iter();
            let failed = problems.find(|(connection, problem)| {
                !problem.is::<LoggedOut>() && host.connections.unusable(connection).is_none()
            });
            let failed = failed.map(|(_, problem)| words(problem));
            match failed {
                Some(_) if defer_young_files && prepared.may_be_incomplete() => {
                    return Outcome::BeingWritten;
                }
                Some(problem) => {
                    host.connections.keep(prepared);
                    self.problems
                        .insert(name.clone(), format!("account `{name}`: {problem}"));
                }
                None => {
                    if prepared.problems.is_empty() {
                        tracing::info!(target: "host", account = name, "its credentials were read again");
                    }
                    self.problems.remove(&name);
                    host.connections.update(prepared, &[]);
                    changed = true;
                }
            }
        }
        let wrong: Vec<&str> = self.problems.values().map(String::as_str).collect();
        match wrong.is_empty() {
            true => Outcome::Applied {
                changed,
                pending: None,
            },
            false => Outcome::Invalid(anyhow!("{}", wrong.join("; "))),
        }
    }

    /// Starts preparing the accounts again whose secrets changed, or may have.
    async fn begin_renewing(&mut self, host: &Host, retry: Retry) -> Result<()> {
        let requested = retry == Retry::Requested;
        if retry != Retry::No && self.rereading.is_none() {
            let current = host.current();
            let accounts = &current.config.account;
            let names = host.connections.unannounced(accounts, requested);
            if !names.is_empty() {
                self.rereading = Some(renew(host, names)?);
                let deadline = tokio::time::Instant::now() + REREAD_TIMEOUT;
                self.reread_deadline = requested.then_some(deadline);
            }
        }
        if self.renewing.is_none() {
            let outdated = outdated(host, retry != Retry::No).await;
            if !outdated.is_empty() {
                self.renewing = Some(renew(host, outdated)?);
            }
        }
        Ok(())
    }

    async fn file(&mut self, host: &Host, file: &Path, defer_young_files: bool) -> Outcome {
        let path = file.to_owned();
        let reading = tokio::task::spawn_blocking(move || (path.canonicalize(), read(&path)));
        let (fingerprint, content) = match reading.await {
            Ok((Ok(target), Text::Whole(fingerprint, text))) => (fingerprint, (target, text)),
            Ok((Ok(_), Text::BeingWritten)) | Err(_) => return Outcome::BeingWritten,
            Ok((Err(error), _) | (_, Text::Unreadable(_, error))) => {
                (self.tried, self.next) = (None, None);
                let context = format!("cannot read the configuration {}", file.display());
                return Outcome::Invalid(Error::from(error).context(context));
            }
        };
        if self.tried.as_ref() == Some(&content) {
            return self.commit(host).await;
        }
        let parsed = if content.1.trim().is_empty() {
            // Writing a file in place truncates it first. Applying that would remove every account.
            Err(anyhow!("{}: the file is empty", file.display()))
        } else {
            Config::parse(&content.1, file).map(|mut config| {
                config.origin.owner = Some(fingerprint.owner);
                config
            })
        };
        if defer_young_files && parsed.is_err() && fingerprint.is_young() {
            return Outcome::BeingWritten;
        }
        self.tried = Some(content);
        let admitted = match parsed {
            Ok(config) => admit(host, config, &[]).await,
            Err(error) => Err(error),
        };
        let prepared = admitted.and_then(|(config, pending)| {
            self.pending = pending;
            prepare(host, config)
        });
        self.next = match prepared {
            Ok(Some(job)) => Some(job),
            applied => {
                self.next = None;
                return Outcome::from_result(applied.map(|_| false), self.pending.clone());
            }
        };
        // Whether it is ready by then shows in the state.
        drop(timeout(PREPARE_TIMEOUT, self.prepared()).await);
        self.commit(host).await
    }

    /// Applies what is ready.
    async fn commit(&mut self, host: &Host) -> Outcome {
        match Job::take_result(&mut self.next) {
            Some(Ok(changed)) => {
                // These accounts belong to the former configuration. The same look finds those that are still
                // outdated.
                (self.renewing, self.rereading) = (None, None);
                self.problems.clear();
                Outcome::from_result(apply(host, *changed).await, self.pending.clone())
            }
            Some(Err(stopped)) => Outcome::Invalid(stopped.into()),
            None => Outcome::Unchanged,
        }
    }

    async fn guardrails(&mut self, host: &Host, defer_young_files: bool) -> Outcome {
        let (current, tried) = (host.current(), self.guardrails.clone());
        let before = tried.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let snapshot = Snapshot::of(&current.config);
            if tried.as_ref() == Some(&snapshot) {
                return Ok(None);
            }
            let read = current.config.guardrails();
            let incomplete = defer_young_files && read.is_err() && snapshot.is_young();
            if incomplete || Snapshot::of(&current.config) != snapshot {
                return Err(());
            }
            Ok(Some((snapshot, read)))
        });
        let (snapshot, read) = match reading.await {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => return Outcome::Unchanged,
            Ok(Err(())) | Err(_) => return Outcome::BeingWritten,
        };
        let applied = match read {
            Ok(found) => take_guardrails(host, &snapshot, before.as_ref(), found).await,
            Err(error) => Err(error),
        };
        self.guardrails = Some(snapshot);
        match applied {
            Ok((changed, pending)) => Outcome::Applied { changed, pending },
            Err(error) => Outcome::Invalid(error),
        }
    }
}

/// Which parts of a configuration are in force, and which await approval.
async fn admit(
    host: &Host,
    config: Config,
    cleared: &[String],
) -> Result<(Config, Option<PendingApproval>)> {
    let adopted = !host.gate.proposals.is_adopting();
    let row = host
        .gate
        .proposals
        .in_force(Subject::Configuration, "")
        .await?;
    let whole = config.clone();
    let effective = in_force::compare(config, row.as_ref(), adopted, cleared, &host.sealer)?;
    let current = host.current();
    let former = (&current.config, &current.guardrails);
    // Before anything of it is in force or is asked for, also if it was approved before.
    let checked = in_force::check_deciders(former, row.as_ref(), &whole, &effective.config);
    if let Err(error) = checked {
        let proposals = &host.gate.proposals;
        proposals.withdraw(Subject::Configuration, "").await?;
        return Err(error);
    }
    let gains = !effective.proposal.gains.is_empty();
    let waiting = host.gate.proposals.propose(effective.proposal).await?;
    if gains && waiting.is_none() {
        // It has been approved.
        return Ok((whole, None));
    }
    let mut config = effective.config;
    config.waits = waiting.as_ref().map(Waits::from);
    Ok((config, waiting))
}

/// Applies the guardrails that were found, and those whose removal needs approval. Returns whether they changed, and
/// what awaits approval.
async fn take_guardrails(
    host: &Host,
    snapshot: &Snapshot,
    before: Option<&Snapshot>,
    found: Guardrails,
) -> Result<(bool, Option<PendingApproval>)> {
    let current = host.current();
    let had_guardrails = in_force::has_guardrails(&current.guardrails)?;
    if snapshot.folder.is_none() && had_guardrails {
        let folder = current.config.policies().unwrap_or_default();
        bail!(
            "the folder of guardrails {} is gone; the guardrails of it hold on. Bring it back, or, to take them \
             away, make it again without them",
            folder.display()
        );
    }
    let production = current.config.mode == Mode::Production && !host.gate.proposals.is_adopting();
    let row = host
        .gate
        .proposals
        .in_force(Subject::Guardrails, "")
        .await?;
    let files = snapshot.files.iter().map(|(path, _)| path.clone());
    let files = files.chain(snapshot.folder.clone()).collect();
    // The owner of a removed file is known from the former look only.
    let snapshots = before.into_iter().chain([snapshot]);
    let owners = snapshots.flat_map(Snapshot::owners).collect();
    let effective =
        in_force::compare_guardrails(found.clone(), row.as_ref(), production, files, owners)?;
    if production {
        let (former, now) = (&current.guardrails, &effective.guardrails);
        in_force::check_deciders_under(&current.config, row.as_ref(), former, now)?;
    }
    let waiting = host.gate.proposals.propose(effective.proposal).await?;
    let guardrails = match waiting {
        Some(_) => effective.guardrails,
        None => found,
    };
    Ok((set_guardrails(host, guardrails).await?, waiting))
}

impl Outcome {
    fn from_result(applied: Result<bool>, pending: Option<PendingApproval>) -> Self {
        match applied {
            Ok(changed) => Self::Applied { changed, pending },
            Err(error) => Self::Invalid(error),
        }
    }
}

impl Changes {
    /// Stores the result for one of the two; a new problem is counted and logged.
    fn record(&mut self, health: &mut FileState, found: Outcome) {
        match found {
            Outcome::Unchanged => {}
            Outcome::BeingWritten => self.unfinished = true,
            Outcome::Applied { changed, pending } => {
                self.changed |= changed;
                health.problem = None;
                if let Some(pending) = pending
                    .as_ref()
                    .filter(|pending| health.pending.as_ref() != Some(*pending))
                {
                    tracing::warn!(target: "host", "{}", pending.words());
                }
                health.pending = pending;
            }
            Outcome::Invalid(error) => {
                let reason = words(&error);
                if health.problem.as_ref() != Some(&reason) {
                    health.failures += 1;
                    tracing::error!(target: "host", "{reason}; what was in effect before stays");
                    health.problem = Some(reason);
                }
            }
        }
    }
}

/// The accounts whose secrets changed.
async fn outdated(host: &Host, retry: bool) -> Vec<String> {
    let current = host.current();
    let connections = Arc::clone(&host.connections);
    let checking =
        tokio::task::spawn_blocking(move || connections.outdated(&current.config.account, retry));
    // An aborted check is repeated.
    checking.await.unwrap_or_default()
}

/// Starts preparing accounts from the current files, each separately.
fn renew(host: &Host, names: Vec<String>) -> Result<Job<Renewed>> {
    let current = host.current();
    let secrets = current.config.secrets()?;
    let connections = Arc::clone(&host.connections);
    Ok(Job::spawn(async move {
        let mut renewed = Vec::new();
        for name in names {
            if let Some(account) = current.config.account.get(&name) {
                let only = [(name.as_str(), account)];
                let prepared = connections.again(only, &secrets).await;
                renewed.push((name, prepared));
            }
        }
        renewed
    }))
}

/// The file of a configuration, if it has one.
fn file_of(config: &Config) -> Option<&Path> {
    Some(config.file.as_path()).filter(|file| !file.as_os_str().is_empty())
}

impl Snapshot {
    /// The folder of guardrails of a configuration. Blocks.
    fn of(config: &Config) -> Self {
        let Some(folder) = config.policies() else {
            return Self::default();
        };
        let found = Guardrails::files(&folder);
        let is_there = found.is_ok();
        let files = found.unwrap_or_default().into_iter().map(|path| {
            let fingerprint = FileFingerprint::of(&path).ok();
            (path, fingerprint)
        });
        Self {
            folder: is_there.then_some(folder),
            files: files.collect(),
        }
    }

    /// The owners of the files at the time of the look.
    fn owners(&self) -> impl Iterator<Item = u32> {
        let fingerprints = self.files.iter().filter_map(|(_, found)| *found);
        fingerprints.map(|found| found.owner)
    }

    /// Whether a file in it was modified just now.
    fn is_young(&self) -> bool {
        let mut fingerprints = self.files.iter().filter_map(|(_, found)| *found);
        fingerprints.any(|found| found.is_young())
    }
}

/// Starts preparing the accounts that a configuration changes, if it differs from the current one.
fn prepare(host: &Host, config: Config) -> Result<Option<Job<NewConfig>>> {
    let current = host.current();
    let same = config.table == current.config.table && config.path == current.config.path;
    if same && in_force::agrees(&config, &current.config) {
        host.table.files().configuration.restart = restart_changes(&host.started, &config);
        return Ok(None);
    }
    ensure!(
        config.mode == Mode::Development || !host.started.engine.baseline,
        "{}: mode: this host was started with engine.baseline, which is for development; start it again",
        config.file.display()
    );
    let config = config.with_secrets(current.config.secrets()?);
    let secrets = config.secrets()?;
    let names = accounts_changed(&current.config, &config);
    let connections = Arc::clone(&host.connections);
    Ok(Some(Job::spawn(async move {
        let changed: Vec<_> = names
            .iter()
            .filter_map(|name| Some((name.as_str(), config.account.get(name)?)))
            .collect();
        let prepared = connections.again(changed, &secrets).await;
        Box::new((config, prepared))
    })))
}

/// Puts a configuration into effect.
async fn apply(host: &Host, (config, prepared): (Config, Prepared)) -> Result<bool> {
    let current = host.current();
    let restart = restart_changes(&host.started, &config);
    let people = People::new(config.persons(), &current.guardrails)?;
    let dormant = dormant(host, &current.config, &config);
    let config = Config { dormant, ..config };
    // Logging in to an account needs the account.
    let mut problems = prepared.problems.iter();
    if let Some((name, problem)) = problems.find(|(_, problem)| !problem.is::<LoggedOut>()) {
        bail!("account `{name}`: {}", words(problem));
    }
    let next = Current {
        config,
        people,
        guardrails: current.guardrails.clone(),
    };
    bring_into_effect(host, next, Some((prepared, &[]))).await?;
    tracing::info!(target: "host", "the configuration changed");
    if !restart.is_empty() {
        let health = FileState {
            restart: restart.clone(),
            ..FileState::default()
        };
        tracing::warn!(target: "host", "{}", health.until_restart().unwrap_or_default());
    }
    host.table.files().configuration.restart = restart;
    Ok(true)
}

/// Brings a configuration with its people and guardrails into effect: in the gate, which may refuse them, then for the
/// connections of `accounts` that changed or were removed, then for all that read the current configuration.
async fn bring_into_effect(
    host: &Host,
    next: Current,
    accounts: Option<(Prepared, &[String])>,
) -> Result<()> {
    let settings = gate::settings(&next.config, next.guardrails.clone())?;
    host.gate.reconfigurer.reconfigure(settings).await?;
    if let Some((prepared, removed)) = accounts {
        host.connections.update(prepared, removed);
    }
    host.set_current(next);
    Ok(())
}

/// The accounts that a configuration does not bring into force, and that are connected or await approval.
fn dormant(host: &Host, former: &Config, config: &Config) -> BTreeSet<String> {
    let connected = host.connections.accounts.names();
    let file = config.table.get("account");
    let known = former.account.keys().chain(&former.dormant);
    let known = known.chain(&config.dormant).filter(|name| {
        let waits = file.is_some_and(|file| file.get(name.as_str()).is_some());
        !config.account.contains_key(*name) && (waits || connected.contains(name))
    });
    known.cloned().collect()
}

/// Replaces the guardrails, if they changed.
async fn set_guardrails(host: &Host, guardrails: Guardrails) -> Result<bool> {
    let current = host.current();
    if guardrails.revision() == current.guardrails.revision() {
        return Ok(false);
    }
    let config = current.config.clone();
    let people = People::new(config.persons(), &guardrails)?;
    let count = guardrails.ids().count();
    let next = Current {
        config,
        people,
        guardrails,
    };
    bring_into_effect(host, next, None).await?;
    tracing::info!(target: "host", "the guardrails changed: there are {count}");
    Ok(true)
}

/// The accounts that are new or changed.
fn accounts_changed(former: &Config, config: &Config) -> Vec<String> {
    let table = |config: &Config, name: &str| {
        let accounts = config.table.get("account")?;
        accounts.get(name).cloned()
    };
    let names = config.account.keys();
    // An account that awaited an admin is in the file already.
    let names = names.filter(|name| {
        table(former, name) != table(config, name) || !former.account.contains_key(*name)
    });
    names.cloned().collect()
}

/// The changes of a configuration that take effect only when the host starts.
fn restart_changes(started: &Config, config: &Config) -> Vec<String> {
    let keys = RESTART_ONLY_KEYS.iter();
    let keys = keys.filter(|key| started.table.get(**key) != config.table.get(**key));
    let mut changes: Vec<String> = keys.map(|key| format!("`{key}`")).collect();
    // All else that the mode decides is in effect at once.
    let mode_changed = started.mode != config.mode;
    if mode_changed && config.account.values().any(Account::is_emulator) {
        changes.push("`mode` for what emulators keep".to_owned());
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let mut config: Config = toml::from_str(text).unwrap();
        config.table = text.parse().unwrap();
        config
    }

    #[test]
    fn what_waits_for_a_start_is_named_and_nothing_else() {
        let started = config("data = \"data\"\nlive-trading = false\n[engine]\nqueue = 8\n");
        assert!(restart_changes(&started, &started).is_empty());
        let changed =
            config("data = \"data\"\nlive-trading = true\n[engine]\nqueue = 9\n[audit]\n");
        assert_eq!(restart_changes(&started, &changed), ["`audit`", "`engine`"]);
        let emulated = "account.lab = { connection = \"embedded\", cloud = \"emulator\" }\n";
        let development = config(emulated);
        let production = config(&format!("mode = \"production\"\n{emulated}"));
        let expected = ["`mode` for what emulators keep"];
        assert_eq!(restart_changes(&development, &production), expected);
        assert_eq!(restart_changes(&production, &development), expected);
        let none = config("mode = \"production\"\n");
        assert!(restart_changes(&development, &none).is_empty());
        let fewer = config("live-trading = false\n[engine]\nqueue = 8\n");
        assert_eq!(restart_changes(&started, &fewer), ["`data`"]);
    }

    #[test]
    fn only_accounts_that_changed_are_connected_again() {
        let account = |name: &str, url: &str| {
            format!("[account.{name}]\nconnection = \"http\"\nurl = \"{url}\"\n")
        };
        let former = account("a", "https://a.example") + &account("b", "https://b.example");
        let now = account("c", "https://c.example") + &account("a", "https://a.example");
        assert_eq!(accounts_changed(&config(&former), &config(&now)), ["c"]);
        let now = account("a", "https://other.example") + &account("b", "https://b.example");
        assert_eq!(accounts_changed(&config(&former), &config(&now)), ["a"]);
    }
}
