//! Everything plugged together: connections, ledger, audit, gate, runtime, plugins, people.
//!
//! Invariant: a manifest or component that cannot be used takes nothing else down; it is listed
//! with the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::stream::{self, StreamExt as _};
use qchost_gate::Gate;
use qchost_ledger::Ledger;
use qchost_policy::{Manifest, People, Person};
use qchost_runtime::{Compiler, LoadError, Options as RuntimeOptions, Plugin, Progress, Runtime};
use qchost_secrets::{Redactor, Secrets};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::accounts::{self, Connections};
use crate::config::{Config, persons};
use crate::gate::{self, CALL_TIMEOUT};
use crate::keys::{self, Key};
use crate::lock::Lock;
use crate::manifests;
use crate::output::words;

/// The verb that makes this program a compiler.
const COMPILE: &str = "compile-component";
/// Plugins that are compiled at a time.
const LOADING: usize = 4;

/// A host with its plugins.
pub struct Host {
    pub gate: Gate,
    pub runtime: Runtime,
    pub connections: Connections,
    /// Who may tell it something.
    pub people: People,
    /// What its other keys are derived from.
    pub key: Key,
    /// The folder for its state.
    pub data: PathBuf,
    /// The file of its configuration.
    pub config: PathBuf,
    /// What became of each manifest, in the order of the files.
    pub plugins: Vec<Loaded>,
    /// Where they are.
    folder: PathBuf,
    secrets: Secrets,
    accounts: Vec<String>,
    /// Given back when the host is dropped.
    _lock: Lock,
}

/// What became of a manifest.
pub struct Loaded {
    pub path: PathBuf,
    /// The plugin that it is for, as far as it can be read.
    pub name: Option<String>,
    pub plugin: Result<Arc<Plugin>>,
}

impl Loaded {
    /// Whether it is for a plugin, or may be meant for it.
    pub fn claims(&self, plugin: &str) -> bool {
        manifests::claims(&self.path, self.name.as_deref(), plugin)
    }

    /// The approval that it waits for.
    pub fn awaits(&self) -> Option<&str> {
        match self.plugin.as_ref().err()?.downcast_ref::<LoadError>()? {
            LoadError::AwaitsOperator { approval, .. } => Some(approval),
            _ => None,
        }
    }
}

impl Host {
    /// Prepares connections, gate and runtime on the data folder that the lock is for. No plugin is
    /// loaded yet.
    pub async fn open(config: &Config, lock: Lock) -> Result<Self> {
        let data = config.data()?;
        let secrets = config.secrets()?;
        let people = People::new(persons(&config.people), &config.guardrails()?)?;
        let key = Key::open(&keys::path(&data))?;
        let connections = accounts::prepare(
            config
                .account
                .iter()
                .map(|(name, account)| (name.as_str(), account)),
            &secrets,
        )
        .await?;
        let ledger = Ledger::open(&data.join("state.db"))
            .with_context(|| format!("the state in {} cannot be opened", data.display()))?;
        let upstream = Box::new(connections.accounts.clone());
        let gate = gate::open(config, &data, &key, ledger, upstream).await?;
        let runtime = Runtime::new(
            gate.clone(),
            RuntimeOptions::new(
                config.cache()?.join("components"),
                keys::path(&data),
                compiler(),
            ),
        )?;
        Ok(Self {
            gate,
            runtime,
            connections,
            people,
            key,
            data,
            config: config.path.clone(),
            plugins: Vec::new(),
            folder: config.plugins.clone(),
            secrets,
            accounts: config.account.keys().cloned().collect(),
            _lock: lock,
        })
    }

    /// Loads every plugin of the configuration. Of two manifests for one plugin neither is loaded:
    /// nobody knows which one was meant.
    pub async fn load_all(&mut self, config: &Config) -> Result<()> {
        let found: Vec<(PathBuf, Result<Manifest>)> = manifests::list(&config.plugins)?
            .into_iter()
            .map(|path| {
                let manifest = manifests::check(&path, config);
                (path, manifest)
            })
            .collect();
        let mut claims = BTreeMap::<String, usize>::new();
        for manifest in found
            .iter()
            .filter_map(|(_, manifest)| manifest.as_ref().ok())
        {
            *claims.entry(manifest.plugin.clone()).or_default() += 1;
        }
        let loading = found.into_iter().map(|(path, manifest)| async {
            let name = match &manifest {
                Ok(manifest) => Some(manifest.plugin.clone()),
                Err(_) => manifests::named(&path),
            };
            let plugin = match manifest {
                Ok(manifest) if claims.get(&manifest.plugin).is_some_and(|count| *count > 1) => {
                    Err(anyhow!(
                        "{}: another manifest is for the plugin `{}` too; take one away",
                        path.display(),
                        manifest.plugin
                    ))
                }
                Ok(manifest) => self
                    .load(manifest)
                    .await
                    .with_context(|| path.display().to_string()),
                Err(error) => Err(error),
            };
            Loaded { path, name, plugin }
        });
        self.plugins = stream::iter(loading).buffered(LOADING).collect().await;
        Ok(())
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
        for loaded in &self.plugins {
            if let Err(error) = &loaded.plugin
                && loaded.claims(plugin)
            {
                bail!(words(error));
            }
        }
        Ok(())
    }

    /// Checks that there is such an account: to halt one that was misspelt halts nothing.
    pub fn check_account(&self, account: &str) -> Result<()> {
        ensure!(
            self.accounts.iter().any(|known| known == account),
            "there is no account `{account}`; configured are: {}",
            self.accounts.join(", ")
        );
        Ok(())
    }

    /// Checks that there is such a plugin, loaded or not.
    pub fn check_plugin_name(&self, plugin: &str) -> Result<()> {
        if self.gate.manifest(plugin).is_some() {
            return Ok(());
        }
        let mut known = Vec::new();
        for path in manifests::list(&self.folder)? {
            let named = manifests::named(&path);
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
        if let Some(person) = self.people.by_uid(uid) {
            return Ok(person.clone());
        }
        let nobody = Person {
            uid,
            name: format!("uid-{uid}"),
            roles: std::collections::BTreeSet::new(),
        };
        let detail = json!({ "reason": "not a person of this host" });
        self.gate.note_admin(&nobody, "denied", detail).await?;
        bail!(stranger(uid))
    }

    /// The name of the person behind a uid.
    pub fn name_of(&self, uid: u32) -> String {
        match self.people.by_uid(uid) {
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

/// Why a uid is not listened to.
pub fn stranger(uid: u32) -> String {
    format!(
        "uid {uid} is not a person of this host; an administrator adds to the configuration:\n\
         [people.NAME]\nuid = {uid}\nroles = [\"viewer\"]"
    )
}

/// Makes a folder that only this user can read, or sees to it that it is one.
pub fn private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mode = std::fs::metadata(folder)?.permissions().mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "{0} is open to other users (mode {mode:o}), and holds the host's key and socket; run: chmod 700 {0}",
        folder.display()
    );
    Ok(())
}
