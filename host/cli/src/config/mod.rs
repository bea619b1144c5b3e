//! `qchost.toml`: accounts and their connections, people, folders, mode, brokerage profiles, and settings of the
//! gate.
//!
//! Invariant: an unknown key is an error, and the file contains no secrets: it refers to an environment variable, a
//! file or a vault.

mod account;
mod engine;
mod gate;
mod mode;
mod oauth;
mod people;
mod quantities;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use qchost_gate::Waits;
use qchost_policy::{Guardrails, Origin, Person, is_name, read_owned_text, read_text};
use qchost_secrets::{DeploymentSettings, Profile, Secrets, VaultOptions};
use serde::Deserialize;

pub use account::{Account, Connection, EMULATOR, RemoteServer, text};
pub use engine::Engine;
pub use gate::{Anchor, Approvals, Audit, Limits};
pub use mode::Mode;
pub use oauth::OAuth;
pub use people::{Control, PersonTable, persons};
pub use quantities::{Period, Price, dollars_of};

use crate::logging;

/// The control socket's name in a data folder.
pub const SOCKET: &str = "control.sock";

/// Maximum bytes of a key that a message repeats.
const MAX_KEY: usize = 100;

/// The host's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// How strict the host is.
    pub mode: Mode,
    /// The folder of manifests: `*.toml` and `*/manifest.toml` in it. If not given, `plugins` next to this file.
    pub plugins: Option<PathBuf>,
    /// The folder of guardrails: `*.cedar` in it. If not given, `policies` next to this file, if it exists.
    pub policies: Option<PathBuf>,
    /// Where state is kept.
    pub data: Option<PathBuf>,
    /// Where compiled components are kept.
    pub cache: Option<PathBuf>,
    /// Whether any plugin may trade with real money at all, whatever its grants.
    pub live_trading: bool,
    /// Whether trading with real money takes two approvals.
    pub two_person: bool,
    /// Accounts by name.
    pub account: BTreeMap<String, Account>,
    /// Limits on all plugins of an account together, by account.
    pub limits: BTreeMap<String, Limits>,
    /// Brokerage and data-provider profiles by name.
    pub brokerage: BTreeMap<String, Profile>,
    /// What is added to deployments, by brokerage profile.
    pub deployment: BTreeMap<String, DeploymentSettings>,
    /// The price of a node's hour in dollars, by node type. It replaces the program's own.
    pub node_prices: BTreeMap<String, Price>,
    /// The most nodes of one optimisation, by node type. It replaces the program's own.
    pub node_maxima: BTreeMap<String, NonZeroU32>,
    /// The people who may use the host, by name.
    pub people: BTreeMap<String, PersonTable>,
    /// Where it listens for them.
    pub control: Control,
    /// Time limits of approvals.
    pub approvals: Approvals,
    /// Settings of the audit.
    pub audit: Audit,
    /// The vault that secrets come from.
    pub vault: Option<VaultOptions>,
    /// How components are compiled and run.
    pub engine: Engine,
    /// The file it was read from, as given; empty if there is none.
    #[serde(skip)]
    pub file: PathBuf,
    /// The same with all links resolved.
    #[serde(skip)]
    pub path: PathBuf,
    /// The content of the file.
    #[serde(skip)]
    pub table: toml::Table,
    /// Its text and owner.
    #[serde(skip)]
    pub origin: Origin,
    /// Whether only these people have roles, even if there are none: additions in the file await an admin.
    #[serde(skip)]
    pub closed: bool,
    /// The approval it waits for, if it adds to what is in force.
    #[serde(skip)]
    pub waits: Option<Waits>,
    /// Accounts that are not in force although something may run live on them: see [`qchost_gate::Settings`].
    #[serde(skip)]
    pub dormant: BTreeSet<String>,
    /// Reads its secrets, created on first use: see [`Config::secrets`].
    #[serde(skip)]
    pub reader: OnceLock<Secrets>,
}

impl Config {
    /// Reads the file. Relative folders are resolved against its location.
    pub fn load(path: &Path) -> Result<Self> {
        let (text, owner) = read_owned_text(path).with_context(|| {
            // An existing file is not overwritten by `init`.
            let hint = match path.symlink_metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    "; write one with `qchost init`"
                }
                _ => "",
            };
            let folder = match path.is_relative() {
                true => std::env::current_dir().ok(),
                false => None,
            };
            let folder = folder.map_or_else(String::new, |it| format!(" in {}", it.display()));
            format!(
                "cannot read the configuration {}{folder}{hint}",
                path.display()
            )
        })?;
        let mut config = Self::parse(&text, path)?;
        config.origin.owner = Some(owner);
        Ok(config)
    }

    /// Parses a text; `path` is the file it comes from.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                text.bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
                    + 1
            });
            let key = error.span().and_then(|span| key_before(text, span.start));
            let key = key.map_or_else(String::new, |key| format!(" (at `{key}`)"));
            anyhow::anyhow!(
                "{}:{line}: {}{key}",
                path.display(),
                without_text(error.message()).trim().replace('\n', " ")
            )
        })?;
        config.check().with_context(|| path.display().to_string())?;
        config.file = path.to_owned();
        config.path = path.canonicalize()?;
        config.table = text.parse()?;
        config.origin.text = text.into();
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// The people with roles. Without any configured, it is the user that runs the host.
    pub fn persons(&self) -> Vec<Person> {
        if self.closed && self.people.is_empty() {
            return Vec::new();
        }
        persons(&self.people)
    }

    /// As much of an invalid file as is needed to find the host that was started with it, so that halting does not
    /// require fixing a file first. If it is not valid TOML, the lines before the error count.
    pub fn readable_parts(path: &Path) -> Option<Self> {
        let table = valid_lines(&read_text(path).ok()?);
        let kept: toml::Table = table
            .into_iter()
            .filter(|(key, _)| matches!(key.as_str(), "data" | "control"))
            .collect();
        let mut config: Self = toml::from_str(&toml::to_string(&kept).ok()?).ok()?;
        config.file = path.to_owned();
        config.path = path.canonicalize().ok()?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Some(config)
    }

    /// Checks that involve several keys.
    fn check(&self) -> Result<()> {
        let names = self.account.keys().chain(self.brokerage.keys());
        for name in names.chain(self.people.keys()) {
            ensure!(
                is_name(name),
                "`{name}` is not a name: a-z, 0-9 and `-`, at most 64"
            );
        }
        for name in self.deployment.keys() {
            ensure!(
                self.brokerage.contains_key(name),
                "deployment.{name}: there is no profile of this name in [brokerage]"
            );
        }
        for (name, account) in &self.account {
            account.check().with_context(|| format!("account.{name}"))?;
        }
        self.engine.check(self.mode)?;
        gate::check(&self.limits, &self.account)?;
        people::check(&self.people, self.mode, self.two_person)?;
        self.control.check()
    }

    /// Resolves paths against the folder of the file.
    fn resolve(&mut self, folder: &Path) {
        for path in [
            &mut self.plugins,
            &mut self.policies,
            &mut self.data,
            &mut self.cache,
            &mut self.control.socket,
        ] {
            *path = path.take().map(|path| folder.join(path));
        }
        for account in self.account.values_mut() {
            account.resolve(folder);
        }
        for setting in self.brokerage.values_mut().flat_map(BTreeMap::values_mut) {
            setting.resolve(folder);
        }
        let deployments = self.deployment.values_mut();
        for setting in deployments.flat_map(DeploymentSettings::settings_mut) {
            setting.resolve(folder);
        }
        if let Some(vault) = &mut self.vault {
            vault.resolve(folder);
        }
        self.audit.resolve(folder);
    }

    /// The folder for state: the configured one, or `$XDG_STATE_HOME/qchost`.
    pub fn data(&self) -> Result<PathBuf> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => xdg("XDG_STATE_HOME", ".local/state"),
        }
    }

    /// The folder for compiled components: the configured one, or one next to configured state, or
    /// `$XDG_CACHE_HOME/qchost`. Hosts with separate state have different keys, so neither would accept the other's
    /// entries.
    pub fn cache(&self) -> Result<PathBuf> {
        match (&self.cache, &self.data) {
            (Some(cache), _) => Ok(cache.clone()),
            (None, Some(data)) => Ok(data.join("cache")),
            (None, None) => xdg("XDG_CACHE_HOME", ".cache"),
        }
    }

    /// The path of the control socket.
    pub fn socket(&self) -> Result<PathBuf> {
        match &self.control.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(self.data()?.join(SOCKET)),
        }
    }

    /// The folder of manifests: the configured one, or the one next to the file.
    pub fn plugins(&self) -> PathBuf {
        let usual = || self.file.with_file_name("plugins");
        self.plugins.clone().unwrap_or_else(usual)
    }

    /// The folder of guardrails: the configured one, or the one next to the file, if there is a file.
    pub fn policies(&self) -> Option<PathBuf> {
        match &self.policies {
            Some(folder) => Some(folder.clone()),
            None => Some(self.path.parent()?.join("policies")),
        }
    }

    /// The guardrails. A configured folder must exist; the default one may be missing.
    pub fn guardrails(&self) -> Result<Guardrails> {
        let Some(folder) = self.policies() else {
            return Ok(Guardrails::none());
        };
        ensure!(
            self.policies.is_none() || folder.is_dir(),
            "policies: there is no folder {}",
            folder.display()
        );
        Ok(Guardrails::load(&folder)?)
    }

    /// The user ids of the owners of the guardrails' files.
    pub fn guardrail_owners(&self) -> BTreeSet<u32> {
        let files = self.policies().map(|folder| Guardrails::files(&folder));
        let files = files.into_iter().flatten().flatten();
        files
            .filter_map(|path| Some(path.metadata().ok()?.uid()))
            .collect()
    }

    /// The reader of its secrets; always the same one. Secrets that it reads are redacted from the log.
    pub fn secrets(&self) -> Result<Secrets> {
        if let Some(secrets) = self.reader.get() {
            return Ok(secrets.clone());
        }
        let secrets = Secrets::new(self.vault.clone()).context("vault")?;
        let secrets = self.reader.get_or_init(|| secrets);
        logging::clean_with(secrets.redactor());
        Ok(secrets.clone())
    }

    /// Makes it read its secrets with an existing reader: the vault of a host stays the one it started with.
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self {
            reader: OnceLock::from(secrets),
            ..self
        }
    }

    /// The default account: the only one.
    pub fn only_account(&self) -> Result<&str> {
        let mut names = self.account.keys().map(String::as_str);
        match (names.next(), names.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => bail!("no account is configured; add [account.NAME] to the configuration"),
            _ => bail!(
                "name an account with --account; configured are: {}",
                listed(&self.account)
            ),
        }
    }
}

/// The names of accounts, for messages.
pub fn listed(accounts: &BTreeMap<String, Account>) -> String {
    accounts.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// The absolute path of a file, for messages: a relative one does not say where it was looked for.
pub fn full(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A message of the parser without the text that is in the wrong place: it may be a secret, as in `headers = "Bearer …"`.
fn without_text(message: &str) -> String {
    let mut message = message.to_owned();
    for kind in ["invalid type: string ", "invalid value: string "] {
        let begin = message.find(kind).map(|at| at + kind.len());
        let end = message.rfind(", expected");
        if let (Some(begin), Some(end)) = (begin, end)
            && begin < end
        {
            message.replace_range(begin..end, "…");
        }
    }
    message
}

/// The key whose value is at a place in a text, with its table; `None` if the place is a key or a table itself, or the key is
/// none that a configuration has.
fn key_before(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let (above, line) = before.rsplit_once('\n').unwrap_or(("", before));
    let key = line.split_once('=')?.0.trim();
    let table = above.lines().rev().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default().trim();
        line.strip_prefix('[')?.strip_suffix(']')
    });
    let key = match table {
        Some(table) => format!("{}.{key}", table.trim_matches(['[', ']', ' '])),
        None => key.to_owned(),
    };
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.\"".contains(&byte);
    (key.len() <= MAX_KEY && key.bytes().all(is_key)).then_some(key)
}

/// The lines of a text before the first TOML error.
fn valid_lines(mut text: &str) -> toml::Table {
    loop {
        let fault = match text.parse::<toml::Table>() {
            Ok(table) => return table,
            Err(error) => error.span().map_or(0, |span| span.start),
        };
        // Only complete lines, and always fewer than before; an empty text is a valid table.
        let before = text.get(..fault).filter(|before| before.len() < text.len());
        let before = before.unwrap_or(text.strip_suffix('\n').unwrap_or(text));
        let end = before.rfind('\n').map_or(0, |end| end + 1);
        text = before.get(..end).unwrap_or_default();
    }
}

/// The data folders of hosts whose configuration does not name one, and of a service.
pub fn usual_data() -> Vec<PathBuf> {
    let own = xdg("XDG_STATE_HOME", ".local/state").ok();
    own.into_iter()
        .chain([PathBuf::from("/var/lib/qchost")])
        .collect()
}

/// Where the hosts of this user are registered by configuration, whatever their current data folder.
pub fn own_hosts() -> Option<PathBuf> {
    let state = xdg("XDG_STATE_HOME", ".local/state").ok()?;
    Some(state.join("running"))
}

fn xdg(variable: &str, otherwise: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(variable).filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("qchost"));
    }
    let home = std::env::var_os("HOME").with_context(|| {
        format!("neither {variable} nor HOME is set: put `data` and `cache` into the configuration")
    })?;
    Ok(PathBuf::from(home).join(otherwise).join("qchost"))
}
