//! The host: connections, ledger, audit, gate, runtime, plugins and people wired together.
//!
//! Invariant: an unusable manifest or component affects nothing else; it is listed with the reason.

use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail, ensure};
use qchost_folders::SharedPlaces;
use qchost_gate::{AdminDetail, Gate, Sealer};
use qchost_ledger::Ledger;
use qchost_policy::{Guardrails, People, Person, Right};
use qchost_runtime::{InvocationLog, Options as RuntimeOptions, Progress, Runtime, Target};
use qchost_secrets::{Redactor, Secrets};
use qchost_upstream::account_of;
use serde_json::Value;
use tokio::sync::watch;

use crate::accounts::{self, Connections};
use crate::authorizations::Authorizations;
use crate::children::compiler;
use crate::config::{Config, listed};
use crate::data_folder::{DATABASE, halt_file};
use crate::emulators::Emulators;
use crate::exit_status::{ErrorKind, Failed};
use crate::file_table::FileTable;
use crate::gate;
use crate::identities::Identities;
use crate::in_force::{self, StoredState};
use crate::keys::{self, Key};
use crate::lock::Lock;
use crate::manifests;
use crate::places;
use crate::reload_trigger::ReloadTrigger;

/// A host with its plugins.
pub struct Host {
    pub gate: Gate,
    pub runtime: Runtime,
    pub connections: Arc<Connections>,
    /// The key that its other keys are derived from.
    pub key: Key,
    /// Makes digests of values that may be secrets.
    pub sealer: Sealer,
    /// The folder for its state.
    pub data: PathBuf,
    /// The configuration it started with.
    pub started: Config,
    /// The state of each file.
    pub table: FileTable,
    current: RwLock<Arc<Current>>,
    /// The reconciler that follows the files, if there is one.
    follower: OnceLock<ReloadTrigger>,
    /// Whether the plugins are being loaded for the first time.
    starting: AtomicBool,
    secrets: Secrets,
    /// From what granted folders have to be apart under the configuration in effect.
    places: SharedPlaces,
    /// Released when the host and all other holders are dropped.
    _lock: Arc<Lock>,
}

/// The configuration in effect, and what follows from it.
pub struct Current {
    pub config: Config,
    /// The people with roles.
    pub people: People,
    /// Rules that no grant can override.
    pub guardrails: Guardrails,
}

impl Host {
    /// Opens connections, gate and runtime on the data folder of the lock. No plugin is loaded yet.
    pub async fn open(config: &Config, lock: impl Into<Arc<Lock>>) -> Result<Self> {
        Self::open_for(config, lock, false).await
    }

    /// Opens what a halt needs, independent of the guardrails' files and their number: no guardrail can deny a halt.
    /// Plugins may do nothing.
    pub async fn open_to_halt(config: &Config, lock: impl Into<Arc<Lock>>) -> Result<Self> {
        Self::open_for(config, lock, true).await
    }

    async fn open_for(
        config: &Config,
        lock: impl Into<Arc<Lock>>,
        only_halts: bool,
    ) -> Result<Self> {
        let lock = lock.into();
        let data = config.data()?;
        let secrets = config.secrets()?;
        let key = Key::open(&keys::path(&data))?;
        let ledger = Ledger::open(&data.join(DATABASE))
            .with_context(|| format!("the state in {} cannot be opened", data.display()))?;
        // Before any decision: which parts of the files are in force.
        let known = StoredState::read(&ledger).await?;
        let sealer = Sealer::new(key.gate()?);
        let row = known.configuration.as_ref();
        let config = &in_force::compare(config.clone(), row, known.adopted, &[], &sealer)?.config;
        let guardrails = match only_halts {
            true => in_force::guardrails_to_halt()?,
            false => in_force::guardrails_at_start(config, &known)?,
        };
        let people = People::new(config.persons(), &guardrails)?;
        let accounts = config.account.iter();
        let accounts = accounts.map(|(name, account)| (name.as_str(), account));
        let authorizations = Authorizations::of_host(&data, secrets.redactor().clone());
        let emulators = Emulators::of_host(config, &data);
        let identities = Identities::of_host(ledger.clone()).await?;
        let connections =
            accounts::prepare(accounts, &secrets, authorizations, identities, emulators).await?;
        let connections = Arc::new(connections);
        let upstream = Box::new(connections.accounts.clone());
        let mut settings = gate::settings(config, guardrails.clone())?;
        settings.sources.stand_in = only_halts;
        let gate = gate::open(config, &data, &key, ledger, upstream, settings).await?;
        let components = config.cache()?.join("components");
        let mut options = RuntimeOptions::new(components, keys::path(&data), compiler());
        config.engine.apply(&mut options);
        options.redactor = secrets.redactor().clone();
        let places = SharedPlaces::default();
        places.set(places::of_host(Some(config)));
        options.places = places.clone();
        let runtime = Runtime::new(gate.clone(), options)?;
        let config = config.clone();
        Ok(Self {
            gate,
            runtime,
            connections,
            key,
            sealer,
            data,
            table: FileTable::default(),
            started: config.clone(),
            current: RwLock::new(Arc::new(Current {
                config,
                people,
                guardrails,
            })),
            follower: OnceLock::new(),
            starting: AtomicBool::new(false),
            secrets,
            places,
            _lock: lock,
        })
    }

    /// The configuration in effect.
    pub fn current(&self) -> Arc<Current> {
        let current = self.current.read();
        Arc::clone(&current)
    }

    /// Replaces the configuration in effect.
    pub fn set_current(&self, current: Current) {
        self.places.set(places::of_host(Some(&current.config)));
        let mut former = self.current.write();
        *former = Arc::new(current);
    }

    /// Sets the reconciler that handles reloads from now on.
    pub fn follow(&self, trigger: ReloadTrigger) {
        // There is one reconciler per host.
        drop(self.follower.set(trigger));
    }

    /// The reconciler that follows its files, if there is one.
    pub fn follower(&self) -> Option<&ReloadTrigger> {
        self.follower.get()
    }

    /// Sets whether the plugins are being loaded for the first time.
    pub fn set_starting(&self, starting: bool) {
        self.starting.store(starting, Ordering::Release);
    }

    /// The step of its start, if it is starting.
    pub fn stage(&self) -> Option<String> {
        if !self.starting.load(Ordering::Acquire) {
            return None;
        }
        let rows = self.table.rows();
        let loaded = rows.iter().filter(|row| !row.is_new()).count();
        let compiling = self.runtime.compiling();
        let compiled = rows.iter().find(|row| {
            let component = row.component.as_ref();
            row.loading && component.is_some_and(|component| compiling.contains(component))
        });
        let what = match compiled.and_then(|row| row.name.as_deref()) {
            Some(plugin) => format!("compiling {plugin}"),
            None => "loading plugins".to_owned(),
        };
        Some(match rows.len() {
            0 => format!("starting: {what}"),
            all => format!("starting: {what}, {} of {all}", all.min(loaded + 1)),
        })
    }

    /// Whether a plugin that does not serve yet is being loaded, or may be.
    pub fn awaits(&self, plugin: &str) -> bool {
        if self.runtime.plugin(plugin).is_some() || self.runtime.is_ending() {
            return false;
        }
        let rows = self.table.rows();
        let starting = self.starting.load(Ordering::Acquire);
        rows.iter().any(|row| row.claims(plugin) && row.is_new()) || (starting && rows.is_empty())
    }

    /// Whether a plugin that would have an alias is being loaded, or may be.
    pub fn awaits_alias(&self, alias: &str) -> bool {
        if self.runtime.is_ending() {
            return false;
        }
        let rows = self.table.rows();
        let starting = self.starting.load(Ordering::Acquire);
        rows.iter().any(|row| row.has_alias(alias) && row.is_new()) || (starting && rows.is_empty())
    }

    /// Checks that a request for the accounts of a configuration is not carried out with those of another.
    pub async fn check_configuration(&self, config: &Path) -> Result<()> {
        // A Kubernetes mount leads to another file after each update, for the client as well as for the host.
        let current = self.current();
        let ours = tokio::fs::canonicalize(&current.config.file).await;
        let ours = ours.unwrap_or_else(|_| current.config.path.clone());
        if config == ours {
            return Ok(());
        }
        let (ours, theirs) = (ours.display(), config.display());
        // The client may simply run in another working directory.
        let is_there = tokio::fs::try_exists(config).await;
        ensure!(
            is_there.unwrap_or(true),
            "the running host has the configuration {ours}, and this is for {theirs}, which is not there; name the host's: \
             --config {ours}"
        );
        bail!(
            "the host that runs on this `data` folder has another configuration, {ours}, and not {theirs}; if that one is \
             meant, name it: --config {ours}; otherwise give each configuration a `data` folder of its own"
        );
    }

    /// Makes a plugin's manifest its authority without loading its code.
    pub fn install(&self, config: &Config, plugin: &str) -> Result<()> {
        self.gate
            .policies
            .install(manifests::find(config, plugin)?)?;
        Ok(())
    }

    /// The problem of a plugin that exists and is not loaded. For one that does not exist, this succeeds.
    pub fn check_plugin(&self, plugin: &str) -> Result<()> {
        if self.gate.policies.manifest(plugin).is_some() {
            return Ok(());
        }
        for row in self.table.rows() {
            let claims = row.claims(plugin);
            if let Some(problem) = row.problem.filter(|_| claims) {
                return Err(Failed::error(problem.kind, problem.reason));
            }
        }
        Ok(())
    }

    /// The problem of a plugin that would have an alias and is not loaded. If there is none, this succeeds.
    pub fn check_alias(&self, alias: &str) -> Result<()> {
        for row in self.table.rows() {
            let has = row.has_alias(alias);
            if let Some(problem) = row.problem.filter(|_| has) {
                return Err(Failed::error(problem.kind, problem.reason));
            }
        }
        Ok(())
    }

    /// Checks that an account exists: a halt of a misspelt name would halt nothing.
    pub fn check_account(&self, account: &str) -> Result<()> {
        let policies = &self.gate.policies;
        let of = account_of(account);
        ensure!(
            of == account || !policies.has_account(of),
            "`{account}` is a connection of the account `{of}`; name the account: {of}"
        );
        ensure!(
            policies.has_account(account),
            "there is no account `{account}`; configured are: {}",
            listed(&self.current().config.account)
        );
        Ok(())
    }

    /// Checks that a plugin exists, loaded or not.
    pub fn check_plugin_name(&self, plugin: &str) -> Result<()> {
        if self.gate.policies.manifest(plugin).is_some() {
            return Ok(());
        }
        let mut known = Vec::new();
        for path in manifests::list(&self.current().config.plugins())?.manifests {
            let named = manifests::name_in(&path);
            if manifests::claims(&path, named.as_deref(), plugin) {
                return Ok(());
            }
            known.extend(named);
        }
        bail!(
            "there is no plugin `{plugin}`; there are: {}",
            manifests::names(&known)
        )
    }

    /// The person with a uid. The attempt of an unknown user is recorded.
    pub async fn person(&self, uid: u32) -> Result<Person> {
        if let Some(person) = self.current().people.by_uid(uid) {
            return Ok(person.clone());
        }
        self.gate
            .note_denial(&without_role(uid), None, unknown_person())
            .await?;
        Err(Failed::error(ErrorKind::DENIED, self.stranger(uid)))
    }

    /// Why a uid has no role.
    pub fn stranger(&self, uid: u32) -> String {
        let files = self.table.files();
        let pending = files.configuration.pending.as_ref();
        let named =
            |gain: &String| gain.starts_with("person ") && gain.contains(&format!("(uid {uid})"));
        let waits = pending.filter(|pending| pending.gains.iter().any(named));
        stranger(
            uid,
            &self.data,
            waits.map(|pending| pending.approval.as_str()),
        )
    }

    /// The name of the person with a uid.
    pub fn name_of(&self, uid: u32) -> String {
        match self.current().people.by_uid(uid) {
            Some(person) => person.name.clone(),
            None => format!("uid {uid}"),
        }
    }

    /// Redacts secrets from what leaves the process.
    pub fn redactor(&self) -> &Redactor {
        self.secrets.redactor()
    }

    /// Shuts down: no new invocations, running ones are cancelled after `drain`, then it waits for calls that were sent.
    /// Returns how many invocations did not end in time.
    pub async fn close(&self, drain: Duration) -> usize {
        let left = self.runtime.shutdown(drain).await;
        self.gate.close().await;
        self.connections.accounts.close().await;
        left
    }

    /// Invokes an action for a person; progress goes to `report`, in order and the last step in any case, and what the plugin
    /// logs to `log`.
    pub async fn invoke(
        &self,
        person: u32,
        target: &Target,
        input: Value,
        log: Option<Arc<InvocationLog>>,
        mut report: impl FnMut(&Progress),
    ) -> Result<Value> {
        let (sender, mut reports) = watch::channel(Progress::default());
        // Another sender keeps the channel open, so that the last step can be read after the end.
        let open = sender.clone();
        let work = self
            .runtime
            .invoke_target(target, input, Some(person), Some(sender), log);
        tokio::pin!(work);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut work => break result,
                Ok(()) = reports.changed() => report(&reports.borrow_and_update()),
            }
        };
        if reports.has_changed().unwrap_or(false) {
            report(&reports.borrow_and_update());
        }
        drop(open);
        Ok(result?)
    }
}

/// A user without a role.
pub fn without_role(uid: u32) -> Person {
    Person {
        uid,
        name: format!("uid-{uid}"),
        roles: std::collections::BTreeSet::new(),
    }
}

/// What is recorded of the attempt of a user without a role.
pub fn unknown_person() -> AdminDetail {
    let reason = "not a person of this host".to_owned();
    AdminDetail::Failed { reason }
}

/// Why a person may not do something. Who may not halt learns how that is done without a role.
pub fn denied(right: Right, reason: &str, data: &Path) -> Error {
    let halt = match right {
        Right::Halt => format!("; {}", halt_by_hand(data)),
        _ => String::new(),
    };
    Failed::error(ErrorKind::DENIED, format!("denied: {reason}{halt}"))
}

/// How to halt without a role, as the end of a sentence.
fn halt_by_hand(data: &Path) -> String {
    format!(
        "to halt at once, the user that the host runs as makes the file: touch {}",
        halt_file(data)
    )
}

/// Why a uid has no role. `waits` is the pending approval if the configuration names the user.
pub fn stranger(uid: u32, data: &Path, waits: Option<&str>) -> String {
    let halt = halt_by_hand(data);
    match waits {
        Some(approval) => format!(
            "uid {uid} is not a person of this host yet: the configuration names them, and that waits for an admin: qchost \
             approvals show {approval}; {halt}"
        ),
        None => format!(
            "uid {uid} is not a person of this host; {halt}; for everything else an administrator adds to the configuration, with \
             the role that it takes (`viewer` looks, `operator` invokes and halts, `approver` decides, `admin` does all of it):\n\
             [people.NAME]\nuid = {uid}\nroles = [\"ROLE\"]"
        ),
    }
}
