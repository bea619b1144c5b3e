//! `[account.NAME]`: how the account's MCP servers are reached: one in front of the REST API, QuantConnect's remote one,
//! or both. What is in front of the REST API may have further endpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use qchost_catalog::{Operation, REMOTE_SERVER, Way};
use qchost_secrets::{Secrets, Setting, Source};
use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::oauth::OAuth;

/// The cloud of an account that leads to an emulator.
pub const EMULATOR: &str = "emulator";

/// The key of the remote server in an account.
const REMOTE: &str = "remote";
/// The key of the further endpoints in an account.
const ENDPOINT: &str = "endpoint";

/// The key of whether answers are kept.
const KEEP_ANSWERS: &str = "keep-answers";

/// The connections of an account; at least one.
#[derive(Debug, Clone)]
pub struct Account {
    /// The server in front of the REST API.
    pub rest: Option<Connection>,
    /// Other servers for the same user, also in front of the REST API: `[[account.NAME.endpoint]]`.
    pub endpoints: Vec<Connection>,
    /// QuantConnect's remote server.
    pub remote: Option<RemoteServer>,
    /// Whether answers to reads are given again for the time that the catalog allows.
    pub keep_answers: bool,
}

/// `[account.NAME.remote]`: QuantConnect's remote MCP server, for what the REST API cannot do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RemoteServer {
    /// Its address.
    #[serde(default = "default_remote")]
    pub url: String,
    /// Headers to send. With one called `Authorization`, no person logs in.
    #[serde(default)]
    pub headers: BTreeMap<String, Setting>,
    /// How the host identifies itself where a person logs in.
    #[serde(default)]
    pub oauth: OAuth,
}

/// How an MCP server in front of the REST API is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    tag = "connection",
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Connection {
    /// The embedded MCP server, in this process.
    Embedded {
        /// `quantconnect`, `emulator`, or the address of a REST API.
        #[serde(default = "default_cloud")]
        cloud: String,
        /// A file with credentials, used if the environment has none.
        credentials_file: Option<PathBuf>,
        /// A file with what an emulator begins with.
        seed: Option<PathBuf>,
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

fn default_remote() -> String {
    REMOTE_SERVER.to_owned()
}

fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let remote = table.remove(REMOTE).map(RemoteServer::deserialize);
        let remote = remote
            .transpose()
            .map_err(|error| D::Error::custom(format!("{REMOTE}: {}", error.message())))?;
        let endpoints = table.remove(ENDPOINT).map(Vec::<Connection>::deserialize);
        let endpoints = endpoints
            .transpose()
            .map_err(|error| D::Error::custom(format!("{ENDPOINT}: {}", error.message())))?;
        let keep_answers = table.remove(KEEP_ANSWERS).map(bool::deserialize);
        let keep_answers = keep_answers
            .transpose()
            .map_err(|error| D::Error::custom(format!("{KEEP_ANSWERS}: {}", error.message())))?;
        // An account without a `connection` has the remote server alone.
        let rest = match remote.is_some() && table.is_empty() {
            true => None,
            false => Some(
                Connection::deserialize(toml::Value::Table(table))
                    .map_err(|error| D::Error::custom(error.message()))?,
            ),
        };
        Ok(Self {
            rest,
            endpoints: endpoints.unwrap_or_default(),
            remote,
            keep_answers: keep_answers.unwrap_or(true),
        })
    }
}

impl From<Connection> for Account {
    fn from(rest: Connection) -> Self {
        Self {
            rest: Some(rest),
            endpoints: Vec::new(),
            remote: None,
            keep_answers: true,
        }
    }
}

/// Resolves a file with credentials against the folder of the configuration, or against that of systemd's.
fn resolve_file(file: &mut Option<PathBuf>, folder: &Path) {
    *file = file
        .take()
        .map(|file| qchost_secrets::resolve(folder, &file));
}

/// Whether a header of this name is among them.
fn has_authorization(headers: &BTreeMap<String, Setting>) -> bool {
    let mut names = headers.keys();
    names.any(|name| name.eq_ignore_ascii_case("authorization"))
}

impl RemoteServer {
    /// The server that a person logs in to, and how the host identifies itself there.
    pub fn login(&self) -> Option<(&str, &OAuth)> {
        let is_static = has_authorization(&self.headers);
        (!is_static).then_some((self.url.as_str(), &self.oauth))
    }
}

impl Account {
    /// Whether an operation can go by one of its connections.
    pub fn carries(&self, operation: &Operation) -> bool {
        (self.rest.is_some() && operation.goes_by(Way::Rest))
            || (self.remote.is_some() && operation.goes_by(Way::Remote))
    }

    /// Its connections in front of the REST API.
    fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.rest.iter().chain(&self.endpoints)
    }

    /// Resolves its paths against the folder of the configuration.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for connection in self.rest.iter_mut().chain(&mut self.endpoints) {
            connection.resolve(folder);
        }
        if let Some(remote) = &mut self.remote {
            remote.oauth.resolve(folder);
            for setting in remote.headers.values_mut() {
                setting.resolve(folder);
            }
        }
    }

    /// Whether objects may be downloaded.
    pub fn derived_data(&self) -> bool {
        self.rest.as_ref().is_some_and(Connection::derived_data)
    }

    /// Whether it leads to an emulator in this process.
    pub fn is_emulator(&self) -> bool {
        self.rest.as_ref().is_some_and(Connection::is_emulator)
    }

    /// The file with what its emulator begins with.
    pub fn seed(&self) -> Option<&Path> {
        self.rest.as_ref().and_then(Connection::seed)
    }

    /// The paths in it.
    pub fn paths(&self) -> Vec<&Path> {
        let folders = self.connections().filter_map(Connection::cwd);
        let seeds = self.connections().filter_map(Connection::seed);
        folders.chain(seeds).chain(self.secret_files()).collect()
    }

    /// The files that its secrets are read from.
    pub fn secret_files(&self) -> Vec<&Path> {
        let credentials = self.connections().filter_map(Connection::credentials_file);
        let files = self.sources().filter_map(Source::file);
        credentials.chain(files).collect()
    }

    /// Where its settings say that secrets are.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let rest = self.connections().filter_map(Connection::settings);
        let remote = self.remote.as_ref().map(|remote| &remote.headers);
        let settings = rest.chain(remote).flat_map(BTreeMap::values);
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
        self.connections().any(Connection::takes_credentials)
            || self
                .sources()
                .any(|source| matches!(source, Source::Env(_)))
    }

    /// The server that a person logs in to, and how the host identifies itself there.
    pub fn login(&self) -> Option<(&str, &OAuth)> {
        let remote = self.remote.as_ref().and_then(RemoteServer::login);
        remote.or_else(|| self.rest.as_ref().and_then(Connection::login))
    }

    /// Checks that involve several keys.
    pub(super) fn check(&self) -> Result<()> {
        let rest = self.rest.as_ref().and_then(Connection::login);
        if let Some(Connection::Http { headers, .. }) = &self.rest {
            ensure!(
                rest.is_none() || !has_authorization(headers),
                "oauth: the header Authorization is that of the login; leave one of the two out"
            );
        }
        if let Some((_, oauth)) = rest {
            oauth.check()?;
        }
        ensure!(
            self.endpoints.is_empty() || self.rest.is_some(),
            "{ENDPOINT}: the account has no `connection`, with which its endpoints are compared"
        );
        ensure!(
            self.seed().is_none() || self.is_emulator(),
            "seed: only an account with cloud = \"{EMULATOR}\" begins with a seed"
        );
        for endpoint in &self.endpoints {
            endpoint.check_further().context(ENDPOINT)?;
        }
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        ensure!(
            rest.is_none() || remote.login().is_none(),
            "{REMOTE}: an account has one login, and oauth is that of its other connection; put one of the two under \
             another account"
        );
        ensure!(
            remote.oauth == OAuth::default() || remote.login().is_some(),
            "{REMOTE}.oauth: the header Authorization is that of the login; leave one of the two out"
        );
        remote.oauth.check().context(REMOTE)
    }
}

impl Connection {
    /// Checks what is not for an endpoint beside another one.
    fn check_further(&self) -> Result<()> {
        ensure!(
            self.login().is_none(),
            "oauth: an account has one login, and it belongs to its first connection"
        );
        ensure!(
            !self.derived_data(),
            "derived-data: it is true of the account and belongs beside `connection`"
        );
        ensure!(
            self.seed().is_none(),
            "seed: an endpoint leads to no emulator of the host, and only such an emulator begins with a seed"
        );
        if let Self::Embedded { cloud, .. } = self {
            ensure!(
                cloud != EMULATOR,
                "cloud: each emulator of the host is an account of its own; give the address of one that runs: qchost emulator"
            );
        }
        Ok(())
    }

    fn resolve(&mut self, folder: &Path) {
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

    fn derived_data(&self) -> bool {
        match self {
            Self::Embedded { derived_data, .. }
            | Self::Stdio { derived_data, .. }
            | Self::Http { derived_data, .. } => *derived_data,
        }
    }

    /// Whether it leads to an emulator in this process.
    fn is_emulator(&self) -> bool {
        matches!(self, Self::Embedded { cloud, .. } if cloud == EMULATOR)
    }

    /// The file with what its emulator begins with.
    fn seed(&self) -> Option<&Path> {
        match self {
            Self::Embedded { seed, .. } => seed.as_deref(),
            Self::Stdio { .. } | Self::Http { .. } => None,
        }
    }

    fn cwd(&self) -> Option<&Path> {
        match self {
            Self::Stdio { cwd, .. } => cwd.as_deref(),
            Self::Embedded { .. } | Self::Http { .. } => None,
        }
    }

    fn credentials_file(&self) -> Option<&Path> {
        match self {
            Self::Embedded {
                credentials_file, ..
            }
            | Self::Stdio {
                credentials_file, ..
            } => credentials_file.as_deref(),
            Self::Http { .. } => None,
        }
    }

    fn settings(&self) -> Option<&BTreeMap<String, Setting>> {
        match self {
            Self::Embedded { .. } => None,
            Self::Stdio { env, .. } => Some(env),
            Self::Http { headers, .. } => Some(headers),
        }
    }

    /// Whether it is given QuantConnect's credentials.
    fn takes_credentials(&self) -> bool {
        match self {
            Self::Embedded { cloud, .. } => cloud != EMULATOR,
            Self::Stdio { credentials, .. } => *credentials,
            Self::Http { .. } => false,
        }
    }

    /// Whether it sends its server nothing to be known by: neither a login nor a header.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Http { headers, oauth: None, .. } if headers.is_empty())
    }

    /// The server that a person logs in to, and how the host identifies itself there.
    pub fn login(&self) -> Option<(&str, &OAuth)> {
        match self {
            Self::Http { url, oauth, .. } => Some((url.as_str(), oauth.as_ref()?)),
            Self::Embedded { .. } | Self::Stdio { .. } => None,
        }
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
