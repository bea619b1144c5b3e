//! Why a secret cannot be had.
//!
//! Invariant: a message says which secret, by its place, and what to do; no value is in it.

use std::path::PathBuf;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such variable.
    #[error("the environment variable {env} is not set; set it where the host is started")]
    Unset {
        /// The variable.
        env: String,
    },
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read the file too.
    #[error("{0} can be read by others (mode {mode:o}); run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a folder, a device or a pipe.
    #[error("{} is no file; put the secret into one", path.display())]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// It is longer than any secret.
    #[error("{place} holds more than {limit} bytes; that is no secret")]
    TooLong {
        /// Where it is kept.
        place: String,
        /// How long a secret may be.
        limit: usize,
    },
    /// It is not UTF-8.
    #[error("{place} holds no UTF-8 text")]
    NoText {
        /// Where it is kept.
        place: String,
    },
    /// There is nothing in it.
    #[error("{place} is empty; put the secret into it")]
    Empty {
        /// Where it is kept.
        place: String,
    },
    /// A secret is in Vault, and the host knows no Vault.
    #[error(
        "{path} is in Vault, but no Vault is configured; add a [vault] table with `address` and `auth`"
    )]
    NoVault {
        /// `mount/path#field`.
        path: String,
    },
    /// The `[vault]` table cannot be used.
    #[error("[vault] {key}: {why}")]
    VaultOptions {
        /// The key in the table.
        key: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Vault does not give it.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Why Vault does not give a secret. Paths are `mount/path#field`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No connection, or no answer in time.
    #[error(
        "Vault at {address} cannot be reached ({why}); check [vault] address, the network and that Vault runs"
    )]
    Unreachable {
        /// Vault's address.
        address: String,
        /// Why.
        why: String,
    },
    /// It is sealed.
    #[error("Vault at {address} is sealed; an operator of Vault has to run: vault operator unseal")]
    Sealed {
        /// Vault's address.
        address: String,
    },
    /// It cannot serve at the moment.
    #[error(
        "Vault at {address} cannot serve at the moment (status {status}: {words}); try again later"
    )]
    Unavailable {
        /// Vault's address.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Its own words.
        words: String,
    },
    /// It points elsewhere. A token is not sent to where an answer points.
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
    /// The token is no longer good.
    #[error(
        "Vault does not accept the host's token from {place}: it expired, was revoked, or may neither read the secret nor look itself up; put a new one there"
    )]
    TokenExpired {
        /// Where the token comes from.
        place: String,
    },
    /// The login was refused.
    #[error(
        "Vault refuses the AppRole login at auth/{mount} (status {status}: {words}); check [vault] auth: the role-id, and that the secret-id is neither expired nor used up"
    )]
    LoginRefused {
        /// Where AppRole is mounted.
        mount: String,
        /// The HTTP status.
        status: u16,
        /// Vault's own words.
        words: String,
    },
    /// What the host would log in with cannot be read.
    #[error("cannot log in to Vault: {why}")]
    Credentials {
        /// Which and why.
        why: String,
    },
    /// No such secret, or no such engine.
    #[error(
        "Vault has no secret {path}; check the mount, the path, the namespace, and that the engine is a key-value engine of version 2"
    )]
    NoSecret {
        /// The secret.
        path: String,
    },
    /// The secret has no such field.
    #[error(
        "the secret {path} is in Vault, but has no field of that name; check what stands after `#`"
    )]
    NoField {
        /// The secret and its field.
        path: String,
    },
    /// The field is a number, a list or the like, or empty.
    #[error("{path} in Vault is no text, or an empty one; store the secret as a string")]
    NoText {
        /// The secret and its field.
        path: String,
    },
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
    /// An answer that is none of Vault's.
    #[error(
        "the answer of Vault at {address} to {request} is not understood: {why}; is that address Vault's?"
    )]
    Answer {
        /// Vault's address.
        address: String,
        /// What was asked.
        request: String,
        /// What is wrong with the answer.
        why: String,
    },
}
