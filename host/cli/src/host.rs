//! Everything plugged together: connections, gate, runtime, plugins.
//!
//! Invariant: a manifest or component that cannot be used takes nothing else down; it is listed
//! with the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::stream::{self, StreamExt as _};
use qchost_gate::{Gate, Manifest, Options as GateOptions, Profiles, StateStore};
use qchost_runtime::{Options as RuntimeOptions, Plugin, Progress, Runtime};
use serde_json::Value;
use tokio::sync::watch;

use crate::accounts::{self, Connections};
use crate::config::{Config, Mode};
use crate::lock::Lock;

/// How long one call to QuantConnect may take, whoever still waits for it.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Plugins that are compiled at a time.
const LOADING: usize = 4;

/// A host with its plugins.
pub struct Host {
    pub gate: Gate,
    pub runtime: Runtime,
    pub connections: Connections,
    /// What became of each manifest, in the order of the files.
    pub plugins: Vec<Loaded>,
    /// The file of its configuration.
    pub config: PathBuf,
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
        claims(&self.path, self.name.as_deref(), plugin)
    }
}

impl Host {
    /// Prepares connections, gate and runtime on the data folder that the lock is for. No plugin is
    /// loaded yet.
    pub async fn open(config: &Config, lock: Lock) -> Result<Self> {
        let connections = accounts::prepare(
            config
                .account
                .iter()
                .map(|(name, account)| (name.as_str(), account)),
        )
        .await?;
        let data = config.data()?;
        let state = StateStore::open(&data.join("state.db"))
            .with_context(|| format!("the state in {} cannot be opened", data.display()))?;
        let gate = Gate::new(
            Box::new(connections.accounts.clone()),
            GateOptions {
                profiles: Profiles::new(config.brokerage.clone()),
                state,
                call_timeout: CALL_TIMEOUT,
            },
        );
        let runtime = Runtime::new(
            gate.clone(),
            RuntimeOptions::new(config.cache()?.join("components"), data.join("host.key")),
        )?;
        Ok(Self {
            gate,
            runtime,
            connections,
            plugins: Vec::new(),
            config: config.path.clone(),
            _lock: lock,
        })
    }

    /// Loads every plugin of the configuration. Of two manifests for one plugin neither is loaded:
    /// nobody knows which one was meant.
    pub async fn load_all(&mut self, config: &Config) -> Result<()> {
        let found: Vec<(PathBuf, Result<Manifest>)> = manifests(&config.plugins)?
            .into_iter()
            .map(|path| {
                let manifest = check(&path, config);
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
                Err(_) => named(&path),
            };
            let plugin = match manifest {
                Ok(manifest) if claims.get(&manifest.plugin).is_some_and(|count| *count > 1) => {
                    Err(anyhow::anyhow!(
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

    /// Ends: no new invocation, running ones get so long, then what was sent is waited for.
    /// Returns how many invocations did not end in time.
    pub async fn close(&self, drain: Duration) -> usize {
        let left = self.runtime.shutdown(drain).await;
        if tokio::time::timeout(CALL_TIMEOUT, self.gate.idle())
            .await
            .is_err()
        {
            tracing::error!(target: "host", "calls to QuantConnect are still without an answer");
        }
        self.connections.accounts.close().await;
        left
    }

    /// Invokes an action; reports of how far it is go to `report`, in order, until it ends.
    pub async fn invoke(
        &self,
        plugin: &str,
        action: &str,
        input: Value,
        mut report: impl FnMut(&Progress),
    ) -> Result<Value> {
        let (sender, mut reports) = watch::channel(Progress::default());
        let work = self.runtime.invoke(plugin, action, input, Some(sender));
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

/// The manifests of a folder: `*.toml` and `*/manifest.toml`, in order.
pub fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder of manifests {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let inner = path.join("manifest.toml");
        if inner.is_file() {
            paths.push(inner);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && path.is_file()
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a manifest and checks it against the configuration.
pub fn check(path: &Path, config: &Config) -> Result<Manifest> {
    let manifest = Manifest::load(path)?;
    ensure!(
        config.account.contains_key(&manifest.account),
        "{}: account: there is no account `{}`; configured are: {}",
        path.display(),
        manifest.account,
        config
            .account
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    );
    if config.mode == Mode::Production
        && manifest.digest.is_none()
        && let Some(name) = manifest.trades()
    {
        bail!(
            "{}: digest: in production a plugin that may trade (`{name}`) is pinned; add the digest that \
             `qchost plugin inspect {}` shows",
            path.display(),
            manifest.component.display()
        );
    }
    Ok(manifest)
}

/// The plugin that a manifest is for, even if nothing else in it is right.
pub fn named(path: &Path) -> Option<String> {
    let table: toml::Table = std::fs::read_to_string(path).ok()?.parse().ok()?;
    Some(table.get("plugin")?.as_str()?.to_owned())
}

/// Whether a manifest is for a plugin; if it does not say, by the name of its file (of its
/// folder for `*/manifest.toml`).
pub fn claims(path: &Path, named: Option<&str>, plugin: &str) -> bool {
    if let Some(name) = named {
        return name == plugin;
    }
    let stem = match path.file_stem() {
        Some(stem) if stem == "manifest" => path.parent().and_then(Path::file_name),
        stem => stem,
    };
    stem.is_some_and(|stem| stem == plugin)
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
