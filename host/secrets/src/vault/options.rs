//! The `[vault]` table of the host's configuration.
//!
//! Invariant: the table contains only the source of the login credentials, and that source is not
//! the Vault itself.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::source::{Setting, Source};

/// The connection to Vault. In TOML:
///
/// ```toml
/// address = "https://vault.example.com:8200"
/// namespace = "desk"                        # Vault Enterprise
/// ca-file = "vault-ca.pem"                  # instead of the system's certificates
/// auth = { role-id = "…", secret-id = { file = "secret-id" }, mount = "approle" }
/// # or: auth = { token = { file = "token" } }
/// timeout-seconds = 10
/// cache-seconds = 5
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VaultOptions {
    /// Scheme, host and port; plain `http` only to this machine.
    pub address: String,
    /// The namespace, for Vault Enterprise.
    pub namespace: Option<String>,
    /// How the host logs in.
    pub auth: VaultAuth,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Time limit of one request, in seconds (1 to 60).
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// Maximum age of a secret when it is used, in seconds (0 to 60).
    #[serde(default = "default_cache")]
    pub cache_seconds: u64,
}

impl VaultOptions {
    /// The paths in it.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        let auth = match &self.auth {
            VaultAuth::Token(token) => [token.file(), None],
            VaultAuth::AppRole {
                role_id, secret_id, ..
            } => [role_id.file(), secret_id.file()],
        };
        let named = auth.into_iter().flatten();
        named.chain(self.ca_file.as_deref()).collect()
    }
}

/// How the host logs in to Vault.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Auth")]
pub enum VaultAuth {
    /// With a token; it is renewed as long as Vault allows it.
    Token(Source),
    /// With a role's id and a secret id, as often as necessary.
    AppRole {
        /// The role's id. It is useless without the secret id, so it may be in the configuration.
        role_id: Setting,
        /// The secret id.
        secret_id: Source,
        /// The mount of the auth method; `approle` by default.
        mount: String,
    },
}

/// `auth` as written in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Auth {
    token: Option<Source>,
    role_id: Option<Setting>,
    secret_id: Option<Source>,
    mount: Option<String>,
}

fn default_timeout() -> u64 {
    10
}

fn default_cache() -> u64 {
    5
}

impl VaultOptions {
    /// Resolves relative files against this folder.
    pub fn resolve(&mut self, folder: &Path) {
        self.ca_file = self.ca_file.take().map(|file| folder.join(file));
        match &mut self.auth {
            VaultAuth::Token(token) => token.resolve(folder),
            VaultAuth::AppRole {
                role_id, secret_id, ..
            } => {
                role_id.resolve(folder);
                secret_id.resolve(folder);
            }
        }
    }
}

impl TryFrom<Auth> for VaultAuth {
    type Error = String;

    fn try_from(auth: Auth) -> Result<Self, String> {
        let outside = |source: &Source| match source {
            Source::Vault(_) => {
                Err("what opens Vault cannot be kept in Vault; use { env = … } or { file = … }")
            }
            Source::Env(_) | Source::File(_) => Ok(()),
        };
        match (auth.token, auth.role_id, auth.secret_id, auth.mount) {
            (Some(token), None, None, None) => {
                outside(&token)?;
                Ok(Self::Token(token))
            }
            (None, Some(role_id), Some(secret_id), mount) => {
                outside(&secret_id)?;
                match &role_id {
                    Setting::Secret(source) => outside(source)?,
                    Setting::Plain(Value::String(_)) => {}
                    Setting::Plain(_) => return Err("`role-id` is a text".to_owned()),
                }
                let mount = mount.unwrap_or_else(|| "approle".to_owned());
                if mount.split('/').any(|part| part.is_empty() || part.ends_with('.'))
                    || mount.chars().any(char::is_control)
                {
                    return Err(format!(
                        "`{mount}` is no mount; write it as `vault auth list` does, without `auth/` and without the slash at the end"
                    ));
                }
                Ok(Self::AppRole {
                    role_id,
                    secret_id,
                    mount,
                })
            }
            _ => Err(
                "`auth` is either { token = … } or { role-id = …, secret-id = …, mount = \"approle\" }"
                    .to_owned(),
            ),
        }
    }
}
