//! `[account.NAME]`: how the account's MCP server is reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use qchost_secrets::{Secrets, Setting, Source};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::oauth::OAuth;

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
        /// Whether its organisation has signed QuantConnect's agreement on derived data, without which
        /// QuantConnect refuses downloads of objects.
        #[serde(default)]
        derived_data: bool,
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
        /// Whether its organisation has signed QuantConnect's agreement on derived data, without which
        /// QuantConnect refuses downloads of objects.
        #[serde(default)]
        derived_data: bool,
    },
    /// A server that speaks MCP over streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Headers to send.
        #[serde(default)]
        headers: BTreeMap<String, Setting>,
        /// How the host is authorized, if a person logs in to the server.
        oauth: Option<OAuth>,
        /// Whether its organisation has signed QuantConnect's agreement on derived data, without which
        /// QuantConnect refuses downloads of objects.
        #[serde(default)]
        derived_data: bool,
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
                credentials_file, ..
            } => {
                resolve_file(credentials_file, folder);
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
            Self::Http { headers, oauth, .. } => {
                if let Some(oauth) = oauth {
                    oauth.resolve(folder);
                }
                headers
            }
        };
        for setting in settings.values_mut() {
            setting.resolve(folder);
        }
    }

    /// Whether objects may be downloaded.
    pub fn derived_data(&self) -> bool {
        match self {
            Self::Embedded { derived_data, .. }
            | Self::Stdio { derived_data, .. }
            | Self::Http { derived_data, .. } => *derived_data,
        }
    }

    /// The paths in it.
    pub fn paths(&self) -> Vec<&Path> {
        let cwd = match self {
            Self::Stdio { cwd, .. } => cwd.as_deref(),
            Self::Embedded { .. } | Self::Http { .. } => None,
        };
        cwd.into_iter().chain(self.secret_files()).collect()
    }

    /// The files that its secrets are read from.
    pub fn secret_files(&self) -> Vec<&Path> {
        let credentials = match self {
            Self::Embedded {
                credentials_file, ..
            }
            | Self::Stdio {
                credentials_file, ..
            } => credentials_file.as_deref(),
            Self::Http { .. } => None,
        };
        let files = self.sources().filter_map(Source::file);
        credentials.into_iter().chain(files).collect()
    }

    /// Where its settings say that secrets are.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let settings = match self {
            Self::Embedded { .. } => None,
            Self::Stdio { env, .. } => Some(env),
            Self::Http { headers, .. } => Some(headers),
        };
        let settings = settings.into_iter().flat_map(BTreeMap::values);
        let client = self
            .login()
            .and_then(|(_, oauth)| oauth.client_secret.as_ref());
        settings
            .filter_map(|setting| match setting {
                Setting::Secret(source) => Some(source),
                Setting::Plain(_) => None,
            })
            .chain(client)
    }

    /// Whether a secret of it is in the vault, where nothing announces that it changes.
    pub fn reads_vault(&self) -> bool {
        self.sources()
            .any(|source| matches!(source, Source::Vault(_)))
    }

    /// Whether a secret of it may be in the environment.
    pub fn reads_environment(&self) -> bool {
        let credentials = match self {
            Self::Embedded { cloud, .. } => cloud != "emulator",
            Self::Stdio { credentials, .. } => *credentials,
            Self::Http { .. } => false,
        };
        credentials
            || self
                .sources()
                .any(|source| matches!(source, Source::Env(_)))
    }

    /// The server that a person logs in to, and how the host identifies itself there.
    pub fn login(&self) -> Option<(&str, &OAuth)> {
        match self {
            Self::Http { url, oauth, .. } => Some((url.as_str(), oauth.as_ref()?)),
            Self::Embedded { .. } | Self::Stdio { .. } => None,
        }
    }

    /// Checks that involve several keys.
    pub(super) fn check(&self) -> Result<()> {
        let Some((_, oauth)) = self.login() else {
            return Ok(());
        };
        if let Self::Http { headers, .. } = self {
            ensure!(
                !headers
                    .keys()
                    .any(|name| name.eq_ignore_ascii_case("authorization")),
                "oauth: the header Authorization is that of the login; leave one of the two out"
            );
        }
        oauth.check()
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
