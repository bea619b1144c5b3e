//! Why a secret is not available.
//!
//! Invariant: a message identifies the secret by its source, and says what to do; it never contains
//! a value.

use std::path::PathBuf;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set; set it where the host is started")]
    Unset(String),
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Other users can read the file too.
    #[error("{0} can be read by others (mode {mode:o}); run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a folder, a device or a pipe.
    #[error("{} is no file; put the secret into one", .0.display())]
    NoFile(PathBuf),
    /// It is longer than any secret.
    #[error("{location} holds more than {limit} bytes; that is no secret")]
    TooLong {
        /// Where it is kept.
        location: String,
        /// The maximum length in bytes.
        limit: usize,
    },
    /// It is not UTF-8.
    #[error("{0} holds no UTF-8 text")]
    NoText(String),
    /// There is nothing in it.
    #[error("{0} is empty; put the secret into it")]
    Empty(String),
    /// A secret is in Vault, and no Vault is configured.
    #[error(
        "{0} is in Vault, but no Vault is configured; add a [vault] table with `address` and `auth`"
    )]
    NoVault(String),
    /// The `[vault]` table is invalid.
    #[error("[vault] {key}: {why}")]
    VaultOptions {
        /// The key in the table.
        key: &'static str,
        /// The problem, and what is allowed.
        why: String,
    },
    /// Vault does not provide it.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Why Vault does not provide a secret. Paths are `mount/path#field`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No connection, or no answer in time.
    #[error(
        "Vault at {address} cannot be reached ({why}); check [vault] address, the network and that Vault runs"
    )]
    Unreachable {
        /// Vault's address.
        address: String,
        /// The cause.
        why: String,
    },
    /// It is sealed.
    #[error("Vault at {0} is sealed; an operator of Vault has to run: vault operator unseal")]
    Sealed(String),
    /// It cannot serve at the moment.
    #[error(
        "Vault at {address} cannot serve at the moment (status {status}: {words}); try again later"
    )]
    Unavailable {
        /// Vault's address.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Vault's message.
        words: String,
    },
    /// It redirects. A token is never sent to the target of a redirect.
    #[error(
        "Vault at {address} redirects to another address (status {status}), which is not followed; set [vault] address to the active node or to a load balancer"
    )]
    Redirected {
        /// Vault's address.
        address: String,
        /// The HTTP status.
        status: u16,
    },
    /// The policies of the host's token do not allow it.
    #[error(
        "Vault denies the host {path}; its policy needs: path \"{rule}\" {{ capabilities = [\"read\"] }}"
    )]
    Denied {
        /// The secret.
        path: String,
        /// The path as a policy writes it: `mount/data/path`.
        rule: String,
    },
    /// The token is no longer valid.
    #[error(
        "Vault does not accept the host's token from {0}: it expired, was revoked, or may neither read the secret nor look itself up; put a new one there"
    )]
    TokenExpired(String),
    /// The login was refused.
    #[error(
        "Vault refuses the AppRole login at auth/{mount} (status {status}: {words}); check [vault] auth: the role-id, and that the secret-id is neither expired nor used up"
    )]
    LoginRefused {
        /// Where AppRole is mounted.
        mount: String,
        /// The HTTP status.
        status: u16,
        /// Vault's message.
        words: String,
    },
    /// The credentials for the login cannot be read.
    #[error("cannot log in to Vault: {0}")]
    Credentials(String),
    /// There is no such secret, or no such engine.
    #[error(
        "Vault has no secret {0}; check the mount, the path, the namespace, and that the engine is a key-value engine of version 2"
    )]
    NoSecret(String),
    /// The secret has no such field.
    #[error(
        "the secret {0} is in Vault, but has no field of that name; check what stands after `#`"
    )]
    NoField(String),
    /// The field is a number, a list or the like, or empty.
    #[error("{0} in Vault is no text, or an empty one; store the secret as a string")]
    NoText(String),
    /// The newest version was deleted or destroyed.
    #[error(
        "version {version} of {path}, the newest in Vault, was {what}; write a new version, or undelete it: vault kv undelete"
    )]
    Deleted {
        /// The secret.
        path: String,
        /// Its newest version.
        version: u64,
        /// `deleted at …` or `destroyed`.
        what: String,
    },
    /// The answer is not one of Vault's.
    #[error(
        "the answer of Vault at {address} to {request} is not understood: {why}; is that address Vault's?"
    )]
    Answer {
        /// Vault's address.
        address: String,
        /// The request.
        request: String,
        /// The problem.
        why: String,
    },
}
