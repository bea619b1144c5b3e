//! `qchost.toml`: accounts and their connections, folders, mode, brokerage profiles.
//!
//! Invariant: an unknown key is an error, and no secret stands in the file: it names an environment
//! variable or a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use qchost_gate::{Profile, Setting, is_name, read_secret};
use secrecy::SecretString;
use serde::Deserialize;

/// The host's configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What is allowed of conveniences.
    #[serde(default)]
    pub mode: Mode,
    /// The folder of manifests: `*.toml` and `*/manifest.toml` in it.
    #[serde(default = "default_plugins")]
    pub plugins: PathBuf,
    /// Where state is kept.
    pub data: Option<PathBuf>,
    /// Where compiled components are kept.
    pub cache: Option<PathBuf>,
    /// Accounts by name.
    #[serde(default)]
    pub account: BTreeMap<String, Account>,
    /// Brokerage and data-provider profiles by name.
    #[serde(default)]
    pub brokerage: BTreeMap<String, Profile>,
    /// The file it was read from, with every link followed; empty if there is none.
    #[serde(skip)]
    pub path: PathBuf,
}

/// How strict the host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// For a developer's machine.
    #[default]
    Development,
    /// With money at stake: a plugin that may trade must be pinned by its digest.
    Production,
}

/// How an account's MCP server is reached.
#[derive(Debug, Deserialize)]
#[serde(
    tag = "connection",
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Account {
    /// Our own server, in this process.
    Embedded {
        /// `quantconnect`, `emulator`, or the address of a REST API.
        #[serde(default = "default_cloud")]
        cloud: String,
        /// A file with credentials, where the environment has none.
        credentials_file: Option<PathBuf>,
    },
    /// A command that speaks MCP on its standard input and output.
    Stdio {
        /// The command.
        command: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// Variables to set for it.
        #[serde(default)]
        env: BTreeMap<String, Variable>,
        /// Its working directory.
        cwd: Option<PathBuf>,
        /// Whether to pass QuantConnect's credentials in its environment.
        #[serde(default = "yes")]
        credentials: bool,
        /// A file with credentials, where the environment has none.
        credentials_file: Option<PathBuf>,
    },
    /// A server that speaks MCP over streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Headers to send.
        #[serde(default)]
        headers: BTreeMap<String, Variable>,
    },
}

/// A value in the file, or where a secret one is.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Variable {
    /// In the file: no secret.
    Plain(String),
    /// In an environment variable.
    Env {
        /// The variable.
        env: String,
    },
    /// In a file that only the host can read.
    File {
        /// The file.
        file: PathBuf,
    },
}

fn default_plugins() -> PathBuf {
    PathBuf::from("plugins")
}

fn default_cloud() -> String {
    "quantconnect".to_owned()
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads the file. Relative folders are resolved against where it is.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the configuration {}; write one with: qchost init",
                path.display()
            )
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                text.bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
                    + 1
            });
            anyhow::anyhow!(
                "{}:{line}: {}",
                path.display(),
                error.message().trim().replace('\n', " ")
            )
        })?;
        for name in config.account.keys().chain(config.brokerage.keys()) {
            ensure!(
                is_name(name),
                "{}: `{name}` is not a name: a-z, 0-9 and `-`, at most 64",
                path.display()
            );
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        config.path = path.canonicalize()?;
        config.plugins = folder.join(&config.plugins);
        config.data = config.data.map(|data| folder.join(data));
        config.cache = config.cache.map(|cache| folder.join(cache));
        for account in config.account.values_mut() {
            account.resolve(folder);
        }
        for setting in config.brokerage.values_mut().flat_map(BTreeMap::values_mut) {
            if let Setting::File { file } = setting {
                *file = folder.join(&file);
            }
        }
        Ok(config)
    }

    /// The folder for state: the configured one, or `$XDG_STATE_HOME/qchost`.
    pub fn data(&self) -> Result<PathBuf> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => xdg("XDG_STATE_HOME", ".local/state"),
        }
    }

    /// The folder for compiled components: the configured one, or one beside configured state,
    /// or `$XDG_CACHE_HOME/qchost`. Two hosts with state of their own have keys of their own, so
    /// neither would believe what the other one keeps.
    pub fn cache(&self) -> Result<PathBuf> {
        match (&self.cache, &self.data) {
            (Some(cache), _) => Ok(cache.clone()),
            (None, Some(data)) => Ok(data.join("cache")),
            (None, None) => xdg("XDG_CACHE_HOME", ".cache"),
        }
    }

    /// The account to use where none is named: the only one.
    pub fn account_or_only<'a>(&'a self, name: Option<&'a str>) -> Result<&'a str> {
        match (name, self.account.len()) {
            (Some(name), _) if self.account.contains_key(name) => Ok(name),
            (None, 1) => Ok(self.account.keys().next().map_or("", String::as_str)),
            (_, 0) => bail!("no account is configured; add [account.NAME] to the configuration"),
            (asked, _) => {
                let known: Vec<_> = self.account.keys().map(String::as_str).collect();
                let known = known.join(", ");
                match asked {
                    Some(name) => bail!("there is no account `{name}`; configured are: {known}"),
                    None => bail!("name an account with --account; configured are: {known}"),
                }
            }
        }
    }
}

impl Account {
    /// Resolves its paths against the folder of the configuration.
    fn resolve(&mut self, folder: &Path) {
        let variables = match self {
            Self::Embedded {
                credentials_file, ..
            } => {
                *credentials_file = credentials_file.take().map(|file| folder.join(file));
                return;
            }
            Self::Stdio {
                env,
                cwd,
                credentials_file,
                ..
            } => {
                *credentials_file = credentials_file.take().map(|file| folder.join(file));
                *cwd = cwd.take().map(|cwd| folder.join(cwd));
                env
            }
            Self::Http { headers, .. } => headers,
        };
        for variable in variables.values_mut() {
            if let Variable::File { file } = variable {
                *file = folder.join(&file);
            }
        }
    }
}

impl Variable {
    /// The value, and whether it is a secret.
    pub fn read(&self) -> Result<(SecretString, bool)> {
        Ok(match self {
            Self::Plain(text) => (text.clone().into(), false),
            Self::Env { env } => {
                let value = std::env::var(env)
                    .with_context(|| format!("the environment variable {env} is not set"))?;
                (value.into(), true)
            }
            Self::File { file } => (read_secret(file)?.into(), true),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qchost.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("modus = 1", "qchost.toml:1: unknown field `modus`"),
            (
                "\n[account.a]\nconnection = \"pigeon\"",
                "unknown variant `pigeon`",
            ),
            (
                "[account.a]\nconnection = \"http\"\nurl = \"x\"\nport = 1",
                "unknown field `port`",
            ),
            (
                "[account.\"A b\"]\nconnection = \"embedded\"",
                "`A b` is not a name",
            ),
            ("mode = \"relaxed\"", "unknown variant `relaxed`"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_only_account_needs_no_name() {
        let one = load("[account.a]\nconnection = \"embedded\"").unwrap();
        assert_eq!(one.account_or_only(None).unwrap(), "a");
        assert!(
            one.account_or_only(Some("b"))
                .unwrap_err()
                .to_string()
                .contains("configured are: a")
        );
        let two =
            load("[account.a]\nconnection = \"embedded\"\n[account.b]\nconnection = \"embedded\"")
                .unwrap();
        assert!(
            two.account_or_only(None)
                .unwrap_err()
                .to_string()
                .contains("--account")
        );
        assert_eq!(two.account_or_only(Some("b")).unwrap(), "b");
    }
}
