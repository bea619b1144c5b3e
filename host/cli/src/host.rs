//! Everything plugged together: connections, ledger, audit, gate, runtime, plugins, people.
//!
//! Invariant: a manifest or component that cannot be used takes nothing else down; it is listed
//! with the reason.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use qchost_gate::{Gate, HALT_FILE, Sealer};
use qchost_ledger::Ledger;
use qchost_policy::{Guardrails, Manifest, People, Person};
use qchost_runtime::{Compiler, Options as RuntimeOptions, Plugin, Progress, Runtime};
use qchost_secrets::{Redactor, Secrets};
use qchost_upstream::Supervisor;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::accounts::{self, Connections};
use crate::config::Config;
use crate::gate::{self, CALL_TIMEOUT};
use crate::in_force::{self, Known};
use crate::keys::{self, Key};
use crate::lock::Lock;
use crate::manifests;
use crate::reload::{Asks, Table};

/// The verb that makes this program a compiler.
const COMPILE: &str = "compile-component";
/// The hidden verb that runs the command of an account.
const SUPERVISE: &str = "supervise-server";

/// The database's name in a data folder.
pub const DATABASE: &str = "state.db";

/// A host with its plugins.
pub struct Host {
    pub gate: Gate,
    pub runtime: Runtime,
    pub connections: Arc<Connections>,
    /// What its other keys are derived from.
    pub key: Key,
    /// What makes digests of values that may be secrets.
    pub sealer: Sealer,
    /// The folder for its state.
    pub data: PathBuf,
    /// What its configuration said when it started.
    pub started: Config,
    /// What became of each file.
    pub table: Table,
    current: RwLock<Arc<Current>>,
    /// What follows the files, if something does.
    follower: OnceLock<Asks>,
    /// Whether the plugins are being loaded for the first time.
    starting: AtomicBool,
    secrets: Secrets,
    /// Given back when the host is dropped, and whoever else has it.
    _lock: Arc<Lock>,
}

/// What the configuration says, and what follows from it.
pub struct Current {
    pub config: Config,
    /// Who may tell the host something.
    pub people: People,
    /// What no grant can allow.
    pub guardrails: Guardrails,
}

impl Host {
    /// Prepares connections, gate and runtime on the data folder that the lock is for. No plugin is
    /// loaded yet.
    pub async fn open(config: &Config, lock: impl Into<Arc<Lock>>) -> Result<Self> {
        Self::open_under(config, lock, in_force::guardrails_at_start).await
    }

    /// Prepares what a halt needs, whatever the files of guardrails say and however many there are: no guardrail can deny
    /// it. Plugins may do nothing.
    pub async fn open_to_halt(config: &Config, lock: impl Into<Arc<Lock>>) -> Result<Self> {
        Self::open_under(config, lock, |_, _| in_force::guardrails_to_halt()).await
    }

    async fn open_under(
        config: &Config,
        lock: impl Into<Arc<Lock>>,
        guardrails: fn(&Config, &Known) -> Result<Guardrails>,
    ) -> Result<Self> {
        let lock = lock.into();
        let data = config.data()?;
        let secrets = config.secrets()?;
        let key = Key::open(&keys::path(&data))?;
        let ledger = Ledger::open(&data.join(DATABASE))
            .with_context(|| format!("the state in {} cannot be opened", data.display()))?;
        // Before anything is decided by it: what of the files holds.
        let known = Known::read(&ledger).await?;
        let sealer = Sealer::new(key.gate()?);
        let row = known.configuration.as_ref();
        let config = &in_force::hold(config.clone(), row, known.adopted, &[], &sealer)?.config;
        let guardrails = guardrails(config, &known)?;
        let people = People::new(config.persons(), &guardrails)?;
        let connections = accounts::prepare(
            config
                .account
                .iter()
                .map(|(name, account)| (name.as_str(), account)),
            &secrets,
        )
        .await
        .map(Arc::new)?;
        let upstream = Box::new(connections.accounts.clone());
        let gate = gate::open(config, &data, &key, ledger, upstream, guardrails.clone()).await?;
        let components = config.cache()?.join("components");
        let mut options = RuntimeOptions::new(components, keys::path(&data), compiler());
        config.engine.apply(&mut options);
        let runtime = Runtime::new(gate.clone(), options)?;
        let config = config.clone();
        Ok(Self {
            gate,
            runtime,
            connections,
            key,
            sealer,
            data,
            table: Table::default(),
            started: config.clone(),
            current: RwLock::new(Arc::new(Current {
                config,
                people,
                guardrails,
            })),
            follower: OnceLock::new(),
            starting: AtomicBool::new(false),
            secrets,
            _lock: lock,
        })
    }

    /// What its configuration says now.
    pub fn current(&self) -> Arc<Current> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes this what its configuration says.
    pub fn set_current(&self, current: Current) {
        let mut held = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(current);
    }

    /// Whom to ask for a look at the files from now on.
    pub fn follow(&self, asks: Asks) {
        // There is one reconciler a host.
        drop(self.follower.set(asks));
    }

    /// What looks at its files, if something does.
    pub fn follower(&self) -> Option<&Asks> {
        self.follower.get()
    }

    /// Says whether the plugins are being loaded for the first time.
    pub fn set_starting(&self, starting: bool) {
        self.starting.store(starting, Ordering::Release);
    }

    /// What it is at while it starts.
    pub fn stage(&self) -> Option<String> {
        if !self.starting.load(Ordering::Acquire) {
            return None;
        }
        let rows = self.table.rows();
        let loaded = rows.iter().filter(|row| !row.is_new()).count();
        let compiling = self.runtime.compiling();
        let compiled = rows.iter().find(|row| {
            row.loading && compiling.is_some() && row.component.as_ref() == compiling.as_ref()
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

    /// Checks that what is meant for the accounts of a configuration is not done with those of another.
    pub async fn check_configuration(&self, config: &Path) -> Result<()> {
        // A mount of Kubernetes leads to another file after each update, for the client as for us.
        let current = self.current();
        let ours = tokio::fs::canonicalize(&current.config.file).await;
        let ours = ours.unwrap_or_else(|_| current.config.path.clone());
        if config == ours {
            return Ok(());
        }
        let (ours, theirs) = (ours.display(), config.display());
        // The client's working directory may just be another one than usual.
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

    /// Loads one plugin.
    pub async fn load(&self, manifest: Manifest) -> Result<Arc<Plugin>> {
        Ok(self.runtime.load(manifest).await?)
    }

    /// Makes a plugin's manifest its authority without loading its code.
    pub fn install(&self, config: &Config, plugin: &str) -> Result<()> {
        self.gate.install(manifests::find(config, plugin)?)?;
        Ok(())
    }

    /// Says what is wrong with a plugin that is there and not loaded. One that is not there at all is
    /// another matter.
    pub fn check_plugin(&self, plugin: &str) -> Result<()> {
        if self.gate.manifest(plugin).is_some() {
            return Ok(());
        }
        for row in self.table.rows() {
            let claims = row.claims(plugin);
            if let Some(problem) = row.problem.filter(|_| claims) {
                bail!(problem.reason);
            }
        }
        Ok(())
    }

    /// Checks that there is such an account: to halt one that was misspelt halts nothing.
    pub fn check_account(&self, account: &str) -> Result<()> {
        let current = self.current();
        let known: Vec<_> = current.config.account.keys().map(String::as_str).collect();
        ensure!(
            known.contains(&account) || current.config.dormant.contains(account),
            "there is no account `{account}`; configured are: {}",
            known.join(", ")
        );
        Ok(())
    }

    /// Checks that there is such a plugin, loaded or not.
    pub fn check_plugin_name(&self, plugin: &str) -> Result<()> {
        if self.gate.manifest(plugin).is_some() {
            return Ok(());
        }
        let mut known = Vec::new();
        for path in manifests::list(&self.current().config.plugins)?.manifests {
            let named = manifests::name_in(&path);
            if manifests::claims(&path, named.as_deref(), plugin) {
                return Ok(());
            }
            known.extend(named);
        }
        bail!(
            "there is no plugin `{plugin}`; there are: {}",
            known.join(", ")
        )
    }

    /// The person behind a uid. A stranger's attempt is recorded.
    pub async fn person(&self, uid: u32) -> Result<Person> {
        if let Some(person) = self.current().people.by_uid(uid) {
            return Ok(person.clone());
        }
        let detail = json!({ "reason": "not a person of this host" });
        self.gate.note_admin(&nobody(uid), "denied", detail).await?;
        bail!(self.stranger(uid))
    }

    /// Why a uid is not listened to.
    pub fn stranger(&self, uid: u32) -> String {
        let files = self.table.files();
        let held = files.configuration.held.as_ref();
        let named =
            |gain: &String| gain.starts_with("person ") && gain.contains(&format!("(uid {uid})"));
        let waits = held.filter(|held| held.gains.iter().any(named));
        stranger(uid, &self.data, waits.map(|held| held.approval.as_str()))
    }

    /// The name of the person behind a uid.
    pub fn name_of(&self, uid: u32) -> String {
        match self.current().people.by_uid(uid) {
            Some(person) => person.name.clone(),
            None => format!("uid {uid}"),
        }
    }

    /// What takes secrets out of what leaves the process.
    pub fn redactor(&self) -> &Redactor {
        self.secrets.redactor()
    }

    /// Ends: no new invocation, running ones get so long, then what was sent is waited for.
    /// Returns how many invocations did not end in time.
    pub async fn close(&self, drain: Duration) -> usize {
        let left = self.runtime.shutdown(drain).await;
        if tokio::time::timeout(CALL_TIMEOUT, self.gate.close())
            .await
            .is_err()
        {
            tracing::error!(target: "host", "calls to QuantConnect are still without an answer");
        }
        self.connections.accounts.close().await;
        left
    }

    /// Invokes an action for a person; reports of how far it is go to `report`, in order, until it ends.
    pub async fn invoke(
        &self,
        person: u32,
        plugin: &str,
        action: &str,
        input: Value,
        mut report: impl FnMut(&Progress),
    ) -> Result<Value> {
        let (sender, mut reports) = watch::channel(Progress::default());
        let work = self
            .runtime
            .invoke(plugin, action, input, Some(person), Some(sender));
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return Ok(result?),
                Ok(()) = reports.changed() => report(&reports.borrow_and_update()),
            }
        }
    }
}

/// This program, as the compiler of components.
///
/// The link in `/proc` leads to the program that runs, also when an upgrade has replaced it on the disk since:
/// the path that it had would lead to the new one, whose code the old one cannot run.
pub fn compiler() -> Compiler {
    Compiler {
        program: "/proc/self/exe".into(),
        arguments: vec![COMPILE.into()],
    }
}

/// This program, as the supervisor of the servers that run as its children.
pub fn supervisor() -> Supervisor {
    Supervisor {
        program: "/proc/self/exe".into(),
        arguments: vec![SUPERVISE.into()],
    }
}

/// A user who is not a person of this host.
pub fn nobody(uid: u32) -> Person {
    Person {
        uid,
        name: format!("uid-{uid}"),
        roles: std::collections::BTreeSet::new(),
    }
}

/// The file `halt` of a data folder, from the root on, for whoever is to make it.
pub fn halt_file(data: &Path) -> String {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    data.join(HALT_FILE).display().to_string()
}

/// Why a uid is not listened to. `waits` is the approval that they wait for where the configuration names them.
pub fn stranger(uid: u32, data: &Path, waits: Option<&str>) -> String {
    let halt = format!(
        "to halt at once, the user that the host runs as makes the file: touch {}",
        halt_file(data)
    );
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

/// Makes a folder that only this user can read, or sees to it that it is one.
pub fn private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let found = std::fs::metadata(folder)?;
    let (owner, us) = (found.uid(), nix::unistd::geteuid().as_raw());
    ensure!(
        owner == us,
        "{0} belongs to the user {owner}, who could change what is in it, and this is the user {us}; name a folder of \
         your own as `data`, or run: chown -R {us} {0}",
        folder.display()
    );
    let mode = found.permissions().mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "{0} is open to other users (mode {mode:o}), and holds the host's key and socket; run: chmod 700 {0}",
        folder.display()
    );
    Ok(())
}
