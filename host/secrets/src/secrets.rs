//! Reads secrets from all kinds of sources.
//!
//! Invariant: the redactor knows a value before it is returned.

use std::sync::Arc;

use qchost_text::Redactor;
use secrecy::SecretString;

use crate::error::SecretError;
use crate::file::{read_file, read_variable};
use crate::source::Source;
use crate::vault::{Vault, VaultOptions};

/// Minimum length in bytes of a word in a literal value that may be a secret.
const MIN_LITERAL: usize = 16;

/// Reads secrets at each use. Clones share the connection to Vault and the redactor.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    redactor: Redactor,
    vault: Option<Arc<Vault>>,
}

impl Secrets {
    /// Secrets in the environment, in files and, if configured, in Vault. Nothing is read or sent yet.
    ///
    /// # Errors
    /// When the options for Vault are invalid: [`SecretError::VaultOptions`].
    pub fn new(vault: Option<VaultOptions>) -> Result<Self, SecretError> {
        let redactor = Redactor::default();
        let vault = vault
            .map(|options| Vault::new(options, &redactor).map(Arc::new))
            .transpose()?;
        Ok(Self { redactor, vault })
    }

    /// The current value of a secret; one in Vault may be some seconds old ([`VaultOptions::cache_seconds`]).
    ///
    /// # Errors
    /// When it is not available: which secret, and what to do.
    pub async fn read(&self, source: &Source) -> Result<SecretString, SecretError> {
        let secret = match source {
            Source::Env(env) => read_variable(env)?,
            Source::File(file) => read_file(file.clone()).await?,
            Source::Vault(path) => match &self.vault {
                Some(vault) => vault.read(path).await?,
                None => {
                    return Err(SecretError::NoVault(path.to_string()));
                }
            },
        };
        self.redactor.remember(secret.clone());
        Ok(secret)
    }

    /// Logs in to Vault, if one is configured. From then on the login is renewed before it expires, whether secrets are
    /// read or not. Otherwise the login happens with the first secret.
    ///
    /// # Errors
    /// When Vault cannot be reached, is sealed, or refuses the login.
    pub async fn connect(&self) -> Result<(), SecretError> {
        match &self.vault {
            Some(vault) => Ok(vault.connect().await?),
            None => Ok(()),
        }
    }

    /// A literal value where a secret is allowed: each word in it that is long enough for a token is redacted too. Shorter
    /// words are common names and numbers.
    #[must_use]
    pub fn literal(&self, text: &str) -> SecretString {
        for word in text.split_whitespace() {
            if word.len() >= MIN_LITERAL {
                self.redactor.remember(word.into());
            }
        }
        text.into()
    }

    /// Redacts every value that was read.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}
