//! `[account.NAME]`: how the account's MCP server is reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use qchost_secrets::{Secrets, Setting};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

/// The cloud of an account that leads to an emulator.
pub const EMULATOR: &str = "emulator";

/// How an account's MCP server is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    tag = "connection",
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Account {
    /// The embedded MCP server, in this process.
    Embedded {
        /// `quantconnect`, `emulator`, or the address of a REST API.
        #[serde(default = "default_cloud")]
        cloud: String,
        /// A file with credentials, used if the environment has none.
        credentials_file: Option<PathBuf>,
        /// A file with what an emulator begins with.
        seed: Option<PathBuf>,
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
        env: BTreeMap<String, Setting>,
        /// Its working directory.
        cwd: Option<PathBuf>,
        /// Whether to pass QuantConnect's credentials in its environment.
        #[serde(default = "yes")]
        credentials: bool,
        /// A file with credentials, used if the environment has none.
        credentials_file: Option<PathBuf>,
    },
    /// A server that speaks MCP over streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Headers to send.
        #[serde(default)]
        headers: BTreeMap<String, Setting>,
    },
}

fn default_cloud() -> String {
    "quantconnect".to_owned()
}

fn yes() -> bool {
    true
}

/// Resolves a file with credentials against the folder of the configuration, or against that of systemd's.
fn resolve_file(file: &mut Option<PathBuf>, folder: &Path) {
    *file = file
        .take()
        .map(|file| qchost_secrets::resolve(folder, &file));
}

impl Account {
    /// Resolves its paths against the folder of the configuration.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let settings = match self {
            Self::Embedded {
                credentials_file,
                seed,
                ..
            } => {
                resolve_file(credentials_file, folder);
                *seed = seed.take().map(|file| folder.join(file));
                return;
            }
            Self::Stdio {
                env,
                cwd,
                credentials_file,
                ..
            } => {
                resolve_file(credentials_file, folder);
                *cwd = cwd.take().map(|cwd| folder.join(cwd));
                env
            }
            Self::Http { headers, .. } => headers,
        };
        for setting in settings.values_mut() {
            setting.resolve(folder);
        }
    }

    /// Whether it leads to an emulator in this process.
    pub fn is_emulator(&self) -> bool {
        matches!(self, Self::Embedded { cloud, .. } if cloud == EMULATOR)
    }

    /// The file with what its emulator begins with.
    pub fn seed(&self) -> Option<&Path> {
        match self {
            Self::Embedded { seed, .. } => seed.as_deref(),
            Self::Stdio { .. } | Self::Http { .. } => None,
        }
    }

    /// The paths in it.
    pub fn paths(&self) -> Vec<&Path> {
        let own = match self {
            Self::Stdio { cwd, .. } => cwd.as_deref(),
            Self::Embedded { seed, .. } => seed.as_deref(),
            Self::Http { .. } => None,
        };
        own.into_iter().chain(self.secret_files()).collect()
    }

    /// The files that its secrets are read from.
    pub fn secret_files(&self) -> Vec<&Path> {
        let (settings, credentials) = match self {
            Self::Embedded {
                credentials_file, ..
            } => (None, credentials_file.as_deref()),
            Self::Stdio {
                env,
                credentials_file,
                ..
            } => (Some(env), credentials_file.as_deref()),
            Self::Http { headers, .. } => (Some(headers), None),
        };
        let settings = settings.into_iter().flat_map(BTreeMap::values);
        let settings = settings.filter_map(Setting::file);
        credentials.into_iter().chain(settings).collect()
    }
}

/// The value of a variable or a header, and whether it is a secret.
///
/// # Errors
/// When the secret is missing where the setting refers to, or the value is not text.
pub async fn text(setting: &Setting, secrets: &Secrets) -> Result<(SecretString, bool)> {
    match setting {
        Setting::Secret(source) => Ok((secrets.read(source).await?, true)),
        Setting::Plain(Value::String(text)) => Ok((secrets.literal(text), false)),
        Setting::Plain(other) => bail!("{other} is not a text; put it into quotes"),
    }
}
