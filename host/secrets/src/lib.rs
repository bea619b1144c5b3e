//! Secrets: where they are kept, how they are read late, and that they never leave the process.
//!
//! A [`Source`] names a place (an environment variable, a file, a field in HashiCorp Vault), and
//! [`Secrets`] reads it at each use, so that a changed secret needs no restart. [`Profiles`] puts
//! such values into the arguments of a call that is about to be sent.
//!
//! Invariants: a value is held in a type that clears its memory; whatever was read is known to the
//! [`Redactor`], through which every text has to go that leaves the process; an error names the
//! place of a secret, never its value.

mod error;
mod file;
mod profiles;
mod redactor;
mod secrets;
mod source;
mod vault;

pub use error::{SecretError, VaultError};
pub use file::read_secret;
pub use profiles::{Profile, Profiles};
pub use redactor::{RedactingWriter, Redactor};
pub use secrets::Secrets;
pub use source::{Setting, Source, VaultPath};
pub use vault::{VaultAuth, VaultOptions};
