//! Secrets: their sources, reading them late, and keeping them inside of the process.
//!
//! A [`Source`] refers to an environment variable, a file, or a field in HashiCorp Vault, and
//! [`Secrets`] reads it at each use, so that a changed secret needs no restart. [`Profiles`] adds
//! such values to the arguments of a call that is about to be sent.
//!
//! Invariants: a value is held in a type that clears its memory; every value read is known to the
//! [`Redactor`], which all text that leaves the process must pass; an error names the source of a
//! secret, never its value.

mod credentials;
mod deployment;
mod error;
mod file;
mod profiles;
mod secrets;
mod source;
mod vault;

pub use credentials::{is_exposed, resolve};
pub use deployment::{
    DeploymentSettings, Email, Notification, NotificationEvent, NotificationTarget, Sms, Telegram,
    Webhook,
};
pub use error::{SecretError, VaultError};
pub use file::read_secret;
pub use profiles::{Profile, Profiles};
pub use qchost_text::{RedactingWriter, Redactor};
pub use secrets::Secrets;
pub use source::{Setting, Source, VaultPath};
pub use vault::{VaultAuth, VaultOptions};
